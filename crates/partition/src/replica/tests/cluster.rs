//! Random histories of a whole partition: three replicas, a controller, and a network that loses,
//! doubles and reorders.
//!
//! The replicas are the code under test. Disks, the controller (`cluster/controller.rs`) and the
//! network are models. Processes crash, with or without the tail of their log that was not flushed;
//! who has lost one says so when it registers, and leaves ISR and ELR. Images reach each process
//! when they please, so that there are leaders who do not know yet that they are none.
//!
//! What must hold, checked as it happens:
//! - what was committed is never lost or changed: every elected leader has all of it, and so has
//!   whoever counts it as committed;
//! - replicas agree below their high watermarks;
//! - one process leads in a leader epoch;
//! - the end that readers are told never goes back, from leader to leader;
//! - `acks=all` is answered only when every living member of the ISR has the record;
//! - nobody cuts off what is committed.
//!
//! When the faults end, all replicas come to the same log and the same high watermark.
//!
//! A history ends where ISR and ELR are empty, because then records may be lost.

use std::collections::BTreeMap;

use proptest::prelude::*;
use skein_record::EpochEndOffset;
use skein_types::ErrorCode;

use self::controller::Controller;
use super::*;
use crate::{FetchIsolation, FetchedBatch, FetchedBatches, IsrAnswer, IsrProposal, TruncatedLog};

mod controller;

const BROKERS: [i32; 3] = [1, 2, 3];
/// Batches in one answer.
const ANSWER_MAX: usize = 2;
/// Messages under way; the oldest is lost.
const NETWORK_MAX: usize = 24;
const SETTINGS: ReplicaSettings = ReplicaSettings {
    replica_lag_time_max_ms: Millis(1_000),
    ..super::SETTINGS
};

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Whoever this is, if it believes that it leads.
    Produce(i32),
    /// The follower asks again, as after a time-out.
    Fetch(i32),
    Deliver(usize),
    Duplicate(usize),
    Lose(usize),
    Flush(i32),
    Crash {
        broker: i32,
        loses_tail: bool,
    },
    Restart(i32),
    /// The image reaches the process.
    Learn(i32),
    Fence(i32),
    Heartbeat(i32),
    TimePasses(i64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let broker = || 1..=3_i32;
    prop_oneof![
        8 => broker().prop_map(Op::Produce),
        8 => broker().prop_map(Op::Fetch),
        24 => (0..NETWORK_MAX).prop_map(Op::Deliver),
        3 => (0..NETWORK_MAX).prop_map(Op::Duplicate),
        2 => (0..NETWORK_MAX).prop_map(Op::Lose),
        2 => broker().prop_map(Op::Flush),
        2 => (broker(), any::<bool>()).prop_map(|(broker, loses_tail)| Op::Crash {
            broker,
            loses_tail,
        }),
        4 => broker().prop_map(Op::Restart),
        8 => broker().prop_map(Op::Learn),
        1 => broker().prop_map(Op::Fence),
        4 => broker().prop_map(Op::Heartbeat),
        3 => (0..700_i64).prop_map(Op::TimePasses),
    ]
}

/// A record, a batch of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    leader_epoch: i32,
    value: u64,
}

#[derive(Clone, Debug)]
enum Message {
    Fetch {
        from: i32,
        broker_epoch: i64,
        to: i32,
        position: FetchPosition,
    },
    Batches {
        to: i32,
        position: FetchPosition,
        entries: Vec<Entry>,
        high_watermark: Offset,
    },
    Diverged {
        to: i32,
        position: FetchPosition,
        end: EpochEndOffset,
    },
    OutOfRange {
        to: i32,
        position: FetchPosition,
        end: Offset,
    },
    Propose {
        from: i32,
        broker_epoch: i64,
        proposal: IsrProposal,
    },
    Answer {
        to: i32,
        answer: IsrAnswer,
    },
}

