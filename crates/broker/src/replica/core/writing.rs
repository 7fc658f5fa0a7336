//! How a replica's writes run, and what follows them.
//!
//! Input: the group of batches that the state machine ordered written. Output: one `pwritev`, on
//! the network task or on the offload pool, and its outcome.
//!
//! ```text
//!   group ─► log taken ─┬─ disk fast ─► written here ─┬─ no cost ──────────────► complete
//!                       │                             └─ simulated cost ─► task ─► Completed
//!                       └─ disk slow ─► written on the offload pool ──────────► Completed
//! ```
//!
//! Invariants:
//! - a group is written as a whole or refused as a whole;
//! - its bytes in flight are given back when it is written, before it is acknowledged.
//!
//! Source: the two-phase append of `skein_partition`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skein_env::Lane;
use skein_net::BytesPermit;
use skein_partition::{Event, Ticket, WriteFailure};
use skein_record::BatchBuf;
use skein_storage::Log;
use skein_storage::segment_file::AppendError;
use skein_types::{Millis, Offset};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Core, Errand, Input, Step, index};
use crate::node::ReplicaBasis;
use crate::replica::Replica;

/// Batches that one `pwritev` takes.
#[derive(Default)]
pub(super) struct Group {
    /// Those of the batches, and those of duplicates which have the fate of a batch in the group.
    pub(super) tickets: Vec<Ticket>,
    batches: Vec<Batch>,
    permits: Vec<BytesPermit>,
    pub(super) bytes: usize,
}

/// A batch on its way into the log.
enum Batch {
    Produced(BatchBuf),
    /// As the leader has it, with the number of its records.
    Fetched(Bytes, u64),
}

/// A write, and the log that it has taken along.
pub(crate) struct Writing {
    log: Log,
    group: Group,
    result: Option<Result<Outcome, WriteError>>,
}

/// What a write did.
struct Outcome {
    bytes: u64,
    log_end_offset: Offset,
}

/// Why a write failed.
struct WriteError {
    error: AppendError,
    /// Whether nothing of the group is in the file.
    is_cut_back: bool,
}

impl Core {
    /// Writes what has gathered: at once, or on the offload pool while the disk is slow.
    pub(super) fn write_group(&mut self, step: &mut Step<'_>) {
        if self.group.is_empty() {
            return;
        }
        let Some(log) = self.log.take() else { return };
        let group = std::mem::take(&mut self.group);
        let mut writing = Writing {
            log,
            group,
            result: None,
        };
        let basis = Arc::clone(&self.basis);
        let Some(inline) = basis.disk_watch.begin() else {
            basis.metrics.writes_offloaded.inc();
            return writing.run_elsewhere(step.replica, &basis);
        };
        writing.run(&basis);
        drop(inline);
        let cost = basis.env.disk.take_cost();
        if cost.is_zero() {
            self.complete(writing, step);
        } else {
            basis.disk_watch.took(cost);
            writing.run_later(step.replica, &basis, cost);
        }
    }

    /// A write has ended: the log is back.
    pub(super) fn complete(&mut self, writing: Writing, step: &mut Step<'_>) {
        let Writing {
            log,
            mut group,
            result,
        } = writing;
        let event = match result {
            Some(Ok(outcome)) => {
                let metrics = &self.basis.metrics;
                metrics.writes.inc();
                metrics.batches_appended.inc_by(group.batches.len() as u64);
                metrics.appended_bytes.inc_by(outcome.bytes);
                let records = group.batches.iter().map(Batch::records).sum();
                step.replica.counts.written(outcome.bytes, records);
                Event::Written {
                    end: outcome.log_end_offset,
                }
            }
            Some(Err(error)) => {
                let partition = &step.replica.name;
                if error.error.cause.is_disk_full() {
                    // The directory says so, once; producers repeat what they are refused.
                    tracing::debug!(%partition, error = %error.error, "no room to append");
                } else {
                    let (error, remedy) = (&error.error, error.error.cause.remedy());
                    tracing::error!(%partition, %error, remedy, "cannot append");
                }
                error.to_event()
            }
            // The offload pool has dropped the write: the node is stopping.
            None => Event::WriteFailed {
                failure: WriteFailure::Io,
                is_cut_back: true,
            },
        };
        group.batches.clear();
        group.permits.clear();
        group.bytes = 0;
        self.log = Some(log);
        self.step(event, step);
        for ticket in group.tickets.drain(..) {
            if let Some(reply) = self.replies.get(index(ticket)) {
                reply.appended();
            }
        }
        if self.group.batches.capacity() == 0 {
            // Its memory serves the next group.
            self.group = group;
        }
        self.after_write(step);
    }

    /// Snapshots, flushes and files that are due.
    pub(super) fn after_write(&mut self, step: &mut Step<'_>) {
        let now = self.basis.env.clock.now();
        let Some(log) = self.log.as_mut() else { return };
        if let Some(producers) = self.machine.producers()
            && log.is_snapshot_due()
            && let Err(error) = log.write_snapshot(producers)
        {
            tracing::warn!(partition = %step.replica.name, %error, "no producer snapshot");
        }
        if log.is_flush_due(now) {
            self.basis.flusher.request(step.replica);
        }
        if log.take_sealed_flush_due() {
            self.basis.sealed_flusher.request(step.replica);
        }
        if self.room_seen_at.is_none() && log.has_room() {
            self.room_seen_at = Some(log.log_end_offset());
            self.basis.rooms.watch(step.replica);
        }
        if log.wants_next_segment() && !self.is_preparing {
            self.is_preparing = true;
            self.held.push_back(Input::Errand(prepare_next_segment()));
        }
    }

