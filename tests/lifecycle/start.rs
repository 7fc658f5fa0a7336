//! Starts that must be refused, each with an error that says what to do.
//!
//! Input: `skein serve` with something wrong. Output: a prompt end with a failure, and the culprit
//! named on standard error.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use skein_tests::{Node, Settings, System, program};

use super::{append, assert_holds, create};

const REFUSAL_TIMEOUT: Duration = Duration::from_secs(60);
/// `nobody`.
const UNPRIVILEGED: u32 = 65_534;

/// Runs `command`, which must fail and name each of `culprits` in what it prints.
fn assert_refused(command: &mut Command, culprits: &[&str]) {
    let finished = program::run(command, REFUSAL_TIMEOUT);
    let code = finished.status.and_then(|status| status.code());
    assert!(
        code.is_some_and(|code| code != 0),
        "not refused:\n{finished}"
    );
    let output = finished.output();
    for culprit in culprits {
        assert!(
            output.contains(culprit),
            "{culprit:?} is not named:\n{finished}"
        );
    }
    assert!(!output.contains("panicked"), "{finished}");
}

/// As [`assert_refused`], for a new node with these settings.
fn assert_setting_refused(settings: Settings<'_>, culprits: &[&str]) {
    let node = Node::prepare(System::Skein, settings);
    assert_refused(&mut node.command(), culprits);
}

#[test]
fn a_misspelt_key_is_answered_with_the_nearest_one() {
    assert_setting_refused(&[("log.dir.s", "x")], &["log.dir.s", "log.dirs"]);
    assert_setting_refused(
        &[("num.partition", "3")],
        &["num.partition", "num.partitions"],
    );
    assert_setting_refused(&[("log.segment.byte", "1")], &["log.segment.bytes"]);
}

#[test]
fn a_value_outside_its_range_is_refused() {
    assert_setting_refused(&[("num.partitions", "0")], &["num.partitions", "0"]);
    assert_setting_refused(&[("num.partitions", "many")], &["num.partitions", "many"]);
    assert_setting_refused(
        &[("log.cleanup.policy", "shred")],
        &["log.cleanup.policy", "shred"],
    );
}

#[test]
fn places_that_cannot_work_are_refused() {
    let wildcard = [("listeners", "PLAINTEXT://0.0.0.0:9092")];
    assert_setting_refused(&wildcard, &["advertised.listeners"]);
    assert_setting_refused(&[("log.dirs", "/tmp/a,/tmp/b")], &["log.dirs"]);
    assert_setting_refused(&[("peer.listener", "0.0.0.0:9192")], &["peer.listener"]);
}

#[test]
fn a_port_in_use_is_named() {
    let node = Node::prepare(System::Skein, &[]);
    let ports = node.ports();
    for port in [ports.client, ports.http] {
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert_refused(&mut node.command(), &[&format!("127.0.0.1:{port}")]);
    }
}

#[test]
fn a_second_node_on_the_same_directory_is_refused() {
    let node = Node::start(System::Skein, &[]);
    create(&node, "first", &[]);
    append(&node, "first", 0..10, 100);
    let directory = node.data_directory().display().to_string();
    let second = Node::prepare(System::Skein, &[("log.dirs", &directory)]);
    assert_refused(&mut second.command(), &[&directory]);
    append(&node, "first", 10..20, 100);
    assert_holds(&node, "first", 20);
}

#[test]
fn a_directory_of_a_newer_format_is_refused() {
    let mut node = Node::start(System::Skein, &[]);
    create(&node, "kept", &[]);
    append(&node, "kept", 0..10, 100);
    node.stop();
    let path = node.data_directory().join("meta.properties");
    let found = fs::read_to_string(&path).unwrap();
    let newer: String = found
        .lines()
        .map(|line| match line.strip_prefix("version=") {
            Some(_) => "version=99\n".to_owned(),
            None => format!("{line}\n"),
        })
        .collect();
    assert!(newer.contains("version=99"), "{found}");
    fs::write(&path, newer).unwrap();
    assert_refused(&mut node.command(), &["meta.properties", "99"]);
    fs::write(&path, found).unwrap();
    node.start_again();
    assert_holds(&node, "kept", 10);
}

#[test]
fn a_directory_of_kafkas_is_refused_before_anything_is_written_to_it() {
    const CLUSTER: &str = "c2tlaW4tdGVzdHMtMDAwMQ";
    let node = Node::prepare(System::Skein, &[]);
    let directory = node.data_directory();
    fs::create_dir_all(directory.join("orders-0")).unwrap();
    let meta = format!("version=1\nnode.id=1\ncluster.id={CLUSTER}\n");
    fs::write(directory.join("meta.properties"), meta).unwrap();
    for _ in 0..2 {
        assert_refused(
            &mut node.command(),
            &[CLUSTER, "no cluster yet", "metadata"],
        );
        let entries = fs::read_dir(&directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".lock", "meta.properties", "orders-0"]);
    }
}

#[test]
fn a_directory_without_permission_is_named() {
    let node = Node::prepare(System::Skein, &[]);
    let data = node.data_directory();
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(node.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = node.command();
    if rustix::process::getuid().is_root() {
        // The superuser may write anywhere: run as somebody else, from where that one may read the
        // binary.
        let binary = node.directory().join("skein");
        fs::copy(command.get_program(), &binary).unwrap();
        let mut unprivileged = Command::new(&binary);
        unprivileged.args(command.get_args());
        unprivileged.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        command = unprivileged;
    }
    assert_refused(&mut command, &[&data.display().to_string(), "ermission"]);

    let file = node.directory().join("file");
    fs::write(&file, "not a directory").unwrap();
    let below = file.join("data").display().to_string();
    assert_setting_refused(&[("log.dirs", &below)], &[&below]);
}
