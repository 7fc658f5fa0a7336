//! A coordinator takes over what another one left.

use super::join::two_members;
use super::*;

fn take_over(s: &mut Scenario) {
    s.shard = s.replayed();
}

#[test]
fn members_stay_and_their_sessions_begin_when_the_log_is_committed() {
    let mut s = two_members();
    let _ = s.ask(commit("a#1", 1, 5).into());
    take_over(&mut s);
    s.after(9_999, "");
    s.check(heartbeat("a#1", 1), "8 ok");
    s.check(sync("b#3", 1, &[]), "9 synced \"1\"");
    s.check(fetch(None), "10 [t-0=5]");
    s.after(1, "");
    s.check(heartbeat("b#3", 1), "11 UNKNOWN_MEMBER_ID");
}

#[test]
fn while_it_loads_nobody_is_answered_but_nobody_dies() {
    let mut s = two_members();
    s.shard = s.loading();
    s.check(heartbeat("a#1", 1), "7 ok");
    s.check(fetch(None), "8 COORDINATOR_LOAD_IN_PROGRESS");
    s.check(commit("a#1", 1, 5), "9 COORDINATOR_LOAD_IN_PROGRESS");
    s.check(join("a", "a#1"), "10 COORDINATOR_LOAD_IN_PROGRESS a#1");
    let (now, mut effects) = (s.now(), Vec::new());
    let end = Offset(s.log.len().try_into().unwrap());
    s.shard.loaded(end, now, &mut effects);
    s.shard
        .on_high_watermark(Offset(end.get() - 1), now, &mut effects);
    s.check(fetch(None), "11 COORDINATOR_LOAD_IN_PROGRESS");
    s.shard.on_high_watermark(end, now, &mut effects);
    assert_eq!(effects, []);
    s.check(fetch(None), "12 []");
}

#[test]
fn offsets_of_a_topic_that_went_before_it_was_active_go_with_it() {
    let id = |byte| Uuid([byte; 16]);
    let mut s = two_members();
    for (topic, id) in [
        ("catching-up", id(1)),
        ("gone", id(2)),
        ("made-anew", id(3)),
        ("of-kafka", Uuid::ZERO),
        ("there", id(5)),
    ] {
        let mut request = commit("a#1", 1, 5);
        request.topics[0].name = topic.into();
        request.topics[0].topic_id = id;
        let _ = s.ask(request.into());
    }
    s.shard = s.loading();
    s.shard.drop_offsets_of_former_topics(|topic| match topic {
        "catching-up" => Some(id(1)),
        "made-anew" => Some(id(4)),
        "of-kafka" => Some(id(6)),
        "there" => Some(id(5)),
        _ => None,
    });
    let (now, mut effects) = (s.now(), Vec::new());
    let end = Offset(s.log.len().try_into().unwrap());
    s.shard.loaded(end, now, &mut effects);
    let topic = TopicName::new("catching-up").unwrap();
    s.shard.on_topic_deleted(&topic, now, &mut effects);
    assert_eq!(effects, []);
    s.shard.on_high_watermark(end, now, &mut effects);
    assert_eq!(
        s.carry_out(effects),
        "keep gone-0 gone + made-anew-0 gone + catching-up-0 gone"
    );
    s.check(fetch(None), "12 [of-kafka-0=5 there-0=5]");
}

#[test]
fn a_generation_that_had_no_assignment_yet_never_was() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    take_over(&mut s);
    s.check(sync("a#1", 2, &[]), "9 ILLEGAL_GENERATION");
    s.check(heartbeat("a#1", 1), "10 ok");
}

#[test]
fn a_group_above_a_limit_that_was_lowered_rebalances() {
    let mut s = two_members();
    let mut config = GroupConfig::clone(&s.group_config);
    config.max_size = 1;
    s.group_config = Arc::new(config);
    take_over(&mut s);
    s.check(heartbeat("a#1", 1), "7 REBALANCE_IN_PROGRESS");
    s.check(join("b", "b#3"), "");
    s.check(join("a", "a#1"), "9 GROUP_MAX_SIZE_REACHED");
    s.after(60_000, "8 joined 2 b#3 of b#3 [b#3]");
}

fn record(record_type: i16, rest: &[u8]) -> Bytes {
    [&record_type.to_be_bytes(), rest].concat().into()
}

