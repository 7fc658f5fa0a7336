//! What a broker asks one leader for, over and over.
//!
//! Input: from where its replicas fetch ([`Effect::FetchFrom`](crate::Effect::FetchFrom)), and the
//! leader's answers. Output: the next request, and what each answer means for its replica.
//!
//! ```text
//!   follow ──► Fetching ─┬─ batches, or news ───────► Append ─────┐
//!                 ▲      ├─ diverging epoch ────────► Truncate ───┤  the replica is at it
//!                 │      ├─ OFFSET_OUT_OF_RANGE ────► AskRange ───┤
//!                 │      ├─ FENCED_LEADER_EPOCH ────► Stopped, until a newer leader is followed
//!                 │      └─ any other error ────────► Delayed, longer each time ────► Fetching
//!                 │                                               │
//!                 ├──────────────────────── follow ◄──────────────┤
//!                 └── Delayed ◄───────────── delay ◄──────────────┘
//! ```
//!
//! One request is under way at a time, in one fetch session. It has all partitions that are in sync
//! here, and of those that catch up only as many as may bring `catch_up_max_bytes` together: else a
//! producer with `acks=all` would wait behind megabytes of history. Both go round: who brought
//! records last comes last.
//!
//! Invariants, checked in [`Fetcher::check`] and by the tests:
//! - a partition is asked for only in `Fetching`, from the position of its replica;
//! - an answer counts only for the position that was asked from: the replica may have moved on;
//! - what the session has, the leader was told.
//!
//! See KIP-227 (sessions); `AbstractFetcherThread` of Kafka 4.1.

use std::collections::BTreeMap;

use skein_record::EpochEndOffset;
use skein_types::{ErrorCode, Millis, Offset, PartitionIndex, TopicId};

use self::session::Session;
use crate::FetchPosition;

mod session;

/// How long a partition rests after its first failure; doubled with each up to `backoff_ms`.
const FIRST_BACKOFF_MS: Millis = Millis(10);
const DOUBLINGS_MAX: u32 = 20;

/// A partition of a topic.
pub type FetchedPartition = (TopicId, PartitionIndex);

/// How a fetcher asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetcherSettings {
    /// `replica.fetch.max.bytes`: of one partition in one answer.
    pub partition_max_bytes: u32,
    /// Of all partitions that catch up, in one answer to which others are in sync. At least one
    /// of them is asked for.
    pub catch_up_max_bytes: u32,
    /// `replica.fetch.response.max.bytes`.
    pub response_max_bytes: u32,
    /// `replica.fetch.backoff.ms`: the longest rest after a failure.
    pub backoff_ms: Millis,
    /// `replica.fetch.wait.max.ms`.
    pub wait_max_ms: Millis,
}

/// The fetcher of one leader.
#[derive(Debug)]
pub struct Fetcher {
    settings: FetcherSettings,
    partitions: BTreeMap<FetchedPartition, Followed>,
    session: Session,
    is_under_way: bool,
    /// Who brought records last, among those in sync and those that catch up.
    last_in_sync: Option<FetchedPartition>,
    last_catching_up: Option<FetchedPartition>,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    position: FetchPosition,
    state: State,
    is_in_sync: bool,
    /// Failures since the last good answer, or since another leader epoch is followed.
    failures: u32,
    /// What the replica was told last of the leader's offsets.
    told: Option<(Offset, Offset)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Fetching,
    /// The replica appends, truncates, or is told the leader's range.
    Busy,
    Delayed(Millis),
    Stopped,
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchPlan {
    /// 0 for none yet.
    pub session_id: i32,
    /// 0 to begin a session.
    pub session_epoch: i32,
    /// The partitions that the session lacks or has otherwise, in the order of their importance.
    pub partitions: Vec<PlannedPartition>,
    /// The partitions that the session shall not have any more.
    pub forgotten: Vec<FetchedPartition>,
    /// `max_bytes` of the request.
    pub max_bytes: u32,
    /// `max_wait_ms` of the request.
    pub max_wait_ms: Millis,
}

/// A partition in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedPartition {
    /// Which.
    pub partition: FetchedPartition,
    /// From where.
    pub position: FetchPosition,
    /// `partition_max_bytes`.
    pub max_bytes: u32,
}

/// The leader's answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchAnswer {
    /// Of the whole.
    pub error_code: ErrorCode,
    /// The session from now on; 0 for none.
    pub session_id: i32,
    /// The partitions with news.
    pub partitions: Vec<(FetchedPartition, PartitionAnswer)>,
}

/// The leader's answer for one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionAnswer {
    /// Why there is nothing.
    pub error_code: ErrorCode,
    /// The leader's.
    pub high_watermark: Offset,
    /// The leader's.
    pub log_start_offset: Offset,
    /// Where the logs part.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// Whether there are bytes of records.
    pub has_records: bool,
}

