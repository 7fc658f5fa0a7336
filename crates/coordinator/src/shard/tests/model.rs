//! Random histories: clients that join, sync, commit, die and come back, over coordinators that are
//! replaced, with a log that lags.
//!
//! The clients do what theirs do, and now and then what they should not. After every step:
//! - each request is answered once, and all of them when a coordinator ends;
//! - of one generation, all assignments that anybody was told come from one leader's SyncGroup, and
//!   nobody was told another's;
//! - a commit or an assignment that was told is in the log, below the high watermark;
//! - only a member of the generation commits, and a fetch gives what the log says last;
//! - a coordinator that replays the log, at any of its records, has the same offsets, and the same
//!   group wherever a record says how it is.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// Clients 0 and 1 are dynamic members, 2 and 3 static ones.
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Join {
        client: usize,
        version: i16,
        is_restarted: bool,
        speaks_both: bool,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Commit {
        client: usize,
        generation: Generation,
    },
    Leave {
        client: usize,
    },
    Fetch,
    TimePasses {
        ms: i64,
    },
    /// So many of the appends that are held back are carried out.
    LogCatchesUp {
        appends: usize,
    },
    /// Another coordinator takes over; what is not committed may be lost.
    TakeOver {
        kept: usize,
    },
}

#[derive(Clone, Copy, Debug)]
enum Generation {
    Known,
    Former,
    None,
}

fn any_op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let version = prop_oneof![Just(3_i16), Just(5), Just(9)];
    let generation = prop_oneof![
        4 => Just(Generation::Known),
        1 => Just(Generation::Former),
        1 => Just(Generation::None)
    ];
    prop_oneof![
        8 => (client.clone(), version, prop::bool::weighted(0.2), any::<bool>()).prop_map(
            |(client, version, is_restarted, speaks_both)| Op::Join {
                client, version, is_restarted, speaks_both
            }
        ),
        8 => client.clone().prop_map(|client| Op::Sync { client }),
        4 => client.clone().prop_map(|client| Op::Heartbeat { client }),
        5 => (client.clone(), generation)
            .prop_map(|(client, generation)| Op::Commit { client, generation }),
        1 => client.prop_map(|client| Op::Leave { client }),
        3 => Just(Op::Fetch),
        6 => (0..8_000_i64).prop_map(|ms| Op::TimePasses { ms }),
        8 => (0..4_usize).prop_map(|appends| Op::LogCatchesUp { appends }),
        1 => (0..3_usize).prop_map(|kept| Op::TakeOver { kept }),
    ]
}

#[derive(Clone, Debug, Default)]
struct Client {
    member_id: Str,
    generation: i32,
    leader: Str,
    members: Vec<Str>,
}

/// What is known of a request that was not answered yet.
#[derive(Clone, Debug)]
enum Open {
    Join {
        client: usize,
    },
    Sync {
        client: usize,
        generation: i32,
        member_id: Str,
    },
    Commit {
        offset: i64,
    },
    Other,
}

struct World {
    s: Scenario,
    clients: Vec<Client>,
    open: BTreeMap<Ticket, Open>,
    /// The ends of appends that the log does not have yet.
    held: VecDeque<usize>,
    committed_end: usize,
    /// The SyncGroup whose assignments are those of a generation.
    assigned_by: BTreeMap<i32, String>,
    /// A coordinator that has replayed all of the log so far.
    follower: Shard,
    followed: usize,
    next_offset: i64,
}

impl World {
    fn new() -> Self {
        let mut s = Scenario::new();
        s.held = Some(Vec::new());
        Self {
            follower: s.loading(),
            s,
            clients: vec![Client::default(); CLIENTS],
            open: BTreeMap::new(),
            held: VecDeque::new(),
            committed_end: 0,
            assigned_by: BTreeMap::new(),
            followed: 0,
            next_offset: 0,
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Join {
                client,
                version,
                is_restarted,
                speaks_both,
            } => {
                self.join(client, version, is_restarted, speaks_both);
            }
            Op::Sync { client } => self.sync(client),
            Op::Heartbeat { client } => {
                let Client {
                    member_id,
                    generation,
                    ..
                } = self.clients[client].clone();
                self.send(Open::Other, heartbeat(&member_id, generation));
            }
            Op::Commit { client, generation } => self.commit(client, generation),
            Op::Leave { client } => {
                let client = std::mem::take(&mut self.clients[client]);
                self.send(Open::Other, leave(&[&client.member_id]));
            }
            Op::Fetch => self.fetch(),
            Op::TimePasses { ms } => self.pass(ms),
            Op::LogCatchesUp { appends } => {
                for _ in 0..appends {
                    self.append_one();
                }
            }
            Op::TakeOver { kept } => self.take_over(kept),
        }
        self.check();
    }

