//! `ListOffsets` (2): offsets by time, and the ends of the log.
//!
//! Input: partitions, each with a timestamp or one of the special ones. Output: an offset, the
//! timestamp found and the leader epoch of the record.
//!
//! ```text
//!   -1 latest          end of what the isolation level may see
//!   -2 earliest        log start offset
//!   -3 max timestamp   the record with the largest timestamp (KIP-734)
//!   -4 earliest local  log start offset: everything is local (KIP-405)
//!   -5 latest tiered   none: nothing is tiered (KIP-1005)
//!   >= 0               first record whose timestamp is that or later
//! ```
//!
//! A field of Skein's own asks what of the partition is unread from an offset on; it is tagged
//! (KIP-482), so that other brokers pass over it, and clients over the answer.
//!
//! Invariants:
//! - what depends on the log's end is answered only by a leader that is confirmed: another may lead
//!   by now, and have more;
//! - nothing past the end that the isolation level may see is found, by time neither;
//! - a partition that the request names twice is refused: one of the two is a mistake.
//!
//! Source: KIP-79, KIP-207 (offset not available), KIP-320.

use std::sync::Arc;

use skein_net::BytesPermit;
use skein_partition::FetchIsolation;
use skein_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use skein_storage::{FoundRecord, LOOKUP_UNPACKED_MAX_BYTES, LogView, ReadError, Unread};
use skein_types::{ErrorCode, LeaderEpoch, Millis, Offset, PartitionIndex};

use super::create_topics::duplicates;
use crate::node::Shared;
use crate::replica::{Replica, ReplicaView};
use crate::router::Context;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// First version whose response has a leader epoch.
const LEADER_EPOCH_VERSION: i16 = 4;

/// First versions that know the special timestamps.
const MAX_TIMESTAMP_VERSION: i16 = 7;
const EARLIEST_LOCAL_VERSION: i16 = 8;
const LATEST_TIERED_VERSION: i16 = 9;

/// What was found: timestamp, offset, leader epoch.
type Found = (Millis, Offset, LeaderEpoch);

/// Nothing was found, which is no error.
const NOTHING: Found = (Millis::NONE, Offset::NONE, LeaderEpoch::NONE);

/// Answers each partition on its own.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation = match request.isolation_level {
        0 => Ok(FetchIsolation::HighWatermark),
        1 => Ok(FetchIsolation::LastStableOffset),
        // What Kafka makes of a number that it does not know.
        _ => Err(ErrorCode::UnknownServerError),
    };
    answer_all(shared, context, request, isolation).await
}

/// Answers a follower, whose log may be as long as this node's.
pub(crate) async fn handle_of_follower(
    shared: &Arc<Shared>,
    context: &Context,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    answer_all(shared, context, request, Ok(FetchIsolation::LogEnd)).await
}

async fn answer_all(
    shared: &Arc<Shared>,
    context: &Context,
    request: ListOffsetsRequest,
    isolation: Result<FetchIsolation, ErrorCode>,
) -> ListOffsetsResponse {
    let twice = duplicates(request.topics.iter().flat_map(|topic| {
        let indexes = topic.partitions.iter().map(|asked| asked.partition_index);
        indexes.map(|index| (topic.name.clone(), index))
    }));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let index = PartitionIndex(asked.partition_index);
            let is_twice = twice.contains(&(topic.name.clone(), asked.partition_index));
            let found = match isolation {
                Err(code) => Err(code),
                Ok(_) if is_twice => Err(ErrorCode::InvalidRequest),
                Ok(isolation) => match shared.replicas.by_name(&topic.name, index).await {
                    Ok(replica) => answer(shared, context, &replica, asked, isolation).await,
                    Err(code) => Err(code),
                },
            };
            partitions.push(to_response(context, asked, found));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

/// What is asked for, and what is unread if that is asked too.
async fn answer(
    shared: &Arc<Shared>,
    context: &Context,
    replica: &Arc<Replica>,
    asked: &ListOffsetsPartition,
    isolation: FetchIsolation,
) -> Result<(Found, Option<Unread>), ErrorCode> {
    let found = find(shared, context, replica, asked, isolation).await?;
    if asked.unread_from < 0 {
        return Ok((found, None));
    }
    let view = replica.view();
    let (from, up_to) = (Offset(asked.unread_from), view.offsets.end(isolation));
    let _permit = room_to_unpack(shared).await;
    let unread = on_pool(shared, view, move |view| view.unread(from, up_to)).await?;
    Ok((found, Some(unread)))
}

fn to_response(
    context: &Context,
    asked: &ListOffsetsPartition,
    answer: Result<(Found, Option<Unread>), ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let (error_code, (timestamp, offset, leader_epoch), unread) = match answer {
        Ok((found, unread)) => (ErrorCode::None, found, unread),
        Err(code) => (code, NOTHING, None),
    };
    let first = unread.and_then(|unread| unread.first);
    ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code: error_code.code(),
        timestamp: timestamp.get(),
        offset: offset.get(),
        leader_epoch: if context.head.api_version >= LEADER_EPOCH_VERSION {
            leader_epoch.get()
        } else {
            LeaderEpoch::NONE.get()
        },
        unread_bytes: unread.map_or(-1, |unread| i64::try_from(unread.bytes).unwrap_or(i64::MAX)),
        unread_timestamp: first.map_or(Millis::NONE, |first| first.timestamp).get(),
    }
}

