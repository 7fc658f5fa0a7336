//! What does not agree in a partition's files.
//!
//! Input: the files, what the checkpoints say. Output: findings, each with path, position, offset
//! and what to do; and what was looked at.
//!
//! ```text
//!   log        checksums; offsets rise, none missing above the cleaner's checkpoint, each in its
//!              segment; leader epochs do not fall; whole batches to the end, zeros behind the last
//!              segment only
//!   indexes    entries rise, each names a batch (`verify/indexes.rs`)
//!   others     snapshots, epochs, aborted transactions can be read and lie within the log
//!   beside     checkpoints do not point beyond the log
//!   directory  the small files beside the partitions can be read, and no partition has gone
//! ```
//!
//! Invariants:
//! - the checkpoints and indexes are read before the log they speak of, so that a node that goes on
//!   writing makes no finding; what ends in a fault in the last segment is looked at again, up to
//!   [`LOOKS_MAX`] times;
//! - what the largest timestamps are said to be counts if it is said before the log is read and
//!   behind it: a compaction forgets it, changes the segments, and says it anew;
//! - no file makes more than [`FINDINGS_PER_FILE_MAX`] findings; the rest is counted.
//!
//! Source: `log/recovery.rs` for what a start cuts and what it refuses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skein_env::Disk;
use skein_record::{BatchView, LeaderEpochs};
use skein_types::{LeaderEpoch, Millis, Offset};

use super::index_file::IndexFile;
use super::partition::{Offsets, PartitionFiles};
use super::walk::{InspectedBatch, SegmentWalk, Step};
use crate::StorageError;
use crate::log::names::FileKind;
use crate::log::segment_times::SegmentTimestamp;

mod beside;
mod directory;
mod indexes;

pub use directory::verify_log_directory;
use indexes::IndexCheck;

/// Findings of one file that are told.
const FINDINGS_PER_FILE_MAX: u64 = 20;
/// How often the end of the last segment is looked at before its bytes count as bad.
const LOOKS_MAX: u32 = 5;

const REMEDY_BATCH: &str = "restore the file from a backup or another replica; until then readers \
                            get an error at this offset, and may go on behind the batch";
const REMEDY_FRAME: &str = "restore the file from a backup or another replica; until then a node \
                            does not open the log, or its readers get no further than here";
const REMEDY_UNFLUSHED: &str = "restore the file from a backup or another replica before the next \
                                start: unless the node was stopped in order, it cuts the log here, \
                                and all that follows is gone";
const REMEDY_TAIL: &str = "the next start of the node cuts the file here by itself";
const REMEDY_INDEX: &str = "stop the node and remove the file; it is made anew from the log";
const REMEDY_EPOCHS: &str =
    "stop the node and remove the file; the epochs are read from the batches";
const REMEDY_MISSING: &str = "restore the missing file or batch from a backup or another replica";
const REMEDY_LEFTOVER: &str = "nothing: the next start of the node sees to it";
const REMEDY_UNREADABLE: &str = "the producer packed it like this; consumers get an error here, \
                                 and may go on behind the batch";

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Something is lost, or answers may be wrong.
    Damage,
    /// The next start mends it, or it has no effect.
    Note,
}

/// Something that does not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// The file.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub position: Option<u64>,
    /// The first offset that it concerns.
    pub offset: Option<Offset>,
    /// What it is.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Finding {
    /// A file that could not be read, or made no sense, which the error says of it.
    #[must_use]
    pub fn unreadable(error: &StorageError, remedy: &'static str) -> Self {
        let (what, remedy) = match error {
            StorageError::Format { line, reason, .. } => (format!("line {line}: {reason}"), remedy),
            // It says where by itself, and what to do then is another question.
            error => (error.to_string(), error.remedy()),
        };
        Self {
            weight: Weight::Damage,
            path: error.path().to_path_buf(),
            position: None,
            offset: None,
            what,
            remedy,
        }
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segments.
    pub segments: u64,
    /// Batches.
    pub batches: u64,
    /// Records that the batches say they have.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// Index entries.
    pub index_entries: u64,
    /// Zeros behind the last batch.
    pub room_bytes: u64,
    /// First offset of the first segment.
    pub first_offset: Offset,
    /// The offset behind the last batch.
    pub end_offset: Offset,
    /// Findings of the weight [`Weight::Damage`], told or not.
    pub damages: u64,
    /// Findings that were not told, because their file had so many.
    pub untold: u64,
}

