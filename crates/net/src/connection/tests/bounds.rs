//! At a bound the socket is not read, and beyond it memory does not grow.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::super::super::outbox::{OWED_MAX_BYTES, SLOTS_MAX};
use super::harness::*;
use crate::{Budget, Counters};

#[tokio::test(start_paused = true)]
async fn at_sixty_four_unanswered_requests_the_socket_is_not_read() {
    let running = Running::new();
    running.peer.state().read_max = 14;
    for id in 0..200 {
        running.peer.send(&frame_of(LATER, id, b""));
    }
    settle().await;
    assert_eq!(running.seen.started().len(), SLOTS_MAX);
    assert_eq!(running.peer.unread(), (200 - SLOTS_MAX) * 14);
    running.seen.answer(1);
    settle().await;
    assert_eq!(
        running.seen.started().len(),
        SLOTS_MAX,
        "the oldest is not answered"
    );
    running.seen.answer(0);
    settle().await;
    assert_eq!(running.seen.started().len(), SLOTS_MAX + 2);
    for id in 2..200 {
        running.seen.answer(id);
        settle().await;
    }
    assert_eq!(running.peer.answers().len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_costs_a_bounded_number_of_answers() {
    let running = Running::new();
    running.peer.open_window(0);
    for id in 0..5000 {
        running.peer.send(&frame_of(NOW, id, b""));
    }
    settle().await;
    assert_eq!(running.seen.started().len(), SLOTS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_costs_a_bounded_number_of_bytes() {
    let running = Running::new();
    running.peer.open_window(0);
    running.seen.0.lock().answer_bytes = OWED_MAX_BYTES / 4;
    for id in 0..100 {
        running.peer.send(&frame_of(NOW, id, b""));
    }
    settle().await;
    assert_eq!(running.seen.started().len(), 4);
    running.peer.open_window(OWED_MAX_BYTES / 4 - 100);
    settle().await;
    assert_eq!(
        running.seen.started().len(),
        5,
        "a part of an answer has left"
    );
    running.peer.open_window(usize::MAX);
    settle().await;
    assert_eq!(running.peer.answers().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn without_budget_the_socket_is_not_read_until_bytes_are_free() {
    let running = Running::with_budget(Budget::new(1000));
    running.peer.state().read_max = 14;
    let taken = running.budget.reserve(900).await;
    running.peer.send(&frame_of(NOW, 1, b""));
    running.peer.send(&frame_of(NOW, 2, &[0; 500]));
    settle().await;
    assert_eq!(
        (running.seen.started(), running.peer.unread()),
        (vec![1], 500)
    );
    drop(taken);
    settle().await;
    assert_eq!(running.peer.answers(), [1, 2]);
    assert_eq!(running.budget.in_flight_bytes(), 0);
}

/// A hundred clients that send a byte now and then, and reserve twice what the node has.
#[tokio::test(start_paused = true)]
async fn senders_that_drip_keep_the_others_waiting_for_a_while_only() {
    let batch = vec![7; 64 * 1024];
    let budget = Budget::new(50 * 64 * 1024);
    let head = frame_of(STREAMED, 1, &batches_of(&[&batch]))[..100].to_vec();
    let dripping: Vec<_> = (0..100)
        .map(|_| {
            let running = Running::with_budget(budget.clone());
            let (peer, head) = (running.peer.clone(), head.clone());
            let drip = tokio::spawn(async move {
                peer.send(&head);
                loop {
                    tokio::time::sleep(Duration::from_secs(7)).await;
                    peer.send(&[7]);
                }
            });
            (running, drip)
        })
        .collect();
    settle().await;
    assert_eq!(budget.in_flight_bytes(), 50 * 64 * 1024, "nothing is left");
    let honest = Running::with_budget(budget.clone());
    honest
        .peer
        .send(&frame_of(STREAMED, 1, &batches_of(&[&batch])));
    let start = Instant::now();
    while honest.peer.answers().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Two rounds of those in front of it.
        assert!(start.elapsed() < Duration::from_secs(70), "it still waits");
    }
    for (running, drip) in dripping {
        let _ = running.ended().await;
        drip.abort();
    }
    assert_eq!(budget.in_flight_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_for_budget_holds_none() {
    let running = Running::with_budget(Budget::new(1000));
    running.seen.0.lock().keep_permits = true;
    running.peer.send(&frame_of(NOW, 1, &[0; 600]));
    running.peer.send(&frame_of(NOW, 2, &[0; 600]));
    settle().await;
    assert_eq!(running.seen.started(), [1]);
    running.seen.0.lock().permits.clear();
    settle().await;
    assert_eq!(running.seen.started(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_barrier_that_waits_for_answers_holds_no_budget() {
    let running = Running::new();
    running.peer.send(&frame_of(LATER, 1, b""));
    running.peer.send(&frame_of(BARRIER_LATER, 2, &[0; 300]));
    settle().await;
    assert_eq!(running.budget.in_flight_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_length_prefix_alone_allocates_little() {
    let running = Running::new();
    let mut bytes = frame_of(NOW, 1, b"");
    bytes[..4].copy_from_slice(&(100_i32 << 20).to_be_bytes());
    bytes.resize(1000, 0);
    running.peer.send(&bytes);
    settle().await;
    let capacity = running.peer.state().capacity_max;
    assert!(capacity <= 1100 * 1024, "{capacity} bytes");
    running.peer.send(&vec![0; 3 << 20]);
    settle().await;
    let capacity = running.peer.state().capacity_max;
    assert!(capacity <= 9 << 20, "{capacity} bytes for 3 MiB");
}

/// Looks at the connection between its turns, until it has answered `count` requests; returns how
/// many turns there were.
async fn watch_turns(running: &Running, count: usize, look: impl Fn() + Send + 'static) -> usize {
    let (peer, mut turns) = (running.peer.clone(), 0);
    let watch = tokio::spawn(poll_fn(move |context| {
        look();
        if peer.answers().len() == count {
            return Poll::Ready(turns);
        }
        turns += 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }));
    watch.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_full_rate_writer_gets_its_answers() {
    let running = Running::new();
    let batch = vec![7; 1 << 20];
    for id in 0..40 {
        running
            .peer
            .send(&frame_of(STREAMED, id, &batches_of(&[&batch])));
    }
    // Never more than a few requests between two answers, although each turn is spent by reading.
    let (seen, peer) = (running.seen.clone(), running.peer.clone());
    let look = move || assert!(seen.started().len() <= peer.answers().len() + 3);
    assert!(watch_turns(&running, 40, look).await >= 10);
}

#[tokio::test(start_paused = true)]
async fn one_turn_takes_a_bounded_part_of_a_large_body() {
    let running = Running::new();
    running.peer.send(&frame_of(NOW, 1, &vec![0; 50 << 20]));
    let turns = watch_turns(&running, 1, || {}).await;
    assert!(turns >= 5, "{turns} turns for 50 MiB");
    assert_eq!(
        Counters::read(&running.counters.received_bytes),
        (50 << 20) + 14
    );
}
