//! Installs the clients, once, from the lock files beside this crate.
//!
//! Input: `clients/python/*.txt` (versions and hashes), the `go.sum` of each Go module, the
//! `package-lock.json` of kafkajs, `kafka/pom.xml`. Output: a Python environment, Go programs, Node
//! modules, Kafka's jars and a Java program under `.build/` at the workspace root, which git
//! ignores.
//!
//! Invariants:
//! - what is installed is what the lock file says: its content is the stamp, written last, and
//!   compared at each use;
//! - test processes that run at the same time install nothing twice: each step holds a file lock;
//! - a client that can't be installed is a failure, never a skip.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::client::class_archive;
use crate::program;

/// Downloads included; a first build on a slow machine must fit.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(900);

/// The root of the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the workspace around tests/")
}

/// A path below `tests/`.
#[must_use]
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python interpreter of the environment with confluent-kafka, kafka-python 3, aiokafka and
/// every codec.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let lock_file = source("clients/python/requirements.txt");
        let directory = install("python", &[&lock_file], |directory| {
            check(Command::new("python3").args(["-m", "venv"]).arg(directory));
            let mut pip = Command::new(directory.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--require-hashes"]);
            check(pip.args(["--only-binary", ":all:", "-r"]).arg(&lock_file));
        });
        directory.join("bin/python")
    })
}

/// A directory for `PYTHONPATH` in which kafka-python is version 2.
pub fn kafka_python_2() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let lock_file = source("clients/python/requirements-kafka-python-2.txt");
        install("kafka-python-2", &[&lock_file], |directory| {
            let mut pip = Command::new(python());
            pip.args(["-m", "pip", "install", "--quiet", "--require-hashes"]);
            pip.args(["--no-deps", "--target"]).arg(directory);
            check(pip.arg("-r").arg(&lock_file));
        })
    })
}

/// The directory with the jars of Apache Kafka 4.1.1 and their dependencies.
pub fn kafka_jars() -> &'static Path {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    JARS.get_or_init(|| {
        let pom = source("kafka/pom.xml");
        install("kafka", &[&pom], |directory| {
            let mut maven = Command::new("mvn");
            maven.args(["-q", "-B", "-f"]).arg(&pom);
            maven.arg("dependency:copy-dependencies");
            check(maven.arg(format!("-DoutputDirectory={}", directory.display())));
        })
    })
}

/// Kafka's jars as a class path, always in one order: an archive of classes is for one class path.
pub fn kafka_class_path() -> &'static str {
    static CLASS_PATH: OnceLock<String> = OnceLock::new();
    CLASS_PATH.get_or_init(|| {
        let mut jars: Vec<String> = fs::read_dir(kafka_jars())
            .expect("the directory of Kafka's jars")
            .map(|entry| entry.expect("its next entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "jar"))
            .map(|path| path.display().to_string())
            .collect();
        jars.sort();
        jars.join(":")
    })
}

/// An archive of Kafka's classes, with which its programs start in two thirds of the time.
pub fn kafka_classes() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let pom = source("kafka/pom.xml");
        let name = "kafka.jsa";
        let directory = install("kafka-classes", &[&pom], |directory| {
            class_archive::make(&directory.join(name));
        });
        directory.join(name)
    })
}

/// The classes of the program that drives Kafka's own client, compiled from `clients/java`.
pub fn java_client() -> &'static Path {
    static CLASSES: OnceLock<PathBuf> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let names = [
            "Scenarios",
            "Data",
            "Groups",
            "Interop",
            "Ledger",
            "Member",
            "OtherProcess",
            "Tools",
            "Writer",
        ];
        let sources = names.map(|name| source(&format!("clients/java/{name}.java")));
        let inputs: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
        install("java-client", &inputs, |directory| {
            let mut javac = Command::new("javac");
            javac.args(["-Xlint:all", "-Werror", "-d"]).arg(directory);
            javac.args(["-cp", kafka_class_path()]);
            check(javac.args(&sources));
        })
    })
}

/// What the programs of all Go clients share, seen from each.
const GO_HARNESS: [&str; 3] = ["../go/harness.go", "../go/ledger.go", "../go/process.go"];

/// The program that drives franz-go, built from `clients/franz_go`.
pub fn franz_go() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let scenarios = ["main.go", "scenarios.go", "admin.go", "groups.go"];
        let sources = [&scenarios[..], &["interop.go"], &GO_HARNESS].concat();
        go_program("franz-go", "clients/franz_go", &sources)
    })
}

/// The program that drives sarama, built from `clients/sarama`.
pub fn sarama() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let scenarios = ["main.go", "scenarios.go", "groups.go", "interop.go"];
        let sources = [&scenarios[..], &GO_HARNESS].concat();
        go_program("sarama", "clients/sarama", &sources)
    })
}

/// The directory with kafkajs and its codecs, for `NODE_PATH`.
pub fn node_modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let locks = ["package.json", "package-lock.json"];
        let inputs = locks.map(|name| source("clients/kafkajs").join(name));
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let directory = install("kafkajs", &inputs, |directory| {
            for (name, input) in locks.iter().zip(&inputs) {
                fs::copy(input, directory.join(name)).expect("copy a lock file");
            }
            let mut npm = Command::new("npm");
            npm.current_dir(directory)
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            check(&mut npm);
        });
        directory.join("node_modules")
    })
}

/// The program that loads a node for comparisons, built from `bench/loader`.
pub fn loader() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let sources = ["main.go", "produce.go", "consume.go", "latency.go"];
        go_program("loader", "bench/loader", &sources)
    })
}

/// The program `name`, built from the Go module at `path` with these source files.
fn go_program(name: &str, path: &str, sources: &[&str]) -> PathBuf {
    let module = source(path);
    let inputs: Vec<PathBuf> = ["go.mod", "go.sum"]
        .iter()
        .chain(sources)
        .map(|file| module.join(file))
        .collect();
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let directory = install(name, &inputs, |directory| {
        let mut go = Command::new("go");
        go.current_dir(&module)
            .args(["build", "-mod=readonly", "-buildvcs=false", "-o"]);
        check(go.arg(directory.join(name)).arg("."));
    });
    directory.join(name)
}

/// `.build/NAME`, made by `steps` unless it was made from the same `inputs` before.
fn install(name: &str, inputs: &[&Path], steps: impl FnOnce(&Path)) -> PathBuf {
    let build = workspace().join(".build");
    fs::create_dir_all(&build).expect("create .build");
    let lock = fs::File::create(build.join(format!("{name}.lock"))).expect("create a lock file");
    lock.lock().expect("lock an installation");
    let directory = build.join(name);
    let stamp = directory.join("installed-from");
    let wanted: Vec<u8> = inputs
        .iter()
        .flat_map(|input| fs::read(input).unwrap_or_else(|error| panic!("{input:?}: {error}")))
        .collect();
    if fs::read(&stamp).is_ok_and(|found| found == wanted) {
        return directory;
    }
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("remove an outdated installation");
    }
    fs::create_dir_all(&directory).expect("create the directory of an installation");
    steps(&directory);
    fs::write(&stamp, wanted).expect("stamp an installation");
    directory
}

fn check(command: &mut Command) {
    let finished = program::run(command, INSTALL_TIMEOUT);
    assert!(
        finished.succeeded(),
        "a client can't be installed:\n{finished}"
    );
}
