//! Kafka's classes in one file that a JVM maps, instead of reading them from a hundred jars.
//!
//! Input: Kafka's jars. Output: an archive below `.build/`, of the classes that a broker and its
//! tools load when each of them does its work once, and the options by which a JVM uses it.
//!
//! A tool then starts with 0.4 s of CPU instead of 0.7, a broker with 2.4 instead of 3.9, and a run
//! of all tests starts hundreds. Nothing depends on it: a JVM that can't use the archive, because
//! Java was upgraded since, says nothing and reads the jars.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::kafka_tools;
use crate::guardian::Guarded;
use crate::node::kafka;
use crate::{program, toolchain};

/// A tool waits for its broker by itself, up to a minute.
const STEP_TIMEOUT: Duration = Duration::from_secs(90);

const TOPIC: [&str; 2] = ["--topic", "classes"];

/// A JVM with Kafka's jars, whose standard output is that of the program alone.
pub(super) fn jvm() -> Command {
    let mut command = Command::new("java");
    // Warnings about an archive would go to standard output.
    command.args(["-XX:+UseSerialGC", "-Xshare:auto", "-Xlog:disable"]);
    command
}

/// Makes the archive `file`.
pub(crate) fn make(file: &Path) {
    let scratch = tempfile::tempdir().expect("create a directory for lists of classes");
    let directory = scratch.path();
    let recorder = Recorder { directory };
    recorder.record();
    let list = directory.join("all.classes");
    fs::write(&list, recorder.merged()).expect("write a list of classes");
    let mut dump = Command::new("java");
    dump.args(["-XX:+UseSerialGC", "-Xshare:dump", "-Xlog:disable"])
        .arg(format!("-XX:SharedClassListFile={}", list.display()))
        .arg(format!("-XX:SharedArchiveFile={}", file.display()))
        .args(["-cp", toolchain::kafka_class_path()]);
    run(&mut dump, "");
}

/// Runs programs, each of which lists the classes that it loads.
struct Recorder<'a> {
    directory: &'a Path,
}

impl Recorder<'_> {
    fn record(&self) {
        let ports = crate::node::free_ports();
        let server = format!("127.0.0.1:{}", ports.client);
        let properties = self.directory.join("server.properties");
        let settings = kafka::settings(ports, &self.directory.join("data"));
        fs::write(&properties, settings).expect("write server.properties");

        let mut format = self.java(kafka::STORAGE_TOOL);
        format.args(["format", "-t", kafka::CLUSTER_ID, "-c"]);
        run(format.arg(&properties), "");
        let mut serve = self.java(kafka::BROKER);
        serve.arg(&properties).stdin(Stdio::null());
        let mut broker = Guarded::spawn(serve.stdout(Stdio::null()).stderr(Stdio::null()))
            .expect("start a broker to learn its classes");
        let tool = |class: &str, arguments: &[&str], input: &str| {
            let mut command = self.java(class);
            command.args(["--bootstrap-server", &server]);
            run(command.args(arguments), input);
        };
        tool(
            kafka_tools::TOPICS,
            &[&["--create"][..], &TOPIC].concat(),
            "",
        );
        tool(kafka_tools::CONSOLE_PRODUCER, &TOPIC, "a record\n");
        let read = [&TOPIC[..], &["--from-beginning", "--max-messages", "1"]].concat();
        tool(kafka_tools::CONSOLE_CONSUMER, &read, "");
        tool(
            kafka_tools::CONFIGS,
            &["--describe", "--entity-type", "topics"],
            "",
        );
        tool(kafka_tools::CONSUMER_GROUPS, &["--list"], "");
        broker.signal(Signal::TERM);
        broker.wait();
    }

    /// A JVM that writes `CLASS.classes`.
    fn java(&self, class: &str) -> Command {
        let list = self.directory.join(format!("{class}.classes"));
        let mut command = jvm();
        command
            .arg(format!("-XX:DumpLoadedClassList={}", list.display()))
            .args(["-cp", toolchain::kafka_class_path(), class]);
        command
    }

    /// All lists as one: classes first, then what refers to them (lines that begin with `@`).
    fn merged(&self) -> String {
        let mut lines: Vec<String> = fs::read_dir(self.directory)
            .expect("the directory of the lists")
            .map(|entry| entry.expect("its next entry").path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "classes")
            })
            .flat_map(|path| {
                let list = fs::read_to_string(path).expect("a list of classes");
                list.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .filter(|line| !line.starts_with('#'))
            .collect();
        lines.sort_by(|one, other| {
            (one.starts_with('@'), one).cmp(&(other.starts_with('@'), other))
        });
        lines.dedup();
        lines.join("\n")
    }
}

fn run(command: &mut Command, input: &str) {
    let finished = program::run_with_input(command, input, STEP_TIMEOUT);
    assert!(
        finished.succeeded(),
        "the classes of Kafka can't be archived:\n{finished}"
    );
}