struct Node {
    id: i32,
    /// `None` while no process runs.
    replica: Option<Replica>,
    broker_epoch: i64,
    log: Vec<Entry>,
    flushed: usize,
    /// As checkpointed with the last flush.
    high_watermark: i64,
    lost_tail: bool,
    leader: Option<i32>,
}

struct Cluster {
    nodes: BTreeMap<i32, Node>,
    controller: Controller,
    network: Vec<Message>,
    now: i64,
    next_value: u64,
    /// What was committed, by offset.
    committed: Vec<Entry>,
    /// Who led in each epoch.
    leaders: BTreeMap<i32, (i32, i64)>,
    /// The largest end that readers were told in each epoch.
    told: BTreeMap<i32, Offset>,
}

impl Cluster {
    fn new() -> Self {
        let node = |id| Node {
            id,
            replica: Some(open(id, &[], 0, 0)),
            broker_epoch: i64::from(id),
            log: Vec::new(),
            flushed: 0,
            high_watermark: 0,
            lost_tail: false,
            leader: None,
        };
        let mut cluster = Self {
            nodes: BROKERS.into_iter().map(|id| (id, node(id))).collect(),
            controller: Controller::new(),
            network: Vec::new(),
            now: 0,
            next_value: 1,
            committed: Vec::new(),
            leaders: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        for id in BROKERS {
            cluster.learn(id);
        }
        cluster
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Produce(id) => {
                let ticket = self.next_value;
                self.next_value += 1;
                self.step(id, produce(ticket, 1).into());
            }
            Op::Fetch(id) => self.fetch(id),
            Op::Deliver(at) if at < self.network.len() => {
                let message = self.network.remove(at);
                self.deliver(message);
            }
            Op::Duplicate(at) if at < self.network.len() => {
                let message = self.network[at].clone();
                self.deliver(message);
            }
            Op::Lose(at) if at < self.network.len() => {
                let message = self.network.remove(at);
                self.lose(message);
            }
            Op::Deliver(_) | Op::Duplicate(_) | Op::Lose(_) => {}
            Op::Flush(id) => self.flush(id),
            Op::Crash { broker, loses_tail } => self.crash(broker, loses_tail),
            Op::Restart(id) => self.restart(id),
            Op::Learn(id) => self.learn(id),
            Op::Fence(id) => self.controller.fence(id),
            Op::Heartbeat(id) => {
                let node = &self.nodes[&id];
                if node.replica.is_some() {
                    self.controller.heartbeat(id, node.broker_epoch);
                }
            }
            Op::TimePasses(ms) => {
                self.now += ms;
                for id in BROKERS {
                    self.step(id, Event::TimePassed);
                }
            }
        }
    }

    fn send(&mut self, message: Message) {
        self.network.push(message);
        if self.network.len() > NETWORK_MAX {
            let oldest = self.network.remove(0);
            self.lose(oldest);
        }
    }

    /// Nobody waits for ever: what was not answered is taken for timed out, and may yet arrive.
    fn lose(&mut self, message: Message) {
        let (to, attempt, leader_epoch) = match &message {
            Message::Propose { from, proposal, .. } => {
                (*from, proposal.attempt, proposal.leader_epoch)
            }
            Message::Answer { to, answer } => (*to, answer.attempt, answer.leader_epoch),
            _ => return,
        };
        if matches!(message, Message::Propose { .. }) && self.network.len() < NETWORK_MAX {
            self.network.push(message);
        }
        let result = Err(ErrorCode::RequestTimedOut);
        self.step(
            to,
            Event::IsrProposalAnswered(IsrAnswer {
                attempt,
                leader_epoch,
                result,
            }),
        );
    }

    fn fetch(&mut self, id: i32) {
        let node = &self.nodes[&id];
        let position = node.replica.as_ref().and_then(Replica::fetch_position);
        let (Some(position), Some(to)) = (position, node.leader) else {
            return;
        };
        let (from, broker_epoch) = (id, node.broker_epoch);
        self.send(Message::Fetch {
            from,
            broker_epoch,
            to,
            position,
        });
    }

