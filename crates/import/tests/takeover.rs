//! A takeover in simulation: every disk call fails once, the process is killed at each, the power
//! is cut at each. Afterwards the directory is Kafka's as it was, or a second import makes it
//! Skein's with all that Kafka's metadata said.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test: what fails here is the verdict

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_config::BrokerConfig;
use skein_env::sim::{Fault, SimWorld};
use skein_env::{Disk, EntryKind};
use skein_import::{ImportError, ImportOptions, Imported, Outcome, import};
use skein_quorum::{Controller, QuorumOptions};
use skein_types::{BrokerId, LeaderEpoch, ProducerId, Uuid};

#[path = "../src/testing.rs"]
#[allow(dead_code)] // the unit tests need more of it
mod testing;

use testing::{CLUSTER, NODE, batches, read, write, write_directory};

fn directory() -> PathBuf {
    PathBuf::from("/kafka/data")
}

fn options() -> ImportOptions {
    ImportOptions {
        directory: directory(),
        leave_out: ["audit".to_owned()].into(),
        ..ImportOptions::default()
    }
}

async fn import_on(world: &SimWorld) -> Result<Imported, ImportError> {
    import(&world.node("a"), &options()).await
}

/// Whether Kafka would start, and finds what it had.
fn is_kafkas(disk: &dyn Disk) -> bool {
    let is_there = |name: &str| disk.stat(&directory().join(name)).is_ok();
    if !is_there("__cluster_metadata-0") {
        return false;
    }
    // A name that is no partition's stops it.
    for (name, kind) in disk.read_directory(&directory()).unwrap() {
        let name = name.to_string_lossy().into_owned();
        assert!(kind != EntryKind::Directory || name.contains('-'), "{name}");
        assert_ne!(name, "kafka-taken-over", "two metadata logs");
    }
    let log = directory().join("__cluster_metadata-0/00000000000000000000.log");
    assert_eq!(read(disk, &log), batches().concat());
    for name in ["meta.properties", "orders-0", "orders-1", "audit-0"] {
        assert!(is_there(name), "{name}");
    }
    true
}

/// Starts Skein's quorum on the directory, and looks at what it has.
async fn check_skeins(world: &SimWorld) {
    let env = world.node("a");
    let places = |path: &str| env.disk.stat(&directory().join(path)).is_ok();
    for there in [
        "orders-0",
        "orders-1",
        "meta.properties",
        "kafka-taken-over/00000000000000000000.log",
        "kafka-taken-over/meta.properties",
        "kafka-taken-over/left-out/audit-0/partition.metadata",
    ] {
        assert!(places(there), "{there}");
    }
    for gone in [
        "audit-0",
        "__cluster_metadata-0",
        "kafka-taken-over/skein-import.plan",
    ] {
        assert!(!places(gone), "{gone}");
    }
    let options = QuorumOptions {
        directory: directory().join("metadata"),
        config: Arc::new(BrokerConfig::default()),
        features: vec![],
        audit: None,
    };
    let controller = Controller::start(env, options).await.unwrap();
    assert_eq!(controller.cluster_id().to_string(), CLUSTER);
    let image = controller.image();
    let orders = image.topic_by_name("orders").unwrap();
    assert_eq!((orders.id, orders.partitions.len()), (Uuid([1; 16]), 2));
    assert_eq!(orders.partitions[0].leader_epoch, LeaderEpoch(3));
    assert!(image.topic_by_name("audit").is_none());
    assert_eq!(image.next_producer_id(), ProducerId(3000));
    let broker = image.broker(BrokerId(NODE)).unwrap();
    assert_eq!(broker.raft_id, controller.raft_id());
    controller.shutdown().await.unwrap();
}

