//! A quorum of one, in simulation: it forms by itself, survives a crash at every disk call, and
//! comes back with all that it acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test: what fails here is the verdict

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skein_config::{BrokerConfig, Layers};
use skein_controller::{
    CreateTopics, CreateTopicsResult, DeleteTopics, DiskState, Heartbeat, NewTopic, RegisterBroker,
    TopicReference,
};
use skein_env::sim::{Fault, SimWorld};
use skein_metadata::{Endpoint, Image, Record, encode_snapshot};
use skein_quorum::{Controller, FoundingImage, QuorumError, QuorumOptions, Refusal};
use skein_types::{
    BrokerEpoch, BrokerId, ClusterId, ErrorCode, Millis, ProducerId, TopicId, TopicName, Uuid,
};

/// Nothing takes so long on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(directory: &Path) -> QuorumOptions {
    QuorumOptions {
        directory: directory.to_path_buf(),
        config: Arc::new(BrokerConfig::default()),
        features: vec![("skein.version".into(), 1)],
        audit: None,
    }
}

fn directory() -> PathBuf {
    PathBuf::from("/data/metadata")
}

async fn start(world: &SimWorld) -> Result<Controller, QuorumError> {
    Controller::start(world.node("a"), options(&directory())).await
}

fn registration(controller: &Controller, process: u8) -> RegisterBroker {
    RegisterBroker {
        broker_id: Some(BrokerId(1)),
        cluster_id: Some(controller.cluster_id()),
        incarnation: Uuid([process; 16]),
        raft_id: controller.raft_id(),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".into(),
            host: "a".into(),
            port: 9092,
            security_protocol: 0,
        }],
        rack: None,
        previous_epoch: BrokerEpoch::NONE,
        disk: DiskState::Unclean,
        ready: true,
    }
}

fn topic(name: &str) -> CreateTopics {
    let topic = NewTopic {
        name: name.into(),
        num_partitions: 2,
        replication_factor: 1,
        assignments: vec![],
        configs: vec![],
    };
    CreateTopics {
        topics: vec![topic],
        validate_only: false,
    }
}

async fn create(controller: &Controller, name: &str) -> Result<CreateTopicsResult, Refusal> {
    Ok(controller.propose(topic(name)).await?.remove(0))
}

fn bytes(image: &Image) -> Vec<u8> {
    encode_snapshot(image).unwrap()
}

#[test]
fn an_empty_directory_becomes_a_cluster_and_stays_it() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        let (cluster_id, raft_id) = (controller.cluster_id(), controller.raft_id());
        assert_eq!(controller.image().cluster_id(), Some(cluster_id));
        assert_eq!(controller.image().feature("skein.version"), 1);
        assert!(controller.is_controller());
        assert_eq!(controller.status().voters, [raft_id]);
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        assert_eq!(
            create(&controller, "t")
                .await
                .unwrap()
                .result
                .unwrap()
                .num_partitions,
            2
        );
        controller.shutdown().await.unwrap();

        let controller = start(&world).await.unwrap();
        assert_eq!(
            (controller.cluster_id(), controller.raft_id()),
            (cluster_id, raft_id)
        );
        assert!(controller.image().topic_by_name("t").is_some());
        controller.shutdown().await.unwrap();
    });
}

#[test]
fn a_cluster_may_begin_with_what_another_system_had() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (cluster_id, raft_id) = (Uuid([3; 16]).into(), 77);
        let image = FoundingImage {
            cluster_id,
            raft_id,
            records: vec![
                Record::Topic {
                    id: Uuid([4; 16]),
                    name: TopicName::new("t").unwrap(),
                },
                Record::ProducerIds {
                    broker_id: BrokerId(1),
                    broker_epoch: BrokerEpoch(5),
                    next_producer_id: ProducerId(3000),
                },
            ],
        };
        let found = |image| Controller::found(world.node("a"), options(&directory()), image);
        let controller = found(image.clone()).await.unwrap();
        assert_eq!(controller.image().next_producer_id(), ProducerId(3000));
        controller.shutdown().await.unwrap();
        let other = FoundingImage {
            raft_id: 78,
            ..image.clone()
        };
        let refused = found(other).await.err().unwrap().to_string();
        assert!(refused.contains("another node's"), "{refused}");

        let controller = start(&world).await.unwrap();
        let ids = (controller.cluster_id(), controller.raft_id());
        assert_eq!(ids, (cluster_id, raft_id));
        assert!(controller.image().topic_by_name("t").is_some());
        controller.shutdown().await.unwrap();

        // What does not fit is refused, and founds nothing.
        let twice = FoundingImage {
            records: [image.records.clone(), image.records].concat(),
            ..image
        };
        let options = options(Path::new("/data/other"));
        let refused = Controller::found(world.node("a"), options, twice).await;
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("topic id"), "{refused}");
    });
}

