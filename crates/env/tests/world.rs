//! The simulated world: one seed decides, processes end, faults reach those they are meant for.
//!
//! Input: seeds. Output: assertions on traces, tasks and connections.
//!
//! Invariants checked here: those of `sim.rs`, `sim/world.rs`, `sim/spawn.rs` and `sim/net.rs`.
//!
//! Source: none.

#![cfg(feature = "sim")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use skein_env::sim::{DiskSpeed, FaultPlan, LinkPlan, Schedule, SimWorld};
use skein_env::{Env, Lane, Listener, OpenMode, Stream};
use skein_types::Millis;
use tokio::time::{Instant, sleep, timeout};

const PORT: u16 = 9092;
const LONG: Duration = Duration::from_secs(60);

fn bind(env: &Env) -> Box<dyn Listener> {
    env.net
        .bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))
        .unwrap()
}

async fn accept(listener: &mut Box<dyn Listener>) -> Box<dyn Stream> {
    poll_fn(|context| listener.poll_accept(context))
        .await
        .unwrap()
        .0
}

async fn write(stream: &mut Box<dyn Stream>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let pieces = [IoSlice::new(bytes)];
        let count = poll_fn(|context| stream.poll_write(context, &pieces, false)).await?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// Exactly `count` bytes; fewer at the end of the stream.
async fn read(stream: &mut Box<dyn Stream>, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = BytesMut::with_capacity(count);
    while bytes.len() < count {
        let left = count - bytes.len();
        if poll_fn(|context| stream.poll_read(context, &mut bytes, left)).await? == 0 {
            break;
        }
    }
    Ok(bytes.to_vec())
}

async fn connect(from: &Env, to: &str) -> io::Result<Box<dyn Stream>> {
    from.net.connect(to, PORT).await
}

/// A connection from the node "client" to the node "server".
async fn connected(world: &SimWorld) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let mut listener = bind(&world.node("server"));
    let client = world.node("client");
    let (client, server) = tokio::join!(connect(&client, "server"), accept(&mut listener));
    (client.unwrap(), server)
}

/// Writes what it reads to its disk, flushes, and echoes it.
async fn serve(env: Env) {
    let mut listener = bind(&env);
    loop {
        let mut stream = accept(&mut listener).await;
        let inner = env.clone();
        let _task = env.spawn.spawn(
            Lane::Data,
            "connection",
            Box::pin(async move {
                let name = format!("{:x}", inner.rng.next_u64());
                let mode = OpenMode::CreateOrTruncate;
                let Ok(file) = inner.disk.open(Path::new(&name), mode) else {
                    return;
                };
                let mut at = 0;
                while let Ok(bytes) = read(&mut stream, 16).await {
                    let written = file.write_at(&[IoSlice::new(&bytes)], at);
                    let Ok(count) = written else { return };
                    let flushed = Arc::clone(&file);
                    inner
                        .spawn
                        .offload(
                            Lane::Data,
                            "flush",
                            Box::new(move || drop(flushed.sync_data())),
                        )
                        .await;
                    sleep(inner.disk.take_cost()).await;
                    at += count as u64;
                    if count < 16 || write(&mut stream, &bytes).await.is_err() {
                        return;
                    }
                }
            }),
        );
    }
}

