//! What a node does for its peers.
//!
//! Input: requests of nodes that have proved to belong to the cluster. Output: their answers.
//!
//! ```text
//!   QuorumRpc ──────────────────────────► PeerAnswers   from the first moment on: nodes that look
//!                                                       for their cluster ask each other
//!   BrokerRegistration, BrokerHeartbeat,
//!   AllocateProducerIds, AlterPartition,
//!   ReplicasOffline, ReportLogEnds ─────► Controller    once the cluster is found
//!   Envelope ───────────────────────────► router        once this node is a broker
//!   Fetch, ListOffsets, ReplicasFlushed ► replicas      as clients, but to the end of the log
//!   HastenFetch ────────────────────────► the Fetch that waits before it
//! ```
//!
//! Invariants:
//! - what comes too early is told so (NOT_CONTROLLER, BROKER_NOT_AVAILABLE): its sender asks again;
//! - requests of one connection are answered in their order, and what takes time begins when those
//!   before it are answered; only a Fetch, and what hastens it, begin at once.
//!
//! Source: KIP-631 (the controller's listener), KIP-590.

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use skein_controller::{
    AllocateProducerIds, AlterPartition, Heartbeat, Refusal, RegisterBroker, ReplicasOffline,
    ReportLogEnds,
};
use skein_env::BoxFuture;
use skein_net::{
    Admission, Body, ConnectionInfo, Request, RequestHead, Response, Service, Session, Started,
};
use skein_partition::{Event, FollowerFlush};
use skein_protocol::messages::envelope::EnvelopeRequest;
use skein_protocol::messages::hasten_fetch::{HastenFetchRequest, HastenFetchResponse};
use skein_protocol::messages::list_offsets::ListOffsetsRequest;
use skein_protocol::messages::quorum_rpc::{QuorumRpcRequest, QuorumRpcResponse};
use skein_protocol::messages::replicas_flushed::{ReplicasFlushedRequest, ReplicasFlushedResponse};
use skein_protocol::{ApiKey, Decoder, Message, Request as ApiRequest, frame};
use skein_quorum::{Controller, PeerAnswers};
use skein_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionIndex};

use super::{ControllerCall, forward};
use crate::cold_reads::ColdReader;
use crate::handlers::{fetch, list_offsets};
use crate::node::Shared;
use crate::router::Context;
use crate::session::ClientConnection;

/// What is served, in which versions; the handshake tells it.
const SERVED: &[(ApiKey, RangeInclusive<i16>)] = &[
    (ApiKey::Fetch, 16..=18),
    (ApiKey::ListOffsets, 7..=9),
    (ApiKey::AlterPartition, 3..=3),
    (ApiKey::Envelope, 0..=0),
    (ApiKey::BrokerRegistration, 0..=4),
    (ApiKey::BrokerHeartbeat, 0..=1),
    (ApiKey::AllocateProducerIds, 0..=0),
    (ApiKey::QuorumRpc, 0..=0),
    (ApiKey::ReplicasOffline, 0..=0),
    (ApiKey::ReplicasFlushed, 0..=0),
    (ApiKey::ReportLogEnds, 0..=0),
    (ApiKey::HastenFetch, 0..=0),
];

/// Who came too early.
const NO_BROKER: &str = "this node is no broker yet";

/// Serves the peers of a node. Cheap to clone; all clones are the same node's.
#[derive(Clone)]
pub(crate) struct PeerService {
    node: Arc<NodeSoFar>,
}

/// What there is of the node, which grows while it starts.
struct NodeSoFar {
    quorum: PeerAnswers,
    controller: OnceLock<Controller>,
    shared: OnceLock<Arc<Shared>>,
}

struct PeerSession {
    node: Arc<NodeSoFar>,
    info: ConnectionInfo,
}

impl PeerService {
    pub(crate) fn new(quorum: PeerAnswers) -> Self {
        let node = NodeSoFar {
            quorum,
            controller: OnceLock::new(),
            shared: OnceLock::new(),
        };
        Self {
            node: Arc::new(node),
        }
    }

    /// The APIs, for the handshake.
    pub(crate) fn apis() -> Vec<(ApiKey, RangeInclusive<i16>)> {
        SERVED.to_vec()
    }