#[test]
fn decisions_are_answered_after_the_image_has_them_and_subscribers_see_them() {
    let world = SimWorld::new(2);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        let mut images = controller.subscribe();
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        for round in 0..20 {
            let name = format!("t{round}");
            create(&controller, &name).await.unwrap().result.unwrap();
            assert!(controller.image().topic_by_name(&name).is_some());
        }
        images
            .wait_for(|image| image.topics().len() == 20)
            .await
            .unwrap();
        let again = create(&controller, "t3").await.unwrap().result.unwrap_err();
        assert_eq!(again.code, ErrorCode::TopicAlreadyExists);
        controller.shutdown().await.unwrap();
    });
}

#[test]
fn requests_at_the_same_time_are_decided_together_and_all_answered() {
    let world = SimWorld::new(3);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        let before = controller.status().last_log_index.unwrap();
        let names: Vec<_> = (0..100).map(|number| format!("t{}", number % 50)).collect();
        let requests = names.iter().map(|name| create(&controller, name));
        let results = join_all(requests).await;
        let created = results
            .iter()
            .filter(|result| result.as_ref().unwrap().result.is_ok());
        assert_eq!(created.count(), 50, "each name once, also within a batch");
        let entries = controller.status().last_log_index.unwrap() - before;
        assert!(entries < 20, "{entries} entries for 100 requests");
        controller.shutdown().await.unwrap();
    });
}

async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in pending.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *output = Some(value);
            }
        }
        if pending.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending
        .into_iter()
        .map(|(_, output)| output.unwrap())
        .collect()
}

#[test]
fn snapshot_and_log_give_the_same_image_as_the_log() {
    let world = SimWorld::new(4);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        for round in 0..300 {
            create(&controller, &format!("t{round}"))
                .await
                .unwrap()
                .result
                .unwrap();
        }
        controller.snapshot().await.unwrap();
        let mut waited = 0;
        while controller.status().snapshot.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            waited += 1;
            assert!(waited < 1000, "no snapshot");
        }
        for round in 300..310 {
            create(&controller, &format!("t{round}"))
                .await
                .unwrap()
                .result
                .unwrap();
        }
        let before = controller.image();
        controller.shutdown().await.unwrap();
        drop(controller);
        let disk = world.node("a").disk;
        assert!(disk.stat(&directory().join("snapshot")).is_ok());

        let controller = start(&world).await.unwrap();
        let after = controller.image();
        assert_eq!(after.topics().len(), 310);
        assert_eq!(after.last_decision(), before.last_decision());
        // The new term's blank entry is all that is new.
        let same = |image: &Image| {
            let all = image.topics().map(|topic| format!("{topic:?}"));
            (
                all.collect::<Vec<_>>(),
                format!("{:?}", image.brokers().collect::<Vec<_>>()),
            )
        };
        assert_eq!(same(&after), same(&before));
        controller.shutdown().await.unwrap();
    });
}

