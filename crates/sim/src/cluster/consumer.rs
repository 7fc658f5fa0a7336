//! A consumer: reads every partition from its leader, and begins anew now and then.
//!
//! Input: partitions. Output: Fetch requests; an event for every batch.
//!
//! Invariant: what is answered is compared to the last byte: each batch is one that was sent,
//! whole, and follows the one before it.
//!
//! Source: KIP-74 (at least one batch).

use std::collections::BTreeMap;
use std::time::Duration;

use skein_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use skein_record::Batches;
use skein_types::{ErrorCode, Offset};

use super::client::ClusterClient;
use super::event::{ClusterEvent, Placed, Told};
use crate::event::PartitionId;
use crate::plan::pick;

/// The last version that names topics by name.
const VERSION: i16 = 12;

/// The longest pause between two fetches.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// One fetch in so many begins at the log's start.
const REWIND_ONE_IN: u32 = 40;

/// Bytes of one answer.
const MAX_BYTES: i32 = 200_000;

/// A log as far as it was read.
pub(crate) struct ReadLog {
    pub(crate) batches: Vec<Placed>,
    pub(crate) high_watermark: Offset,
    pub(crate) asked: Told,
}

/// Reads until it is told to settle.
pub(crate) async fn run(mut client: ClusterClient) {
    let partitions: Vec<_> = client.plan.partitions().collect();
    let mut positions: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    while !client.is_settling() {
        let partition = pick(&mut client.rng, &partitions);
        let position = positions.entry(partition).or_insert(Offset::ZERO);
        if client.rng.chance(REWIND_ONE_IN) {
            *position = Offset::ZERO;
        }
        if let Some(read) = fetch(&mut client, partition, *position, 200).await {
            for placed in &read.batches {
                let event = ClusterEvent::Read {
                    partition,
                    placed: *placed,
                    asked: read.asked,
                };
                client.witness.tell(client.actor, event);
                *position = placed.end;
            }
        } else {
            client.back_off().await;
        }
        client.pause(PAUSE_MAX).await;
    }
}

/// Reads a whole log up to the high watermark that its leader tells at the end, and tells of it;
/// `None` if that failed: try again.
pub(crate) async fn read_back(client: &mut ClusterClient, partition: PartitionId) -> Option<()> {
    let (mut position, mut log) = (Offset::ZERO, Vec::new());
    loop {
        let read = fetch(client, partition, position, 0).await?;
        let end = read.high_watermark;
        position = read.batches.last().map_or(position, |last| last.end);
        let is_stuck = read.batches.is_empty();
        log.extend(read.batches);
        if position >= end {
            let event = ClusterEvent::ReadBack {
                partition,
                log,
                asked: read.asked,
            };
            client.witness.tell(client.actor, event);
            return Some(());
        }
        if is_stuck {
            return None;
        }
    }
}

/// Fetches once from `position`.
async fn fetch(
    client: &mut ClusterClient,
    partition: PartitionId,
    position: Offset,
    max_wait_ms: i32,
) -> Option<ReadLog> {
    let leader = client.leader(partition).await?;
    let (topic, index) = client.plan.place(partition);
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: MAX_BYTES,
        session_id: 0,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.name.as_str().into(),
            partitions: vec![FetchPartition {
                partition: index,
                fetch_offset: position.0,
                partition_max_bytes: MAX_BYTES,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let Some((response, asked)) = client.call(leader, &request, VERSION).await else {
        client.forget_leader(partition);
        return None;
    };
    let topic = response.responses.first();
    let data = topic.and_then(|topic| topic.partitions.first());
    let read = data.and_then(|data| take(client, partition, position, data));
    if read.is_none() {
        client.forget_leader(partition);
    }
    let (batches, high_watermark) = read?;
    Some(ReadLog {
        batches,
        high_watermark,
        asked,
    })
}

fn take(
    client: &ClusterClient,
    partition: PartitionId,
    position: Offset,
    data: &PartitionData,
) -> Option<(Vec<Placed>, Offset)> {
    let code = ErrorCode::from_code(data.error_code);
    if code != ErrorCode::None {
        return None;
    }
    let high_watermark = Offset(data.high_watermark);
    let records = data.records.as_ref().and_then(|records| records.as_bytes());
    let (mut next, mut batches) = (position, Vec::new());
    for batch in Batches::new(records.map_or(&[], |records| records)) {
        let found = batch.map_err(|error| error.to_string()).and_then(|batch| {
            let header = batch.header();
            let is_first = batches.is_empty();
            let follows = match is_first {
                true => header.base_offset <= next && next < header.next_offset(),
                false => header.base_offset == next,
            };
            if !follows {
                return Err(format!("a batch of {} is there", header.base_offset));
            }
            Ok(Placed {
                base_offset: header.base_offset,
                end: header.next_offset(),
                batch: client.witness.identify(partition, &batch)?,
            })
        });
        match found {
            Ok(placed) => {
                next = placed.end;
                batches.push(placed);
            }
            Err(reason) => {
                let name = client.plan.name_of(partition);
                let text = format!("{name} at {next}: {reason}");
                client.witness.accuse(client.actor, "read_stays", text);
                return None;
            }
        }
    }
    if next > high_watermark && next > position {
        let name = client.plan.name_of(partition);
        let text = format!("{name}: records up to {next}, past {high_watermark}");
        client.witness.accuse(client.actor, "read_stays", text);
        return None;
    }
    Some((batches, high_watermark))
}
