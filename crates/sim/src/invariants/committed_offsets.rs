//! A committed offset never goes back to an older commit.
//!
//! Input: commits and deletions of offsets as they are sent, answered and lost; what is read; how
//! the node ends. Output: the first offset that is read and cannot be the committed one.
//!
//! ```text
//!   older  sent ├───────┤ done
//!   newer                   sent ├────────┤ known to be done       who asks here
//!                                                              ├── must not be told the older one
//! ```
//!
//! - a commit is done between its sending and its acknowledgement; one whose answer was lost, until
//!   the process that it was sent to has ended;
//! - a commit is known to be done when it was acknowledged, or read; who reads one of a former life
//!   knows that nothing was committed after it in that life;
//! - what was refused is not committed;
//! - a power cut may take what was committed since the last clean stop, unless the records are
//!   flushed: each time the newest first;
//! - where offsets expire, one may be gone that is old enough, and whose group has had no member
//!   for as long; it stays gone.
//!
//! Source: linearizability of a register (Herlihy and Wing), whose every write has its own value.

use std::collections::BTreeMap;

use skein_types::Millis;

use super::{Facts, Invariant};
use crate::event::{End, Event, GroupEvent, GroupId, WriteId};
use crate::plan::{Plan, RETENTION};

/// How long an answer is under way at most, once the faults are over: who hears that it is a member
/// may be none since then.
const ANSWER_MAX: Millis = Millis(10_000);

/// The offsets of all groups.
pub(crate) struct CommittedOffsets {
    is_flushed: bool,
    /// `None`: for ever.
    retention: Option<Millis>,
    registers: BTreeMap<(GroupId, i32), Register>,
    /// When each group had a member for certain, by the log.
    had_member: BTreeMap<GroupId, Millis>,
    /// When the life before the present one ended; and the last that has ended.
    life_began: u64,
    life_ended: u64,
}

/// The offset of one partition.
#[derive(Default)]
struct Register {
    writes: BTreeMap<WriteId, Write>,
    /// When something was known to be done, and when the latest of all that is known was sent.
    known: Vec<Known>,
    /// The same, for what survives a power cut.
    sent_before_clean_stop: u64,
}

#[derive(Clone, Copy)]
struct Known {
    at: u64,
    sent: u64,
}

struct Write {
    sent: u64,
    /// The same, to measure its age.
    sent_at: Millis,
    /// Until when it may be done; `None`: it still may.
    done: Option<u64>,
    is_lost: bool,
    is_refused: bool,
    is_deletion: bool,
}

impl CommittedOffsets {
    /// Nothing is committed.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            is_flushed: plan.groups.is_flushed,
            retention: plan.groups.expires.then(|| {
                let kept = i64::try_from(RETENTION.as_millis()).unwrap_or(i64::MAX);
                Millis(kept - ANSWER_MAX.0)
            }),
            registers: BTreeMap::new(),
            had_member: BTreeMap::new(),
            life_began: 0,
            life_ended: 0,
        }
    }

    fn end(&mut self, end: End, now: u64) {
        self.life_ended = now;
        if end == End::PowerCut && !self.is_flushed {
            self.had_member.clear();
        }
        for register in self.registers.values_mut() {
            register.life_ended(now);
            match end {
                End::Clean => register.sent_before_clean_stop = register.sent_of_known(now + 1),
                End::PowerCut if !self.is_flushed => register.lost_power(),
                End::Kill | End::PowerCut => {}
            }
        }
    }
}