/// What is to be done about an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchOrder {
    /// Hand batches and offsets to the replica:
    /// [`Event::BatchesFetched`](crate::Event::BatchesFetched).
    Append {
        /// Whose.
        partition: FetchedPartition,
        /// From where was asked.
        position: FetchPosition,
    },
    /// Tell the replica: [`Event::LogsDiverged`](crate::Event::LogsDiverged).
    Truncate {
        /// Whose.
        partition: FetchedPartition,
        /// From where was asked.
        position: FetchPosition,
        /// As answered.
        end: EpochEndOffset,
    },
    /// Ask the leader where its log starts and ends (ListOffsets), and tell the replica:
    /// [`Event::FetchedOutOfRange`](crate::Event::FetchedOutOfRange). If that fails,
    /// [`Fetcher::delay`] it.
    AskRange {
        /// Whose.
        partition: FetchedPartition,
        /// From where was asked.
        position: FetchPosition,
    },
}

impl FetchOrder {
    /// Whose order it is.
    #[must_use]
    pub const fn partition(&self) -> FetchedPartition {
        match self {
            Self::Append { partition, .. }
            | Self::Truncate { partition, .. }
            | Self::AskRange { partition, .. } => *partition,
        }
    }
}

impl Fetcher {
    /// A fetcher without partitions.
    #[must_use]
    pub fn new(settings: FetcherSettings) -> Self {
        Self {
            settings,
            partitions: BTreeMap::new(),
            session: Session::default(),
            is_under_way: false,
            last_in_sync: None,
            last_catching_up: None,
        }
    }

    /// The replica is ready to fetch from `position`.
    pub fn follow(&mut self, partition: FetchedPartition, position: FetchPosition) {
        self.set(partition, position, State::Fetching);
    }

    /// The replica is to fetch from `position`, but not at once.
    pub fn delay(&mut self, partition: FetchedPartition, position: FetchPosition, now: Millis) {
        let until = now.saturating_add(self.settings.backoff_ms);
        self.set(partition, position, State::Delayed(until));
    }

    /// Whether this broker's replica is in the ISR. One that was just followed is not.
    pub fn set_in_sync(&mut self, partition: FetchedPartition, is_in_sync: bool) {
        if let Some(followed) = self.partitions.get_mut(&partition) {
            followed.is_in_sync = is_in_sync;
        }
    }

    /// Asks no more for a partition: another broker leads it, or nobody.
    pub fn stop(&mut self, partition: FetchedPartition) {
        self.partitions.remove(&partition);
    }

    /// Whether there is nothing to follow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The next request; `None` while one is under way, or nothing is due.
    pub fn next_fetch(&mut self, now: Millis) -> Option<FetchPlan> {
        if self.is_under_way {
            return None;
        }
        let wanted = self.wanted(now);
        if wanted.is_empty() {
            return None;
        }
        self.is_under_way = true;
        let max_wait_ms = self.next_due().map_or(self.settings.wait_max_ms, |due| {
            due.saturating_sub(now).min(self.settings.wait_max_ms)
        });
        let plan = self
            .session
            .plan(wanted, self.settings.response_max_bytes, max_wait_ms);
        self.check();
        Some(plan)
    }

