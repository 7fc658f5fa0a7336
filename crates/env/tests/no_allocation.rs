//! The way of records allocates nothing: neither appending, nor reading, nor sending.
//!
//! Input: calls on the real disk and a real connection. Output: how often the allocator was asked.
//!
//! Invariant: only the thread of the test is counted; the harness and tokio have others.
//!
//! Source: none.

#![allow(missing_docs, clippy::unwrap_used)]

use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use bytes::BytesMut;
use skein_env::OpenMode;
use skein_env::real::{RealOptions, RealWorld};

const ROUNDS: u64 = 1000;

/// How many allocations the rounds of `call` made.
async fn allocations<F: AsyncFnMut(u64)>(mut call: F) -> u64 {
    call(0).await;
    let mut rounds = pin!(async {
        for round in 1..=ROUNDS {
            call(round).await;
        }
    });
    let mut count = 0;
    poll_fn(|context| {
        let mut polled = Poll::Pending;
        count += measure(|| polled = rounds.as_mut().poll(context)).count_total;
        polled
    })
    .await;
    count
}

#[test]
fn the_way_of_records_allocates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let world = RealWorld::new(RealOptions {
        network_threads: 1,
        io_threads: 1,
    })
    .unwrap();
    let env = world.env();
    world.block_on(async {
        let path = directory.path().join("log");
        let file = env.disk.open(&path, OpenMode::CreateNew).unwrap();
        let record = [7; 1000];
        let pieces = [IoSlice::new(&record); 4];
        let appends = allocations(async |round| {
            assert_eq!(file.write_at(&pieces, round * 4000).unwrap(), 4000);
        });
        assert_eq!(appends.await, 0, "append");

        let mut listener = env.net.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_address().unwrap().port();
        let (client, accepted) = tokio::join!(
            env.net.connect("127.0.0.1", port),
            poll_fn(|context| listener.poll_accept(context)),
        );
        let (mut client, mut server) = (client.unwrap(), accepted.unwrap().0);
        let mut buffer = BytesMut::with_capacity(16_384);
        let round_trips = allocations(async |round| {
            let sent = poll_fn(|context| server.poll_write(context, &pieces, true))
                .await
                .unwrap();
            assert_eq!(sent, 4000);
            let file = file.as_ref();
            let offset = round * 4000;
            let sent = poll_fn(|context| server.poll_send_file(context, file, offset, 4000));
            assert_eq!(sent.await.unwrap(), 4000);
            buffer.clear();
            while buffer.len() < 8000 {
                poll_fn(|context| client.poll_readable(context))
                    .await
                    .unwrap();
                let limit = 8000 - buffer.len();
                poll_fn(|context| client.poll_read(context, &mut buffer, limit))
                    .await
                    .unwrap();
            }
        });
        assert_eq!(round_trips.await, 0, "write, send file and read");

        let mut out = [0; 1000];
        let reads = allocations(async |round| {
            assert_eq!(file.read_at(&mut out, round * 4000).unwrap(), 1000);
            let _ = file.residency(0, 4_000_000);
            assert!(file.length().unwrap() > 0);
        });
        assert_eq!(reads.await, 0, "read and probe");
    });
    assert!(world.shutdown(Duration::from_secs(10)));
}
