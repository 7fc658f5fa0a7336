//! From a request to its handler: the only `match` on the API.
//!
//! Input: an API, and a body whole or streamed. Output: what the handler said, encoded in the version
//! that was asked.
//!
//! Invariant: every API of `apis::SERVED` has an arm, and no other arm is reached: `apis::admit` comes
//! first.
//!
//! Source: none.

use std::sync::Arc;

use bytes::Bytes;
use skein_net::{Body, ConnectionInfo, FileRange, Part, Request, RequestHead, Response, Started};
use skein_protocol::{ApiKey, Decoder, Encoded, Message, Request as ApiRequest, frame};
use smallvec::SmallVec;

use crate::handlers;
use crate::node::Shared;

/// What a handler knows of its request beside the body.
#[derive(Clone)]
pub(crate) struct Context {
    /// Its header.
    pub(crate) head: RequestHead,
    /// Its connection.
    pub(crate) connection: Arc<ConnectionInfo>,
}

/// Starts a request.
pub(crate) async fn route(
    shared: &Arc<Shared>,
    connection: &Arc<ConnectionInfo>,
    api: ApiKey,
    request: Request<'_>,
) -> Started {
    let context = Context { head: request.head, connection: Arc::clone(connection) };
    let bytes = match request.body {
        Body::Stream(body) => return handlers::produce::start(shared, &context, body).await,
        // The bytes in flight are given back when the request has been started.
        Body::Whole(bytes, _permit) => bytes,
    };
    match api {
        ApiKey::Fetch => handlers::fetch::start(shared, &context, &bytes).await,
        ApiKey::ListOffsets => {
            answer(shared, &context, &bytes, handlers::list_offsets::handle).await
        }
        ApiKey::Metadata => answer(shared, &context, &bytes, handlers::metadata::handle).await,
        ApiKey::ApiVersions => handlers::api_versions::start(shared, &context, &bytes),
        ApiKey::CreateTopics => {
            answer(shared, &context, &bytes, handlers::create_topics::handle).await
        }
        ApiKey::DeleteTopics => {
            answer(shared, &context, &bytes, handlers::delete_topics::handle).await
        }
        ApiKey::DeleteRecords => {
            answer(shared, &context, &bytes, handlers::delete_records::handle).await
        }
        ApiKey::InitProducerId => {
            answer(shared, &context, &bytes, handlers::init_producer_id::handle).await
        }
        ApiKey::OffsetForLeaderEpoch => {
            answer(shared, &context, &bytes, handlers::offset_for_leader_epoch::handle).await
        }
        ApiKey::DescribeConfigs => {
            answer(shared, &context, &bytes, handlers::describe_configs::handle).await
        }
        ApiKey::CreatePartitions => {
            answer(shared, &context, &bytes, handlers::create_partitions::handle).await
        }
        ApiKey::IncrementalAlterConfigs => {
            answer(shared, &context, &bytes, handlers::incremental_alter_configs::handle).await
        }
        ApiKey::DescribeCluster => {
            answer(shared, &context, &bytes, handlers::describe_cluster::handle).await
        }
        ApiKey::DescribeTopicPartitions => {
            answer(shared, &context, &bytes, handlers::describe_topic_partitions::handle).await
        }
        _ => Started::Close { reason: format!("{api} has no handler") },
    }
}

/// Decodes, handles, encodes.
async fn answer<R, H>(
    shared: &Arc<Shared>,
    context: &Context,
    bytes: &Bytes,
    handler: H,
) -> Started
where
    R: ApiRequest,
    H: AsyncFnOnce(&Arc<Shared>, &Context, R) -> R::Response,
{
    match decode::<R>(context, bytes) {
        Ok(request) => encode::<R>(context, &handler(shared, context, request).await),
        Err(reason) => Started::Close { reason },
    }
}

/// Decodes a whole body; the error is for the log. Bytes behind the message are let pass, as Kafka lets
/// them pass: librdkafka leaves some behind a Metadata request.
pub(crate) fn decode<R: ApiRequest>(context: &Context, bytes: &Bytes) -> Result<R, String> {
    R::decode(&mut Decoder::new(bytes), context.head.api_version)
        .map_err(|error| format!("a malformed {} request: {error}", R::KEY))
}

fn encode<R: ApiRequest>(context: &Context, response: &R::Response) -> Started {
    match encode_response(R::KEY, context, response, &mut Vec::new()) {
        Ok(response) => Started::Answered(response),
        Err(reason) => Started::Close { reason },
    }
}

/// Encodes a response whose external records are `ranges`, by their slots; the error is for the log.
pub(crate) fn encode_response<M: Message>(
    api: ApiKey,
    context: &Context,
    response: &M,
    ranges: &mut Vec<FileRange>,
) -> Result<Response, String> {
    let head = &context.head;
    let encoded = frame::encode_response(api, head.api_version, head.correlation_id, response)
        .map_err(|error| format!("cannot encode the response of {api}: {error}"))?;
    Ok(to_response(&encoded, ranges))
}

/// The parts of an encoded frame, with the ranges of files in their places.
pub(crate) fn to_response(encoded: &Encoded, ranges: &mut Vec<FileRange>) -> Response {
    let parts: SmallVec<[Part; 2]> = encoded
        .parts()
        .filter_map(|part| match part {
            skein_protocol::Part::Bytes(bytes) => Some(Part::Bytes(bytes)),
            skein_protocol::Part::External { slot, .. } => {
                ranges.get(slot as usize).cloned().map(Part::File)
            }
        })
        .collect();
    Response { parts }
}
