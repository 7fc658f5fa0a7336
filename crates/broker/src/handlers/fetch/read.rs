//! Reads all partitions of a fetch within its limits.
//!
//! Input: partitions with their offsets, the limits of the request. Output: per partition its
//! offsets and the range of the file that holds the records; in pieces, where some are redacted.
//!
//! Invariants:
//! - the sum of the ranges is at most `max_bytes`, and each at most `partition_max_bytes`, except
//!   that the first batch of the first partition that has any comes whole (KIP-74);
//! - the hot path looks only at what is in memory; a segment that is not the active one, or a range
//!   that is not in the page cache, or that may hold a redacted record, goes to the offload pool;
//!   and so does one behind a cold reader, which may drop it from the page cache (`cold_reads.rs`);
//! - a reader of committed records is told which transactions of its range were aborted; the view
//!   that it reads from knows every one whose marker it shows;
//! - the marks are looked at after the view was loaded, and from the first offset of the first
//!   batch on: a reader that begins in its middle is sent all of it.
//!
//! Source: KIP-74, KIP-98, KIP-595 (diverging epoch); Kafka's `ReplicaManager.readFromLog`.

use std::sync::Arc;

use skein_env::Residency;
use skein_net::{FileRange, Part};
use skein_partition::{FetchIsolation, Refusal};
use skein_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, PartitionData,
};
use skein_storage::{ReadError, StorageError};
use skein_types::{ErrorCode, LeaderEpoch, Offset};

use super::redact::{Hiding, Rewritten, Room};
use super::{Source, failed};
use crate::cold_reads::ColdReader;
use crate::node::Shared;
use crate::replica::{Replica, ReplicaView};
use crate::router::Pieces;
use crate::session::ClientConnection;

/// The limits of one fetch.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    max_bytes: usize,
    isolation: FetchIsolation,
}

/// What one partition has.
pub(super) struct Found {
    pub(super) data: PartitionData,
    pub(super) pieces: Pieces,
    /// How many records are in the pieces.
    pub(super) records: u64,
}

/// What the partitions of a fetch have, in the order of its sources.
#[derive(Default)]
pub(super) struct Results {
    pub(super) partitions: Vec<Found>,
    pub(super) bytes: usize,
    /// An error, a log that diverges, or what a follower waits for.
    pub(super) is_urgent: bool,
    /// Batches that were looked up, and the bytes of logs that were walked over to find them.
    pub(super) lookups: u64,
    pub(super) scanned_bytes: u64,
}

/// How a partition could be read.
enum Read {
    Done(PartitionData, Option<skein_storage::FileRange>),
    /// Records must be left out first, of so many.
    Hiding(Box<PartitionData>, Arc<Hiding>, u64),
    /// The disk is needed.
    Cold,
}

/// Where a walk over the partitions has stopped.
enum Stop {
    /// Behind the last one.
    End,
    /// At one in which records must be left out, of so many.
    Hiding(Box<PartitionData>, Arc<Hiding>, u64),
    /// At one that needs the disk.
    Cold,
}

impl Results {
    fn push(&mut self, data: PartitionData, pieces: Pieces, records: u64) {
        self.is_urgent |= is_urgent(&data);
        self.bytes += pieces.iter().map(Part::length).sum::<usize>();
        self.partitions.push(Found {
            data,
            pieces,
            records,
        });
    }
}

impl Reader {
    pub(super) fn of_client(request: &FetchRequest, fetch_max_bytes: u32) -> Self {
        let asked = usize::try_from(request.max_bytes).unwrap_or(0);
        let isolation = match request.isolation_level {
            1 => FetchIsolation::LastStableOffset,
            _ => FetchIsolation::HighWatermark,
        };
        Self {
            max_bytes: asked.min(fetch_max_bytes as usize),
            isolation,
        }
    }

    pub(super) fn of_follower(request: &FetchRequest) -> Self {
        Self {
            max_bytes: usize::try_from(request.max_bytes).unwrap_or(0),
            isolation: FetchIsolation::LogEnd,
        }
    }

    /// Whether it reads what is not committed yet, to have it too.
    pub(super) fn is_follower(&self) -> bool {
        self.isolation == FetchIsolation::LogEnd
    }

