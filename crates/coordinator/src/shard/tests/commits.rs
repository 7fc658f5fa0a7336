//! Commits: who may, what is kept, what is read back, and when it goes.

use super::join::two_members;
use super::*;

#[test]
fn a_member_of_the_generation_commits_and_reads_back() {
    let mut s = two_members();
    s.check(commit("a#1", 1, 5), "keep t-0=5, 7 committed");
    s.check(fetch(Some("t")), "8 [t-0=5]");
    s.check(fetch(Some("u")), "9 [u-0=-1]");
    s.check(fetch(None), "10 [t-0=5]");
    s.check(commit("a#1", 1, 3), "keep t-0=3, 11 committed");
    s.check(fetch(None), "12 [t-0=3]");
}

#[test]
fn nobody_else_commits_to_a_group_with_members() {
    let mut s = two_members();
    s.check(commit("a#1", 0, 5), "7 ILLEGAL_GENERATION");
    s.check(commit("a#1", 2, 5), "8 ILLEGAL_GENERATION");
    s.check(commit("c", 1, 5), "9 UNKNOWN_MEMBER_ID");
    s.check(commit("", -1, 5), "10 UNKNOWN_MEMBER_ID");
    s.check(commit("a#1", -1, 5), "11 ILLEGAL_GENERATION");
    s.check(fetch(None), "12 []");
}

#[test]
fn between_two_assignments_nobody_commits_but_before_it_the_former_generation_does() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    s.check(commit("b#3", 1, 5), "keep t-0=5, 8 committed");
    let _ = s.ask(join("b", "b#3").into());
    s.check(commit("b#3", 1, 6), "10 ILLEGAL_GENERATION");
    s.check(commit("b#3", 2, 6), "11 REBALANCE_IN_PROGRESS");
}

#[test]
fn a_commit_shows_that_the_member_lives() {
    let mut s = two_members();
    s.after(9_000, "");
    s.check(commit("a#1", 1, 5), "keep t-0=5, 7 committed");
    s.after(9_000, "");
    s.check(commit("a#1", 1, 5), "keep t-0=5, 8 committed");
    s.check(heartbeat("b#3", 1), "9 UNKNOWN_MEMBER_ID");
}

#[test]
fn who_is_in_no_group_commits_to_one_without_members() {
    let mut s = Scenario::new();
    s.check(commit("", -1, 5), "keep t-0=5, 1 committed");
    s.check(commit("a", -1, 6), "keep t-0=6, 2 committed");
    s.check(commit("a", 1, 7), "3 UNKNOWN_MEMBER_ID");
    let mut other = commit("a", 1, 7);
    other.group_id = "h".into();
    s.check(other.clone(), "4 ILLEGAL_GENERATION");
    s.check(Request::OffsetCommit(other, 9), "5 GROUP_ID_NOT_FOUND");
    s.check(fetch(None), "6 [t-0=6]");
}

#[test]
fn metadata_have_a_limit_of_javas_characters() {
    let mut s = Scenario::new();
    let with = |metadata: String| {
        let mut request = commit("", -1, 5);
        request.topics[0].partitions[0].committed_metadata = Some(metadata.into());
        request
    };
    s.check(with("ü".repeat(4096)), "keep t-0=5, 1 committed");
    s.check(with("ü".repeat(4097)), "2 OFFSET_METADATA_TOO_LARGE");
    // One letter, two of Java's characters.
    s.check(with("😀".repeat(2048)), "keep t-0=5, 3 committed");
    s.check(with("😀".repeat(2049)), "4 OFFSET_METADATA_TOO_LARGE");
}

#[test]
fn what_was_committed_beside_the_offset_comes_back() {
    let mut s = Scenario::new();
    let mut request = commit("", -1, 5);
    request.topics[0].partitions[0].committed_metadata = Some("mark".into());
    let _ = s.ask(request.into());
    let offset = s.shard.groups["g"].offsets.get("t", 0).unwrap();
    assert_eq!((&*offset.metadata, offset.leader_epoch.get()), ("mark", 3));
    assert_eq!(offset.commit_timestamp, Millis(DAY));
    let GroupRecord::OffsetCommit(_, Some(value)) = &s.log[0] else {
        panic!("{:?}", s.log);
    };
    assert_eq!((value.leader_epoch, value.expire_timestamp), (3, -1));
}

