//! The client that loads both systems: franz-go, in a process of its own.
//!
//! Input: arguments of `bench/loader`. Output: what the client saw. The loader prepares itself,
//! starts when it is told to, and ends by itself or, given nothing to count, when told to.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use skein_tests::guardian::Guarded;
use skein_tests::toolchain;

use crate::Outcome;
use crate::broker::Broker;

/// What the client saw of a load; zero where it does not apply.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) records: u64,
    /// Of the records' values.
    pub(crate) bytes: u64,
    /// From the first record to the last acknowledgement or arrival.
    pub(crate) seconds: f64,
    /// Batches written.
    pub(crate) batches: u64,
    /// Bytes of each Produce request, its length before it.
    pub(crate) frames: Vec<u32>,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

/// A load that is prepared or runs.
pub(crate) struct Loader {
    process: Guarded,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Loader {
    /// Starts the client and waits until it is connected.
    pub(crate) fn prepare(
        broker: &Broker,
        load: &str,
        topic: &str,
        arguments: &[String],
    ) -> Outcome<Self> {
        let mut command = Command::new(toolchain::loader());
        command
            .args([load, "-bootstrap", &broker.bootstrap(), "-topic", topic])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Guarded::spawn(&mut command)?;
        let child = process.child();
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the loader has no pipes".into());
        };
        let output = BufReader::new(output);
        let mut loader = Self {
            process,
            input,
            output,
        };
        match loader.line()?.as_str() {
            "ready" => Ok(loader),
            other => Err(format!("the loader said {other:?} instead of \"ready\"").into()),
        }
    }

    /// Starts the load.
    pub(crate) fn start(&mut self) -> Outcome<()> {
        Ok(self.input.write_all(b"start\n")?)
    }

    /// Waits until the load is done. A producer with nothing to count stops now.
    pub(crate) fn finish(self) -> Outcome<Seen> {
        let Self {
            mut process,
            input,
            mut output,
        } = self;
        drop(input);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let status = process.wait();
        if !status.success() {
            return Err(format!("the loader failed, {status}; its reason is above").into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_may_lack_what_does_not_apply() {
        let seen: Seen =
            serde_json::from_str(r#"{"records":2,"bytes":200,"seconds":0.5}"#).unwrap();
        assert_eq!((seen.records, seen.bytes, seen.batches), (2, 200, 0));
        assert!(serde_json::from_str::<Seen>(r#"{"record":2}"#).is_err());
        assert!(serde_json::from_str::<Seen>("").is_err());
    }
}
