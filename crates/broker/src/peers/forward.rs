//! Admin requests of clients, on their way to the controller and there.
//!
//! Input: a client's request that only the controller can answer, as it came. Output: the
//! controller's response, as it came; on the controller's node the request handled as if its client
//! had connected there.
//!
//! Invariants:
//! - a client that has an answer sees its effect on the node that gave it: the answer waits until
//!   the image here is as new as the controller's was ([`APPLY_MAX`] at most);
//! - an election makes a client wait, and is not told to it (`taken.rs`);
//! - a request that may have been decided is not sent again: its client hears nothing but the end
//!   of the connection, and asks what became of it.
//!
//! Source: KIP-590 (Envelope).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skein_controller::Refusal;
use skein_metadata::Image;
use skein_net::{Body, BytesPermit, Part, Purpose, Request, RequestHead, Response, Started};
use skein_protocol::messages::envelope::{EnvelopeRequest, EnvelopeResponse};
use skein_protocol::messages::header::RequestHeader;
use skein_protocol::{ApiKey, Decoder, Encoder, Message as _, Request as ApiRequest, Str, frame};
use skein_quorum::ActiveController;
use skein_types::ErrorCode;
use tokio::time::Instant;

use self::taken::{Outcome, Way};
use super::ControllerLink;
use crate::burst::Burst;
use crate::node::Shared;
use crate::router::{self, Context};

mod taken;

/// Who the node is when it asks for itself.
const CLIENT_ID: Str = Str::from_static("skein");

/// How long the controller may take for what a client asks for, as Kafka's `request.timeout.ms`.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long an answer waits for this node's image.
const APPLY_MAX: Duration = Duration::from_secs(2);

/// Bytes of the length prefix, which an envelope's content lacks.
const LENGTH_BYTES: usize = 4;

/// Whether only the controller can answer.
pub(crate) const fn is_for_controller(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::CreatePartitions
            | ApiKey::AlterConfigs
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::ElectLeaders
            | ApiKey::UpdateFeatures
            | ApiKey::DescribeQuorum
            | ApiKey::UnregisterBroker
    )
}

/// Sends a request on to the controller; `None` if this node is it, or knows of none in time.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    context: &Context,
    body: &Bytes,
) -> Option<Started> {
    let deadline = Instant::now() + ANSWER_MAX;
    let controller = &shared.controller;
    taken::elsewhere(
        &mut controller.watch_leader(),
        controller.raft_id(),
        deadline,
    )
    .await?;
    let request_data = match enclose(&context.head, body) {
        Ok(data) => data,
        Err(reason) => return Some(Started::Close { reason }),
    };
    let envelope = EnvelopeRequest {
        request_data,
        request_principal: None,
        client_host_address: address_bytes(context),
    };
    Some(match send(shared, envelope, deadline).await? {
        Ok(answer) => relay(shared, answer).await,
        Err(refusal) => Started::Close {
            reason: format!("a request to the controller has no answer: {refusal}"),
        },
    })
}

/// Has the controller take an envelope; `None` if this node is it, or knows of none in time.
async fn send(shared: &Shared, envelope: EnvelopeRequest, deadline: Instant) -> Option<Outcome> {
    let (link, controller) = (&shared.controller_link, &shared.controller);
    let way = Envelope {
        link,
        envelope,
        deadline,
    };
    taken::until_taken(
        controller.watch_leader(),
        controller.raft_id(),
        deadline,
        &way,
    )
    .await
}

/// The way of one envelope.
struct Envelope<'a> {
    link: &'a ControllerLink,
    envelope: EnvelopeRequest,
    deadline: Instant,
}

impl Envelope<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl Way for Envelope<'_> {
    async fn reach(&self, controller: &ActiveController) -> Result<(), Refusal> {
        self.link
            .connect(controller, Purpose::Forward, self.left())
            .await
    }

    async fn ask(&self, controller: &ActiveController) -> Outcome {
        self.link
            .call(controller, Purpose::Forward, &self.envelope, self.left())
            .await
    }
}

/// Asks the controller for what a client could ask for; `None` if this node is it, or knows of
/// none. The answer to a request that may have been decided can get lost.
pub(crate) async fn ask<R: ApiRequest>(
    shared: &Arc<Shared>,
    request: &R,
) -> Option<Result<R::Response, Refusal>> {
    shared.controller_link.elsewhere()?;
    let failed = |message: String| Refusal::new(ErrorCode::UnknownServerError, message);
    let version = *R::VERSIONS.end();
    let frame = match frame::encode_request(request, version, 0, Some(&CLIENT_ID)) {
        Ok(encoded) => encoded.into_bytes().unwrap_or_default(),
        Err(error) => return Some(Err(failed(error.to_string()))),
    };
    let envelope = EnvelopeRequest {
        request_data: frame.slice(LENGTH_BYTES.min(frame.len())..),
        ..Default::default()
    };
    let answer = match send(shared, envelope, Instant::now() + ANSWER_MAX).await? {
        Ok(answer) => answer,
        Err(refusal) => return Some(Err(refusal)),
    };
    follow(shared, &answer).await;
    Some(
        match answer.response_data.filter(|_| answer.error_code == 0) {
            Some(data) => frame::decode_response::<R>(&data, version)
                .map(|(_, response)| response)
                .map_err(|error| failed(error.to_string())),
            None => {
                let code = ErrorCode::from_code(answer.error_code);
                Err(Refusal::new(
                    code,
                    "the controller did not take the request",
                ))
            }
        },
    )
}