#[test]
fn a_snapshot_that_does_not_fit_waits_for_room_and_nothing_else_does() {
    let world = SimWorld::new(4);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        let registered = controller.propose(registration(&controller, 1)).await;
        registered.unwrap();
        for round in 0..50 {
            let created = create(&controller, &format!("t{round}")).await;
            created.unwrap().result.unwrap();
        }
        world.disk("a").set_capacity(0);
        controller.snapshot().await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(controller.status().snapshot, None);
        let temporary = directory().join("snapshot.tmp");
        assert!(
            world.node("a").disk.stat(&temporary).is_err(),
            "it holds room"
        );
        // The node answers, and refuses what it cannot write.
        assert_eq!(controller.image().topics().len(), 50);
        let refused = create(&controller, "refused").await;
        let is_made = matches!(refused, Ok(CreateTopicsResult { result: Ok(_), .. }));
        assert!(!is_made, "{refused:?}");
        world.disk("a").set_capacity(u64::MAX);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(controller.status().snapshot.is_some(), "no snapshot");
        let created = create(&controller, "again").await;
        created.unwrap().result.unwrap();
        controller.shutdown().await.unwrap();
    });
}

/// Forms, registers, creates topics, restarts; stops early where the process dies. Gives the names
/// of the topics whose creation was acknowledged, and the cluster's id if it was.
async fn life(world: &SimWorld, names: &[&str]) -> (Option<ClusterId>, Vec<String>) {
    let mut acknowledged = Vec::new();
    let Ok(Ok(controller)) = Box::pin(alive(world, start(world))).await else {
        return (None, acknowledged);
    };
    let cluster_id = Some(controller.cluster_id());
    let register = controller.propose(registration(&controller, 7));
    if !matches!(alive(world, register).await, Ok(Ok(_))) {
        return (cluster_id, acknowledged);
    }
    for name in names {
        match alive(world, create(&controller, name)).await {
            Ok(Ok(CreateTopicsResult { result: Ok(_), .. })) => acknowledged.push((*name).into()),
            _ => return (cluster_id, acknowledged),
        }
    }
    let _ = alive(world, controller.snapshot()).await;
    let _ = alive(world, controller.shutdown()).await;
    (cluster_id, acknowledged)
}

/// The result of `future`, unless the node dies first.
async fn alive<T>(world: &SimWorld, future: impl Future<Output = T>) -> Result<T, ()> {
    let death = async {
        while world.is_alive("a") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        result = future => Ok(result),
        () = death => Err(()),
    }
}

#[test]
fn a_crash_at_every_disk_call_forgets_nothing_and_founds_once() {
    for fault in [Fault::Kill, Fault::PowerCut] {
        let mut survived = false;
        for at_call in 0..2000 {
            let world = SimWorld::new(at_call);
            survived = world.block_on(async {
                let env = world.node("a");
                drop(env);
                world.disk("a").fail_after(at_call, fault);
                let (cluster_id, acknowledged) = life(&world, &["x", "y"]).await;
                let survived = world.is_alive("a");
                world.disk("a").heal();
                let controller = start(&world).await.unwrap();
                if let Some(cluster_id) = cluster_id {
                    assert_eq!(controller.cluster_id(), cluster_id, "call {at_call}");
                }
                for name in &acknowledged {
                    let image = controller.image();
                    assert!(
                        image.topic_by_name(name).is_some(),
                        "{name}, call {at_call}"
                    );
                }
                controller
                    .propose(registration(&controller, 8))
                    .await
                    .unwrap();
                create(&controller, "z").await.unwrap().result.unwrap();
                let image = bytes(&controller.image());
                controller.shutdown().await.unwrap();
                assert!(!image.is_empty());
                survived
            });
            if survived {
                break;
            }
        }
        assert!(survived, "a life needs fewer disk calls");
    }
}

