//! What goes wrong with the world of a cluster, and when.
//!
//! Input: the plan's weights, random numbers. Output: faults of processes, machines, disks and the
//! network; and their end.
//!
//! Two hands strike at once, one at machines and one at what is between and below them: much of
//! what can go wrong with a cluster needs both. What needs several faults in one order, at the
//! right moments, is staged (`nemesis/staged.rs`).
//!
//! Invariants:
//! - after [`Nemesis::heal`] nothing hinders the nodes any more;
//! - a majority of the voters keeps its disks: one node at most loses files in a run.
//!
//! Source: Jepsen's nemeses; the faults that `skein_env::sim` offers.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use skein_env::sim::{DiskSpeed, LinkPlan, SimRng, SimWorld};
use skein_types::Millis;
use tokio::time::{Instant, sleep};

use super::event::ClusterEvent;
use super::host;
use super::machines::Machines;
use super::plan::{ClusterFaults, ClusterPlan};
use super::witness::ClusterWitness;
use crate::event::End;
use crate::history::Actor;
use crate::node::LOG_DIR;

mod staged;

/// What a node that lost its votes has lost: see `skein_quorum`.
const VOTES: &[&str] = &["/data/metadata/vote"];

/// What makes faults.
pub(crate) struct Nemesis<'a> {
    world: &'a SimWorld,
    machines: &'a Machines<'a>,
    plan: Arc<ClusterPlan>,
    witness: Arc<ClusterWitness>,
    /// A node has lost files.
    has_lost: Cell<bool>,
}

/// A fault.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    KillAll,
    PowerCut,
    PowerCutAll,
    CleanRestart,
    StayDown,
    Wipe,
    LoseVotes,
    LoseWitness,
    FallTwice,
    TornFlush,
    Isolate,
    OneWayCut,
    CutConnections,
    SlowLinks,
    SlowDisk,
    StalledDisk,
    ClockJump,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(
        world: &'a SimWorld,
        machines: &'a Machines<'a>,
        plan: Arc<ClusterPlan>,
        witness: Arc<ClusterWitness>,
    ) -> Self {
        Self {
            world,
            machines,
            plan,
            witness,
            has_lost: Cell::new(false),
        }
    }

    /// Strikes again and again until the safety phase is over.
    pub(crate) async fn run(&self) {
        if self.plan.loses_founder {
            self.lose_founder().await;
        }
        let end = Instant::now() + self.plan.safety;
        let faults = self.plan.faults;
        tokio::join!(
            self.strike_until(end, of_machines(&faults), "machines"),
            self.strike_until(end, of_surroundings(&faults), "surroundings"),
        );
    }

    /// Ends every fault.
    pub(crate) fn heal(&self) {
        self.note("heals everything");
        self.world.net().heal();
        self.world.net().set_plan(self.plan.link);
        for (node, machine) in self.machines.all() {
            let disk = self.world.disk(&host(node));
            disk.heal();
            disk.set_speed(self.plan.speed);
            machine.want(true);
        }
    }

    async fn strike_until(&self, end: Instant, weights: Vec<(u64, Kind)>, hand: &str) {
        let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let mut rng = self.world.rng(&format!("{hand}-{number}"));
            sleep(draw(&mut rng, self.plan.faults.pause_max)).await;
            if total == 0 {
                continue;
            }
            let kind = choose(&weights, rng.below(total));
            self.witness.count_strike();
            self.strike(kind, &mut rng).await;
        }
    }

    async fn strike(&self, kind: Kind, rng: &mut SimRng) {
        let node = self.draw_node(rng);
        let machine = self.machines.get(node);
        let lasting = draw(rng, self.plan.faults.lasting_max);
        self.note(&format!("{kind:?} at {}", host(node)));
        match kind {
            Kind::Kill => machine.end(End::Kill),
            Kind::PowerCut => machine.end(End::PowerCut),
            Kind::CleanRestart => machine.stop(),
            Kind::KillAll => self.end_all(End::Kill),
            Kind::PowerCutAll => self.end_all(End::PowerCut),
            Kind::StayDown => {
                let end = match rng.chance(2) {
                    true => End::Kill,
                    false => End::PowerCut,
                };
                self.keep_down(node, end, lasting).await;
            }
            Kind::Wipe => self.lose_files(node, &[LOG_DIR]).await,
            Kind::LoseVotes => self.lose_files(node, VOTES).await,
            Kind::LoseWitness => self.lose_witness(node, rng).await,
            Kind::FallTwice => self.fall_twice().await,
            Kind::TornFlush => self.torn_flush(node, rng).await,
            Kind::Isolate => self.cut_off(node, true, true, lasting).await,
            Kind::OneWayCut => {
                let is_inward = rng.chance(2);
                match rng.chance(2) {
                    true => self.cut_off(node, is_inward, !is_inward, lasting).await,
                    false => {
                        let other = self.other(node, rng);
                        self.world.net().block(&host(node), &host(other));
                        sleep(lasting).await;
                        self.world.net().unblock(&host(node), &host(other));
                    }
                }
            }
            Kind::CutConnections => {
                let other = self.other(node, rng);
                self.world.net().cut(&host(node), &host(other));
            }
            Kind::SlowLinks => self.slow_links(rng, lasting).await,
            Kind::SlowDisk => {
                let disk = self.world.disk(&host(node));
                disk.set_speed(DiskSpeed {
                    call: draw(rng, Duration::from_millis(5)),
                    sync_max: draw(rng, Duration::from_millis(500)),
                    ..self.plan.speed
                });
                sleep(lasting).await;
                disk.set_speed(self.plan.speed);
            }
            Kind::StalledDisk => {
                let disk = self.world.disk(&host(node));
                disk.stall_until(Instant::now() + lasting);
                sleep(lasting).await;
            }
            Kind::ClockJump => {
                let distance = i64::try_from(rng.below(20_000)).unwrap_or(0) - 10_000;
                self.world.clock(&host(node)).jump(Millis(distance));
            }
        }
    }

    /// Lets the whole network be slow, and lose segments and connections.
    async fn slow_links(&self, rng: &mut SimRng, lasting: Duration) {
        let plan = LinkPlan {
            latency_max: draw(rng, Duration::from_millis(200)),
            loss_one_in: u32::try_from(rng.below(50)).unwrap_or(0),
            reset_one_in: u32::try_from(rng.below(300)).unwrap_or(0),
            ..self.plan.link
        };
        self.world.net().set_plan(plan);
        sleep(lasting).await;
        self.world.net().set_plan(self.plan.link);
    }

    /// Ends a node that does not come back before a while is over.
    async fn keep_down(&self, node: usize, end: End, lasting: Duration) {
        let machine = self.machines.get(node);
        machine.want(false);
        machine.end(end);
        sleep(lasting).await;
        machine.want(true);
    }

    /// Ends all nodes, in any order, at one moment.
    fn end_all(&self, end: End) {
        for (_, machine) in self.machines.all() {
            machine.end(end);
        }
    }

    /// Cuts a node off from all others.
    async fn cut_off(&self, node: usize, inward: bool, outward: bool, lasting: Duration) {
        let net = self.world.net();
        let (here, others) = (
            host(node),
            (0..self.plan.nodes).filter(|other| *other != node),
        );
        let others: Vec<_> = others.map(host).collect();
        for other in &others {
            if inward {
                net.block(other, &here);
            }
            if outward {
                net.block(&here, other);
            }
        }
        sleep(lasting).await;
        for other in &others {
            net.unblock(other, &here);
            net.unblock(&here, other);
        }
        self.note(&format!("{here} is heard again"));
    }

    /// Takes files from one node of a cluster that is whole.
    async fn lose_files(&self, node: usize, paths: &[&str]) {
        if self.has_lost.get() || !self.machines.all_serve() {
            return self.note("leaves the files alone");
        }
        self.take_files(node, paths).await;
    }

    /// Ends a node's process, and takes files from its machine before the next one.
    async fn take_files(&self, node: usize, paths: &[&str]) {
        self.has_lost.set(true);
        let machine = self.machines.get(node);
        machine.want(false);
        machine.end(End::Kill);
        // Until the process has ended.
        sleep(Duration::from_millis(20)).await;
        machine.lose(paths);
        // Also who lost its votes alone comes back as another: the quorum knows it by them, and
        // nothing that its disk has counts.
        self.witness
            .tell(Actor::Nemesis, ClusterEvent::Wiped { node });
        machine.want(true);
    }

    fn draw_node(&self, rng: &mut SimRng) -> usize {
        usize::try_from(rng.below(self.plan.nodes as u64)).unwrap_or(0)
    }

    fn other(&self, node: usize, rng: &mut SimRng) -> usize {
        let further = usize::try_from(rng.between(1, self.plan.nodes as u64 - 1)).unwrap_or(1);
        (node + further) % self.plan.nodes
    }

    fn note(&self, text: &str) {
        self.witness.note(Actor::Nemesis, text);
    }
}

