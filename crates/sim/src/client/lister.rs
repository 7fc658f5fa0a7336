//! A client that asks for offsets: of the ends, and of times.
//!
//! Input: the plan. Output: ListOffsets requests; events of what was told.
//!
//! Invariant: none; `invariants/indexes_agree.rs` and `invariants/high_watermark.rs` judge.
//!
//! Source: KIP-79.

use std::time::Duration;

use skein_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use skein_types::{ErrorCode, Millis, Offset};

use crate::client::Client;
use crate::event::{Event, PartitionId};
use crate::plan::pick;

/// Version of ListOffsets.
const VERSION: i16 = 7;

/// The timestamp that means "the end".
const LATEST: Millis = Millis(-1);

/// The timestamp that means "the start".
const EARLIEST: Millis = Millis(-2);

/// How far back a lookup goes, in milliseconds.
const BACK_MAX: u64 = 12_000;

/// The longest pause between two lookups.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Asks until it is told to settle.
pub(crate) async fn run(mut client: Client) {
    while !client.is_settling() {
        client.pause(PAUSE_MAX).await;
        let live = client.witness.live_partitions();
        if live.is_empty() {
            client.back_off().await;
            continue;
        }
        let partition = pick(&mut client.rng, &live);
        let time = match client.rng.below(4) {
            0 => LATEST,
            1 => EARLIEST,
            _ => {
                let back = i64::try_from(client.rng.below(BACK_MAX)).unwrap_or(0);
                Millis(client.env.clock.now().0 - back)
            }
        };
        look(&mut client, partition, time, false).await;
    }
}

/// Asks for the offset of `time` in a partition, and tells what it is; `is_all`: nothing is
/// produced meanwhile. Whether there was an answer.
pub(crate) async fn look(
    client: &mut Client,
    partition: PartitionId,
    time: Millis,
    is_all: bool,
) -> Option<Offset> {
    let plan = client.plan.partition(partition);
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: client.plan.topics[plan.topic].name.as_str().into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: i32::try_from(plan.index).unwrap_or(i32::MAX),
                timestamp: time.0,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let (response, asked) = client.call(&request, VERSION).await?;
    if !client.witness.is_live(partition) {
        // The topic is being deleted: the answer may be about the next one of its name.
        return None;
    }
    let answer = response
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())?;
    let code = ErrorCode::from_code(answer.error_code);
    if !code.is_none() {
        client
            .witness
            .tell(client.actor, Event::Unavailable { partition, code });
        client.back_off().await;
        return None;
    }
    let offset = Offset(answer.offset);
    let event = match time {
        LATEST => Event::Ends {
            partition,
            log_start_offset: None,
            high_watermark: offset,
            asked,
        },
        EARLIEST => Event::Starts {
            partition,
            log_start_offset: offset,
            asked,
        },
        // Records are not compared with their checksum for this.
        _ if client.witness.is_rotten(partition, asked) => return None,
        time => {
            let found = (offset >= Offset::ZERO).then_some((offset, Millis(answer.timestamp)));
            Event::TimeLooked {
                partition,
                time,
                found,
                asked,
                is_all,
            }
        }
    };
    client.witness.tell(client.actor, event);
    Some(offset)
}

/// Asks for the start of a partition.
pub(crate) async fn start(client: &mut Client, partition: PartitionId) -> Option<Offset> {
    look(client, partition, EARLIEST, true).await
}

/// Asks for the end of a partition.
pub(crate) async fn end(client: &mut Client, partition: PartitionId) -> Option<Offset> {
    look(client, partition, LATEST, true).await
}