impl Invariant for CommittedOffsets {
    fn name(&self) -> &'static str {
        "committed_offsets"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        let now = facts.now;
        let (group, event) = match event {
            Event::Ended(end) => {
                self.end(*end, now.told);
                return Ok(());
            }
            // What is heard until now was asked in the life that has ended.
            Event::Starting => {
                self.life_began = self.life_ended;
                return Ok(());
            }
            Event::Group(group, event) => (*group, event),
            _ => return Ok(()),
        };
        if let GroupEvent::Synced { .. } | GroupEvent::Written { by: Some(_), .. } = event {
            self.had_member.insert(group, facts.age_min);
        }
        // What was committed, or proved a member, before this is old enough to be gone.
        let expired_before = self.retention.and_then(|retention| {
            let before = Millis(facts.age_max.0 - retention.0);
            let had_member = self.had_member.get(&group);
            had_member.is_none_or(|at| *at <= before).then_some(before)
        });
        let (GroupEvent::Writing { partition, .. }
        | GroupEvent::Written { partition, .. }
        | GroupEvent::Refused { partition, .. }
        | GroupEvent::Lost { partition, .. }
        | GroupEvent::Found { partition, .. }) = event
        else {
            return Ok(());
        };
        let register = self.registers.entry((group, *partition)).or_default();
        match event {
            GroupEvent::Writing {
                write, is_deletion, ..
            } => register.sending(*write, *is_deletion, now.told, facts.age_min),
            GroupEvent::Written { write, asked, .. } => {
                // An answer from before a power cut that it did not need to survive.
                let counts = self.is_flushed || asked.era == now.era;
                register.written(*write, counts, now.told);
            }
            GroupEvent::Refused { write, .. } => register.write(*write).is_refused = true,
            GroupEvent::Lost { write, .. } => register.write(*write).is_lost = true,
            GroupEvent::Found { write, asked, .. } if asked.era == now.era => {
                let life_began = match asked.life == now.life {
                    true => self.life_began,
                    false => 0,
                };
                return match write {
                    Some(write) => register.found(*write, asked.told, now.told, life_began),
                    None => register.found_nothing(asked.told, now.told, expired_before),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

impl Register {
    fn sending(&mut self, write: WriteId, is_deletion: bool, now: u64, sent_at: Millis) {
        let sent = Write {
            sent: now,
            sent_at,
            done: None,
            is_lost: false,
            is_refused: false,
            is_deletion,
        };
        self.writes.insert(write, sent);
    }

    /// A write that was announced.
    fn write(&mut self, write: WriteId) -> &mut Write {
        self.writes.entry(write).or_insert_with(|| {
            panic!("{write:?} was answered before it was sent");
        })
    }

    fn written(&mut self, write: WriteId, counts: bool, now: u64) {
        let write = self.write(write);
        write.done = Some(now);
        let sent = write.sent;
        if counts {
            self.know(sent, now);
        }
    }

    fn know(&mut self, sent: u64, now: u64) {
        let sent = sent.max(self.sent_of_known(now + 1));
        self.known.push(Known { at: now, sent });
    }

    /// When the latest of what was known before `asked` was sent.
    fn sent_of_known(&self, asked: u64) -> u64 {
        let count = self.known.partition_point(|known| known.at < asked);
        count
            .checked_sub(1)
            .map_or(self.sent_before_clean_stop, |at| self.known[at].sent)
    }

    fn found(&mut self, id: WriteId, asked: u64, now: u64, life_began: u64) -> Result<(), String> {
        let known_sent = self.sent_of_known(asked);
        let Some(write) = self.writes.get_mut(&id) else {
            return Err(format!("nobody has committed {}, and it is read", id.0));
        };
        if write.is_refused || write.is_deletion {
            return Err(format!("{} was refused, and is read", id.0));
        }
        if write.done.is_some_and(|done| done < known_sent) {
            return Err(format!(
                "{} is read, and something sent after it was known to be committed before",
                id.0
            ));
        }
        let is_of_former_life = write.done.is_some_and(|done| done <= life_began);
        let sent = match is_of_former_life {
            true => life_began,
            false => write.sent,
        };
        write.done = Some(write.done.map_or(now, |done| done.min(now)));
        if is_of_former_life {
            write.done = Some(life_began);
        }
        self.know(sent, now);
        Ok(())
    }

    fn found_nothing(
        &mut self,
        asked: u64,
        now: u64,
        expired_before: Option<Millis>,
    ) -> Result<(), String> {
        let known_sent = self.sent_of_known(asked);
        let is_possible =
            |write: &&Write| !write.is_refused && write.done.is_none_or(|done| done >= known_sent);
        let mut possible = self.writes.values().filter(is_possible);
        if known_sent == 0 || possible.clone().any(|write| write.is_deletion) {
            return Ok(());
        }
        let is_old = |write: &Write| expired_before.is_some_and(|before| write.sent_at <= before);
        if possible.any(is_old) {
            // As if somebody had deleted it just now. No client's write has such a number.
            let id = WriteId(-i64::try_from(now).unwrap_or(i64::MAX));
            self.sending(id, true, asked, Millis(0));
            self.written(id, true, now);
            return Ok(());
        }
        Err("nothing is committed any more, and nobody has deleted it".to_owned())
    }

    fn life_ended(&mut self, now: u64) {
        let open = self.writes.values_mut();
        for write in open.filter(|write| write.is_lost && write.done.is_none()) {
            write.done = Some(now);
        }
    }

    fn lost_power(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(writes: &[(i64, bool)]) -> Register {
        let mut register = Register::default();
        for (at, (id, is_deletion)) in (10..).step_by(10).zip(writes) {
            register.sending(WriteId(*id), *is_deletion, at, Millis(0));
        }
        register
    }

    #[test]
    fn an_older_commit_is_not_read_after_a_newer_one_was_acknowledged() {
        let mut register = register(&[(1, false)]);
        register.written(WriteId(1), true, 11);
        register.sending(WriteId(2), false, 12, Millis(0));
        assert!(register.found(WriteId(1), 12, 13, 0).is_ok());
        register.written(WriteId(2), true, 14);
        assert!(register.found(WriteId(1), 13, 15, 0).is_ok());
        assert!(register.found(WriteId(1), 15, 16, 0).is_err());
        assert!(register.found(WriteId(2), 15, 16, 0).is_ok());
    }

    #[test]
    fn a_commit_without_an_answer_may_be_done_until_its_process_ends() {
        let mut register = register(&[(1, false), (2, false)]);
        register.write(WriteId(1)).is_lost = true;
        register.written(WriteId(2), true, 21);
        assert!(register.found(WriteId(2), 22, 23, 0).is_ok());
        register.life_ended(30);
        assert!(register.found(WriteId(1), 31, 32, 30).is_ok());
        assert!(register.found(WriteId(2), 33, 34, 30).is_err());
    }

    #[test]
    fn nothing_is_read_only_where_something_was_deleted() {
        let mut register = register(&[(1, false)]);
        assert!(register.found_nothing(11, 12, None).is_ok());
        register.written(WriteId(1), true, 12);
        assert!(register.found_nothing(13, 14, None).is_err());
        register.sending(WriteId(2), true, 14, Millis(0));
        assert!(register.found_nothing(15, 16, None).is_ok());
        register.write(WriteId(2)).is_refused = true;
        assert!(register.found_nothing(16, 17, None).is_err());
    }

    #[test]
    fn what_is_old_enough_may_be_gone_and_does_not_come_back() {
        let mut register = register(&[]);
        register.sending(WriteId(1), false, 10, Millis(500));
        register.written(WriteId(1), true, 11);
        assert!(register.found_nothing(12, 13, Some(Millis(499))).is_err());
        assert!(register.found_nothing(14, 15, Some(Millis(500))).is_ok());
        assert!(register.found_nothing(16, 17, None).is_ok());
        assert!(register.found(WriteId(1), 18, 19, 0).is_err());
    }

    #[test]
    fn a_power_cut_takes_back_to_the_last_clean_stop() {
        let mut register = register(&[(1, false)]);
        register.written(WriteId(1), true, 11);
        register.sent_before_clean_stop = register.sent_of_known(12);
        register.sending(WriteId(2), false, 13, Millis(0));
        register.written(WriteId(2), true, 14);
        register.lost_power();
        assert!(register.found(WriteId(1), 21, 22, 20).is_ok());
        assert!(register.found(WriteId(2), 23, 24, 20).is_err());
        assert!(register.found_nothing(25, 26, None).is_err());
    }
}
