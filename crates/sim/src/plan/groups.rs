//! The groups of a run: who is in them, and what those do.
//!
//! Input: random numbers. Output: members and committers with their habits; what the topic of the
//! groups' records is like.
//!
//! Sessions are short, so that they end within a run; or longer than any run, so that a group can
//! be compared with what it is after a restart.
//!
//! Invariant: a session is either below [`SHORT_SESSION_MAX_MS`] or [`LONG_SESSION_MS`].
//!
//! Source: none.

use std::time::Duration;

use skein_env::sim::SimRng;

use super::pick;
use crate::event::GroupId;

/// A session that ends within a run is at most so long.
pub(crate) const SHORT_SESSION_MAX_MS: i32 = 1_500;

/// A session that does not.
pub(crate) const LONG_SESSION_MS: i32 = 600_000;

/// How long offsets are kept where they expire within a run: the shortest time that can be set.
pub(crate) const RETENTION: Duration = Duration::from_secs(60);

/// How long a member stays in its group that is to outlive its last commit's retention.
pub(crate) const LATE: Duration = Duration::from_secs(62);

/// The groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupsPlan {
    pub(crate) names: Vec<String>,
    pub(crate) members: Vec<MemberPlan>,
    /// The groups of those who commit without being a member.
    pub(crate) committers: Vec<GroupId>,
    /// Partitions of the topic whose offsets are committed.
    pub(crate) partitions: i32,
    /// What `__consumer_offsets` is like; `None`: as the node makes it.
    pub(crate) records_configs: Option<Vec<(&'static str, String)>>,
    /// Whether that has `durability=flushed`.
    pub(crate) is_flushed: bool,
    /// Whether offsets expire within the run. Members subscribe to the topic of their offsets then.
    pub(crate) expires: bool,
}

/// A member.
#[derive(Clone, Debug)]
pub(crate) struct MemberPlan {
    pub(crate) group: GroupId,
    /// Static members have one.
    pub(crate) instance: Option<String>,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) join_version: i16,
    pub(crate) pause_max: Duration,
    pub(crate) habits: Habits,
    pub(crate) at_end: AtEnd,
}

/// What a member does beside heartbeats: weights; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) commit: u64,
    /// Commits as a member of the generation before.
    pub(crate) commit_late: u64,
    /// Asks for its part of the assignment of the generation before.
    pub(crate) sync_late: u64,
    pub(crate) fetch: u64,
    pub(crate) delete_offsets: u64,
    pub(crate) rejoin: u64,
    pub(crate) leave: u64,
    /// Goes without a word, and comes back as somebody new.
    pub(crate) crash: u64,
    /// Has the group deleted that it is in.
    pub(crate) delete_group: u64,
    /// Says nothing for about its session, and goes on.
    pub(crate) stall: u64,
}

/// What a member does when everything is to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    Leaves,
    /// Commits, sends only heartbeats for [`LATE`], and leaves.
    LeavesLate,
    Vanishes,
    /// Says nothing until its session has ended, and tries to commit.
    Outlives,
    /// Is a member until all others have gone; then it says nothing more.
    Stays,
}

impl GroupsPlan {
    /// Half of the runs have groups.
    pub(super) fn draw(rng: &mut SimRng) -> Self {
        if rng.chance(2) {
            return Self::default();
        }
        let mut plan = Self {
            partitions: pick(rng, &[1, 4, 7]),
            is_flushed: rng.chance(2),
            ..Self::default()
        };
        if plan.is_flushed || rng.chance(2) {
            plan.records_configs = Some(draw_configs(plan.is_flushed, rng));
        }
        for number in 0..rng.between(1, 3) {
            let group = GroupId(plan.names.len());
            // Java's hash spreads these over the partitions.
            plan.names.push(format!("group-{number}"));
            if rng.chance(3) {
                plan.committers.extend([group, group]);
                continue;
            }
            let slow = rng.chance(3);
            for member in 0..rng.between(1, 4) {
                let name = format!("instance-{number}-{member}");
                plan.members.push(MemberPlan::draw(group, name, slow, rng));
            }
        }
        plan
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Every group.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (0..self.names.len()).map(GroupId)
    }