const WEEK_MS: i64 = 7 * 24 * 60 * MINUTE_MS;

#[test]
fn the_offsets_of_simple_clients_expire_after_their_commit_and_the_group_with_them() {
    let mut s = Scenario::new();
    s.after(5 * MINUTE_MS, "");
    s.check(commit("", -1, 5), "keep t-0=5, 1 committed");
    s.after(WEEK_MS - MINUTE_MS, "");
    s.after(11 * MINUTE_MS, "keep t-0 gone + g gone");
    assert!(s.shard.groups.is_empty());
}

#[test]
fn the_offsets_of_members_expire_after_the_last_one_went() {
    let mut s = two_members();
    s.check(commit("a#1", 1, 5), "keep t-0=5, 7 committed");
    for _ in 0..3 {
        // They stay for more than a week, and commit nothing.
        let sessions = 60_000;
        let _ = (s.ask(heartbeat("a#1", 1)), s.ask(heartbeat("b#3", 1)));
        s.now_ms += WEEK_MS / 2 + sessions;
        let now = s.now();
        let group = s.shard.groups.get_mut("g").unwrap();
        assert_eq!(expired(group, now), []);
    }
    s.check(leave(&["a#1", "b#3"]), "keep g 2, 14 left left");
    s.after(WEEK_MS - 20 * MINUTE_MS, "");
    s.after(30 * MINUTE_MS, "keep t-0 gone + g gone");
}

fn expired(group: &Group, now: Now) -> Vec<(Str, i32)> {
    let retention = Millis(WEEK_MS);
    crate::offsets::expiry::expired(group, now.time_of_day, retention, 10).0
}

#[test]
fn a_topic_that_nobody_subscribes_to_any_more_loses_its_offsets() {
    let mut s = two_members();
    let mut both = commit("a#1", 1, 5);
    both.topics.push(OffsetCommitRequestTopic {
        name: "u".into(),
        ..both.topics[0].clone()
    });
    s.check(both, "keep t-0=5 + u-0=5, 7 committed committed");
    s.now_ms += WEEK_MS;
    let group = &s.shard.groups["g"];
    assert_eq!(expired(group, s.now()), [("u".into(), 0)]);
}

#[test]
fn an_old_client_says_how_long() {
    let mut s = Scenario::new();
    let mut request = commit("", -1, 5);
    request.retention_time_ms = 15 * MINUTE_MS;
    s.check(request, "keep t-0=5, 1 committed");
    s.after(19 * MINUTE_MS, "");
    s.after(MINUTE_MS, "keep t-0 gone + g gone");
}

#[test]
fn a_search_for_expired_offsets_is_done_in_pieces() {
    let mut s = Scenario::new();
    for group in ["g", "h"] {
        let mut request = commit("", -1, 5);
        request.group_id = group.into();
        let partition = request.topics[0].partitions[0].clone();
        request.topics[0].partitions = (0..1_500)
            .map(|partition_index| OffsetCommitRequestPartition {
                partition_index,
                ..partition.clone()
            })
            .collect();
        let _ = s.ask(request.into());
    }
    let _ = s.pass(WEEK_MS);
    let appended = s.log.len() - 3_000;
    assert_eq!(appended, 3_002, "each offset, and both groups");
    assert!(s.shard.groups.is_empty());
}

#[test]
fn the_offsets_of_a_deleted_topic_go_with_it() {
    let mut s = two_members();
    s.check(commit("a#1", 1, 5), "keep t-0=5, 7 committed");
    let mut effects = Vec::new();
    let now = s.now();
    for topic in ["u", "t"] {
        let topic = TopicName::new(topic).unwrap();
        s.shard.on_topic_deleted(&topic, now, &mut effects);
    }
    assert_eq!(s.carry_out(effects), "keep t-0 gone");
    s.check(fetch(None), "8 []");
}
