//! Deletes the oldest records of a partition.
//!
//! Input: a partition that is there. Output: DeleteRecords, until it is answered; events of what
//! was asked and of what was told.
//!
//! Invariant: none; `invariants/log_start.rs` judges.
//!
//! Source: KIP-107.

use skein_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use skein_types::{ErrorCode, Offset};

use crate::client::{Client, lister};
use crate::event::{Event, PartitionId};
use crate::plan::pick;

/// Version of DeleteRecords.
const VERSION: i16 = 2;

/// How long the node may take, in milliseconds.
const TIMEOUT_MS: i32 = 3_000;

/// How often it is tried: afterwards it may still happen.
const ATTEMPTS_MAX: u32 = 4;

/// Deletes some records of some partition.
pub(super) async fn delete(client: &mut Client) {
    let mut live = client.witness.live_partitions();
    // Elsewhere it is refused.
    live.retain(|partition| {
        let compaction = client.plan.partition(*partition).compaction;
        compaction.is_none_or(|compaction| compaction.is_deleting)
    });
    if live.is_empty() {
        return;
    }
    let partition = pick(&mut client.rng, &live);
    let Some(end) = lister::end(client, partition).await else {
        return;
    };
    let before_offset = match client.rng.chance(8) {
        true => None,
        false => {
            let most = u64::try_from(end.get()).unwrap_or(0);
            let offset = client.rng.between(0, most);
            Some(Offset(i64::try_from(offset).unwrap_or(0)))
        }
    };
    announce(client, partition, before_offset);
    for _ in 0..ATTEMPTS_MAX {
        if request(client, partition, before_offset).await {
            return;
        }
    }
}

/// A request whose answer is lost may be carried out late, on a later topic of the name.
fn announce(client: &Client, partition: PartitionId, before_offset: Option<Offset>) {
    let of = client.plan.partition(partition);
    let logical = client.plan.topics[of.topic].logical;
    for (number, plan) in client.plan.partitions().enumerate() {
        let is_later = plan.topic >= of.topic && plan.index == of.index;
        if is_later && client.plan.topics[plan.topic].logical == logical {
            let event = Event::DeletingRecords {
                partition: PartitionId(number),
                before_offset,
            };
            client.witness.tell(client.actor, event);
        }
    }
}

/// Whether it was answered for good.
async fn request(
    client: &mut Client,
    partition: PartitionId,
    before_offset: Option<Offset>,
) -> bool {
    let plan = client.plan.partition(partition);
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: client.plan.topics[plan.topic].name.as_str().into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: i32::try_from(plan.index).unwrap_or(i32::MAX),
                offset: before_offset.map_or(-1, Offset::get),
            }],
        }],
        timeout_ms: TIMEOUT_MS,
    };
    let Some((response, _)) = client.call(&request, VERSION).await else {
        return false;
    };
    let answer = response
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let Some(answer) = answer else {
        return false;
    };
    let is_changing = plan
        .compaction
        .is_some_and(|compaction| compaction.is_changing);
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => {
            let low_watermark = Offset(answer.low_watermark);
            let event = Event::RecordsDeleted {
                partition,
                before_offset,
                low_watermark,
            };
            client.witness.tell(client.actor, event);
            true
        }
        // The end of the log was lost meanwhile.
        ErrorCode::OffsetOutOfRange => true,
        // Nothing is deleted where everything is only compacted; at times, that is.
        ErrorCode::PolicyViolation if is_changing => true,
        code => {
            let event = Event::Unavailable { partition, code };
            client.witness.tell(client.actor, event);
            client.back_off().await;
            false
        }
    }
}