/// How to look.
pub struct VerifyOptions<'a> {
    /// Batches are unpacked up to so many bytes; `None` leaves them packed.
    pub unpacked_max_bytes: Option<usize>,
    /// Waits a moment: a node may be writing where the log ends.
    pub pause: &'a dyn Fn(),
}

/// Looks at all files of a partition. `tell` gets each finding as it is made.
///
/// # Errors
/// What the disk says.
pub fn verify_partition(
    disk: &dyn Disk,
    files: &PartitionFiles,
    options: &VerifyOptions<'_>,
    tell: &mut dyn FnMut(Finding),
) -> Result<Verified, StorageError> {
    let offsets = files.offsets(disk)?;
    let mut verify = Verify {
        disk,
        files,
        offsets,
        options,
        epochs: None,
        segment_times: Vec::new(),
        expected: None,
        epoch: LeaderEpoch::NONE,
        newest: Millis::NONE,
        whole_segments: BTreeMap::new(),
        disagreeing_epochs: None,
        is_broken: false,
        findings: Findings {
            tell,
            path: PathBuf::new(),
            of_path: 0,
        },
        verified: Verified::default(),
    };
    verify.misplaced();
    verify.read_epochs()?;
    verify.segment_times = verify.read_segment_times()?;
    for number in 0..files.segments.len() {
        verify.segment(number)?;
    }
    verify.compare_checkpoints();
    verify.others()?;
    Ok(verify.verified)
}

/// Where findings go.
struct Findings<'a> {
    tell: &'a mut dyn FnMut(Finding),
    path: PathBuf,
    of_path: u64,
}

impl Findings<'_> {
    fn add(&mut self, verified: &mut Verified, finding: Finding) {
        verified.damages += u64::from(finding.weight == Weight::Damage);
        if self.path != finding.path {
            self.path.clone_from(&finding.path);
            self.of_path = 0;
        }
        self.of_path += 1;
        if self.of_path > FINDINGS_PER_FILE_MAX {
            verified.untold += 1;
        } else {
            (self.tell)(finding);
        }
    }
}

struct Verify<'a> {
    disk: &'a dyn Disk,
    files: &'a PartitionFiles,
    offsets: Offsets,
    options: &'a VerifyOptions<'a>,
    /// What the checkpoint says, if it can be read.
    epochs: Option<LeaderEpochs>,
    /// What the file of the largest timestamps said before the log was read.
    segment_times: Vec<SegmentTimestamp>,
    /// Offset that the next batch should have; `None` before the first, and behind a fault.
    expected: Option<Offset>,
    /// Of the last batch.
    epoch: LeaderEpoch,
    /// The largest timestamp of the segment so far.
    newest: Millis,
    /// Bytes and largest timestamps of the segments that could be read to their end.
    whole_segments: BTreeMap<Offset, (u64, Millis)>,
    /// The epochs that the checkpoint and the last batch have for it, where they differ.
    disagreeing_epochs: Option<(Option<LeaderEpoch>, LeaderEpoch)>,
    /// Whether the end of the log is not known.
    is_broken: bool,
    findings: Findings<'a>,
    verified: Verified,
}

