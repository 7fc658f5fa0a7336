//! Scenarios of elections, one line per step.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const PLAIN: Rules = Rules {
    min_insync_replicas: 2,
    flushed: false,
    unclean_leader_election: false,
};

fn ids(list: &[i32]) -> Vec<BrokerId> {
    list.iter().copied().map(BrokerId).collect()
}

fn partition(replicas: &[i32]) -> Partition {
    Partition {
        replicas: ids(replicas),
        isr: sorted(ids(replicas).into_iter()),
        elr: vec![],
        last_known: vec![],
        offline: vec![],
        leader: BrokerId(replicas[0]),
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        leader_recovery_state: LeaderRecoveryState::Recovered,
    }
}

/// What happens to a broker, by a letter: `f`enced, `b`ack again; registers anew `c`lean,
/// `u`nclean, or `r`eplaced; its storage is `o`ffline, while it goes on.
fn step(partition: &mut Partition, active: &mut Vec<i32>, rules: Rules, what: char, broker: i32) {
    let mut change = Change::new(partition, rules);
    let id = BrokerId(broker);
    if what != 'o' {
        active.retain(|id| *id != broker);
    }
    match what {
        'f' => change.leave(id, Departure::Orderly),
        'o' => change.leave(id, Departure::StorageFailed),
        'c' => change.register(id, Departure::Orderly),
        'u' => change.register(id, Departure::Unclean),
        'r' => change.register(id, Departure::Replaced),
        _ => active.push(broker),
    }
    change.elect(|id| active.contains(&id.get()));
    if let Some(next) = change.finish() {
        assert_eq!(next.check(), Ok(()), "{next:?}");
        assert_eq!(
            next.partition_epoch.get(),
            partition.partition_epoch.get() + 1
        );
        let grown = next.leader_epoch.get() - partition.leader_epoch.get();
        assert!(
            grown == 1 || (grown == 0 && next.leader == partition.leader),
            "{next:?}"
        );
        *partition = next;
    }
}

/// Steps such as `f1 u2 b1`, and what they lead to: leader, ISR, ELR, last known members, epoch.
#[track_caller]
fn check(rules: Rules, replicas: &[i32], steps: &str, expected: &str) {
    let mut partition = partition(replicas);
    let mut active = replicas.to_vec();
    for word in steps.split_whitespace() {
        let (what, broker) = word.split_at(1);
        let broker = broker.parse().unwrap();
        step(
            &mut partition,
            &mut active,
            rules,
            what.chars().next().unwrap(),
            broker,
        );
    }
    let list = |ids: &[BrokerId]| ids.iter().map(|id| id.get()).collect::<Vec<_>>();
    let got = format!(
        "leader {} isr {:?} elr {:?} last {:?} epoch {}{}",
        partition.leader,
        list(&partition.isr),
        list(&partition.elr),
        list(&partition.last_known),
        partition.leader_epoch,
        match partition.leader_recovery_state {
            LeaderRecoveryState::Recovered => "",
            LeaderRecoveryState::Recovering => " recovering",
        }
    );
    assert_eq!(got, expected, "after {steps}");
}

#[test]
fn a_fenced_leader_hands_over_to_the_next_replica_in_sync() {
    check(
        PLAIN,
        &[2, 1, 3],
        "f2",
        "leader 1 isr [1, 3] elr [] last [] epoch 1",
    );
    check(
        PLAIN,
        &[2, 1, 3],
        "f1",
        "leader 2 isr [2, 3] elr [] last [] epoch 0",
    );
}

#[test]
fn who_leaves_below_min_isr_stays_eligible() {
    check(
        PLAIN,
        &[1, 2, 3],
        "f1 f2",
        "leader 3 isr [3] elr [2] last [] epoch 2",
    );
    check(
        PLAIN,
        &[1, 2, 3],
        "f1 f2 f3",
        "leader -1 isr [] elr [2, 3] last [] epoch 3",
    );
    // Only 2 or 3 may lead then: 1 left while there were enough.
    check(
        PLAIN,
        &[1, 2, 3],
        "f1 f2 f3 b1",
        "leader -1 isr [] elr [2, 3] last [] epoch 3",
    );
    check(
        PLAIN,
        &[1, 2, 3],
        "f1 f2 f3 b2",
        "leader 2 isr [2] elr [3] last [] epoch 4",
    );
}

