//! Random histories against a model.
//!
//! The model is a plain list of batches and a handful of numbers, moved by the rules of the
//! protocol and not by the code under test. After every step all that can be seen of the replica is
//! compared with it:
//! - offsets are dense, never given twice, and given again after a failed write only;
//! - the high watermark is the smallest end in the ISR, never decreases, and rests below min ISR;
//! - a produce is acknowledged exactly when it is written or committed, as its `acks` ask, where it
//!   is;
//! - no batch is in the log twice, and a duplicate is told where the original is;
//! - every produce is answered exactly once.

use std::collections::BTreeMap;

use proptest::prelude::*;
use skein_types::ErrorCode;

use super::*;
use crate::{AckOk, FollowerFlush};

/// No member ever lags: this model's ISR changes only as it says itself.
const SETTINGS: ReplicaSettings = ReplicaSettings {
    replica_lag_time_max_ms: Millis(i64::MAX),
    ..super::SETTINGS
};
const REPLICAS: [i32; 3] = [1, 2, 3];
const TIMEOUT_MS: i64 = 1_000;

#[derive(Clone, Debug)]
enum Op {
    /// A producer's next batch, or with `retry` one of its last again, or with `gap` one too far
    /// on.
    Produce {
        producer: usize,
        records: i32,
        acks: Acks,
        kind: Kind,
    },
    Complete,
    Fail {
        is_disk_full: bool,
    },
    Flush,
    /// A follower has fetched all but this many of the written records, and flushed all but that
    /// many.
    Follow {
        follower: i32,
        behind: i64,
        unflushed: i64,
    },
    Isr {
        second: bool,
        third: bool,
    },
    Settings {
        min_isr: u32,
        is_flushed: bool,
    },
    Elect,
    TimePasses {
        ms: i64,
    },
    DeleteRecords {
        below_high_watermark: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Next,
    Retry,
    Gap,
}

fn any_op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![6 => Just(Kind::Next), 2 => Just(Kind::Retry), 1 => Just(Kind::Gap)];
    let acks = prop_oneof![Just(Acks::None), Just(Acks::Leader), Just(Acks::All)];
    let produce =
        (0..3_usize, 1..5, acks, kind).prop_map(|(producer, records, acks, kind)| Op::Produce {
            producer,
            records,
            acks,
            kind,
        });
    prop_oneof![
        12 => produce,
        6 => Just(Op::Complete),
        2 => any::<bool>().prop_map(|is_disk_full| Op::Fail { is_disk_full }),
        2 => Just(Op::Flush),
        8 => (2..4, 0..4_i64, 0..4_i64)
            .prop_map(|(follower, behind, unflushed)| Op::Follow { follower, behind, unflushed }),
        2 => any::<(bool, bool)>().prop_map(|(second, third)| Op::Isr { second, third }),
        1 => (1..4_u32, any::<bool>())
            .prop_map(|(min_isr, is_flushed)| Op::Settings { min_isr, is_flushed }),
        1 => Just(Op::Elect),
        2 => (0..600_i64).prop_map(|ms| Op::TimePasses { ms }),
        1 => (0..4_i64).prop_map(|below_high_watermark| Op::DeleteRecords { below_high_watermark }),
    ]
}

/// A batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Batch {
    producer: usize,
    base_sequence: i32,
    records: i32,
    base: i64,
    end: i64,
}

/// A produce that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    batch: Batch,
    acks: Acks,
    deadline: i64,
}

/// What is known of a follower in this leader epoch.
#[derive(Clone, Copy, Debug, Default)]
struct ModelFollower {
    is_in_sync: bool,
    end: Option<i64>,
    flushed: Option<i64>,
}

struct Model {
    replica: Replica,
    now: i64,
    leader_epoch: i32,
    partition_epoch: i32,
    settings: ReplicaSettings,
    /// What is in the log, in order.
    log: Vec<Batch>,
    /// What a write in flight would append to it.
    pending: Vec<Batch>,
    open: BTreeMap<u64, Open>,
    next_ticket: u64,
    next_sequence: [i32; 3],
    followers: BTreeMap<i32, ModelFollower>,
    flushed: i64,
    high_watermark: i64,
    log_start: i64,
}

/// The answers of one step: what each ticket heard.
type Answers = BTreeMap<u64, Result<AckOk, Refusal>>;