    /// A log that has not grown since it was last looked at gives back the room ahead of its end;
    /// one that has is watched on.
    pub(super) fn look_at_room(&mut self, step: &mut Step<'_>) {
        let seen_at = self.room_seen_at.take();
        let Some(log) = &self.log else {
            // It is being written to: `after_write` has it watched again.
            return;
        };
        if !log.has_room() {
            return;
        }
        if seen_at != Some(log.log_end_offset()) {
            self.room_seen_at = Some(log.log_end_offset());
            self.basis.rooms.watch(step.replica);
            return;
        }
        self.held.push_back(Input::Errand(Box::new(|log| {
            if let Err(error) = log.release_room() {
                tracing::warn!(partition = %log.partition(), %error, "cannot release room");
            }
            None
        })));
    }
}

impl Batch {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Produced(batch) => batch.as_slice(),
            Self::Fetched(bytes, _) => bytes,
        }
    }

    fn records(&self) -> u64 {
        match self {
            Self::Produced(batch) => u64::try_from(batch.header().records_count).unwrap_or(0),
            Self::Fetched(_, records) => *records,
        }
    }
}

/// Makes the next segment's file, so that no append waits for it.
fn prepare_next_segment() -> Errand {
    Box::new(|log| {
        if let Err(error) = log.prepare_next_segment() {
            tracing::warn!(partition = %log.partition(), %error, "cannot prepare the next segment");
        }
        None
    })
}

impl Writing {
    fn run(&mut self, basis: &ReplicaBasis) {
        let started = Instant::now();
        let batches: SmallVec<[&[u8]; 8]> =
            self.group.batches.iter().map(Batch::as_slice).collect();
        self.result = Some(append_all(&mut self.log, &batches, basis.env.clock.now()));
        basis.metrics.write_seconds.observe(started.elapsed());
    }

    /// Runs on the offload pool.
    fn run_elsewhere(mut self, replica: &Arc<Replica>, basis: &Arc<ReplicaBasis>) {
        let (replica, basis) = (Arc::clone(replica), Arc::clone(basis));
        let spawn = Arc::clone(&basis.env.spawn);
        let task = async move {
            let env = basis.env.clone();
            let work = move || {
                let watched = basis.disk_watch.begin_elsewhere();
                self.run(&basis);
                drop(watched);
                self
            };
            // Without an answer the node has ended.
            if let Some(writing) = env.offload("append", work).await {
                replica.submit(Input::Completed(Box::new(writing)));
            }
        };
        spawn.spawn(Lane::Data, "append", Box::pin(task));
    }

    /// Has run, and takes effect after `cost`: the simulated disk's way to be slow.
    fn run_later(self, replica: &Arc<Replica>, basis: &Arc<ReplicaBasis>, cost: Duration) {
        let replica = Arc::clone(replica);
        let task = async move {
            tokio::time::sleep(cost).await;
            replica.submit(Input::Completed(Box::new(self)));
        };
        basis.env.spawn.spawn(Lane::Data, "append", Box::pin(task));
    }
}

/// Appends a whole group. It takes more than one write only where the offsets of a few batches,
/// which may claim billions of records, are too far apart for one segment.
fn append_all(log: &mut Log, mut batches: &[&[u8]], now: Millis) -> Result<Outcome, WriteError> {
    let mut bytes = 0;
    loop {
        let appended = log.append(batches, now).map_err(|error| {
            let is_first = bytes == 0;
            if !is_first {
                // What an earlier write of this group left cannot be taken back.
                log.abandon();
            }
            WriteError {
                is_cut_back: is_first && error.is_cut_back(),
                error,
            }
        })?;
        bytes += appended.bytes;
        batches = batches.get(appended.batches..).unwrap_or_default();
        if batches.is_empty() {
            return Ok(Outcome {
                bytes,
                log_end_offset: appended.log_end_offset,
            });
        }
    }
}

impl WriteError {
    fn to_event(&self) -> Event {
        let failure = if self.error.cause.is_disk_full() {
            WriteFailure::DiskFull
        } else {
            WriteFailure::Io
        };
        Event::WriteFailed {
            failure,
            is_cut_back: self.is_cut_back,
        }
    }
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn push(&mut self, ticket: Ticket, batch: BatchBuf, permit: BytesPermit) {
        self.bytes += batch.as_slice().len();
        self.tickets.push(ticket);
        self.batches.push(Batch::Produced(batch));
        self.permits.push(permit);
    }

    /// Batches that nobody waits for here.
    pub(super) fn push_fetched(&mut self, batches: Vec<(Bytes, u64)>) {
        for (bytes, records) in batches {
            self.bytes += bytes.len();
            self.batches.push(Batch::Fetched(bytes, records));
        }
    }
}