    /// The node belongs to a cluster.
    pub(crate) fn has_controller(&self, controller: Controller) {
        // It is told once.
        let _ = self.node.controller.set(controller);
    }

    /// The node is a broker.
    pub(crate) fn is_broker(&self, shared: Arc<Shared>) {
        // It is told once.
        let _ = self.node.shared.set(shared);
    }
}

impl Service for PeerService {
    fn open(&self, info: ConnectionInfo) -> Box<dyn Session> {
        let node = Arc::clone(&self.node);
        Box::new(PeerSession { node, info })
    }
}

impl Session for PeerSession {
    fn admit(&self, api_key: i16, api_version: i16) -> Admission {
        let served = |(api, versions): &&(ApiKey, RangeInclusive<i16>)| {
            api.code() == api_key && versions.contains(&api_version)
        };
        match SERVED.iter().find(served) {
            Some((api, _)) => Admission::Pipelined {
                header_version: api.request_header_version(api_version),
            },
            None => Admission::Refused {
                reason: "an API or version that peers are not served",
            },
        }
    }

    fn start<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Started> {
        Box::pin(async move {
            let (body, permit) = match request.body {
                Body::Whole(bytes, permit) => (bytes, permit),
                Body::Stream(_) => {
                    return Started::Close {
                        reason: "no request of a peer is streamed".to_owned(),
                    };
                }
            };
            let (node, info, head) = (Arc::clone(&self.node), self.info.clone(), request.head);
            if head.api_key == ApiKey::Fetch.code() {
                return node.fetch(info, head, &body).await;
            }
            if head.api_key == ApiKey::HastenFetch.code() {
                // At once: its answer has to wait behind that of the request that it is about.
                return match node.hasten(&head, &body) {
                    Ok(response) => Started::Answered(response),
                    Err(reason) => Started::Close { reason },
                };
            }
            Started::Later(Box::pin(async move {
                let _permit = permit;
                match node.answer(info, head, body).await {
                    Ok(response) => Some(response),
                    Err(reason) => {
                        tracing::warn!(reason, "cannot answer a peer");
                        None
                    }
                }
            }))
        })
    }
}

impl NodeSoFar {
    /// The error closes the connection.
    async fn answer(
        &self,
        info: ConnectionInfo,
        head: RequestHead,
        body: Bytes,
    ) -> Result<Response, String> {
        match ApiKey::from_i16(head.api_key) {
            Some(ApiKey::QuorumRpc) => {
                let request: QuorumRpcRequest = decode(&head, &body)?;
                let body = self.quorum.answer(request.body).await;
                let response = QuorumRpcResponse {
                    body,
                    ..Default::default()
                };
                encode::<QuorumRpcRequest>(&head, &response)
            }
            Some(ApiKey::BrokerRegistration) => self.decide::<RegisterBroker>(&head, &body).await,
            Some(ApiKey::BrokerHeartbeat) => self.decide::<Heartbeat>(&head, &body).await,
            Some(ApiKey::AllocateProducerIds) => {
                self.decide::<AllocateProducerIds>(&head, &body).await
            }
            Some(ApiKey::ReplicasOffline) => self.decide::<ReplicasOffline>(&head, &body).await,
            Some(ApiKey::ReportLogEnds) => self.decide::<ReportLogEnds>(&head, &body).await,
            Some(ApiKey::AlterPartition) => self.decide::<AlterPartition>(&head, &body).await,
            Some(ApiKey::ReplicasFlushed) => self.flushed(&head, &body),
            Some(ApiKey::ListOffsets) => self.range(info, head, &body).await,
            Some(ApiKey::Envelope) => self.forwarded(info, head, &body).await,
            _ => Err(format!("the API {} has no handler", head.api_key)),
        }
    }

