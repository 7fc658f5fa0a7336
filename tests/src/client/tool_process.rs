//! A process that runs Kafka's tools, one after the other: `clients/java/Tools.java`.
//!
//! Input: a tool's class, its arguments, its standard input. Output: its exit code and what it
//! printed.
//!
//! A JVM takes half a second to start, a tool in one that is warm a tenth of that, and a run of all
//! tests calls hundreds. There are as many processes as there were ever calls at the same time.
//!
//! Invariant: a process that has not answered in time is killed, and one that has ended is not used
//! again.

use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::java_program;
use crate::guardian::Guarded;
use crate::program::Finished;

/// Those that have nothing to do.
static IDLE: Mutex<Vec<ToolProcess>> = Mutex::new(Vec::new());

struct ToolProcess {
    process: Guarded,
    pipes: Pipes,
}

struct Pipes {
    input: ChildStdin,
    output: ChildStdout,
}

/// What a tool left.
struct Left {
    status: i32,
    printed: [String; 2],
}

/// Runs a tool to its end, or until `timeout` has passed.
pub(crate) fn run(class: &str, arguments: &[&str], input: &str, timeout: Duration) -> Finished {
    let started = Instant::now();
    let mut words = vec![class.to_owned()];
    words.extend(arguments.iter().map(|&word| word.to_owned()));
    let shown = words.join(" ");
    words.push(input.to_owned());
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let ToolProcess { process, mut pipes } = idle.unwrap_or_else(start);
    let (sender, answer) = mpsc::channel();
    std::thread::spawn(move || {
        let left = pipes.call(&words);
        // Nobody waits for one that is late.
        let _ = sender.send((left, pipes));
    });
    match answer.recv_timeout(timeout) {
        Ok((Ok(left), pipes)) => {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(ToolProcess { process, pipes });
            let status = Some(left.status);
            Finished::told(shown, status, left.printed, started.elapsed())
        }
        // It ends with the process.
        Ok((Err(error), _)) => {
            let printed = [String::new(), format!("the process of the tools: {error}")];
            Finished::told(shown, None, printed, started.elapsed())
        }
        Err(_) => Finished::told(shown, None, Default::default(), started.elapsed()),
    }
}

fn start() -> ToolProcess {
    let mut command = java_program("Tools", "warn");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Guarded::spawn(&mut command).expect("start a process for Kafka's tools");
    let child = process.child();
    let pipes = Pipes {
        input: child.stdin.take().expect("a pipe"),
        output: child.stdout.take().expect("a pipe"),
    };
    ToolProcess { process, pipes }
}

impl Pipes {
    fn call(&mut self, words: &[String]) -> io::Result<Left> {
        let mut request = length(words.len())?.to_vec();
        for word in words {
            request.extend(length(word.len())?);
            request.extend(word.as_bytes());
        }
        self.input.write_all(&request)?;
        let status = self.number()?;
        let printed = [self.text()?, self.text()?];
        Ok(Left { status, printed })
    }

    fn number(&mut self) -> io::Result<i32> {
        let mut bytes = [0; 4];
        self.output.read_exact(&mut bytes)?;
        Ok(i32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> io::Result<String> {
        let length = u64::try_from(self.number()?).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        self.output.by_ref().take(length).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn length(count: usize) -> io::Result<[u8; 4]> {
    let count = i32::try_from(count).map_err(io::Error::other)?;
    Ok(count.to_be_bytes())
}
