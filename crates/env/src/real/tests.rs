//! What only the real world has: threads, the pool, the port in use.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::getpriority_process;

use super::background::{Had, Hunger, parse};
use super::courtesy::{Courtesy, slice};
use super::io_pool::IoPool;
use super::*;
use crate::{Lane, ListenOptions};

fn world() -> RealWorld {
    RealWorld::new(RealOptions {
        network_threads: 2,
        io_threads: 2,
    })
    .unwrap()
}

/// Ends the pool's threads, so that everything submitted has run.
fn finish(world: RealWorld) {
    assert!(world.shutdown(Duration::from_secs(10)));
}

#[test]
fn control_tasks_run_on_the_control_thread_only() {
    let world = world();
    let (sender, receiver) = mpsc::channel();
    for lane in [Lane::Data, Lane::Control] {
        let sender = sender.clone();
        let _task = world.env().spawn.spawn(
            lane,
            "where",
            Box::pin(async move {
                let name = thread::current().name().unwrap_or_default().to_owned();
                sender.send((lane == Lane::Control, name)).unwrap();
            }),
        );
    }
    for _ in 0..2 {
        let (control, name) = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(
            name,
            if control {
                "skein-control"
            } else {
                "skein-data"
            }
        );
    }
    finish(world);
}

#[test]
fn an_aborted_task_finishes() {
    let world = world();
    let task = world
        .env()
        .spawn
        .spawn(Lane::Data, "never", Box::pin(std::future::pending()));
    assert!(!task.is_finished());
    task.abort();
    world.block_on(async {
        while !task.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    finish(world);
}

#[test]
fn offloaded_work_is_done_when_its_future_ends() {
    let world = world();
    let spawn = world.env().spawn;
    let count = Arc::new(AtomicUsize::new(0));
    world.block_on(async {
        for expected in 1..=100 {
            let counted = Arc::clone(&count);
            let work = Box::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            });
            spawn.offload(Lane::Data, "count", work).await;
            assert_eq!(count.load(Ordering::SeqCst), expected);
            spawn.yield_now().await;
        }
    });
    finish(world);
}

#[test]
fn blocking_work_of_the_control_lane_does_not_wait_for_that_of_the_data_lane() {
    let world = world();
    let env = world.env();
    let gate = Arc::new(Barrier::new(3));
    // As many as there are threads, like writes to a disk that hangs; and some that wait.
    let held: Vec<_> = (0..20)
        .map(|number| {
            let gate = Arc::clone(&gate);
            let work = move || {
                if number < 2 {
                    gate.wait();
                }
            };
            env.spawn.offload(Lane::Data, "held", Box::new(work))
        })
        .collect();
    world.block_on(async {
        let vote = env.offload_on(Lane::Control, "vote", || 7);
        let voted = tokio::time::timeout(Duration::from_secs(10), vote).await;
        assert_eq!(voted, Ok(Some(7)));
        gate.wait();
        for held in held {
            held.await;
        }
    });
    drop(env);
    finish(world);
}

#[test]
fn background_work_gives_way_and_no_other_does() {
    let world = world();
    let env = world.env();
    let own = getpriority_process(None).unwrap();
    let niceness = |lane| {
        let ask = || getpriority_process(None).unwrap();
        world.block_on(env.offload_on(lane, "nice", ask)).unwrap()
    };
    assert_eq!(niceness(Lane::Data), own);
    assert_eq!(niceness(Lane::Control), own);
    assert!(niceness(Lane::Background) > own || own >= 10);
    drop(env);
    finish(world);
}

/// Which threads do the work of the background lane depends on how busy the machine is: the pools
/// are asked, not the lane.
#[test]
fn idle_threads_get_what_others_leave() {
    for (courtesy, policy) in [
        (Courtesy::None, "0"),
        (Courtesy::Nice, "0"),
        (Courtesy::Idle, "5"),
    ] {
        let pool = IoPool::new("test", 1, 4, courtesy).unwrap();
        let (tell, told) = mpsc::channel();
        let ask = Box::new(move || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            tell.send(stat).unwrap();
        });
        drop(pool.submit("policy", ask));
        let stat = told.recv().unwrap();
        let behind_name = stat.rsplit(')').next().unwrap();
        // SCHED_OTHER and SCHED_IDLE, as the 41st field tells them.
        let found = behind_name.split_whitespace().nth(38);
        assert_eq!(found, Some(policy), "{courtesy:?}");
    }
}

#[test]
fn threads_that_serve_others_ask_for_short_turns() {
    let world = RealWorld::new(RealOptions::default()).unwrap();
    let env = world.env();
    for lane in [Lane::Data, Lane::Control] {
        let (tell, told) = mpsc::channel();
        let ask = async move { tell.send(slice()).unwrap() };
        let _task = env.spawn.spawn(lane, "slice", Box::pin(ask));
        // Linux before 6.12 tells none.
        let slice = told.recv().unwrap();
        assert!(slice == 100_000 || slice == 0, "{lane:?}: {slice}");
    }
    drop(env);
    finish(world);
}

#[test]
fn background_work_that_gets_no_tenth_of_a_processor_is_done_by_others_for_a_while() {
    let millis = Duration::from_millis;
    let had = |run, waited| Had {
        run: millis(run),
        waited: millis(waited),
    };
    let now = Instant::now();
    let is_hungry = |from, to| {
        let hunger = Hunger::default();
        hunger.note(from, to, now);
        assert!(!hunger.is_on(now + millis(10_001)), "it is tried again");
        hunger.is_on(now + millis(9_999))
    };
    assert!(!is_hungry(had(0, 0), had(100, 0)));
    assert!(!is_hungry(had(0, 0), had(20, 180)));
    assert!(is_hungry(had(0, 0), had(20, 181)));
    assert!(!is_hungry(had(0, 0), had(1, 99)), "too short to tell");
    let before = had(1_000, 50_000);
    assert!(!is_hungry(before, had(1_100, 50_100)), "it was long ago");
    assert_eq!(parse("20000000 181000000 7\n"), Some(had(20, 181)));
    assert_eq!(parse("20000000"), None);
    assert_eq!(parse("a b c"), None);
}

