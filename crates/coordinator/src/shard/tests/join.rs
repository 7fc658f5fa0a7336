//! Joining, leaving, dying.

use super::*;

/// Clients `a` and `b` in generation 1, `a` leads; requests 1 to 6.
pub(super) fn two_members() -> Scenario {
    let mut s = Scenario::new();
    s.check(join("a", ""), "keep g 0, 1 MEMBER_ID_REQUIRED a#1");
    s.check(join("a", "a#1"), "");
    s.check(join("b", ""), "3 MEMBER_ID_REQUIRED b#3");
    s.check(join("b", "b#3"), "");
    s.after(
        6_000,
        "2 joined 1 a#1 of a#1 [a#1 b#3], 4 joined 1 b#3 of a#1 []",
    );
    s.check(sync("b#3", 1, &[]), "");
    s.check(
        sync("a#1", 1, &[("a#1", "0"), ("b#3", "1")]),
        "keep g 1 a#1* b#3, 6 synced \"0\", 5 synced \"1\"",
    );
    s
}

#[test]
fn a_group_begins_with_the_member_that_comes_back_with_its_id() {
    let mut s = two_members();
    s.check(heartbeat("a#1", 1), "7 ok");
    s.check(heartbeat("b#3", 1), "8 ok");
    s.check(heartbeat("b#3", 2), "9 ILLEGAL_GENERATION");
    s.check(heartbeat("c", 1), "10 UNKNOWN_MEMBER_ID");
    s.check(sync("b#3", 1, &[]), "11 synced \"1\"");
}

#[test]
fn clients_before_version_4_need_no_second_request() {
    let mut s = Scenario::new();
    s.check(join("a", "").version(3), "keep g 0");
    s.after(3_000, "1 joined 1 a#1 of a#1 [a#1]");
}

#[test]
fn version_0_has_its_rebalance_timeout_from_the_session() {
    let mut s = two_members();
    let mut third = join("c", "").version(0);
    third.0.rebalance_timeout_ms = -1;
    third.0.session_timeout_ms = 20_000;
    s.check(third, "");
    let member = &s.shard.groups["g"].described().members;
    assert_eq!(member.len(), 3);
    // The longest timeout of all counts: 60 s, of the two others.
    s.check(heartbeat("a#1", 1), "8 REBALANCE_IN_PROGRESS");
}

#[test]
fn what_is_wrong_with_a_request_alone_is_told_first() {
    let mut s = Scenario::new();
    let mut without_group = join("a", "");
    without_group.0.group_id = "".into();
    s.check(without_group, "1 INVALID_GROUP_ID");
    for session_timeout_ms in [5_999, 1_800_001] {
        let mut request = join("a", "");
        request.0.session_timeout_ms = session_timeout_ms;
        assert!(s.ask(request.into()).ends_with("INVALID_SESSION_TIMEOUT"));
    }
    s.check(
        join("a", "").protocols(&[]),
        "4 INCONSISTENT_GROUP_PROTOCOL",
    );
    s.check(join("a", "stranger"), "5 UNKNOWN_MEMBER_ID stranger");
    assert!(s.shard.groups.is_empty() && s.log.is_empty());
}

#[test]
fn each_new_member_extends_the_initial_delay_up_to_the_rebalance_timeout() {
    let mut s = Scenario::new();
    let mut first = join("a", "").version(3);
    first.0.rebalance_timeout_ms = 7_000;
    s.check(first.clone(), "keep g 0");
    s.after(2_000, "");
    s.check(first.clone(), "");
    s.after(3_000, "");
    s.check(first, "");
    // 3 s and 3 s and what is left of 7 s.
    s.after(1_999, "");
    s.after(
        1,
        "1 joined 1 a#1 of a#1 [a#1 a#2 a#3], 2 joined 1 a#2 of a#1 [], \
         3 joined 1 a#3 of a#1 []",
    );
}

#[test]
fn nobody_else_comes_and_the_initial_delay_is_not_extended() {
    let mut s = Scenario::new();
    s.check(join("a", "").version(3), "keep g 0");
    s.after(2_999, "");
    s.after(1, "1 joined 1 a#1 of a#1 [a#1]");
}