    fn flush(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(replica) = &node.replica else { return };
        node.flushed = node.log.len();
        node.high_watermark = replica.published().high_watermark.0;
        let end = i64::try_from(node.flushed).unwrap();
        self.step(id, flushed(end));
    }

    fn crash(&mut self, id: i32, loses_tail: bool) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.replica.take().is_some() && loses_tail {
            node.lost_tail |= node.flushed < node.log.len();
            node.log.truncate(node.flushed);
        }
    }

    fn restart(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.replica.is_some() {
            return;
        }
        let is_clean = !std::mem::take(&mut node.lost_tail);
        node.leader = None;
        node.broker_epoch = self.controller.register(id, is_clean);
        node.replica = Some(open(id, &node.log, node.flushed, node.high_watermark));
    }

    fn learn(&mut self, id: i32) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.replica.is_none() || !self.controller.is_registered(id, node.broker_epoch) {
            return;
        }
        node.leader = self.controller.leader;
        let leader_epoch = LeaderEpoch(self.controller.leader_epoch);
        match self.controller.leader {
            Some(leader) if leader == id => {
                let registration = self.controller.registration();
                self.step(id, Event::BecameLeader(registration.clone()));
                self.step(id, Event::PartitionChanged(registration));
            }
            Some(leader) => {
                let leader = BrokerId(leader);
                let event = Event::BecameFollower {
                    leader,
                    leader_epoch,
                };
                self.step(id, event);
            }
            None => self.step(id, Event::Resigned { leader_epoch }),
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Fetch {
                from,
                broker_epoch,
                to,
                position,
            } => self.serve(to, from, broker_epoch, position),
            Message::Batches {
                to,
                position,
                entries,
                high_watermark,
            } => self.take_batches(to, position, entries, high_watermark),
            Message::Diverged { to, position, end } => {
                self.step(to, Event::LogsDiverged { position, end });
            }
            Message::OutOfRange { to, position, end } => {
                let event = Event::FetchedOutOfRange {
                    position,
                    leader_log_start_offset: Offset(0),
                    leader_log_end_offset: end,
                };
                self.step(to, event);
            }
            Message::Propose {
                from,
                broker_epoch,
                proposal,
            } => {
                let answer = self.controller.decide(from, broker_epoch, &proposal);
                self.send(Message::Answer { to: from, answer });
            }
            Message::Answer { to, answer } => self.step(to, Event::IsrProposalAnswered(answer)),
        }
    }

    /// The leader takes note of the fetch, whatever it is, and answers as its view allows.
    fn serve(&mut self, leader: i32, from: i32, broker_epoch: i64, position: FetchPosition) {
        let FetchPosition {
            leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            ..
        } = position;
        let fetch = FollowerFetch {
            broker_id: BrokerId(from),
            broker_epoch: BrokerEpoch(broker_epoch),
            leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            sent_after: None,
        };
        self.step(leader, Event::FollowerFetched(fetch));
        let node = &self.nodes[&leader];
        let Some(replica) = &node.replica else { return };
        let (offsets, epochs) = (replica.published(), replica.leader_epochs());
        if offsets.leader(leader_epoch).is_err() {
            return;
        }
        let to = from;
        let end = offsets.log_end_offset;
        let answer = match offsets.diverging_epoch(epochs, fetch_offset, last_fetched_epoch) {
            Ok(Some(end)) => Message::Diverged { to, position, end },
            Ok(None) if fetch_offset <= end => {
                let entries = node.log.iter().skip(index(fetch_offset)).take(ANSWER_MAX);
                Message::Batches {
                    to,
                    position,
                    entries: entries.copied().collect(),
                    high_watermark: offsets.high_watermark,
                }
            }
            Ok(None) | Err(_) => Message::OutOfRange { to, position, end },
        };
        self.send(answer);
    }

    fn take_batches(
        &mut self,
        to: i32,
        position: FetchPosition,
        entries: Vec<Entry>,
        high_watermark: Offset,
    ) {
        let batches = (position.fetch_offset.0..).zip(&entries);
        let batches = batches.map(|(base_offset, entry)| FetchedBatch {
            header: BatchHeader {
                base_offset: Offset(base_offset),
                leader_epoch: LeaderEpoch(entry.leader_epoch),
                ..produce(0, 1).header
            },
            txn_end: None,
        });
        let fetched = FetchedBatches {
            ticket: Ticket(0),
            position,
            batches: batches.collect(),
            high_watermark,
            log_start_offset: Offset(0),
        };
        self.step_with(to, Event::BatchesFetched(fetched), entries);
    }

    fn step(&mut self, id: i32, event: Event) {
        self.step_with(id, event, Vec::new());
    }

    /// Steps a replica, carries its effects out, and steps what they lead to.
    fn step_with(&mut self, id: i32, event: Event, arriving: Vec<Entry>) {
        let now = Now {
            time_of_day: Millis(self.now),
            monotonic: Millis(self.now),
        };
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(replica) = &mut node.replica else {
            return;
        };
        let mut effects = Vec::new();
        replica.controller_confirms_until(Millis(i64::MAX));
        replica.step(event, now, &mut effects);
        self.check(id);
        let mut outcomes = Vec::new();
        for effect in effects {
            outcomes.extend(self.carry_out(id, effect, &arriving));
        }
        for outcome in outcomes {
            self.step(id, outcome);
        }
    }

    fn carry_out(&mut self, id: i32, effect: Effect, arriving: &[Entry]) -> Option<Event> {
        let node = self.nodes.get_mut(&id).unwrap();
        match effect {
            Effect::Write {
                ticket,
                leader_epoch,
                ..
            } => {
                let (leader_epoch, value) = (leader_epoch.0, ticket.0);
                node.log.push(Entry {
                    leader_epoch,
                    value,
                });
                Some(written(node.end()))
            }
            Effect::WriteFetched { .. } => {
                node.log.extend(arriving);
                Some(written(node.end()))
            }
            Effect::Truncate { end } => {
                let mut pairs = node.log.iter().zip(&self.committed);
                let shared = pairs.by_ref().take_while(|(own, all)| own == all).count();
                assert!(
                    index(end) >= shared,
                    "{id} cuts off what is committed: {end}"
                );
                node.log.truncate(index(end));
                node.flushed = node.flushed.min(node.log.len());
                Some(Event::Truncated(TruncatedLog {
                    log_start_offset: Offset(0),
                    log_end_offset: end,
                    producers: ProducerStates::starting_at(end),
                    leader_epochs: epochs(&node.log),
                }))
            }
            Effect::AckProduce {
                ticket,
                result: Ok(ack),
            } => {
                self.check_ack(ticket.0, index(ack.base_offset));
                None
            }
            Effect::ProposeIsr(proposal) => {
                let (from, broker_epoch) = (id, node.broker_epoch);
                self.send(Message::Propose {
                    from,
                    broker_epoch,
                    proposal,
                });
                None
            }
            Effect::FetchFrom(_) => {
                self.fetch(id);
                None
            }
            Effect::RestartLog { .. }
            | Effect::ReportCommittedLost { .. }
            | Effect::ReplicaOffline { .. } => panic!("{id}: {effect:?}"),
            _ => None,
        }
    }

    fn check_ack(&self, value: u64, offset: usize) {
        assert_eq!(
            self.committed.get(offset).map(|entry| entry.value),
            Some(value)
        );
        for member in &self.controller.isr {
            let node = &self.nodes[member];
            let lives =
                node.replica.is_some() && self.controller.is_registered(*member, node.broker_epoch);
            let has = node.log.get(offset).map(|entry| entry.value) == Some(value);
            assert!(!lives || has, "{member} is in the ISR and lacks {value}");
        }
    }

    /// Compares what the replica shows with all that was shown before.
    fn check(&mut self, id: i32) {
        let node = &self.nodes[&id];
        let Some(replica) = &node.replica else { return };
        let offsets = replica.published();
        let committed = &node.log[..index(offsets.high_watermark)];
        let is_leader = matches!(offsets.role, PublishedRole::Leader { .. });
        let shared = committed.len().min(self.committed.len());
        assert_eq!(
            committed[..shared],
            self.committed[..shared],
            "{id} differs"
        );
        if is_leader && committed.len() > self.committed.len() {
            self.committed = committed.to_vec();
        }
        assert!(committed.len() <= self.committed.len(), "{id} is ahead");
        let PublishedRole::Leader { leader_epoch, .. } = offsets.role else {
            return;
        };
        let process = (id, node.broker_epoch);
        let leader = *self.leaders.entry(leader_epoch.0).or_insert_with(|| {
            let has_all = node.log.starts_with(&self.committed);
            assert!(
                has_all,
                "{id} leads in {leader_epoch} and lacks what is committed"
            );
            process
        });
        assert_eq!(leader, process, "two lead in {leader_epoch}");
        if let Ok(end) = offsets.latest(LeaderEpoch::NONE, FetchIsolation::HighWatermark) {
            let mut before = self.told.range(..=leader_epoch.0).map(|(_, end)| *end);
            assert!(
                before.all(|told| told <= end),
                "{id} tells {end}: {:?}",
                self.told
            );
            self.told.insert(leader_epoch.0, end);
        }
    }

    /// The faults end: all must come to the same.
    fn heal(&mut self) {
        for message in std::mem::take(&mut self.network) {
            self.lose(message);
        }
        for id in BROKERS {
            self.restart(id);
            let broker_epoch = self.nodes[&id].broker_epoch;
            self.controller.heartbeat(id, broker_epoch);
        }
        if self.controller.may_have_lost() {
            return;
        }
        // Long enough for a proposal whose answer was lost to be the image's affair.
        for round in 0..60 {
            for id in BROKERS {
                self.learn(id);
                self.fetch(id);
            }
            if round == 20 {
                let leader = self.controller.leader.unwrap();
                self.run(Op::Produce(leader));
            }
            // Not until all is quiet: a follower at the log's end asks on and on.
            for _ in 0..NETWORK_MAX {
                self.run(Op::Deliver(0));
            }
            self.network.retain(|message| {
                matches!(message, Message::Propose { .. } | Message::Answer { .. })
            });
            self.run(Op::TimePasses(60));
        }
        let leader = &self.nodes[&self.controller.leader.unwrap()];
        for node in self.nodes.values() {
            assert_eq!(node.log, leader.log, "{}", node.id);
            let offsets = node.replica.as_ref().unwrap().published();
            assert_eq!(offsets.high_watermark, Offset(node.end()), "{}", node.id);
        }
        assert_eq!(self.controller.isr, BROKERS, "all are in sync");
    }
}

