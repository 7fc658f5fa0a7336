//! Reads all partitions of a fetch within its limits.
//!
//! Input: partitions with their offsets, the limits of the request. Output: per partition its
//! offsets and the range of the file that holds the records.
//!
//! Invariants:
//! - the sum of the ranges is at most `max_bytes`, and each at most `partition_max_bytes`, except
//!   that the first batch of the first partition that has any comes whole (KIP-74);
//! - the hot path looks only at what is in memory; a segment that is not the active one, or a range
//!   that is not in the page cache, goes to the offload pool.
//!
//! Source: KIP-74, KIP-595 (diverging epoch); Kafka's `ReplicaManager.readFromLog`.

use skein_env::{Env, Residency};
use skein_net::FileRange;
use skein_partition::{FetchIsolation, Refusal};
use skein_protocol::messages::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, PartitionData,
};
use skein_storage::ReadError;
use skein_types::{ErrorCode, LeaderEpoch, Offset};

use super::{Source, failed};
use crate::replica::ReplicaView;

/// The limits of one fetch.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    max_bytes: usize,
    isolation: FetchIsolation,
}

/// What the partitions of a fetch have, in the order of its sources.
#[derive(Default)]
pub(super) struct Results {
    pub(super) partitions: Vec<(PartitionData, Option<FileRange>)>,
    pub(super) bytes: usize,
    /// An error, or a log that diverges.
    pub(super) is_urgent: bool,
}

/// How a partition could be read.
enum Read {
    Done(PartitionData, Option<FileRange>),
    /// The disk is needed.
    Cold,
}

impl Reader {
    pub(super) fn new(request: &FetchRequest, fetch_max_bytes: u32) -> Self {
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

    /// Reads what is in memory; `None` if the disk is needed.
    pub(super) fn read_hot(&self, sources: &[Source]) -> Option<Results> {
        self.read(sources, false)
    }

    /// Reads on the offload pool, and brings the ranges into the page cache.
    pub(super) async fn read_cold(&self, env: &Env, sources: &[Source]) -> Results {
        let (reader, sources) = (*self, sources.to_vec());
        let results = env
            .offload("cold-fetch", move || reader.read(&sources, true))
            .await;
        results.flatten().unwrap_or_default()
    }

    fn read(&self, sources: &[Source], may_block: bool) -> Option<Results> {
        let mut results = Results::default();
        results.partitions.reserve(sources.len());
        for source in sources {
            let (data, range) = match &source.replica {
                Err(code) => (failed(*code), None),
                Ok(replica) => match self.read_one(source, &replica.view(), &results, may_block) {
                    Read::Done(data, range) => (data, range),
                    Read::Cold => return None,
                },
            };
            results.is_urgent |= is_urgent(&data);
            results.bytes += range.as_ref().map_or(0, |range| range.length);
            results.partitions.push((data, range));
        }
        Some(results)
    }

    fn read_one(
        &self,
        source: &Source,
        view: &ReplicaView,
        so_far: &Results,
        may_block: bool,
    ) -> Read {
        let fetch = &source.wanted.fetch;
        let offset = Offset(fetch.fetch_offset);
        let offsets = &view.offsets;
        let (end, diverging) = match self.admit(view, fetch) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let data = PartitionData {
                    aborted_transactions: None,
                    ..failed(refusal.error_code())
                };
                return Read::Done(data, None);
            }
        };
        let mut data = PartitionData {
            high_watermark: offsets.high_watermark.get(),
            last_stable_offset: offsets.last_stable_offset.get(),
            log_start_offset: offsets.log_start_offset.get(),
            // Read committed names the aborted transactions of its range: none end here.
            aborted_transactions: (self.isolation == FetchIsolation::LastStableOffset)
                .then(Vec::new),
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
        if !may_block && !view.log.is_lookup_hot(offset) {
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
        if may_block {
            // A failure shows when the range is sent; there it closes the connection.
            let _ = range.file.read_ahead(range.position, range.length);
        } else if range.file.residency(range.position, range.length) == Residency::Cold {
            return Read::Cold;
        }
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        let range = FileRange {
            file: range.file,
            offset: range.position,
            length,
        };
        Read::Done(data, Some(range))
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
            let key = &source.wanted.key;
            tracing::error!(topic = %&*key.topic, partition = key.partition, %error, "cannot read");
            failed(ErrorCode::KafkaStorageError)
        }
    }
}
