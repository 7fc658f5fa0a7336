//! A heartbeat of a member allocates nothing: ten thousand of them send one every few seconds.
//!
//! Input: a group with a member, heartbeats. Output: how often the allocator was asked.
//!
//! Invariant: only the thread of the test is counted; the harness has others.
//!
//! Source: none.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use allocation_counter::measure;
use bytes::Bytes;
use skein_config::BrokerConfig;
use skein_coordinator::{Effect, Joiner, Request, Response, Shard};
use skein_protocol::Str;
use skein_protocol::messages::heartbeat::HeartbeatRequest;
use skein_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use skein_protocol::messages::sync_group::SyncGroupRequest;
use skein_types::{Millis, Now, Offset, Ticket, Uuid};

const ROUNDS: i64 = 1_000;

/// A shard whose log is always committed, and the time.
struct Coordinator {
    shard: Shard,
    now_ms: i64,
    end: i64,
    effects: Vec<Effect>,
}

impl Coordinator {
    fn now(&self) -> Now {
        Now {
            time_of_day: Millis(self.now_ms),
            monotonic: Millis(self.now_ms),
        }
    }

    /// Asks, and carries out what is ordered; the answer, if it has come.
    fn ask(&mut self, request: Request) -> Option<Response> {
        let now = self.now();
        self.shard
            .handle(Ticket(0), request, now, &mut self.effects);
        self.answer()
    }

    fn answer(&mut self) -> Option<Response> {
        let mut answer = None;
        let mut more = Vec::new();
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Answer { response, .. } => answer = Some(response),
                Effect::Append(records) => {
                    self.end += i64::try_from(records.len()).unwrap();
                    self.shard.on_appended(Offset(self.end), &mut more);
                }
            }
        }
        let now = self.now();
        self.shard
            .on_high_watermark(Offset(self.end), now, &mut more);
        for effect in more {
            if let Effect::Answer { response, .. } = effect {
                answer = Some(response);
            }
        }
        answer
    }
}

/// A group of one, and who that is.
fn with_a_member() -> (Coordinator, Str) {
    let config = BrokerConfig::default();
    let mut coordinator = Coordinator {
        shard: Shard::new(Arc::clone(&config.group), Arc::clone(&config.offsets)),
        now_ms: 0,
        end: 0,
        effects: Vec::new(),
    };
    let now = coordinator.now();
    coordinator
        .shard
        .loaded(Offset(0), now, &mut coordinator.effects);
    let join = JoinGroupRequest {
        group_id: "group".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::new(),
        }],
        ..JoinGroupRequest::default()
    };
    let joiner = Joiner {
        version: 3,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        random: Uuid([7; 16]),
    };
    let mut joined = coordinator.ask(Request::JoinGroup(join, joiner));
    while joined.is_none() {
        coordinator.now_ms += 1_000;
        let now = coordinator.now();
        coordinator.shard.on_time(now, &mut coordinator.effects);
        joined = coordinator.answer();
    }
    let Some(Response::JoinGroup(joined)) = joined else {
        panic!("{joined:?}");
    };
    let sync = SyncGroupRequest {
        group_id: "group".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..SyncGroupRequest::default()
    };
    let synced = coordinator.ask(Request::SyncGroup(sync));
    assert!(matches!(synced, Some(Response::SyncGroup(synced)) if synced.error_code == 0));
    (coordinator, joined.member_id)
}

#[test]
fn a_heartbeat_allocates_nothing() {
    let (mut coordinator, member_id) = with_a_member();
    let heartbeat = || {
        Request::Heartbeat(HeartbeatRequest {
            group_id: "group".into(),
            generation_id: 1,
            member_id: member_id.clone(),
            ..HeartbeatRequest::default()
        })
    };
    let mut requests: Vec<Request> = (0..=ROUNDS).map(|_| heartbeat()).collect();
    let first = requests.pop().unwrap();
    assert!(coordinator.ask(first).is_some());
    let mut good = 0;
    let counted = measure(|| {
        for request in requests {
            coordinator.now_ms += 3_000;
            if let Some(Response::Heartbeat(response)) = coordinator.ask(request) {
                good += i64::from(response.error_code == 0);
            }
        }
    });
    assert_eq!((good, counted.count_total), (ROUNDS, 0));

    // The counter counts: the deadline of a session that has ended is queued anew.
    let now = coordinator.now();
    let counted = measure(|| coordinator.shard.on_time(now, &mut coordinator.effects));
    assert!(counted.count_total > 0, "nothing is counted");
}
