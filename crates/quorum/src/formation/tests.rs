//! The rules of formation, an event a line; and nodes that talk in any order, crash and are wiped.

use proptest::prelude::*;
use skein_types::Uuid;

use super::*;

fn address(node: usize) -> String {
    format!("n{node}:1")
}

fn list(nodes: usize) -> Vec<String> {
    (0..nodes).map(address).collect()
}

fn myself(node: usize, nodes: usize, life: u8) -> Myself {
    let node_u8 = u8::try_from(node).unwrap();
    Myself {
        nonce: [node_u8, life].repeat(8).try_into().unwrap(),
        raft_id: 1 + node as u64 * 100 + u64::from(life),
        list: list(nodes),
        new_cluster_id: cluster_id(node_u8 + 1, life),
    }
}

fn cluster_id(founder: u8, life: u8) -> ClusterId {
    Uuid([founder, life].repeat(8).try_into().unwrap()).into()
}

fn standing(node: usize, nodes: usize) -> Standing {
    Formation::new(myself(node, nodes, 0)).standing()
}

fn record(nodes: usize) -> Founding {
    let member = |node| (myself(node, nodes, 0).raft_id, address(node));
    Founding {
        cluster_id: cluster_id(1, 0),
        members: (0..nodes).map(member).collect(),
    }
}

/// What node `node` of three does when these answer in one round.
fn round(node: usize, answers: [Result<Standing, String>; 3]) -> (Formation, Vec<Effect>) {
    let mut formation = Formation::new(myself(node, 3, 0));
    let mut effects = Vec::new();
    formation.step(Event::RoundDue, &mut effects);
    assert_eq!(effects.len(), 3, "it asks everybody, itself included");
    effects.clear();
    for (entry, answer) in answers.into_iter().enumerate() {
        assert!(effects.is_empty(), "it decides before all have answered");
        let answered = Event::Answered {
            round: 1,
            entry,
            answer,
        };
        formation.step(answered, &mut effects);
    }
    (formation, effects)
}

fn empty() -> [Result<Standing, String>; 3] {
    [0, 1, 2].map(|node| Ok(standing(node, 3)))
}

#[track_caller]
fn check(node: usize, answers: [Result<Standing, String>; 3], expected: Effect) {
    assert_eq!(round(node, answers).1, [expected]);
}

#[test]
fn the_smallest_founds_when_all_are_empty_and_the_others_wait_for_it() {
    check(0, empty(), Effect::Persist(record(3)));
    let awaited = Obstacle::Awaited { peer: address(0) };
    check(1, empty(), Effect::Tell(vec![awaited.clone()]));
    check(2, empty(), Effect::Tell(vec![awaited]));
}

#[test]
fn a_silent_peer_stops_the_founding() {
    let mut answers = empty();
    answers[2] = Err("refused".into());
    let silent = Obstacle::Silent {
        peer: address(2),
        reason: "refused".into(),
    };
    check(0, answers, Effect::Tell(vec![silent]));
}

#[test]
fn another_list_stops_the_founding_and_both_are_named() {
    let mut answers = empty();
    answers[1].as_mut().unwrap().list.pop();
    let differs = Obstacle::ListDiffers {
        peer: address(1),
        theirs: list(2),
        ours: list(3),
    };
    check(0, answers, Effect::Tell(vec![differs]));
}

/// Says the operator's word to node `node` of three, then lets the round go on.
fn left_out(
    node: usize,
    peers: &[usize],
    answers: [Result<Standing, String>; 3],
) -> (Formation, Vec<Effect>) {
    let mut formation = Formation::new(myself(node, 3, 0));
    let mut effects = Vec::new();
    let peers = peers.iter().map(|peer| address(*peer)).collect();
    formation.step(Event::LeftOut(peers), &mut effects);
    assert_eq!(effects, [Effect::Heed]);
    effects.clear();
    formation.step(Event::RoundDue, &mut effects);
    assert_eq!(effects.len(), 3, "who is left out is asked all the same");
    effects.clear();
    for (entry, answer) in answers.into_iter().enumerate() {
        let answered = Event::Answered {
            round: 1,
            entry,
            answer,
        };
        formation.step(answered, &mut effects);
    }
    (formation, effects)
}

