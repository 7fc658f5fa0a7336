//! The assignors' properties, on groups of every shape.

use proptest::prelude::*;

use super::*;

type Counts = BTreeMap<TopicName, usize>;

fn topic(number: usize) -> TopicName {
    TopicName::new(&format!("t{number}")).unwrap()
}

fn counts(counts: &[usize]) -> Counts {
    let counts = counts.iter().enumerate();
    counts
        .map(|(number, count)| (topic(number), *count))
        .collect()
}

/// Members by the numbers of their topics.
fn members(subscriptions: &[Vec<usize>]) -> Members<Subscription> {
    let subscriptions = subscriptions.iter().enumerate();
    subscriptions
        .map(|(number, topics)| {
            let subscription = Subscription {
                topics: topics.iter().map(|number| topic(*number)).collect(),
                owned: BTreeSet::new(),
                generation_id: -1,
            };
            (format!("m{number}"), subscription)
        })
        .collect()
}

/// The members when they have what was assigned to them, in this generation.
fn after(
    mut members: Members<Subscription>,
    assignment: &Assignment,
    generation_id: i32,
) -> Members<Subscription> {
    for (member, subscription) in &mut members {
        subscription.owned = assignment[member].clone();
        subscription.generation_id = generation_id;
    }
    members
}

/// Each partition of a topic with subscribers.
fn readable(members: &Members<Subscription>, counts: &Counts) -> BTreeSet<TopicPartition> {
    let topics = counts.iter().filter(|(topic, _)| {
        let mut subscriptions = members.values();
        subscriptions.any(|one| one.topics.contains(*topic))
    });
    topics
        .flat_map(|(topic, count)| (0..*count).map(|index| partition(topic, index)))
        .collect()
}

/// Nobody reads what it does not subscribe to, and no two the same. What is read.
fn check_exclusive(
    members: &Members<Subscription>,
    assignment: &Assignment,
) -> BTreeSet<TopicPartition> {
    let mut all = BTreeSet::new();
    assert_eq!(assignment.len(), members.len());
    for (member, partitions) in assignment {
        for one in partitions {
            assert!(
                members[member].topics.contains(&one.topic),
                "{member} {one}"
            );
            assert!(all.insert(one.clone()), "{one} has two readers");
        }
    }
    all
}

/// Rounds until nothing changes, as a group would do them; the last assignment.
fn settle(
    mut members: Members<Subscription>,
    counts: &Counts,
) -> (Members<Subscription>, Assignment) {
    let mut last = None;
    for generation_id in 100..103 {
        let assignment = Assignor::CooperativeSticky.assign(&members, counts);
        check_exclusive(&members, &assignment);
        let owned: BTreeMap<_, _> = owners(&members, counts);
        for (member, partitions) in &assignment {
            for one in partitions {
                let owner = owned.get(one);
                assert!(
                    owner.is_none_or(|owner| owner == member),
                    "{one} is still read"
                );
            }
        }
        members = after(members, &assignment, generation_id);
        if last.as_ref() == Some(&assignment) {
            return (members, assignment);
        }
        last = Some(assignment);
    }
    panic!("more than two rounds: {last:?}");
}

fn loads(assignment: &Assignment) -> (usize, usize) {
    let loads = assignment.values().map(BTreeSet::len);
    (loads.clone().min().unwrap(), loads.max().unwrap())
}

#[test]
fn range_gives_neighbours_and_the_first_members_one_more() {
    let members = members(&[vec![0, 1], vec![0], vec![0, 1]]);
    let assignment = Assignor::Range.assign(&members, &counts(&[7, 2]));
    let names = |member: &str| {
        let partitions = assignment[member].iter();
        partitions
            .map(TopicPartition::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(names("m0"), ["t0-0", "t0-1", "t0-2", "t1-0"]);
    assert_eq!(names("m1"), ["t0-3", "t0-4"]);
    assert_eq!(names("m2"), ["t0-5", "t0-6", "t1-1"]);
}

#[test]
fn a_claim_of_an_older_generation_and_a_claim_of_two_are_none() {
    let mut members = members(&[vec![0], vec![0], vec![0]]);
    let claim = |member: &mut Subscription, generation_id, indexes: &[usize]| {
        member.generation_id = generation_id;
        member.owned = indexes
            .iter()
            .map(|index| partition(&topic(0), *index))
            .collect();
    };
    claim(members.get_mut("m0").unwrap(), 4, &[0, 1, 9]);
    claim(members.get_mut("m1").unwrap(), 5, &[1, 2]);
    claim(members.get_mut("m2").unwrap(), 5, &[2]);
    let owners = owners(&members, &counts(&[4]));
    let owners: Vec<_> = owners
        .iter()
        .map(|(one, owner)| format!("{one} {owner}"))
        .collect();
    assert_eq!(owners, ["t0-0 m0", "t0-1 m1"]);
}

prop_compose! {
    fn group()(
        counts in prop::collection::vec(0_usize..9, 1..4),
        subscriptions in prop::collection::vec(prop::collection::vec(0_usize..5, 0..5), 1..7),
    ) -> (Counts, Vec<Vec<usize>>) {
        (self::counts(&counts), subscriptions)
    }
}

proptest! {
    #[test]
    fn range_assigns_all_to_subscribers((counts, subscriptions) in group()) {
        let members = members(&subscriptions);
        let assignment = Assignor::Range.assign(&members, &counts);
        let assigned = check_exclusive(&members, &assignment);
        prop_assert_eq!(assigned, readable(&members, &counts));
    }

    #[test]
    fn sticky_settles_evenly_on_all((counts, subscriptions) in group()) {
        let (members, assignment) = settle(members(&subscriptions), &counts);
        let assigned = check_exclusive(&members, &assignment);
        prop_assert_eq!(assigned, readable(&members, &counts));
        for (member, partitions) in &assignment {
            for one in partitions {
                for (other, subscription) in &members {
                    let could = subscription.topics.contains(&one.topic);
                    let load = assignment[other].len();
                    prop_assert!(!could || load + 2 > partitions.len(), "{} to {}", member, other);
                }
            }
        }
    }

    #[test]
    fn sticky_members_keep_what_they_have_when_one_goes_or_comes(
        counts in prop::collection::vec(1_usize..30, 1..4),
        size in 2_usize..7,
    ) {
        let counts = self::counts(&counts);
        let all: Vec<usize> = (0..counts.len()).collect();
        let (members, before) = settle(members(&vec![all; size]), &counts);
        let (min, max) = loads(&before);
        prop_assert!(max - min <= 1);

        let mut fewer = members.clone();
        let gone = fewer.pop_first().unwrap().0;
        let (_, without) = settle(fewer, &counts);
        for (member, partitions) in &without {
            prop_assert!(before[member].is_subset(partitions), "{} lost some", member);
        }

        let mut more = members.clone();
        let mut newcomer = members[&gone].clone();
        newcomer.owned.clear();
        newcomer.generation_id = -1;
        more.insert("new".into(), newcomer);
        let (_, with) = settle(more, &counts);
        let (min, max) = loads(&with);
        prop_assert!(max - min <= 1);
        for (member, partitions) in &before {
            let given_up = partitions.difference(&with[member]).count();
            prop_assert!(with[member].is_subset(partitions), "{} got some", member);
            prop_assert!(partitions.len() - given_up == with[member].len());
        }
    }
}
