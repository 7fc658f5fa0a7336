//! What a seed decides before the run of a cluster begins.
//!
//! Input: random numbers. Output: topics, clients and their habits, which faults there are and how
//! often.
//!
//! Invariant: a plan is drawn once and never changes.
//!
//! Source: as `crate::plan`: swarm testing.

use std::time::Duration;

use skein_env::sim::{DiskSpeed, LinkPlan, Schedule, SimRng};

use crate::event::PartitionId;
use crate::plan::pick;

/// A run of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterPlan {
    pub(crate) nodes: usize,
    pub(crate) topics: Vec<ClusterTopic>,
    pub(crate) producers: Vec<ClusterProducer>,
    pub(crate) consumers: usize,
    /// Groups, each with a client that commits offsets.
    pub(crate) groups: usize,
    /// Whether the admin goes on changing things while faults strike.
    pub(crate) has_busy_admin: bool,
    pub(crate) faults: ClusterFaults,
    pub(crate) broker: Vec<(&'static str, String)>,
    pub(crate) schedule: Schedule,
    pub(crate) speed: DiskSpeed,
    pub(crate) link: LinkPlan,
    /// How long faults strike.
    pub(crate) safety: Duration,
    /// Whether faults strike while the cluster forms.
    pub(crate) strikes_early: bool,
    /// Whether the first of them takes the founder, with its record on the way to the others.
    pub(crate) loses_founder: bool,
}

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct ClusterTopic {
    pub(crate) name: String,
    pub(crate) first_partition: usize,
    pub(crate) partitions: usize,
    pub(crate) replication_factor: usize,
    pub(crate) min_insync_replicas: usize,
    /// Whether that is told, or what it is by default.
    pub(crate) sets_min_isr: bool,
    pub(crate) is_flushed: bool,
}

/// A producer.
#[derive(Clone, Debug)]
pub(crate) struct ClusterProducer {
    pub(crate) is_idempotent: bool,
    pub(crate) acks: i16,
    pub(crate) records_max: u32,
    pub(crate) value_max: u32,
    pub(crate) pause_max: Duration,
    pub(crate) partitions: Vec<PartitionId>,
}

/// Which faults there are: weights; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClusterFaults {
    pub(crate) pause_max: Duration,
    pub(crate) lasting_max: Duration,
    pub(crate) kill: u64,
    pub(crate) kill_all: u64,
    pub(crate) power_cut: u64,
    pub(crate) power_cut_all: u64,
    pub(crate) clean_restart: u64,
    pub(crate) stay_down: u64,
    pub(crate) wipe: u64,
    pub(crate) lose_votes: u64,
    pub(crate) lose_witness: u64,
    pub(crate) fall_twice: u64,
    pub(crate) torn_flush: u64,
    pub(crate) isolate: u64,
    pub(crate) one_way_cut: u64,
    pub(crate) cut_connections: u64,
    pub(crate) slow_links: u64,
    pub(crate) slow_disk: u64,
    pub(crate) stalled_disk: u64,
    pub(crate) clock_jump: u64,
}

impl ClusterPlan {
    /// The plan of these random numbers for a cluster of `nodes`.
    pub(crate) fn draw(nodes: usize, rng: &mut SimRng) -> Self {
        let topics = draw_topics(rng);
        let all: Vec<_> = topics.iter().flat_map(ClusterTopic::ids).collect();
        let mut producers: Vec<_> = (0..rng.between(1, 3))
            .map(|_| ClusterProducer::draw(&all, rng))
            .collect();
        // What others rely on is acknowledged by all.
        producers[0].acks = -1;
        let loses_founder = rng.chance(4);
        Self {
            nodes,
            topics,
            producers,
            consumers: usize::try_from(rng.between(1, 2)).unwrap_or(1),
            groups: usize::from(rng.chance(2)),
            has_busy_admin: rng.chance(2),
            faults: ClusterFaults::draw(rng),
            broker: draw_broker(rng),
            schedule: Schedule {
                yield_one_in: pick(rng, &[0, 4, 16]),
                delay_one_in: pick(rng, &[0, 128, 1024]),
                ..Schedule::default()
            },
            speed: DiskSpeed {
                sync_max: Duration::from_micros(pick(rng, &[100, 2_000, 20_000])),
                ..DiskSpeed::default()
            },
            link: LinkPlan {
                fragment_one_in: pick(rng, &[0, 8]),
                ..LinkPlan::default()
            },
            safety: Duration::from_millis(rng.between(5_000, 20_000)),
            strikes_early: loses_founder || rng.chance(4),
            loses_founder,
        }
    }