fn told(node: usize, list: &[usize]) -> Result<Standing, String> {
    Ok(Standing {
        list: list.iter().map(|node| address(*node)).collect(),
        ..standing(node, 3)
    })
}

#[test]
fn a_silent_peer_is_left_out_when_every_founder_was_told() {
    let silent = || Err("refused".into());
    let both = [told(0, &[0, 1]), told(1, &[0, 1]), silent()];
    let (formation, effects) = left_out(0, &[2], both.clone());
    let two = Founding {
        members: record(3).members[..2].to_vec(),
        ..record(3)
    };
    assert_eq!(effects, [Effect::Persist(two.clone())]);
    assert_eq!(formation.standing().list, [address(0), address(1)]);

    // The other one takes the record, asked or offered.
    let awaited = Obstacle::Awaited { peer: address(0) };
    let (mut other, effects) = left_out(1, &[2], both);
    assert_eq!(effects, [Effect::Tell(vec![awaited])]);
    let mut effects = Vec::new();
    other.step(Event::Offered(two.clone()), &mut effects);
    assert_eq!(effects, [Effect::Persist(two.clone())]);
    let mut untold = Formation::new(myself(1, 3, 0));
    let mut effects = Vec::new();
    untold.step(Event::Offered(two), &mut effects);
    assert!(matches!(&effects[..], [Effect::Refuse(_)]), "{effects:?}");

    // Whoever was not told has another list.
    let differs = Obstacle::ListDiffers {
        peer: address(1),
        theirs: list(3),
        ours: list(2),
    };
    let one = [told(0, &[0, 1]), told(1, &[0, 1, 2]), silent()];
    assert_eq!(left_out(0, &[2], one).1, [Effect::Tell(vec![differs])]);
    // A second silent peer is no part of the word.
    let alone = [told(0, &[0, 1]), silent(), silent()];
    let silent = Obstacle::Silent {
        peer: address(1),
        reason: "refused".into(),
    };
    assert_eq!(left_out(0, &[2], alone).1, [Effect::Tell(vec![silent])]);
}

#[test]
fn a_peer_that_was_left_out_and_answers_is_back() {
    let (formation, effects) = left_out(0, &[2], empty());
    assert_eq!(effects, [Effect::Persist(record(3))]);
    assert_eq!(formation.standing().list, list(3));
    let mut answers = empty();
    let member = answers[2].as_mut().unwrap();
    member.founding = Some(Founding::joined(cluster_id(9, 9)));
    member.is_member = true;
    let joined = Founding::joined(cluster_id(9, 9));
    let effects = left_out(0, &[2], answers).1;
    assert_eq!(
        effects,
        [Effect::Persist(joined)],
        "it belongs to a cluster"
    );
}