#[test]
fn a_new_member_makes_the_others_join_and_who_does_not_is_out() {
    let mut s = two_members();
    s.check(join("c", ""), "7 MEMBER_ID_REQUIRED c#7");
    s.check(heartbeat("a#1", 1), "8 ok");
    s.check(join("c", "c#7"), "");
    s.check(heartbeat("a#1", 1), "10 REBALANCE_IN_PROGRESS");
    s.check(join("a", "a#1"), "");
    // b sends heartbeats, and does not join.
    for _ in 0..6 {
        s.after(9_000, "");
        assert!(
            s.ask(heartbeat("b#3", 1))
                .ends_with("REBALANCE_IN_PROGRESS")
        );
    }
    s.after(
        6_000,
        "11 joined 2 a#1 of a#1 [a#1 c#7], 9 joined 2 c#7 of a#1 []",
    );
    s.check(heartbeat("b#3", 2), "18 UNKNOWN_MEMBER_ID");
}

#[test]
fn when_the_leader_does_not_join_somebody_else_leads() {
    let mut s = two_members();
    s.check(join("b", "b#3").protocols(&[("range", &["t", "u"])]), "");
    s.after(10_000, "7 joined 2 b#3 of b#3 [b#3]");
}

#[test]
fn a_rebalance_ends_when_the_last_one_has_joined() {
    let mut s = two_members();
    // The leader joins again: there is a rebalance, though it says the same.
    s.check(join("a", "a#1"), "");
    s.check(
        join("b", "b#3"),
        "7 joined 2 a#1 of a#1 [a#1 b#3], 8 joined 2 b#3 of a#1 []",
    );
    // Who has missed the answer gets it again.
    s.check(join("b", "b#3"), "9 joined 2 b#3 of a#1 []");
    s.check(join("a", "a#1"), "10 joined 2 a#1 of a#1 [a#1 b#3]");
}

#[test]
fn a_follower_that_joins_again_without_news_causes_nothing() {
    let mut s = two_members();
    s.check(join("b", "b#3"), "7 joined 1 b#3 of a#1 []");
    s.check(heartbeat("a#1", 1), "8 ok");
}

#[test]
fn who_joins_twice_is_answered_twice() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    s.check(join("a", "a#1"), "7 REBALANCE_IN_PROGRESS a#1");
    s.check(
        join("b", "b#3"),
        "8 joined 2 a#1 of a#1 [a#1 b#3], 9 joined 2 b#3 of a#1 []",
    );
}

#[test]
fn the_protocol_with_the_most_votes_of_those_that_all_speak_wins() {
    let mut s = Scenario::new();
    let speaks = |client: &str, names: &[&'static str]| {
        let protocols: Vec<(&str, &[&str])> =
            names.iter().map(|&name| (name, &["t"][..])).collect();
        join(client, "").version(3).protocols(&protocols)
    };
    s.check(speaks("a", &["only-a", "range", "sticky"]), "keep g 0");
    s.check(speaks("b", &["sticky", "range"]), "");
    s.check(speaks("c", &["sticky", "range"]), "");
    s.check(speaks("d", &["other"]), "4 INCONSISTENT_GROUP_PROTOCOL");
    let mut connect = speaks("e", &["range"]);
    connect.0.protocol_type = "connect".into();
    s.check(connect, "5 INCONSISTENT_GROUP_PROTOCOL");
    let _ = s.pass(10_000);
    let group = &s.shard.groups["g"];
    assert_eq!(group.elect_protocol_for_tests(), "sticky");
}

#[test]
fn a_member_that_leaves_makes_the_others_join() {
    let mut s = two_members();
    s.check(leave(&["a#1"]), "7 left");
    s.check(leave(&["a#1"]), "8 UNKNOWN_MEMBER_ID");
    s.check(join("b", "b#3"), "9 joined 2 b#3 of b#3 [b#3]");
    s.check(leave(&["b#3"]), "keep g 3, 10 left");
    s.check(heartbeat("b#3", 2), "11 UNKNOWN_MEMBER_ID");
    s.check(sync("b#3", 2, &[]), "12 UNKNOWN_MEMBER_ID");
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    s.check(
        leave(&["a#1", "nobody"]),
        "7 UNKNOWN_MEMBER_ID, 8 left UNKNOWN_MEMBER_ID",
    );
    s.check(join("b", "b#3"), "9 joined 2 b#3 of b#3 [b#3]");
}

#[test]
fn before_version_3_one_member_leaves_and_its_error_is_the_answers() {
    let mut s = two_members();
    let request = |group: &str, member: &str| {
        let request = LeaveGroupRequest {
            group_id: group.into(),
            member_id: full(member),
            ..LeaveGroupRequest::default()
        };
        Request::LeaveGroup(request, 2)
    };
    s.check(request("", "a#1"), "7 INVALID_GROUP_ID");
    s.check(request("g", "c#1"), "8 UNKNOWN_MEMBER_ID");
    s.check(request("h", "a#1"), "9 UNKNOWN_MEMBER_ID");
    s.check(request("g", "a#1"), "10 ");
}

