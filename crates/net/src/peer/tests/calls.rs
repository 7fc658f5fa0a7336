//! Calls between nodes: that they arrive, that they come back to life, and how they fail.

use skein_env::sim::{LinkPlan, SimWorld};
use tokio::time::{Instant, sleep};

use super::harness::*;
use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn calls_of_all_purposes_are_answered_under_many_seeds() {
    for seed in 0..40 {
        let world = SimWorld::new(seed);
        let plan = LinkPlan {
            fragment_one_in: 2,
            buffer_max: 300,
            ..LinkPlan::default()
        };
        world.net().set_plan(plan);
        world.block_on(async {
            let secret = (seed % 2 == 0).then_some(SECRET);
            let (a, b) = (start(&world, "a", secret), start(&world, "b", secret));
            for text in ["one", "two"] {
                for purpose in Purpose::ALL {
                    let answer = a.ask("b", purpose, text, PATIENCE).await;
                    assert_eq!(answer.unwrap(), text, "seed {seed}");
                }
            }
            let seen = b.echo.seen.lock().0.clone();
            let purposes: Vec<_> = seen.iter().map(|peer| peer.purpose).collect();
            assert_eq!(purposes, Purpose::ALL, "one connection for each, kept");
            assert!(
                seen.iter()
                    .all(|peer| peer.process_id == a.local.process_id())
            );
        });
    }
}

#[test]
fn callers_that_come_together_share_one_connection() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, b) = (start(&world, "a", None), start(&world, "b", None));
        let ask = |text| a.ask("b", Purpose::Control, text, PATIENCE);
        let (one, two, three) = tokio::join!(ask("1"), ask("2"), ask("3"));
        assert_eq!(
            [one.unwrap(), two.unwrap(), three.unwrap()],
            ["1", "2", "3"]
        );
        assert_eq!(b.echo.seen.lock().0.len(), 1);
    });
}

#[test]
fn a_node_finds_out_which_address_is_its_own() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, b) = (
            start(&world, "a", Some(SECRET)),
            start(&world, "b", Some(SECRET)),
        );
        let connect = |name| {
            let links = a.links.clone();
            async move {
                links
                    .connect(&at(name), Purpose::Control, PATIENCE)
                    .await
                    .unwrap()
            }
        };
        assert!(connect("a").await.is_self);
        let there = connect("b").await;
        assert!(!there.is_self);
        assert_eq!(there.process_id, b.local.process_id());
    });
}

#[test]
fn a_dead_process_refuses_at_once_and_its_successor_is_reached_within_milliseconds() {
    for seed in 0..30 {
        let world = SimWorld::new(seed);
        world.block_on(async {
            let (a, b) = (
                start(&world, "a", Some(SECRET)),
                start(&world, "b", Some(SECRET)),
            );
            let mut presence = a.links.watch(&at("b"));
            a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap();
            a.ask("b", Purpose::Fetch, "x", PATIENCE).await.unwrap();
            assert_eq!(presence.borrow_and_update().open, 2);
            let before = presence.borrow().process_id;
            assert_eq!(before, Some(b.local.process_id()));

            world.kill("b");
            let killed = Instant::now();
            let lost = presence.wait_for(|now| now.lost == 2).await.unwrap();
            assert_eq!(lost.open, 0);
            drop(lost);
            let told_after = killed.elapsed();
            assert!(told_after < 20 * MILLISECOND, "seed {seed}: {told_after:?}");

            let asked = Instant::now();
            let error = a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap_err();
            assert!(error.is_refused(), "seed {seed}: {error}");
            assert!(
                asked.elapsed() < 20 * MILLISECOND,
                "seed {seed}: {:?}",
                asked.elapsed()
            );
            assert_eq!(presence.borrow().refused, 1);
            // However often it was asked before.
            for _ in 0..100 {
                let error = a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap_err();
                assert!(error.is_refused(), "seed {seed}: {error}");
            }

            let b = start(&world, "b", Some(SECRET));
            let back = Instant::now();
            assert_eq!(a.ask("b", Purpose::Raft, "y", PATIENCE).await.unwrap(), "y");
            assert!(
                back.elapsed() < 40 * MILLISECOND,
                "seed {seed}: {:?}",
                back.elapsed()
            );
            assert_eq!(presence.borrow().process_id, Some(b.local.process_id()));
            assert_ne!(presence.borrow().process_id, before);
        });
    }
}