impl Model {
    fn new() -> Self {
        let mut model = Self {
            replica: Replica::new(BrokerId(1), SETTINGS, log(0, 0)),
            now: 1_000,
            leader_epoch: 0,
            partition_epoch: 0,
            settings: SETTINGS,
            log: Vec::new(),
            pending: Vec::new(),
            open: BTreeMap::new(),
            next_ticket: 1,
            next_sequence: [0; 3],
            followers: BTreeMap::from([(2, ModelFollower::default()), (3, Default::default())]),
            flushed: 0,
            high_watermark: 0,
            log_start: 0,
        };
        model.run(&Op::Elect);
        model
    }

    fn end(&self) -> i64 {
        self.log.last().map_or(0, |batch| batch.end)
    }

    fn reserved_end(&self) -> i64 {
        self.pending.last().map_or(self.end(), |batch| batch.end)
    }

    fn isr(&self) -> Vec<i32> {
        let in_sync = |broker_id: &i32| {
            self.followers
                .get(broker_id)
                .is_none_or(|follower| follower.is_in_sync)
        };
        REPLICAS.into_iter().filter(in_sync).collect()
    }

    fn is_below_min_isr(&self) -> bool {
        self.isr().len() < self.settings.min_insync_replicas.map_or(1, NonZeroU32::get) as usize
    }