    /// Reads what is in memory; `None` if the disk is needed.
    pub(super) fn read_hot(&self, sources: &[Source]) -> Option<Results> {
        let mut results = Results::default();
        results.partitions.reserve(sources.len());
        match self.read(sources, &mut results, None) {
            Stop::End => Some(results),
            Stop::Hiding(..) | Stop::Cold => None,
        }
    }

    /// Reads on the offload pool, and brings the ranges into the page cache.
    pub(super) async fn read_cold(
        &self,
        shared: &Arc<Shared>,
        connection: &Arc<ClientConnection>,
        sources: &[Source],
    ) -> Results {
        let sources: Arc<[Source]> = sources.into();
        let mut results = Results::default();
        let mut rewritten = Rewritten::default();
        loop {
            let (reader, of_job) = (*self, Arc::clone(&sources));
            let connection = Arc::clone(connection);
            let job = move || {
                let stop = reader.read(&of_job, &mut results, Some(&connection.cold_reader));
                (results, stop)
            };
            let Some((so_far, stop)) = shared.env.offload("cold-fetch", job).await else {
                // The node ends.
                return Results::default();
            };
            results = so_far;
            let Stop::Hiding(data, hiding, records) = stop else {
                return results;
            };
            match hiding.leave_out(shared, &mut rewritten).await {
                Ok(pieces) => results.push(*data, pieces, records),
                Err(code) => results.push(failed(code), Pieces::new(), 0),
            }
        }
    }

    /// Reads from the first partition on that `results` lacks; from the disk, where it may block,
    /// as `cold_reader`.
    fn read(
        &self,
        sources: &[Source],
        results: &mut Results,
        cold_reader: Option<&ColdReader>,
    ) -> Stop {
        for source in sources.iter().skip(results.partitions.len()) {
            let (data, range) = match &source.replica {
                Err(code) => (failed(*code), None),
                Ok(replica) => match self.read_one(source, replica, results, cold_reader) {
                    Read::Done(data, range) => (data, range),
                    Read::Hiding(data, hiding, records) => {
                        return Stop::Hiding(data, hiding, records);
                    }
                    Read::Cold => return Stop::Cold,
                },
            };
            let records = range.as_ref().map_or(0, |range| range.records);
            results.lookups += u64::from(range.is_some());
            results.scanned_bytes += range.as_ref().map_or(0, |range| range.scanned_bytes);
            let is_awaited = |start: Offset| data.high_watermark >= start.get();
            results.is_urgent |= source.awaited_high_watermark.is_some_and(is_awaited);
            let pieces = range.into_iter().map(to_send).map(Part::File).collect();
            results.push(data, pieces, records);
        }
        Stop::End
    }

    fn read_one(
        &self,
        source: &Source,
        replica: &Replica,
        so_far: &Results,
        cold_reader: Option<&ColdReader>,
    ) -> Read {
        let view = &replica.view();
        let fetch = &source.wanted.fetch;
        let offset = Offset(fetch.fetch_offset);
        let offsets = &view.offsets;
        let (end, diverging) = match self.admit(view, fetch) {
            Ok(admitted) => admitted,
            Err(refusal) => return Read::Done(refused(&refusal), None),
        };
        let mut data = PartitionData {
            high_watermark: offsets.high_watermark.get(),
            last_stable_offset: offsets.last_stable_offset.get(),
            log_start_offset: offsets.log_start_offset.get(),
            aborted_transactions: self.is_committed().then(Vec::new),
            ..Default::default()
        };
        if let Some(diverging) = diverging {
            data.aborted_transactions = None;
            data.diverging_epoch = diverging;
            return Read::Done(data, None);
        }
        let left = self.max_bytes.saturating_sub(so_far.bytes);
        let limit = usize::try_from(fetch.partition_max_bytes)
            .unwrap_or(0)
            .min(left);
        let is_first = so_far.bytes == 0;
        if offset >= end || (limit == 0 && !is_first) {
            return Read::Done(data, None);
        }
        if cold_reader.is_none() && !view.log.is_lookup_hot(offset) {
            return Read::Cold;
        }
        let range = match view.log.read(offset, limit as u64, end, is_first) {
            Ok(Some(range)) => range,
            Ok(None) => return Read::Done(data, None),
            Err(error) => return Read::Done(storage_failed(source, &error), None),
        };
        if range.length < range.first_batch_bytes {
            // Clients take a part of a batch with nothing before it for an error (KIP-74).
            return Read::Done(data, None);
        }
        if self.is_committed() {
            match aborted(view, &range, offset, end) {
                Ok(aborted) => data.aborted_transactions = Some(aborted),
                Err(error) => return Read::Done(storage_failed(source, &error.into()), None),
            }
        }
        let redacted = replica
            .redacted()
            .filter(|_| !self.is_follower())
            .filter(|redacted| !redacted.within(range.base_offset..end).is_empty());
        if let Some(cold_reader) = cold_reader {
            cold_reader.read(&replica.cold_reads, &range);
        } else if redacted.is_some()
            || range.file.residency(range.position, range.length) == Residency::Cold
            || replica.cold_reads.is_passed_by(&range)
        {
            return Read::Cold;
        }
        if let Some(redacted) = redacted {
            let max_bytes = range.length.max(limit as u64);
            let room = Room {
                max_bytes,
                is_first,
            };
            match Hiding::find(replica, view, &range, redacted, room) {
                Ok(None) => {}
                Ok(Some(hiding)) => return Read::Hiding(Box::new(data), hiding, range.records),
                Err(error) => return Read::Done(storage_failed(source, &error.into()), None),
            }
        }
        Read::Done(data, Some(range))
    }

