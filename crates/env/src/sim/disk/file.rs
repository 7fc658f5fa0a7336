//! An open file of a simulated disk, and its maps.
//!
//! Input and output: as in [`crate::File`].
//!
//! Invariant: no call through a file that a killed process had opened succeeds.
//!
//! Source: none.

use std::any::Any;
use std::io;
use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use skein_types::Millis;

use crate::sim::disk::content::{Content, PAGE};
use crate::sim::disk::faults::{Operation, Verdict};
use crate::sim::disk::names::FileNode;
use crate::sim::disk::times;
use crate::sim::disk::view::DiskView;
use crate::{CacheSteps, File, IndexMap, Residency};

pub(super) struct SimFile {
    disk: DiskView,
    node: Arc<FileNode>,
    /// What it was opened as, for fault rules and the log.
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(disk: DiskView, node: Arc<FileNode>, path: PathBuf, writable: bool) -> Self {
        Self {
            disk,
            node,
            path,
            writable,
        }
    }

    /// The file behind the trait object; `None` if another implementation made it.
    pub(super) fn node_of(file: &Arc<dyn File>) -> Option<Arc<FileNode>> {
        let file: &dyn Any = file.as_ref();
        file.downcast_ref::<Self>()
            .map(|file| Arc::clone(&file.node))
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(Errno::BADF.into())
        }
    }

    /// Has `change` write `total` bytes or the part of them that the judgement lets pass; it tells
    /// how many it could, and may be asked twice.
    fn write(
        &self,
        words: [u64; 3],
        total: usize,
        change: impl Fn(&mut Content, usize) -> usize,
    ) -> io::Result<usize> {
        self.check_writable()?;
        let cost = pages(total as u64);
        let judged = self.disk.begin(Operation::Write, &self.path, words, cost)?;
        let limit = judged.write_limit(total).min(total);
        self.disk.core.touch(&self.node);
        let mut written = change(&mut self.node.content.lock(), limit);
        if written < limit && self.disk.core.state.lock().names.commit() {
            // Removed files gave their room back, so the write goes on from its beginning.
            written = change(&mut self.node.content.lock(), limit);
        }
        let result = if written == 0 && limit > 0 {
            Err(Errno::NOSPC.into())
        } else {
            Ok(written)
        };
        self.disk.end(&judged, result)
    }

    /// Charges for the pages that come from the device, and has them in the cache from now on.
    fn warm(&self, offset: u64, length: u64) {
        let cold = self.node.content.lock().warm(offset, length);
        if cold > 0 {
            let speed = self.disk.core.state.lock().faults.speed;
            self.disk.core.charge(times(speed.cold_page, cold));
        }
    }
}

impl SimFile {
    fn missing(&self, offset: u64, length: u64) -> Vec<Range<u64>> {
        let content = self.node.content.lock();
        let is_missing = |step: &Range<u64>| content.cold_pages(step.start, CacheSteps::STEP) > 0;
        CacheSteps::of(offset, length).pick(is_missing)
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let length = buffer.len() as u64;
        let words = [self.node.id, offset, length];
        let judged = self
            .disk
            .begin(Operation::Read, &self.path, words, pages(length))?;
        self.warm(offset, length);
        let count = self.node.content.lock().read(buffer, offset);
        self.disk.end(&judged, Ok(count))
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let total = pieces.iter().map(|piece| piece.len()).sum();
        let words = [self.node.id, offset, fingerprint(pieces, total)];
        self.write(words, total, |content, limit| {
            content.write(pieces, offset, limit)
        })
    }

