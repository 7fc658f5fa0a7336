//! How connections end: idle, stalled, refused, stopped.

use std::time::Duration;

use tokio::time::Instant;

use super::harness::*;

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_limit() {
    let running = Running::new();
    running.peer.send(&frame_of(NOW, 1, b""));
    settle().await;
    let start = Instant::now();
    assert_eq!(running.ended().await, Ok(()));
    let waited = start.elapsed().as_secs();
    assert!((599..602).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_for_an_answer_is_not_idle() {
    let running = Running::new();
    running.peer.send(&frame_of(LATER, 1, b""));
    tokio::time::sleep(Duration::from_secs(1500)).await;
    running.seen.answer(1);
    settle().await;
    assert_eq!(running.peer.answers(), [1]);
    assert!(!running.task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_stalls_within_a_frame_is_closed() {
    let bytes = frame_of(STREAMED, 1, &batches_of(&[b"a batch"]));
    for cut in 1..bytes.len() {
        let running = Running::new();
        running.peer.send(&bytes[..cut]);
        let start = Instant::now();
        let _ = running.ended().await;
        let waited = start.elapsed().as_secs();
        assert!((30..32).contains(&waited), "{waited} s, cut at {cut}");
    }
}

/// It takes minutes, and is silent for long now and then.
#[tokio::test(start_paused = true)]
async fn a_slow_sender_is_not_closed() {
    let running = Running::new();
    let bytes = frame_of(STREAMED, 1, &batches_of(&[&vec![7; 9 << 20]]));
    for part in bytes.chunks(2 << 20) {
        running.peer.send(part);
        tokio::time::sleep(Duration::from_secs(29)).await;
    }
    assert_eq!(running.peer.answers(), [1]);
}

/// Whatever it is that comes a byte at a time: length, header, the length of a batch, a batch.
#[tokio::test(start_paused = true)]
async fn a_sender_that_only_drips_is_closed() {
    let batch = vec![7; 128 * 1024];
    let bytes = frame_of(STREAMED, 1, &batches_of(&[&batch]));
    for (at_once, longest) in [(0, 60), (6, 60), (16, 60), (18, 33), (100_000, 33)] {
        let running = Running::new();
        running.peer.send(&bytes[..at_once]);
        settle().await;
        let (peer, rest) = (running.peer.clone(), bytes[at_once..].to_vec());
        let drip = tokio::spawn(async move {
            for byte in rest {
                peer.send(&[byte]);
                tokio::time::sleep(Duration::from_secs(9)).await;
            }
        });
        let (budget, start) = (running.budget.clone(), Instant::now());
        let _ = running.ended().await;
        let waited = start.elapsed().as_secs();
        assert!(
            (27..=longest).contains(&waited),
            "{waited} s, {at_once} at once"
        );
        assert_eq!(budget.in_flight_bytes(), 0);
        drip.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answers_is_closed() {
    let running = Running::new();
    running.peer.open_window(0);
    for id in 0..100 {
        running.peer.send(&frame_of(NOW, id, b""));
    }
    let start = Instant::now();
    assert!(
        running
            .ended()
            .await
            .unwrap_err()
            .contains("took no answers")
    );
    let waited = start.elapsed().as_secs();
    assert!((600..603).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_its_answers_slowly_is_not_closed() {
    let running = Running::new();
    running.peer.open_window(0);
    running.peer.send(&frame_of(NOW, 1, b""));
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(500)).await;
        running.peer.open_window(1);
    }
    settle().await;
    assert_eq!(running.peer.answers(), [1]);
}

#[tokio::test(start_paused = true)]
async fn no_answer_where_one_was_owed_closes_after_those_before_it() {
    let running = Running::new();
    let peer = running.peer.clone();
    for (kind, id) in [(NOW, 1), (LATER, 2), (LATER, 3), (NOW, 4)] {
        running.peer.send(&frame_of(kind, id, b""));
    }
    running.peer.open_window(3);
    settle().await;
    running.seen.answer_nothing(2);
    settle().await;
    peer.open_window(100);
    assert!(running.ended().await.is_err());
    assert_eq!(peer.answers(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_closes_after_the_answers_before_it() {
    for kind in [REFUSED, CLOSE] {
        let running = Running::new();
        let peer = running.peer.clone();
        running.peer.send(&frame_of(NOW, 1, b""));
        running.peer.send(&frame_of(kind, 2, b""));
        running.peer.send(&frame_of(NOW, 3, b""));
        assert!(running.ended().await.is_err());
        assert_eq!(peer.answers(), [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_what_is_owed_and_takes_nothing_more() {
    let running = Running::new();
    let (peer, seen) = (running.peer.clone(), running.seen.clone());
    running.peer.send(&frame_of(LATER, 1, b""));
    settle().await;
    running.stop.send_replace(true);
    settle().await;
    peer.send(&frame_of(NOW, 2, b""));
    settle().await;
    seen.answer(1);
    assert_eq!(running.ended().await, Ok(()));
    assert_eq!((peer.answers(), seen.started()), (vec![1], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_handler_end() {
    let running = Running::new();
    let (peer, seen) = (running.peer.clone(), running.seen.clone());
    peer.send(&frame_of(BARRIER_SLOW_START, 1, b""));
    peer.send(&frame_of(NOW, 2, b""));
    settle().await;
    running.stop.send_replace(true);
    settle().await;
    seen.answer(1);
    assert_eq!(running.ended().await, Ok(()));
    assert_eq!((peer.answers(), seen.started()), (vec![1], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_less_than_two_seconds() {
    for kind in [LATER, BARRIER_SLOW_START, BARRIER_LATER] {
        let running = Running::new();
        running.peer.send(&frame_of(kind, 1, b""));
        settle().await;
        let start = Instant::now();
        running.stop.send_replace(true);
        assert_eq!(running.ended().await, Ok(()));
        assert!(start.elapsed() < Duration::from_millis(1900));
    }
}
