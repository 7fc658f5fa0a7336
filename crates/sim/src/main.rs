//! The command `skein-sim`: simulates nodes, each from its own seed.
//!
//! Input: which seeds. Output: a line per run that fails, with the invariant, what led there, and
//! how to see it again; at the end, how much was simulated and how fast. The exit code is 1 if a
//! run failed.
//!
//! ```text
//! skein-sim --seeds 2000 --first-seed 1   many runs
//! skein-sim --seeds 2000 --coverage       and what the node did under which fault
//! skein-sim --seed 7 --trace              one run, every event as it happens
//! skein-sim --seed 7 --world-log          one run, then its disk calls, segments and polls
//! skein-sim --seed 7 --shrink             one run that fails, as small as it can be
//! skein-sim --mutations                   is every bug on purpose found?
//! skein-sim --nodes 3 …                   the same with a cluster of three nodes
//! ```
//!
//! Source: none.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command talks to people"
)]

mod args;
mod report;
mod shrink;
mod teeth;

use std::process::ExitCode;

use args::Args;
use report::Totals;
use skein_sim::{Coverage, Options};

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(message) => {
            eprintln!("skein-sim: {message}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    report::keep_panics();
    if args.trace {
        report::show_logs();
    }
    if args.mutations {
        return match teeth::show(args.nodes, args.first_seed, args.mutation) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
    }
    let options = Options {
        nodes: args.nodes,
        trace: args.trace,
        world_log: args.world_log,
        mutation: args.mutation,
        cuts: args.cuts,
    };
    if args.shrink {
        return shrink_and_tell(args.first_seed, &options);
    }
    let (mut totals, mut coverage) = (Totals::start(args.nodes), Coverage::default());
    for seed in args.first_seed..args.first_seed.saturating_add(args.seeds) {
        let run = || report::run_telling_panics(seed, &options);
        let outcome = match args.coverage {
            true => coverage.of(run),
            false => run(),
        };
        for line in &outcome.world_log {
            println!("{line}");
        }
        totals.add(&outcome);
        if outcome.failure.is_some() && !args.keep_going {
            break;
        }
    }
    if cfg!(tokio_unstable) && !totals.has_failures() {
        let again = report::run_telling_panics(
            args.first_seed,
            &Options {
                trace: false,
                ..options
            },
        );
        totals.compare(&again);
    }
    if args.coverage {
        for line in coverage.lines() {
            println!("{line}");
        }
    }
    totals.print();
    if args.coverage && coverage.is_empty() {
        println!("the node has counted nothing");
        return ExitCode::FAILURE;
    }
    if totals.has_failures() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// The smallest run that fails, with what led there.
fn shrink_and_tell(seed: u64, options: &Options) -> ExitCode {
    let Some(smallest) = shrink::shrink(seed, options) else {
        println!("seed {seed} breaks nothing");
        return ExitCode::SUCCESS;
    };
    if let Some(failure) = &smallest.failure {
        for line in &failure.history {
            println!("  {line}");
        }
        println!(
            "seed {seed}: {} is broken: {}",
            failure.invariant, failure.text
        );
    }
    ExitCode::FAILURE
}