#[test]
fn work_beyond_the_queue_waits_and_all_of_it_runs_though_its_future_is_dropped() {
    const JOBS: usize = 40;
    let pool = IoPool::new("test", 1, 4, Courtesy::None).unwrap();
    let gate = Arc::new(Barrier::new(2));
    let runs = Arc::new(AtomicUsize::new(0));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let held = Arc::clone(&gate);
        let hold = Box::new(move || {
            held.wait();
        });
        let mut first = Box::pin(pool.submit("hold", hold));
        tokio::time::timeout(Duration::from_millis(20), &mut first)
            .await
            .unwrap_err();
        let mut futures = Vec::new();
        for _ in 0..JOBS {
            let runs = Arc::clone(&runs);
            let work = Box::new(move || {
                runs.fetch_add(1, Ordering::SeqCst);
            });
            futures.push(Box::pin(pool.submit("count", work)));
        }
        assert_eq!(pool.queued(), 4, "the queue is bounded");
        // Half of them are dropped, polled or not; their work must run all the same.
        futures.truncate(JOBS / 2);
        gate.wait();
        first.await;
        for future in futures {
            future.await;
        }
    });
    assert!(pool.finish(Instant::now() + Duration::from_secs(10)));
    assert_eq!(runs.load(Ordering::SeqCst), JOBS);
}

#[test]
fn a_panic_in_offloaded_work_goes_on_in_the_caller_and_the_pool_survives() {
    let world = world();
    let spawn = world.env().spawn;
    for _ in 0..4 {
        let failing = spawn.offload(Lane::Data, "fail", Box::new(|| panic!("on purpose")));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.block_on(failing);
        }));
        assert!(outcome.is_err());
    }
    world.block_on(spawn.offload(Lane::Data, "works", Box::new(|| {})));
    finish(world);
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let world = world();
    let net = world.env().net;
    let first = net.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_address().unwrap();
    let error = net.bind(address).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        format!("cannot listen at {address}: another process listens there")
    );
    drop(first);
    net.bind(address).unwrap();
    finish(world);
}

/// The connections to `address` that the kernel accepts on behalf of a listener which does not.
fn accepted_early(address: SocketAddr, tries: usize) -> usize {
    const PATIENCE: Duration = Duration::from_millis(200);
    let connections: Vec<_> = (0..tries)
        .map(|_| std::net::TcpStream::connect_timeout(&address, PATIENCE))
        .collect();
    connections.iter().filter(|tried| tried.is_ok()).count()
}

#[test]
fn a_backlog_takes_as_many_connections_as_it_was_asked_for() {
    let world = world();
    let net = world.env().net;
    let listen = |backlog| {
        let options = ListenOptions {
            backlog,
            ..ListenOptions::default()
        };
        net.listen("127.0.0.1:0".parse().unwrap(), &options)
            .unwrap()
    };
    let (small, large) = (listen(2), listen(100));
    // The kernel takes one more than it was asked for.
    assert_eq!(accepted_early(small.local_address().unwrap(), 5), 3);
    assert_eq!(accepted_early(large.local_address().unwrap(), 5), 5);
    finish(world);
}

#[test]
fn accepted_connections_have_the_buffers_that_were_asked_for() {
    const BYTES: u32 = 100_000;
    let options = ListenOptions {
        send_buffer_bytes: Some(BYTES),
        receive_buffer_bytes: Some(BYTES),
        ..ListenOptions::default()
    };
    let socket = net::listening_socket("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _client = std::net::TcpStream::connect(address).unwrap();
    let (accepted, _) = socket.accept().unwrap();
    // The kernel doubles what it is asked for, for its own bookkeeping.
    assert_eq!(accepted.send_buffer_size().unwrap(), 2 * BYTES as usize);
    assert_eq!(accepted.recv_buffer_size().unwrap(), 2 * BYTES as usize);
}

#[test]
fn random_bits_differ_and_the_clock_shows_this_century() {
    let world = world();
    let env = world.env();
    assert_ne!(env.rng.next_u64(), env.rng.next_u64());
    let mut long = [0; 1000];
    env.rng.fill(&mut long);
    assert!(long.iter().any(|byte| *byte != 0));
    assert!(env.clock.now().get() > 1_700_000_000_000);
    finish(world);
}

#[test]
fn the_descriptor_limit_reaches_the_hard_one() {
    let raised = raise_descriptor_limit().unwrap();
    assert_eq!(raised, getrlimit(Resource::Nofile).maximum);
}

#[test]
fn a_thread_that_waits_is_asleep_and_one_that_computes_is_not() {
    let world = world();
    let spawn = world.env().spawn;
    let is_asleep = |computes: bool| {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let watched = Arc::clone(&spawn);
        let thread = thread::spawn(move || {
            tell.send(watched.this_thread().unwrap()).unwrap();
            if computes {
                while ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    std::hint::spin_loop();
                }
            } else {
                let _ = ended.recv();
            }
        });
        let number = told.recv().unwrap();
        // It takes a moment until the thread stands where it shall.
        let seen = (0..1000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            spawn.is_asleep(number) == Some(!computes)
        });
        drop(end);
        thread.join().unwrap();
        (seen, number)
    };
    assert!(is_asleep(true).0);
    let (seen, number) = is_asleep(false);
    assert!(seen);
    assert_eq!(spawn.is_asleep(number), None, "the thread has ended");
    finish(world);
}
