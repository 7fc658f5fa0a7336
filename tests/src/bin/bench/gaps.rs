//! How long a client waits for an acknowledgement when a node of three goes.
//!
//! Input: a system, and how often. Output: for each way to go, the longest gap that librdkafka saw
//! in each round; and how many acknowledged records were lost, or are there twice, in the end.
//!
//! Each way has a cluster of its own, which is whole again before the next round.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use skein_tests::guardian::Guarded;
use skein_tests::{Cluster, System, client};

use crate::Outcome;
use crate::metrics::OfGaps;

const TOPIC: &str = "gaps";
const NODES: usize = 3;
/// All is well for so long before a node goes.
const LEAD: Duration = Duration::from_millis(500);
/// A little of the gap-free time is measured too: what is in flight belongs to it.
const MARK_LEAD: Duration = Duration::from_millis(100);

/// How a node goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillLeader,
    KillController,
    PauseLeader,
    StopLeader,
}

impl Fault {
    const ALL: [(Self, OfGaps); 4] = [
        (Self::KillLeader, OfGaps::KillLeader),
        (Self::KillController, OfGaps::KillController),
        (Self::PauseLeader, OfGaps::PauseLeader),
        (Self::StopLeader, OfGaps::StopLeader),
    ];

    /// The node that goes.
    fn victim(self, cluster: &Cluster) -> usize {
        match self {
            Self::KillController => cluster.controller(0),
            Self::KillLeader | Self::PauseLeader | Self::StopLeader => cluster.leader(TOPIC, 0),
        }
    }

    fn strike(self, cluster: &mut Cluster, victim: usize) {
        let node = &mut cluster.nodes[victim];
        match self {
            Self::KillLeader | Self::KillController => node.kill(),
            Self::PauseLeader => node.signal(Signal::STOP),
            Self::StopLeader => {
                node.stop();
            }
        }
    }

    fn mend(self, cluster: &mut Cluster, victim: usize) {
        let node = &mut cluster.nodes[victim];
        match self {
            Self::PauseLeader => node.signal(Signal::CONT),
            Self::KillLeader | Self::KillController | Self::StopLeader => node.start_again(),
        }
    }
}

/// Lets nodes go in every way, `rounds` times each.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    rounds: usize,
    mut add: impl FnMut(OfGaps, f64),
) -> Outcome<()> {
    let (mut lost, mut twice) = (0.0, 0.0);
    for (fault, metric) in Fault::ALL {
        let mut cluster = Cluster::prepare_of(system, parent, NODES, &[]);
        cluster.start_again();
        let mut writer = Writer::start(&cluster)?;
        for _ in 0..rounds {
            cluster.wait_until_in_sync();
            sleep(LEAD);
            let victim = fault.victim(&cluster);
            writer.ask("mark")?;
            sleep(MARK_LEAD);
            fault.strike(&mut cluster, victim);
            let gap = writer.ask("settled")?;
            add(metric, gap.parse()?);
            fault.mend(&mut cluster, victim);
        }
        cluster.wait_until_in_sync();
        let counts = writer.ask("check")?;
        let (of_lost, of_twice) = counts.split_once(' ').ok_or("the writer counts nothing")?;
        lost += of_lost.parse::<f64>()?;
        twice += of_twice.parse::<f64>()?;
    }
    add(OfGaps::Lost, lost);
    add(OfGaps::Twice, twice);
    Ok(())
}

/// `bench/gaps.py`.
struct Writer {
    _process: Guarded,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts it, and waits until every partition is written to.
    fn start(cluster: &Cluster) -> Outcome<Self> {
        let bootstrap: Vec<_> = cluster.nodes.iter().map(|node| node.bootstrap()).collect();
        let mut command = client::python("bench/gaps.py");
        command
            .args([&bootstrap.join(","), TOPIC])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Guarded::spawn(&mut command)?;
        let child = process.child();
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the writer has no pipes".into());
        };
        let mut writer = Self {
            _process: process,
            input,
            output: BufReader::new(output),
        };
        writer.line()?;
        Ok(writer)
    }

    fn ask(&mut self, what: &str) -> Outcome<String> {
        writeln!(self.input, "{what}")?;
        self.line()
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the writer has failed; its reason is above".into());
        }
        Ok(line.trim_end().to_owned())
    }
}
