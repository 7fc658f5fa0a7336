//! `skein produce --follow` on real files: rotation, truncation, kills, files that cannot be read.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;
use skein_tests::guardian::Guarded;
use skein_tests::{Node, System, program};

use super::{PATIENCE, eventually, run, skein, text, values};

/// A log file and who follows it.
pub(crate) struct Following {
    directory: tempfile::TempDir,
    topic: &'static str,
    process: Option<Guarded>,
}

impl Following {
    pub(crate) fn new(node: &Node, topic: &'static str) -> Self {
        text(node, &format!("topic create {topic} --partitions 1"), "");
        Self {
            directory: tempfile::tempdir().unwrap(),
            topic,
            process: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn words(&self, more: &str) -> String {
        let (log, state) = (self.path("app.log"), self.path("state"));
        format!(
            "produce {} --follow {} --state {} --rotate-wait 0.3 --poll-interval 0.1 {more}",
            self.topic,
            log.display(),
            state.display(),
        )
    }

    pub(crate) fn start(&mut self, node: &Node, more: &str) {
        let told = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("told"))
            .unwrap();
        let mut command = skein(node, &self.words(more));
        command
            .stdin(Stdio::null())
            .stdout(told.try_clone().unwrap())
            .stderr(told);
        self.process = Some(Guarded::spawn(&mut command).unwrap());
    }

    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        process.signal(signal);
        process.wait()
    }

    /// What it said since the first start.
    pub(crate) fn told(&self) -> String {
        fs::read_to_string(self.path("told")).unwrap_or_default()
    }

    pub(crate) fn append(&self, text: &str) {
        append(&self.path("app.log"), text);
    }

    /// Renames as logrotate does, and makes the file anew.
    fn rotate(&self) {
        for number in (1..9).rev() {
            let from = self.path(&format!("app.log.{number}"));
            if from.exists() {
                fs::rename(from, self.path(&format!("app.log.{}", number + 1))).unwrap();
            }
        }
        fs::rename(self.path("app.log"), self.path("app.log.1")).unwrap();
        File::create(self.path("app.log")).unwrap();
    }

    /// Renames as log4j 2 does, whose numbers rise. The next file is made at another time, by the
    /// ticks of the file system's clock.
    fn rotate_to(&self, number: u32) {
        let former = self.path(&format!("app.log.{number}"));
        fs::rename(self.path("app.log"), &former).unwrap();
        let made = |path: &Path| fs::metadata(path).unwrap().created().unwrap();
        let probe = self.path("probe");
        eventually("the next tick", || {
            let _ = fs::remove_file(&probe);
            File::create(&probe).unwrap();
            made(&probe) > made(&former)
        });
    }

    pub(crate) fn wait_for(&self, node: &Node, expected: &[&str]) {
        eventually(&self.told(), || values(node, self.topic) == expected);
    }

    fn wait_until_told(&self, what: &str) {
        eventually(what, || self.told().contains(what));
    }
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn numbers_of_former_files_may_rise() {
    let node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "rising");
    log.append("one\n");
    log.rotate_to(1);
    log.append("two\n");
    log.start(&node, "");
    log.wait_for(&node, &["two"]);
    assert!(log.end(Signal::TERM).success(), "{}", log.told());
    log.rotate_to(2);
    log.append("three\n");
    log.rotate_to(3);
    log.append("four\n");
    log.start(&node, "");
    log.wait_for(&node, &["two", "three", "four"]);
    assert!(log.end(Signal::TERM).success(), "{}", log.told());
    assert_eq!(values(&node, "rising"), ["two", "three", "four"]);
}

#[test]
fn lines_come_through_rotation_in_order_and_none_twice() {
    let node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    log.start(&node, "");
    log.wait_until_told("is not there yet");
    log.append("one\ntwo\r\nhalf");
    log.wait_for(&node, &["one", "two"]);
    // The writer still has the former file open when it is renamed.
    let mut former = OpenOptions::new()
        .append(true)
        .open(log.path("app.log"))
        .unwrap();
    log.rotate();
    former.write_all(b" of it\nlate\nno end").unwrap();
    drop(former);
    log.append("new\n");
    let mut expected = vec!["one", "two", "half of it", "late", "no end", "new"];
    log.wait_for(&node, &expected);
    // Twice between two looks of a follower that does not run.
    assert!(log.end(Signal::TERM).success(), "{}", log.told());
    log.append("before\n");
    log.rotate();
    log.append("between\n");
    log.rotate();
    log.append("after\n");
    log.start(&node, "");
    expected.extend(["before", "between", "after"]);
    log.wait_for(&node, &expected);
    assert!(log.end(Signal::INT).success(), "{}", log.told());
    assert!(!log.told().contains("warning"), "{}", log.told());
}

