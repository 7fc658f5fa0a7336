//! Offsets expire when their group has been without members for long enough, and only then.
//!
//! Input: what the node says of each group when nobody does anything any more, and after longer
//! than offsets are kept. Output: the first group that has kept too much, or lost what it needs.
//!
//! - a group without members has no offsets then, and is no group any more;
//! - one with members, who subscribe to what they have committed for, has lost none.
//!
//! That none expires too early is judged where offsets are found to be gone:
//! [`super::committed_offsets`].
//!
//! Source: KIP-211.

use std::collections::BTreeMap;

use super::{Facts, Invariant};
use crate::event::{Event, GroupEvent, GroupId, GroupState};

/// Each group, as it was before the wait.
#[derive(Default)]
pub(crate) struct OffsetsExpire {
    before: BTreeMap<GroupId, GroupState>,
}

impl Invariant for OffsetsExpire {
    fn name(&self) -> &'static str {
        "offsets_expire"
    }

    fn observe(&mut self, event: &Event, _: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::Ended(_) => self.before.clear(),
            Event::Group(group, GroupEvent::Described(state)) => {
                self.before.insert(*group, state.clone());
            }
            Event::Group(group, GroupEvent::Aged(state)) => return self.judge(*group, state),
            _ => {}
        }
        Ok(())
    }
}

impl OffsetsExpire {
    fn judge(&self, group: GroupId, aged: &GroupState) -> Result<(), String> {
        let Some(before) = self.before.get(&group) else {
            return Ok(());
        };
        if before.members.is_empty() && *aged != GroupState::default() {
            return Err(format!(
                "nobody is in it any more, and it is still {aged:?}"
            ));
        }
        if !before.members.is_empty() && aged != before {
            return Err(format!("it has members, was {before:?}, and is {aged:?}"));
        }
        Ok(())
    }
}