    fn join(&mut self, index: usize, version: i16, is_restarted: bool, speaks_both: bool) {
        if is_restarted {
            self.clients[index] = Client::default();
        }
        let mut request = join("c", &self.clients[index].member_id).version(version);
        let both: &[(&str, &[&str])] = &[("range", &["t"]), ("sticky", &["t"])];
        request = request.protocols(if speaks_both { both } else { &both[..1] });
        request.0.rebalance_timeout_ms = 9_000;
        if index >= 2 && version >= 5 {
            request = request.instance(&format!("i{index}"));
        }
        self.send(Open::Join { client: index }, request.into());
    }

    fn sync(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let tag = format!("s{}", self.s.ticket + 1);
        let is_leader = client.leader == client.member_id;
        let assignments: Vec<(String, String)> = client
            .members
            .iter()
            .filter(|_| is_leader)
            .map(|member| (member.to_string(), tag.clone()))
            .collect();
        let assignments: Vec<(&str, &str)> = assignments
            .iter()
            .map(|(member, tag)| (member.as_str(), tag.as_str()))
            .collect();
        let open = Open::Sync {
            client: index,
            generation: client.generation,
            member_id: client.member_id.clone(),
        };
        self.send(
            open,
            sync(&client.member_id, client.generation, &assignments),
        );
    }

    fn commit(&mut self, index: usize, generation: Generation) {
        let client = self.clients[index].clone();
        let generation = match generation {
            Generation::Known => client.generation,
            Generation::Former => client.generation - 1,
            Generation::None => -1,
        };
        self.next_offset += 1;
        let offset = self.next_offset;
        let may = match self.s.shard.groups.get("g") {
            None => generation < 0,
            Some(group) => {
                let described = group.described();
                let mut members = described.members.iter();
                let is_member = members.any(|member| member.member_id == client.member_id);
                let is_known = is_member && generation == group.generation_for_tests();
                match &*described.group_state {
                    "Empty" => generation < 0,
                    "CompletingRebalance" => false,
                    _ => is_known,
                }
            }
        };
        let before = self.s.log.len();
        let request = commit(&client.member_id, generation, offset);
        self.send(Open::Commit { offset }, request.into());
        assert_eq!(self.s.log.len() > before, may, "a commit of {generation}");
    }

    fn fetch(&mut self) {
        let last = self.s.log.iter().rev().find_map(|record| match record {
            GroupRecord::OffsetCommit(_, value) => {
                Some(value.as_ref().map_or(-1, |value| value.offset))
            }
            GroupRecord::GroupMetadata(..) => None,
        });
        let request = Request::OffsetFetch {
            group: OffsetFetchRequestGroup {
                group_id: "g".into(),
                ..OffsetFetchRequestGroup::default()
            },
            require_stable: true,
        };
        let known = match &self.s.shard.groups.get("g") {
            Some(group) => group.offsets.get("t", 0).map_or(-1, |at| at.offset.get()),
            None => -1,
        };
        assert_eq!(known, last.unwrap_or(-1));
        self.send(Open::Other, request);
    }

    fn send(&mut self, open: Open, request: Request) {
        self.s.ticket += 1;
        let ticket = Ticket(self.s.ticket);
        self.open.insert(ticket, open);
        let request = with_random(request, ticket.0);
        let (now, mut effects) = (self.s.now(), Vec::new());
        self.s.shard.handle(ticket, request, now, &mut effects);
        self.carry_out(effects);
    }

    fn pass(&mut self, ms: i64) {
        let end_ms = self.s.now_ms + ms;
        while let Some(at) = self.s.shard.next_deadline()
            && at.get() <= end_ms
        {
            self.s.now_ms = self.s.now_ms.max(at.get());
            let (now, mut effects) = (self.s.now(), Vec::new());
            self.s.shard.on_time(now, &mut effects);
            self.carry_out(effects);
        }
        self.s.now_ms = end_ms;
    }

