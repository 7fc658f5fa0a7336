//! Frames in every split; batches stay where the socket put them.

use std::sync::Arc;

use super::harness::*;
use crate::Counters;

#[tokio::test(start_paused = true)]
async fn a_streamed_body_may_be_cut_anywhere() {
    let batches: [&[u8]; 3] = [b"the first batch", b"", b"the last"];
    let mut bytes = frame_of(STREAMED, 1, &batches_of(&batches));
    bytes.extend(frame_of(NOW, 2, b"whole"));
    for cut in 1..bytes.len() {
        let running = Running::new();
        running.seen.0.lock().keep_batches = true;
        running.peer.send(&bytes[..cut]);
        settle().await;
        running.peer.send(&bytes[cut..]);
        settle().await;
        assert_eq!(running.peer.answers(), [1, 2], "cut at {cut}");
        let seen = running.seen.0.lock();
        assert!(seen.batches.iter().map(|(_, batch)| &batch[..]).eq(batches));
    }
}

#[tokio::test(start_paused = true)]
async fn the_peer_may_end_anywhere() {
    let mut bytes = frame_of(STREAMED, 1, &batches_of(&[b"the first batch", b"the last"]));
    bytes.extend(frame_of(NOW, 2, b"whole"));
    let first = 14 + batches_of(&[b"the first batch", b"the last"]).len();
    for cut in 0..=bytes.len() {
        let running = Running::new();
        let peer = running.peer.clone();
        running.peer.send(&bytes[..cut]);
        running.peer.end();
        let _ = running.ended().await;
        let whole = usize::from(cut >= first) + usize::from(cut >= bytes.len());
        assert_eq!(peer.answers().len(), whole, "cut at {cut}");
        assert_eq!(peer.state().events.last(), Some(&Sent::Shutdown));
    }
}

#[tokio::test(start_paused = true)]
async fn lengths_that_no_frame_has_close_the_connection() {
    for length in [i32::MAX, (100 << 20) + 1, -1, i32::MIN, 0, 7, 8, 9] {
        let running = Running::new();
        let peer = running.peer.clone();
        let mut bytes = frame_of(NOW, 1, &[0; 100]);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        running.peer.send(&bytes);
        assert!(running.ended().await.is_err(), "{length}");
        assert!(peer.state().capacity_max < 20 * 1024);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_reaches_beyond_its_frame_closes_the_connection() {
    let running = Running::new();
    let mut body = batches_of(&[b"batch"]);
    body[3] = 200;
    running.peer.send(&frame_of(STREAMED, 1, &body));
    let reason = running.ended().await.unwrap_err();
    assert!(reason.contains("within its frame"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_read_to_its_end_closes_the_connection() {
    let running = Running::new();
    running
        .peer
        .send(&frame_of(STREAMED_UNREAD, 1, &batches_of(&[b"batch"])));
    assert!(running.ended().await.unwrap_err().contains("to its end"));
}

/// How many bytes of the batches are not where a read put them.
fn moved(running: &Running, batch_bytes: usize) -> usize {
    let state = running.peer.state();
    let seen = running.seen.0.lock();
    let mut moved = 0;
    for (index, (address, _)) in seen.batches.iter().enumerate() {
        let position = index * (18 + batch_bytes) + 18;
        let in_place: usize = state
            .placed
            .iter()
            .map(|&(placed, at, count)| {
                let placed = usize::try_from(placed).unwrap();
                let (from, to) = (
                    position.max(placed),
                    (position + batch_bytes).min(placed + count),
                );
                let is_same = from < to && address + (from - position) == at + (from - placed);
                if is_same { to - from } else { 0 }
            })
            .sum();
        moved += batch_bytes - in_place;
    }
    moved
}

/// A continuous stream of batches; returns the moved part in per cent.
async fn stream_batches(batch_bytes: usize, read_max: usize) -> usize {
    let running = Running::new();
    running.peer.state().read_max = read_max;
    let batch = vec![7; batch_bytes];
    let frame = frame_of(STREAMED, 1, &batches_of(&[&batch]));
    let count = (24 << 20) / batch_bytes;
    let all: Vec<u8> = std::iter::repeat_n(&frame[..], count)
        .flatten()
        .copied()
        .collect();
    running.peer.send(&all);
    while running.seen.0.lock().batches.len() < count {
        settle().await;
    }
    let counted = usize::try_from(Counters::read(&running.counters.moved_bytes)).unwrap();
    let moved = moved(&running, batch_bytes);
    assert!(moved <= counted, "{moved} bytes moved, {counted} counted");
    counted * 100 / all.len()
}

#[tokio::test(start_paused = true)]
async fn few_record_bytes_are_moved() {
    for batch_bytes in [
        1024,
        16 * 1024 - 200,
        16 * 1024,
        31 * 1024,
        256 * 1024,
        300 * 1024,
        1 << 20,
    ] {
        for read_max in [0, 5000, 65_536] {
            let per_cent = stream_batches(batch_bytes, read_max).await;
            assert!(
                per_cent < 10,
                "{per_cent} % of batches of {batch_bytes}, reads of {read_max}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn batches_in_use_are_not_overwritten() {
    let running = Running::new();
    running.seen.0.lock().keep_batches = true;
    running.peer.state().read_max = 70_000;
    let batches: Vec<Vec<u8>> = (0..200_u8).map(|byte| vec![byte; 40_000]).collect();
    for batch in &batches {
        running
            .peer
            .send(&frame_of(STREAMED, 1, &batches_of(&[batch])));
        settle().await;
    }
    let seen = running.seen.0.lock();
    assert!(
        seen.batches
            .iter()
            .map(|(_, batch)| &batch[..])
            .eq(batches.iter().map(|b| &b[..]))
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_holds_no_buffer() {
    let running = Running::new();
    running.peer.send(&frame_of(NOW, 1, b"x"));
    settle().await;
    let polls = running.peer.state().read_polls;
    settle().await;
    // It waits for readability, not in a read, which would need a buffer.
    assert_eq!(running.peer.state().read_polls, polls);
    assert_eq!(Arc::strong_count(&running.counters), 2);
    assert_eq!(running.peer.state().reads, 1);
}
