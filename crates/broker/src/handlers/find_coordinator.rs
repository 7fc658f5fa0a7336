//! `FindCoordinator` (10): which broker coordinates a group.
//!
//! Input: group ids. Output: for each the leader of its partition of `__consumer_offsets`, which is
//! made if it is not there.
//!
//! Invariant: a broker that is fenced is nobody's coordinator.
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

/// The first version that asks for several.
const SEVERAL_VERSION: i16 = 4;

/// Says who it is.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let result = match request.key_type {
        GROUP => ensure_topic(shared).await,
        // No broker coordinates transactions; a client that waits for one finds it here later.
        TRANSACTION => Err(ErrorCode::CoordinatorNotAvailable),
        _ => Err(ErrorCode::InvalidRequest),
    };
    let image = shared.image();
    let listener = &context.connection.listener;
    let find = |key: &Str| {
        let found = result.and_then(|()| find(&image, listener, key));
        found.unwrap_or_else(|code| Coordinator {
            node_id: BrokerId::NONE.get(),
            port: -1,
            error_code: code.code(),
            error_message: Some(Str::from_static(code.name())),
            ..Coordinator::default()
        })
    };
    if context.head.api_version >= SEVERAL_VERSION {
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