#[test]
fn a_line_without_its_end_waits_for_it_also_over_a_stop() {
    let node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    log.append("whole\n\u{fffd}half");
    log.start(&node, "--json");
    log.wait_for(&node, &["whole"]);
    assert!(log.end(Signal::TERM).success(), "{}", log.told());
    assert!(log.told().contains("\"position\": 6"), "{}", log.told());
    log.start(&node, "");
    log.append(" a line\n");
    log.wait_for(&node, &["whole", "\u{fffd}half a line"]);
}

#[test]
fn killed_again_and_again_it_loses_no_line_and_repeats_only_behind_the_place_it_kept() {
    const KILLS: usize = 4;
    let node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    let mut next = 0;
    let mut write = |log: &Following, lines: u32| {
        let text: String = (next..next + lines).map(|n| format!("{n}\n")).collect();
        log.append(&text);
        next += lines;
        next
    };
    for kill in 0..KILLS {
        write(&log, 2000);
        log.start(&node, "");
        let begun = values(&node, "logs").len();
        eventually("records", || values(&node, "logs").len() > begun);
        write(&log, 2000);
        log.end(Signal::KILL);
        if kill % 2 == 0 {
            log.rotate();
            write(&log, 10);
            log.rotate();
        }
    }
    let end = write(&log, 1);
    log.start(&node, "");
    let last = (end - 1).to_string();
    eventually("the last line", || {
        values(&node, "logs").last() == Some(&last)
    });
    assert!(log.end(Signal::TERM).success(), "{}", log.told());

    let numbers = values(&node, "logs");
    let numbers: Vec<u32> = numbers.iter().map(|one| one.parse().unwrap()).collect();
    let mut seams = 0;
    let mut expected = 0;
    for number in numbers {
        assert!(number <= expected, "{expected} to {number} is missing");
        if number < expected {
            seams += 1;
        }
        expected = number + 1;
    }
    assert_eq!(expected, end);
    assert!(seams <= KILLS, "{seams} repetitions after {KILLS} kills");
}

