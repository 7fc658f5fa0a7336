//! Consumer groups: what members cost that only live, how fast a large group rebalances, commits,
//! and a start with many committed offsets.
//!
//! Input: a system, and how many members. Output: measurements.
//!
//! The members are connections of one thread each that speaks for many (`wire::groups`), so that
//! what is measured is the broker and not a client library.

use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use skein_tests::wire::{Connection, Frame, Member, error};
use skein_tests::{Node, Settings, System};

use crate::metrics::OfGroups;
use crate::{Outcome, process};

const SETTINGS: Settings<'static> = &[
    // All of a group's members are there before its first generation.
    ("group.initial.rebalance.delay.ms", "1000"),
];
const TOPIC: &str = "shared-by-groups";
/// Of the topic, and of the large group's assignment.
pub(crate) const PARTITIONS: i32 = 1_000;
/// Of a group; the large one, too.
pub(crate) const MEMBERS_OF_A_GROUP: u32 = 100;
/// Of each member, as clients have it by default.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
const HEARTBEAT_ROUNDS: u32 = 5;
const COMMITTERS: u32 = 32;
const COMMIT_TIME: Duration = Duration::from_secs(4);
/// Not counted: what a JVM needs to get warm.
const COMMIT_WARM_UP: Duration = Duration::from_secs(2);
/// Of a commit, as of a consumer with some partitions.
const COMMITTED_PARTITIONS: Range<i32> = 0..10;
/// Groups that have committed all partitions when the node starts again: 100,000 offsets.
const COMMITTED_GROUPS: u32 = 100;
const START_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Starts a node and measures it.
pub(crate) fn measure(
    system: System,
    parent: &Path,
    members: u32,
    mut add: impl FnMut(OfGroups, f64),
) -> Outcome<()> {
    let node = node(system, parent)?;
    let port = node.ports().client;
    let per_commit = commits(port)?;
    add(OfGroups::Commit, per_commit.as_secs_f64() * 1e6);
    for (what, took) in [OfGroups::RebalanceFirst, OfGroups::Rebalance]
        .into_iter()
        .zip(rebalances(port)?)
    {
        add(what, took.as_secs_f64() * 1e3);
    }
    let (per_heartbeat, resident) = heartbeats(&node, members)?;
    add(OfGroups::Heartbeat, per_heartbeat * 1e6);
    add(OfGroups::Memory, resident);
    drop(node);
    let took = start_with_offsets(system, parent)?;
    add(OfGroups::Start, took.as_secs_f64() * 1e3);
    Ok(())
}

/// One that has the topic, and coordinators.
fn node(system: System, parent: &Path) -> Outcome<Node> {
    let mut node = Node::prepare_in(parent, system, SETTINGS);
    node.start_again();
    let port = node.ports().client;
    let code = Connection::open(port)?.create_topic(TOPIC, PARTITIONS, &[])?;
    if code != error::NONE {
        return Err(format!("no topic: error {code}{}", node.log_tail()).into());
    }
    Member::connect(port, "first")?.wait_for_coordinator()?;
    Ok(node)
}

/// CPU seconds of the broker per heartbeat, and its resident memory in MB meanwhile.
fn heartbeats(node: &Node, count: u32) -> Outcome<(f64, f64)> {
    let port = node.ports().client;
    let mut members = Vec::new();
    let in_a_group = usize::try_from(MEMBERS_OF_A_GROUP)?;
    for number in 0..count {
        let group = format!("living-{}", number / MEMBERS_OF_A_GROUP);
        members.push(Member::connect(port, &group)?);
    }
    // All groups at once: one after the other, the first ones' sessions would end meanwhile.
    ask_to_join(&mut members, &subscription(1))?;
    for group in members.chunks_mut(in_a_group) {
        share(group, 0)?;
    }
    let before = process::cpu_seconds(node.id())?;
    let started = Instant::now();
    let interval = HEARTBEAT_INTERVAL / count;
    let mut sent = 0;
    for _ in 0..HEARTBEAT_ROUNDS {
        for member in &mut members {
            thread::sleep((interval * sent).saturating_sub(started.elapsed()));
            none(member.heartbeat()?)?;
            sent += 1;
        }
    }
    let cpu = process::cpu_seconds(node.id())? - before;
    Ok((cpu / f64::from(sent), process::resident_mb(node.id())?))
}

/// From the last join until every member of a large group has its partitions: of its first
/// generation, with the initial delay, and of a second one, for which all join again.
fn rebalances(port: u16) -> Outcome<[Duration; 2]> {
    let members = (0..MEMBERS_OF_A_GROUP).map(|_| Member::connect(port, "large"));
    let mut members = members.collect::<Result<Vec<_>, _>>()?;
    let mut took = [Duration::ZERO; 2];
    for (number, took) in (1..).zip(&mut took) {
        ask_to_join(&mut members, &subscription(number))?;
        let last_join = Instant::now();
        share(&mut members, PARTITIONS)?;
        *took = last_join.elapsed();
    }
    Ok(took)
}

