//! Small batches that arrived together are written together.
//!
//! Input: batches left in the queues of their replicas. Output: one append per replica at the end
//! of the burst, however many requests the batches came with.
//!
//! ```text
//!   one turn of the connection: │ Produce │ Produce │ Produce │ Prod…
//!                                  p0 p1     p0 p1     p0 p1      ▲
//!                                   └─┼───────┴─┼───────┴─┼─► p0: one pwritev of three batches
//!                                     └─────────┴─────────┴─► p1: one pwritev of three batches
//! ```
//!
//! A client with small batches sends several requests at once (Kafka's producers have five in
//! flight), each with one batch per partition. Written one by one, each costs a system call and, on
//! a page cache that grows by small unaligned writes, more than half of what the whole request
//! costs.
//!
//! Invariants:
//! - batches of one partition keep their order: a replica takes its queue before what is submitted;
//! - a task that a write has woken runs before the next write;
//! - nothing is stranded: a burst ends when the connection's task stops to run, for whatever reason
//!   (`net/connection.rs`), and when the session is dropped. So it holds the bytes in flight of
//!   one turn at most, and nobody who waits for more of them holds any in a burst;
//! - a request that is no Produce, or comes with a later burst, starts when the Produces before it
//!   are appended.
//!
//! Source: measured; see the Produce path in `ARCHITECTURE.md`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::replica::{Replica, Reply};

/// A batch of at least this size is written at once, while it is hot in the processor's cache.
pub(crate) const GATHERED_MAX_BYTES: usize = 64 * 1024;

/// Replies that are waited for without an allocation.
const INLINE_REPLIES: usize = 32;

/// The present burst of one connection. Only its task uses it; the lock is never contended.
#[derive(Default)]
pub(crate) struct Burst {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Replicas with something in their queues; one may stand here several times.
    replicas: Vec<Arc<Replica>>,
    /// Batches of requests that were started before their batches were appended.
    unappended: Vec<Reply>,
    /// How many of them, the first ones, belong to bursts that have ended.
    ended: usize,
    /// The task stops to run so that others do, not because the burst is over.
    has_yielded: bool,
}

impl Burst {
    /// Something was left in the queue of `replica`.
    pub(crate) fn gather(&self, replica: &Arc<Replica>) {
        self.state.lock().replicas.push(Arc::clone(replica));
    }

    /// A request with these batches has been started; they will be appended at the end.
    pub(crate) fn leave(&self, replies: impl Iterator<Item = Reply>) {
        self.state.lock().unappended.extend(replies);
    }

    /// Waits until the requests of bursts that have ended have taken effect.
    pub(crate) async fn former(&self) {
        let former: SmallVec<[Reply; INLINE_REPLIES]> = {
            let mut state = self.state.lock();
            let ended = std::mem::take(&mut state.ended);
            state.unappended.drain(..ended).collect()
        };
        for reply in former {
            reply.appended().await;
        }
    }

    /// Ends the burst and waits until its requests have taken effect.
    pub(crate) async fn all(&self) {
        poll_fn(|context| {
            if self.write() {
                return Poll::Ready(());
            }
            self.state.lock().has_yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.former().await;
    }

    /// Writes what was gathered; false if a task that this has woken should run before the rest is
    /// written.
    fn write(&self) -> bool {
        let mut state = self.state.lock();
        state.ended = state.unappended.len();
        if state.replicas.is_empty() {
            return true;
        }
        let mut replicas = std::mem::take(&mut state.replicas);
        drop(state);
        // The one woken last is this worker's next task, and no other worker takes it: it must not
        // wait behind the next write, which a disk may hold for long.
        let woke_others = replicas.iter().position(|replica| replica.write_queued());
        replicas.drain(..woke_others.map_or(replicas.len(), |last| last + 1));
        let is_done = replicas.is_empty();
        // Its memory serves the next burst.
        self.state.lock().replicas = replicas;
        is_done
    }
}

impl skein_net::Burst for Burst {
    fn end(&self) -> bool {
        // Who waits for the end has just yielded in favour of others.
        let has_yielded = std::mem::take(&mut self.state.lock().has_yielded);
        !has_yielded && self.write()
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        while !self.write() {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skein_env::sim::SimWorld;
    use skein_net::Burst as _;
    use skein_net::BytesPermit;
    use skein_partition::Acks;
    use skein_types::Millis;
    use tokio::time::timeout;

    use super::*;
    use crate::testing::{HOST, Node, append, batch, batch_of, config, read_all};

    const TOPIC: &str = "topic";

    async fn node(world: &SimWorld) -> (Node, Arc<Replica>) {
        let node = Node::start(world.node(HOST), &config(world, &[])).await;
        node.create(TOPIC, &[]).await;
        let replica = node.replica(TOPIC).await.unwrap();
        (node, replica)
    }

    /// Gathers a batch as the handler does.
    fn gather(burst: &Burst, replica: &Arc<Replica>, sequence: i32) -> Reply {
        let batch = batch_of(1, sequence, 1);
        let reply = replica.enqueue(batch, Acks::All, Millis(30_000), BytesPermit::none());
        burst.gather(replica);
        reply
    }

    async fn is_appended(reply: &Reply) -> bool {
        timeout(Duration::ZERO, reply.appended()).await.is_ok()
    }

    #[test]
    fn a_burst_is_one_write_in_order() {
        let world = SimWorld::new(1);
        world.block_on(async {
            let (node, replica) = node(&world).await;
            let writes = || node.shared().metrics.writes.get();
            let (burst, before) = (Burst::default(), writes());
            let replies: Vec<_> = (0..5)
                .map(|sequence| gather(&burst, &replica, sequence))
                .collect();
            burst.leave(replies.iter().cloned());
            burst.former().await;
            assert!(!is_appended(&replies[0]).await, "the burst goes on");
            burst.all().await;
            assert_eq!(writes() - before, 1);
            for (offset, reply) in (0..).zip(&replies) {
                assert_eq!(reply.result().await.unwrap().base_offset.get(), offset);
            }
            assert_eq!(read_all(&replica).len(), 5);
        });
    }

    #[test]
    fn what_was_gathered_comes_before_what_is_submitted() {
        let world = SimWorld::new(2);
        world.block_on(async {
            let (_node, replica) = node(&world).await;
            let burst = Burst::default();
            let first = gather(&burst, &replica, 0);
            let second = append(&replica, batch(1, b"large"), Acks::All);
            burst.end();
            assert_eq!(first.result().await.unwrap().base_offset.get(), 0);
            assert_eq!(second.result().await.unwrap().base_offset.get(), 1);
        });
    }

    #[test]
    fn a_burst_that_is_dropped_ends() {
        let world = SimWorld::new(3);
        world.block_on(async {
            let (_node, replica) = node(&world).await;
            let burst = Burst::default();
            let reply = gather(&burst, &replica, 0);
            drop(burst);
            assert!(reply.result().await.is_ok());
        });
    }

    #[test]
    fn a_later_burst_waits_for_the_former_ones() {
        let world = SimWorld::new(4);
        world.block_on(async {
            let (_node, replica) = node(&world).await;
            let stall = tokio::time::Instant::now() + Duration::from_millis(100);
            world.disk(HOST).stall_until(stall);
            let burst = Burst::default();
            let slow = gather(&burst, &replica, 0);
            burst.leave(std::iter::once(slow.clone()));
            burst.end();
            assert!(!is_appended(&slow).await, "the disk hangs");
            burst.former().await;
            assert!(is_appended(&slow).await);
        });
    }
}