#[test]
fn what_a_node_says_after_a_failed_disk_call_survives_a_power_cut() {
    let topics = |controller: &Controller| -> Vec<String> {
        let image = controller.image();
        let names = ["x", "y", "z"].into_iter();
        let there = names.filter(|name| image.topic_by_name(name).is_some());
        there.map(str::to_owned).collect()
    };
    let mut is_struck = true;
    let mut at_call = 0;
    while is_struck {
        let world = SimWorld::new(at_call);
        is_struck = world.block_on(async {
            let disk = world.node("a").disk;
            disk.create_directory(directory().parent().unwrap())
                .unwrap();
            disk.sync_directory(Path::new("/")).unwrap();
            world.disk("a").fail_after(at_call, Fault::Eio);
            let last_call = world.disk("a").calls() + at_call;
            let (cluster_id, acknowledged) = life(&world, &["x", "y"]).await;
            let is_struck = world.disk("a").calls() > last_call;
            world.disk("a").heal();
            world.kill("a");
            let second = start(&world).await.unwrap();
            let (id, told) = (second.cluster_id(), topics(&second));
            assert!(cluster_id.is_none_or(|founded| founded == id), "{at_call}");
            assert!(
                acknowledged.iter().all(|name| told.contains(name)),
                "call {at_call}: {acknowledged:?}, {told:?}"
            );
            world.power_cut("a");
            let third = start(&world).await.unwrap();
            assert_eq!(third.cluster_id(), id, "call {at_call}");
            assert_eq!(topics(&third), told, "call {at_call}");
            third.shutdown().await.unwrap();
            is_struck
        });
        at_call += 1;
    }
    assert!(at_call > 30, "{at_call}");
}

#[test]
fn a_lost_vote_or_log_or_identity_is_never_replaced() {
    for (lost, file) in [
        ("vote", "vote"),
        ("log", "00000000000000000000.log"),
        ("id", "identity"),
    ] {
        let world = SimWorld::new(9);
        world.block_on(async {
            let controller = start(&world).await.unwrap();
            controller.shutdown().await.unwrap();
            drop(controller);
            world
                .node("a")
                .disk
                .remove_file(&directory().join(file))
                .unwrap();
            let error = start(&world).await.err().expect(lost);
            let QuorumError::Lost { path, .. } = &error else {
                panic!("{error}")
            };
            assert!(path.starts_with(directory()), "{lost}: {error}");
            assert!(
                error.to_string().contains("must not found another"),
                "{error}"
            );
        });
    }
}

#[test]
fn a_corrupt_vote_or_identity_or_snapshot_is_never_replaced() {
    for file in ["vote", "identity", "snapshot"] {
        let world = SimWorld::new(14);
        world.block_on(async {
            let controller = start(&world).await.unwrap();
            controller.snapshot().await.unwrap();
            while controller.status().snapshot.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            controller.shutdown().await.unwrap();
            drop(controller);
            let rotten = world.disk("a").rot(&directory().join(file), 12, 0x04);
            assert!(rotten.is_some());
            let error = start(&world).await.err().expect(file);
            assert!(matches!(error, QuorumError::Lost { .. }), "{error}");
            let place = format!("{} is corrupt", directory().join(file).display());
            assert!(error.to_string().starts_with(&place), "{error}");
        });
    }
}

#[test]
fn a_second_process_on_the_directory_is_refused() {
    let world = SimWorld::new(10);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        let error = start(&world).await.err().unwrap();
        assert!(matches!(error, QuorumError::Locked { .. }), "{error}");
        controller.shutdown().await.unwrap();
        start(&world).await.unwrap();
    });
}

#[test]
fn a_failed_flush_stops_the_quorum_and_acknowledges_nothing() {
    let world = SimWorld::new(11);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        let operation = skein_env::sim::Operation::Sync;
        world.disk("a").fail_path(".log", operation, Fault::Eio, 1);
        let refusal = create(&controller, "t").await.unwrap_err();
        assert!(refusal.code.is_retriable(), "{refusal}");
        let error = controller.failed().await;
        assert!(matches!(error, QuorumError::Stopped { .. }));
        assert!(controller.image().topic_by_name("t").is_none());
    });
}

#[test]
fn a_full_device_refuses_and_goes_on_when_there_is_room() {
    let world = SimWorld::new(12);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        create(&controller, "kept").await.unwrap().result.unwrap();
        create(&controller, "gone").await.unwrap().result.unwrap();
        let delete = |name: &str| {
            let (name, id) = (Some(name.to_owned()), TopicId::ZERO);
            let topics = vec![TopicReference { name, id }];
            controller.propose(DeleteTopics { topics })
        };
        // Nothing is made any more, but what makes room goes on; in the end nothing does.
        world
            .disk("a")
            .set_capacity(world.disk("a").used() + (1 << 20));
        let refusal = create(&controller, "t").await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::KafkaStorageError);
        delete("gone").await.unwrap().remove(0).result.unwrap();
        world.disk("a").set_capacity(world.disk("a").used() + 4096);
        let refusal = delete("kept").await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::KafkaStorageError);
        world.disk("a").set_capacity(1 << 40);
        create(&controller, "t").await.unwrap().result.unwrap();
        controller.shutdown().await.unwrap();
    });
}

