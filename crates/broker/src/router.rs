//! From a request to its handler: the only `match` on the API.
//!
//! Input: an API, and a body whole or streamed. Output: what the handler said, encoded in the
//! version that was asked.
//!
//! Invariant: every API of `apis::SERVED` has an arm, and no other arm is reached: `apis::admit`
//! comes first.
//!
//! Source: none.

use std::sync::Arc;

use bytes::Bytes;
use skein_net::{Body, Part, Request, RequestHead, Response, Started};
use skein_protocol::{ApiKey, Decoder, Encoded, Message, Request as ApiRequest, frame};
use smallvec::SmallVec;

use crate::burst::Burst;
use crate::handlers;
use crate::node::Shared;
use crate::peers::forward;
use crate::session::ClientConnection;

/// Records of one partition in a response: mostly one range of a file.
pub(crate) type Pieces = SmallVec<[Part; 1]>;

/// What a handler knows of its request beside the body.
#[derive(Clone)]
pub(crate) struct Context {
    /// Its header.
    pub(crate) head: RequestHead,
    /// Its connection.
    pub(crate) connection: Arc<ClientConnection>,
}

/// Starts a request.
pub(crate) async fn route(
    shared: &Arc<Shared>,
    connection: &Arc<ClientConnection>,
    burst: &Burst,
    api: ApiKey,
    request: Request<'_>,
) -> Started {
    let context = Context {
        head: request.head,
        connection: Arc::clone(connection),
    };
    // The bytes in flight are given back when the request has been started.
    let (bytes, _permit) = match request.body {
        Body::Stream(body) => {
            return handlers::produce::start(shared, &context, burst, body).await;
        }
        Body::Whole(bytes, permit) => (bytes, permit),
    };
    burst.all().await;
    macro_rules! whole {
        ($handler:ident) => {
            answer(shared, &context, &bytes, handlers::$handler::handle).await
        };
    }
    if forward::is_for_controller(api)
        && let Some(started) = forward::forward(shared, &context, &bytes).await
    {
        return started;
    }
    match api {
        ApiKey::Fetch => handlers::fetch::start(shared, &context, &bytes).await,
        ApiKey::ListOffsets => whole!(list_offsets),
        ApiKey::Metadata => whole!(metadata),
        ApiKey::OffsetCommit => whole!(offset_commit),
        ApiKey::OffsetFetch => whole!(offset_fetch),
        ApiKey::FindCoordinator => whole!(find_coordinator),
        ApiKey::JoinGroup => whole!(join_group),
        ApiKey::Heartbeat => whole!(heartbeat),
        ApiKey::LeaveGroup => whole!(leave_group),
        ApiKey::SyncGroup => whole!(sync_group),
        ApiKey::DescribeGroups => whole!(describe_groups),
        ApiKey::ListGroups => whole!(list_groups),
        ApiKey::ApiVersions => handlers::api_versions::start(shared, &context, &bytes),
        ApiKey::CreateTopics => whole!(create_topics),
        ApiKey::DeleteTopics => whole!(delete_topics),
        ApiKey::DeleteRecords => whole!(delete_records),
        ApiKey::InitProducerId => whole!(init_producer_id),
        ApiKey::OffsetForLeaderEpoch => whole!(offset_for_leader_epoch),
        ApiKey::DescribeConfigs => whole!(describe_configs),
        ApiKey::AlterConfigs => whole!(alter_configs),
        ApiKey::DescribeLogDirs => whole!(describe_log_dirs),
        ApiKey::CreatePartitions => whole!(create_partitions),
        ApiKey::DeleteGroups => whole!(delete_groups),
        ApiKey::ElectLeaders => whole!(elect_leaders),
        ApiKey::IncrementalAlterConfigs => whole!(incremental_alter_configs),
        ApiKey::OffsetDelete => whole!(offset_delete),
        ApiKey::DescribeQuorum => whole!(describe_quorum),
        ApiKey::UpdateFeatures => whole!(update_features),
        ApiKey::DescribeCluster => whole!(describe_cluster),
        ApiKey::UnregisterBroker => whole!(unregister_broker),
        ApiKey::DescribeProducers => whole!(describe_producers),
        ApiKey::ListConfigResources => whole!(list_config_resources),
        ApiKey::DescribeTopicPartitions => whole!(describe_topic_partitions),
        _ => Started::Close {
            reason: format!("{api} has no handler"),
        },
    }
}

/// Decodes, handles, encodes.
async fn answer<R, H>(shared: &Arc<Shared>, context: &Context, bytes: &Bytes, handler: H) -> Started
where
    R: ApiRequest,
    H: AsyncFnOnce(&Arc<Shared>, &Context, R) -> R::Response,
{
    match decode::<R>(context, bytes) {
        Ok(request) => encode::<R>(context, &handler(shared, context, request).await),
        Err(reason) => Started::Close { reason },
    }
}

/// Decodes a whole body; the error is for the log. Bytes behind the message are let pass, as Kafka
/// lets them pass: librdkafka leaves some behind a Metadata request.
pub(crate) fn decode<R: ApiRequest>(context: &Context, bytes: &Bytes) -> Result<R, String> {
    R::decode(&mut Decoder::new(bytes), context.head.api_version)
        .map_err(|error| format!("a malformed {} request: {error}", R::KEY))
}

fn encode<R: ApiRequest>(context: &Context, response: &R::Response) -> Started {
    match encode_response(R::KEY, context, response, &[]) {
        Ok(response) => Started::Answered(response),
        Err(reason) => Started::Close { reason },
    }
}

/// Encodes a response whose external records are `pieces`, by their slots, and counts the errors
/// that it tells; the error here is for the log.
pub(crate) fn encode_response<M: Message>(
    api: ApiKey,
    context: &Context,
    response: &M,
    pieces: &[Pieces],
) -> Result<Response, String> {
    let head = &context.head;
    context.connection.metrics.errors_in(api, response);
    let encoded = frame::encode_response(api, head.api_version, head.correlation_id, response)
        .map_err(|error| format!("cannot encode the response of {api}: {error}"))?;
    Ok(to_response(&encoded, pieces))
}

/// The parts of an encoded frame, with the pieces of records in their places.
fn to_response(encoded: &Encoded, pieces: &[Pieces]) -> Response {
    let mut parts = SmallVec::new();
    for part in encoded.parts() {
        match part {
            skein_protocol::Part::Bytes(bytes) => parts.push(Part::Bytes(bytes)),
            skein_protocol::Part::External { slot, .. } => {
                parts.extend(pieces.get(slot as usize).into_iter().flatten().cloned());
            }
        }
    }
    Response { parts }
}