#[test]
fn the_operators_word_is_refused_where_it_makes_no_sense() {
    let mut silent = empty();
    silent[2] = Err("refused".into());
    let (mut formation, _) = round(1, silent);
    let mut refusal = |peer: String| {
        let mut effects = Vec::new();
        formation.step(Event::LeftOut(vec![peer]), &mut effects);
        match effects.remove(0) {
            Effect::Refuse(reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    let unknown = format!("x:1 is not in its cluster.peers={}", list(3).join(","));
    assert_eq!(refusal("x:1".into()), unknown);
    assert_eq!(refusal(address(1)), "n1:1 is this node itself");
    assert_eq!(refusal(address(0)), "peer n0:1 answers: stop it first");
    let (mut settled, _) = round(0, empty());
    let mut effects = Vec::new();
    let word = Event::LeftOut(vec![address(2)]);
    settled.step(word.clone(), &mut effects);
    assert!(matches!(&effects[..], [Effect::Refuse(_)]), "{effects:?}");
    settled.step(Event::Persisted, &mut effects);
    effects.clear();
    settled.step(word, &mut effects);
    assert!(matches!(&effects[..], [Effect::Refuse(_)]), "{effects:?}");
}

#[test]
fn a_member_is_joined_whatever_its_list_and_whoever_is_silent() {
    let mut answers = empty();
    answers[2] = Err("refused".into());
    let member = answers[1].as_mut().unwrap();
    member.list.pop();
    member.founding = Some(Founding::joined(cluster_id(9, 9)));
    member.is_member = true;
    let joined = Founding::joined(cluster_id(9, 9));
    check(0, answers, Effect::Persist(joined));
}

#[test]
fn a_record_with_my_id_is_taken_from_any_holder() {
    for is_member in [false, true] {
        let mut answers = empty();
        answers[0] = Err("refused".into());
        let holder = answers[2].as_mut().unwrap();
        holder.founding = Some(record(3));
        holder.is_member = is_member;
        check(1, answers, Effect::Persist(record(3)));
    }
}

#[test]
fn a_record_without_my_id_is_waited_for_and_keeps_me_from_founding() {
    let mut held = record(3);
    held.members[0].0 = 77;
    let mut answers = empty();
    answers[1].as_mut().unwrap().founding = Some(held.clone());
    let holds = Obstacle::HoldsRecord {
        peer: address(1),
        cluster_id: held.cluster_id,
    };
    check(0, answers.clone(), Effect::Tell(vec![holds]));
    answers[1].as_mut().unwrap().is_member = true;
    let joined = Founding::joined(held.cluster_id);
    check(0, answers, Effect::Persist(joined));
}

#[test]
fn two_clusters_two_entries_of_one_node_and_a_copied_identity_stop_it() {
    let mut answers = empty();
    for (entry, id) in [(1, 8), (2, 9)] {
        let member = answers[entry].as_mut().unwrap();
        member.founding = Some(Founding::joined(cluster_id(id, id)));
        member.is_member = true;
    }
    let (_, effects) = round(0, answers);
    assert!(matches!(&effects[0], Effect::Tell(o) if matches!(o[0], Obstacle::TwoClusters { .. })));

    let mut answers = empty();
    answers[2] = answers[1].clone();
    let (_, effects) = round(0, answers.clone());
    assert!(matches!(&effects[0], Effect::Tell(o) if matches!(o[0], Obstacle::SameNode { .. })));

    answers[2].as_mut().unwrap().nonce = [42; 16];
    let (_, effects) = round(0, answers);
    assert!(
        matches!(&effects[0], Effect::Tell(o) if matches!(o[0], Obstacle::SameIdentity { .. }))
    );
}

#[test]
fn who_does_not_meet_itself_founds_and_joins_nothing() {
    let mut answers = empty();
    answers[0] = Ok(standing(7, 3));
    let member = answers[1].as_mut().unwrap();
    member.founding = Some(Founding::joined(cluster_id(9, 9)));
    member.is_member = true;
    check(
        0,
        answers,
        Effect::Tell(vec![Obstacle::NotListed { list: list(3) }]),
    );
}

#[track_caller]
fn check_refused(formation: &mut Formation, offer: Founding, reason: &str) {
    let mut effects = Vec::new();
    formation.step(Event::Offered(offer), &mut effects);
    let [Effect::Refuse(text)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(text.contains(reason), "{text}");
}

#[test]
fn an_offer_is_accepted_once_after_the_flush_and_again_only_if_it_is_the_same() {
    let mut formation = Formation::new(myself(1, 3, 0));
    let mut effects = Vec::new();
    formation.step(Event::Offered(record(3)), &mut effects);
    assert_eq!(effects, [Effect::Persist(record(3))]);
    assert_eq!(formation.standing().founding, None, "it is not on the disk");
    let mut other = record(3);
    other.cluster_id = cluster_id(9, 9);
    check_refused(&mut formation, other.clone(), "accepting another");
    effects.clear();
    formation.step(Event::Persisted, &mut effects);
    assert_eq!(effects, [Effect::Accept, Effect::Settled(record(3))]);
    assert_eq!(formation.standing().founding, Some(record(3)));
    check_refused(&mut formation, other, "belongs to");
    effects.clear();
    formation.step(Event::Offered(record(3)), &mut effects);
    assert_eq!(effects, [Effect::Accept]);
}

#[test]
fn an_offer_without_my_present_id_or_with_another_list_is_refused() {
    let mut formation = Formation::new(myself(1, 3, 0));
    let mut old = record(3);
    old.members[1].0 += 1;
    check_refused(&mut formation, old, "does not name this node's Raft id");
    let mut longer = record(3);
    longer.members.push((555, address(3)));
    check_refused(&mut formation, longer, "its list is");
    check_refused(
        &mut formation,
        Founding::joined(cluster_id(1, 0)),
        "no members",
    );
}

#[test]
fn answers_of_an_older_round_are_ignored() {
    let (mut formation, _) = round(0, {
        let mut answers = empty();
        answers[2] = Err("refused".into());
        answers
    });
    let mut effects = Vec::new();
    formation.step(Event::RoundDue, &mut effects);
    effects.clear();
    for entry in 0..3 {
        let answered = Event::Answered {
            round: 1,
            entry,
            answer: Ok(standing(entry, 3)),
        };
        formation.step(answered, &mut effects);
    }
    assert_eq!(effects, []);
}

/// A node of the model: what is on its disk, and its process.
struct Node {
    life: u8,
    disk: Option<Founding>,
    process: Formation,
}

/// Every way in which nodes ask, offer, crash and are wiped: what two disks hold was never two
/// clusters, unless a majority of those who held the first one was wiped.
fn never_two_clusters(nodes: usize, steps: &[(u8, u8, u8)]) -> Result<(), TestCaseError> {
    let begin = |node: usize, life: u8| Node {
        life,
        disk: None,
        process: Formation::new(myself(node, nodes, life)),
    };
    let mut world: Vec<_> = (0..nodes).map(|node| begin(node, 0)).collect();
    let mut wiped = 0;
    let mut holders: BTreeMap<Vec<(u64, String)>, Vec<u64>> = BTreeMap::new();
    for (what, who, whom) in steps {
        let (node, other) = (usize::from(*who) % nodes, usize::from(*whom) % nodes);
        let mut effects = Vec::new();
        match what % 8 {
            // A round, which a silent peer may spoil.
            0..=3 => {
                world[node].process.step(Event::RoundDue, &mut effects);
                let round = world[node].process.round;
                effects.clear();
                for entry in 0..nodes {
                    let is_silent = *what == 3 && entry == other;
                    let answer = match is_silent {
                        true => Err("silent".into()),
                        false => Ok(world[entry].process.standing()),
                    };
                    let answered = Event::Answered {
                        round,
                        entry,
                        answer,
                    };
                    world[node].process.step(answered, &mut effects);
                }
            }
            4 | 5 => {
                if let Some(held) = world[other].disk.clone().filter(Founding::is_record) {
                    world[node].process.step(Event::Offered(held), &mut effects);
                }
            }
            6 => {
                let life = world[node].life;
                let disk = world[node].disk.clone();
                world[node].process = Formation::new(myself(node, nodes, life));
                if let Some(disk) = disk {
                    // As a holder it goes on at once; nothing else is asked or accepted.
                    world[node].process.state = State::Settled(disk);
                }
            }
            _ if wiped < (nodes - 1) / 2 => {
                wiped += 1;
                world[node] = begin(node, world[node].life + 1);
            }
            _ => {}
        }
        for effect in effects {
            if let Effect::Persist(founding) = effect {
                let id = world[node].process.myself.raft_id;
                prop_assert!(world[node].disk.is_none(), "a second record in one life");
                world[node].disk = Some(founding.clone());
                if founding.is_record() {
                    prop_assert!(founding.address_of(id).is_some());
                    let key = founding.members.clone();
                    holders.entry(key).or_default().push(id);
                }
                world[node].process.step(Event::Persisted, &mut Vec::new());
            }
        }
    }
    let elected = holders
        .iter()
        .filter(|(members, ids)| ids.len() > members.len() / 2);
    prop_assert!(elected.count() <= 1, "two majorities: {holders:?}");
    Ok(())
}

proptest! {
    #[test]
    fn no_order_of_rounds_offers_crashes_and_wipes_of_a_minority_founds_two_clusters(
        nodes in 2_usize..6,
        steps in proptest::collection::vec((0_u8..8, any::<u8>(), any::<u8>()), 0..60),
    ) {
        never_two_clusters(nodes, &steps)?;
    }
}