#[test]
fn a_silent_broker_is_fenced_and_ones_own_is_not() {
    let world = SimWorld::new(13);
    world.block_on(async {
        let controller = start(&world).await.unwrap();
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        let other = RegisterBroker {
            broker_id: Some(BrokerId(2)),
            raft_id: 12345,
            ..registration(&controller, 2)
        };
        let registered = controller.propose(other).await.unwrap();
        let heartbeat = Heartbeat {
            broker_id: registered.broker_id,
            broker_epoch: registered.broker_epoch,
            applied_index: 0,
            want_fence: false,
            want_shut_down: false,
            oldest_write_ms: Millis(0),
        };
        let is_fenced = |id| controller.image().broker(BrokerId(id)).unwrap().fenced;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(!controller.propose(heartbeat).await.unwrap().is_fenced);
        }
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert!(is_fenced(2), "it was silent for longer than a session");
        assert!(!is_fenced(1), "the controller's own broker lives with it");
        assert!(
            !controller.propose(heartbeat).await.unwrap().is_fenced,
            "it is back"
        );
        controller.shutdown().await.unwrap();
        let refused = controller.propose(heartbeat).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotController);
    });
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let world = SimWorld::new(77);
        world.block_on(life(&world, &["x", "y", "z"]));
        world.trace_hash()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_directory_that_a_killed_process_made_survives_a_power_cut_once_it_is_used() {
    for seed in 0..10 {
        let world = SimWorld::new(seed);
        world.block_on(async {
            // It was killed before it could make the directory's name durable.
            let env = world.node("a");
            env.disk.create_directory(&directory()).unwrap();
            world.kill("a");
            let controller = start(&world).await.unwrap();
            let cluster_id = controller.cluster_id();
            drop(controller);
            world.power_cut("a");
            let controller = start(&world).await.unwrap();
            assert_eq!(controller.cluster_id(), cluster_id, "it has founded anew");
            controller.shutdown().await.unwrap();
        });
    }
}

#[test]
fn data_disks_that_hang_keep_nobody_from_the_metadata_log() {
    use skein_env::Lane;
    use skein_env::real::{RealOptions, RealWorld};
    use std::sync::Barrier;
    const IO_THREADS: usize = 2;
    let world = RealWorld::new(RealOptions {
        network_threads: 2,
        io_threads: IO_THREADS,
    })
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory.path().join("metadata"));
    let gate = Arc::new(Barrier::new(IO_THREADS + 1));
    world.block_on(async {
        let env = world.env();
        for _ in 0..IO_THREADS {
            let gate = Arc::clone(&gate);
            let hang = move || {
                gate.wait();
            };
            // It runs though nobody waits for it.
            drop(env.spawn.offload(Lane::Data, "append", Box::new(hang)));
        }
        let founded = async {
            let controller = Controller::start(env, options).await.unwrap();
            controller.snapshot().await.unwrap();
            controller.shutdown().await.unwrap();
        };
        let founded = tokio::time::timeout(PATIENCE, founded).await;
        gate.wait();
        founded.unwrap();
    });
    assert!(world.shutdown(PATIENCE));
}