#[test]
fn an_unclean_broker_is_not_eligible_unless_everything_was_flushed() {
    check(
        PLAIN,
        &[1, 2, 3],
        "f1 f2 f3 u2 b2",
        "leader -1 isr [] elr [3] last [2] epoch 3",
    );
    let flushed = Rules {
        flushed: true,
        ..PLAIN
    };
    check(
        flushed,
        &[1, 2, 3],
        "f1 f2 f3 u2 b2",
        "leader 2 isr [2] elr [3] last [] epoch 4",
    );
}

#[test]
fn the_last_members_are_remembered_when_all_are_unclean() {
    check(
        PLAIN,
        &[1, 2],
        "f1 f2 u1 u2 b2",
        "leader -1 isr [] elr [] last [1, 2] epoch 2",
    );
    // One after the other comes back, and the next ones are taken for leaders meanwhile.
    check(
        PLAIN,
        &[1, 2, 3],
        "u1 b1 u2 b2 u3 b3",
        "leader -1 isr [] elr [] last [1, 2, 3] epoch 3",
    );
    // Who is eligible has everything, and is waited for.
    check(
        PLAIN,
        &[1, 2, 3],
        "f1 f3 u2 b2",
        "leader -1 isr [] elr [3] last [2] epoch 2",
    );
    // One power cut for both, seen at once: which log is longer is not known here.
    let mut lost = Partition {
        isr: vec![],
        leader: BrokerId::NONE,
        ..partition(&[1, 2])
    };
    lost.last_known = ids(&[1, 2]);
    let mut change = Change::new(&lost, PLAIN);
    change.elect(|_| true);
    assert_eq!(change.finish(), None);
}

#[test]
fn one_replica_comes_back_by_itself_clean_or_not() {
    let rules = Rules {
        min_insync_replicas: 1,
        ..PLAIN
    };
    check(
        rules,
        &[1],
        "f1 b1",
        "leader 1 isr [1] elr [] last [] epoch 2",
    );
    check(
        rules,
        &[1],
        "u1",
        "leader -1 isr [] elr [] last [1] epoch 1",
    );
    check(
        rules,
        &[1],
        "u1 b1",
        "leader 1 isr [1] elr [] last [] epoch 2 recovering",
    );
}

#[test]
fn a_replaced_disk_is_nobody() {
    let rules = Rules {
        min_insync_replicas: 1,
        ..PLAIN
    };
    check(
        rules,
        &[1],
        "r1 b1",
        "leader -1 isr [] elr [] last [] epoch 1",
    );
    check(
        rules,
        &[1],
        "u1 r1 b1",
        "leader -1 isr [] elr [] last [] epoch 1",
    );
    check(
        PLAIN,
        &[1, 2],
        "f1 f2 r1 b1",
        "leader -1 isr [] elr [2] last [] epoch 2",
    );
}

#[test]
fn a_leader_whose_storage_failed_hands_over_to_the_isr_then_to_the_elr_and_to_nobody_else() {
    check(
        PLAIN,
        &[1, 2, 3],
        "o1",
        "leader 2 isr [2, 3] elr [] last [] epoch 1",
    );
    check(
        PLAIN,
        &[1, 2, 3],
        "f3 f2 o1",
        "leader -1 isr [] elr [2] last [] epoch 1",
    );
    check(
        PLAIN,
        &[1, 2, 3],
        "f3 f2 o1 b3 b2",
        "leader 2 isr [2] elr [] last [] epoch 2",
    );
}

#[test]
fn an_offline_replica_is_elected_by_nothing_but_its_next_registration() {
    // Though everything was flushed, and though an unclean election is allowed.
    let rules = Rules {
        min_insync_replicas: 1,
        flushed: true,
        unclean_leader_election: true,
    };
    for steps in ["o1", "o1 o1", "o1 b1", "o1 f1 b1"] {
        let expected = "leader -1 isr [] elr [] last [1] epoch 1";
        check(rules, &[1], steps, expected);
    }
    for steps in ["o1 c1 b1", "o1 f1 u1 b1", "o1 b1 c1 b1"] {
        let expected = "leader 1 isr [1] elr [] last [] epoch 2 recovering";
        check(rules, &[1], steps, expected);
    }
}

