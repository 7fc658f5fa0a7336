//! The topics of a run: those that are there at the beginning, and those that take their names.
//!
//! Input: random numbers. Output: topics and their settings; the slots at which clients work.
//!
//! ```text
//!   slot (name 0, index 1)     topic 0 ── deleted ──► topic 1 ── deleted ──► topic 2
//!                              partition 1            no partition 1         partition 5
//! ```
//!
//! A deleted topic and the next one of its name are two topics for every invariant: nothing of the
//! one may ever show in the other.
//!
//! Invariant: topics of one name stand behind one another, in the order of their lives.
//!
//! Source: KIP-516.

use skein_env::sim::SimRng;

use super::{AdminPlan, pick};

/// Lives of a name whose topic is deleted.
const LIVES_MAX: u64 = 4;

/// The largest number of partitions of a topic.
const PARTITIONS_MAX: u64 = 4;

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) name: String,
    /// Which name it has: its number.
    pub(crate) logical: usize,
    /// Whether another topic had the name before.
    pub(crate) is_successor: bool,
    /// Whether a client makes it by asking for it.
    pub(crate) is_auto_created: bool,
    pub(crate) partitions: usize,
    /// How many it may have after CreatePartitions.
    pub(crate) partitions_max: usize,
    /// Number of its first partition.
    pub(crate) first_partition: usize,
    /// `durability=flushed`.
    pub(crate) is_flushed: bool,
    pub(crate) retention: Retention,
    pub(crate) compaction: Option<Compaction>,
    pub(crate) configs: Vec<(&'static str, String)>,
}

/// What retention lets go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// `retention.ms`, if there is a limit.
    pub(crate) ms: Option<i64>,
    /// `retention.bytes`, if there is a limit.
    pub(crate) bytes: Option<u64>,
}

/// How a topic is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compaction {
    /// Its records' keys are below this.
    pub(crate) keys: u32,
    /// `delete.retention.ms`.
    pub(crate) delete_retention_ms: i64,
    /// Whether records go by age and size, too; at times, where the policy changes.
    pub(crate) is_deleting: bool,
    /// Whether the policy changes in the course of the run.
    pub(crate) is_changing: bool,
}

/// A partition, as an invariant sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionPlan {
    pub(crate) topic: usize,
    pub(crate) index: usize,
    pub(crate) is_flushed: bool,
    pub(crate) retention: Retention,
    pub(crate) compaction: Option<Compaction>,
}

/// A partition as a client thinks of it: whichever topic has the name just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) logical: usize,
    pub(crate) index: usize,
}

impl Retention {
    /// Whether it may ever move a log's start.
    pub(crate) fn is_on(self) -> bool {
        self.ms.is_some() || self.bytes.is_some()
    }
}

/// Draws the topics of a run.
pub(super) fn draw(admin: &AdminPlan, rng: &mut SimRng) -> Vec<TopicPlan> {
    let mut topics: Vec<TopicPlan> = Vec::new();
    for logical in 0..usize::try_from(rng.between(1, 3)).unwrap_or(1) {
        let lives = match admin.delete_topic {
            0 => 1,
            _ => rng.between(1, LIVES_MAX),
        };
        for life in 0..lives {
            let first_partition = topics
                .last()
                .map_or(0, |topic| topic.first_partition + topic.partitions_max);
            topics.push(TopicPlan {
                logical,
                name: format!("topic-{logical}"),
                is_successor: life > 0,
                first_partition,
                ..TopicPlan::draw(admin, rng)
            });
        }
    }
    topics
}

