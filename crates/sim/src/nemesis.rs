//! What goes wrong with the world, and when.
//!
//! Input: the plan's weights, random numbers. Output: faults of the disk, the network, the clock
//! and the process; and their end.
//!
//! Invariant: after [`Nemesis::heal`] nothing hinders the node any more.
//!
//! Source: Jepsen's nemeses; the faults that `skein_env::sim` offers.

use std::sync::Arc;
use std::time::Duration;

use skein_env::sim::{DiskSpeed, Fault, FaultPlan as DiskFaults, LinkPlan, SimRng, SimWorld};
use skein_types::Millis;
use tokio::time::{Instant, sleep};

use crate::bit_rot;
use crate::client::groups::RECORDS_TOPIC;
use crate::coverage;
use crate::cuts::{self, Cuts};
use crate::event::{End, Event};
use crate::history::Actor;
use crate::node::{NODE, Node};
use crate::plan::{FaultPlan, Plan, pick};
use crate::witness::Witness;

/// Within how many disk calls a fault strikes that is to happen in the middle of something.
const CALLS_MAX: u64 = 300;

/// The longest time that a lasting fault lasts, in milliseconds.
const LASTING_MAX_MS: u64 = 1_500;

/// Room that a disk has left which is about to be full, in bytes.
const ROOM_MAX: u64 = 200_000;

/// The size of a disk with room.
const CAPACITY: u64 = 1 << 40;

/// What makes faults.
pub(crate) struct Nemesis<'a> {
    world: &'a SimWorld,
    node: &'a Node<'a>,
    plan: Arc<Plan>,
    cuts: &'a Cuts,
    witness: Arc<Witness>,
    clients: Vec<String>,
    /// Of the present fault.
    rng: SimRng,
}

/// A fault.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    KillInCall,
    PowerCut,
    PowerCutInCall,
    CleanRestart,
    WriteEio,
    ReadEio,
    SyncEio,
    ShortWrites,
    DiskFull,
    SlowDisk,
    StalledDisk,
    CutConnections,
    BlockedLink,
    SlowLink,
    ClockJump,
    BitRot,
}

impl<'a> Nemesis<'a> {
    /// A nemesis of the node and of the links to `clients`.
    pub(crate) fn new(
        world: &'a SimWorld,
        node: &'a Node<'a>,
        plan: Arc<Plan>,
        cuts: &'a Cuts,
        witness: Arc<Witness>,
        clients: Vec<String>,
    ) -> Self {
        Self {
            world,
            node,
            plan,
            cuts,
            witness,
            clients,
            rng: world.rng("nemesis"),
        }
    }

    /// Strikes again and again until the safety phase is over.
    pub(crate) async fn run(&mut self) {
        let end = Instant::now() + self.plan.safety;
        let weights = weights(&self.plan.faults);
        let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
        let mut numbers = 0..;
        while Instant::now() < end {
            let name = cuts::strike(numbers.next().unwrap_or_default());
            // What one fault draws changes nothing of the next ones.
            self.rng = self.world.rng(&name);
            let pause = self.draw_millis(self.plan.faults.pause_max);
            sleep(pause).await;
            if total > 0 {
                let kind = choose(&weights, self.rng.below(total));
                self.witness.count_strike();
                if self.cuts.keep(&name) {
                    self.tell(&format!("{name}: {kind:?}"));
                    coverage::under(kind.name());
                    self.strike(kind).await;
                }
            }
        }
    }

    /// Ends every fault. What the disk refused may have taken replicas offline: the node is started
    /// again, by `end`.
    pub(crate) async fn heal(&mut self, end: End) {
        self.tell("heals everything");
        coverage::under(coverage::HEALED);
        let disk = self.world.disk(NODE);
        disk.heal();
        disk.set_capacity(CAPACITY);
        self.witness.tell(Actor::Nemesis, Event::WritesHealed);
        disk.set_speed(self.plan.speed);
        self.world.net().heal();
        self.world.net().set_plan(self.plan.link);
        self.node.end(end);
        // The process that lives now, or the next one: from then on nothing excuses a failure.
        sleep(Duration::from_millis(1)).await;
        self.node.must_start(true);
    }

