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
use crate::history::Actor;

mod groups;
mod topics;

pub(crate) use groups::{AtEnd, GroupsPlan, LATE, MemberPlan, RETENTION, SHORT_SESSION_MAX_MS};
pub(crate) use topics::{Compaction, PartitionPlan, Retention, Slot, TopicPlan};

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Every topic that there will ever be; those of one name follow one another.
    pub(crate) topics: Vec<TopicPlan>,
    partitions: Vec<PartitionPlan>,
    pub(crate) admin: AdminPlan,
    pub(crate) producers: Vec<ProducerPlan>,
    pub(crate) consumers: Vec<ConsumerPlan>,
    pub(crate) listers: usize,
    pub(crate) groups: GroupsPlan,
    pub(crate) faults: FaultPlan,
    pub(crate) broker: Vec<(&'static str, String)>,
    pub(crate) schedule: Schedule,
    pub(crate) speed: DiskSpeed,
    pub(crate) link: LinkPlan,
    /// How long faults strike.
    pub(crate) safety: Duration,
}

/// A producer.
#[derive(Clone, Debug)]
pub(crate) struct ProducerPlan {
    pub(crate) is_idempotent: bool,
    pub(crate) acks: i16,
    /// Requests in flight.
    pub(crate) depth: usize,
    pub(crate) slots: Vec<Slot>,
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
    pub(crate) slots: Vec<Slot>,
    pub(crate) version: i16,
    pub(crate) has_session: bool,
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    /// Jumps back once in so many fetches; 0 for never.
    pub(crate) rewind_one_in: u32,
    pub(crate) pause_max: Duration,
}

/// What is done to topics while others use them: weights; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AdminPlan {
    pub(crate) pause_max: Duration,
    /// Deletes a topic, and makes the next one of its name.
    pub(crate) delete_topic: u64,
    pub(crate) create_partitions: u64,
    pub(crate) delete_records: u64,
    /// Changes whether, when and how a topic is compacted.
    pub(crate) change_policy: u64,
    /// Hides a record from its readers.
    pub(crate) hide_record: u64,
    /// Partitions of a topic that a client makes by asking for it.
    pub(crate) num_partitions: usize,
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
    pub(crate) bit_rot: u64,
}

impl Plan {
    /// The plan of these random numbers.
    pub(crate) fn draw(rng: &mut SimRng) -> Self {
        let admin = AdminPlan::draw(rng);
        let topics = topics::draw(&admin, rng);
        let slots = topics::slots(&topics);
        let producers = (0..rng.between(2, 6))
            .map(|_| ProducerPlan::draw(&topics, &slots, rng))
            .collect();
        let consumers = (0..rng.between(1, 4))
            .map(|_| ConsumerPlan::draw(&topics, &slots, rng))
            .collect();
        let faults = FaultPlan::draw(rng);
        let mut broker = draw_broker(&admin, rng);
        let mut plan = Self {
            partitions: topics::partitions(&topics),
            topics,
            admin,
            producers,
            consumers,
            listers: usize::from(rng.chance(2)),
            faults,
            broker: Vec::new(),
            groups: GroupsPlan::default(),
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
        };
        plan.groups = GroupsPlan::draw(rng);
        broker.extend(plan.groups.broker(rng));
        broker.extend(plan.groups.draw_expiry(rng));
        if plan.groups.expires {
            // Whether an offset is as old as it has to be could not be told.
            plan.faults.clock_jump = 0;
        }
        plan.broker = broker;
        plan
    }

    /// Everybody who talks to the node while faults strike.
    pub(crate) fn clients(&self) -> Vec<Actor> {
        let mut clients = vec![Actor::Admin];
        clients.extend((0..self.producers.len()).map(Actor::Producer));
        clients.extend((0..self.consumers.len()).map(Actor::Consumer));
        clients.extend((0..self.listers).map(Actor::Lister));
        clients.extend((0..self.groups.members.len()).map(Actor::Member));
        clients.extend((0..self.groups.committers.len()).map(Actor::Committer));
        clients
    }

    /// What holds tasks up and splits segments: once in how many polls or calls; 0 is never.
    pub(crate) fn hindrances(&mut self) -> [(&'static str, &mut u32); 3] {
        [
            ("yields", &mut self.schedule.yield_one_in),
            ("delays", &mut self.schedule.delay_one_in),
            ("fragments", &mut self.link.fragment_one_in),
        ]
    }

    /// Every partition, in the order of [`PartitionId`].
    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionPlan> + '_ {
        self.partitions.iter().copied()
    }

