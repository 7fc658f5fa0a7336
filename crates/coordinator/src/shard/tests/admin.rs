//! What administrators ask: lists, descriptions, deletions.

use skein_protocol::messages::describe_groups::DescribedGroup;
use skein_protocol::messages::list_groups::ListGroupsRequest;
use skein_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};

use super::join::two_members;
use super::*;

fn listed(s: &mut Scenario, states: &[&str], types: &[&str]) -> Vec<String> {
    let filter = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
    let request = ListGroupsRequest {
        states_filter: filter(states),
        types_filter: filter(types),
    };
    let mut effects = Vec::new();
    let now = s.now();
    s.shard
        .handle(Ticket(0), Request::ListGroups(request), now, &mut effects);
    let [
        Effect::Answer {
            response: Response::ListGroups(response),
            ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    let groups = response.groups.iter();
    let line = |group: &skein_protocol::messages::list_groups::ListedGroup| {
        format!(
            "{} {:?} {} {}",
            group.group_id, &*group.protocol_type, group.group_state, group.group_type
        )
    };
    groups.map(line).collect()
}

fn described(s: &mut Scenario, id: &str, version: i16) -> DescribedGroup {
    let mut effects = Vec::new();
    let request = Request::DescribeGroups(vec![id.into()], version);
    let now = s.now();
    s.shard.handle(Ticket(0), request, now, &mut effects);
    match effects.pop() {
        Some(Effect::Answer {
            response: Response::DescribeGroups(mut groups),
            ..
        }) => groups.remove(0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut s = two_members();
    let mut simple = commit("", -1, 5);
    simple.group_id = "simple".into();
    let _ = s.ask(simple.into());
    let stable = "g \"consumer\" Stable classic";
    let empty = "simple \"\" Empty classic";
    assert_eq!(listed(&mut s, &[], &[]), [stable, empty]);
    assert_eq!(listed(&mut s, &[" stable"], &[]), [stable]);
    assert_eq!(listed(&mut s, &["EMPTY", "Dead"], &["Classic"]), [empty]);
    assert_eq!(listed(&mut s, &[], &["consumer"]), [""; 0]);
    assert_eq!(listed(&mut s, &[], &["nonsense"]), [""; 0]);
    let _ = s.ask(leave(&["b#3"]));
    let preparing = "g \"consumer\" PreparingRebalance classic";
    assert_eq!(listed(&mut s, &["PreparingRebalance"], &[]), [preparing]);
    let _ = s.ask(join("a", "a#1").into());
    let completing = "g \"consumer\" CompletingRebalance classic";
    assert_eq!(listed(&mut s, &[], &[])[0], completing);
}

#[test]
fn a_stable_group_is_described_with_what_its_members_say_and_have() {
    let mut s = two_members();
    let group = described(&mut s, "g", 6);
    assert_eq!(
        (&*group.group_state, &*group.protocol_data, group.error_code),
        ("Stable", "range", 0)
    );
    let member = &group.members[1];
    assert_eq!(member.member_id, full("b#3"));
    assert_eq!(
        (&*member.client_id, &*member.client_host),
        ("b", "/127.0.0.1")
    );
    assert_eq!(member.member_metadata, subscription(&["t"]));
    assert_eq!(&member.member_assignment[..], b"1");
    let _ = s.ask(leave(&["a#1"]));
    let group = described(&mut s, "g", 6);
    assert_eq!((&*group.protocol_data, group.members.len()), ("", 1));
    assert!(group.members[0].member_metadata.is_empty());
}

#[test]
fn a_group_that_is_not_there_is_dead_and_from_version_6_an_error() {
    let mut s = Scenario::new();
    let group = described(&mut s, "g", 5);
    assert_eq!((&*group.group_state, group.error_code), ("Dead", 0));
    let group = described(&mut s, "g", 6);
    let error = ErrorCode::from_code(group.error_code);
    assert_eq!(error, ErrorCode::GroupIdNotFound);
    assert_eq!(group.error_message.as_deref(), Some("Group g not found."));
}

#[test]
fn a_group_is_deleted_with_its_offsets_when_nobody_is_in_it() {
    let mut s = two_members();
    let delete = || Request::DeleteGroups(vec!["g".into(), "h".into()]);
    let codes = |s: &mut Scenario| {
        let mut effects = Vec::new();
        let now = s.now();
        s.shard.handle(Ticket(0), delete(), now, &mut effects);
        let text = s.carry_out(effects.clone());
        let codes = effects.iter().find_map(|effect| match effect {
            Effect::Answer {
                response: Response::DeleteGroups(results),
                ..
            } => Some(results.iter().map(|result| result.error_code).collect()),
            _ => None,
        });
        (text, codes.unwrap_or_else(Vec::new))
    };
    let not_found = ErrorCode::GroupIdNotFound.code();
    let (_, found) = codes(&mut s);
    assert_eq!(found, [ErrorCode::NonEmptyGroup.code(), not_found]);
    let _ = s.ask(commit("a#1", 1, 5).into());
    let _ = s.ask(leave(&["a#1", "b#3"]));
    let _ = s.ask(join("c", "").into());
    let (text, _) = codes(&mut s);
    assert!(text.starts_with("keep t-0 gone + g gone"), "{text}");
    assert_eq!(
        s.shard.timers.len(),
        1,
        "that of the search for expired offsets"
    );
    let (_, found) = codes(&mut s);
    assert_eq!(found, [not_found, not_found]);
    assert_eq!(s.ask(fetch(None)), "10 []");
}

fn delete_offsets(group: &str, topics: &[&str]) -> Request {
    let topics = topics.iter().map(|&name| OffsetDeleteRequestTopic {
        name: name.into(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
    });
    Request::OffsetDelete(OffsetDeleteRequest {
        group_id: group.into(),
        topics: topics.collect(),
    })
}

fn codes(s: &mut Scenario, request: Request) -> (i16, Vec<i16>) {
    let mut effects = Vec::new();
    let now = s.now();
    s.shard.handle(Ticket(0), request, now, &mut effects);
    let held = s.held.replace(Vec::new());
    let mut more = Vec::new();
    for effect in &effects {
        if let Effect::Append(records) = effect {
            s.log.extend_from_slice(records);
            let end = s.log.len();
            s.append(end, &mut more);
        }
    }
    s.held = held;
    effects.extend(more);
    let answer = effects.into_iter().find_map(|effect| match effect {
        Effect::Answer {
            response: Response::OffsetDelete(response),
            ..
        } => Some(response),
        _ => None,
    });
    let response = answer.expect("an answer");
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code).collect();
    (response.error_code, codes)
}

#[test]
fn offsets_of_topics_that_nobody_reads_can_be_deleted() {
    let mut s = two_members();
    let mut both = commit("a#1", 1, 5);
    both.topics.push(OffsetCommitRequestTopic {
        name: "u".into(),
        ..both.topics[0].clone()
    });
    let _ = s.ask(both.into());
    let subscribed = ErrorCode::GroupSubscribedToTopic.code();
    let answer = codes(&mut s, delete_offsets("g", &["t", "u", "v"]));
    assert_eq!(answer, (0, vec![subscribed, 0, 0]));
    s.check(fetch(None), "8 [t-0=5]");
    let answer = codes(&mut s, delete_offsets("", &["t"]));
    assert_eq!(answer, (ErrorCode::InvalidGroupId.code(), vec![]));
    let answer = codes(&mut s, delete_offsets("h", &["t"]));
    assert_eq!(answer, (ErrorCode::GroupIdNotFound.code(), vec![]));
}

#[test]
fn offsets_of_members_whose_subscriptions_are_unknown_are_not_deleted() {
    let mut s = Scenario::new();
    let mut worker = join("a", "").version(3);
    worker.0.protocol_type = "connect".into();
    let _ = s.ask(worker.into());
    let answer = codes(&mut s, delete_offsets("g", &["t"]));
    assert_eq!(answer, (ErrorCode::NonEmptyGroup.code(), vec![]));
}
