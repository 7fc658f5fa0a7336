//! Runs a program to its end, within a time, and keeps what it printed.
//!
//! Input: a command. Output: its exit status, standard output and standard error, or a readable
//! panic.
//!
//! Invariant: no program runs longer than its timeout, so that a hanging client is a failure with
//! its output shown instead of a hanging test run.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::guardian::Guarded;

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What a program left when it ended.
#[derive(Debug)]
pub struct Finished {
    /// `None` when it was killed at its timeout.
    pub status: Option<ExitStatus>,
    /// Its standard output; invalid UTF-8 is replaced.
    pub stdout: String,
    /// Its standard error; invalid UTF-8 is replaced.
    pub stderr: String,
    command: String,
    took: Duration,
}

impl Finished {
    /// Whether it ended by itself with exit code 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Standard output and standard error, one after the other.
    #[must_use]
    pub fn output(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.status {
            Some(status) => status.to_string(),
            None => "killed at its timeout".to_owned(),
        };
        write!(
            formatter,
            "{}\n--- {end}, after {:.1} s; standard output:\n{}\n--- standard error:\n{}",
            self.command,
            self.took.as_secs_f64(),
            self.stdout.trim_end(),
            self.stderr.trim_end(),
        )
    }
}

impl Finished {
    /// What a program left that another one has run, which told its exit code.
    pub(crate) fn told(
        command: String,
        status: Option<i32>,
        [stdout, stderr]: [String; 2],
        took: Duration,
    ) -> Self {
        Self {
            status: status.map(|code| ExitStatus::from_raw((code & 0xff) << 8)),
            stdout,
            stderr,
            command,
            took,
        }
    }
}

/// Runs `command` without standard input until it ends or `timeout` has passed; then it is killed.
///
/// # Panics
///
/// When the program can't be started.
pub fn run(command: &mut Command, timeout: Duration) -> Finished {
    run_with_input(command, "", timeout)
}

/// As [`run`], with `input` on the program's standard input.
///
/// # Panics
///
/// When the program can't be started.
pub fn run_with_input(command: &mut Command, input: &str, timeout: Duration) -> Finished {
    let started = Instant::now();
    let (mut stdout, mut stderr) = (scratch(""), scratch(""));
    command
        .stdin(Stdio::from(scratch(input)))
        .stdout(stdout.try_clone().expect("clone a descriptor"))
        .stderr(stderr.try_clone().expect("clone a descriptor"));
    let shown = show(command);
    let mut process =
        Guarded::spawn(command).unwrap_or_else(|error| panic!("can't start {shown}: {error}"));
    while !process.has_ended() && started.elapsed() < timeout {
        std::thread::sleep(POLL_INTERVAL);
    }
    let status = process.has_ended().then(|| process.wait());
    drop(process);
    Finished {
        status,
        stdout: read_all(&mut stdout),
        stderr: read_all(&mut stderr),
        command: shown,
        took: started.elapsed(),
    }
}

/// The command as one would type it.
#[must_use]
pub fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

/// An unnamed file that holds `content`, at its start.
fn scratch(content: &str) -> File {
    let mut file = tempfile::tempfile().expect("create a scratch file");
    std::io::Write::write_all(&mut file, content.as_bytes()).expect("write a scratch file");
    file.seek(SeekFrom::Start(0)).expect("rewind");
    file
}

fn read_all(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("rewind");
    file.read_to_end(&mut bytes).expect("read what it printed");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_and_its_output_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; echo complained >&2; exec sleep 60"]);
        let finished = run(&mut command, Duration::from_millis(300));
        assert!(!finished.succeeded());
        let shown = finished.to_string();
        for part in ["killed at its timeout", "said", "complained"] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn input_is_given_and_failure_seen() {
        let mut command = Command::new("sh");
        let finished = run_with_input(
            command.args(["-c", "cat; exit 3"]),
            "in",
            Duration::from_secs(30),
        );
        assert_eq!(finished.stdout, "in");
        assert_eq!(finished.status.and_then(|status| status.code()), Some(3));
    }
}