#[test]
fn an_unclean_election_needs_permission_and_an_empty_isr() {
    let rules = Rules {
        unclean_leader_election: true,
        ..PLAIN
    };
    check(
        rules,
        &[1, 2, 3],
        "f1 f2 f3 b1",
        "leader 1 isr [1] elr [] last [] epoch 4 recovering",
    );
}

#[test]
fn a_registration_of_the_leader_is_a_new_leader_in_one_change() {
    let former = partition(&[1]);
    let rules = Rules {
        min_insync_replicas: 1,
        ..PLAIN
    };
    let mut change = Change::new(&former, rules);
    change.leave(BrokerId(1), Departure::Orderly);
    change.elect(|_| true);
    let next = change.finish().unwrap();
    assert_eq!(
        (next.leader, next.leader_epoch),
        (BrokerId(1), LeaderEpoch(1))
    );
    assert_eq!(next.partition_epoch, PartitionEpoch(1));
    assert_eq!((next.isr, next.elr), (former.isr, vec![]));
}

#[test]
fn a_smaller_min_isr_empties_the_elr_only_where_a_leader_goes_on() {
    let mut led = partition(&[1, 2, 3]);
    led.isr = ids(&[1]);
    led.elr = ids(&[2]);
    let mut change = Change::new(&led, PLAIN);
    change.forget_eligible();
    assert_eq!(change.finish().unwrap().elr, []);
    let led = Partition {
        isr: vec![],
        leader: BrokerId::NONE,
        ..led
    };
    let mut change = Change::new(&led, PLAIN);
    change.forget_eligible();
    assert_eq!(change.finish(), None);
}

proptest! {
    /// Model: who has every acknowledged record. With one more record acknowledged whenever a
    /// leader has min ISR members, no leader may lack one, unless the partition says that it
    /// recovers.
    #[test]
    fn who_leads_has_every_acknowledged_record(
        replicas in 1_i32..5,
        min in 1_usize..4,
        steps in proptest::collection::vec((prop_oneof![
            3 => Just('f'), 1 => Just('u'), 1 => Just('r'), 1 => Just('o'), 1 => Just('c'),
            5 => Just('b'), 2 => Just('j')
        ], 1_i32..5), 1..60),
    ) {
        let all: Vec<i32> = (1..=replicas).collect();
        let min = min.min(all.len());
        let rules = Rules { min_insync_replicas: min, ..PLAIN };
        let mut partition = partition(&all);
        let mut active = all.clone();
        let mut acknowledged = 0;
        let mut holds: BTreeMap<i32, u32> = all.iter().map(|id| (*id, 0)).collect();
        for (what, broker) in steps {
            if broker > replicas {
                continue;
            }
            match what {
                // A follower that has caught up joins the ISR.
                'j' if partition.leader != BrokerId::NONE
                    && active.contains(&broker)
                    && !partition.is_offline(BrokerId(broker)) =>
                {
                    let mut change = Change::new(&partition, rules);
                    insert(&mut change.next.isr, BrokerId(broker));
                    change.next.elr.retain(|id| *id != BrokerId(broker));
                    change.settle();
                    holds.insert(broker, holds[&partition.leader.get()]);
                    if let Some(next) = change.finish() {
                        partition = next;
                    }
                }
                'j' => {}
                // Its disk is another, or may have lost anything.
                'u' | 'r' | 'o' => {
                    step(&mut partition, &mut active, rules, what, broker);
                    holds.insert(broker, 0);
                }
                _ => step(&mut partition, &mut active, rules, what, broker),
            }
            if partition.leader == BrokerId::NONE {
                continue;
            }
            if partition.leader_recovery_state == LeaderRecoveryState::Recovering {
                return Ok(()); // the loss is on record; from here on the count is another
            }
            let leader = partition.leader.get();
            prop_assert_eq!(holds[&leader], acknowledged, "leader {} of {:?}", leader, partition);
            if partition.isr.len() >= min {
                acknowledged += 1;
                for id in &partition.isr {
                    holds.insert(id.get(), acknowledged);
                }
            }
        }
    }
}