    /// Has offsets expire in some runs. Everybody leaves half of the groups then, late.
    pub(super) fn draw_expiry(&mut self, rng: &mut SimRng) -> Vec<(&'static str, String)> {
        if self.is_empty() || !rng.chance(3) {
            return Vec::new();
        }
        self.expires = true;
        for group in self.groups() {
            if rng.chance(2) {
                continue;
            }
            let members = self.members.iter_mut();
            for member in members.filter(|member| member.group == group) {
                member.at_end = AtEnd::LeavesLate;
                member.session_timeout_ms = SHORT_SESSION_MAX_MS;
            }
        }
        let interval_ms = pick(rng, &[100, 1_000]);
        vec![
            ("offsets.retention.minutes", "1".to_owned()),
            (
                "offsets.retention.check.interval.ms",
                interval_ms.to_string(),
            ),
        ]
    }

    /// Keys of the broker that they need.
    pub(super) fn broker(&self, rng: &mut SimRng) -> Vec<(&'static str, String)> {
        if self.is_empty() {
            return Vec::new();
        }
        vec![
            ("group.min.session.timeout.ms", "1".to_owned()),
            (
                "group.initial.rebalance.delay.ms",
                pick(rng, &[0, 50, 300]).to_string(),
            ),
            (
                "offsets.topic.num.partitions",
                pick(rng, &[1, 2, 3]).to_string(),
            ),
            (
                "offsets.load.buffer.size",
                pick(rng, &[1, 500, 1_000_000]).to_string(),
            ),
            (
                "offsets.topic.segment.bytes",
                pick(rng, &[1_048_576, 104_857_600]).to_string(),
            ),
        ]
    }
}

impl MemberPlan {
    fn draw(group: GroupId, name: String, slow: bool, rng: &mut SimRng) -> Self {
        let is_static = rng.chance(3);
        let stays = rng.chance(2);
        let session_timeout_ms = match stays {
            true => LONG_SESSION_MS,
            false => pick(rng, &[200, 500, SHORT_SESSION_MAX_MS]),
        };
        let at_end = match stays {
            true => AtEnd::Stays,
            false => pick(rng, &[AtEnd::Leaves, AtEnd::Vanishes, AtEnd::Outlives]),
        };
        Self {
            group,
            instance: is_static.then_some(name),
            session_timeout_ms,
            rebalance_timeout_ms: pick(rng, &[100, 500, 1_500]),
            join_version: i16::try_from(rng.between(5, 9)).unwrap_or(9),
            pause_max: Duration::from_millis(pick(rng, if slow { &[100] } else { &[2, 20] })),
            habits: Habits::draw(rng),
            at_end,
        }
    }
}

impl Habits {
    fn draw(rng: &mut SimRng) -> Self {
        let mut weight = |most: u64| match rng.chance(2) {
            true => rng.between(1, most),
            false => 0,
        };
        Self {
            commit_late: weight(3),
            sync_late: weight(3),
            delete_offsets: weight(3),
            rejoin: weight(2),
            leave: weight(2),
            crash: weight(2),
            stall: weight(3),
            delete_group: 1,
            commit: 30,
            fetch: 15,
        }
    }
}

/// Keys that make rare things frequent in `__consumer_offsets`.
fn draw_configs(is_flushed: bool, rng: &mut SimRng) -> Vec<(&'static str, String)> {
    let index_bytes = pick(rng, &[24, 480, 1_048_576]);
    let durability = if is_flushed { "flushed" } else { "replicated" };
    vec![
        ("cleanup.policy", "compact".to_owned()),
        ("durability", durability.to_owned()),
        ("segment.index.bytes", index_bytes.to_string()),
        ("index.interval.bytes", pick(rng, &[0, 4096]).to_string()),
        (
            "min.cleanable.dirty.ratio",
            pick(rng, &["0.0", "0.5"]).to_owned(),
        ),
        (
            "delete.retention.ms",
            pick(rng, &[0, 500, 60_000]).to_string(),
        ),
    ]
}