#[test]
fn the_server_sees_when_a_peer_has_gone() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, b) = (start(&world, "a", None), start(&world, "b", None));
        a.ask("b", Purpose::Control, "x", PATIENCE).await.unwrap();
        assert_eq!(b.echo.seen.lock().1, 0);
        world.kill("a");
        sleep(50 * MILLISECOND).await;
        assert_eq!(b.echo.seen.lock().1, 1, "the session was dropped");
    });
}

#[test]
fn a_peer_that_hangs_takes_the_whole_time_and_loses_the_connection() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, b) = (start(&world, "a", None), start(&world, "b", None));
        a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap();
        let (began, patience) = (Instant::now(), 100 * MILLISECOND);
        let error = a
            .ask("b", Purpose::Raft, "hang", patience)
            .await
            .unwrap_err();
        let took = began.elapsed();
        assert!(error.is_timed_out() && !error.is_refused(), "{error}");
        assert!(took >= patience && took < 2 * patience, "{took:?}");
        let presence = *a.links.watch(&at("b")).borrow();
        assert_eq!(
            (presence.open, presence.lost),
            (0, 0),
            "closed by this side"
        );
        assert_eq!(a.ask("b", Purpose::Raft, "y", PATIENCE).await.unwrap(), "y");
        assert_eq!(b.echo.seen.lock().0.len(), 2, "another connection");
    });
}

#[test]
fn a_peer_that_is_cut_off_is_no_dead_process() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, _b) = (start(&world, "a", None), start(&world, "b", None));
        world.net().partition("a", "b");
        let began = Instant::now();
        let error = a
            .ask("b", Purpose::Raft, "x", 300 * MILLISECOND)
            .await
            .unwrap_err();
        assert!(error.is_timed_out() && !error.is_refused(), "{error}");
        assert_eq!(began.elapsed().as_millis(), 300);
        assert_eq!(a.links.watch(&at("b")).borrow().refused, 0);
        // Those who wait for longer are told what the attempt came to.
        let error = a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap_err();
        assert!(matches!(error, PeerError::Unreachable(_)), "{error}");
        world.net().heal();
        assert_eq!(a.ask("b", Purpose::Raft, "y", PATIENCE).await.unwrap(), "y");
    });
}

#[test]
fn a_call_that_gives_up_does_not_end_the_attempt_that_others_wait_for() {
    let world = SimWorld::new(1);
    let plan = LinkPlan {
        latency_min: 50 * MILLISECOND,
        latency_max: 60 * MILLISECOND,
        ..LinkPlan::default()
    };
    world.net().set_plan(plan);
    world.block_on(async {
        let (a, b) = (start(&world, "a", None), start(&world, "b", None));
        // Three round trips take 300 ms at least.
        for _ in 0..10 {
            let error = a
                .ask("b", Purpose::Raft, "x", 30 * MILLISECOND)
                .await
                .unwrap_err();
            assert!(error.is_timed_out(), "{error}");
        }
        assert_eq!(a.ask("b", Purpose::Raft, "y", PATIENCE).await.unwrap(), "y");
        assert_eq!(b.echo.seen.lock().0.len(), 1);
    });
}