    /// When a partition that was delayed is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        let due = |followed: &Followed| match followed.state {
            State::Delayed(until) => Some(until),
            State::Fetching | State::Busy | State::Stopped => None,
        };
        self.partitions.values().filter_map(due).min()
    }

    /// The request was answered.
    pub fn answered(&mut self, answer: &FetchAnswer, now: Millis) -> Vec<FetchOrder> {
        self.is_under_way = false;
        let is_session_lost = matches!(
            answer.error_code,
            ErrorCode::FetchSessionIdNotFound
                | ErrorCode::InvalidFetchSessionEpoch
                | ErrorCode::FetchSessionTopicIdError
        );
        if is_session_lost {
            self.session.reset();
            return Vec::new();
        }
        if answer.error_code != ErrorCode::None {
            self.failed(now);
            return Vec::new();
        }
        let orders = answer
            .partitions
            .iter()
            .filter_map(|(partition, answer)| self.meaning(*partition, answer, now))
            .collect();
        self.session.answered(answer.session_id);
        self.check();
        orders
    }

    /// The request failed: what was asked for is asked for again later, in a new session.
    pub fn failed(&mut self, now: Millis) {
        self.is_under_way = false;
        let backoff_ms = self.settings.backoff_ms;
        for (partition, followed) in &mut self.partitions {
            let is_asked = self.session.asked(*partition).is_some();
            if is_asked && followed.state == State::Fetching {
                followed.state = followed.fail(now, backoff_ms);
            }
        }
        self.session.reset();
    }

    /// Asserts that nothing is under way of which the session does not know.
    fn check(&self) {
        assert!(!self.is_under_way || !self.session.is_empty());
    }

    fn set(&mut self, partition: FetchedPartition, position: FetchPosition, state: State) {
        let known = self.partitions.get(&partition).copied();
        // What an older leader was asked for says nothing of this one.
        let known = known.filter(|known| known.position.leader_epoch == position.leader_epoch);
        let followed = Followed {
            position,
            state,
            is_in_sync: known.is_some_and(|known| known.is_in_sync),
            failures: known.map_or(0, |known| known.failures),
            told: known.and_then(|known| known.told),
        };
        self.partitions.insert(partition, followed);
    }

    /// What to ask for, the most important first.
    fn wanted(&mut self, now: Millis) -> Vec<PlannedPartition> {
        for followed in self.partitions.values_mut() {
            if matches!(followed.state, State::Delayed(until) if until <= now) {
                followed.state = State::Fetching;
            }
        }
        let mut wanted = self.ready(true, self.last_in_sync);
        let FetcherSettings {
            partition_max_bytes,
            catch_up_max_bytes,
            response_max_bytes,
            ..
        } = self.settings;
        let bytes = match wanted.is_empty() {
            true => response_max_bytes,
            false => catch_up_max_bytes,
        };
        let count = (bytes / partition_max_bytes.max(1)).max(1);
        let catching_up = self.ready(false, self.last_catching_up);
        wanted.extend(catching_up.into_iter().take(count as usize));
        wanted
    }

    /// The partitions that may be asked for, those behind `last` first.
    fn ready(&self, is_in_sync: bool, last: Option<FetchedPartition>) -> Vec<PlannedPartition> {
        let is_ready = |(_, followed): &(&FetchedPartition, &Followed)| {
            followed.state == State::Fetching && followed.is_in_sync == is_in_sync
        };
        let ready = self.partitions.iter().filter(is_ready);
        let planned = ready.map(|(partition, followed)| PlannedPartition {
            partition: *partition,
            position: followed.position,
            max_bytes: self.settings.partition_max_bytes,
        });
        let mut planned: Vec<_> = planned.collect();
        let behind = planned.partition_point(|one| Some(one.partition) <= last);
        planned.rotate_left(behind);
        planned
    }

    fn meaning(
        &mut self,
        partition: FetchedPartition,
        answer: &PartitionAnswer,
        now: Millis,
    ) -> Option<FetchOrder> {
        let position = self.session.asked(partition)?;
        let backoff_ms = self.settings.backoff_ms;
        let followed = self.partitions.get_mut(&partition)?;
        if followed.state != State::Fetching || !followed.position.asks_as(&position) {
            return None;
        }
        let (state, order) = followed.take(partition, answer, now, backoff_ms);
        followed.state = state;
        if answer.has_records {
            let last = match followed.is_in_sync {
                true => &mut self.last_in_sync,
                false => &mut self.last_catching_up,
            };
            *last = Some(partition);
        }
        order
    }
}

impl Followed {
    /// Waits before the next try: at first just long enough for the other node to have the image
    /// that this one has, in which it leads.
    fn fail(&mut self, now: Millis, backoff_ms: Millis) -> State {
        let doubled = FIRST_BACKOFF_MS.get() << self.failures.min(DOUBLINGS_MAX);
        self.failures = self.failures.saturating_add(1);
        State::Delayed(now.saturating_add(Millis(doubled).min(backoff_ms)))
    }

    fn take(
        &mut self,
        partition: FetchedPartition,
        answer: &PartitionAnswer,
        now: Millis,
        backoff_ms: Millis,
    ) -> (State, Option<FetchOrder>) {
        let position = self.position;
        match answer.error_code {
            ErrorCode::None => self.failures = 0,
            ErrorCode::OffsetOutOfRange => {
                let order = FetchOrder::AskRange {
                    partition,
                    position,
                };
                return (State::Busy, Some(order));
            }
            // The image will say who leads.
            ErrorCode::FencedLeaderEpoch => return (State::Stopped, None),
            _ => return (self.fail(now, backoff_ms), None),
        }
        if let Some(end) = answer.diverging_epoch {
            let order = FetchOrder::Truncate {
                partition,
                position,
                end,
            };
            return (State::Busy, Some(order));
        }
        let news = (answer.high_watermark, answer.log_start_offset);
        if !answer.has_records && self.told == Some(news) {
            return (State::Fetching, None);
        }
        self.told = Some(news);
        let order = FetchOrder::Append {
            partition,
            position,
        };
        (State::Busy, Some(order))
    }
}

#[cfg(test)]
mod tests;
