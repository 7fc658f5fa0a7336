//! Bytes in flight of a node.
//!
//! Input: sizes of frames and batches about to be received. Output: permits, each of which gives
//! its bytes back when it is dropped.
//!
//! Invariants:
//! - the permits that live at one time never sum up to more than the budget (tokio's semaphore);
//! - a connection reserves one whole frame or batch at once, and while it waits for that, what
//!   holds its former permits (a write, a handler) goes on and waits for no other of this budget,
//!   so that it cannot deadlock: a [`crate::Burst`], which holds many, ends when its connection
//!   waits;
//! - a request larger than the whole budget takes all of it instead of waiting for ever.
//!
//! Source: Kafka's `queued.max.request.bytes`.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes that may be in flight at one time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    semaphore: Arc<Semaphore>,
    total_bytes: u32,
}

/// Bytes taken from a [`Budget`]; dropped, it gives them back.
pub struct BytesPermit {
    permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `total_bytes`.
    #[must_use]
    pub fn new(total_bytes: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(total_bytes as usize)),
            total_bytes,
        }
    }

    /// Waits until `bytes` are free, in the order of the callers, and takes them.
    pub async fn reserve(&self, bytes: usize) -> BytesPermit {
        let wanted = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(self.total_bytes);
        let semaphore = Arc::clone(&self.semaphore);
        // The semaphore is never closed, so that the error cannot happen; without a permit the
        // bytes would merely not be counted.
        BytesPermit {
            permit: semaphore.acquire_many_owned(wanted).await.ok(),
        }
    }

    /// Bytes taken at this moment.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        (self.total_bytes as usize).saturating_sub(self.semaphore.available_permits())
    }
}

impl BytesPermit {
    /// A permit of no bytes.
    #[must_use]
    pub const fn none() -> Self {
        Self { permit: None }
    }

    /// How many bytes this permit holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_reservation_waits_for_bytes_and_gets_them_when_a_permit_is_dropped() {
        let budget = Budget::new(100);
        let first = budget.reserve(60).await;
        assert_eq!((first.bytes(), budget.in_flight_bytes()), (60, 60));
        let second = budget.reserve(60);
        tokio::pin!(second);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), &mut second)
                .await
                .is_err()
        );
        drop(first);
        assert_eq!(second.await.bytes(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_beyond_the_budget_takes_all_of_it() {
        let budget = Budget::new(100);
        let all = budget.reserve(1_000).await;
        assert_eq!((all.bytes(), budget.in_flight_bytes()), (100, 100));
        drop(all);
        assert_eq!(budget.in_flight_bytes(), 0);
    }
}