#[test]
fn a_directory_is_taken_over_with_ids_topics_and_settings() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let env = world.node("a");
        write_directory(&*env.disk, &directory(), true);
        let dry = ImportOptions {
            is_dry_run: true,
            ..options()
        };
        let told = import(&env, &dry).await.unwrap();
        assert_eq!(told.outcome, Outcome::DryRun);
        assert!(is_kafkas(&*env.disk));
        let imported = import_on(&world).await.unwrap();
        assert_eq!(imported.outcome, Outcome::TakenOver);
        assert_eq!((imported.topics, imported.partitions), (1, 2));
        assert_eq!(imported.findings, told.findings);
        check_skeins(&world).await;
        let again = import_on(&world).await.unwrap_err().to_string();
        assert!(
            again.contains("was taken over from Kafka before"),
            "{again}"
        );
    });
}

#[test]
fn metadata_may_go_to_another_place() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let env = world.node("a");
        write_directory(&*env.disk, &directory(), true);
        env.disk.create_directory(Path::new("/fast")).unwrap();
        let elsewhere = ImportOptions {
            metadata_log_dir: Some("/fast/skein".into()),
            ..options()
        };
        let imported = import(&env, &elsewhere).await.unwrap();
        assert_eq!(imported.metadata_log_dir, Path::new("/fast/skein"));
        assert!(env.disk.stat(Path::new("/fast/skein/identity")).is_ok());
        assert!(
            env.disk
                .stat(Path::new("/fast/skein.skein-import"))
                .is_err()
        );
        assert!(env.disk.stat(&directory().join("metadata")).is_err());
    });
}

#[test]
fn what_is_no_directory_of_kafka_is_left_alone() {
    let refused = |prepare: &dyn Fn(&dyn Disk)| {
        let world = SimWorld::new(1);
        world.block_on(async {
            let env = world.node("a");
            write_directory(&*env.disk, &directory(), true);
            prepare(&*env.disk);
            match import_on(&world).await.unwrap_err() {
                ImportError::Unfit { what, remedy, .. } => {
                    assert!(!remedy.is_empty());
                    what
                }
                other => other.to_string(),
            }
        })
    };
    let meta = directory().join("meta.properties");
    let expect = |prepare: &dyn Fn(&dyn Disk), text: &str| {
        let what = refused(prepare);
        assert!(what.contains(text), "{what}");
    };
    expect(
        &|disk| disk.remove_file(&meta).unwrap(),
        "no log directory of Kafka",
    );
    let zookeeper = b"version=0\nbroker.id=1\ncluster.id=x\n";
    expect(&|disk| write(disk, &meta, zookeeper), "ZooKeeper");
    let odd = b"version=1\nnode.id=1\ncluster.id=two words\n";
    expect(&|disk| write(disk, &meta, odd), "visible ASCII characters");
    let newer = b"version=2\nnode.id=1\n";
    expect(&|disk| write(disk, &meta, newer), "version 2 is newer");
    let log = directory().join("__cluster_metadata-0");
    expect(
        &|disk| disk.remove_directory(&log).unwrap(),
        "no metadata log of Kafka",
    );
    let segment = log.join("00000000000000000000.log");
    expect(
        &|disk| disk.remove_file(&segment).unwrap(),
        "no segment of the metadata log",
    );
    let cut = batches().concat();
    expect(
        &|disk| write(disk, &segment, &cut[..cut.len() - 9]),
        "the file ends after",
    );
    let place = directory().join("metadata");
    expect(
        &|disk| disk.create_directory(&place).unwrap(),
        "something is there already",
    );
    let orders = directory().join("orders-1");
    expect(
        &|disk| disk.remove_directory(&orders).unwrap(),
        "1 thing stands against",
    );
}

#[test]
fn a_directory_that_somebody_uses_is_left_alone() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let env = world.node("a");
        write_directory(&*env.disk, &directory(), true);
        let lock = env.disk.lock(&directory().join(".lock")).unwrap();
        let error = import_on(&world).await.unwrap_err().to_string();
        assert!(error.contains("a process holds this lock"), "{error}");
        drop(lock);
        import_on(&world).await.unwrap();
        check_skeins(&world).await;
    });
}

/// What the process may do to the disk before the import; a bound that no import reaches.
const CALLS_MAX: u64 = 5_000;

