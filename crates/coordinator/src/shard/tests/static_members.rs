//! Static members: they come back without a rebalance, and fence who they were.

use super::*;

/// Static members `a` and `b` in generation 1, `a` leads; requests 1 to 4.
fn two_static_members() -> Scenario {
    let mut s = Scenario::new();
    s.check(join("c1", "").instance("a"), "keep g 0");
    s.check(join("c2", "").instance("b"), "");
    s.after(
        6_000,
        "1 joined 1 a#1 of a#1 [a#1 b#2], 2 joined 1 b#2 of a#1 []",
    );
    s.check(sync("b#2", 1, &[]), "");
    s.check(
        sync("a#1", 1, &[("a#1", "0"), ("b#2", "1")]),
        "keep g 1 a#1* b#2, 4 synced \"0\", 3 synced \"1\"",
    );
    s
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut s = two_static_members();
    s.check(
        join("c2", "").instance("b"),
        "keep g 1 a#1* b#5, 5 joined 1 b#5 of a#1 []",
    );
    s.check(sync("b#5", 1, &[]), "6 synced \"1\"");
    s.check(heartbeat("a#1", 1), "7 ok");
    s.check(heartbeat("b#2", 1), "8 UNKNOWN_MEMBER_ID");
    let Request::Heartbeat(mut former) = heartbeat("b#2", 1) else {
        unreachable!("a Heartbeat");
    };
    former.group_instance_id = Some("b".into());
    s.check(Request::Heartbeat(former), "9 FENCED_INSTANCE_ID");
    let mut former = commit("b#2", 1, 5);
    former.group_instance_id = Some("b".into());
    s.check(former, "10 FENCED_INSTANCE_ID");
    s.check(join("c2", "b#2").instance("b"), "11 FENCED_INSTANCE_ID b#2");
}

#[test]
fn a_static_leader_that_comes_back_need_not_assign() {
    let mut s = two_static_members();
    s.check(
        join("c1", "").instance("a"),
        "keep g 1 a#5* b#2, 5 joined 1 a#5 of a#5 [a#5 b#2] skip",
    );
    // Before version 9 that cannot be said: it is told that its former self leads.
    s.check(
        join("c1", "").instance("a").version(8),
        "keep g 1 a#6* b#2, 6 joined 1 a#6 of a#5 []",
    );
    s.check(sync("a#6", 1, &[]), "7 synced \"0\"");
}

#[test]
fn a_static_member_whose_protocols_change_the_choice_causes_a_rebalance() {
    let mut s = two_static_members();
    s.check(
        join("c2", "")
            .instance("b")
            .protocols(&[("sticky", &["t"])]),
        "5 INCONSISTENT_GROUP_PROTOCOL",
    );
    let both: &[(&str, &[&str])] = &[("range", &["t"]), ("sticky", &["t"])];
    s.check(
        join("c1", "").instance("a").protocols(both),
        "keep g 1 a#6* b#2, 6 joined 1 a#6 of a#6 [a#6 b#2] skip",
    );
    s.check(
        join("c2", "").instance("b").protocols(&[both[1], both[0]]),
        "keep g 1 a#6* b#7, 7 joined 1 b#7 of a#6 []",
    );
    s.check(
        join("c1", "").instance("a").protocols(&[both[1], both[0]]),
        "",
    );
    s.check(heartbeat("b#7", 1), "9 REBALANCE_IN_PROGRESS");
}

#[test]
fn while_the_group_completes_a_static_member_that_comes_back_causes_a_rebalance() {
    let mut s = two_static_members();
    s.check(join("c1", "a#1").instance("a"), "");
    s.check(
        join("c2", "b#2")
            .instance("b")
            .protocols(&[("range", &["u"])]),
        "5 joined 2 a#1 of a#1 [a#1 b#2], 6 joined 2 b#2 of a#1 []",
    );
    s.check(sync("b#2", 2, &[]), "");
    // The instance that waits for its assignment is fenced; the new one joins.
    s.check(join("c2", "").instance("b"), "7 FENCED_INSTANCE_ID");
    s.check(sync("a#1", 2, &[]), "9 REBALANCE_IN_PROGRESS");
    s.check(
        join("c1", "a#1").instance("a"),
        "10 joined 3 a#1 of a#1 [a#1 b#8], 8 joined 3 b#8 of a#1 []",
    );
}

#[test]
fn a_static_member_that_waits_to_join_is_fenced_by_itself() {
    let mut s = two_static_members();
    s.check(join("c1", "a#1").instance("a"), "");
    s.check(join("c1", "").instance("a"), "5 FENCED_INSTANCE_ID a#1");
    s.check(
        join("c2", "b#2").instance("b"),
        "6 joined 2 a#6 of a#6 [a#6 b#2], 7 joined 2 b#2 of a#6 []",
    );
}

#[test]
fn a_static_member_that_does_not_join_stays_until_its_session_ends() {
    let mut s = two_static_members();
    let mut patient = join("c2", "b#2")
        .instance("b")
        .protocols(&[("range", &["u"])]);
    patient.0.rebalance_timeout_ms = 6_000;
    let mut leader = join("c1", "a#1").instance("a");
    leader.0.rebalance_timeout_ms = 6_000;
    leader.0.session_timeout_ms = 30_000;
    s.check(leader, "");
    s.check(
        patient.clone(),
        "5 joined 2 a#1 of a#1 [a#1 b#2], 6 joined 2 b#2 of a#1 []",
    );
    s.check(sync("a#1", 2, &[]), "keep g 2 a#1* b#2, 7 synced \"\"");
    s.check(sync("b#2", 2, &[]), "8 synced \"\"");
    s.check(patient.protocols(&[("range", &["v"])]), "");
    s.after(6_000, "9 joined 3 b#2 of b#2 [a#1 b#2]");
    s.check(leave(&["@a"]), "10 left");
    s.check(leave(&["@a", "@b"]), "keep g 4, 11 UNKNOWN_MEMBER_ID left");
}

#[test]
fn when_only_static_members_are_left_and_none_joins_their_sessions_decide() {
    let mut s = two_static_members();
    let mut leader = join("c1", "a#1").instance("a");
    leader.0.session_timeout_ms = 100_000;
    s.check(leader, "");
    let mut follower = join("c2", "b#2").instance("b");
    follower.0.session_timeout_ms = 100_000;
    let _ = s.ask(follower.into());
    s.check(join("d", "").version(3), "");
    // d leaves, and nobody is there who joins; the rebalance waits for longer than its timeout.
    s.check(leave(&["d#7"]), "7 UNKNOWN_MEMBER_ID, 8 left");
    s.after(99_999, "");
    s.after(1, "keep g 3");
}