    async fn strike(&mut self, kind: Kind) {
        match kind {
            Kind::Kill => self.end_now(End::Kill),
            Kind::PowerCut => self.end_now(End::PowerCut),
            Kind::KillInCall => self.end_in_call(End::Kill, Fault::Kill),
            Kind::PowerCutInCall => self.end_in_call(End::PowerCut, Fault::PowerCut),
            Kind::CleanRestart => {
                self.tell("stops the node");
                self.node.stop();
            }
            Kind::WriteEio | Kind::ReadEio | Kind::SyncEio | Kind::ShortWrites => {
                self.break_disk(kind).await;
            }
            Kind::DiskFull => self.fill_disk().await,
            Kind::SlowDisk => self.slow_disk().await,
            Kind::StalledDisk => {
                let time = self.draw_millis(Duration::from_secs(3));
                self.tell(&format!("stalls the disk for {time:?}"));
                self.world.disk(NODE).stall_until(Instant::now() + time);
            }
            Kind::CutConnections => {
                let client = self.draw_client();
                let cut = self.world.net().cut(&client, NODE);
                self.tell(&format!("cuts {cut} connections of {client}"));
            }
            Kind::BlockedLink => self.block_link().await,
            Kind::SlowLink => self.slow_link().await,
            Kind::ClockJump => {
                let distance = i64::try_from(self.rng.between(0, 20_000)).unwrap_or(0) - 10_000;
                self.tell(&format!("moves the node's clock by {distance} ms"));
                self.world.clock(NODE).jump(Millis(distance));
                self.tell("has moved it");
            }
            Kind::BitRot => self.rot_a_bit().await,
        }
    }

    fn end_now(&mut self, end: End) {
        self.tell(&format!("ends the node: {end:?}"));
        self.world.disk(NODE).heal();
        self.node.end(end);
    }

    fn end_in_call(&mut self, end: End, fault: Fault) {
        let calls = self.rng.below(CALLS_MAX);
        self.tell(&format!(
            "will end the node after {calls} disk calls: {end:?}"
        ));
        self.node.expect(end);
        self.world.disk(NODE).fail_after(calls, fault);
    }

    /// Lets calls fail for a while. What the node could not write it must not have acknowledged;
    /// then it is started again, because its replicas may be offline, or left as it is. A page
    /// whose write-back failed is in the page cache and not on the disk, and nothing tells the
    /// process that starts next.
    async fn break_disk(&mut self, kind: Kind) {
        let one_in = u32::try_from(self.rng.between(1, 40)).unwrap_or(1);
        let of_groups = if self.plan.groups.is_empty() {
            ""
        } else {
            RECORDS_TOPIC
        };
        let path_contains = pick(&mut self.rng, &["topic-", "", of_groups]);
        let mut plan = DiskFaults {
            path_contains: path_contains.to_owned(),
            ..DiskFaults::default()
        };
        match kind {
            Kind::WriteEio => plan.write_eio_one_in = one_in,
            Kind::ReadEio => plan.read_eio_one_in = one_in,
            Kind::SyncEio => plan.sync_eio_one_in = one_in,
            _ => plan.short_write_one_in = one_in,
        }
        self.tell(&format!("{kind:?} on {path_contains:?}, one in {one_in}"));
        self.node.must_start(false);
        self.witness.tell(Actor::Nemesis, Event::WritesMayFail);
        self.world.disk(NODE).set_plan(plan);
        self.last().await;
        self.tell("heals the disk");
        self.world.disk(NODE).heal();
        self.witness.tell(Actor::Nemesis, Event::WritesHealed);
        match self.rng.below(4) {
            0 => self.end_now(End::PowerCut),
            1 | 2 => self.end_now(End::Kill),
            _ => {
                self.tell("leaves the node as it is");
                self.node.spare();
            }
        }
        self.settle().await;
    }

    /// Lets a bit of a flushed batch go bad under a node that does not run, and for a while under
    /// the next one; then it is good again, and nothing may be missing.
    async fn rot_a_bit(&mut self) {
        let end = self.draw_end();
        self.end_now(end);
        let Some(place) = bit_rot::choose(self.world, &mut self.rng) else {
            return self.tell("finds no bit to rot");
        };
        let disk = self.world.disk(NODE);
        let Some(rot) = disk.rot(&place.path, place.offset, place.mask) else {
            return self.tell("finds no byte to rot");
        };
        let path = place.path.display();
        let (offset, mask) = (place.offset, place.mask);
        self.tell(&format!("rots {mask:#x} of byte {offset} of {path}"));
        self.witness.rots(&place.partition);
        // Its partition may be offline, and refuse.
        self.witness.tell(Actor::Nemesis, Event::WritesMayFail);
        self.last().await;
        let end = self.draw_end();
        self.end_now(end);
        let is_there = rot.undo();
        self.tell(&format!("makes the bit good again; there: {is_there}"));
        self.witness.rots_no_more();
        self.witness.tell(Actor::Nemesis, Event::WritesHealed);
    }

