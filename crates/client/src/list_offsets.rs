//! Offsets by meaning: the first, the next, that of a time.
//!
//! Input: partitions and what is wanted of each. Output: the offsets, from the partitions' leaders.
//!
//! Invariant: an answer comes from a broker that was the leader, with its leader epoch; one that
//! was not is asked no more before the leaders are known anew.
//!
//! Source: KIP-79 (offsets for times), KIP-734 (max timestamp), KIP-207; KIP-482 (tagged fields, of
//! which some are Skein's own).

use std::collections::BTreeMap;
use std::time::Duration;

use skein_protocol::Str;
use skein_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use skein_types::{
    BrokerId, ErrorCode, LeaderEpoch, Millis, Offset, PartitionIndex, TopicName, TopicPartition,
};

use crate::cluster::ClusterView;
use crate::consumer::IsolationLevel;
use crate::error::{ClientError, is_stale_metadata};
use crate::pool::Pool;
use crate::retry::{Absence, Retry};

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// Of the first record that is kept.
    Earliest,
    /// After the last record that a consumer may read.
    Latest,
    /// Of the first record whose timestamp is at this time or later.
    AtTime(Millis),
    /// Of the record with the largest timestamp.
    MaxTimestamp,
    /// The same; and a node of Skein also says what is unread from this offset on
    /// ([`FoundOffset::unread`]), which other brokers pass over.
    Unread(Offset),
}

impl OffsetSpec {
    const fn wire(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp | Self::Unread(_) => -3,
            Self::AtTime(time) => time.0,
        }
    }

    const fn unread_from(self) -> i64 {
        match self {
            Self::Unread(from) => from.0,
            _ => Offset::NONE.0,
        }
    }
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// [`Offset::NONE`] if there is no such record.
    pub offset: Offset,
    /// Timestamp of the record that was found by time; −1 otherwise.
    pub timestamp: Millis,
    /// Epoch of the leader that answered, or of the record; −1 if unknown.
    pub leader_epoch: LeaderEpoch,
    /// What is unread, if that was asked of a broker that tells.
    pub unread: Option<Unread>,
}

/// What lies from an offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Bytes of the batches, as they lie in the log; of the first one as a whole.
    pub bytes: u64,
    /// Timestamp of the first record; −1 if there is none.
    pub timestamp: Millis,
}

/// Asks the leaders, until all partitions have an answer.
pub(crate) async fn list_offsets(
    pool: &Pool,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation_level: IsolationLevel,
    timeout: Duration,
) -> Result<BTreeMap<TopicPartition, FoundOffset>, ClientError> {
    let metadata = &pool.metadata;
    for partition in wanted.keys() {
        let (_, topic) = metadata.topic(&partition.topic, false, timeout).await?;
        if !topic.partitions.contains_key(&partition.partition) {
            let last = topic.partitions.keys().next_back();
            return Err(ClientError::NoSuchPartition {
                partition: partition.clone(),
                last: last.map_or(-1, |last| last.0),
            });
        }
    }
    let mut retry = Retry::within(&metadata.env, &metadata.options, "offsets", timeout);
    let mut found = BTreeMap::new();
    let mut absence = Absence::default();
    loop {
        let view = metadata.view();
        let missing = wanted
            .iter()
            .filter(|(partition, _)| !found.contains_key(*partition));
        let mut missing = missing.peekable();
        if missing.peek().is_none() {
            return Ok(found);
        }
        let mut offline = missing.clone().filter_map(|(one, _)| view.offline(one));
        absence.check(offline.next(), metadata.options.absence_max)?;
        let mut by_leader: BTreeMap<Option<BrokerId>, Vec<_>> = BTreeMap::new();
        for (partition, spec) in missing {
            by_leader
                .entry(view.leader(partition))
                .or_default()
                .push((partition, *spec));
        }
        let mut failed = None;
        for (leader, partitions) in by_leader {
            let asked = match leader {
                Some(leader) => {
                    ask(
                        pool,
                        &view,
                        leader,
                        &partitions,
                        isolation_level,
                        &mut found,
                    )
                    .await
                }
                None => Err(no_leader(&partitions)),
            };
            match asked {
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => failed = Some(error),
                Ok(()) => {}
            }
        }
        if let Some(error) = failed {
            let is_stale = error.is_stale_metadata();
            retry.pause(error).await?;
            if is_stale {
                // If nobody answers, the next round says so.
                let _ = metadata.newer_than(view.version, false).await;
            }
        }
    }
}

fn no_leader(partitions: &[(&TopicPartition, OffsetSpec)]) -> ClientError {
    let subject = partitions
        .first()
        .map_or_else(String::new, |(one, _)| one.to_string());
    ClientError::refused(subject, ErrorCode::LeaderNotAvailable, None)
}

/// Asks one leader; what it answers goes into `found`.
async fn ask(
    pool: &Pool,
    view: &ClusterView,
    leader: BrokerId,
    partitions: &[(&TopicPartition, OffsetSpec)],
    isolation_level: IsolationLevel,
    found: &mut BTreeMap<TopicPartition, FoundOffset>,
) -> Result<(), ClientError> {
    let mut topics: BTreeMap<&TopicName, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (partition, spec) in partitions {
        let epoch = view
            .partition(partition)
            .map_or(LeaderEpoch::NONE, |one| one.leader_epoch);
        topics
            .entry(&partition.topic)
            .or_default()
            .push(ListOffsetsPartition {
                partition_index: partition.partition.0,
                current_leader_epoch: epoch.0,
                timestamp: spec.wire(),
                unread_from: spec.unread_from(),
            });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| ListOffsetsTopic {
            name: Str::from(name.as_str()),
            partitions,
        });
    let timeout = pool.metadata.options.request_timeout;
    let request = ListOffsetsRequest {
        replica_id: BrokerId::NONE.0,
        isolation_level: isolation_level.wire(),
        topics: topics.collect(),
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
    };
    let connection = pool.connection(leader).await?;
    let response = connection.call(&request, timeout).await?;
    let mut failed = None;
    for topic in &response.topics {
        for answer in &topic.partitions {
            let asked = partitions.iter().find(|(one, _)| {
                one.topic.as_str() == topic.name.as_str()
                    && one.partition == PartitionIndex(answer.partition_index)
            });
            let Some((partition, _)) = asked else {
                continue;
            };
            match answered(partition, answer) {
                Ok(offset) => drop(found.insert((*partition).clone(), offset)),
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None if partitions
            .iter()
            .all(|(partition, _)| found.contains_key(*partition)) =>
        {
            Ok(())
        }
        None => Err(ClientError::Senseless {
            subject: "ListOffsets".into(),
            reason: "a partition is missing",
        }),
    }
}

fn answered(
    partition: &TopicPartition,
    answer: &ListOffsetsPartitionResponse,
) -> Result<FoundOffset, ClientError> {
    let code = ErrorCode::from_code(answer.error_code);
    if code.is_none() {
        return Ok(FoundOffset {
            offset: Offset(answer.offset),
            timestamp: Millis(answer.timestamp),
            leader_epoch: LeaderEpoch(answer.leader_epoch),
            unread: u64::try_from(answer.unread_bytes).ok().map(|bytes| Unread {
                bytes,
                timestamp: Millis(answer.unread_timestamp),
            }),
        });
    }
    debug_assert!(!is_stale_metadata(code) || code.is_retriable());
    Err(ClientError::refused(partition.to_string(), code, None))
}
