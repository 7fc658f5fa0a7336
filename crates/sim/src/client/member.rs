//! A member of a group.
//!
//! Input: its plan. Output: what members ask, in good order and out of it; events of what came
//! back.
//!
//! ```text
//!            ┌────── unknown, fenced; crash, leave ──────┐
//!            ▼                                           │
//!   Out ── join ──► Joined ── sync ──► Owner: heartbeats, commits, stalls
//!    ▲                │ rebalance         │ rebalance
//!    └────────────────┴───────────────────┘
//! ```
//!
//! Invariants:
//! - it asks one thing at a time;
//! - it is the member that it was told to be, or on purpose one of the generation before.
//!
//! Source: the classic consumer of Kafka 4.1.1; KIP-345 (static members), KIP-394 (member ids).

mod calls;

use std::time::Duration;

use skein_protocol::Str;
use skein_types::ErrorCode;
use tokio::time::{Instant, sleep};

use self::calls::Answer;
use crate::client::Client;
use crate::client::groups::{self, Committer};
use crate::event::{GroupEvent, Membership, Subject};
use crate::plan::{AtEnd, LATE, MemberPlan, SHORT_SESSION_MAX_MS};

/// For how long who stays is still a member when everything settles: all sessions and rebalances of
/// the others end in this time.
const STAYS: Duration = Duration::from_secs(12);

/// The longest time that a crashed member is away.
const AWAY_MAX: Duration = Duration::from_secs(1);

/// The shortest time that a rebalance gives a member to join again.
const REBALANCE_MIN: Duration = Duration::from_millis(100);

/// By how much a session is outlived for certain.
const GRACE: Duration = Duration::from_secs(3);

/// Runs the member until it has settled.
pub(crate) async fn run(client: Client, plan: MemberPlan) {
    let mut member = Member {
        client,
        plan,
        member_id: Str::default(),
        place: Place::Out,
        settling_since: None,
        has_committed_last: false,
    };
    while !member.has_settled().await {
        match member.place.clone() {
            Place::Out => member.join().await,
            Place::Joined { generation, others } => member.sync(generation, others).await,
            Place::Owner {
                generation,
                partitions,
            } => member.work(generation, &partitions).await,
        }
    }
}

struct Member {
    client: Client,
    plan: MemberPlan,
    /// Empty until the node has given one.
    member_id: Str,
    place: Place,
    settling_since: Option<Instant>,
    /// Of one who leaves late: it has something to lose by it.
    has_committed_last: bool,
}

/// Where a member is in the protocol.
#[derive(Clone, Debug)]
enum Place {
    Out,
    /// The leader is told of all members, by what the assignment calls them.
    Joined {
        generation: i32,
        others: Option<Vec<(Str, String)>>,
    },
    Owner {
        generation: i32,
        partitions: Vec<i32>,
    },
}

/// What a member does next.
#[derive(Clone, Copy, Debug)]
enum Habit {
    Heartbeat,
    Commit,
    CommitLate,
    SyncLate,
    Fetch,
    DeleteOffsets,
    Rejoin,
    Leave,
    Crash,
    DeleteGroup,
    Stall,
}

impl Member {
    /// Goes on until all is settled in its own way; whether it is.
    async fn has_settled(&mut self) -> bool {
        if !self.client.is_settling() {
            return false;
        }
        let since = *self.settling_since.get_or_insert_with(Instant::now);
        let owned = match &self.place {
            Place::Owner {
                generation,
                partitions,
            } => Some((*generation, partitions.clone())),
            _ => None,
        };
        match (self.plan.at_end, owned) {
            (AtEnd::Stays, Some((generation, _))) if since.elapsed() > STAYS => {
                let is_alive = self.heartbeat(generation).await == Answer::Good;
                if is_alive {
                    let of = self.membership(generation);
                    groups::tell(&self.client, self.plan.group, GroupEvent::Stays { of });
                }
                is_alive
            }
            (AtEnd::LeavesLate, Some((generation, _))) if since.elapsed() > LATE => {
                // The answer shows that it is a member to the last.
                self.sync(generation, None).await;
                self.leave().await;
                true
            }
            (AtEnd::LeavesLate, _) => since.elapsed() > LATE + GRACE,
            (AtEnd::Stays, _) => false,
            (AtEnd::Leaves, Some(_)) => {
                self.leave().await;
                true
            }
            (AtEnd::Outlives, Some((generation, _))) => {
                self.outlive(generation).await;
                true
            }
            (AtEnd::Leaves | AtEnd::Outlives | AtEnd::Vanishes, _) => true,
        }
    }