async fn find(
    shared: &Arc<Shared>,
    context: &Context,
    replica: &Arc<Replica>,
    asked: &ListOffsetsPartition,
    isolation: FetchIsolation,
) -> Result<Found, ErrorCode> {
    let view = replica.view();
    let epoch = LeaderEpoch(asked.current_leader_epoch);
    let version = context.head.api_version;
    let leads = |refusal: skein_partition::Refusal| refusal.error_code();
    let end = view.offsets.latest(epoch, isolation).map_err(leads)?;
    let (leader_epoch, _) = view.offsets.leader(epoch).map_err(leads)?;
    let is_of_start = matches!(asked.timestamp, EARLIEST | EARLIEST_LOCAL);
    let is_replica = isolation == FetchIsolation::LogEnd;
    if !is_of_start && !is_replica && !replica.is_confirmed() {
        // A successor may have more by now.
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    match asked.timestamp {
        LATEST => Ok((Millis::NONE, end, leader_epoch)),
        EARLIEST => earliest(shared, view, leader_epoch).await,
        EARLIEST_LOCAL if version >= EARLIEST_LOCAL_VERSION => {
            earliest(shared, view, leader_epoch).await
        }
        LATEST_TIERED if version >= LATEST_TIERED_VERSION => Ok(NOTHING),
        MAX_TIMESTAMP if version >= MAX_TIMESTAMP_VERSION => {
            let _permit = room_to_unpack(shared).await;
            search(shared, view, move |view| view.max_timestamp(end)).await
        }
        timestamp if timestamp >= 0 => {
            let at = Millis(timestamp);
            let _permit = room_to_unpack(shared).await;
            search(shared, view, move |view| view.offset_for_timestamp(at, end)).await
        }
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

/// The log start; where the log is empty, in the epoch of the leader that will write there.
async fn earliest(
    shared: &Arc<Shared>,
    view: Arc<ReplicaView>,
    leader_epoch: LeaderEpoch,
) -> Result<Found, ErrorCode> {
    let (timestamp, offset, epoch) = search(shared, view, |view| view.earliest().map(Some)).await?;
    let is_empty = epoch == LeaderEpoch::NONE;
    Ok((
        timestamp,
        offset,
        if is_empty { leader_epoch } else { epoch },
    ))
}

/// The memory that a lookup may need which reads records.
async fn room_to_unpack(shared: &Shared) -> BytesPermit {
    let budget = &shared.unpack_budget;
    budget.reserve(LOOKUP_UNPACKED_MAX_BYTES).await
}

/// Searches the log for a record.
async fn search(
    shared: &Arc<Shared>,
    view: Arc<ReplicaView>,
    search: impl Fn(&LogView) -> Result<Option<FoundRecord>, ReadError> + Send + 'static,
) -> Result<Found, ErrorCode> {
    let found = on_pool(shared, view, search).await?;
    Ok(found.map_or(NOTHING, |found| {
        (found.timestamp, found.offset, found.leader_epoch)
    }))
}

/// Looks at the log on the offload pool: it may read from the disk.
async fn on_pool<T: Send + 'static>(
    shared: &Arc<Shared>,
    view: Arc<ReplicaView>,
    look: impl Fn(&LogView) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ErrorCode> {
    match shared
        .env
        .offload("list-offsets", move || look(&view.log))
        .await
    {
        Some(Ok(found)) => Ok(found),
        // Retention has removed the file under an old view: the client asks again.
        Some(Err(error)) if error.is_stale() => Err(ErrorCode::NotLeaderOrFollower),
        Some(Err(error)) => {
            tracing::error!(%error, "cannot search a log");
            Err(ErrorCode::KafkaStorageError)
        }
        None => Err(ErrorCode::UnknownServerError),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use skein_protocol::ApiKey;
    use skein_protocol::messages::list_offsets::ListOffsetsTopic;
    use tokio::time::timeout;

    use super::*;
    use crate::testing::{NOW, Node, batch, with_node};
    use crate::unpacking::UNPACKED_IN_FLIGHT_MAX_BYTES;

    async fn ask(node: &Node, timestamp: i64, unread_from: i64) -> ListOffsetsPartitionResponse {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: vec![ListOffsetsPartition {
                    timestamp,
                    unread_from,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let context = node.context(ApiKey::ListOffsets, 7);
        let mut response = handle(node.shared(), &context, request).await;
        response.topics.remove(0).partitions.remove(0)
    }

    #[test]
    fn who_must_unpack_records_waits_for_the_memory_and_no_other_does() {
        with_node(1, &[], async |_, node| {
            node.create("t", &[]).await;
            node.produce("t", batch(3, b"value")).await.unwrap();
            let all = UNPACKED_IN_FLIGHT_MAX_BYTES as usize;
            let taken = node.shared().unpack_budget.reserve(all).await;
            for (timestamp, offset) in [(LATEST, 3), (EARLIEST, 0)] {
                assert_eq!(ask(&node, timestamp, -1).await.offset, offset);
            }
            let moment = Duration::from_secs(1);
            for (timestamp, unread_from) in [(NOW.get(), -1), (MAX_TIMESTAMP, -1), (LATEST, 1)] {
                let asked = timeout(moment, ask(&node, timestamp, unread_from)).await;
                assert!(asked.is_err(), "{timestamp} {unread_from}: {asked:?}");
            }
            drop(taken);
            assert_eq!(ask(&node, NOW.get(), -1).await.offset, 0);
            let told = ask(&node, LATEST, 1).await;
            assert!(told.unread_bytes > 0 && told.unread_timestamp == NOW.get());
        });
    }
}
