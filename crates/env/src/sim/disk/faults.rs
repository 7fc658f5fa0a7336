//! Which disk calls go wrong, and how.
//!
//! Input: a test's plan, the seed, each call. Output: a verdict on it.
//!
//! Invariant: with no plan no call fails and every write is whole.
//!
//! Source: none.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use crate::sim::rng::SimRng;

/// What a disk call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `open`, `lock`, `map_index`.
    Open,
    /// `stat`, `length`, `read_directory`, `space`: looks at names and sizes.
    Look,
    /// `read_at`, `read_ahead`.
    Read,
    /// `write_at`.
    Write,
    /// `set_length`.
    SetLength,
    /// `reserve`.
    Reserve,
    /// `sync_data`.
    Sync,
    /// `create_directory`, `rename`, `remove_file`, `remove_directory`, and creating by `open`.
    Name,
    /// `sync_directory`.
    SyncDirectory,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed during the call, whose effect may be there or not, or in part.
    Kill,
    /// The machine loses power during the call.
    PowerCut,
    /// The call fails with EIO. A write may have written a part; a flush loses some pages for good.
    Eio,
    /// The call fails with ENOSPC. A write may have written a part.
    NoSpace,
    /// A write writes a part and says so; another call is not touched.
    ShortWrite,
}

/// Faults at random. A probability is "once in so many calls"; 0 is never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Only for paths that contain this; empty: for all.
    pub path_contains: String,
    /// Reads that fail with EIO.
    pub read_eio_one_in: u32,
    /// Writes that fail with EIO.
    pub write_eio_one_in: u32,
    /// Flushes, of files and directories, that fail with EIO.
    pub sync_eio_one_in: u32,
    /// Writes that are short.
    pub short_write_one_in: u32,
    /// Hot ranges that are called cold.
    pub false_cold_one_in: u32,
}

/// Simulated time of disk calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpeed {
    /// Of every call.
    pub call: Duration,
    /// Of every 4 KiB page that is read from the device.
    pub cold_page: Duration,
    /// Of every 4 KiB page that is copied.
    pub page: Duration,
    /// The longest flush; each takes from a fifth of it to all of it, by the seed.
    pub sync_max: Duration,
}

impl Default for DiskSpeed {
    fn default() -> Self {
        Self {
            call: Duration::from_micros(5),
            cold_page: Duration::from_micros(100),
            page: Duration::from_micros(1),
            sync_max: Duration::from_millis(2),
        }
    }
}

/// How a call of this kind on that path goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    Short,
    Fails(Errno),
    Dies(Death),
}

/// How a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process ends; the machine and its page cache live on.
    Kill,
    /// The machine loses power: what was not flushed may be lost.
    PowerCut,
}

/// All that a test has asked for.
#[derive(Default)]
pub(super) struct Faults {
    plan: FaultPlan,
    /// The call with this number fails so.
    at_call: Option<(u64, Fault)>,
    rules: Vec<Rule>,
    pub(super) speed: DiskSpeed,
    pub(super) stalled_until: Option<Instant>,
}

/// The next `times` calls of a kind on a path fail.
struct Rule {
    path_contains: String,
    operation: Operation,
    fault: Fault,
    times: u64,
}

impl Faults {
    pub(super) fn set_plan(&mut self, plan: FaultPlan) {
        self.plan = plan;
    }

    pub(super) fn set_at_call(&mut self, at: Option<(u64, Fault)>) {
        self.at_call = at;
    }

    pub(super) fn add_rule(&mut self, path: &str, operation: Operation, fault: Fault, times: u64) {
        self.rules.push(Rule {
            path_contains: path.into(),
            operation,
            fault,
            times,
        });
    }

    /// Ends the plan, the rules and the stall; the speed stays.
    pub(super) fn heal(&mut self) {
        *self = Self {
            speed: self.speed,
            ..Self::default()
        };
    }

    /// Judges call number `number`.
    pub(super) fn judge(
        &mut self,
        number: u64,
        operation: Operation,
        path: &Path,
        rng: &mut SimRng,
    ) -> Verdict {
        if let Some((_, fault)) = self.at_call.take_if(|(at, _)| *at == number) {
            return verdict(fault, operation);
        }
        if let Some(fault) = self.apply_rules(operation, path) {
            return verdict(fault, operation);
        }
        let plan = &self.plan;
        let (eio_one_in, short_one_in) = match operation {
            Operation::Read => (plan.read_eio_one_in, 0),
            Operation::Write => (plan.write_eio_one_in, plan.short_write_one_in),
            Operation::Sync | Operation::SyncDirectory => (plan.sync_eio_one_in, 0),
            _ => (0, 0),
        };
        if (eio_one_in, short_one_in) == (0, 0) || !contains(path, &plan.path_contains) {
            return Verdict::Whole;
        }
        if rng.chance(eio_one_in) {
            Verdict::Fails(Errno::IO)
        } else if rng.chance(short_one_in) {
            Verdict::Short
        } else {
            Verdict::Whole
        }
    }

    /// Whether a hot range of the file is to be called cold.
    pub(super) fn pretends_cold(&self, path: &Path, rng: &mut SimRng) -> bool {
        self.plan.false_cold_one_in != 0
            && contains(path, &self.plan.path_contains)
            && rng.chance(self.plan.false_cold_one_in)
    }

    fn apply_rules(&mut self, operation: Operation, path: &Path) -> Option<Fault> {
        let index = self
            .rules
            .iter()
            .position(|rule| rule.operation == operation && contains(path, &rule.path_contains))?;
        let rule = &mut self.rules[index];
        let fault = rule.fault;
        rule.times = rule.times.saturating_sub(1);
        if rule.times == 0 {
            self.rules.remove(index);
        }
        Some(fault)
    }
}

fn contains(path: &Path, part: &str) -> bool {
    part.is_empty() || path.to_string_lossy().contains(part)
}

fn verdict(fault: Fault, operation: Operation) -> Verdict {
    match fault {
        Fault::Kill => Verdict::Dies(Death::Kill),
        Fault::PowerCut => Verdict::Dies(Death::PowerCut),
        Fault::Eio => Verdict::Fails(Errno::IO),
        Fault::NoSpace => Verdict::Fails(Errno::NOSPC),
        Fault::ShortWrite if operation == Operation::Write => Verdict::Short,
        Fault::ShortWrite => Verdict::Whole,
    }
}