    /// One partition.
    pub(crate) fn partition(&self, id: PartitionId) -> PartitionPlan {
        self.partitions[id.0]
    }

    /// Which partition a topic and an index are.
    pub(crate) fn find(&self, topic: usize, index: i32) -> Option<PartitionId> {
        let index = usize::try_from(index).ok()?;
        let plan = self.topics.get(topic)?;
        (index < plan.partitions_max).then_some(PartitionId(plan.first_partition + index))
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

impl AdminPlan {
    /// Each operation is on in one run of three, so that most runs show one or two of them.
    fn draw(rng: &mut SimRng) -> Self {
        let mut weight = || u64::from(rng.chance(3));
        Self {
            delete_topic: weight(),
            create_partitions: weight(),
            delete_records: 4 * weight(),
            change_policy: 4 * weight(),
            hide_record: 4 * weight(),
            pause_max: Duration::from_millis(pick(rng, &[50, 300, 1_000])),
            num_partitions: pick(rng, &[1, 2, 3]),
        }
    }

    /// What is done, and its weights.
    pub(crate) fn operations(&mut self) -> [(&'static str, &mut u64); 5] {
        [
            ("delete-topic", &mut self.delete_topic),
            ("create-partitions", &mut self.create_partitions),
            ("delete-records", &mut self.delete_records),
            ("change-policy", &mut self.change_policy),
            ("hide-record", &mut self.hide_record),
        ]
    }

    /// Whether nothing is done.
    pub(crate) fn is_idle(mut self) -> bool {
        self.operations().iter().all(|(_, weight)| **weight == 0)
    }
}

impl ProducerPlan {
    fn draw(topics: &[TopicPlan], slots: &[Slot], rng: &mut SimRng) -> Self {
        let slots = draw_slots(slots, rng);
        // A name may come to mean another topic; an id does not.
        let version_min = if topics::is_churned(topics, &slots) {
            13
        } else {
            7
        };
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
            slots,
            records_max: pick(rng, &[1, 4, 20, 100]),
            value_max: pick(rng, &[0, 16, 100, 1000]),
            timestamp_spread: pick(rng, &[0, 10, 10_000]),
            codec: pick(rng, &codecs),
            version: i16::try_from(rng.between(version_min, 13)).unwrap_or(13),
            pause_max: Duration::from_micros(pick(rng, &[0, 500, 5_000, 50_000])),
            attempts_max: pick(rng, &[0, 0, 1, 3]),
        }
    }
}

impl ConsumerPlan {
    fn draw(topics: &[TopicPlan], slots: &[Slot], rng: &mut SimRng) -> Self {
        let slots = draw_slots(slots, rng);
        let version_min = if topics::is_churned(topics, &slots) {
            13
        } else {
            4
        };
        Self {
            slots,
            version: i16::try_from(rng.between(version_min, 18)).unwrap_or(18),
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
            bit_rot: weight(2),
            pause_max: Duration::from_millis(pick(rng, &[50, 200, 1_000])),
            restart_max: Duration::from_millis(pick(rng, &[1, 100, 1_000])),
        }
    }
}

/// Keys of the broker that make rare things frequent.
fn draw_broker(admin: &AdminPlan, rng: &mut SimRng) -> Vec<(&'static str, String)> {
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
        (
            "log.cleaner.backoff.ms",
            pick(rng, &[10, 100, 1_000]).to_string(),
        ),
        ("log.cleaner.threads", pick(rng, &[1, 1, 2]).to_string()),
        (
            // Half-way through a large set of keys the table is full.
            "log.cleaner.io.buffer.load.factor",
            pick(rng, &["0.9", "0.01"]).to_owned(),
        ),
        (
            "log.cleaner.io.max.bytes.per.second",
            pick(rng, &["1.7976931348623157E308", "200000"]).to_owned(),
        ),
        ("num.partitions", admin.num_partitions.to_string()),
    ]
}

/// Some of the slots, at least one.
fn draw_slots(slots: &[Slot], rng: &mut SimRng) -> Vec<Slot> {
    let mut chosen = slots.to_vec();
    chosen.retain(|_| rng.chance(2));
    if chosen.is_empty() {
        chosen.push(pick(rng, slots));
    }
    chosen
}

/// One of `values`.
pub(crate) fn pick<T: Copy>(rng: &mut SimRng, values: &[T]) -> T {
    let at = usize::try_from(rng.below(values.len() as u64)).unwrap_or(0);
    values[at]
}
