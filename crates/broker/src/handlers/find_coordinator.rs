//! `FindCoordinator` (10): which broker coordinates a group.
//!
//! Input: group ids. Output: for each the leader of its partition of `__consumer_offsets`, which is
//! made if it is not there.
//!
//! Invariants:
//! - a broker that is fenced is nobody's coordinator;
//! - who asks for a kind of coordinator that there is not fails at once, and is told why.
//!
//! Source: KIP-699 (several keys); `KafkaApis.getCoordinator` of Kafka 4.1.1.

use std::sync::Arc;

use skein_metadata::Image;
use skein_protocol::Str;
use skein_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use skein_types::{BrokerId, ErrorCode};

use crate::groups::{TOPIC, ensure_topic, partition_of};
use crate::node::Shared;
use crate::router::Context;

/// The kinds of coordinators.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// The first version that asks for several.
const SEVERAL_VERSION: i16 = 4;

/// The first version that knows share groups (KIP-932).
const SHARE_VERSION: i16 = 6;

/// What a client of transactions is told. See [`refuse_transactions`].
const NO_TRANSACTIONS: &str = "this cluster serves no transactions: unset transactional.id";
const NO_SHARE_GROUPS: &str = "this cluster serves no share groups";

/// Says who it is.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let version = context.head.api_version;
    let result = match request.key_type {
        GROUP => ensure_topic(shared).await.map_err(of_code),
        TRANSACTION => Err(refuse_transactions()),
        SHARE if version >= SHARE_VERSION => Err((ErrorCode::InvalidRequest, NO_SHARE_GROUPS)),
        _ => Err(of_code(ErrorCode::InvalidRequest)),
    };
    let image = shared.image();
    let listener = &context.connection.listener;
    let find = |key: &Str| {
        let found = result.and_then(|()| find(&image, listener, key).map_err(of_code));
        found.unwrap_or_else(|(code, message)| Coordinator {
            node_id: BrokerId::NONE.get(),
            port: -1,
            error_code: code.code(),
            error_message: Some(Str::from_static(message)),
            ..Coordinator::default()
        })
    };
    if version >= SEVERAL_VERSION {
        let coordinators = request.coordinator_keys.iter().map(|key| Coordinator {
            key: key.clone(),
            ..find(key)
        });
        return FindCoordinatorResponse {
            coordinators: coordinators.collect(),
            ..FindCoordinatorResponse::default()
        };
    }
    let found = find(&request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

/// No broker coordinates transactions. A code that passes would have every transactional producer
/// wait for its time-out. This one ends it at once: the Java client, librdkafka and franz-go take
/// it for final, and librdkafka takes no other one of this API so but the one of the cluster's
/// authorisation; it prints the message too.
fn refuse_transactions() -> (ErrorCode, &'static str) {
    (
        ErrorCode::TransactionalIdAuthorizationFailed,
        NO_TRANSACTIONS,
    )
}

fn of_code(code: ErrorCode) -> (ErrorCode, &'static str) {
    (code, code.name())
}

fn find(image: &Image, listener: &str, key: &str) -> Result<Coordinator, ErrorCode> {
    let partition = partition_of(image, key).and_then(|index| {
        let topic = image.topic_by_name(TOPIC)?;
        topic.partition(index).cloned()
    });
    let leader = partition.map_or(BrokerId::NONE, |partition| partition.leader);
    let broker = image.broker(leader).filter(|_| image.is_active(leader));
    let endpoint = broker.and_then(|broker| {
        let mut endpoints = broker.endpoints.iter();
        endpoints.find(|endpoint| endpoint.listener == listener)
    });
    let endpoint = endpoint.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok(Coordinator {
        node_id: leader.get(),
        host: Str::from(&endpoint.host),
        port: i32::from(endpoint.port),
        ..Coordinator::default()
    })
}
