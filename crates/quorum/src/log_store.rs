//! The log as Raft sees it: entries in memory, made durable by one writer.
//!
//! Input: openraft's calls. Output: entries at once, acknowledgements after the flush.
//!
//! Invariants:
//! - every write goes through one queue to one writer, which finishes it before the next: votes and
//!   entries reach the disk in the order in which Raft made them;
//! - an acknowledgement comes after the flush of everything before it; what waits meanwhile is
//!   written together and flushed once;
//! - the entries in memory are those behind the last purge: snapshots bound them.
//!
//! Source: openraft's `RaftLogStorage`.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use skein_env::Env;
use skein_metadata::LogId;
use tokio::sync::{mpsc, oneshot};

use crate::log_files::Recovered;
use crate::types::{RaftEntryOf, RaftLogId, RaftVote, TypeConfig, log_id, log_id_of, raft_log_id};

mod writer;

use writer::{Write, Writer};

/// Writes that may wait for the disk.
const WRITES_QUEUED_MAX: usize = 256;
/// Bytes of entries that one read for replication returns, more or less.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The log. Clones are handles of the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    memory: Arc<Mutex<Memory>>,
    writes: mpsc::Sender<Write>,
}

struct Memory {
    vote: Option<RaftVote>,
    /// Without a gap, behind `purged`.
    entries: VecDeque<RaftEntryOf>,
    purged: Option<LogId>,
    /// Bytes of records appended since the start; what was found counts.
    appended_bytes: u64,
}

impl LogStore {
    /// The log that was found on disk, and a signal for when its files are closed: after the last
    /// handle is gone and everything is written.
    pub(crate) fn new(
        env: &Env,
        recovered: Recovered,
        vote: Option<RaftVote>,
    ) -> (Self, oneshot::Receiver<()>) {
        let Recovered {
            files,
            entries,
            purged,
            ..
        } = recovered;
        let appended_bytes = entries.iter().map(bytes_of).sum();
        let memory = Arc::new(Mutex::new(Memory {
            vote,
            entries,
            purged,
            appended_bytes,
        }));
        let (writes, queue) = mpsc::channel(WRITES_QUEUED_MAX);
        let closed = Writer::start(env, files, queue);
        (Self { memory, writes }, closed)
    }

    /// Bytes of records appended since the start.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.memory.lock().appended_bytes
    }

    async fn write(
        &self,
        make: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Write,
    ) -> io::Result<()> {
        let (done, result) = oneshot::channel();
        self.writes.send(make(done)).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?
    }
}

impl Memory {
    /// Index of the first entry, there or to come.
    fn first_index(&self) -> u64 {
        match (self.entries.front(), self.purged) {
            (Some(first), _) => log_id_of(first).index,
            (None, purged) => purged.map_or(0, |purged| purged.index + 1),
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(log_id_of).or(self.purged)
    }

    fn append(&mut self, entries: &[RaftEntryOf]) -> io::Result<()> {
        for entry in entries {
            let index = log_id_of(entry).index;
            // An empty log may begin anywhere.
            if self.last().is_some_and(|last| index != last.index + 1) {
                return Err(io::Error::other(format!("entry {index} would leave a gap")));
            }
            self.appended_bytes += bytes_of(entry);
            self.entries.push_back(entry.clone());
        }
        Ok(())
    }

    fn truncate(&mut self, end_index: u64) {
        while self
            .entries
            .back()
            .is_some_and(|last| log_id_of(last).index >= end_index)
        {
            self.entries.pop_back();
        }
    }

    fn purge(&mut self, upto: LogId) {
        while self
            .entries
            .front()
            .is_some_and(|first| log_id_of(first).index <= upto.index)
        {
            self.entries.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// The entries from `start` to before `end`, at least one of them and then as many as fit.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> Vec<RaftEntryOf> {
        let skip = usize::try_from(start.saturating_sub(self.first_index())).unwrap_or(usize::MAX);
        let mut bytes = 0;
        self.entries
            .iter()
            .skip(skip)
            .take_while(|entry| log_id_of(entry).index < end)
            .take_while(|entry| {
                let fits = bytes < bytes_max as u64;
                bytes += bytes_of(entry);
                fits
            })
            .cloned()
            .collect()
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<RaftEntryOf>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.memory.lock().read(start, end, usize::MAX))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntryOf>> {
        Ok(self.memory.lock().read(start, end, READ_BYTES_MAX))
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.memory.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let memory = self.memory.lock();
        Ok(LogState {
            last_purged_log_id: memory.purged.map(raft_log_id),
            last_log_id: memory.last().map(raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let vote = *vote;
        self.write(|done| Write::Vote { vote, done }).await?;
        self.memory.lock().vote = Some(vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntryOf> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        self.memory.lock().append(&entries)?;
        let append = Write::Append {
            entries,
            done: callback,
        };
        self.writes.send(append).await.map_err(|_| stopped())
    }

    async fn truncate_after(&mut self, last_log_id: Option<RaftLogId>) -> io::Result<()> {
        let after = last_log_id.as_ref().map(log_id);
        self.memory
            .lock()
            .truncate(after.map_or(0, |after| after.index + 1));
        self.write(|done| Write::Truncate { after, done }).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = log_id(&upto);
        self.memory.lock().purge(upto);
        self.write(|done| Write::Purge { upto, done }).await
    }
}

fn bytes_of(entry: &RaftEntryOf) -> u64 {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.encoded.len() as u64,
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log's writer has ended")
}

#[cfg(test)]
mod tests;