    /// Has this node's controller decide, if it is the controller.
    async fn decide<C: ControllerCall>(
        &self,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<Response, String> {
        let wire: C::Wire = decode(head, body)?;
        let decision = match (C::from_wire(&wire), self.controller.get()) {
            (Err(refusal), _) => Err(refusal),
            (Ok(request), Some(controller)) => controller.propose(request).await,
            (Ok(_), None) => {
                let message = "this node belongs to no cluster yet";
                Err(Refusal::new(ErrorCode::NotController, message))
            }
        };
        encode::<C::Wire>(head, &C::to_answer(decision))
    }

    /// What a follower asks for; the answer may have ranges of files.
    async fn fetch(&self, info: ConnectionInfo, head: RequestHead, body: &Bytes) -> Started {
        let Some((shared, context)) = self.context(info, &head) else {
            return Started::Close {
                reason: "a follower came before this node was a broker".to_owned(),
            };
        };
        fetch::start_of_follower(shared, &context, body).await
    }

    /// Where a follower's leader begins and ends.
    async fn range(
        &self,
        info: ConnectionInfo,
        head: RequestHead,
        body: &Bytes,
    ) -> Result<Response, String> {
        let request: ListOffsetsRequest = decode(&head, body)?;
        let (shared, context) = self.context(info, &head).ok_or(NO_BROKER)?;
        let response = list_offsets::handle_of_follower(shared, &context, request).await;
        encode::<ListOffsetsRequest>(&head, &response)
    }

    /// What followers have on their disks.
    fn flushed(&self, head: &RequestHead, body: &Bytes) -> Result<Response, String> {
        let request: ReplicasFlushedRequest = decode(head, body)?;
        let shared = self.shared.get().ok_or(NO_BROKER)?;
        for topic in &request.topics {
            for told in &topic.partitions {
                let id = (topic.topic_id, PartitionIndex(told.partition));
                // One that is not open here does not lead, so nobody waits for it.
                if let Some(replica) = shared.replicas.open_by_id(id) {
                    replica.step(Event::FollowerFlushed(FollowerFlush {
                        broker_id: BrokerId(request.broker_id),
                        broker_epoch: BrokerEpoch(request.broker_epoch),
                        leader_epoch: LeaderEpoch(told.leader_epoch),
                        end: Offset(told.end_offset),
                    }));
                }
            }
        }
        encode::<ReplicasFlushedRequest>(head, &ReplicasFlushedResponse::default())
    }

    /// A follower has more to ask for.
    fn hasten(&self, head: &RequestHead, body: &Bytes) -> Result<Response, String> {
        let request: HastenFetchRequest = decode(head, body)?;
        let shared = self.shared.get().ok_or(NO_BROKER)?;
        let follower = BrokerId(request.broker_id);
        shared.waiting_followers.hasten(follower);
        encode::<HastenFetchRequest>(head, &HastenFetchResponse::default())
    }

    /// This node and what it knows of the request, once it is a broker.
    fn context(&self, info: ConnectionInfo, head: &RequestHead) -> Option<(&Arc<Shared>, Context)> {
        let shared = self.shared.get()?;
        let metrics = Arc::clone(&shared.metrics);
        let connection = Arc::new(ClientConnection {
            info,
            metrics,
            cold_reader: ColdReader::default(),
        });
        let head = head.clone();
        Some((shared, Context { head, connection }))
    }

    async fn forwarded(
        &self,
        info: ConnectionInfo,
        head: RequestHead,
        body: &Bytes,
    ) -> Result<Response, String> {
        let request: EnvelopeRequest = decode(&head, body)?;
        let response = match self.context(info, &head) {
            Some((shared, context)) => forward::handle(shared, &context, request).await,
            None => forward::refuse(ErrorCode::BrokerNotAvailable),
        };
        encode::<EnvelopeRequest>(&head, &response)
    }
}

fn decode<R: ApiRequest>(head: &RequestHead, body: &Bytes) -> Result<R, String> {
    R::decode(&mut Decoder::new(body), head.api_version)
        .map_err(|error| format!("a malformed {} request: {error}", R::KEY))
}

fn encode<R: ApiRequest>(head: &RequestHead, response: &R::Response) -> Result<Response, String> {
    frame::encode_response(R::KEY, head.api_version, head.correlation_id, response)
        .ok()
        .and_then(|encoded| encoded.into_bytes())
        .map(Response::from_bytes)
        .ok_or_else(|| format!("cannot encode {}", R::Response::NAME))
}