/// Handles a request that another node has sent on.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: EnvelopeRequest,
) -> EnvelopeResponse {
    // Whoever asks waits for a controller by itself, and may know of it before this node does.
    if !shared.controller_link.is_here() {
        return refuse(ErrorCode::NotController);
    }
    let Some((api, head, body)) = disclose(&request.request_data) else {
        return refuse(ErrorCode::InvalidRequest);
    };
    let inner = Request {
        head,
        body: Body::Whole(body, BytesPermit::none()),
        received: Instant::now(),
    };
    let connection = &context.connection;
    match router::route(shared, connection, &Burst::default(), api, inner).await {
        Started::Answered(response) => EnvelopeResponse {
            response_data: Some(bytes_of(&response)),
            applied_index: i64::try_from(applied(&shared.image())).unwrap_or(i64::MAX),
            ..Default::default()
        },
        Started::Close { reason } => {
            tracing::info!(%api, reason, "a forwarded request cannot be answered");
            refuse(ErrorCode::InvalidRequest)
        }
        // None of them is.
        Started::Later(_) | Started::Concurrent(_) => refuse(ErrorCode::UnknownServerError),
    }
}

/// Why a forwarded request was not handled.
pub(super) fn refuse(code: ErrorCode) -> EnvelopeResponse {
    EnvelopeResponse {
        error_code: code.code(),
        ..Default::default()
    }
}

/// The client's request with its header, without a length prefix.
fn enclose(head: &RequestHead, body: &Bytes) -> Result<Bytes, String> {
    let Some(api) = ApiKey::from_i16(head.api_key) else {
        return Err("an unknown API".to_owned());
    };
    let header = RequestHeader {
        request_api_key: head.api_key,
        request_api_version: head.api_version,
        correlation_id: head.correlation_id,
        client_id: head.client_id.as_deref().map(|id| Str::from(id.to_owned())),
    };
    let mut e = Encoder::new();
    header
        .encode(&mut e, api.request_header_version(head.api_version))
        .map_err(|error| format!("cannot forward {api}: {error}"))?;
    let header = e.finish().into_bytes().unwrap_or_default();
    Ok(Bytes::from([&header[..], &body[..]].concat()))
}

/// The way back from [`enclose`], for an API that may be forwarded.
fn disclose(data: &Bytes) -> Option<(ApiKey, RequestHead, Bytes)> {
    let mut d = Decoder::new(data);
    let header = frame::decode_request_header(&mut d).ok()?;
    let api = ApiKey::from_i16(header.request_api_key).filter(|api| is_for_controller(*api))?;
    if !api.versions().contains(&header.request_api_version) {
        return None;
    }
    let head = RequestHead {
        api_key: header.request_api_key,
        api_version: header.request_api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(|id| Arc::from(id.as_str())),
    };
    Some((api, head, data.slice(d.position()..)))
}

/// Waits until this node's image is as new as the controller's was when it answered.
async fn follow(shared: &Shared, answer: &EnvelopeResponse) {
    let index = u64::try_from(answer.applied_index).unwrap_or(0);
    let mut images = shared.controller.subscribe();
    let is_new = |image: &Arc<Image>| applied(image) >= index;
    // A node that is cut off from the quorum answers all the same.
    let _ = tokio::time::timeout(APPLY_MAX, images.wait_for(is_new)).await;
}

async fn relay(shared: &Arc<Shared>, answer: EnvelopeResponse) -> Started {
    follow(shared, &answer).await;
    let Some(data) = answer.response_data.filter(|_| answer.error_code == 0) else {
        let code = ErrorCode::from_code(answer.error_code);
        return Started::Close {
            reason: format!("the controller answers a forwarded request with {code}"),
        };
    };
    match u32::try_from(data.len()) {
        Ok(length) => {
            let mut response = Response::from_bytes(Bytes::copy_from_slice(&length.to_be_bytes()));
            response.parts.push(Part::Bytes(data));
            Started::Answered(response)
        }
        Err(_) => Started::Close {
            reason: "the controller's answer is too long".to_owned(),
        },
    }
}

/// A response that is all in memory, without its length prefix.
fn bytes_of(response: &Response) -> Bytes {
    let in_memory = |part: &Part| match part {
        Part::Bytes(bytes) => bytes.clone(),
        Part::File(_) => Bytes::new(), // no answer of the controller has one
    };
    let parts: Vec<Bytes> = response.parts.iter().map(in_memory).collect();
    let mut frame = Bytes::from(parts.concat());
    frame.split_off(LENGTH_BYTES.min(frame.len()))
}

fn applied(image: &Image) -> u64 {
    image.last_applied().map_or(0, |id| id.index)
}

/// The client's address as Kafka sends it: 4 or 16 bytes.
fn address_bytes(context: &Context) -> Bytes {
    match context.connection.peer.ip() {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    }
}

#[cfg(test)]
mod tests;
