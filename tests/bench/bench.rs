//! `make bench` itself: a short run works, and of one that is interrupted nothing is left.
//!
//! Input: the `bench` program. Output: none; no number of so short a run means anything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use skein_tests::guardian::Guarded;
use skein_tests::{program, toolchain};

const RUN_TIMEOUT: Duration = Duration::from_secs(300);
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// One at a time: `bench` itself waits for another run to end.
fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.arg("--quick").args(arguments);
    command
}

#[test]
fn a_quick_run_measures_both_systems() {
    let directory = tempfile::tempdir().unwrap();
    let [report, charts] = ["report.json", "charts"].map(|name| directory.path().join(name));
    let arguments = [
        "--json",
        report.to_str().unwrap(),
        "--charts",
        charts.to_str().unwrap(),
    ];
    let finished = program::run(&mut bench(&arguments), RUN_TIMEOUT);
    assert!(finished.succeeded(), "{finished}");
    for row in [
        "produce 100 B",
        "consume 1 KiB, hot",
        "resident memory, idle",
    ] {
        assert!(finished.stdout.contains(row), "{finished}");
    }
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    let rows = report["results"].as_array().unwrap();
    assert!(rows.len() > 10, "{report}");
    for row in rows {
        let is_of_floor = row["metric"].as_str().unwrap().contains("Floor");
        let systems: &[&str] = match is_of_floor {
            true => &["skein"],
            false => &["kafka", "skein"],
        };
        for system in systems {
            let samples = row[system].as_array().unwrap();
            assert!(
                samples.len() == 1 && samples[0].as_f64().unwrap() >= 0.0,
                "{row}"
            );
        }
    }
    for chart in ["rate.svg", "cpu.svg", "time.svg", "memory.svg"] {
        let chart = fs::read_to_string(charts.join(chart)).unwrap();
        assert!(chart.contains("Kafka 4.1.1") && chart.contains("<circle"));
    }
}

#[test]
fn an_interrupt_leaves_no_process_and_no_data() {
    let directory = tempfile::tempdir().unwrap();
    let errors = directory.path().join("errors");
    let mut run = Guarded::spawn(
        bench(&["--system", "kafka", "--only", "produce-1k", "--gib", "0.5"])
            .stdout(Stdio::null())
            .stderr(File::create(&errors).unwrap()),
    )
    .unwrap();
    let id = run.id();
    let started = Instant::now();
    let mut children = BTreeSet::new();
    // The guardian, Kafka and the loader.
    while children.len() < 3 {
        assert!(
            started.elapsed() < RUN_TIMEOUT && !run.has_ended(),
            "{children:?} {}",
            fs::read_to_string(&errors).unwrap()
        );
        children = children_of(id);
        std::thread::sleep(POLL_INTERVAL);
    }
    let directories = node_directories();
    assert!(!directories.is_empty());
    run.signal(Signal::INT);
    run.wait();

    let interrupted = Instant::now();
    while children.iter().any(|id| is_alive(*id)) || directories.iter().any(|path| path.exists()) {
        assert!(
            interrupted.elapsed() < CLEAN_UP_TIMEOUT,
            "{children:?} {directories:?}"
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// What the run that has the lock finds and makes stays as it is.
#[test]
fn a_run_that_waits_touches_nothing() {
    let build = toolchain::workspace().join(".build");
    fs::create_dir_all(&build).unwrap();
    let path = build.join("bench.lock");
    let lock = File::create(&path).unwrap();
    lock.lock().unwrap();
    if build.join("bench").exists() {
        fs::remove_dir_all(build.join("bench")).unwrap();
    }
    let waiting = Guarded::spawn(&mut bench(&[])).unwrap();
    let started = Instant::now();
    while !has_open(waiting.id(), &path) {
        assert!(started.elapsed() < RUN_TIMEOUT && !waiting.has_ended());
        std::thread::sleep(POLL_INTERVAL);
    }
    assert!(!build.join("bench").exists());
}

fn has_open(process: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter();
    let mut open = open.flatten().flatten();
    open.any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
}

fn children_of(parent: u32) -> BTreeSet<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let children = children.split_whitespace();
    children.map(|id| id.parse().unwrap()).collect()
}

/// One that has ended and that nobody waits for is dead too.
fn is_alive(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// Of the run that holds the lock: this test's.
fn node_directories() -> Vec<PathBuf> {
    let entries = fs::read_dir(toolchain::workspace().join(".build/bench")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}