    fn append_one(&mut self) {
        let Some(end) = self.held.pop_front() else {
            return;
        };
        self.committed_end = end;
        let mut effects = Vec::new();
        self.s.append(end, &mut effects);
        self.carry_out(effects);
    }

    fn take_over(&mut self, kept: usize) {
        let ends: Vec<usize> = self.held.drain(..).collect();
        let next = self.s.loading();
        let former = std::mem::replace(&mut self.s.shard, next);
        let mut effects = Vec::new();
        former.resign(Resignation::LeadershipEnded, &mut effects);
        self.carry_out(effects);
        assert!(self.open.is_empty(), "not answered: {:?}", self.open);
        let end = ends.into_iter().take(kept).next_back();
        self.committed_end = end.unwrap_or(self.committed_end);
        self.s.log.truncate(self.committed_end);
        self.s.shard = self.s.replayed();
        self.follower = self.s.loading();
        self.followed = self.s.log.len();
        // What only the lost part of the log had was told to nobody.
        let last = self
            .s
            .shard
            .groups
            .get("g")
            .map(Group::generation_for_tests);
        self.assigned_by
            .retain(|&generation, _| generation <= last.unwrap_or(-1));
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Append(records) => {
                    self.s.log.extend(records);
                    self.held.push_back(self.s.log.len());
                }
                Effect::Answer { ticket, response } => {
                    let open = self.open.remove(&ticket).expect("one answer");
                    self.answered(open, response);
                }
            }
        }
    }

    fn answered(&mut self, open: Open, response: Response) {
        let committed = &self.s.log[..self.committed_end];
        match (open, response) {
            (Open::Join { client }, Response::JoinGroup(response)) => {
                let client = &mut self.clients[client];
                match ErrorCode::from_code(response.error_code) {
                    ErrorCode::None => {
                        client.generation = response.generation_id;
                        client.leader = response.leader;
                        client.members = response
                            .members
                            .iter()
                            .map(|m| m.member_id.clone())
                            .collect();
                        client.member_id = response.member_id;
                    }
                    ErrorCode::MemberIdRequired => client.member_id = response.member_id,
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                        *client = Client::default();
                    }
                    _ => {}
                }
            }
            (
                Open::Sync {
                    client,
                    generation,
                    member_id,
                },
                Response::SyncGroup(response),
            ) => {
                if response.error_code != 0 {
                    return;
                }
                let is_kept = committed.iter().any(|record| {
                    matches!(record, GroupRecord::GroupMetadata(_, Some(value))
                        if value.generation == generation
                            && value.members.iter().any(|m| m.member_id == member_id
                                && m.assignment == response.assignment))
                });
                assert!(is_kept, "an assignment that may be lost, of {client}");
                let tag = String::from_utf8(response.assignment.to_vec()).unwrap();
                if !tag.is_empty() {
                    let known = self.assigned_by.entry(generation).or_insert(tag.clone());
                    assert_eq!(*known, tag, "two leaders of generation {generation}");
                }
            }
            (Open::Commit { offset }, Response::OffsetCommit(response)) => {
                if response.topics[0].partitions[0].error_code == 0 {
                    let is_kept = committed.iter().any(|record| {
                        matches!(record, GroupRecord::OffsetCommit(_, Some(value))
                            if value.offset == offset)
                    });
                    assert!(is_kept, "offset {offset} may be lost");
                }
            }
            (Open::Other, _) => {}
            (open, response) => panic!("{response:?} to {open:?}"),
        }
    }

    fn check(&mut self) {
        for record in &self.s.log[self.followed..] {
            let (key, value) = record.encode().unwrap();
            self.follower.replay(&key, value.as_ref(), None).unwrap();
        }
        self.followed = self.s.log.len();
        let groups = &self.s.shard.groups;
        let ids = |shard: &Shard| shard.groups.keys().cloned().collect::<Vec<_>>();
        assert_eq!(ids(&self.s.shard), ids(&self.follower));
        for (id, group) in groups {
            group.check_members();
            let replayed = &self.follower.groups[id];
            assert_eq!(group.offsets, replayed.offsets);
            if matches!(group.state_for_tests(), "Stable" | "Empty") {
                assert_eq!(group.record(), replayed.record());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_histories_keep_every_promise(ops in prop::collection::vec(any_op(), 1..160)) {
        let mut world = World::new();
        for op in ops {
            world.step(op);
        }
        world.take_over(0);
    }
}
