//! The one that writes the log.
//!
//! Input: writes, in the order of the queue. Output: their effects on disk, then their
//! acknowledgements; and when nobody can write any more, where the log ends.
//!
//! Invariants: one turn at a time is on a thread that may block, so Raft never waits for the disk
//! unless it asks to; within a turn consecutive appends share one flush, and every other write
//! comes after the flush of what is before it.
//!
//! Source: group commit.

use std::io;

use openraft::storage::IOFlushed;
use skein_env::{Env, Lane};
use skein_metadata::LogId;
use tokio::sync::{mpsc, oneshot};

use crate::QuorumError;
use crate::log_files::LogFiles;
use crate::types::{RaftEntryOf, RaftVote, TypeConfig};

/// Writes that one turn takes.
const WRITES_PER_TURN_MAX: usize = 64;

/// A write, and whom to tell.
pub(super) enum Write {
    Append {
        entries: Vec<RaftEntryOf>,
        done: IOFlushed<TypeConfig>,
    },
    Vote {
        vote: RaftVote,
        done: oneshot::Sender<io::Result<()>>,
    },
    Truncate {
        after: Option<LogId>,
        done: oneshot::Sender<io::Result<()>>,
    },
    Purge {
        upto: LogId,
        done: oneshot::Sender<io::Result<()>>,
    },
}

/// A write that was tried.
enum Outcome {
    Flushed(IOFlushed<TypeConfig>, io::Result<()>),
    Done(oneshot::Sender<io::Result<()>>, io::Result<()>),
}

pub(super) struct Writer {
    env: Env,
    queue: mpsc::Receiver<Write>,
}

impl Writer {
    /// Starts a writer; the result tells when it has closed the files.
    pub(super) fn start(
        env: &Env,
        files: LogFiles,
        queue: mpsc::Receiver<Write>,
    ) -> oneshot::Receiver<()> {
        let (closed, is_closed) = oneshot::channel();
        let writer = Self {
            env: env.clone(),
            queue,
        };
        let task = Box::pin(async move {
            writer.run(files).await;
            // Nobody may be waiting.
            let _ = closed.send(());
        });
        let _task = env.spawn.spawn(Lane::Control, "quorum log", task);
        is_closed
    }

    async fn run(mut self, mut files: LogFiles) {
        let mut writes = Vec::new();
        while self.queue.recv_many(&mut writes, WRITES_PER_TURN_MAX).await > 0 {
            let turn = std::mem::take(&mut writes);
            let work = move || {
                let outcomes = execute(&mut files, turn);
                (files, outcomes)
            };
            let Some((returned, outcomes)) =
                self.env.offload_on(Lane::Control, "quorum log", work).await
            else {
                return; // the node is being killed
            };
            files = returned;
            for outcome in outcomes {
                match outcome {
                    Outcome::Flushed(done, result) => done.io_completed(result),
                    // Who asked may have gone.
                    Outcome::Done(done, result) => drop(done.send(result)),
                }
            }
        }
        let close = move || files.close();
        let closed = self
            .env
            .offload_on(Lane::Control, "quorum log", close)
            .await;
        if let Some(Err(error)) = closed {
            // What was acknowledged is flushed; the next start takes it for a crash.
            tracing::warn!(%error, "the metadata log was not closed in order");
        }
    }
}

fn execute(files: &mut LogFiles, turn: Vec<Write>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(turn.len());
    let mut unflushed = Vec::new();
    for write in turn {
        let (done, result) = match write {
            Write::Append { entries, done } => {
                let result = files.append(&entries);
                unflushed.push((done, result));
                continue;
            }
            Write::Vote { vote, done } => {
                flush(files, &mut unflushed, &mut outcomes);
                (done, files.save_vote(&vote))
            }
            Write::Truncate { after, done } => {
                flush(files, &mut unflushed, &mut outcomes);
                (done, files.truncate_after(after))
            }
            Write::Purge { upto, done } => {
                flush(files, &mut unflushed, &mut outcomes);
                (done, files.purge(upto))
            }
        };
        outcomes.push(Outcome::Done(done, result.map_err(QuorumError::into_io)));
    }
    flush(files, &mut unflushed, &mut outcomes);
    outcomes
}

/// Flushes the appends before; each is done only now.
fn flush(
    files: &mut LogFiles,
    unflushed: &mut Vec<(IOFlushed<TypeConfig>, Result<(), QuorumError>)>,
    outcomes: &mut Vec<Outcome>,
) {
    if unflushed.is_empty() {
        return;
    }
    // A file that failed an append refuses the flush too: nothing is acknowledged after a failure.
    let failed = files.flush().err().map(QuorumError::into_io);
    for (done, appended) in unflushed.drain(..) {
        let result = match (appended, &failed) {
            (Err(error), _) => Err(error.into_io()),
            (Ok(()), Some(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            (Ok(()), None) => Ok(()),
        };
        outcomes.push(Outcome::Flushed(done, result));
    }
}