    fn is_flushed(&self) -> bool {
        self.settings.durability == Durability::Flushed
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Produce {
                producer,
                records,
                acks,
                kind,
            } => {
                self.produce(producer, records, acks, kind);
            }
            Op::Complete if !self.pending.is_empty() => self.complete(),
            Op::Fail { is_disk_full } if !self.pending.is_empty() => self.fail(is_disk_full),
            Op::Elect if self.pending.is_empty() => self.elect(),
            Op::Complete | Op::Fail { .. } | Op::Elect => {}
            Op::Flush => {
                self.flushed = self.end();
                self.settle(flushed(self.reserved_end()));
            }
            Op::Follow {
                follower,
                behind,
                unflushed,
            } => self.follow(follower, behind, unflushed),
            Op::Isr { second, third } => {
                self.followers.get_mut(&2).unwrap().is_in_sync = second;
                self.followers.get_mut(&3).unwrap().is_in_sync = third;
                self.partition_epoch += 1;
                let epochs = (self.leader_epoch, self.partition_epoch);
                let changed = registration(epochs.0, epochs.1, &REPLICAS, &self.isr());
                self.settle(Event::PartitionChanged(changed));
            }
            Op::Settings {
                min_isr: min_insync_replicas,
                is_flushed,
            } => {
                self.settings = ReplicaSettings {
                    replica_lag_time_max_ms: SETTINGS.replica_lag_time_max_ms,
                    ..min_isr(min_insync_replicas)
                };
                if is_flushed {
                    self.settings.durability = Durability::Flushed;
                }
                self.settle(self.settings.into());
            }
            Op::TimePasses { ms } => {
                self.now += ms;
                self.time_passed();
            }
            Op::DeleteRecords {
                below_high_watermark,
            } => self.delete_records(below_high_watermark),
        }
    }

    fn produce(&mut self, producer: usize, records: i32, acks: Acks, kind: Kind) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let latest = self.log.iter().chain(&self.pending);
        let latest = latest
            .rev()
            .find(|batch| batch.producer == producer)
            .copied();
        let sequence = self.next_sequence[producer];
        let (records, base_sequence) = match (kind, latest) {
            (Kind::Retry, Some(batch)) => (batch.records, batch.base_sequence),
            // Of a producer that is not known every sequence is right.
            (Kind::Gap, Some(_)) => (records, sequence + 1),
            (_, None) | (Kind::Next, _) => (records, sequence),
        };
        let event = produce(ticket, records)
            .acks(acks)
            .producer(producer as i64, 0, base_sequence);
        let (writes, answers) = self.step(event.into());

        if acks == Acks::All && self.is_below_min_isr() {
            assert_eq!(code(&answers, ticket), Some(ErrorCode::NotEnoughReplicas));
            assert!(writes.is_empty());
            return;
        }
        let original = latest.filter(|_| kind == Kind::Retry);
        if kind == Kind::Gap && latest.is_some() {
            assert_eq!(
                code(&answers, ticket),
                Some(ErrorCode::OutOfOrderSequenceNumber)
            );
            assert!(writes.is_empty());
            return;
        }
        let base = self.reserved_end();
        let end = base + i64::from(records);
        let batch = original.unwrap_or(Batch {
            producer,
            base_sequence,
            records,
            base,
            end,
        });
        if original.is_none() {
            assert_eq!(writes, [(ticket, base)], "offsets are dense");
            self.pending.push(batch);
            self.next_sequence[producer] = base_sequence + records;
        } else {
            assert!(writes.is_empty(), "a duplicate is not written");
        }
        let deadline = self.now + TIMEOUT_MS;
        self.open.insert(
            ticket,
            Open {
                batch,
                acks,
                deadline,
            },
        );
        self.expect_acks(&answers);
    }

    fn complete(&mut self) {
        let end = self.reserved_end();
        self.log.append(&mut self.pending);
        self.settle(written(end));
    }

    fn fail(&mut self, is_disk_full: bool) {
        let failure = if is_disk_full {
            WriteFailure::DiskFull
        } else {
            WriteFailure::Io
        };
        let (writes, answers) = self.step(write_failed(failure));
        assert!(writes.is_empty());
        let end = self.end();
        let lost: Vec<u64> = self.tickets(|open| open.batch.end > end);
        assert_eq!(answers.keys().copied().collect::<Vec<_>>(), lost);
        for ticket in lost {
            self.open.remove(&ticket);
            assert_eq!(code(&answers, ticket), Some(ErrorCode::KafkaStorageError));
        }
        for batch in self.pending.drain(..).rev() {
            self.next_sequence[batch.producer] = batch.base_sequence;
        }
    }

    fn elect(&mut self) {
        self.leader_epoch += 1;
        self.partition_epoch += 1;
        for follower in self.followers.values_mut() {
            *follower = ModelFollower {
                is_in_sync: true,
                ..ModelFollower::default()
            };
        }
        let elected = registration(
            self.leader_epoch,
            self.partition_epoch,
            &REPLICAS,
            &REPLICAS,
        );
        self.settle(Event::BecameLeader(elected));
    }

    fn follow(&mut self, follower: i32, behind: i64, unflushed: i64) {
        let end = (self.end() - behind).max(0);
        let flushed = (end - unflushed).max(0);
        let known = self.followers.get_mut(&follower).unwrap();
        // One that is behind the log's start must begin anew there: it has nothing.
        let counts = end >= self.log_start;
        known.end = counts.then_some(end);
        known.flushed = known.flushed.filter(|_| counts);
        known.flushed = known.flushed.map(|flushed| flushed.min(end));
        let (broker_id, leader_epoch) = (BrokerId(follower), LeaderEpoch(self.leader_epoch));
        self.settle(fetched_in(self.leader_epoch, follower, end));
        self.followers.get_mut(&follower).unwrap().flushed = Some(flushed);
        let end = Offset(flushed);
        self.settle(Event::FollowerFlushed(FollowerFlush {
            broker_id,
            broker_epoch: BrokerEpoch::NONE,
            leader_epoch,
            end,
        }));
    }

    fn time_passed(&mut self) {
        let (writes, answers) = self.step(Event::TimePassed);
        assert!(writes.is_empty());
        let (now, end) = (self.now, self.end());
        let late = self.tickets(|open| open.batch.end <= end && open.deadline <= now);
        assert_eq!(answers.keys().copied().collect::<Vec<_>>(), late);
        for ticket in late {
            self.open.remove(&ticket);
            assert_eq!(code(&answers, ticket), Some(ErrorCode::RequestTimedOut));
        }
    }

    fn delete_records(&mut self, below_high_watermark: i64) {
        let target = self.high_watermark - below_high_watermark;
        if target <= self.log_start {
            return;
        }
        self.log_start = target;
        let (ticket, log_start_offset) = (None, Offset(target));
        self.settle(Event::LogStartOffsetMoved {
            ticket,
            log_start_offset,
        });
    }

    /// Steps an event that writes nothing, and expects what follows from the model.
    fn settle(&mut self, event: Event) {
        let (writes, answers) = self.step(event);
        assert!(writes.is_empty());
        self.expect_acks(&answers);
    }

    /// Steps, and compares the offsets that readers see.
    fn step(&mut self, event: Event) -> (Vec<(u64, i64)>, Answers) {
        let mut effects = Vec::new();
        let now = Now {
            time_of_day: Millis(self.now),
            monotonic: Millis(self.now),
        };
        self.replica.controller_confirms_until(Millis(i64::MAX));
        self.replica.step(event, now, &mut effects);
        self.advance_high_watermark();
        let mut writes = Vec::new();
        let mut answers = Answers::new();
        for effect in effects {
            match effect {
                Effect::Write {
                    ticket,
                    base_offset,
                    leader_epoch,
                    ..
                } => {
                    assert_eq!(leader_epoch, LeaderEpoch(self.leader_epoch));
                    writes.push((ticket.0, base_offset.0));
                }
                Effect::AckProduce { ticket, result } => {
                    assert_eq!(answers.insert(ticket.0, result), None, "answered twice");
                }
                Effect::PublishView(offsets) => {
                    assert!(
                        answers.is_empty(),
                        "the view comes before what it makes true"
                    );
                    assert_eq!(offsets, self.replica.published());
                }
                Effect::RequestFlush { end } => {
                    assert!(self.is_flushed() && end == Offset(self.end()));
                }
                Effect::CheckpointLeaderEpochs => {}
                other => panic!("{other:?}"),
            }
        }
        let seen = self.replica.published();
        let seen = [
            seen.log_start_offset,
            seen.high_watermark,
            seen.log_end_offset,
        ];
        assert_eq!(
            seen,
            [self.log_start, self.high_watermark, self.end()].map(Offset)
        );
        (writes, answers)
    }

    fn advance_high_watermark(&mut self) {
        if self.is_below_min_isr() {
            return;
        }
        let is_flushed = self.is_flushed();
        let followers = self
            .followers
            .values()
            .filter(|follower| follower.is_in_sync);
        let ends = followers.map(|known| if is_flushed { known.flushed } else { known.end });
        let own = Some(if is_flushed { self.flushed } else { self.end() });
        // `None` is smaller than any offset: an unknown end holds the high watermark.
        let committed = ends.chain([own]).min().flatten().unwrap_or(0);
        self.high_watermark = self.high_watermark.max(committed);
    }

    /// Whatever is written or committed as asked is acknowledged; below min ISR what waits is
    /// refused; nothing else is answered.
    fn expect_acks(&mut self, answers: &Answers) {
        let (end, high_watermark) = (self.end(), self.high_watermark);
        let is_due = |open: &Open| {
            let needed = if open.acks == Acks::All {
                high_watermark
            } else {
                end
            };
            open.batch.end <= needed
        };
        let is_below = self.is_below_min_isr();
        let expected = self.tickets(|open| is_due(open) || is_below && open.batch.end <= end);
        assert_eq!(answers.keys().copied().collect::<Vec<_>>(), expected);
        for ticket in expected {
            let open = self.open.remove(&ticket).unwrap();
            if is_due(&open) {
                let ack = answers[&ticket].unwrap();
                assert_eq!(ack.base_offset, Offset(open.batch.base));
                assert_eq!(ack.log_start_offset, Offset(self.log_start));
            } else {
                let expected = Some(ErrorCode::NotEnoughReplicasAfterAppend);
                assert_eq!(code(answers, ticket), expected);
            }
        }
    }

    fn tickets(&self, is_wanted: impl Fn(&Open) -> bool) -> Vec<u64> {
        let wanted = self.open.iter().filter(|(_, open)| is_wanted(open));
        wanted.map(|(ticket, _)| *ticket).collect()
    }

    /// Ends the history: what waits is answered, and the log is what it should be.
    fn finish(&mut self) {
        if !self.pending.is_empty() {
            self.complete();
        }
        let leader_epoch = LeaderEpoch(self.leader_epoch + 1);
        let (_, answers) = self.step(Event::Resigned { leader_epoch });
        let unanswered: Vec<u64> = self.open.keys().copied().collect();
        assert_eq!(answers.keys().copied().collect::<Vec<_>>(), unanswered);
        let mut next_sequence = [0; 3];
        for batch in &self.log {
            assert_eq!(
                batch.base_sequence, next_sequence[batch.producer],
                "none lost or doubled"
            );
            next_sequence[batch.producer] += batch.records;
        }
    }
}

fn code(answers: &Answers, ticket: u64) -> Option<ErrorCode> {
    answers.get(&ticket)?.err().map(Refusal::error_code)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_history_keeps_the_rules(ops in prop::collection::vec(any_op(), 1..120)) {
        let mut model = Model::new();
        for op in &ops {
            model.run(op);
        }
        model.finish();
    }
}
