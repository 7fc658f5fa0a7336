//! When a burst ends: whenever the connection waits, and before it ends.

use std::future::poll_fn;
use std::task::Poll;

use super::harness::*;

fn gathered(count: i32) -> Vec<u8> {
    (0..count)
        .flat_map(|id| frame_of(GATHERED, id, b""))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_burst_lasts_until_the_connection_waits() {
    let running = Running::new();
    running.peer.send(&gathered(5));
    settle().await;
    assert_eq!(running.peer.answers(), [0, 1, 2, 3, 4]);
    // A part of the next request is no reason to wait for its rest.
    let frames = gathered(2);
    running.peer.send(&frames[..frames.len() - 1]);
    settle().await;
    assert_eq!(running.peer.answers().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn others_run_before_the_rest_of_a_burst() {
    let running = Running::new();
    running.peer.send(&gathered(5));
    let (seen, mut left) = (running.seen.clone(), Vec::new());
    let other = tokio::spawn(poll_fn(move |context| {
        left.push(seen.0.lock().gathered.len());
        if left.len() > 10 {
            return Poll::Ready(std::mem::take(&mut left));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }));
    let mut left = other.await.unwrap();
    left.dedup();
    assert_eq!(left, [4, 3, 2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_gathered_is_answered_before_the_connection_ends() {
    let refused = Running::new();
    refused
        .peer
        .send(&[gathered(5), frame_of(REFUSED, 5, b"")].concat());
    let stopped = Running::new();
    stopped.peer.send(&gathered(5));
    stopped.stop.send_replace(true);
    let closed = Running::new();
    closed.peer.send(&frame_of(LATER, 9, b""));
    settle().await;
    closed.seen.answer_nothing(9);
    closed.peer.send(&gathered(5));
    for (running, count) in [(refused, 5), (stopped, 5), (closed, 0)] {
        let (peer, seen) = (running.peer.clone(), running.seen.clone());
        settle().await;
        assert_eq!(peer.answers().len(), count);
        assert!(seen.0.lock().gathered.is_empty());
        assert!(running.task.is_finished());
    }
}
