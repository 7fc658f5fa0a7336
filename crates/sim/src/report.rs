//! What the command tells of its runs.
//!
//! Input: outcomes; a panic. Output: lines for people.
//!
//! Invariant: whatever ends a run, its seed is told.
//!
//! Source: none.

use std::backtrace::Backtrace;
use std::panic::{catch_unwind, set_hook};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use skein_sim::{Options, Outcome, run, running};

/// The last panic, of whichever process.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Sums over all runs.
pub(crate) struct Totals {
    nodes: usize,
    started: Instant,
    cpu_started: Duration,
    runs: u64,
    operations: u64,
    simulated: Duration,
    trace_hash: u64,
    /// Seed and trace hash of the first run.
    first: Option<(u64, u64)>,
    failed: Vec<u64>,
}

impl Totals {
    /// Sums of nothing; the clocks start.
    pub(crate) fn start(nodes: usize) -> Self {
        Self {
            nodes,
            started: Instant::now(),
            cpu_started: cpu_time(),
            runs: 0,
            operations: 0,
            simulated: Duration::ZERO,
            trace_hash: 0,
            first: None,
            failed: Vec::new(),
        }
    }

    /// Adds a run, and tells of its failure.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.first.get_or_insert((outcome.seed, outcome.trace_hash));
        self.operations += outcome.operations;
        self.simulated += outcome.simulated;
        self.trace_hash = self.trace_hash.rotate_left(1) ^ outcome.trace_hash;
        let Some(failure) = &outcome.failure else {
            return;
        };
        self.failed.push(outcome.seed);
        for line in &failure.history {
            println!("  {line}");
        }
        println!(
            "seed {}: {} is broken: {}",
            outcome.seed, failure.invariant, failure.text
        );
        match self.nodes {
            1 => println!(
                "seed {}: see it again with: {}; or smaller, with: {}",
                outcome.seed,
                replay(outcome.seed, "--trace"),
                replay(outcome.seed, "--shrink")
            ),
            nodes => println!(
                "seed {}: see it again with: {} NODES={nodes}",
                outcome.seed,
                replay(outcome.seed, "--trace")
            ),
        }
    }

    /// Compares a second run of the first seed with the first run.
    pub(crate) fn compare(&mut self, again: &Outcome) {
        let Some((seed, trace_hash)) = self.first else {
            return;
        };
        if seed == again.seed && trace_hash != again.trace_hash {
            println!("seed {seed}: a second run was another: something is not decided by the seed");
            self.failed.push(seed);
        }
    }

    pub(crate) fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Prints the sums.
    pub(crate) fn print(&self) {
        let cpu = cpu_time().saturating_sub(self.cpu_started).as_secs_f64();
        let wall = self.started.elapsed().as_secs_f64();
        let rate = per_second(self.operations, cpu);
        println!(
            "{} seeds, {} failed; {} client operations in {:.0} simulated seconds; {cpu:.1} s CPU, \
             {wall:.1} s wall; {rate:.0} operations per CPU second",
            self.runs,
            self.failed.len(),
            self.operations,
            self.simulated.as_secs_f64(),
        );
        println!(
            "trace hash {:016x}, the same in every run of these seeds",
            self.trace_hash
        );
        if !self.failed.is_empty() {
            println!("failed seeds: {:?}", self.failed);
        }
    }
}

/// Runs a seed. A panic of the node is a failure like any other; of a process that the simulation
/// killed it is none, so only what ends the run is told.
pub(crate) fn run_telling_panics(seed: u64, options: &Options) -> Outcome {
    let result = catch_unwind(|| run(seed, options));
    result.unwrap_or_else(|_| {
        let history = running().map_or_else(Vec::new, |(_, history)| history);
        let text = LAST_PANIC
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Outcome::of_panic(seed, text, history)
    })
}

/// Keeps panics for [`run_telling_panics`]; where they cannot be caught, tells of them at once.
pub(crate) fn keep_panics() {
    set_hook(Box::new(|panic| {
        let text = format!("{panic}\n{}", Backtrace::force_capture());
        if cfg!(panic = "abort") {
            let (seed, history) = running().unwrap_or_default();
            for line in history {
                println!("  {line}");
            }
            println!("seed {seed}: {text}");
        }
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }));
}

/// Prints the node's own log.
pub(crate) fn show_logs() {
    tracing_subscriber::fmt()
        .without_time()
        .with_writer(std::io::stderr)
        .init();
}

fn replay(seed: u64, arguments: &str) -> String {
    format!("make sim SEED={seed} ARGS={arguments}")
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}
