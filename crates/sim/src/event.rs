//! What clients and the operator of a simulated node can tell.
//!
//! Input: nothing. Output: the closed set of facts on which the invariants judge.
//!
//! Invariant: an event says what was seen, never what it means.
//!
//! Source: none.

mod group;

use std::fmt;

use skein_types::{ErrorCode, Millis, Offset, ProducerId};

use crate::batches::BatchId;

pub(crate) use group::{
    GroupEvent, GroupId, GroupState, MemberState, Membership, OffsetState, WriteId,
};

/// A partition, by its place in [`crate::plan::Plan::partitions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartitionId(pub(crate) usize);

/// In which life of the node a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Power cuts so far.
    pub(crate) era: u32,
    /// Starts of the node so far.
    pub(crate) life: u32,
    /// Events so far.
    pub(crate) told: u64,
}

/// How the node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was stopped, and has marked all of its logs as flushed.
    Clean,
    /// Its process ended; the machine went on.
    Kill,
    /// The machine lost its power.
    PowerCut,
}

/// Where a time lookup led.
pub(crate) type FoundTime = Option<(Offset, Millis)>;

/// A fact.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A producer sent a batch, for the `attempt`-th time; `is_head`: it waits for no earlier batch
    /// of its partition.
    Sent {
        batch: BatchId,
        attempt: u32,
        is_head: bool,
    },
    /// The node acknowledged a batch that was sent in the life `sent`; where it is, if it told.
    Acked {
        batch: BatchId,
        base_offset: Option<Offset>,
        sent: Stamp,
    },
    /// The node refused a batch.
    Refused {
        batch: BatchId,
        code: ErrorCode,
        is_head: bool,
    },
    /// A producer will never know what became of a batch.
    GivenUp { batch: BatchId },
    /// A consumer read a whole batch at `base_offset`.
    Read {
        partition: PartitionId,
        base_offset: Offset,
        batch: BatchId,
        asked: Stamp,
    },
    /// A consumer read what is left of a batch, which had the offsets from `base_offset` to `end`:
    /// the records at these places. `batch` is `None` if none is left; whose it was, the header
    /// tells.
    ReadRest {
        partition: PartitionId,
        base_offset: Offset,
        end: Offset,
        batch: Option<BatchId>,
        producer_id: ProducerId,
        kept: Vec<u32>,
        asked: Stamp,
    },
    /// A consumer at `start` was led on to `end`: there is nothing in between.
    NothingAt {
        partition: PartitionId,
        start: Offset,
        end: Offset,
        asked: Stamp,
    },
    /// What a consumer was told of a partition.
    Ends {
        partition: PartitionId,
        log_start_offset: Option<Offset>,
        high_watermark: Offset,
        asked: Stamp,
    },
    /// The node says that `position` is not in its log, and where that starts, if it told.
    OutOfRange {
        partition: PartitionId,
        position: Offset,
        log_start_offset: Option<Offset>,
        asked: Stamp,
    },
    /// Where the node says that a log starts.
    Starts {
        partition: PartitionId,
        log_start_offset: Offset,
        asked: Stamp,
    },
    /// DeleteRecords was sent: everything before `before_offset` is to go; up to the high watermark
    /// for `None`.
    DeletingRecords {
        partition: PartitionId,
        before_offset: Option<Offset>,
    },
    /// DeleteRecords was acknowledged.
    RecordsDeleted {
        partition: PartitionId,
        before_offset: Option<Offset>,
        low_watermark: Offset,
    },
    /// The node has a topic.
    TopicCreated { topic: usize },
    /// A topic is to be deleted.
    DeletingTopic { topic: usize },
    /// A topic's deletion was acknowledged.
    TopicDeleted { topic: usize },
    /// A topic has so many partitions now.
    PartitionsCreated { topic: usize, count: usize },
    /// A partition was refused to a consumer or a lister.
    Unavailable {
        partition: PartitionId,
        code: ErrorCode,
    },
    /// Which record is the first at or after `time`; `is_all`: nothing is produced meanwhile.
    TimeLooked {
        partition: PartitionId,
        time: Millis,
        found: FoundTime,
        asked: Stamp,
        is_all: bool,
    },
    /// The whole log was read, from `start` to `end`.
    ReadBack {
        partition: PartitionId,
        start: Offset,
        end: Offset,
    },
    /// Something about a group.
    Group(GroupId, GroupEvent),
    /// The node's process was started.
    Starting,
    /// The node serves.
    Serving,
    /// The node ended.
    Ended(End),
    /// From now on writes of the node may fail, whether a client hears of it or not.
    WritesMayFail,
    /// Nothing makes writes fail any more; what the failures have spoilt is good again when the
    /// node starts the next time.
    WritesHealed,
    /// Something was done to the world.
    Fault(String),
    /// Another thing to know when reading the history.
    Note(String),
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Partition(PartitionId),
    Group(GroupId),
}

/// A batch that a consumer read, or what is left of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: Offset,
    pub(crate) batch: BatchId,
    pub(crate) asked: Stamp,
}

impl Event {
    /// The batch that was read, whole or in part.
    pub(crate) fn found(&self) -> Option<Found> {
        match self {
            Self::Read {
                partition,
                base_offset,
                batch,
                asked,
            }
            | Self::ReadRest {
                partition,
                base_offset,
                batch: Some(batch),
                asked,
                ..
            } => Some(Found {
                partition: *partition,
                base_offset: *base_offset,
                batch: *batch,
                asked: *asked,
            }),
            _ => None,
        }
    }