fn ask_to_join(members: &mut [Member], subscription: &[u8]) -> Outcome<()> {
    for member in members {
        member.ask_to_join(subscription)?;
    }
    Ok(())
}

/// Those who have asked to join are answered, and get what their leader gives them.
fn share(members: &mut [Member], partitions: i32) -> Outcome<()> {
    let mut leader = None;
    for (place, member) in members.iter_mut().enumerate() {
        let joined = member.joined()?;
        none(joined.error_code)?;
        if !joined.members.is_empty() {
            leader = Some((place, joined.members));
        }
    }
    let (place, ids) = leader.ok_or("nobody leads the group")?;
    if ids.len() != members.len() {
        return Err(format!("{} of {} members are in it", ids.len(), members.len()).into());
    }
    let shares = shares(ids, partitions);
    for (other, member) in members.iter_mut().enumerate() {
        member.ask_to_sync(if other == place { &shares } else { &[] })?;
    }
    for member in members.iter_mut() {
        let (code, assignment) = member.synced()?;
        none(code)?;
        let of_member = shares.iter().find(|(id, _)| id == member.id());
        if of_member.is_none_or(|(_, given)| *given != assignment) {
            return Err("a member has another one's partitions".into());
        }
    }
    Ok(())
}

/// As the consumer protocol has it: version, topics, user data. A member that joins with what it
/// has said before is told its present generation; another number makes a rebalance.
fn subscription(number: i32) -> Vec<u8> {
    let topics = Frame::new().i16(0).i32(1).string(TOPIC);
    topics.bytes(&number.to_be_bytes()).0
}

/// Every partition to one member, in turn.
fn shares(ids: Vec<String>, partitions: i32) -> Vec<(String, Vec<u8>)> {
    let count = i32::try_from(ids.len()).unwrap_or(i32::MAX);
    let of = |place: i32| {
        let own = (0..partitions).filter(|partition| partition % count == place);
        let own: Vec<i32> = own.collect();
        let length = i32::try_from(own.len()).unwrap_or(i32::MAX);
        let head = Frame::new().i16(0).i32(1).string(TOPIC).i32(length);
        own.iter()
            .fold(head, |frame, own| frame.i32(*own))
            .i32(-1)
            .0
    };
    let places = 0..count;
    ids.into_iter()
        .zip(places)
        .map(|(id, place)| (id, of(place)))
        .collect()
}

/// The mean time between two commits of all committers together.
fn commits(port: u16) -> Outcome<Duration> {
    let counted_from = Instant::now() + COMMIT_WARM_UP;
    let end = counted_from + COMMIT_TIME;
    let count: Outcome<u32> = thread::scope(|scope| {
        let committers: Vec<_> = (0..COMMITTERS)
            .map(|number| scope.spawn(move || committer(port, number, counted_from, end)))
            .collect();
        let joined = committers.into_iter().map(|committer| {
            let counted = committer.join().map_err(|_| "a committer failed")?;
            counted.map_err(|error| format!("a committer failed: {error}").into())
        });
        joined.sum()
    });
    Ok(COMMIT_TIME / count?.max(1))
}

/// One consumer without members beside it, which commits as fast as it is answered.
fn committer(port: u16, number: u32, from: Instant, end: Instant) -> Result<u32, String> {
    let run = || -> Outcome<u32> {
        let mut member = Member::connect(port, &format!("committer-{number}"))?;
        member.wait_for_coordinator()?;
        let (mut offset, mut counted) = (0, 0);
        while Instant::now() < end {
            none(member.commit(TOPIC, COMMITTED_PARTITIONS, offset)?)?;
            offset += 1;
            counted += u32::from((from..end).contains(&Instant::now()));
        }
        Ok(counted)
    };
    run().map_err(|error| error.to_string())
}

/// From the start of a node until every group has all its offsets again.
fn start_with_offsets(system: System, parent: &Path) -> Outcome<Duration> {
    let mut node = node(system, parent)?;
    let group = |number: u32| format!("committed-{number}");
    let port = node.ports().client;
    for number in 0..COMMITTED_GROUPS {
        let mut member = Member::connect(port, &group(number))?;
        member.wait_for_coordinator()?;
        none(member.commit(TOPIC, 0..PARTITIONS, i64::from(number))?)?;
    }
    node.stop();
    let asked = Instant::now();
    node.start_again();
    for number in 0..COMMITTED_GROUPS {
        let mut member = Member::connect(port, &group(number))?;
        let expected = vec![i64::from(number); usize::try_from(PARTITIONS)?];
        loop {
            let (code, offsets) = member.committed()?;
            if code == error::NONE && offsets == expected {
                break;
            }
            if code == error::NONE || asked.elapsed() > START_TIMEOUT {
                let tail = node.log_tail();
                return Err(format!("error {code}, {} offsets{tail}", offsets.len()).into());
            }
            thread::sleep(RETRY_INTERVAL);
        }
    }
    Ok(asked.elapsed())
}

fn none(code: i16) -> Outcome<()> {
    if code == error::NONE {
        Ok(())
    } else {
        Err(format!("a member got error {code}").into())
    }
}
