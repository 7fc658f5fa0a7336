//! The files of a flush plan, and the threads that flush them.
//!
//! Input: files; threads that come to help. Output: all of them on the disk, or the first error.
//!
//! ```text
//!   plan's thread ──► next file ◄── helper     each takes the next file until none is left;
//!                         ▲                    the plan's thread then waits for those that are
//!                         └── helper           still in a flush
//! ```
//!
//! A device serves many flushes at a time, and a journalling file system makes one commit of those
//! that wait: thousands of files, one after the other, take as many commits.
//!
//! Invariants:
//! - whoever runs the plan works too: it ends without any helper, and a helper that comes late
//!   finds nothing to do;
//! - the plan ends when no helper is in a flush any more, and not before: else the next plan of the
//!   log could meet a file whose failure is about to be told to this one;
//! - a plan with a file that was not flushed fails, whoever met the error; no file is begun behind
//!   an error.
//!
//! Source: `fdatasync(2)`; the group commit of jbd2.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use skein_env::{File, OpenMode};

use crate::StorageError;
use crate::log::segment::Home;

/// Most threads beside the plan's own.
const HELPERS_MAX: usize = 15;

/// So many files are worth a helper: with fewer, the plan's own thread is done first.
const FILES_PER_HELPER: usize = 64;

/// Gets a thread for each helper that it is given, or drops it. Nobody waits for the thread.
pub type CallHelper<'a> = &'a dyn Fn(FlushHelper);

/// Flushes files of a plan on a thread of its own.
#[must_use = "it helps when it is run"]
pub struct FlushHelper(Arc<FlushWork>);

impl FlushHelper {
    /// Flushes one file after the other until none is left. Blocks for as long as the device takes.
    pub fn run(self) {
        self.0.take_part();
    }
}

/// The files of one plan.
pub(super) struct FlushWork {
    home: Arc<Home>,
    files: Vec<(PathBuf, Arc<dyn File>)>,
    /// Small files that nobody has open; they may be gone by now.
    paths: Vec<PathBuf>,
    state: Mutex<State>,
    /// Nobody is in a flush any more.
    is_idle: Condvar,
}

#[derive(Default)]
struct State {
    /// The first file that nobody has taken; those of `files` come first.
    next: usize,
    /// Files that are being flushed.
    running: usize,
    error: Option<StorageError>,
}

impl FlushWork {
    pub(super) fn new(
        home: Arc<Home>,
        files: Vec<(PathBuf, Arc<dyn File>)>,
        paths: Vec<PathBuf>,
    ) -> Arc<Self> {
        Arc::new(Self {
            home,
            files,
            paths,
            state: Mutex::default(),
            is_idle: Condvar::new(),
        })
    }

    /// Calls as many helpers as what is left is worth.
    pub(super) fn call(self: &Arc<Self>, helper: CallHelper<'_>) {
        let left = self.count() - self.state.lock().next;
        for _ in 0..(left / FILES_PER_HELPER).min(HELPERS_MAX) {
            helper(FlushHelper(Arc::clone(self)));
        }
    }

    /// Flushes what nobody else does, and waits for those who do. For the plan's own thread.
    pub(super) fn run(&self) -> Result<(), StorageError> {
        self.take_part();
        let mut state = self.state.lock();
        while state.running > 0 {
            self.is_idle.wait(&mut state);
        }
        state.error.take().map_or(Ok(()), Err)
    }

    /// Flushes one file after the other until none is left.
    pub(super) fn take_part(&self) {
        while let Some(at) = self.take() {
            let result = self.sync(at);
            self.done(result);
        }
    }

    fn count(&self) -> usize {
        self.files.len() + self.paths.len()
    }

    fn take(&self) -> Option<usize> {
        let mut state = self.state.lock();
        if state.next == self.count() {
            return None;
        }
        let at = state.next;
        state.next += 1;
        state.running += 1;
        Some(at)
    }

    fn done(&self, result: Result<(), StorageError>) {
        let mut state = self.state.lock();
        state.running -= 1;
        match result {
            Ok(()) => self.home.directory.note_flush_step(),
            Err(error) => {
                state.next = self.count();
                // The first one is the cause of the others.
                state.error.get_or_insert(error);
            }
        }
        if state.running == 0 {
            self.is_idle.notify_all();
        }
    }

    fn sync(&self, at: usize) -> Result<(), StorageError> {
        match self.files.get(at) {
            Some((path, file)) => file
                .sync_data()
                .map_err(|source| StorageError::io("flush", path, source)),
            None => match self.paths.get(at - self.files.len()) {
                Some(path) => self.sync_path(path),
                None => Ok(()),
            },
        }
    }

    fn sync_path(&self, path: &Path) -> Result<(), StorageError> {
        match self.home.disk().open(path, OpenMode::ReadWrite) {
            Ok(file) => file
                .sync_data()
                .map_err(|source| StorageError::io("flush", path, source)),
            // Retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StorageError::io("open", path, source)),
        }
    }
}