    /// Every partition that clients write and read.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.topics.iter().flat_map(ClusterTopic::ids)
    }

    /// The topic of a partition, and its number there.
    pub(crate) fn place(&self, id: PartitionId) -> (&ClusterTopic, i32) {
        let mut topics = self.topics.iter();
        let topic = topics.find(|topic| topic.ids().any(|other| other == id));
        let Some(topic) = topic else {
            panic!("{id:?} is of no topic");
        };
        let index = id.0 - topic.first_partition;
        (topic, i32::try_from(index).unwrap_or(i32::MAX))
    }

    /// The partition of a topic's name and an index.
    pub(crate) fn find(&self, topic: &str, index: i32) -> Option<PartitionId> {
        let topic = self.topics.iter().find(|known| known.name == topic)?;
        let index = usize::try_from(index).ok()?;
        (index < topic.partitions).then_some(PartitionId(topic.first_partition + index))
    }

    /// Its name, such as `p3 (topic-1-0)`.
    pub(crate) fn name_of(&self, id: PartitionId) -> String {
        let (topic, index) = self.place(id);
        format!("p{} ({}-{index})", id.0, topic.name)
    }
}

impl ClusterTopic {
    /// Its partitions.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PartitionId> + use<> {
        let first = self.first_partition;
        (first..first + self.partitions).map(PartitionId)
    }
}

fn draw_topics(rng: &mut SimRng) -> Vec<ClusterTopic> {
    let mut first_partition = 0;
    let topics = (0..rng.between(1, 3)).map(|number| {
        let replication_factor = match number {
            0 => 3,
            _ => pick(rng, &[1, 2, 3, 3]),
        };
        let (min_insync_replicas, is_default) = match replication_factor {
            3 => pick(rng, &[(2, true), (2, true), (2, true), (1, false)]),
            _ => (1, true),
        };
        let topic = ClusterTopic {
            name: format!("topic-{number}"),
            first_partition,
            partitions: usize::try_from(rng.between(1, 3)).unwrap_or(1),
            replication_factor,
            min_insync_replicas,
            sets_min_isr: !is_default || rng.chance(2),
            is_flushed: rng.chance(3),
        };
        first_partition += topic.partitions;
        topic
    });
    topics.collect()
}

impl ClusterProducer {
    fn draw(all: &[PartitionId], rng: &mut SimRng) -> Self {
        let mut partitions = all.to_vec();
        partitions.retain(|_| !rng.chance(3));
        if partitions.is_empty() {
            partitions.push(pick(rng, all));
        }
        let is_idempotent = rng.chance(2);
        Self {
            is_idempotent,
            acks: if is_idempotent {
                -1
            } else {
                pick(rng, &[-1, 1])
            },
            records_max: pick(rng, &[1, 4, 20]),
            value_max: pick(rng, &[16, 100, 1_000]),
            pause_max: Duration::from_millis(pick(rng, &[5, 20, 100])),
            partitions,
        }
    }
}

impl ClusterFaults {
    fn draw(rng: &mut SimRng) -> Self {
        let pause_max = Duration::from_millis(pick(rng, &[200, 1_000, 3_000]));
        let lasting_max = Duration::from_millis(pick(rng, &[500, 3_000, 8_000]));
        if rng.chance(16) {
            // Some runs have none, to show what does not come from them.
            return Self {
                pause_max,
                lasting_max,
                ..Self::default()
            };
        }
        let mut weight = |most: u64| match rng.chance(2) {
            true => rng.between(1, most),
            false => 0,
        };
        Self {
            pause_max,
            lasting_max,
            kill: weight(4),
            kill_all: weight(1),
            power_cut: weight(4),
            power_cut_all: weight(1),
            clean_restart: weight(2),
            stay_down: weight(3),
            wipe: weight(1),
            lose_votes: weight(2),
            lose_witness: weight(2),
            fall_twice: weight(3),
            torn_flush: weight(6),
            isolate: weight(4),
            one_way_cut: weight(4),
            cut_connections: weight(2),
            slow_links: weight(2),
            slow_disk: weight(2),
            stalled_disk: weight(2),
            clock_jump: weight(1),
        }
    }
}

/// Keys of the brokers that make rare things frequent.
fn draw_broker(rng: &mut SimRng) -> Vec<(&'static str, String)> {
    let lag = pick(rng, &[500, 2_000, 10_000]).to_string();
    let checkpoint = pick(rng, &[100, 1_000, 60_000]).to_string();
    vec![
        ("replica.lag.time.max.ms", lag),
        ("replica.high.watermark.checkpoint.interval.ms", checkpoint),
        ("offsets.topic.num.partitions", "3".to_owned()),
    ]
}
