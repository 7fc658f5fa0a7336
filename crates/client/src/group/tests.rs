//! A member against a broker that the test plays, in the simulated world.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use skein_env::sim::SimWorld;
use skein_env::{Env, Lane, Stream};
use skein_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use skein_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use skein_protocol::messages::find_coordinator::FindCoordinatorResponse;
use skein_protocol::messages::header::RequestHeader;
use skein_protocol::messages::heartbeat::HeartbeatResponse;
use skein_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use skein_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use skein_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use skein_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchResponse, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use skein_protocol::{ApiKey, Decoder, Message, Records, Str, frame};
use skein_record::{BatchBuilder, Codec};
use skein_types::Millis;
use tokio::time::sleep;

use super::*;
use crate::client::Client;
use crate::options::ClientOptions;

const PORT: u16 = 9092;
const TOPIC: &str = "t";
/// What the coordinator calls every member that has no id yet.
const MEMBER: &str = "m";

/// What the broker speaks, up to versions that name topics.
const SERVED: [(ApiKey, i16); 10] = [
    (ApiKey::ApiVersions, 3),
    (ApiKey::Metadata, 9),
    (ApiKey::FindCoordinator, 3),
    (ApiKey::JoinGroup, 5),
    (ApiKey::SyncGroup, 3),
    (ApiKey::Heartbeat, 3),
    (ApiKey::LeaveGroup, 3),
    (ApiKey::OffsetCommit, 8),
    (ApiKey::OffsetFetch, 7),
    (ApiKey::Fetch, 12),
];

/// A broker with one partition and one record, and one group with one member.
#[derive(Default)]
struct Script {
    /// The member ids with which it was asked to join, and to leave.
    joins: Vec<String>,
    leaves: Vec<String>,
    generation_id: i32,
    /// Answers to heartbeats, and to SyncGroup, before all is well.
    heartbeats: VecDeque<ErrorCode>,
    syncs: VecDeque<ErrorCode>,
    /// Answer to commits.
    commit: ErrorCode,
}

type Shared = Arc<Mutex<Script>>;

fn body<M: Message>(d: &mut Decoder<'_>, header: &RequestHeader) -> M {
    M::decode(d, header.request_api_version).unwrap()
}

fn encoded(api: ApiKey, header: &RequestHeader, response: &impl Message) -> Bytes {
    let (version, id) = (header.request_api_version, header.correlation_id);
    let encoded = frame::encode_response(api, version, id, response).unwrap();
    encoded.into_bytes().unwrap()
}

/// The answer to one request.
async fn answer(script: &Shared, request: &Bytes) -> Bytes {
    let mut d = Decoder::new(request);
    let header = frame::decode_request_header(&mut d).unwrap();
    let api = ApiKey::from_i16(header.request_api_key).unwrap();
    match api {
        ApiKey::ApiVersions => encoded(api, &header, &versions()),
        ApiKey::Metadata => encoded(api, &header, &metadata(&body(&mut d, &header))),
        ApiKey::FindCoordinator => {
            let response = FindCoordinatorResponse {
                node_id: 1,
                ..Default::default()
            };
            encoded(api, &header, &response)
        }
        ApiKey::JoinGroup => encoded(api, &header, &join(script, &body(&mut d, &header))),
        ApiKey::SyncGroup => encoded(api, &header, &sync(script, &body(&mut d, &header))),
        ApiKey::Heartbeat => {
            let code = script.lock().heartbeats.pop_front().unwrap_or_default();
            let response = HeartbeatResponse {
                error_code: code.code(),
                ..Default::default()
            };
            encoded(api, &header, &response)
        }
        ApiKey::LeaveGroup => {
            let request: LeaveGroupRequest = body(&mut d, &header);
            let ids = request.members.iter();
            let ids = ids.map(|member| member.member_id.to_string());
            script.lock().leaves.extend(ids);
            encoded(api, &header, &LeaveGroupResponse::default())
        }
        ApiKey::OffsetCommit => {
            let code = script.lock().commit;
            encoded(api, &header, &committed(&body(&mut d, &header), code))
        }
        ApiKey::OffsetFetch => encoded(api, &header, &offsets(&body(&mut d, &header))),
        _ => encoded(api, &header, &fetched(&body(&mut d, &header)).await),
    }
}