#[test]
fn a_stalled_controller_fences_nobody_whose_heartbeat_waits() {
    use skein_env::Lane;
    use skein_env::real::{RealOptions, RealWorld};
    let world = RealWorld::new(RealOptions {
        network_threads: 2,
        io_threads: 2,
    })
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let timeout = Duration::from_secs(1);
    let settings = Layers::new().set("broker.session.timeout.ms=1000");
    let settings = settings.set("broker.heartbeat.interval.ms=100");
    let options = QuorumOptions {
        config: Arc::new(settings.build().unwrap().0),
        ..options(&directory.path().join("metadata"))
    };
    world.block_on(async {
        let env = world.env();
        let controller = Controller::start(env.clone(), options).await.unwrap();
        let other = RegisterBroker {
            broker_id: Some(BrokerId(2)),
            raft_id: controller.raft_id() + 1,
            ..registration(&controller, 2)
        };
        let other = controller.propose(other).await.unwrap();
        let heartbeat = Heartbeat {
            broker_id: other.broker_id,
            broker_epoch: other.broker_epoch,
            applied_index: 0,
            want_fence: false,
            want_shut_down: false,
            oldest_write_ms: Millis(0),
        };
        let before = controller.image().last_decision();
        let stall = async move { std::thread::sleep(2 * timeout) };
        env.spawn.spawn(Lane::Control, "stall", Box::pin(stall));
        tokio::time::sleep(timeout / 2).await;
        assert!(!controller.propose(heartbeat).await.unwrap().is_fenced);
        assert_eq!(controller.image().last_decision(), before, "it was fenced");
        // Who is silent is.
        let mut images = controller.subscribe();
        let fenced = images.wait_for(|image| image.broker(BrokerId(2)).unwrap().fenced);
        let fenced = tokio::time::timeout(PATIENCE, fenced).await;
        assert!(fenced.unwrap().is_ok());
        controller.shutdown().await.unwrap();
    });
    assert!(world.shutdown(PATIENCE));
}

#[test]
fn large_requests_one_after_the_other_leave_the_control_lane_to_others_in_between() {
    use skein_env::Lane;
    use skein_env::real::{RealOptions, RealWorld};
    use std::sync::atomic::{AtomicUsize, Ordering};
    const REQUESTS: usize = 100;
    let world = RealWorld::new(RealOptions {
        network_threads: 2,
        io_threads: 2,
    })
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory.path().join("metadata"));
    let ticks = Arc::new(AtomicUsize::new(0));
    let ticked = Arc::clone(&ticks);
    let meanwhile = world.block_on(async {
        let env = world.env();
        let controller = Controller::start(env.clone(), options).await.unwrap();
        let registration = registration(&controller, 1);
        controller.propose(registration).await.unwrap();
        let clock = async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticked.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clock = env.spawn.spawn(Lane::Control, "clock", Box::pin(clock));
        // They leave no record: there is nothing to wait for.
        let mut large = topic("t");
        large.topics[0].num_partitions = 2_000;
        large.validate_only = true;
        let before = ticks.load(Ordering::Relaxed);
        let requests: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let (controller, large) = (controller.clone(), large.clone());
                tokio::spawn(async move { controller.propose(large).await })
            })
            .collect();
        for request in requests {
            assert!(request.await.unwrap().unwrap()[0].result.is_ok());
        }
        let meanwhile = ticks.load(Ordering::Relaxed) - before;
        clock.abort();
        controller.shutdown().await.unwrap();
        meanwhile
    });
    // One before them and one behind, if they are decided in one go.
    println!("{meanwhile} turns for others");
    assert!(meanwhile > REQUESTS / 10, "{meanwhile} turns for others");
    assert!(world.shutdown(PATIENCE));
}

#[test]
fn a_node_on_a_real_disk_serves_in_well_under_200_ms() {
    use skein_env::real::{RealOptions, RealWorld};
    let world = RealWorld::new(RealOptions {
        network_threads: 2,
        io_threads: 2,
    })
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = options(&directory.path().join("metadata"));
    let (first, second) = world.block_on(async {
        let started = std::time::Instant::now();
        let controller = Controller::start(world.env(), options.clone())
            .await
            .unwrap();
        let first = started.elapsed();
        controller
            .propose(registration(&controller, 1))
            .await
            .unwrap();
        create(&controller, "t").await.unwrap().result.unwrap();
        controller.shutdown().await.unwrap();
        let started = std::time::Instant::now();
        let controller = Controller::start(world.env(), options).await.unwrap();
        let second = started.elapsed();
        assert!(controller.image().topic_by_name("t").is_some());
        controller.shutdown().await.unwrap();
        (first, second)
    });
    assert!(world.shutdown(PATIENCE));
    // The bar is 200 ms on a machine of its own; here other tests run too.
    assert!(first.max(second) < Duration::from_secs(2));
}
