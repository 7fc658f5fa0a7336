//! Who of a group reads what.
//!
//! Input: the members' subscriptions, and how many partitions the topics have. Output: the
//! partitions of each member. Pure.
//!
//! ```text
//!   range               each topic by itself: neighbouring partitions to each of its subscribers
//!   cooperative-sticky  as even as subscriptions allow, each keeping what it has; what moves is
//!                       given to nobody this time, and to its new reader when the old one has
//!                       given it up (KIP-429)
//! ```
//!
//! Invariants, each a property test:
//! - no partition has two readers, and only subscribers of its topic read it;
//! - every partition of a subscribed topic has a reader, with cooperative-sticky after one more
//!   round;
//! - sticky: nobody can take a partition of somebody who has two more; who keeps its members keeps
//!   its assignment.
//!
//! Source: `RangeAssignor` and `CooperativeStickyAssignor` of Kafka 4.1.1, for what others expect.

use std::collections::{BTreeMap, BTreeSet};

use skein_types::{PartitionIndex, TopicName, TopicPartition};

use crate::group::subscription::Subscription;

/// Member ids with what is said of them.
pub(crate) type Members<T> = BTreeMap<String, T>;

/// What each member reads.
pub(crate) type Assignment = Members<BTreeSet<TopicPartition>>;

/// A way to share partitions out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// Neighbouring partitions to each member; the same ones of topics with as many partitions.
    /// Everybody stops while partitions are shared out anew.
    Range,
    /// Even, with few changes; whoever keeps a partition goes on reading it meanwhile.
    CooperativeSticky,
}

impl Assignor {
    /// What every client calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let mut all = [Self::Range, Self::CooperativeSticky].into_iter();
        all.find(|one| one.name() == name)
    }

    /// Shares out partitions; `counts` has the topics that exist.
    pub(crate) fn assign(
        self,
        members: &Members<Subscription>,
        counts: &BTreeMap<TopicName, usize>,
    ) -> Assignment {
        match self {
            Self::Range => range(members, counts),
            Self::CooperativeSticky => {
                let owners = owners(members, counts);
                let mut assignment = sticky(members, counts, &owners);
                for (member, partitions) in &mut assignment {
                    // Its reader gives it up first.
                    partitions.retain(|one| owners.get(one).is_none_or(|owner| owner == member));
                }
                assignment
            }
        }
    }
}

fn range(members: &Members<Subscription>, counts: &BTreeMap<TopicName, usize>) -> Assignment {
    let mut assignment = nothing(members);
    for (topic, count) in counts {
        let readers = subscribers(members, topic);
        if readers.is_empty() {
            continue;
        }
        let (each, more) = (count / readers.len(), count % readers.len());
        let mut next = 0;
        for (number, reader) in readers.into_iter().enumerate() {
            let end = next + each + usize::from(number < more);
            let partitions = (next..end).map(|index| partition(topic, index));
            assignment
                .entry(reader.to_owned())
                .or_default()
                .extend(partitions);
            next = end;
        }
    }
    assignment
}

/// Who reads what now, as far as it can go on: the members' claims of the newest generation that
/// any of them has for a partition. Where two claim the same one, nobody has it.
fn owners(
    members: &Members<Subscription>,
    counts: &BTreeMap<TopicName, usize>,
) -> BTreeMap<TopicPartition, String> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Option<&String>)> = BTreeMap::new();
    for (member, subscription) in members {
        let can_go_on = |one: &&TopicPartition| {
            let count = counts.get(&one.topic).copied().unwrap_or(0);
            let is_there = usize::try_from(one.partition.0).is_ok_and(|index| index < count);
            is_there && subscription.topics.contains(&one.topic)
        };
        for claimed in subscription.owned.iter().filter(can_go_on) {
            let generation_id = subscription.generation_id;
            let claim = claims
                .entry(claimed)
                .or_insert((generation_id, Some(member)));
            if claim.1 == Some(member) {
                continue;
            }
            if generation_id > claim.0 {
                *claim = (generation_id, Some(member));
            } else if generation_id == claim.0 {
                claim.1 = None;
            }
        }
    }
    let owners = claims.into_iter();
    owners
        .filter_map(|(partition, (_, owner))| Some((partition.clone(), owner?.clone())))
        .collect()
}

/// The assignment when all have given up what they are to give up.
fn sticky(
    members: &Members<Subscription>,
    counts: &BTreeMap<TopicName, usize>,
    owners: &BTreeMap<TopicPartition, String>,
) -> Assignment {
    let mut assignment = nothing(members);
    for (partition, owner) in owners {
        if let Some(partitions) = assignment.get_mut(owner) {
            partitions.insert(partition.clone());
        }
    }
    let mut topics: Vec<_> = counts
        .iter()
        .map(|(topic, count)| (subscribers(members, topic), topic, *count))
        .filter(|(readers, ..)| !readers.is_empty())
        .collect();
    // Those that few can read first, so that the others even it out.
    topics.sort_by_key(|(readers, topic, _)| (readers.len(), *topic));
    for (readers, topic, count) in &topics {
        for index in 0..*count {
            let partition = partition(topic, index);
            if owners.contains_key(&partition) {
                continue;
            }
            if let Some(reader) = least_loaded(&assignment, readers) {
                assignment.entry(reader).or_default().insert(partition);
            }
        }
    }
    while even_out(&mut assignment, &topics) {}
    assignment
}

/// Moves one partition to somebody who has at least two fewer; `false` if there is none to be
/// moved. Each move brings the loads closer together, so that this ends.
fn even_out(assignment: &mut Assignment, topics: &[(Vec<&str>, &TopicName, usize)]) -> bool {
    let mut by_load: Vec<_> = assignment
        .iter()
        .map(|(member, partitions)| (partitions.len(), member.clone()))
        .collect();
    by_load.sort_by(|a, b| b.cmp(a));
    for (load, member) in by_load {
        for (readers, topic, _) in topics {
            let Some(reader) = least_loaded(assignment, readers) else {
                continue;
            };
            let load_there = assignment.get(&reader).map_or(0, BTreeSet::len);
            if load < load_there + 2 {
                continue;
            }
            let Some(partitions) = assignment.get_mut(&member) else {
                continue;
            };
            let mut of_topic = partitions.iter().filter(|one| one.topic == **topic);
            if let Some(moved) = of_topic.next_back().cloned() {
                partitions.remove(&moved);
                assignment.entry(reader).or_default().insert(moved);
                return true;
            }
        }
    }
    false
}

fn nothing(members: &Members<Subscription>) -> Assignment {
    let members = members.keys().cloned();
    members.map(|member| (member, BTreeSet::new())).collect()
}

fn subscribers<'a>(members: &'a Members<Subscription>, topic: &TopicName) -> Vec<&'a str> {
    let members = members.iter();
    members
        .filter(|(_, subscription)| subscription.topics.contains(topic))
        .map(|(member, _)| member.as_str())
        .collect()
}

fn least_loaded(assignment: &Assignment, readers: &[&str]) -> Option<String> {
    let load = |reader: &&&str| assignment.get(**reader).map_or(0, BTreeSet::len);
    let least = readers.iter().min_by_key(load)?;
    Some((*least).to_owned())
}

fn partition(topic: &TopicName, index: usize) -> TopicPartition {
    TopicPartition {
        topic: topic.clone(),
        partition: PartitionIndex(i32::try_from(index).unwrap_or(i32::MAX)),
    }
}

#[cfg(test)]
mod tests;
