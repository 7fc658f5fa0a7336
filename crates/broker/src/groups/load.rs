//! A coordinator learns what the log says.
//!
//! Input: a replica that this node leads. Output: a shard that has replayed its log, up to the end
//! that it had when the load began.
//!
//! Invariants:
//! - the log is read in pieces of `offsets.load.buffer.size`, each on the offload pool;
//! - it has ended when all that it has read is committed; nobody else would tell the shard so;
//! - nothing that cannot be read is left out ([`skein_coordinator::ReplayError`] says why).
//!
//! Source: `CoordinatorLoaderImpl` of Kafka 4.1.1.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use skein_coordinator::{Replayed, Shard};
use skein_record::{BatchView, Batches, EndTxnMarker, TxnResult};
use skein_storage::{FileRange, LogView};
use skein_types::{LeaderEpoch, Offset};

use crate::fetch_wait::FetchWaiter;
use crate::node::Shared;
use crate::replica::Replica;
use crate::unpacking::UNPACKED_MAX_BYTES;

/// A load under way.
struct Load {
    shard: Shard,
    next: Offset,
    /// Records of kinds of groups that are not served.
    skipped: u64,
}

/// A shard with all that the replica's log has, and where that ends. The error is for the log.
pub(super) async fn load(
    shared: &Arc<Shared>,
    replica: &Arc<Replica>,
) -> Result<(Shard, Offset), String> {
    let (group, offsets) = (&shared.config.group, &shared.config.offsets);
    let view = replica.view();
    let end = view.offsets.log_end_offset;
    let mut load = Load {
        shard: Shard::new(Arc::clone(group), Arc::clone(offsets)),
        next: view.log.log_start_offset,
        skipped: 0,
    };
    let max_bytes = u64::from(offsets.load_buffer_size);
    while load.next < end {
        // Compaction may have taken the files of an older view.
        let view = Arc::clone(&replica.view().log);
        let read = move || load.read_piece(&view, end, max_bytes);
        let read = shared.env.offload("load-groups", read).await;
        load = read.ok_or("the node has ended")??;
    }
    if load.skipped > 0 {
        let (partition, skipped) = (&replica.name, load.skipped);
        tracing::warn!(%partition, skipped, "records of kinds of groups that are not served");
    }
    committed(shared, replica, end).await;
    Ok((load.shard, end))
}

/// Waits until the log is committed up to `end`: what a former process has written need not be,
/// with `durability=flushed`. A replica that leads no more is not waited for.
async fn committed(shared: &Shared, replica: &Replica, end: Offset) {
    let id = shared.next_fetch_wait.fetch_add(1, Ordering::Relaxed);
    let waiter = Arc::new(FetchWaiter::default());
    replica.waits.register(id, Arc::clone(&waiter));
    loop {
        let offsets = replica.view().offsets;
        if offsets.high_watermark >= end || offsets.leader(LeaderEpoch::NONE).is_err() {
            break;
        }
        waiter.woken().await;
    }
    replica.waits.unregister(id);
}

impl Load {
    fn read_piece(mut self, view: &LogView, end: Offset, max_bytes: u64) -> Result<Self, String> {
        let start = self.next.max(view.log_start_offset);
        let range = view.read(start, max_bytes, end, true);
        let Some(range) = range.map_err(|error| error.to_string())? else {
            // Compaction has left nothing up to the end.
            self.next = end;
            return Ok(self);
        };
        let bytes = read_all(&range).map_err(|error| error.to_string())?;
        for batch in Batches::new(&bytes) {
            let at = self.next;
            let batch = batch.map_err(|error| error.to_string());
            let replayed = batch.and_then(|batch| self.replay(&batch));
            replayed.map_err(|error| format!("at offset {at}: {error}"))?;
        }
        if self.next <= start {
            return Err(format!("at offset {start}: there is no whole batch"));
        }
        Ok(self)
    }

    fn replay(&mut self, batch: &BatchView<'_>) -> Result<(), String> {
        batch.check_crc().map_err(|error| error.to_string())?;
        let header = batch.header();
        let records = batch
            .records(UNPACKED_MAX_BYTES)
            .map_err(|error| error.to_string())?;
        let attributes = header.attributes;
        let transaction = attributes.is_transactional().then_some(header.producer_id);
        for record in &records {
            let record = record.map_err(|error| error.to_string())?;
            if attributes.is_control() {
                if let Some(marker) = EndTxnMarker::parse(&record) {
                    let is_commit = marker.result == TxnResult::Commit;
                    self.shard
                        .replay_end_of_transaction(header.producer_id, is_commit);
                }
                continue;
            }
            let key = Bytes::copy_from_slice(record.key.ok_or("a record without a key")?);
            let value = record.value.map(Bytes::copy_from_slice);
            let replayed = self.shard.replay(&key, value.as_ref(), transaction);
            match replayed.map_err(|error| error.to_string())? {
                Replayed::Applied => {}
                Replayed::Skipped { .. } => self.skipped += 1,
            }
        }
        self.next = header.next_offset();
        Ok(())
    }
}

fn read_all(range: &FileRange) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.length).unwrap_or(usize::MAX)];
    let mut filled = 0;
    while filled < bytes.len() {
        let at = range.position + filled as u64;
        match range.file.read_at(&mut bytes[filled..], at)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
