//! Deaths that a controller cannot act on at once, in a simulated cluster.

use skein_env::sim::SimWorld;
use skein_quorum::ActiveController;

use super::*;
use crate::testing::Node;
use crate::testing::cluster::{HOSTS, active, controller_of, until, with_settings};
use crate::testing::lines::Lines;

/// No session ends: a death is known by its evidence alone.
const NO_SESSIONS: &[&str] = &["broker.session.timeout.ms=600000"];

const MILLISECOND: Duration = Duration::from_millis(1);

/// The nodes of a cluster, with their machines.
struct Three {
    controller: (Node, &'static str),
    other: (Node, &'static str),
    /// That of the node that dies.
    victim: (Node, &'static str),
}

fn with_three(seed: u64, test: impl AsyncFnOnce(&SimWorld, Three, Lines)) {
    let lines = Lines::default();
    let _watched = lines.watch();
    with_settings(seed, NO_SESSIONS, async |world, nodes| {
        let leading = controller_of(&nodes).await;
        let mut nodes: Vec<_> = nodes.into_iter().zip(HOSTS).collect();
        nodes.rotate_left(leading);
        let [controller, other, victim] = <[_; 3]>::try_from(nodes).ok().unwrap();
        let three = Three {
            controller,
            other,
            victim,
        };
        test(world, three, lines).await;
    });
}

#[test]
fn a_fence_that_is_refused_is_proposed_again_and_has_a_few_lines() {
    with_three(41, async |world, three, lines| {
        let (controller, other) = (three.controller, three.other);
        // Nothing can be decided: the controller is alone.
        world.net().partition(controller.1, other.1);
        world.kill(three.victim.1);
        drop(three.victim.0);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(active(&controller.0), 3);
        let refused = lines.with("could not fence a dead broker");
        assert_eq!(refused.len(), 4, "after 1, 2, 4 and 8 s: {refused:?}");
        world.net().heal();
        until(|| active(&controller.0) == 2 && active(&other.0) == 2).await;
        assert_eq!(
            lines.with("fencing a broker whose process is dead").len(),
            1
        );
    });
}

#[test]
fn a_new_controller_acts_at_once_on_a_death_that_it_has_seen_before() {
    with_three(42, async |world, three, lines| {
        let (controller, other) = (three.controller, three.other);
        // The controller has no evidence.
        world.net().partition(controller.1, three.victim.1);
        sleep(100 * MILLISECOND).await;
        world.kill(three.victim.1);
        drop(three.victim.0);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(active(&other.0), 3);
        assert_eq!(lines.with("fencing a broker").len(), 0);
        let successor = other.0.shared().controller.raft_id();
        let former = &controller.0.shared().controller;
        let hand_over = former.hand_over(|id| id == successor, ASK_MAX);
        let mut leaders = other.0.shared().controller.watch_leader();
        let elected = async {
            let is_here = |leader: &Option<ActiveController>| {
                leader
                    .as_ref()
                    .is_some_and(|leader| leader.raft_id == successor)
            };
            leaders.wait_for(is_here).await.unwrap();
            Instant::now()
        };
        let (is_over, elected) = tokio::join!(hand_over, elected);
        assert!(is_over);
        until(|| active(&other.0) == 2).await;
        assert!(
            elected.elapsed() < 60 * MILLISECOND,
            "{:?}",
            elected.elapsed()
        );
        assert_eq!(lines.with("fencing a broker").len(), 1);
    });
}