    /// The partition or the group that it is about.
    pub(crate) fn subject(&self, of_batch: impl Fn(BatchId) -> PartitionId) -> Option<Subject> {
        let partition = match self {
            Self::Sent { batch, .. }
            | Self::Acked { batch, .. }
            | Self::Refused { batch, .. }
            | Self::GivenUp { batch } => of_batch(*batch),
            Self::Read { partition, .. }
            | Self::ReadRest { partition, .. }
            | Self::NothingAt { partition, .. }
            | Self::Ends { partition, .. }
            | Self::OutOfRange { partition, .. }
            | Self::Starts { partition, .. }
            | Self::DeletingRecords { partition, .. }
            | Self::RecordsDeleted { partition, .. }
            | Self::Unavailable { partition, .. }
            | Self::TimeLooked { partition, .. }
            | Self::ReadBack { partition, .. } => *partition,
            Self::Group(group, _) => return Some(Subject::Group(*group)),
            Self::TopicCreated { .. }
            | Self::DeletingTopic { .. }
            | Self::TopicDeleted { .. }
            | Self::PartitionsCreated { .. }
            | Self::Starting
            | Self::Serving
            | Self::Ended(_)
            | Self::WritesMayFail
            | Self::WritesHealed
            | Self::Fault(_)
            | Self::Note(_) => return None,
        };
        Some(Subject::Partition(partition))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent {
                batch, attempt: 1, ..
            } => write!(f, "sends {batch}"),
            Self::Sent {
                batch,
                attempt,
                is_head,
            } => {
                let head = if *is_head { "" } else { ", behind others" };
                write!(f, "sends {batch} again, attempt {attempt}{head}")
            }
            Self::Acked {
                batch,
                base_offset: Some(at),
                sent,
            } => {
                write!(
                    f,
                    "has the ack of {batch} at {at} (sent in life {})",
                    sent.life
                )
            }
            Self::Acked {
                batch,
                base_offset: None,
                ..
            } => {
                write!(f, "has the ack of {batch}, without its place")
            }
            Self::Refused {
                batch,
                code,
                is_head,
            } => {
                let head = if *is_head { "" } else { ", behind others" };
                write!(f, "is refused {batch}: {code}{head}")
            }
            Self::GivenUp { batch } => write!(f, "gives up {batch}"),
            Self::Read {
                base_offset,
                batch,
                asked,
                ..
            } => {
                write!(
                    f,
                    "reads {batch} at {base_offset} (asked in life {})",
                    asked.life
                )
            }
            Self::Ends {
                log_start_offset,
                high_watermark,
                asked,
                ..
            } => {
                let start = log_start_offset.map_or(-1, Offset::get);
                let life = asked.life;
                write!(
                    f,
                    "hears: log start {start}, high watermark {high_watermark} (life {life})"
                )
            }
            _ => self.fmt_told(f),
        }
    }
}

impl Event {
    /// What is not about a batch.
    fn fmt_told(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReadRest {
                base_offset,
                end,
                batch,
                kept,
                ..
            } => {
                let (kept, batch) = (kept.len(), batch.map_or(-1, |batch| batch.0.cast_signed()));
                write!(
                    f,
                    "reads {kept} records of batch {batch} at {base_offset}..{end}"
                )
            }
            Self::NothingAt { start, end, .. } => write!(f, "reads nothing at {start}..{end}"),
            Self::OutOfRange {
                position,
                log_start_offset,
                ..
            } => {
                let start = log_start_offset.map_or(-1, Offset::get);
                write!(f, "hears: {position} is out of range, log start {start}")
            }
            Self::Starts {
                log_start_offset, ..
            } => write!(f, "hears: log start {log_start_offset}"),
            Self::DeletingRecords { before_offset, .. } => {
                let offset = before_offset.map_or(-1, Offset::get);
                write!(f, "deletes records before {offset}")
            }
            Self::RecordsDeleted { low_watermark, .. } => {
                write!(
                    f,
                    "has the ack that records before {low_watermark} are gone"
                )
            }
            Self::TopicCreated { topic } => write!(f, "topic number {topic} is there"),
            Self::DeletingTopic { topic } => write!(f, "deletes topic number {topic}"),
            Self::TopicDeleted { topic } => write!(f, "has the ack: topic number {topic} is gone"),
            Self::PartitionsCreated { topic, count } => {
                write!(f, "topic number {topic} has {count} partitions")
            }
            Self::Unavailable { code, .. } => write!(f, "hears: {code}"),
            Self::TimeLooked { time, found, .. } => {
                write!(f, "asks for time {time} and gets {found:?}")
            }
            Self::ReadBack { start, end, .. } => {
                write!(f, "has read everything from {start} to {end}")
            }
            Self::Group(_, event) => write!(f, "{event}"),
            Self::Starting => f.write_str("starts"),
            Self::Serving => f.write_str("serves"),
            Self::Ended(end) => write!(f, "ends: {end:?}"),
            Self::WritesMayFail => f.write_str("lets writes fail"),
            Self::WritesHealed => f.write_str("lets no more writes fail"),
            Self::Fault(text) | Self::Note(text) => f.write_str(text),
            Self::Sent { .. }
            | Self::Acked { .. }
            | Self::Refused { .. }
            | Self::GivenUp { .. }
            | Self::Read { .. }
            | Self::Ends { .. } => Ok(()),
        }
    }
}
