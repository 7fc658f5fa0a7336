//! Files go out with `sendfile` behind their header; a short file closes the connection.

use super::harness::*;
use crate::Counters;

#[tokio::test(start_paused = true)]
async fn a_file_follows_its_header_which_says_that_more_comes() {
    let running = Running::new();
    running.seen.0.lock().file_length = 3 << 20;
    running.seen.0.lock().range_length = 5 << 19;
    running.peer.send(&frame_of(FILE, 1, b""));
    running.peer.send(&frame_of(NOW, 2, b""));
    settle().await;
    assert_eq!(running.peer.answers(), [1, 2]);
    let mib = 1 << 20;
    let expected = [
        Sent::Memory {
            count: 8,
            more: true,
        },
        Sent::File {
            offset: 0,
            count: mib,
        },
        Sent::File {
            offset: mib as u64,
            count: mib,
        },
        Sent::File {
            offset: 2 * mib as u64,
            count: mib / 2,
        },
        Sent::Memory {
            count: 8,
            more: false,
        },
    ];
    assert_eq!(running.peer.state().events, expected);
    assert_eq!(Counters::read(&running.counters.sent_bytes), 16);
    assert_eq!(Counters::read(&running.counters.sent_file_bytes), 5 << 19);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_ends_early_closes_the_connection() {
    let running = Running::new();
    let peer = running.peer.clone();
    running.seen.0.lock().file_length = 50;
    running.seen.0.lock().range_length = 100;
    running.peer.send(&frame_of(FILE, 1, b""));
    running.peer.send(&frame_of(NOW, 2, b""));
    assert!(running.ended().await.is_err());
    assert_eq!(
        peer.state().sent.len(),
        8 + 50,
        "nothing follows the missing bytes"
    );
}

#[tokio::test(start_paused = true)]
async fn an_empty_range_holds_nothing_back() {
    let running = Running::new();
    running.peer.send(&frame_of(FILE, 1, b""));
    settle().await;
    assert_eq!(running.peer.answers(), [1]);
    assert_eq!(
        running.peer.state().events,
        [Sent::Memory {
            count: 8,
            more: false
        }]
    );
    running.peer.send(&frame_of(BARRIER_LATER, 2, b""));
    settle().await;
    assert_eq!(running.seen.started(), [1, 2], "the answer counts as sent");
}