#[test]
fn records_of_other_kinds_of_groups_are_let_pass() {
    let mut shard = Scenario::new().loading();
    for record_type in [3, 8, 15, 99, -1] {
        let key = record(record_type, &[1, 2, 3]);
        let replayed = shard.replay(&key, Some(&key), None);
        assert_eq!(replayed, Ok(Replayed::Skipped { record_type }));
    }
}

#[test]
fn a_record_that_cannot_be_read_ends_the_load() {
    let key = record(2, &[0, 1, b'g']);
    for value in [record(9, &[]), record(3, &[0xff; 20]), Bytes::new()] {
        let mut shard = Scenario::new().loading();
        let error = shard.replay(&key, Some(&value), None).unwrap_err();
        assert!(matches!(error, ReplayError::Broken(_)), "{error}");
    }
}

#[test]
fn a_record_that_makes_no_sense_ends_the_load() {
    let s = two_members();
    let Some(GroupRecord::GroupMetadata(key, Some(value))) = s.log.last().cloned() else {
        panic!("{:?}", s.log);
    };
    let mut twice = value.clone();
    twice.members.push(twice.members[0].clone());
    let mut speechless = value;
    speechless.protocol = None;
    for (value, damage) in [
        (twice, crate::GroupDamage::MemberTwice),
        (speechless, crate::GroupDamage::NoProtocol),
    ] {
        let record = GroupRecord::GroupMetadata(key.clone(), Some(value));
        let (key, value) = record.encode().unwrap();
        let mut shard = s.loading();
        let error = shard.replay(&key, value.as_ref(), None).unwrap_err();
        let group_id = "g".to_owned();
        assert_eq!(error, ReplayError::Damaged { group_id, damage });
    }
}

#[test]
fn an_offset_of_a_transaction_counts_when_that_is_committed() {
    let s = Scenario::new();
    let mut shard = s.loading();
    let replay = |shard: &mut Shard, offset, transaction: Option<i64>| {
        let Request::OffsetCommit(request, _) = Request::from(commit("", -1, offset)) else {
            unreachable!("an OffsetCommit");
        };
        let mut other = Scenario::new();
        let _ = other.ask(request.into());
        let (key, value) = other.log[0].encode().unwrap();
        let producer = transaction.map(ProducerId);
        shard.replay(&key, value.as_ref(), producer).unwrap();
    };
    let get = |shard: &Shard| shard.groups["g"].offsets.get("t", 0).map(|at| at.offset);
    replay(&mut shard, 5, Some(1));
    replay(&mut shard, 6, Some(2));
    assert_eq!(get(&shard), None);
    assert!(shard.groups["g"].offsets.is_pending("t", 0));
    shard.replay_end_of_transaction(ProducerId(1), false);
    assert_eq!(get(&shard), None);
    // A plain commit lies behind the transaction's in the log, and wins, whenever that ends.
    replay(&mut shard, 7, None);
    replay(&mut shard, 8, Some(3));
    shard.replay_end_of_transaction(ProducerId(2), true);
    assert_eq!(get(&shard), Some(Offset(7)));
    shard.replay_end_of_transaction(ProducerId(3), true);
    assert_eq!(get(&shard), Some(Offset(8)));
    assert!(!shard.groups["g"].offsets.is_pending("t", 0));
}

#[test]
fn an_unstable_offset_is_told_to_who_needs_a_stable_one() {
    let mut s = Scenario::new();
    let _ = s.ask(commit("", -1, 5).into());
    let (key, value) = s.log[0].encode().unwrap();
    let mut shard = s.loading();
    shard
        .replay(&key, value.as_ref(), Some(ProducerId(1)))
        .unwrap();
    let (now, mut effects) = (s.now(), Vec::new());
    shard.loaded(Offset::ZERO, now, &mut effects);
    s.shard = shard;
    s.check(fetch(Some("t")), "2 [t-0=UNSTABLE_OFFSET_COMMIT]");
    let Request::OffsetFetch { group, .. } = fetch(None) else {
        unreachable!("an OffsetFetch");
    };
    let plain = Request::OffsetFetch {
        group,
        require_stable: false,
    };
    s.check(plain, "3 [t-0=5]");
}

#[test]
fn offsets_outlive_a_group_that_became_one_of_another_kind() {
    let mut s = two_members();
    let _ = s.ask(commit("a#1", 1, 5).into());
    let tombstone = s.shard.groups["g"].tombstone();
    s.log.push(tombstone);
    take_over(&mut s);
    s.check(fetch(None), "8 [t-0=5]");
    s.check(heartbeat("a#1", 1), "9 UNKNOWN_MEMBER_ID");
}