    /// Takes no room: only the call is judged, and its failure.
    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.check_writable()?;
        let words = [self.node.id, range.start, range.end];
        let judged = self.disk.begin(Operation::Reserve, &self.path, words, 0)?;
        self.disk.end(&judged, Ok(()))
    }

    fn fill(&self, range: Range<u64>) -> io::Result<()> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let words = [self.node.id, range.start, range.end];
        let written = self.write(words, length, |content, limit| {
            content.fill(range.start, limit)
        })?;
        if written < length {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let length = self.node.content.lock().length();
        let words = [self.node.id, length, 0];
        let judged = self.disk.begin(Operation::Sync, &self.path, words, 0)?;
        if judged.takes_effect() {
            self.node.content.lock().sync();
        } else if matches!(judged.verdict, Verdict::Fails(_)) {
            let mut state = self.disk.core.state.lock();
            self.node.content.lock().sync_and_fail(&mut state.rng);
        }
        self.disk.end(&judged, Ok(()))
    }

    fn rewrite(&self, range: Range<u64>, _scratch: &mut Vec<u8>) -> io::Result<()> {
        self.check_writable()?;
        let length = self.node.content.lock().length();
        if range.end > length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let words = [self.node.id, range.start, bytes as u64];
        let cost = pages(bytes as u64);
        let judged = self.disk.begin(Operation::Write, &self.path, words, cost)?;
        let (first, end) = (range.start / PAGE as u64, pages(range.end));
        {
            let mut content = self.node.content.lock();
            match judged.verdict {
                Verdict::Whole | Verdict::Short => content.rewrite(first, end),
                Verdict::Fails(_) | Verdict::Dies(_) => {
                    let done = judged.write_limit(bytes) as u64 / PAGE as u64;
                    content.rewrite(first, first + done);
                }
            }
            // A block is written as a whole; the end of the file is put right afterwards.
            if matches!(judged.verdict, Verdict::Dies(_)) && judged.takes_effect() {
                content.set_length(length.max(end * PAGE as u64));
            }
        }
        self.disk.end(&judged, Ok(()))
    }

    fn length(&self) -> io::Result<u64> {
        let length = self.node.content.lock().length();
        let words = [self.node.id, length, 0];
        let judged = self.disk.begin(Operation::Look, &self.path, words, 0)?;
        self.disk.end(&judged, Ok(length))
    }

    fn modified(&self) -> io::Result<Millis> {
        let modified = self.node.content.lock().modified;
        let words = [self.node.id, modified.0.cast_unsigned(), 1];
        let judged = self.disk.begin(Operation::Look, &self.path, words, 0)?;
        self.disk.end(&judged, Ok(modified))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.check_writable()?;
        let words = [self.node.id, length, 0];
        let judged = self
            .disk
            .begin(Operation::SetLength, &self.path, words, 0)?;
        if judged.takes_effect() {
            self.disk.core.touch(&self.node);
            self.node.content.lock().set_length(length);
        }
        self.disk.end(&judged, Ok(()))
    }

    fn residency(&self, offset: u64, length: u64) -> Residency {
        let mut state = self.disk.core.state.lock();
        let state = &mut *state;
        let cold = self.node.content.lock().cold_pages(offset, length) > 0
            || state.faults.pretends_cold(&self.path, &mut state.rng);
        if cold {
            Residency::Cold
        } else {
            Residency::Hot
        }
    }

    fn read_ahead(&self, offset: u64, length: u64) -> io::Result<Vec<Range<u64>>> {
        let words = [self.node.id, offset, length];
        let judged = self.disk.begin(Operation::Read, &self.path, words, 0)?;
        let missing = self.missing(offset, length);
        self.warm(offset, length);
        self.disk.end(&judged, Ok(missing))
    }

    /// The device has read it before anybody asks for it.
    fn prefetch(&self, offset: u64, length: u64) -> Vec<Range<u64>> {
        if self.disk.check_alive().is_err() {
            return Vec::new();
        }
        let missing = self.missing(offset, length);
        self.node.content.lock().warm(offset, length);
        missing
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        if self.disk.check_alive().is_ok() {
            self.node.content.lock().cool(offset, length);
        }
    }

    fn descriptor(&self) -> Option<RawFd> {
        None
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE as u64)
}

/// The length of a write, and its first bytes: enough for a trace to tell runs apart.
fn fingerprint(pieces: &[IoSlice<'_>], total: usize) -> u64 {
    let first = pieces.iter().flat_map(|piece| piece.iter()).take(64);
    first.fold(total as u64, |print, byte| {
        print.rotate_left(9) ^ u64::from(*byte)
    })
}

/// A map of a simulated file: reads what the file holds now.
pub(super) struct SimIndexMap {
    node: Arc<FileNode>,
    length: usize,
}

impl SimIndexMap {
    pub(super) fn new(node: Arc<FileNode>, length: usize) -> Self {
        Self { node, length }
    }
}

impl IndexMap for SimIndexMap {
    fn length(&self) -> usize {
        self.length
    }

    /// # Panics
    /// Also if the file was cut below the map, which would be SIGBUS in the real world.
    fn read(&self, at: usize, out: &mut [u8]) {
        let end = at.checked_add(out.len());
        assert!(
            end.is_some_and(|end| end <= self.length),
            "index map of {} bytes read at {at} for {}",
            self.length,
            out.len()
        );
        let read = self.node.content.lock().read(out, at as u64);
        assert_eq!(
            read,
            out.len(),
            "SIGBUS: the file was cut below its map of {}",
            self.length
        );
    }
}