/// The slots of these topics.
pub(super) fn slots(topics: &[TopicPlan]) -> Vec<Slot> {
    let mut slots: Vec<Slot> = topics
        .iter()
        .flat_map(|topic| {
            (0..topic.partitions_max).map(|index| Slot {
                logical: topic.logical,
                index,
            })
        })
        .collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Every partition that there may ever be.
pub(super) fn partitions(topics: &[TopicPlan]) -> Vec<PartitionPlan> {
    let of = |(number, topic): (usize, &TopicPlan)| {
        let (is_flushed, retention) = (topic.is_flushed, topic.retention);
        let compaction = topic.compaction;
        (0..topic.partitions_max).map(move |index| PartitionPlan {
            topic: number,
            index,
            is_flushed,
            retention,
            compaction,
        })
    };
    topics.iter().enumerate().flat_map(of).collect()
}

/// Whether a name of these slots means more than one topic in the course of the run.
pub(super) fn is_churned(topics: &[TopicPlan], slots: &[Slot]) -> bool {
    topics
        .iter()
        .any(|topic| topic.is_successor && slots.iter().any(|slot| slot.logical == topic.logical))
}

impl TopicPlan {
    fn draw(admin: &AdminPlan, rng: &mut SimRng) -> Self {
        let is_auto_created = rng.chance(4);
        let is_flushed = rng.chance(2) && !is_auto_created;
        let compaction = Compaction::draw(admin, rng).filter(|_| !is_auto_created);
        let mut retention = Retention {
            ms: rng.chance(6).then(|| pick(rng, &[500, 3_000, 20_000])),
            bytes: rng.chance(6).then(|| pick(rng, &[500, 5_000, 50_000])),
        };
        if compaction.is_some_and(|compaction| !compaction.is_deleting) {
            retention = Retention::default();
        }
        let partitions = match is_auto_created {
            true => admin.num_partitions,
            false => usize::try_from(rng.between(1, 3)).unwrap_or(1),
        };
        let partitions_max = match admin.create_partitions {
            0 => partitions,
            _ => usize::try_from(rng.between(1, PARTITIONS_MAX)).unwrap_or(1),
        };
        Self {
            name: String::new(),
            logical: 0,
            is_successor: false,
            is_auto_created,
            partitions,
            partitions_max: partitions_max.max(partitions),
            first_partition: 0,
            is_flushed,
            // Who makes a topic by asking for it cannot say what it is to be like.
            retention: match is_auto_created {
                true => Retention::default(),
                false => retention,
            },
            compaction,
            configs: draw_configs(is_flushed, retention, compaction, rng),
        }
    }
}

impl Compaction {
    fn configs(self, rng: &mut SimRng) -> Vec<(&'static str, String)> {
        let mut configs = self.changeable(rng);
        let retention_ms = self.delete_retention_ms.to_string();
        configs.push(("delete.retention.ms", retention_ms));
        configs
    }

    /// When and how it is compacted: the configurations that may change in the course of a run.
    pub(crate) fn changeable(self, rng: &mut SimRng) -> Vec<(&'static str, String)> {
        let policy = match (self.is_changing, self.is_deleting) {
            (true, _) => pick(rng, &["compact", "compact,delete", "delete"]),
            (false, true) => "compact,delete",
            (false, false) => "compact",
        };
        let ratio = pick(rng, &["0.0", "0.01", "0.5"]);
        let (min_lag_ms, max_lag_ms) = pick(rng, &[(0, i64::MAX), (0, 700), (200, i64::MAX)]);
        vec![
            ("cleanup.policy", policy.to_owned()),
            ("min.cleanable.dirty.ratio", ratio.to_owned()),
            ("min.compaction.lag.ms", min_lag_ms.to_string()),
            ("max.compaction.lag.ms", max_lag_ms.to_string()),
        ]
    }

    fn draw(admin: &AdminPlan, rng: &mut SimRng) -> Option<Self> {
        rng.chance(3).then(|| {
            let is_changing = admin.change_policy > 0 && rng.chance(2);
            Self {
                keys: pick(rng, &[2, 10, 40, 1_000]),
                delete_retention_ms: pick(rng, &[0, 300, 2_000, 60_000]),
                is_deleting: is_changing || rng.chance(3),
                is_changing,
            }
        })
    }
}

/// Keys that make rare things frequent.
fn draw_configs(
    is_flushed: bool,
    retention: Retention,
    compaction: Option<Compaction>,
    rng: &mut SimRng,
) -> Vec<(&'static str, String)> {
    let mut configs = vec![
        ("retention.ms", retention.ms.unwrap_or(-1).to_string()),
        (
            "index.interval.bytes",
            pick(rng, &[0, 128, 1024, 4096]).to_string(),
        ),
        // 12 bytes are one entry of the time index: segments roll when an index is full.
        (
            "segment.index.bytes",
            match compaction {
                None => pick(rng, &[24, 120, 1200, 1_048_576]),
                Some(_) => pick(rng, &[24, 120, 480]),
            }
            .to_string(),
        ),
    ];
    // Zeros ahead of the end from the first batch on, soon, or never in a run as short as this.
    let fill_after_bytes = pick(rng, &[0, 5_000, -1]);
    configs.push(("segment.fill.after.bytes", fill_after_bytes.to_string()));
    if let Some(compaction) = compaction {
        configs.extend(compaction.configs(rng));
    }
    if let Some(bytes) = retention.bytes {
        configs.push(("retention.bytes", bytes.to_string()));
    }
    if retention.is_on() {
        let delay_ms = pick(rng, &[0, 100, 60_000]);
        configs.push(("file.delete.delay.ms", delay_ms.to_string()));
    }
    if is_flushed {
        configs.push(("durability", "flushed".to_owned()));
    }
    if rng.chance(4) {
        configs.push(("flush.messages", rng.between(1, 200).to_string()));
    }
    if rng.chance(4) {
        configs.push(("flush.ms", rng.between(10, 1000).to_string()));
    }
    if rng.chance(4) {
        configs.push(("segment.ms", rng.between(200, 2000).to_string()));
    }
    configs
}
