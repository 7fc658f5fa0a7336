//! What a seed decides before the run begins.
//!
//! Input: random numbers. Output: topics and their settings, clients and their habits, which faults
//! there are and how often.
//!
//! Small numbers everywhere: what is rare in production, such as a full index, happens here every
//! second.
//!
//! Invariant: a plan is drawn once and never changes.
//!
//! Source: "swarm testing" (Groce et al., ISSTA 2012): each run leaves out some features at random,
//! because the mixture of all of them hides what two of them do together.

use std::time::Duration;

use skein_env::sim::{DiskSpeed, LinkPlan, Schedule, SimRng};
use skein_record::Codec;

use crate::event::PartitionId;

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) topics: Vec<TopicPlan>,
    pub(crate) producers: Vec<ProducerPlan>,
    pub(crate) consumers: Vec<ConsumerPlan>,
    pub(crate) listers: usize,
    pub(crate) faults: FaultPlan,
    pub(crate) broker: Vec<(&'static str, String)>,
    pub(crate) schedule: Schedule,
    pub(crate) speed: DiskSpeed,
    pub(crate) link: LinkPlan,
    /// How long faults strike.
    pub(crate) safety: Duration,
}

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) name: String,
    pub(crate) partitions: usize,
    /// `durability=flushed`.
    pub(crate) is_flushed: bool,
    pub(crate) configs: Vec<(&'static str, String)>,
}

/// A partition, as an invariant sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionPlan {
    pub(crate) topic: usize,
    pub(crate) index: usize,
    pub(crate) is_flushed: bool,
}

/// A producer.
#[derive(Clone, Debug)]
pub(crate) struct ProducerPlan {
    pub(crate) is_idempotent: bool,
    pub(crate) acks: i16,
    /// Requests in flight.
    pub(crate) depth: usize,
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) records_max: u32,
    pub(crate) value_max: u32,
    pub(crate) timestamp_spread: u32,
    pub(crate) codec: Codec,
    pub(crate) version: i16,
    /// The longest pause between two requests.
    pub(crate) pause_max: Duration,
    /// How often a batch is sent before the producer gives up; 0 for never.
    pub(crate) attempts_max: u32,
}

/// A consumer.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerPlan {
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) version: i16,
    pub(crate) has_session: bool,
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    /// Jumps back once in so many fetches; 0 for never.
    pub(crate) rewind_one_in: u32,
    pub(crate) pause_max: Duration,
}

/// Which faults there are: weights; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FaultPlan {
    pub(crate) pause_max: Duration,
    pub(crate) restart_max: Duration,
    pub(crate) kill: u64,
    pub(crate) kill_in_call: u64,
    pub(crate) power_cut: u64,
    pub(crate) power_cut_in_call: u64,
    pub(crate) clean_restart: u64,
    pub(crate) write_eio: u64,
    pub(crate) read_eio: u64,
    pub(crate) sync_eio: u64,
    pub(crate) short_writes: u64,
    pub(crate) disk_full: u64,
    pub(crate) slow_disk: u64,
    pub(crate) stalled_disk: u64,
    pub(crate) cut_connections: u64,
    pub(crate) blocked_link: u64,
    pub(crate) slow_link: u64,
    pub(crate) clock_jump: u64,
}

impl Plan {
    /// The plan of these random numbers.
    pub(crate) fn draw(rng: &mut SimRng) -> Self {
        let topics: Vec<TopicPlan> = (0..rng.between(1, 3))
            .map(|n| TopicPlan::draw(n, rng))
            .collect();
        let count = topics.iter().map(|topic| topic.partitions).sum();
        let producers = (0..rng.between(2, 6))
            .map(|_| ProducerPlan::draw(count, rng))
            .collect();
        let consumers = (0..rng.between(1, 4))
            .map(|_| ConsumerPlan::draw(count, rng))
            .collect();
        let faults = FaultPlan::draw(rng);
        Self {
            topics,
            producers,
            consumers,
            listers: usize::from(rng.chance(2)),
            faults,
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
                fragment_one_in: pick(rng, &[0, 8, 64]),
                ..LinkPlan::default()
            },
            safety: Duration::from_millis(rng.between(2_000, 8_000)),
        }
    }

    /// Every partition, in the order of [`PartitionId`].
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionPlan> + '_ {
        self.topics.iter().enumerate().flat_map(|(topic, plan)| {
            let is_flushed = plan.is_flushed;
            (0..plan.partitions).map(move |index| PartitionPlan {
                topic,
                index,
                is_flushed,
            })
        })
    }

    /// One partition.
    pub(crate) fn partition(&self, id: PartitionId) -> PartitionPlan {
        match self.partitions().nth(id.0) {
            Some(partition) => partition,
            None => panic!("no partition {}", id.0),
        }
    }

    /// Which partition a topic and an index are.
    pub(crate) fn find(&self, topic: usize, index: i32) -> Option<PartitionId> {
        let at = self.partitions().position(|partition| {
            partition.topic == topic && i32::try_from(partition.index) == Ok(index)
        });
        at.map(PartitionId)
    }

    /// Its name, such as `topic-0-1`.
    pub(crate) fn name_of(&self, id: PartitionId) -> String {
        let partition = self.partition(id);
        format!(
            "p{} ({}-{})",
            id.0, self.topics[partition.topic].name, partition.index
        )
    }
}