#[test]
fn raft_does_not_wait_behind_a_large_answer_to_a_fetch() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, _b) = (start(&world, "a", None), start(&world, "b", None));
        for purpose in Purpose::ALL {
            a.ask("b", purpose, "x", PATIENCE).await.unwrap();
        }
        let fetch = async {
            let began = Instant::now();
            let answer = a
                .ask("b", Purpose::Fetch, "large 90000000", 600 * PATIENCE)
                .await;
            assert_eq!(answer.unwrap().len(), 90_000_000);
            began.elapsed()
        };
        let raft = async {
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let began = Instant::now();
                a.ask("b", Purpose::Raft, "x", PATIENCE).await.unwrap();
                slowest = slowest.max(began.elapsed());
            }
            slowest
        };
        let (fetch_took, raft_took) = tokio::join!(fetch, raft);
        assert!(
            fetch_took > 100 * MILLISECOND,
            "nothing to wait behind: {fetch_took:?}"
        );
        assert!(raft_took < 20 * MILLISECOND, "{raft_took:?}");
    });
}

#[test]
fn what_takes_long_delays_nothing_of_another_purpose() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, _b) = (start(&world, "a", None), start(&world, "b", None));
        let hang = a.ask("b", Purpose::Forward, "hang", PATIENCE);
        let others = async {
            for purpose in [Purpose::Raft, Purpose::Control, Purpose::Fetch] {
                a.ask("b", purpose, "x", 100 * MILLISECOND).await.unwrap();
            }
        };
        let (hung, ()) = tokio::join!(hang, others);
        assert!(hung.unwrap_err().is_timed_out());
    });
}

#[test]
fn an_api_that_the_peer_does_not_serve_is_not_sent() {
    use skein_protocol::messages::broker_heartbeat::BrokerHeartbeatRequest;
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, _b) = (start(&world, "a", None), start(&world, "b", None));
        let request = BrokerHeartbeatRequest::default();
        let called = a
            .links
            .call(&at("b"), Purpose::Control, &request, PATIENCE)
            .await;
        let error = called.unwrap_err().to_string();
        assert!(error.contains("serves None of BrokerHeartbeat"), "{error}");
    });
}

#[test]
fn links_that_are_forgotten_or_dropped_end_their_connections() {
    let world = SimWorld::new(1);
    world.block_on(async {
        let (a, b) = (start(&world, "a", None), start(&world, "b", None));
        a.ask("b", Purpose::Control, "x", PATIENCE).await.unwrap();
        a.links.forget(&at("b"));
        sleep(50 * MILLISECOND).await;
        assert_eq!(b.echo.seen.lock().1, 1);
        assert_eq!(
            a.ask("b", Purpose::Control, "y", PATIENCE).await.unwrap(),
            "y"
        );
        drop(a);
        sleep(50 * MILLISECOND).await;
        assert_eq!(b.echo.seen.lock().1, 2);
    });
}

#[test]
fn under_resets_and_losses_every_call_ends_and_calls_come_through_again() {
    for seed in 0..30 {
        let world = SimWorld::new(seed);
        world.block_on(async {
            let (a, _b) = (
                start(&world, "a", Some(SECRET)),
                start(&world, "b", Some(SECRET)),
            );
            world.net().set_plan(LinkPlan {
                reset_one_in: 20,
                loss_one_in: 20,
                ..LinkPlan::default()
            });
            let mut answered = 0;
            for number in 0..100 {
                let (text, began) = (number.to_string(), Instant::now());
                match a.ask("b", Purpose::Control, &text, 500 * MILLISECOND).await {
                    Ok(answer) => {
                        assert_eq!(answer, text);
                        answered += 1;
                    }
                    Err(error) => assert!(!error.is_refused(), "seed {seed}: {error}"),
                }
                assert!(began.elapsed() < 530 * MILLISECOND, "seed {seed}");
            }
            assert!(answered > 20, "seed {seed}: {answered} of 100");
            world.net().set_plan(LinkPlan::default());
            // The last one may have been sent over a connection that is just ending.
            let _ = a.ask("b", Purpose::Control, "x", PATIENCE).await;
            assert_eq!(
                a.ask("b", Purpose::Control, "y", PATIENCE).await.unwrap(),
                "y"
            );
        });
    }
}