fn versions() -> ApiVersionsResponse {
    let served = SERVED.iter().map(|(api, max_version)| ApiVersion {
        api_key: api.code(),
        min_version: *api.versions().start(),
        max_version: *max_version,
    });
    ApiVersionsResponse {
        api_keys: served.collect(),
        ..Default::default()
    }
}

fn metadata(request: &MetadataRequest) -> MetadataResponse {
    let topics = request.topics.iter().flatten();
    let topics = topics.map(|topic| MetadataResponseTopic {
        name: topic.name.clone(),
        partitions: vec![MetadataResponsePartition {
            leader_id: 1,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        }],
        ..Default::default()
    });
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: "broker".into(),
            port: i32::from(PORT),
            ..Default::default()
        }],
        topics: topics.collect(),
        ..Default::default()
    }
}

fn join(script: &Shared, request: &JoinGroupRequest) -> JoinGroupResponse {
    let mut script = script.lock();
    script.joins.push(request.member_id.to_string());
    script.generation_id += 1;
    let id = if request.member_id.is_empty() {
        Str::from_static(MEMBER)
    } else {
        request.member_id.clone()
    };
    let protocol = &request.protocols[0];
    JoinGroupResponse {
        generation_id: script.generation_id,
        protocol_name: Some(protocol.name.clone()),
        leader: id.clone(),
        member_id: id.clone(),
        members: vec![JoinGroupResponseMember {
            member_id: id,
            metadata: protocol.metadata.clone(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn sync(script: &Shared, request: &SyncGroupRequest) -> SyncGroupResponse {
    let code = script.lock().syncs.pop_front().unwrap_or_default();
    SyncGroupResponse {
        error_code: code.code(),
        assignment: request.assignments[0].assignment.clone(),
        ..Default::default()
    }
}

fn committed(request: &OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        partitions: vec![OffsetCommitResponsePartition {
            error_code: code.code(),
            ..Default::default()
        }],
        ..Default::default()
    });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

/// Nothing is committed but the start.
fn offsets(request: &OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.iter().flatten();
    let topics = topics.map(|topic| OffsetFetchResponseTopic {
        name: topic.name.clone(),
        partitions: vec![OffsetFetchResponsePartition::default()],
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

async fn fetched(request: &FetchRequest) -> FetchResponse {
    let offset = request.topics[0].partitions[0].fetch_offset;
    let mut records = Bytes::new();
    if offset == 0 {
        let mut builder = BatchBuilder::new(Codec::None);
        builder
            .append(Millis(1), None, Some(b"first"), &[])
            .unwrap();
        records = Bytes::copy_from_slice(builder.build().unwrap().as_slice());
    } else {
        sleep(Duration::from_millis(
            request.max_wait_ms.unsigned_abs().into(),
        ))
        .await;
    }
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: request.topics[0].topic.clone(),
            partitions: vec![PartitionData {
                high_watermark: 1,
                last_stable_offset: 1,
                records: Some(Records::Bytes(records)),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Answers the requests of one connection, one after the other.
async fn serve(script: Shared, mut stream: Box<dyn Stream>) {
    let mut buffer = BytesMut::new();
    loop {
        let length = buffer.get(..4).map(|length| length.try_into().unwrap());
        let length = length.map_or(4, |length| 4 + u32::from_be_bytes(length) as usize);
        if buffer.len() < length || length == 4 {
            buffer.reserve(4096);
            let read = poll_fn(|context| stream.poll_read(context, &mut buffer, 4096)).await;
            if !read.is_ok_and(|count| count > 0) {
                return;
            }
            continue;
        }
        let request = buffer.split_to(length).split_off(4).freeze();
        let mut answer = answer(&script, &request).await;
        while !answer.is_empty() {
            let pieces = [IoSlice::new(&answer)];
            let Ok(count) = poll_fn(|context| stream.poll_write(context, &pieces, false)).await
            else {
                return;
            };
            answer = answer.slice(count..);
        }
    }
}

/// Starts the broker.
fn start(world: &SimWorld) -> Shared {
    let script = Shared::default();
    let env = world.node("broker");
    let address = SocketAddr::new(world.address("broker"), PORT);
    let mut listener = env.net.bind(address).unwrap();
    let (accepting, of_connections) = (Arc::clone(&script), env.clone());
    let accept = async move {
        loop {
            let (stream, _) = poll_fn(|context| listener.poll_accept(context))
                .await
                .unwrap();
            let connection = serve(Arc::clone(&accepting), stream);
            let spawn = &of_connections.spawn;
            spawn.spawn(Lane::Data, "connection", Box::pin(connection));
        }
    };
    env.spawn.spawn(Lane::Data, "accept", Box::pin(accept));
    script
}

/// A member that has read the only record.
async fn member(env: Env, options: GroupOptions) -> GroupConsumer {
    let bootstrap = format!("broker:{PORT}");
    let client = Client::connect(env, &bootstrap, ClientOptions::default());
    let client = client.await.unwrap();
    let mut member = client
        .group_consumer(options, ConsumerOptions::default())
        .unwrap();
    let records = member.poll(10, Duration::from_secs(5)).await.unwrap();
    assert_eq!(records.len(), 1, "{:?}", member.last_failure());
    member
}

const POLL_INTERVAL_MAX: Duration = Duration::from_secs(10);

fn options() -> GroupOptions {
    GroupOptions {
        group_id: "g".into(),
        topics: [TopicName::new(TOPIC).unwrap()].into(),
        heartbeat_interval: Duration::from_secs(1),
        max_poll_interval: POLL_INTERVAL_MAX,
        ..GroupOptions::default()
    }
}

fn run<F: Future<Output = ()>>(test: impl FnOnce(Env, Shared) -> F) {
    let world = SimWorld::new(1);
    let script = start(&world);
    let env = world.node("client");
    world.block_on(test(env, script));
}

#[test]
fn a_member_that_cannot_commit_does_not_hold_up_the_others() {
    run(|env, script| async move {
        let mut member = member(env, options()).await;
        {
            let mut script = script.lock();
            script.commit = ErrorCode::UnknownTopicOrPartition;
            script.heartbeats.push_back(ErrorCode::RebalanceInProgress);
        }
        for _ in 0..5 {
            // That a commit failed is told, and the next poll goes on.
            member.poll(10, Duration::from_secs(1)).await.unwrap();
        }
        assert_eq!(script.lock().joins, ["", MEMBER]);
        assert!(member.assignment().is_some());
    });
}

#[test]
fn a_program_that_stays_away_leaves_unless_it_is_a_static_member() {
    for instance_id in [None, Some("i".to_owned())] {
        let is_static = instance_id.is_some();
        run(|env, script| async move {
            let options = GroupOptions {
                instance_id,
                ..options()
            };
            let mut member = member(env, options).await;
            sleep(2 * POLL_INTERVAL_MAX).await;
            let left: &[&str] = if is_static { &[] } else { &[MEMBER] };
            assert_eq!(script.lock().leaves, left);
            member.poll(10, Duration::from_secs(1)).await.unwrap();
            assert_eq!(script.lock().joins, ["", ""], "it joins anew");
        });
    }
}

#[test]
fn a_poll_may_take_longer_than_a_program_may_stay_away() {
    run(|env, script| async move {
        let mut member = member(env, options()).await;
        let begun = Instant::now();
        let timeout = 5 * POLL_INTERVAL_MAX;
        let records = member.poll(10, timeout).await.unwrap();
        assert_eq!(records.len(), 0);
        assert!(begun.elapsed() >= timeout);
        let script = script.lock();
        assert_eq!((&script.leaves[..], script.joins.len()), (&[][..], 1));
    });
}

#[test]
fn a_member_of_another_generation_stays_the_member_that_it_is() {
    run(|env, script| async move {
        script.lock().syncs.push_back(ErrorCode::IllegalGeneration);
        member(env, options()).await;
        assert_eq!(script.lock().joins, ["", MEMBER]);
    });
    run(|env, script| async move {
        script.lock().syncs.push_back(ErrorCode::UnknownMemberId);
        member(env, options()).await;
        assert_eq!(script.lock().joins, ["", ""]);
    });
}