    fn is_committed(&self) -> bool {
        self.isolation == FetchIsolation::LastStableOffset
    }

    /// The end of what may be read; or where the reader's log and this one part.
    fn admit(
        &self,
        view: &ReplicaView,
        fetch: &FetchPartition,
    ) -> Result<(Offset, Option<EpochEndOffset>), Refusal> {
        let offset = Offset(fetch.fetch_offset);
        // Any negative epoch says nothing here, as in Kafka.
        let current = LeaderEpoch(fetch.current_leader_epoch).max(LeaderEpoch::NONE);
        view.offsets.leader(current)?;
        let last = LeaderEpoch(fetch.last_fetched_epoch);
        let diverging = view
            .offsets
            .diverging_epoch(&view.leader_epochs, offset, last)?;
        if let Some(end) = diverging {
            let diverging = EpochEndOffset {
                epoch: end.epoch.get(),
                end_offset: end.end_offset.get(),
            };
            return Ok((Offset::NONE, Some(diverging)));
        }
        let end = view.offsets.fetch_end(current, offset, self.isolation)?;
        Ok((end, None))
    }
}

/// The aborted transactions that a reader of the range from `offset` must skip.
fn aborted(
    view: &ReplicaView,
    range: &skein_storage::FileRange,
    offset: Offset,
    end: Offset,
) -> Result<Vec<AbortedTransaction>, StorageError> {
    let aborted = view.log.aborted_in(range, offset, end)?;
    let named = aborted.iter().map(|txn| AbortedTransaction {
        producer_id: txn.producer_id.get(),
        first_offset: txn.first_offset.get(),
    });
    Ok(named.collect())
}

/// The range as the socket wants it.
fn to_send(range: skein_storage::FileRange) -> FileRange {
    FileRange {
        file: range.file,
        offset: range.position,
        length: usize::try_from(range.length).unwrap_or(usize::MAX),
    }
}

fn refused(refusal: &Refusal) -> PartitionData {
    PartitionData {
        aborted_transactions: None,
        ..failed(refusal.error_code())
    }
}

/// Whether the reader must hear of it at once, even if it would wait for more.
fn is_urgent(data: &PartitionData) -> bool {
    data.error_code != ErrorCode::None.code() || data.diverging_epoch != EpochEndOffset::default()
}

fn storage_failed(source: &Source, error: &ReadError) -> PartitionData {
    match error {
        ReadError::OutOfRange { .. } => failed(ErrorCode::OffsetOutOfRange),
        // Retention has removed the file under an old view: the client asks again.
        error if error.is_stale() => failed(ErrorCode::NotLeaderOrFollower),
        ReadError::Storage(error) => {
            let (key, remedy) = (&source.wanted.key, error.remedy());
            let (topic, partition) = (&*key.topic, key.partition);
            tracing::error!(%topic, partition, %error, remedy, "cannot read");
            failed(ErrorCode::KafkaStorageError)
        }
    }
}
