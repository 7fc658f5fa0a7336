//! A replay gives the same state, and those who went without a word are gone.
//!
//! Input: what the node says of each group when nobody does anything any more, before a clean stop
//! and after it; what the records of `__consumer_offsets` say, read as any consumer reads them.
//! Output: the first two of these that differ.
//!
//! - the members of a group at the end are those whose sessions are longer than the run, in the
//!   generation that they were told last;
//! - what a power cut may take it may take here, too: then the books begin anew.
//!
//! Source: none.

use std::collections::BTreeMap;

use super::{Facts, Invariant};
use crate::event::{End, Event, GroupEvent, GroupId, GroupState, Membership};
use crate::plan::Plan;

/// What is known of each group.
pub(crate) struct ReplayAgrees {
    is_flushed: bool,
    groups: BTreeMap<GroupId, Group>,
}

#[derive(Default)]
struct Group {
    /// Who has said its last word.
    stays: Vec<Membership>,
    described: Option<GroupState>,
    /// Whether a power cut may have taken what they were told.
    is_unknown: bool,
}

impl ReplayAgrees {
    /// There is no group.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            is_flushed: plan.groups.is_flushed,
            groups: BTreeMap::new(),
        }
    }
}

impl Invariant for ReplayAgrees {
    fn name(&self) -> &'static str {
        "replay_agrees"
    }

    fn observe(&mut self, event: &Event, _: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::Ended(End::PowerCut) if !self.is_flushed => {
                for group in self.groups.values_mut() {
                    group.described = None;
                    group.is_unknown = !group.stays.is_empty();
                }
            }
            Event::Group(group, event) => {
                return self.groups.entry(*group).or_default().take(event);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Group {
    fn take(&mut self, event: &GroupEvent) -> Result<(), String> {
        match event {
            GroupEvent::Stays { of } => self.stays.push(of.clone()),
            GroupEvent::Described(state) => {
                if !self.is_unknown {
                    self.has_those_who_stay(state)?;
                }
                if let Some(former) = self.described.replace(state.clone())
                    && former != *state
                {
                    return Err(format!("it was {former:?}, and a replay gives {state:?}"));
                }
            }
            GroupEvent::Aged(state) => self.described = Some(state.clone()),
            GroupEvent::Recorded(state) => {
                let recorded = GroupState {
                    generation: None,
                    ..state.clone()
                };
                if let Some(described) = &self.described
                    && *described != recorded
                {
                    return Err(format!(
                        "it is {described:?}, and its records say {recorded:?}"
                    ));
                }
                let mut stays = self.stays.iter().filter(|_| !self.is_unknown);
                if let Some(other) = stays.find(|of| state.generation != Some(of.generation)) {
                    return Err(format!(
                        "its record is of generation {:?}, and {other} was told so",
                        state.generation
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn has_those_who_stay(&self, state: &GroupState) -> Result<(), String> {
        let stays = self.stays.iter();
        let mut stays: Vec<&str> = stays.map(|of| of.member.as_str()).collect();
        stays.sort_unstable();
        let members: Vec<&str> = state.members.keys().map(|id| id.as_str()).collect();
        match members == stays {
            true => Ok(()),
            false => Err(format!(
                "its members are {members:?}, and those who are still there are {stays:?}"
            )),
        }
    }
}
