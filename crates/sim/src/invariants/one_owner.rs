//! A partition has one owner in a generation.
//!
//! Input: the assignments that leaders send, the parts of them that members are given. Output: the
//! first member that is given what is another's, or what its leader did not give it.
//!
//! - all members of a generation are given parts of one assignment, which the leader of that
//!   generation sent;
//! - who was given a part had it in the log: a kill takes none of it. A power cut does, unless the
//!   records are flushed: then a generation of that number may begin anew.
//!
//! Source: the promise of the classic group protocol (KIP-62); KIP-345 for static members, who are
//! called by their instance id.

use std::collections::BTreeMap;

use super::{Facts, Invariant};
use crate::event::{End, Event, GroupEvent, GroupId};
use crate::plan::Plan;

/// What is known of each generation.
pub(crate) struct OneOwner {
    is_flushed: bool,
    /// Who is to own what in an assignment, and in which generation.
    assignments: BTreeMap<i64, Assignment>,
    generations: BTreeMap<(GroupId, i32), Generation>,
}

struct Assignment {
    group: GroupId,
    generation: i32,
    owners: BTreeMap<String, Vec<i32>>,
}

struct Generation {
    assignment: i64,
    owners: BTreeMap<i32, String>,
}

impl OneOwner {
    /// Nobody owns anything.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            is_flushed: plan.groups.is_flushed,
            assignments: BTreeMap::new(),
            generations: BTreeMap::new(),
        }
    }

    fn synced(
        &mut self,
        place: (GroupId, i32),
        assignment: i64,
        owner: &str,
        partitions: &[i32],
    ) -> Result<(), String> {
        let (group, generation) = place;
        let sent = self.assignments.get(&assignment);
        let sent = sent.filter(|sent| (sent.group, sent.generation) == place);
        let Some(sent) = sent else {
            return Err(format!(
                "assignment {assignment} was not sent by a leader of generation {generation}"
            ));
        };
        if sent.owners.get(owner).map(Vec::as_slice) != Some(partitions) {
            let given = sent.owners.get(owner);
            return Err(format!(
                "{owner} owns {partitions:?}, and assignment {assignment} gives it {given:?}"
            ));
        }
        let known = self.generations.entry((group, generation));
        let known = known.or_insert_with(|| Generation {
            assignment,
            owners: BTreeMap::new(),
        });
        for partition in partitions {
            let former = known.owners.insert(*partition, owner.to_owned());
            if let Some(former) = former.filter(|former| former != owner) {
                return Err(format!(
                    "in generation {generation} partition {partition} is owned by {former} and \
                     by {owner}"
                ));
            }
        }
        if known.assignment != assignment {
            return Err(format!(
                "generation {generation} has the assignments {} and {assignment}",
                known.assignment
            ));
        }
        Ok(())
    }
}

impl Invariant for OneOwner {
    fn name(&self) -> &'static str {
        "one_owner"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::Ended(End::PowerCut) if !self.is_flushed => self.generations.clear(),
            Event::Group(
                group,
                GroupEvent::Assigning {
                    of,
                    assignment,
                    owners,
                },
            ) => {
                let sent = Assignment {
                    group: *group,
                    generation: of.generation,
                    owners: owners.clone(),
                };
                self.assignments.insert(*assignment, sent);
            }
            Event::Group(
                group,
                GroupEvent::Synced {
                    of,
                    owner,
                    assignment,
                    partitions,
                    asked,
                },
            ) if self.is_flushed || asked.era == facts.now.era => {
                let place = (*group, of.generation);
                return self.synced(place, *assignment, owner, partitions);
            }
            _ => {}
        }
        Ok(())
    }
}