/// Asks until it had `answers` answers.
async fn ask(env: Env, answers: usize, done: Arc<AtomicUsize>) {
    for _ in 0..answers {
        let Ok(Ok(mut stream)) = timeout(LONG, connect(&env, "server")).await else {
            continue;
        };
        let mut question = [0; 16];
        env.rng.fill(&mut question);
        if write(&mut stream, &question).await.is_ok()
            && let Ok(Ok(answer)) = timeout(LONG, read(&mut stream, 16)).await
            && answer == question
        {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn start_server(world: &SimWorld) {
    let env = world.node("server");
    let _task = env
        .spawn
        .spawn(Lane::Data, "server", Box::pin(serve(env.clone())));
}

/// A run with every kind of disturbance; returns its trace, its answers and its end.
fn run_everything(seed: u64) -> (u64, usize, Duration) {
    let world = SimWorld::new(seed);
    let mut rng = world.rng("test");
    world.net().set_plan(LinkPlan {
        loss_one_in: 20,
        reset_one_in: 50,
        ..LinkPlan::default()
    });
    let plan = FaultPlan {
        short_write_one_in: 20,
        write_eio_one_in: 30,
        ..FaultPlan::default()
    };
    world.disk("server").set_plan(plan);
    let done = Arc::new(AtomicUsize::new(0));
    let elapsed = world.block_on(async {
        let start = Instant::now();
        start_server(&world);
        let mut clients = Vec::new();
        for name in ["client-1", "client-2", "client-3"] {
            let env = world.node(name);
            let asking = ask(env.clone(), 20, Arc::clone(&done));
            clients.push(env.spawn.spawn(Lane::Data, "client", Box::pin(asking)));
        }
        while clients.iter().any(|client| !client.is_finished()) {
            sleep(Duration::from_millis(rng.between(1, 200))).await;
            match rng.below(4) {
                0 => world.kill("server"),
                1 => world.power_cut("server"),
                2 => world.net().partition("client-1", "server"),
                _ => drop(world.net().cut("client-2", "server")),
            }
            sleep(Duration::from_millis(rng.between(1, 200))).await;
            world.net().heal();
            if !world.is_alive("server") {
                start_server(&world);
            }
        }
        start.elapsed()
    });
    (world.trace_hash(), done.load(Ordering::Relaxed), elapsed)
}

#[test]
fn the_same_seed_twice_gives_the_same_run() {
    let mut traces = BTreeSet::new();
    let mut answers = 0;
    for seed in 0..40 {
        let first = run_everything(seed);
        assert_eq!(first, run_everything(seed), "seed {seed}");
        answers += first.1;
        traces.insert(first.0);
    }
    assert_eq!(traces.len(), 40, "each seed has a run of its own");
    assert!(
        (800..2400).contains(&answers),
        "{answers} of 2400: neither idle nor undisturbed"
    );
}

#[test]
fn the_seed_decides_the_order_of_ready_tasks() {
    let order = |seed| {
        let world = SimWorld::new(seed);
        let order = Arc::new(Mutex::new(Vec::new()));
        world.block_on(async {
            let env = world.node("node");
            for number in 0..20 {
                let order = Arc::clone(&order);
                let push = async move { order.lock().push(number) };
                let _task = env.spawn.spawn(Lane::Data, "push", Box::pin(push));
            }
            sleep(LONG).await;
        });
        Arc::into_inner(order).unwrap().into_inner()
    };
    let orders: BTreeSet<Vec<i32>> = (0..20).map(order).collect();
    assert!(orders.len() > 10, "{} orders", orders.len());
    assert!(orders.iter().all(|order| order.len() == 20), "none is lost");
    assert_eq!(order(3), order(3));
}

#[test]
fn a_kill_ends_the_tasks_of_its_process_only() {
    let world = SimWorld::new(1);
    let ticks = Arc::new(AtomicUsize::new(0));
    let tick = |env: &Env| {
        let ticks = Arc::clone(&ticks);
        env.spawn.spawn(
            Lane::Control,
            "tick",
            Box::pin(async move {
                loop {
                    sleep(Duration::from_millis(10)).await;
                    ticks.fetch_add(1, Ordering::Relaxed);
                }
            }),
        )
    };
    world.block_on(async {
        let (one, other) = (world.node("one"), world.node("other"));
        let (first, second) = (tick(&one), tick(&other));
        sleep(Duration::from_secs(1)).await;
        world.kill("one");
        sleep(Duration::from_millis(1)).await;
        assert!(first.is_finished() && !second.is_finished());
        let before = ticks.load(Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        let during = ticks.load(Ordering::Relaxed) - before;
        assert!(
            (50..=100).contains(&during),
            "{during} ticks of one task in a second"
        );
        let late = tick(&one);
        assert!(late.is_finished(), "a dead process starts nothing");
        second.abort();
        sleep(Duration::from_millis(1)).await;
        assert!(second.is_finished());
    });
}

#[test]
#[should_panic(expected = "an invariant")]
fn a_panic_in_a_task_ends_the_run() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let spawn = world.node("node").spawn;
        let _task = spawn.spawn(
            Lane::Data,
            "fail",
            Box::pin(async { panic!("an invariant") }),
        );
        std::future::pending::<()>().await;
    });
}

#[test]
#[should_panic(expected = "seed 7: spin was polled 100000 times within a second")]
fn a_run_in_which_a_task_spins_ends() {
    let world = SimWorld::new(7);
    world.block_on(async {
        let env = world.node("node");
        let spawn = Arc::clone(&env.spawn);
        let spin = async move {
            loop {
                spawn.yield_now().await;
            }
        };
        let _task = env.spawn.spawn(Lane::Data, "spin", Box::pin(spin));
        std::future::pending::<()>().await;
    });
}

#[test]
#[should_panic(expected = "seed 1: the simulation stands still")]
fn a_run_in_which_nothing_moves_ends() {
    SimWorld::new(1).block_on(std::future::pending::<()>());
}

#[test]
fn a_partition_holds_bytes_back_in_its_direction_until_it_heals() {
    for seed in 0..20 {
        let world = SimWorld::new(seed);
        world.block_on(async {
            let (mut client, mut server) = connected(&world).await;
            world.net().block("client", "server");
            write(&mut client, b"held").await.unwrap();
            write(&mut server, b"free").await.unwrap();
            assert_eq!(read(&mut client, 4).await.unwrap(), b"free");
            assert!(timeout(LONG, read(&mut server, 4)).await.is_err());
            let env = world.node("client");
            assert!(timeout(LONG, connect(&env, "server")).await.is_err());
            world.net().heal();
            assert_eq!(
                timeout(LONG, read(&mut server, 4)).await.unwrap().unwrap(),
                b"held"
            );
        });
    }
}

#[test]
fn a_cut_resets_both_ends_and_a_new_connection_works() {
    let world = SimWorld::new(2);
    world.block_on(async {
        let (mut client, mut server) = connected(&world).await;
        write(&mut client, b"lost").await.unwrap();
        assert_eq!(world.net().cut("server", "client"), 1);
        for end in [&mut client, &mut server] {
            assert_eq!(
                read(end, 4).await.unwrap_err().kind(),
                ErrorKind::ConnectionReset
            );
            assert_eq!(
                write(end, b"x").await.unwrap_err().kind(),
                ErrorKind::BrokenPipe
            );
        }
        let (mut client, mut server) = connected(&world).await;
        write(&mut client, b"kept").await.unwrap();
        assert_eq!(read(&mut server, 4).await.unwrap(), b"kept");
    });
}

#[test]
fn what_a_killed_process_wrote_arrives_before_the_end() {
    for seed in 0..20 {
        let world = SimWorld::new(seed);
        world.block_on(async {
            let (mut client, mut server) = connected(&world).await;
            write(&mut server, b"last words").await.unwrap();
            world.kill("server");
            assert!(write(&mut server, b"x").await.is_err());
            assert_eq!(read(&mut client, 20).await.unwrap(), b"last words");
            let error = connect(&world.node("client"), "server")
                .await
                .err()
                .unwrap();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            bind(&world.node("server")); // the port is free again
        });
    }
}

#[test]
fn what_a_killed_process_wrote_arrives_also_when_the_next_one_runs() {
    let world = SimWorld::new(5);
    world.block_on(async {
        let (mut client, mut server) = connected(&world).await;
        write(&mut server, b"last words").await.unwrap();
        world.net().hold_back("server", "client");
        world.kill("server");
        let mut listener = bind(&world.node("server"));
        let env = world.node("client");
        // The way is free for all others.
        let (second, mut accepted) = tokio::join!(connect(&env, "server"), accept(&mut listener));
        write(&mut accepted, b"new").await.unwrap();
        assert_eq!(read(&mut second.unwrap(), 3).await.unwrap(), b"new");
        assert!(timeout(LONG, read(&mut client, 20)).await.is_err());
        world.net().unblock("server", "client");
        assert_eq!(read(&mut client, 20).await.unwrap(), b"last words");
        assert_eq!(read(&mut client, 20).await.unwrap(), b"");
    });
}

#[test]
fn a_killed_process_with_unread_bytes_resets_its_peer() {
    let world = SimWorld::new(3);
    world.block_on(async {
        let (mut client, _server) = connected(&world).await;
        write(&mut client, b"unread").await.unwrap();
        world.kill("server");
        assert_eq!(
            read(&mut client, 1).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn after_a_power_cut_peers_hear_nothing_until_the_machine_is_back() {
    let world = SimWorld::new(4);
    world.block_on(async {
        let (mut client, mut server) = connected(&world).await;
        write(&mut server, b"on its way").await.unwrap();
        world.power_cut("server");
        assert_eq!(read(&mut client, 10).await.unwrap(), b"on its way");
        assert!(timeout(LONG, read(&mut client, 1)).await.is_err());
        let env = world.node("client");
        assert!(timeout(LONG, connect(&env, "server")).await.is_err());
        let env = world.node("server");
        assert_eq!(
            read(&mut client, 1).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
        let mut listener = bind(&env);
        let client = world.node("client");
        let (client, _server) = tokio::join!(connect(&client, "server"), accept(&mut listener));
        client.unwrap();
    });
}

#[test]
fn losses_delay_and_resets_end_connections() {
    let world = SimWorld::new(5);
    world.block_on(async {
        world.net().set_plan(LinkPlan {
            loss_one_in: 1,
            ..LinkPlan::default()
        });
        let (mut client, mut server) = connected(&world).await;
        let start = Instant::now();
        write(&mut client, b"slow").await.unwrap();
        assert_eq!(read(&mut server, 4).await.unwrap(), b"slow");
        assert!(start.elapsed() >= LinkPlan::default().stall);
        world.net().set_plan(LinkPlan {
            reset_one_in: 1,
            ..LinkPlan::default()
        });
        let error = write(&mut client, b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(
            read(&mut server, 1).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    });
}

#[test]
fn names_and_addresses_lead_to_their_nodes() {
    let world = SimWorld::new(6);
    world.block_on(async {
        let (one, other) = (world.node("one"), world.node("other"));
        let mut listener = bind(&one);
        let address = world.address("one").to_string();
        for (from, host) in [(&other, "one"), (&other, &address), (&one, "localhost")] {
            let (stream, _) = tokio::join!(connect(from, host), accept(&mut listener));
            stream.unwrap();
        }
        let unknown = connect(&other, "nobody").await.err().unwrap();
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        let own = connect(&other, "127.0.0.1").await.err().unwrap();
        assert_eq!(own.kind(), ErrorKind::ConnectionRefused);
        let local = other.net.bind("127.0.0.1:9092".parse().unwrap()).unwrap();
        let remote = connect(&one, "other").await.err().unwrap();
        assert_eq!(
            remote.kind(),
            ErrorKind::ConnectionRefused,
            "bound to the loopback address"
        );
        drop(local);
    });
}

#[test]
fn offloaded_work_takes_the_time_of_its_disk_calls_and_runs_though_nobody_waits() {
    let world = SimWorld::new(7);
    let call = Duration::from_secs(3);
    world.disk("node").set_speed(DiskSpeed {
        call,
        ..DiskSpeed::default()
    });
    world.block_on(async {
        let env = world.node("node");
        let create = |name: &'static str| {
            let disk = Arc::clone(&env.disk);
            Box::new(move || drop(disk.open(Path::new(name), OpenMode::CreateNew)))
        };
        let start = Instant::now();
        env.spawn.offload(Lane::Data, "create", create("a")).await;
        assert!(start.elapsed() >= call && start.elapsed() < 2 * call);
        assert_eq!(env.disk.take_cost(), Duration::ZERO, "it paid for itself");
        drop(env.spawn.offload(Lane::Data, "create", create("b")));
        sleep(2 * call).await;
        env.disk.stat(Path::new("b")).unwrap();
        let waiting = env.spawn.offload(Lane::Data, "create", create("c"));
        world.kill("node");
        assert!(
            timeout(LONG, waiting).await.is_err(),
            "nobody is left to hear of it"
        );
        assert!(world.node("node").disk.stat(Path::new("c")).is_err());
    });
}

#[test]
fn the_time_of_day_follows_the_timers_with_skew_and_jumps() {
    let world = SimWorld::new(8);
    let (clock, control) = (world.node("node").clock, world.clock("node"));
    let start = clock.now();
    assert_eq!(world.node("other").clock.now(), start);
    world.block_on(async { sleep(Duration::from_secs(5)).await });
    assert_eq!(clock.now().saturating_sub(start), Millis(5000));
    control.jump(Millis(-60_000));
    assert_eq!(clock.now().saturating_sub(start), Millis(-55_000));
    control.set_skew(Millis(100));
    assert_eq!(clock.now().saturating_sub(start), Millis(5100));
    assert_eq!(
        world.node("other").clock.now().saturating_sub(start),
        Millis(5000)
    );
}

#[test]
fn random_bits_depend_on_seed_node_and_process() {
    let draw = |seed, name, restarts| {
        let world = SimWorld::new(seed);
        let _ = world.node("another").rng.next_u64();
        for _ in 0..restarts {
            let _ = world.node(name).rng.next_u64();
            world.kill(name);
        }
        world.node(name).rng.next_u64()
    };
    let cases = [(1, "a", 0), (2, "a", 0), (1, "b", 0), (1, "a", 1)];
    let drawn = cases.map(|(seed, name, restarts)| draw(seed, name, restarts));
    assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(
        drawn,
        cases.map(|(seed, name, restarts)| draw(seed, name, restarts))
    );
}

#[test]
fn without_disturbance_tasks_run_in_their_order() {
    let world = SimWorld::new(9);
    let none = Duration::ZERO;
    world.set_schedule(Schedule {
        yield_one_in: 0,
        delay_one_in: 0,
        delay_max: none,
        offload_delay_max: none,
    });
    world.keep_log();
    let order = Arc::new(Mutex::new(Vec::new()));
    world.block_on(async {
        for number in 0..50 {
            let order = Arc::clone(&order);
            let push = async move { order.lock().push(number) };
            let _task = world
                .node("node")
                .spawn
                .spawn(Lane::Data, "push", Box::pin(push));
        }
        tokio::task::yield_now().await;
    });
    assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
    assert!(
        world.log().iter().any(|line| line.contains("task 7 push")),
        "{:?}",
        world.log()
    );
}
