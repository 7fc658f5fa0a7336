//! Bringing to the device what only the page cache may hold.
//!
//! Input: a range of a file. Output: its bytes on the device, where they were.
//!
//! ```text
//!           block      block      block
//!   file   ├─────────┼──────────┼─────────┤╌╌╌
//!   range       ├───────────────────┤          ends with the file
//!   direct ├──────────────────────────────┤    zeros at the end, which are cut off again
//! ```
//!
//! Why not through the page cache: a page whose write-back failed is clean there, and remembers
//! that its blocks were allocated. Ext4 (seen on Linux 6.18; since 6.15) leaves the blocks of a
//! failed write-back marked as never written, and a second write through such a page does not
//! change that: it is flushed with success, and reads as zeros once the page has left the cache. To
//! drop the page first helps only while nobody holds it, and a `sendfile` in flight does. A direct
//! write looks the blocks up in the file system, and takes the page out of the cache whoever holds
//! it.
//!
//! Invariants:
//! - the file is as long afterwards as it was before;
//! - bytes are taken from the page cache, where they are newest, and not from the device.
//!
//! Source: `open(2)` (`O_DIRECT`); Rebello et al., "Can Applications Recover from fsync Failures?"
//! (ATC 2020).

use std::fs;
use std::io;
use std::io::IoSlice;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{RealFile, retry};
use crate::File;

/// What a direct write begins and ends with, in memory and in the file: no device asks for more.
const BLOCK: usize = 4096;

impl RealFile {
    pub(super) fn rewrite_blocks(
        &self,
        range: &Range<u64>,
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let length = self.length()?;
        let start = range.start / BLOCK as u64 * BLOCK as u64;
        let end = range.end.next_multiple_of(BLOCK as u64);
        let size = usize::try_from(end - start).map_err(|_| io::ErrorKind::InvalidInput)?;
        let blocks = aligned(scratch, size);
        let filled = self.read_at(blocks, start)?;
        if start + (filled as u64) < range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        blocks[filled..].fill(0);
        match self.write_directly(blocks, start) {
            Err(error) if is_unsupported(&error) => self.write_again(&blocks[..filled], start),
            written => {
                if start + size as u64 > length {
                    self.set_length(length)?;
                }
                written
            }
        }
    }

    fn write_directly(&self, blocks: &[u8], start: u64) -> io::Result<()> {
        // The same file, whatever it is called by now.
        let file = fs::OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        let mut done = 0;
        while done < blocks.len() {
            let at = start + done as u64;
            match retry(|| rustix::io::pwrite(&file, &blocks[done..], at))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// For file systems without direct writes, which are memory or write a changed page elsewhere.
    fn write_again(&self, bytes: &[u8], start: u64) -> io::Result<()> {
        self.drop_cache(start, bytes.len() as u64);
        let mut done = 0;
        while done < bytes.len() {
            match self.write_at(&[IoSlice::new(&bytes[done..])], start + done as u64)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }
}

/// `size` bytes of `scratch` that begin where a direct write may.
fn aligned(scratch: &mut Vec<u8>, size: usize) -> &mut [u8] {
    if scratch.len() < size + BLOCK {
        scratch.resize(size + BLOCK, 0);
    }
    let from = scratch.as_ptr().align_offset(BLOCK);
    &mut scratch[from..from + size]
}

/// Whether direct writes are refused here at all: by the file system, or because there is no
/// `/proc` to open the file through.
fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)
        )
}
