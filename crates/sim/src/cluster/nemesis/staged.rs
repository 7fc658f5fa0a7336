//! Faults that mean something only in one order, and at the right moments.
//!
//! Input: what the nodes show; the network, disks and machines. Output: the situations that the
//! rules of the replication, of the quorum and of the formation are made for.
//!
//! Each looks at the nodes to find its moment, gives up where that does not come, and undoes its
//! cuts. None does anything that a network, a disk or a machine could not do.
//!
//! Source: KIP-903; Raft, the persistence of votes; the design's sections on formation and flushes.

use std::path::Path;
use std::time::Duration;

use skein_env::sim::{DiskSpeed, LinkPlan, SimRng};
use skein_metadata::{Image, Partition};
use skein_types::BrokerId;
use tokio::time::{Instant, sleep};

use super::{Nemesis, draw};
use crate::cluster::event::broker_id;
use crate::cluster::host;
use crate::event::End;
use crate::node::LOG_DIR;

/// Where a node keeps its vote, its part of the quorum's log, and who it is.
const METADATA_DIR: &str = "/data/metadata";

/// Who a node is: what it does not lose with its votes and its log.
const KEPT: &[&str] = &["identity", ".lock"];

/// A node's identity has fewer bytes before it holds a founding record, and more afterwards.
const FOUNDED_BYTES: usize = 64;

/// How long a cluster is waited for that is whole.
const WHOLE_MAX: Duration = Duration::from_secs(2);