impl TopicPlan {
    fn draw(number: u64, rng: &mut SimRng) -> Self {
        let is_flushed = rng.chance(2);
        let mut configs = vec![
            ("retention.ms", "-1".to_owned()),
            (
                "index.interval.bytes",
                pick(rng, &[0, 128, 1024, 4096]).to_string(),
            ),
            // 12 bytes are one entry of the time index: segments roll when an index is full.
            (
                "segment.index.bytes",
                pick(rng, &[24, 120, 1200, 1_048_576]).to_string(),
            ),
        ];
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
        let partitions = usize::try_from(rng.between(1, 3)).unwrap_or(1);
        Self {
            name: format!("topic-{number}"),
            partitions,
            is_flushed,
            configs,
        }
    }
}

impl ProducerPlan {
    fn draw(partitions: usize, rng: &mut SimRng) -> Self {
        let is_idempotent = rng.chance(2) || rng.chance(3);
        let acks = if is_idempotent {
            -1
        } else {
            pick(rng, &[-1, -1, 1, 1, 0])
        };
        let codecs = [
            Codec::None,
            Codec::None,
            Codec::None,
            Codec::Gzip,
            Codec::Lz4,
            Codec::Zstd,
            Codec::Snappy,
        ];
        Self {
            is_idempotent,
            acks,
            depth: pick(rng, &[1, 2, 5]),
            partitions: draw_partitions(partitions, rng),
            records_max: pick(rng, &[1, 4, 20, 100]),
            value_max: pick(rng, &[0, 16, 100, 1000]),
            timestamp_spread: pick(rng, &[0, 10, 10_000]),
            codec: pick(rng, &codecs),
            version: i16::try_from(rng.between(7, 13)).unwrap_or(13),
            pause_max: Duration::from_micros(pick(rng, &[0, 500, 5_000, 50_000])),
            attempts_max: pick(rng, &[0, 0, 1, 3]),
        }
    }
}

impl ConsumerPlan {
    fn draw(partitions: usize, rng: &mut SimRng) -> Self {
        Self {
            partitions: draw_partitions(partitions, rng),
            version: i16::try_from(rng.between(4, 18)).unwrap_or(18),
            has_session: rng.chance(2),
            max_wait_ms: pick(rng, &[0, 50, 500]),
            min_bytes: pick(rng, &[0, 1, 10_000]),
            max_bytes: pick(rng, &[1, 2_000, 100_000, 1_048_576]),
            rewind_one_in: pick(rng, &[0, 8, 64]),
            pause_max: Duration::from_micros(pick(rng, &[0, 1_000, 20_000])),
        }
    }
}

impl FaultPlan {
    fn draw(rng: &mut SimRng) -> Self {
        if rng.chance(16) {
            // Some runs have none, to show what does not come from them.
            return Self {
                pause_max: Duration::from_secs(1),
                ..Self::default()
            };
        }
        let mut weight = |most: u64| {
            if rng.chance(2) {
                rng.between(1, most)
            } else {
                0
            }
        };
        Self {
            kill: weight(4),
            kill_in_call: weight(6),
            power_cut: weight(3),
            power_cut_in_call: weight(5),
            clean_restart: weight(2),
            write_eio: weight(2),
            read_eio: weight(1),
            sync_eio: weight(1),
            short_writes: weight(2),
            disk_full: weight(2),
            slow_disk: weight(2),
            stalled_disk: weight(2),
            cut_connections: weight(4),
            blocked_link: weight(2),
            slow_link: weight(2),
            clock_jump: weight(1),
            pause_max: Duration::from_millis(pick(rng, &[50, 200, 1_000])),
            restart_max: Duration::from_millis(pick(rng, &[1, 100, 1_000])),
        }
    }
}

/// Keys of the broker that make rare things frequent.
fn draw_broker(rng: &mut SimRng) -> Vec<(&'static str, String)> {
    let interval = |rng: &mut SimRng| pick(rng, &[100, 1_000, 60_000]).to_string();
    vec![
        ("log.flush.offset.checkpoint.interval.ms", interval(rng)),
        (
            "log.flush.start.offset.checkpoint.interval.ms",
            interval(rng),
        ),
        (
            "replica.high.watermark.checkpoint.interval.ms",
            interval(rng),
        ),
        (
            "log.flush.scheduler.interval.ms",
            pick(rng, &[50, 500]).to_string(),
        ),
        ("log.retention.check.interval.ms", interval(rng)),
    ]
}

/// Some of the partitions, at least one.
fn draw_partitions(count: usize, rng: &mut SimRng) -> Vec<PartitionId> {
    let mut chosen: Vec<_> = (0..count)
        .filter(|_| rng.chance(2))
        .map(PartitionId)
        .collect();
    if chosen.is_empty() {
        let one = rng.below(count as u64);
        chosen.push(PartitionId(usize::try_from(one).unwrap_or(0)));
    }
    chosen
}

/// One of `values`.
pub(crate) fn pick<T: Copy>(rng: &mut SimRng, values: &[T]) -> T {
    let at = usize::try_from(rng.below(values.len() as u64)).unwrap_or(0);
    values[at]
}