impl Node {
    fn end(&self) -> i64 {
        i64::try_from(self.log.len()).unwrap()
    }
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).unwrap()
}

fn epochs(log: &[Entry]) -> LeaderEpochs {
    let mut epochs = LeaderEpochs::new();
    for (offset, entry) in (0..).zip(log) {
        epochs.assign(LeaderEpoch(entry.leader_epoch), Offset(offset));
    }
    epochs
}

fn open(id: i32, entries: &[Entry], flushed: usize, high_watermark: i64) -> Replica {
    let end = Offset(i64::try_from(entries.len()).unwrap());
    let log = RecoveredLog {
        high_watermark: Offset(high_watermark),
        flushed_end_offset: Offset(i64::try_from(flushed).unwrap()),
        leader_epochs: epochs(entries),
        ..log(0, end.0)
    };
    let settings = ReplicaSettings {
        min_insync_replicas: NonZeroU32::new(controller::MIN_ISR),
        ..SETTINGS
    };
    Replica::new(BrokerId(id), settings, log)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn no_history_loses_what_was_committed(ops in prop::collection::vec(any_op(), 1..300)) {
        let mut cluster = Cluster::new();
        for op in ops {
            cluster.run(op);
            if cluster.controller.may_have_lost() {
                return Ok(());
            }
        }
        cluster.heal();
    }
}
