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

use super::fetchers::{Fetched, address_of};
use crate::node::Shared;
use crate::replica::Replica;

/// The timestamps that ask for the ends of a log.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// How long a leader may take to say where its log starts and ends.
const RANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Batches that were fetched, with the replica's order about them.
pub(crate) struct FetchedGroup {
    /// The bytes of each, and how many records it has.
    pub(crate) batches: Vec<(Bytes, u64)>,
}

impl FetchedGroup {
    /// How many of the batches, from the first on, have `max_bytes` together; the first one always
    /// counts.
    pub(crate) fn fitting(&self, max_bytes: u64) -> usize {
        let ends = self.batches.iter().scan(0, |end, (bytes, _)| {
            *end += bytes.len() as u64;
            Some(*end)
        });
        ends.take_while(|end| *end <= max_bytes).count().max(1)
    }
}

/// The way of a leader's answers.
pub(super) struct Delivery<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) links: &'a PeerLinks,
    pub(super) leader: BrokerId,
}

impl Delivery<'_> {
    pub(super) async fn carry_out(&self, order: FetchOrder, fetched: &Fetched) {
        let partition = order.partition();
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
            FetchOrder::Append { position, .. } => match fetched.get(&partition) {
                Some((answer, records)) => self.append(&replica, position, answer, records),
                None => self.later(partition, position),
            },
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

    fn append(
        &self,
        replica: &Arc<Replica>,
        position: FetchPosition,
        answer: &PartitionAnswer,
        records: &Bytes,
    ) {
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
                self.later(replica.partition_id(), position);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_one_write_takes_and_never_empty() {
        let batches = [10, 20, 30].map(|length| (Bytes::from(vec![0; length]), 1));
        let group = FetchedGroup {
            batches: batches.to_vec(),
        };
        for (room, expected) in [
            (0, 1),
            (9, 1),
            (10, 1),
            (30, 2),
            (59, 2),
            (60, 3),
            (u64::MAX, 3),
        ] {
            assert_eq!(group.fitting(room), expected, "{room}");
        }
    }

    #[test]
    fn a_batch_that_is_cut_off_is_left_out_and_a_corrupt_one_refused() {
        let batch = crate::testing::batch(1, b"value");
        let mut two = [batch.as_slice(), batch.as_slice()].concat();
        let count = |bytes: &[u8]| split(&Bytes::copy_from_slice(bytes)).map(|split| split.0.len());
        assert_eq!(count(&two).unwrap(), 2);
        for cut in 1..batch.as_slice().len() {
            assert_eq!(count(&two[..two.len() - cut]).unwrap(), 1, "{cut}");
        }
        let last = two.len() - 1;
        two[last] ^= 1;
        assert!(count(&two).is_err());
    }
}
