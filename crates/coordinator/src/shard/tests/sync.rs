//! Bringing and fetching the assignment.

use super::join::two_members;
use super::*;

#[test]
fn who_syncs_is_in_the_generation_and_speaks_its_protocol() {
    let mut s = two_members();
    s.check(sync("c", 1, &[]), "7 UNKNOWN_MEMBER_ID");
    s.check(sync("a#1", 2, &[]), "8 ILLEGAL_GENERATION");
    let with = |protocol_type: &str, protocol_name: &str| {
        let Request::SyncGroup(mut request) = sync("a#1", 1, &[]) else {
            unreachable!("a SyncGroup");
        };
        request.protocol_type = Some(protocol_type.into());
        request.protocol_name = Some(protocol_name.into());
        Request::SyncGroup(request)
    };
    s.check(with("connect", "range"), "9 INCONSISTENT_GROUP_PROTOCOL");
    s.check(with("consumer", "sticky"), "10 INCONSISTENT_GROUP_PROTOCOL");
    s.check(with("consumer", "range"), "11 synced \"0\"");
}

#[test]
fn a_rebalance_turns_away_who_waits_for_an_assignment() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    s.check(sync("b#3", 2, &[]), "");
    s.check(
        join("a", "a#1").protocols(&[("range", &["u"])]),
        "9 REBALANCE_IN_PROGRESS",
    );
    s.check(sync("a#1", 2, &[]), "11 REBALANCE_IN_PROGRESS");
}

#[test]
fn who_syncs_twice_is_answered_twice_and_who_is_forgotten_gets_nothing() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    s.check(sync("b#3", 2, &[]), "");
    s.check(sync("b#3", 2, &[]), "9 REBALANCE_IN_PROGRESS");
    s.check(
        sync("a#1", 2, &[("a#1", "all"), ("stranger", "x")]),
        "keep g 2 a#1* b#3, 11 synced \"all\", 10 synced \"\"",
    );
}

#[test]
fn who_never_syncs_is_out_after_the_rebalance_timeout() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    s.check(
        sync("a#1", 2, &[("a#1", "0")]),
        "keep g 2 a#1* b#3, 9 synced \"0\"",
    );
    for _ in 0..6 {
        s.after(9_000, "");
        let _ = (s.ask(heartbeat("a#1", 2)), s.ask(heartbeat("b#3", 2)));
    }
    s.after(5_999, "");
    s.check(heartbeat("a#1", 2), "22 ok");
    s.after(1, "");
    s.check(heartbeat("b#3", 2), "23 UNKNOWN_MEMBER_ID");
    s.check(join("a", "a#1"), "24 joined 3 a#1 of a#1 [a#1]");
}

#[test]
fn a_leader_that_never_syncs_is_out_and_the_others_begin_anew() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    s.check(sync("b#3", 2, &[]), "");
    for _ in 0..6 {
        s.after(9_000, "");
        let _ = s.ask(heartbeat("a#1", 2));
    }
    s.after(6_000, "9 REBALANCE_IN_PROGRESS");
    s.check(join("b", "b#3"), "16 joined 3 b#3 of b#3 [b#3]");
}