/// Runs an import in which the disk call after `calls` others goes wrong; says whether it did.
async fn disturbed(world: &SimWorld, calls: u64, fault: Fault) -> Option<Imported> {
    write_directory(&*world.node("a").disk, &directory(), true);
    struck(world, calls, fault).await
}

/// Runs an import on the directory as it is, as [`disturbed`].
async fn struck(world: &SimWorld, calls: u64, fault: Fault) -> Option<Imported> {
    let env = world.node("a");
    let disk = world.disk("a");
    let before = disk.calls();
    disk.fail_after(calls, fault);
    let imported = {
        let (env, options) = (env.clone(), options());
        let task = tokio::spawn(async move { import(&env, &options).await });
        let limit = std::time::Duration::from_secs(120);
        tokio::time::timeout(limit, task).await
    };
    disk.heal();
    let imported = imported.ok().and_then(Result::ok);
    let ended = disk.calls() - before < calls;
    match imported {
        Some(Ok(imported)) if ended => Some(imported),
        _ => None,
    }
}

/// An import that nothing disturbs; says whether the directory was still Kafka's.
async fn import_in_the_end(world: &SimWorld) -> bool {
    let was_kafkas = is_kafkas(&*world.node("a").disk);
    match import_on(world).await {
        Ok(imported) => {
            let finished = imported.outcome == Outcome::Finished;
            assert_eq!(finished, !was_kafkas);
        }
        // The fault came behind the last step.
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("was taken over"), "{error}");
            assert!(!was_kafkas);
        }
    }
    check_skeins(world).await;
    was_kafkas
}

/// What the second of two faults strikes: any call of a resumed import, in another order each time.
const RESUMED_CALLS: u64 = 120;

/// The import is struck at every call, and the next one is struck too.
fn at_every_call_and_again(first: Fault, second: Fault) {
    let mut struck_twice = 0;
    for calls in 1..CALLS_MAX {
        let world = SimWorld::new(calls);
        let is_done = world.block_on(async {
            if disturbed(&world, calls, first).await.is_some() {
                return true;
            }
            world.kill("a");
            let again = calls * 37 % RESUMED_CALLS + 1;
            struck_twice += u32::from(struck(&world, again, second).await.is_none());
            world.kill("a");
            import_in_the_end(&world).await;
            false
        });
        if is_done {
            break;
        }
    }
    assert!(struck_twice > 50, "{struck_twice}");
}

fn at_every_call(fault: Fault, step: u64) {
    let mut calls = 1;
    let mut halfway = 0;
    loop {
        assert!(calls < CALLS_MAX, "the import never ends");
        let world = SimWorld::new(calls);
        let is_done = world.block_on(async {
            if disturbed(&world, calls, fault).await.is_some() {
                return true;
            }
            world.kill("a");
            let was_kafkas = import_in_the_end(&world).await;
            halfway += u32::from(!was_kafkas);
            false
        });
        if is_done {
            break;
        }
        calls += step;
    }
    assert!(
        halfway > 3,
        "the steps behind the point of no return were met {halfway} times"
    );
}

#[test]
fn a_disk_call_that_fails_leaves_kafkas_directory_or_skeins() {
    at_every_call(Fault::Eio, 1);
}

#[test]
fn a_kill_at_any_disk_call_leaves_kafkas_directory_or_skeins() {
    at_every_call(Fault::Kill, 1);
}

#[test]
fn a_power_cut_at_any_disk_call_leaves_kafkas_directory_or_skeins() {
    at_every_call(Fault::PowerCut, 1);
}

#[test]
fn a_power_cut_while_a_killed_import_is_resumed_leaves_kafkas_directory_or_skeins() {
    at_every_call_and_again(Fault::Kill, Fault::PowerCut);
}

#[test]
fn a_kill_while_an_import_is_resumed_after_a_power_cut_leaves_kafkas_directory_or_skeins() {
    at_every_call_and_again(Fault::PowerCut, Fault::Kill);
}

#[test]
fn a_power_cut_while_a_failed_import_is_resumed_leaves_kafkas_directory_or_skeins() {
    at_every_call_and_again(Fault::Eio, Fault::PowerCut);
}
