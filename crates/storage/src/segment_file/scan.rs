//! The walk over the frames of a file.
//!
//! Input: a file, a range of it, and the caller's knowledge of frames. Output: where the last whole
//! frame ends, and what is wrong with the bytes behind it.
//!
//! Invariants:
//! - memory follows the bytes that are really there: a frame that claims to pass the end of the
//!   range is torn and is not read;
//! - the walk advances by at least one head per frame, so that no content makes it endless.
//!
//! Source: none.

use std::ops::Range;
use std::path::Path;

use skein_env::File;

use crate::StorageError;

/// Bytes read at once where whole frames are wanted.
const READ_BYTES: usize = 256 * 1024;
/// Bytes read at once behind a frame that was skipped: its neighbour is probably skipped too.
const READ_AFTER_SKIP_BYTES: usize = 4 * 1024;

/// What the caller knows of its frames.
pub trait Frames {
    /// Bytes at the start of a frame that tell its length.
    fn head_bytes(&self) -> usize;

    /// Judges a frame by its head, which begins at `position` and is [`Frames::head_bytes`] long.
    /// The rest of the frame may be missing: learn nothing from it yet.
    fn head(&mut self, position: u64, head: &[u8]) -> Head;

    /// Takes in a frame that is there in full: all of it after [`Head::Read`], its head after
    /// [`Head::Skip`].
    ///
    /// # Errors
    /// What is wrong with it.
    fn body(&mut self, position: u64, frame: &[u8]) -> Result<(), &'static str>;
}

/// What a head says of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The frame has this many bytes, head included; [`Frames::body`] must see them all.
    Read(u64),
    /// The frame has this many bytes, head included; the head is enough.
    Skip(u64),
    /// The walk ends before this frame, which is good.
    Stop,
    /// These bytes are no frame, for this reason.
    Bad(&'static str),
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Frames walked over.
    pub frames: u64,
    /// End of the last good frame, in bytes.
    pub end: u64,
    /// What is wrong with the bytes at `end`; `None` if the walk reached the end of the range or
    /// was stopped.
    pub fault: Option<&'static str>,
}

/// Walks the frames of `file` in `range`; `path` is for errors.
///
/// # Errors
/// What the disk says. A bad or torn frame is no error.
pub fn scan_frames(
    file: &dyn File,
    path: &Path,
    range: Range<u64>,
    frames: &mut dyn Frames,
) -> Result<Scan, StorageError> {
    let mut window = Window::new(file, path, range.end);
    let mut scan = Scan {
        frames: 0,
        end: range.start,
        fault: None,
    };
    let mut read_bytes = READ_BYTES;
    while scan.end < range.end {
        let head_bytes = frames.head_bytes();
        let Some(head) = window.get(scan.end, head_bytes, read_bytes)? else {
            scan.fault = Some("the file ends within a head");
            break;
        };
        let verdict = frames.head(scan.end, head);
        let length = match verdict {
            Head::Read(length) | Head::Skip(length) => length,
            Head::Stop => break,
            Head::Bad(reason) => {
                scan.fault = Some(reason);
                break;
            }
        };
        if length < head_bytes as u64 {
            scan.fault = Some("the length is smaller than the head");
            break;
        }
        if length > range.end - scan.end {
            scan.fault = Some("the file ends within a frame");
            break;
        }
        let wanted = match verdict {
            Head::Read(_) => usize::try_from(length).unwrap_or(usize::MAX),
            _ => head_bytes,
        };
        read_bytes = if wanted > head_bytes {
            READ_BYTES
        } else {
            READ_AFTER_SKIP_BYTES
        };
        let Some(frame) = window.get(scan.end, wanted, read_bytes)? else {
            scan.fault = Some("the file ends within a frame");
            break;
        };
        if let Err(reason) = frames.body(scan.end, frame) {
            scan.fault = Some(reason);
            break;
        }
        scan.end += length;
        scan.frames += 1;
    }
    Ok(scan)
}

/// Whether the bytes of `file` in `range` are all zero; `path` is for errors.
///
/// # Errors
/// What the disk says.
pub(super) fn is_zero(
    file: &dyn File,
    path: &Path,
    range: Range<u64>,
) -> Result<bool, StorageError> {
    let mut window = Window::new(file, path, range.end);
    let mut at = range.start;
    while at < range.end {
        let length = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let length = length.min(READ_BYTES);
        match window.get(at, length, READ_BYTES)? {
            Some(bytes) if bytes.iter().all(|byte| *byte == 0) => at += length as u64,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// A part of the file in memory, which moves forward.
struct Window<'a> {
    file: &'a dyn File,
    path: &'a Path,
    /// No byte from here on is read.
    end: u64,
    /// Position in the file of the first of `bytes`.
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File, path: &'a Path, end: u64) -> Self {
        Self {
            file,
            path,
            end,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The `length` bytes at `position`; `None` if the range ends before. What is not in memory is
    /// read, `read_bytes` at once if there are as many.
    fn get(
        &mut self,
        position: u64,
        length: usize,
        read_bytes: usize,
    ) -> Result<Option<&[u8]>, StorageError> {
        let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
        if length > left {
            return Ok(None);
        }
        if !self.holds(position, length) {
            let wanted = length.max(read_bytes).min(left);
            self.fill(position, wanted)?;
        }
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).and_then(|rest| rest.get(..length)))
    }

    fn holds(&self, position: u64, length: usize) -> bool {
        position >= self.start && position + length as u64 <= self.start + self.bytes.len() as u64
    }

    fn fill(&mut self, position: u64, wanted: usize) -> Result<(), StorageError> {
        self.start = position;
        self.bytes.resize(wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            let at = position + filled as u64;
            match self.file.read_at(&mut self.bytes[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(source) => {
                    self.bytes.clear();
                    return Err(StorageError::io_at("read", self.path, at, source));
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