/// How often a moment is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl Nemesis<'_> {
    /// A voter lags; another one, which has made up the majority without it, loses what it has
    /// voted for and written, and meets the first one while the third is cut off.
    pub(super) async fn lose_witness(&self, loser: usize, rng: &mut SimRng) {
        let is_whole = self.plan.nodes == 3 && !self.has_lost.get();
        if !is_whole || !self.moment(WHOLE_MAX, || self.machines.all_serve()).await {
            return self.note("leaves the files alone");
        }
        let lagging = self.other(loser, rng);
        let keeper = 3 - loser - lagging;
        self.isolate(lagging, true);
        let is_ahead = self
            .moment(Duration::from_secs(4), || {
                let indices = [keeper, loser, lagging].map(|node| self.applied(node));
                indices[0].min(indices[1]) > indices[2]
            })
            .await;
        if is_ahead && self.machines.all_serve() {
            self.isolate(keeper, true);
            self.isolate(lagging, false);
            self.block_both(keeper, lagging, true);
            let names = self
                .world
                .disk(&host(loser))
                .names_in(METADATA_DIR.as_ref());
            let lost = names.iter().filter(|name| !KEPT.contains(&name.as_str()));
            let lost: Vec<_> = lost.map(|name| format!("{METADATA_DIR}/{name}")).collect();
            let lost: Vec<_> = lost.iter().map(String::as_str).collect();
            self.take_files(loser, &lost).await;
            // Time for an election, and for what its winner decides.
            sleep(Duration::from_millis(2_500)).await;
            self.isolate(keeper, false);
        }
        self.isolate(lagging, false);
    }

    /// A follower comes back and catches up, so that its leader wants it in the ISR. Before the
    /// controller hears of that, it falls once more, and registers as another process.
    pub(super) async fn fall_twice(&self) {
        self.moment(WHOLE_MAX, || self.cast().is_some()).await;
        let Some((leader, controller, follower)) = self.cast() else {
            return self.note("finds nobody to fall twice");
        };
        let id = broker_id(follower);
        let former = self.epoch(leader, id);
        self.machines.get(follower).end(End::PowerCut);
        let is_out = self.moment(Duration::from_secs(3), || {
            let image = self.image(leader);
            let partitions = image.as_ref().map(|image| self.led(image, leader));
            let mut partitions = partitions.unwrap_or_default().into_iter();
            self.epoch(leader, id) > former
                && partitions.any(|partition| !partition.isr.contains(&id))
        });
        if !is_out.await {
            return;
        }
        self.block_both(leader, controller, true);
        // It catches up, and the leader asks for it.
        sleep(Duration::from_millis(100)).await;
        self.block_both(leader, follower, true);
        let former = self.epoch(controller, id);
        self.machines.get(follower).end(End::PowerCut);
        let is_back = self.moment(Duration::from_millis(1_200), || {
            self.epoch(controller, id) > former && self.machines.get(follower).inspector().is_some()
        });
        if is_back.await {
            self.note("lets the leader ask for a process that is gone");
        }
        self.block_both(leader, controller, false);
        // The wish arrives, and is decided, before the follower's new process can be heard.
        sleep(Duration::from_millis(400)).await;
        self.block_both(leader, follower, false);
    }

    /// A machine loses its power while its disk is slow to flush.
    pub(super) async fn torn_flush(&self, node: usize, rng: &mut SimRng) {
        let disk = self.world.disk(&host(node));
        disk.set_speed(DiskSpeed {
            sync_max: Duration::from_millis(500),
            ..self.plan.speed
        });
        sleep(draw(rng, Duration::from_secs(1))).await;
        self.machines.get(node).end(End::PowerCut);
        disk.set_speed(self.plan.speed);
    }

    /// The founder of the cluster is lost with its disk while its record is on the way. Its next
    /// process founds another cluster; when that has formed, the first record arrives.
    pub(super) async fn lose_founder(&self) {
        let founder = 0;
        let net = self.world.net();
        net.set_plan(LinkPlan {
            latency_min: Duration::from_millis(60),
            latency_max: Duration::from_millis(80),
            ..self.plan.link
        });
        let others = 1..self.plan.nodes;
        let is_founded = self.moment(Duration::from_secs(10), || self.holds_record(founder));
        let is_founded = is_founded.await;
        // Until the record is flushed, and sent.
        sleep(Duration::from_millis(45)).await;
        let is_first = !others.clone().any(|node| self.holds_record(node));
        if is_founded && is_first {
            self.note("takes the founder, with its record on the way");
            for node in others.clone() {
                net.hold_back(&host(founder), &host(node));
            }
            net.set_plan(self.plan.link);
            self.take_files(founder, &[LOG_DIR]).await;
            self.moment(Duration::from_secs(20), || self.machines.all_serve())
                .await;
            for node in others {
                net.unblock(&host(founder), &host(node));
            }
        }
        net.set_plan(self.plan.link);
    }

    /// A leader away from the controller, the controller, and a follower of both that nobody needs
    /// for a majority; of a topic whose members leave the ISR when they lose their power.
    fn cast(&self) -> Option<(usize, usize, usize)> {
        if self.plan.nodes != 3 || !self.machines.all_serve() {
            return None;
        }
        let mut machines = self.machines.all();
        let (controller, _) = machines.find(|(_, machine)| {
            let quorum = machine.inspector().and_then(|inspector| inspector.quorum());
            quorum.is_some_and(|quorum| quorum.leads)
        })?;
        let image = self.image(controller)?;
        let mut leaders = (0..3).filter(|node| *node != controller);
        let leader = leaders.find(|node| !self.led(&image, *node).is_empty())?;
        Some((leader, controller, 3 - controller - leader))
    }

    /// The partitions of three replicas that a node leads, but those of flushed topics.
    fn led(&self, image: &Image, node: usize) -> Vec<Partition> {
        let flushed = self.plan.topics.iter().filter(|topic| topic.is_flushed);
        let flushed: Vec<_> = flushed.map(|topic| topic.name.as_str()).collect();
        let topics = image.topics();
        let topics = topics.filter(|topic| !flushed.contains(&topic.name.as_str()));
        let partitions = topics.flat_map(|topic| topic.partitions().map(|(_, it)| it));
        let led = partitions.filter(|partition| {
            partition.leader == broker_id(node) && partition.replicas.len() == 3
        });
        led.map(|partition| Partition::clone(partition)).collect()
    }

    fn image(&self, node: usize) -> Option<Image> {
        let image = self.machines.get(node).inspector()?.image()?;
        Some(Image::clone(&image))
    }

    /// How far a node has applied the quorum's log.
    fn applied(&self, node: usize) -> u64 {
        let last = self.image(node).and_then(|image| image.last_applied());
        last.map_or(0, |id| id.index)
    }

    /// The epoch of a broker's process, as a node knows it.
    fn epoch(&self, node: usize, id: BrokerId) -> i64 {
        let image = self.image(node);
        let broker = image.as_ref().and_then(|image| image.broker(id));
        broker.map_or(-1, |broker| broker.epoch.get())
    }

    fn holds_record(&self, node: usize) -> bool {
        let path = Path::new(METADATA_DIR).join("identity");
        let bytes = self.world.disk(&host(node)).bytes_of(&path);
        bytes.is_some_and(|bytes| bytes.len() > FOUNDED_BYTES)
    }

    /// Waits until `has_come`, for so long at most; whether it has.
    async fn moment(&self, max: Duration, has_come: impl Fn() -> bool) -> bool {
        let end = Instant::now() + max;
        while Instant::now() < end {
            if has_come() {
                return true;
            }
            sleep(LOOK_EVERY).await;
        }
        false
    }

    /// Cuts a node off from all others, or ends that.
    fn isolate(&self, node: usize, is_cut: bool) {
        for other in (0..self.plan.nodes).filter(|other| *other != node) {
            self.block_both(node, other, is_cut);
        }
    }

    fn block_both(&self, one: usize, other: usize, is_cut: bool) {
        let net = self.world.net();
        for (from, to) in [(one, other), (other, one)] {
            match is_cut {
                true => net.block(&host(from), &host(to)),
                false => net.unblock(&host(from), &host(to)),
            }
        }
    }
}