impl Verify<'_> {
    fn add(
        &mut self,
        weight: Weight,
        path: &Path,
        at: (Option<u64>, Option<Offset>),
        what: impl Into<String>,
        remedy: &'static str,
    ) {
        let finding = Finding {
            weight,
            path: path.to_path_buf(),
            position: at.0,
            offset: at.1,
            what: what.into(),
            remedy,
        };
        self.findings.add(&mut self.verified, finding);
    }

    fn segment(&mut self, number: usize) -> Result<(), StorageError> {
        let base = self.files.segments[number];
        let next = self.files.segments.get(number + 1).copied();
        let path = self.files.log_path(base);
        // Before the log: what a node writes meanwhile is in the log first.
        let open = |kind| IndexFile::open(self.disk, &self.files.path(base, kind), base, kind);
        let mut indexes = IndexCheck::new(open(FileKind::OffsetIndex)?, open(FileKind::TimeIndex)?);
        let mut walk = match SegmentWalk::open(self.disk, &path) {
            Err(error) if error.is_not_found() => {
                let what = "the file was removed meanwhile";
                self.add(
                    Weight::Note,
                    &path,
                    (None, Some(base)),
                    what,
                    REMEDY_LEFTOVER,
                );
                // What was in it is no gap.
                self.expected = None;
                return Ok(());
            }
            walk => walk?,
        };
        self.verified.segments += 1;
        match self.expected {
            None if number == 0 => self.verified.first_offset = base,
            Some(expected) if base != expected => self.gap(&path, 0, expected, base),
            _ => {}
        }
        self.expected = Some(self.expected.unwrap_or(base).max(base));
        self.newest = Millis::NONE;
        let bytes_before = self.verified.bytes;
        let is_whole = self.batches(&path, &mut walk, &mut indexes, next)?;
        if is_whole {
            let facts = (self.verified.bytes - bytes_before, self.newest);
            self.whole_segments.insert(base, facts);
        }
        self.verified.index_entries += indexes.entries();
        indexes.end(
            is_whole,
            next.is_some(),
            &mut |path, position, offset, what| {
                let finding = of_index(path, (position, offset), what);
                self.findings.add(&mut self.verified, finding);
            },
        )?;
        if !is_whole {
            // What follows stands for itself.
            self.verified.end_offset = self.expected.unwrap_or(base);
            self.is_broken = next.is_none();
            self.expected = None;
        }
        Ok(())
    }

    /// The batches of a segment; whether they reach its end.
    fn batches(
        &mut self,
        path: &Path,
        walk: &mut SegmentWalk,
        indexes: &mut IndexCheck,
        next: Option<Offset>,
    ) -> Result<bool, StorageError> {
        let mut looks = 1;
        loop {
            match walk.next()? {
                None => return Ok(true),
                Some(Step::Room { bytes, .. }) if next.is_none() => {
                    self.verified.room_bytes = bytes;
                    return Ok(true);
                }
                // A node may be writing here.
                Some(step) if next.is_none() && looks < LOOKS_MAX && is_bad(&step) => {
                    looks += 1;
                    if let Step::Batch(batch) = &step {
                        walk.step_back(batch);
                    }
                    (self.options.pause)();
                    walk.look_again()?;
                }
                Some(Step::Batch(batch)) => {
                    looks = 1;
                    self.batch(path, walk, &batch, next)?;
                    indexes.batch(&batch, &mut |path, position, offset, what| {
                        let at = (Some(position), Some(offset));
                        let finding = of_index(path, at, what);
                        self.findings.add(&mut self.verified, finding);
                    })?;
                }
                Some(Step::Room { position, bytes }) => {
                    let what =
                        format!("{bytes} zeros at the end of a segment that is not the last");
                    let at = (Some(position), self.expected);
                    self.add(Weight::Damage, path, at, what, REMEDY_FRAME);
                    return Ok(false);
                }
                Some(Step::Fault {
                    position,
                    reason,
                    bytes,
                }) => {
                    self.fault(path, position, &reason, bytes, next.is_none());
                    return Ok(false);
                }
            }
        }
    }

    fn batch(
        &mut self,
        path: &Path,
        walk: &SegmentWalk,
        batch: &InspectedBatch,
        next: Option<Offset>,
    ) -> Result<(), StorageError> {
        let header = batch.header;
        let at = (Some(batch.position), Some(header.base_offset));
        self.verified.batches += 1;
        self.verified.records += u64::from(header.records_count.unsigned_abs());
        self.verified.bytes += header.size_in_bytes() as u64;
        let expected = self.expected.unwrap_or(header.base_offset);
        let last = header.last_offset();
        if let Some(computed) = batch.computed_crc.filter(|_| batch.is_checksum_wrong()) {
            let what = format!(
                "the checksum of the batch with offsets {} to {last} is {computed:#010x}, and it \
                 says {:#010x}",
                header.base_offset, header.crc
            );
            let remedy = self.remedy(header.base_offset, REMEDY_BATCH);
            self.add(Weight::Damage, path, at, what, remedy);
        } else {
            self.unpack(path, walk, batch)?;
        }
        if header.base_offset < expected {
            let what = format!("the batch begins below {expected}, the end of the one before");
            self.add(Weight::Damage, path, at, what, REMEDY_FRAME);
        } else if header.base_offset > expected {
            self.gap(path, batch.position, expected, header.base_offset);
        }
        if let Some(next) = next.filter(|next| last >= *next) {
            let what = format!("the batch ends at {last}; the next segment begins at {next}");
            self.add(Weight::Damage, path, at, what, REMEDY_FRAME);
        }
        self.epoch_of(path, batch);
        self.newest = self.newest.max(header.max_timestamp);
        self.expected = Some(expected.max(header.next_offset()));
        self.verified.end_offset = self.expected.unwrap_or_default();
        Ok(())
    }

    fn epoch_of(&mut self, path: &Path, batch: &InspectedBatch) {
        let (epoch, base_offset) = (batch.header.leader_epoch, batch.header.base_offset);
        let at = (Some(batch.position), Some(base_offset));
        if epoch < self.epoch {
            let what = format!(
                "the batch has leader epoch {epoch}, the one before it {}",
                self.epoch
            );
            self.add(Weight::Damage, path, at, what, REMEDY_BATCH);
        }
        // Above the recovery point the epochs are read from the batches at a start.
        let point = self.offsets.recovery_point.unwrap_or(Offset(0));
        // And below the log's start they are forgotten.
        let start = self.offsets.log_start.unwrap_or(Offset(0));
        let told = match &self.epochs {
            Some(epochs) if (start..point).contains(&base_offset) => {
                epochs.epoch_for_offset(base_offset)
            }
            _ => Some(epoch),
        };
        let disagree = (told != Some(epoch)).then_some((told, epoch));
        // Once for all batches of an epoch.
        if disagree.is_some() && disagree != self.disagreeing_epochs {
            let told = told.map_or("none".into(), |told| told.to_string());
            let what = format!(
                "the checkpoint has leader epoch {told} for offset {base_offset}, its batch {epoch}"
            );
            let path = self.epochs_path();
            self.add(
                Weight::Damage,
                &path,
                (None, Some(base_offset)),
                what,
                REMEDY_EPOCHS,
            );
        }
        self.disagreeing_epochs = disagree;
        self.epoch = self.epoch.max(epoch);
    }

    fn unpack(
        &mut self,
        path: &Path,
        walk: &SegmentWalk,
        batch: &InspectedBatch,
    ) -> Result<(), StorageError> {
        let Some(max_bytes) = self.options.unpacked_max_bytes else {
            return Ok(());
        };
        let at = (Some(batch.position), Some(batch.header.base_offset));
        let what = match walk.read(batch, max_bytes)? {
            None => Some(format!(
                "the batch has more than {max_bytes} bytes and was not unpacked"
            )),
            Some(bytes) => {
                let records = BatchView::parse(&bytes).and_then(|view| view.records(max_bytes));
                let bad =
                    records.and_then(|records| records.iter().try_for_each(|one| one.map(drop)));
                bad.err().map(|error| told_with_sources(&error))
            }
        };
        if let Some(what) = what {
            self.add(Weight::Damage, path, at, what, REMEDY_UNREADABLE);
        }
        Ok(())
    }

    /// The offsets from `expected` on are missing up to `found`.
    fn gap(&mut self, path: &Path, position: u64, expected: Offset, found: Offset) {
        let compacted_to = self.offsets.compacted_to.unwrap_or(Offset(0));
        if found <= compacted_to || found < expected {
            return;
        }
        let what = format!("the offsets {expected} to {} are missing", found.0 - 1);
        let at = (Some(position), Some(expected));
        let remedy = self.remedy(expected, REMEDY_MISSING);
        self.add(Weight::Damage, path, at, what, remedy);
    }

    fn fault(&mut self, path: &Path, position: u64, reason: &str, bytes: u64, is_last: bool) {
        let end = self.expected.unwrap_or_default();
        let flushed_end = self.offsets.recovery_point.unwrap_or(Offset(0));
        let what = format!("{reason} (up to the end of the file: {bytes} bytes)");
        let at = (Some(position), Some(end));
        // A crash leaves this behind, above what was flushed only.
        if is_last && end >= flushed_end {
            self.add(Weight::Note, path, at, what, REMEDY_TAIL);
        } else {
            let remedy = self.remedy(end, REMEDY_FRAME);
            self.add(Weight::Damage, path, at, what, remedy);
        }
    }

    /// What to do about damage at `offset`: from the recovery point on a start takes it for what a
    /// crash leaves behind.
    fn remedy(&self, offset: Offset, flushed: &'static str) -> &'static str {
        match self.offsets.recovery_point {
            Some(recovery_point) if offset < recovery_point => flushed,
            _ => REMEDY_UNFLUSHED,
        }
    }
}

/// Whether another look may see something better.
fn is_bad(step: &Step) -> bool {
    match step {
        Step::Batch(batch) => batch.is_checksum_wrong(),
        Step::Fault { .. } => true,
        Step::Room { .. } => false,
    }
}

fn of_index(path: &Path, at: (Option<u64>, Option<Offset>), what: String) -> Finding {
    Finding {
        weight: Weight::Damage,
        path: path.to_path_buf(),
        position: at.0,
        offset: at.1,
        what,
        remedy: REMEDY_INDEX,
    }
}

fn told_with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
