//! What happened in a simulated world, as one number and, if asked for, as lines to read.
//!
//! Input: events. Output: a hash over all of them in their order, and the last lines.
//!
//! Invariant: the same seed gives the same hash; a run whose hash differs found something that is
//! not decided by the seed.
//!
//! Source: none.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::sim::rng::mix;

/// Lines kept; older ones are dropped.
const LOG_LINES_MAX: usize = 100_000;

/// The record of one run.
#[derive(Default)]
pub(super) struct Trace {
    state: Mutex<TraceState>,
}

#[derive(Default)]
struct TraceState {
    hash: u64,
    events: u64,
    log: Option<VecDeque<String>>,
}

impl Trace {
    /// Adds an event. `kind` and `words` count for the hash; `text` is made only for the log.
    pub(super) fn note(&self, kind: &str, words: &[u64], text: impl FnOnce() -> String) {
        let mut state = self.state.lock();
        let mut hash = kind.bytes().fold(state.hash, |hash, byte| {
            hash.rotate_left(7) ^ u64::from(byte)
        });
        for word in words {
            hash = mix(hash ^ word);
        }
        state.hash = mix(hash);
        state.events += 1;
        let number = state.events;
        if let Some(log) = &mut state.log {
            if log.len() == LOG_LINES_MAX {
                log.pop_front();
            }
            log.push_back(format!("{number} {kind} {}", text()));
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.state.lock().hash
    }

    pub(super) fn keep_log(&self) {
        self.state.lock().log.get_or_insert_default();
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.state.lock().log.iter().flatten().cloned().collect()
    }
}
