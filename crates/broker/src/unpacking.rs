//! The memory in which records are unpacked, bounded for the whole node.
//!
//! Input: a batch whose records somebody must read. Output: what was read, off the network threads.
//!
//! ```text
//!   guess: a little ─► reserve it ─► unpack ─► enough? ──yes─► done, give it back
//!                                                 │no
//!                          give it back ─► reserve the most ─► unpack
//! ```
//!
//! A header does not say how large its records are, and few batches are much larger unpacked than
//! packed. So each is unpacked within a small reservation first; the few that need more wait for
//! one another.
//!
//! Invariants:
//! - what is being unpacked at one time, by the cleaner's tasks and by lookups too, is at most
//!   [`UNPACKED_IN_FLIGHT_MAX_BYTES`]; a buffer that grows, and records that are packed anew, take
//!   about as much beside it for a moment;
//! - a batch waits for memory while it holds none, and who holds some waits for no other permit: no
//!   deadlock.
//!
//! Source: own design.

use skein_env::Env;
use skein_net::Budget;
use skein_record::{BatchBuf, BatchError, CompressionError};

/// Records of one batch are unpacked to at most this many bytes.
pub(crate) const UNPACKED_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Bytes that are being unpacked on a node at one time.
pub(crate) const UNPACKED_IN_FLIGHT_MAX_BYTES: u32 = 256 * 1024 * 1024;

/// How many times larger than packed records are taken to be at first: more than what text becomes.
const GUESSED_RATIO: usize = 16;

/// The least that is reserved.
const GUESSED_MIN_BYTES: usize = 256 * 1024;

/// Has `read` read the batch on the offload pool, and told how many bytes it may unpack:
/// `max_bytes` at most. It may be called a second time, with more, after it found the first too
/// few.
///
/// Returns the batch and what `read` did; `None` if the node ends.
pub(crate) async fn unpack<T: Send + 'static>(
    env: &Env,
    budget: &Budget,
    mut batch: BatchBuf,
    max_bytes: usize,
    read: impl Fn(&BatchBuf, usize) -> Result<T, BatchError> + Clone + Send + 'static,
) -> Option<(BatchBuf, Result<T, BatchError>)> {
    let packed = batch.as_slice().len();
    let guess = packed
        .saturating_mul(GUESSED_RATIO)
        .clamp(GUESSED_MIN_BYTES.min(max_bytes), max_bytes);
    for bound in [guess, max_bytes] {
        let _permit = budget.reserve(bound).await;
        let read = read.clone();
        let work = move || {
            let result = read(&batch, bound);
            (batch, result)
        };
        let (returned, result) = env.offload("unpack", work).await?;
        if bound == max_bytes || !is_too_large(&result) {
            return Some((returned, result));
        }
        batch = returned;
    }
    None // the last bound is the most, and has returned
}

fn is_too_large<T>(result: &Result<T, BatchError>) -> bool {
    matches!(
        result,
        Err(BatchError::Compression {
            source: CompressionError::TooLarge { .. },
            ..
        })
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use skein_env::real::{RealOptions, RealWorld};
    use skein_record::Codec;

    use super::*;
    use crate::testing::batch;

    const MAX: usize = 4 << 20;
    const TOTAL: usize = 5 << 20;

    fn too_large(max_bytes: usize) -> BatchError {
        BatchError::Compression {
            codec: Codec::Gzip,
            source: CompressionError::TooLarge { max_bytes },
        }
    }

    #[test]
    fn batches_together_stay_within_the_budget_and_all_are_read() {
        let options = RealOptions {
            network_threads: 2,
            io_threads: 8,
        };
        let world = RealWorld::new(options).unwrap();
        let env = world.env();
        let budget = Budget::new(u32::try_from(TOTAL).unwrap());
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (at_once, most_at_once) = (Arc::clone(&now), Arc::clone(&most));
        let in_parallel = Arc::new(AtomicBool::new(false));
        let two_together = Arc::clone(&in_parallel);
        let read = move |_: &BatchBuf, bound: usize| {
            let sum = at_once.fetch_add(bound, Ordering::SeqCst) + bound;
            most_at_once.fetch_max(sum, Ordering::SeqCst);
            if sum == 2 * bound {
                two_together.store(true, Ordering::SeqCst);
            }
            std::thread::sleep(Duration::from_millis(2));
            at_once.fetch_sub(bound, Ordering::SeqCst);
            // Each needs more than is guessed, and less than the most.
            match bound {
                MAX => Ok(bound),
                bound => Err(too_large(bound)),
            }
        };
        world.block_on(async {
            let all: Vec<_> = (0..40)
                .map(|_| {
                    let (env, budget, read) = (env.clone(), budget.clone(), read.clone());
                    tokio::spawn(async move {
                        let read = unpack(&env, &budget, batch(1, b"value"), MAX, read).await;
                        read.unwrap().1
                    })
                })
                .collect();
            for one in all {
                let read = tokio::time::timeout(Duration::from_secs(30), one).await;
                assert_eq!(read.expect("a deadlock").unwrap(), Ok(MAX));
            }
        });
        let most = most.load(Ordering::SeqCst);
        assert!(most <= TOTAL, "{most} bytes at once");
        assert!(
            in_parallel.load(Ordering::SeqCst),
            "one waited for another without need"
        );
        assert_eq!(budget.in_flight_bytes(), 0);
        assert!(world.shutdown(Duration::from_secs(5)));
    }

    #[test]
    fn what_needs_little_is_read_once_and_what_needs_too_much_twice() {
        let options = RealOptions {
            network_threads: 1,
            io_threads: 1,
        };
        let world = RealWorld::new(options).unwrap();
        let env = world.env();
        let budget = Budget::new(1 << 20);
        world.block_on(async {
            for (fits, max_bytes, expected) in [
                (true, MAX, vec![GUESSED_MIN_BYTES]),
                (false, MAX, vec![GUESSED_MIN_BYTES, MAX]),
                (false, 1_000, vec![1_000]),
            ] {
                let bounds = Arc::new(parking_lot::Mutex::new(Vec::new()));
                let seen = Arc::clone(&bounds);
                let read = move |_: &BatchBuf, bound: usize| {
                    seen.lock().push(bound);
                    if fits { Ok(()) } else { Err(too_large(bound)) }
                };
                let sent = batch(1, b"value");
                let bytes = sent.as_slice().to_vec();
                let (returned, result) =
                    unpack(&env, &budget, sent, max_bytes, read).await.unwrap();
                assert_eq!(returned.as_slice(), bytes);
                assert_eq!(result.is_ok(), fits);
                assert_eq!(*bounds.lock(), expected);
            }
        });
        assert!(world.shutdown(Duration::from_secs(5)));
    }
}