#[test]
fn a_member_without_heartbeats_dies_after_its_session() {
    let mut s = two_members();
    s.after(6_000, "");
    s.check(heartbeat("a#1", 1), "7 ok");
    s.after(3_999, "");
    s.check(heartbeat("a#1", 1), "8 ok");
    s.after(1, "");
    // b is out now: a hears of it, and is alone.
    s.check(heartbeat("a#1", 1), "9 REBALANCE_IN_PROGRESS");
    s.check(join("a", "a#1"), "10 joined 2 a#1 of a#1 [a#1]");
    s.after(10_000, "keep g 3");
}

#[test]
fn a_member_that_waits_to_join_does_not_die() {
    let mut s = two_members();
    let mut slow = join("b", "b#3").protocols(&[("range", &["u"])]);
    slow.0.rebalance_timeout_ms = 200_000;
    s.check(slow, "");
    for _ in 0..19 {
        s.after(9_000, "");
        let _ = s.ask(heartbeat("a#1", 1));
    }
    s.check(
        join("a", "a#1"),
        "27 joined 2 a#1 of a#1 [a#1 b#3], 7 joined 2 b#3 of a#1 []",
    );
    s.after(9_999, "");
    s.check(heartbeat("b#3", 2), "28 ok");
}

#[test]
fn an_id_that_nobody_comes_back_with_is_forgotten() {
    let mut s = two_members();
    s.check(join("c", ""), "7 MEMBER_ID_REQUIRED c#7");
    for _ in 0..2 {
        s.after(5_000, "");
        let _ = (s.ask(heartbeat("a#1", 1)), s.ask(heartbeat("b#3", 1)));
    }
    s.check(join("c", "c#7"), "12 UNKNOWN_MEMBER_ID c#7");
    // One that is still expected holds a rebalance up.
    s.check(join("d", ""), "13 MEMBER_ID_REQUIRED d#13");
    s.check(join("a", "a#1"), "");
    s.check(join("b", "b#3"), "");
    s.after(
        10_000,
        "14 joined 2 a#1 of a#1 [a#1 b#3], 15 joined 2 b#3 of a#1 []",
    );
}

#[test]
fn a_full_group_takes_nobody() {
    let mut s = Scenario::with(|config| config.max_size = 2);
    s.check(join("a", "").version(3), "keep g 0");
    s.check(join("b", "").version(3), "");
    s.check(join("c", "").version(3), "3 GROUP_MAX_SIZE_REACHED");
    s.after(
        6_000,
        "1 joined 1 a#1 of a#1 [a#1 b#2], 2 joined 1 b#2 of a#1 []",
    );
    s.check(join("c", ""), "4 GROUP_MAX_SIZE_REACHED");
    s.check(join("b", "b#2"), "5 joined 1 b#2 of a#1 []");
}

#[test]
fn a_group_of_any_kind_takes_garbage_for_a_subscription() {
    let mut s = Scenario::new();
    let mut request = join("a", "").version(3);
    for (garbage, ticket) in [&[][..], &[0], &[0, 1, 0xff, 0xff, 0xff, 0xff], &[0xff; 40]]
        .into_iter()
        .zip(1..)
    {
        request.0.group_id = format!("g{ticket}").into();
        request.0.protocols[0].metadata = Bytes::from_static(garbage);
        s.check(request.clone(), &format!("keep g{ticket} 0"));
    }
    let _ = s.pass(3_000);
    for group in s.shard.groups.values() {
        assert!(group.is_subscribed_to("any"), "unknown is not unsubscribed");
    }
}

#[test]
fn what_does_not_fit_into_a_record_is_refused_before_anything_is_kept() {
    let mut s = Scenario::new();
    let long = || Str::from("x".repeat(65_536));
    let mut group = join("a", "");
    group.0.group_id = long();
    s.check(group, "1 UNKNOWN_SERVER_ERROR");
    let mut instance = join("a", "");
    instance.0.group_instance_id = Some(long());
    s.check(instance, "2 UNKNOWN_SERVER_ERROR");
    let mut protocol_type = join("a", "");
    protocol_type.0.protocol_type = long();
    s.check(protocol_type, "3 UNKNOWN_SERVER_ERROR");
    let mut protocol = join("a", "");
    protocol.0.protocols[0].name = long();
    s.check(protocol, "4 UNKNOWN_SERVER_ERROR");
    let commit = OffsetCommitRequest {
        group_id: long(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let commit = Request::OffsetCommit(commit, 9);
    let answer = s.ask(commit);
    assert!(answer.contains("UNKNOWN_SERVER_ERROR"), "{answer}");
    assert_eq!(s.log, []);
}