    async fn work(&mut self, generation: i32, partitions: &[i32]) {
        let only_stays = self.plan.at_end == AtEnd::LeavesLate && self.settling_since.is_some();
        let habit = if only_stays {
            if !self.has_committed_last {
                self.has_committed_last = self.commit(generation, partitions).await == Answer::Good;
            }
            sleep(self.session() / 3).await;
            Habit::Heartbeat
        } else {
            self.client.pause(self.plan.pause_max).await;
            self.draw()
        };
        let group = self.plan.group;
        let answer = match habit {
            Habit::Heartbeat => self.heartbeat(generation).await,
            Habit::Commit => self.commit(generation, partitions).await,
            Habit::CommitLate => {
                // It must be refused, and says nothing of this generation.
                self.commit(generation - 1, partitions).await;
                return;
            }
            Habit::SyncLate => {
                self.sync_late(generation - 1).await;
                return;
            }
            Habit::Fetch => {
                groups::fetch(&mut self.client, group).await;
                return;
            }
            Habit::DeleteOffsets => {
                let some = groups::some(&mut self.client, partitions);
                groups::delete_offsets(&mut self.client, group, &some).await;
                return;
            }
            Habit::Rejoin => Answer::Rejoin,
            Habit::Leave => {
                self.leave().await;
                self.client.pause(AWAY_MAX).await;
                if self.client.rng.chance(2) {
                    // Perhaps it was the last one.
                    groups::delete_group(&mut self.client, group).await;
                }
                Answer::Unknown
            }
            Habit::Crash => {
                self.client.hang_up();
                self.client.pause(AWAY_MAX).await;
                Answer::Unknown
            }
            Habit::DeleteGroup => {
                self.delete_group(generation, partitions).await;
                return;
            }
            Habit::Stall => {
                self.client.pause(2 * self.session()).await;
                return;
            }
        };
        self.follow(answer);
    }

    /// What a member does now; when all settles nothing that brings disorder.
    fn draw(&mut self) -> Habit {
        let habits = self.plan.habits;
        let is_settling = self.settling_since.is_some();
        let unless_settling = |weight| if is_settling { 0 } else { weight };
        let weights = [
            (habits.commit, Habit::Commit),
            (habits.fetch, Habit::Fetch),
            (habits.commit_late, Habit::CommitLate),
            (habits.sync_late, Habit::SyncLate),
            (unless_settling(habits.delete_offsets), Habit::DeleteOffsets),
            (unless_settling(habits.rejoin), Habit::Rejoin),
            (unless_settling(habits.leave), Habit::Leave),
            (unless_settling(habits.crash), Habit::Crash),
            (unless_settling(habits.delete_group), Habit::DeleteGroup),
            (unless_settling(habits.stall), Habit::Stall),
        ];
        let total: u64 = weights.iter().map(|(weight, _)| weight).sum();
        // As many heartbeats as everything else.
        let mut drawn = self.client.rng.below(2 * total.max(1));
        for (weight, habit) in weights {
            match drawn.checked_sub(weight) {
                Some(rest) => drawn = rest,
                None => return habit,
            }
        }
        Habit::Heartbeat
    }

    /// Goes where an answer sends it.
    fn follow(&mut self, answer: Answer) {
        match answer {
            Answer::Good | Answer::Nothing => {}
            Answer::Rejoin => self.place = Place::Out,
            Answer::Unknown => {
                self.place = Place::Out;
                self.member_id = Str::default();
            }
        }
    }

    async fn commit(&mut self, generation: i32, partitions: &[i32]) -> Answer {
        let mut of_these = partitions.to_vec();
        if of_these.is_empty() {
            of_these.push(0);
        }
        let some = groups::some(&mut self.client, &of_these);
        let by = self.committer(generation);
        let group = self.plan.group;
        match groups::commit(&mut self.client, group, Some(&by), &some).await {
            None => Answer::Nothing,
            Some(ErrorCode::None) => Answer::Good,
            Some(code) => self.judge(code, "a commit").await,
        }
    }

    /// Has its group deleted: nobody may do that as long as it is a member.
    async fn delete_group(&mut self, generation: i32, owned: &[i32]) {
        // A coordinator that loads lets no commit pass; of a rebalance the heartbeat tells. So what
        // could make it a member no more begins after that.
        let life = self.client.witness.ask().life;
        if self.commit(generation, owned).await != Answer::Good {
            return;
        }
        let began = Instant::now();
        if self.heartbeat(generation).await != Answer::Good {
            return;
        }
        let group = self.plan.group;
        let is_deleted = groups::delete_group(&mut self.client, group).await;
        let is_member = began.elapsed() < self.session().min(REBALANCE_MIN)
            && self.client.witness.ask().life == life;
        if is_deleted && is_member {
            let text = format!(
                "{} is a member, and it is deleted",
                self.membership(generation)
            );
            let subject = Some(Subject::Group(group));
            let witness = &self.client.witness;
            witness.accuse(self.client.actor, "members_keep_group", subject, text);
        }
    }

    /// Its session, or the longest of those that end within a run.
    fn session(&self) -> Duration {
        let session_ms = self.plan.session_timeout_ms.min(SHORT_SESSION_MAX_MS);
        Duration::from_millis(u64::try_from(session_ms).unwrap_or(0))
    }

    /// Says nothing until its session must have ended; then it is a member no more.
    async fn outlive(&mut self, generation: i32) {
        let asked = self.commit(generation, &[0]).await;
        if asked != Answer::Good {
            return;
        }
        let session_ms = u64::try_from(self.plan.session_timeout_ms).unwrap_or(0);
        sleep(Duration::from_millis(session_ms) + GRACE).await;
        if self.commit(generation, &[0]).await == Answer::Good {
            let text = format!(
                "{} was silent for {GRACE:?} longer than its session, and is still a member",
                self.membership(generation)
            );
            let subject = Some(Subject::Group(self.plan.group));
            let witness = &self.client.witness;
            witness.accuse(self.client.actor, "current_generation", subject, text);
        }
    }

    fn membership(&self, generation: i32) -> Membership {
        Membership {
            member: self.member_id.clone(),
            generation,
        }
    }

    fn committer(&self, generation: i32) -> Committer {
        Committer {
            of: self.membership(generation),
            instance: self.instance(),
        }
    }

    fn instance(&self) -> Option<Str> {
        self.plan.instance.as_deref().map(Str::from)
    }
}