    async fn fill_disk(&mut self) {
        let disk = self.world.disk(NODE);
        let room = self.rng.below(ROOM_MAX);
        self.tell(&format!("leaves {room} bytes on the disk"));
        self.node.must_start(false);
        self.witness.tell(Actor::Nemesis, Event::WritesMayFail);
        disk.set_capacity(disk.used() + room);
        self.last().await;
        self.tell("gives the disk room again");
        disk.set_capacity(CAPACITY);
        self.witness.tell(Actor::Nemesis, Event::WritesHealed);
        if !self.plan.groups.is_empty() && self.rng.chance(2) {
            // What a coordinator knows and could not write would be written again before long.
            self.end_now(End::Kill);
        }
        self.settle().await;
    }

    async fn slow_disk(&mut self) {
        let slow = DiskSpeed {
            call: self.draw_millis(Duration::from_millis(20)),
            sync_max: self.draw_millis(Duration::from_millis(500)),
            ..self.plan.speed
        };
        self.tell(&format!("slows the disk down: {slow:?}"));
        self.world.disk(NODE).set_speed(slow);
        self.last().await;
        self.tell("lets the disk be fast again");
        self.world.disk(NODE).set_speed(self.plan.speed);
    }

    async fn block_link(&mut self) {
        let client = self.draw_client();
        let net = self.world.net();
        let (from, to) = match self.rng.below(3) {
            0 => (client.as_str(), NODE),
            1 => (NODE, client.as_str()),
            _ => {
                net.block(&client, NODE);
                (NODE, client.as_str())
            }
        };
        self.tell(&format!("blocks the link from {from} to {to}"));
        net.block(from, to);
        self.last().await;
        self.tell("unblocks all links");
        net.heal();
    }

    async fn slow_link(&mut self) {
        let plan = LinkPlan {
            latency_max: self.draw_millis(Duration::from_millis(300)),
            loss_one_in: u32::try_from(self.rng.below(50)).unwrap_or(0),
            reset_one_in: u32::try_from(self.rng.below(300)).unwrap_or(0),
            fragment_one_in: 2,
            ..self.plan.link
        };
        self.tell(&format!("makes the network bad: {plan:?}"));
        self.world.net().set_plan(plan);
        self.last().await;
        self.tell("makes the network good again");
        self.world.net().set_plan(self.plan.link);
    }

    /// As long as a lasting fault lasts.
    async fn last(&mut self) {
        let time = self.draw_millis(Duration::from_millis(LASTING_MAX_MS));
        sleep(time).await;
    }

    /// The fault is over; a process that it has spoilt may still fail for a moment.
    async fn settle(&self) {
        sleep(self.plan.faults.restart_max + Duration::from_millis(10)).await;
        self.node.must_start(true);
    }

    fn draw_millis(&mut self, max: Duration) -> Duration {
        let most = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.between(1, most.max(1)))
    }

    fn draw_end(&mut self) -> End {
        match self.rng.chance(2) {
            true => End::Kill,
            false => End::PowerCut,
        }
    }

    fn draw_client(&mut self) -> String {
        let at = usize::try_from(self.rng.below(self.clients.len() as u64)).unwrap_or(0);
        self.clients[at].clone()
    }

    fn tell(&self, text: &str) {
        self.witness
            .tell(Actor::Nemesis, Event::Fault(text.to_owned()));
    }
}

impl Kind {
    /// As people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillInCall => "kill in call",
            Self::PowerCut => "power cut",
            Self::PowerCutInCall => "power cut in call",
            Self::CleanRestart => "clean restart",
            Self::WriteEio => "write EIO",
            Self::ReadEio => "read EIO",
            Self::SyncEio => "sync EIO",
            Self::ShortWrites => "short writes",
            Self::DiskFull => "disk full",
            Self::SlowDisk => "slow disk",
            Self::StalledDisk => "stalled disk",
            Self::CutConnections => "cut connections",
            Self::BlockedLink => "blocked link",
            Self::SlowLink => "slow link",
            Self::ClockJump => "clock jump",
            Self::BitRot => "bit rot",
        }
    }
}

fn weights(faults: &FaultPlan) -> Vec<(u64, Kind)> {
    vec![
        (faults.kill, Kind::Kill),
        (faults.kill_in_call, Kind::KillInCall),
        (faults.power_cut, Kind::PowerCut),
        (faults.power_cut_in_call, Kind::PowerCutInCall),
        (faults.clean_restart, Kind::CleanRestart),
        (faults.write_eio, Kind::WriteEio),
        (faults.read_eio, Kind::ReadEio),
        (faults.sync_eio, Kind::SyncEio),
        (faults.short_writes, Kind::ShortWrites),
        (faults.disk_full, Kind::DiskFull),
        (faults.slow_disk, Kind::SlowDisk),
        (faults.stalled_disk, Kind::StalledDisk),
        (faults.cut_connections, Kind::CutConnections),
        (faults.blocked_link, Kind::BlockedLink),
        (faults.slow_link, Kind::SlowLink),
        (faults.clock_jump, Kind::ClockJump),
        (faults.bit_rot, Kind::BitRot),
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