fn draw(rng: &mut SimRng, max: Duration) -> Duration {
    let most = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(rng.between(1, most.max(1)))
}

fn of_machines(faults: &ClusterFaults) -> Vec<(u64, Kind)> {
    vec![
        (faults.kill, Kind::Kill),
        (faults.kill_all, Kind::KillAll),
        (faults.power_cut, Kind::PowerCut),
        (faults.power_cut_all, Kind::PowerCutAll),
        (faults.clean_restart, Kind::CleanRestart),
        (faults.stay_down, Kind::StayDown),
        (faults.wipe, Kind::Wipe),
        (faults.lose_votes, Kind::LoseVotes),
        (faults.lose_witness, Kind::LoseWitness),
        (faults.fall_twice, Kind::FallTwice),
        (faults.torn_flush, Kind::TornFlush),
    ]
}

fn of_surroundings(faults: &ClusterFaults) -> Vec<(u64, Kind)> {
    vec![
        (faults.isolate, Kind::Isolate),
        (faults.one_way_cut, Kind::OneWayCut),
        (faults.cut_connections, Kind::CutConnections),
        (faults.slow_links, Kind::SlowLinks),
        (faults.slow_disk, Kind::SlowDisk),
        (faults.stalled_disk, Kind::StalledDisk),
        (faults.clock_jump, Kind::ClockJump),
    ]
}

/// The fault in whose share of the total `drawn` lies.
fn choose(weights: &[(u64, Kind)], mut drawn: u64) -> Kind {
    for (weight, kind) in weights {
        match drawn.checked_sub(*weight) {
            Some(rest) => drawn = rest,
            None => return *kind,
        }
    }
    panic!("{drawn} is past the total of all weights")
}
