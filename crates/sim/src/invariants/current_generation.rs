//! Only a member of the current generation commits, and is given an assignment.
//!
//! Input: the generations that members are told; what is answered to those who ask in the name of
//! one. Output: the first request of an older generation that succeeds.
//!
//! - a generation whose assignment somebody was given is in the log: what is older is over, for
//!   good, until a power cut, if the records are not flushed;
//! - a generation that members have only joined is over with the process. So is one whose process
//!   may have failed to write: it drops what it knows, and reads its log again;
//! - nobody succeeds who was never told that it is in the generation.
//!
//! A heartbeat is not judged: while a coordinator loads, it answers each with success, as Kafka's
//! does.
//!
//! Source: `ClassicGroup.validateOffsetCommit` of Kafka 4.1.1.

use std::collections::{BTreeMap, BTreeSet};

use super::{Facts, Invariant};
use crate::event::{End, Event, GroupEvent, GroupId, Membership, Stamp};
use crate::plan::Plan;

/// What is known of each group.
pub(crate) struct CurrentGeneration {
    is_flushed: bool,
    groups: BTreeMap<GroupId, Group>,
    /// Whether writes may fail now, or might in this life.
    may_fail: bool,
    might_fail: bool,
}

#[derive(Default)]
struct Group {
    /// When a higher generation than any before was known, of this life and of the log.
    joined: Vec<(u64, i32)>,
    synced: Vec<(u64, i32)>,
    synced_before_clean_stop: Option<i32>,
    members: BTreeSet<(String, i32)>,
}

impl CurrentGeneration {
    /// There is no generation.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            is_flushed: plan.groups.is_flushed,
            groups: BTreeMap::new(),
            may_fail: false,
            might_fail: false,
        }
    }

    /// What was joined is over. Not before: until now answers of the former process were heard.
    fn start(&mut self) {
        self.might_fail = self.may_fail;
        for group in self.groups.values_mut() {
            group.joined.clear();
        }
    }

    fn end(&mut self, end: End) {
        for group in self.groups.values_mut() {
            match end {
                End::Clean => {
                    group.synced_before_clean_stop = group.synced.last().map(|(_, known)| *known);
                }
                End::PowerCut if !self.is_flushed => {
                    let kept = group.synced_before_clean_stop;
                    group.synced = kept.into_iter().map(|kept| (0, kept)).collect();
                }
                End::Kill | End::PowerCut => {}
            }
        }
    }

    fn group_event(
        &mut self,
        group: GroupId,
        event: &GroupEvent,
        now: Stamp,
    ) -> Result<(), String> {
        let group = self.groups.entry(group).or_default();
        match event {
            GroupEvent::Joined { of, asked } => {
                group.members.insert((of.member.to_string(), of.generation));
                if asked.life == now.life {
                    learn(&mut group.joined, now.told, of.generation);
                }
            }
            GroupEvent::Synced { of, asked, .. } => {
                group.judge(of, *asked, now, self.might_fail)?;
                if self.is_flushed || asked.era == now.era {
                    learn(&mut group.synced, now.told, of.generation);
                }
            }
            GroupEvent::Written {
                by: Some(of),
                asked,
                ..
            } => group.judge(of, *asked, now, self.might_fail)?,
            _ => {}
        }
        Ok(())
    }
}

impl Invariant for CurrentGeneration {
    fn name(&self) -> &'static str {
        "current_generation"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::WritesMayFail => (self.may_fail, self.might_fail) = (true, true),
            Event::WritesHealed => self.may_fail = false,
            Event::Ended(end) => self.end(*end),
            Event::Starting => self.start(),
            Event::Group(group, event) => return self.group_event(*group, event, facts.now),
            _ => {}
        }
        Ok(())
    }
}

impl Group {
    fn judge(
        &self,
        of: &Membership,
        asked: Stamp,
        now: Stamp,
        might_fail: bool,
    ) -> Result<(), String> {
        if !self
            .members
            .contains(&(of.member.to_string(), of.generation))
        {
            return Err(format!(
                "{of} succeeds, and was never told that it is there"
            ));
        }
        if asked.era != now.era {
            return Ok(());
        }
        let mut known = known_before(&self.synced, asked.told);
        if asked.life == now.life && !might_fail {
            known = known.max(known_before(&self.joined, asked.told));
        }
        match known {
            Some(known) if known > of.generation => Err(format!(
                "{of} succeeds, and generation {known} was known before it asked"
            )),
            _ => Ok(()),
        }
    }
}

fn learn(generations: &mut Vec<(u64, i32)>, now: u64, generation: i32) {
    if generations
        .last()
        .is_none_or(|(_, last)| *last < generation)
    {
        generations.push((now, generation));
    }
}

/// The highest generation that was known before `asked`.
fn known_before(generations: &[(u64, i32)], asked: u64) -> Option<i32> {
    let count = generations.partition_point(|(at, _)| *at <= asked);
    generations[..count].last().map(|(_, known)| *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_after_a_generation_was_known_is_not_of_an_older_one() {
        let mut group = Group::default();
        let of = |generation| Membership {
            member: "m".into(),
            generation,
        };
        let at = |life, told| Stamp { era: 0, life, told };
        group
            .members
            .extend([("m".to_owned(), 1), ("m".to_owned(), 2)]);
        learn(&mut group.joined, 10, 2);
        assert!(group.judge(&of(1), at(1, 9), at(1, 20), false).is_ok());
        assert!(group.judge(&of(1), at(1, 10), at(1, 20), false).is_err());
        assert!(group.judge(&of(1), at(1, 10), at(1, 20), true).is_ok());
        assert!(group.judge(&of(1), at(1, 10), at(2, 20), false).is_ok());
        learn(&mut group.synced, 12, 2);
        assert!(group.judge(&of(1), at(2, 13), at(2, 20), true).is_err());
        assert!(group.judge(&of(2), at(2, 13), at(2, 20), true).is_ok());
        assert!(group.judge(&of(3), at(2, 13), at(2, 20), true).is_err());
    }
}
