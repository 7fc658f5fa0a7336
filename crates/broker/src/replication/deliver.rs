//! What a leader has answered, on its way to the replica.
//!
//! Input: an order of the fetcher, with the records of its partition. Output: an event of the
//! replica; its answer is a position from which to fetch next.
//!
//! Invariants:
//! - no batch gets to a replica whose checksum was not compared;
//! - a batch that is cut off at the end of an answer is left out: it is fetched again;
//! - whatever fails, the fetcher hears of it: nothing is busy for ever.
//!
//! Source: KIP-74 (batches that are cut off), KIP-595 (diverging epochs).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skein_net::{PeerLinks, Purpose};
use skein_partition::{
    Event, FetchOrder, FetchPosition, FetchedBatch, FetchedBatches, FetchedPartition,
    MAX_GROUP_BATCHES, PartitionAnswer, Ticket,
};
use skein_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use skein_record::BatchError;
use skein_types::{BrokerId, ErrorCode, Offset};

use super::fetchers::{FetchedRecords, address_of};
use crate::node::Shared;
use crate::replica::Replica;

/// The timestamps that ask for the ends of a log.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// How long a leader may take to say where its log starts and ends.
const RANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Batches that were fetched, with the replica's order about them.
pub(crate) struct FetchedGroup {
    pub(crate) batches: Vec<(Bytes, u64)>,
}

/// One answer, and where it goes.
pub(super) struct Delivery<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) links: &'a PeerLinks,
    pub(super) leader: BrokerId,
    pub(super) answer: Option<PartitionAnswer>,
    pub(super) records: &'a FetchedRecords,
}

/// Whose order it is.
pub(super) fn partition_of(order: &FetchOrder) -> FetchedPartition {
    match order {
        FetchOrder::Append { partition, .. }
        | FetchOrder::Truncate { partition, .. }
        | FetchOrder::AskRange { partition, .. } => *partition,
    }
}

impl Delivery<'_> {
    pub(super) async fn carry_out(&self, order: FetchOrder) {
        let partition = partition_of(&order);
        let Some(replica) = self.shared.replicas.open_by_id(partition) else {
            // It is being closed: the image has said so, or will.
            self.shared
                .basis
                .replication
                .fetchers
                .stop_others(None, partition);
            return;
        };
        match order {
            FetchOrder::Append { position, .. } => self.append(&replica, partition, position),
            FetchOrder::Truncate { position, end, .. } => {
                replica.step(Event::LogsDiverged { position, end });
            }
            FetchOrder::AskRange { position, .. } => {
                match self.range_of(&replica, position).await {
                    Ok((start, end)) => replica.step(Event::FetchedOutOfRange {
                        position,
                        leader_log_start_offset: start,
                        leader_log_end_offset: end,
                    }),
                    Err(reason) => {
                        tracing::debug!(partition = %replica.name, reason, "no range");
                        self.later(partition, position);
                    }
                }
            }
        }
    }

    fn append(&self, replica: &Arc<Replica>, partition: FetchedPartition, position: FetchPosition) {
        let Some(answer) = self.answer else {
            return self.later(partition, position);
        };
        let empty = Bytes::new();
        let records = self.records.get(&partition).unwrap_or(&empty);
        match split(records) {
            Ok((batches, pieces)) => {
                let fetched = FetchedBatches {
                    // There is one group at a time, and no produce while the replica follows.
                    ticket: Ticket(0),
                    position,
                    batches,
                    high_watermark: answer.high_watermark,
                    log_start_offset: answer.log_start_offset,
                };
                replica.take_fetched(fetched, FetchedGroup { batches: pieces });
            }
            Err(error) => {
                let (partition_name, leader) = (&replica.name, self.leader);
                tracing::error!(
                    partition = %partition_name, %leader, %error,
                    "the leader sent a batch that is corrupt; fetching it again"
                );
                self.later(partition, position);
            }
        }
    }

    fn later(&self, partition: FetchedPartition, position: FetchPosition) {
        let fetchers = &self.shared.basis.replication.fetchers;
        fetchers.follow_later(self.leader, partition, position);
    }

    /// Where the leader's log starts and ends.
    async fn range_of(
        &self,
        replica: &Replica,
        position: FetchPosition,
    ) -> Result<(Offset, Offset), String> {
        let image = self.shared.image();
        let address = address_of(&image, self.leader).ok_or("the leader has no address")?;
        let mut ends = [Offset::NONE; 2];
        for (timestamp, end) in [EARLIEST, LATEST].into_iter().zip(&mut ends) {
            let asked = ListOffsetsPartition {
                partition_index: replica.name.partition.get(),
                current_leader_epoch: position.leader_epoch.get(),
                timestamp,
                ..Default::default()
            };
            let request = ListOffsetsRequest {
                replica_id: self.shared.identity.broker_id.get(),
                topics: vec![ListOffsetsTopic {
                    name: replica.name.topic.as_str().to_owned().into(),
                    partitions: vec![asked],
                }],
                ..Default::default()
            };
            let call = self
                .links
                .call(&address, Purpose::Fetch, &request, RANGE_TIMEOUT);
            let answer = call.await.map_err(|error| error.to_string())?;
            let found = answer
                .topics
                .first()
                .and_then(|topic| topic.partitions.first());
            let found = found.ok_or("the leader does not answer what was asked")?;
            match ErrorCode::from_code(found.error_code) {
                ErrorCode::None => *end = Offset(found.offset),
                code => return Err(format!("the leader answers {code}")),
            }
        }
        let [start, end] = ends;
        Ok((start, end))
    }
}

/// The whole batches of an answer: what a follower must know of each, and its bytes.
type Split = (Vec<FetchedBatch>, Vec<(Bytes, u64)>);

fn split(records: &Bytes) -> Result<Split, BatchError> {
    let (mut batches, mut pieces) = (Vec::new(), Vec::new());
    let mut rest = records.clone();
    while !rest.is_empty() && batches.len() < MAX_GROUP_BATCHES {
        let batch = match FetchedBatch::read(&rest) {
            Ok(batch) => batch,
            // The answer ends within it.
            Err(BatchError::TooShort { .. } | BatchError::Size { .. }) => break,
            Err(error) => return Err(error),
        };
        let length = batch.header.size_in_bytes();
        let records = u64::try_from(batch.header.records_count).unwrap_or(0);
        pieces.push((rest.split_to(length.min(rest.len())), records));
        batches.push(batch);
    }
    Ok((batches, pieces))
}