#[test]
fn a_file_that_is_emptied_or_replaced_is_told_and_read_from_its_start() {
    let node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    log.append("first line\n");
    log.start(&node, "");
    log.wait_for(&node, &["first line"]);
    fs::copy(log.path("app.log"), log.path("app.log.1")).unwrap();
    File::create(log.path("app.log")).unwrap();
    log.append("2nd\n");
    log.wait_for(&node, &["first line", "2nd"]);
    assert!(log.told().contains("was truncated"), "{}", log.told());
    // Other bytes in the same file, and more of them than before.
    fs::write(log.path("app.log"), "another beginning\n").unwrap();
    log.wait_for(&node, &["first line", "2nd", "another beginning"]);
    assert!(log.told().contains("warning"), "{}", log.told());
    fs::remove_file(log.path("app.log")).unwrap();
    log.wait_until_told("was deleted");
    log.append("anew\n");
    log.wait_for(&node, &["first line", "2nd", "another beginning", "anew"]);
    // Replaced while nobody looked.
    assert!(log.end(Signal::TERM).success(), "{}", log.told());
    fs::remove_file(log.path("app.log")).unwrap();
    append(&log.path("spare"), "x");
    log.append("replaced\n");
    log.start(&node, "");
    let all = ["first line", "2nd", "another beginning", "anew", "replaced"];
    log.wait_for(&node, &all);
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_path() {
    let node = Node::start(System::Skein, &[]);
    let log = Following::new(&node, "logs");
    let refused = |code: i32, told: &str| {
        let finished = run(&node, &log.words(""));
        assert_eq!(finished.status.unwrap().code(), Some(code), "{finished}");
        assert!(finished.stderr.contains(told), "{finished}");
        assert!(finished.stderr.contains("app.log"), "{finished}");
    };
    fs::create_dir(log.path("app.log")).unwrap();
    refused(2, "is a directory");
    fs::remove_dir(log.path("app.log")).unwrap();
    let made = Command::new("mkfifo").arg(log.path("app.log")).status();
    assert!(made.unwrap().success());
    refused(2, "is a pipe");
    fs::remove_file(log.path("app.log")).unwrap();
    log.append("one\n");
    fs::set_permissions(log.path("app.log"), PermissionsExt::from_mode(0o000)).unwrap();
    unreadable(&node, &log);
}

/// Root may read everything: another user is asked to.
fn unreadable(node: &Node, log: &Following) {
    const NOBODY: u32 = 65_534;
    let program = log.path("skein");
    let mut command = skein(node, &log.words(""));
    if rustix::process::geteuid().is_root() {
        fs::copy(command.get_program(), &program).unwrap();
        for path in [log.directory.path(), &program] {
            fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let mut as_nobody = Command::new(&program);
        as_nobody.args(command.get_args()).uid(NOBODY).gid(NOBODY);
        command = as_nobody;
    }
    let finished = program::run(&mut command, PATIENCE);
    assert_eq!(finished.status.unwrap().code(), Some(1), "{finished}");
    let told = format!(
        "cannot read {}: permission denied",
        log.path("app.log").display()
    );
    assert!(finished.stderr.contains(&told), "{finished}");
}

#[test]
fn the_state_is_for_one_topic_and_damage_has_a_remedy() {
    let node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    text(&node, "topic create others --partitions 1", "");
    log.append("one\n");
    log.start(&node, "");
    log.wait_for(&node, &["one"]);
    let used = run(&node, &log.words(""));
    assert!(used.stderr.contains("another skein produce uses"), "{used}");
    assert!(log.end(Signal::TERM).success());
    log.topic = "others";
    let other = run(&node, &log.words(""));
    assert_eq!(other.status.unwrap().code(), Some(1));
    assert!(
        other.stderr.contains("is for topic logs, not others"),
        "{other}"
    );
    log.topic = "logs";
    fs::write(log.path("state"), "{}\n").unwrap();
    let damaged = run(&node, &log.words(""));
    assert_eq!(damaged.status.unwrap().code(), Some(1));
    assert!(damaged.stderr.contains("is damaged"), "{damaged}");
    assert!(damaged.stderr.contains("delete it"), "{damaged}");
    log.topic = "nosuch";
    let unknown = run(&node, &log.words("--max-line-bytes 5"));
    assert_eq!(unknown.status.unwrap().code(), Some(1));
    assert!(unknown.stderr.contains("skein topic create"), "{unknown}");
}

#[test]
fn lines_that_are_too_long_are_told_and_left_out_or_cut() {
    let node = Node::start(System::Skein, &[]);
    let mut log = Following::new(&node, "logs");
    let long = "x".repeat(300_000);
    log.append(&format!("12345\n123456\n{long}\nlast\n"));
    log.start(&node, "--max-line-bytes 5");
    log.wait_for(&node, &["12345", "last"]);
    assert!(log.end(Signal::TERM).success());
    assert!(
        log.told().contains("2 lines longer than 5 bytes"),
        "{}",
        log.told()
    );
    log.append("abcdefg\n");
    log.start(&node, "--max-line-bytes 5 --long-lines cut");
    log.wait_for(&node, &["12345", "last", "abcde"]);
    assert!(log.end(Signal::TERM).success());
    log.append("abcdefg\n");
    let stopped = run(&node, &log.words("--max-line-bytes 5 --long-lines stop"));
    assert_eq!(stopped.status.unwrap().code(), Some(1), "{stopped}");
    // The topic's own limit is the limit, and the next line is not held up.
    text(
        &node,
        "topic alter logs --config max.message.bytes=1000",
        "",
    );
    log.append(&format!("{}\nfits\n", "y".repeat(1000)));
    log.start(&node, "--long-lines skip");
    log.wait_for(&node, &["12345", "last", "abcde", "abcdefg", "fits"]);
}
