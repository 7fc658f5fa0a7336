//! What the writer of a replica takes.
//!
//! Input: what callers of [`Replica`](crate::replica::Replica) want done. Output: one closed list
//! of it, which the hand-off queues.
//!
//! Invariant: whoever waits for an answer waits for a sender in here, so that dropping an input
//! answers it.
//!
//! Source: none.

use std::sync::Arc;

use skein_net::BytesPermit;
use skein_partition::{Acks, Event, FetchedBatches, Refusal};
use skein_record::{BatchBuf, ProducerStates};
use skein_storage::Log;
use skein_types::{Millis, Offset, TopicId, TopicPartition};
use tokio::sync::oneshot;

use super::writing::Writing;
use crate::metrics::TopicCounts;
use crate::replica::ReplicaView;
use crate::replica::reply::ReplySender;
use crate::replica::settings::FollowedConfig;
use crate::replication::FetchedGroup;

/// A replica whose log has just been opened.
pub(crate) struct Opened {
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(crate) machine: skein_partition::Replica,
    pub(crate) log: Log,
    pub(crate) config: FollowedConfig,
    pub(crate) counts: Arc<TopicCounts>,
}

/// Something to do with the log while nothing is written, without blocking.
pub(crate) type LogTask =
    Box<dyn FnOnce(&mut Log, &mut skein_partition::Replica) -> Option<Event> + Send>;

/// Something to do with the log on the offload pool, where it may block. Appends wait meanwhile.
pub(crate) type Errand = Box<dyn FnOnce(&mut Log) -> Option<Event> + Send>;

/// What the writer takes.
pub(crate) enum Input {
    Produce(Produce),
    /// What a leader has answered, with the bytes of its batches.
    Fetched(FetchedBatches, FetchedGroup),
    Event(Event),
    Task(LogTask),
    Errand(Errand),
    DeleteRecords {
        before_offset: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, Refusal>>,
    },
    TimerFired,
    /// Time for what is due by age alone.
    Aged,
    /// Time to see whether the room ahead of the log's end is still for anything.
    RoomLookedAt,
    TakeLog {
        reply: oneshot::Sender<(Log, ProducerStates)>,
    },
    /// A write that ran elsewhere has ended.
    Completed(Box<Writing>),
    /// An errand has ended.
    Returned(Box<Log>, Option<Event>),
}

/// A batch to be appended.
pub(crate) struct Produce {
    pub(crate) batch: BatchBuf,
    pub(crate) acks: Acks,
    pub(crate) timeout: Millis,
    pub(crate) permit: BytesPermit,
    pub(crate) reply: ReplySender,
}

impl Opened {
    pub(in crate::replica) fn view(&self) -> ReplicaView {
        ReplicaView {
            log: self.log.published(),
            offsets: self.machine.published(),
            leader_epochs: Arc::new(self.machine.leader_epochs().clone()),
        }
    }
}
