//! `UnregisterBroker` (64): a node that is gone for good leaves the cluster.
//!
//! Input: the id of a broker. Output: that it is forgotten, or why not.
//!
//! Invariant: the broker is out of this node's image before the client hears of it.
//!
//! Source: KIP-631; `ControllerApis.handleUnregisterBroker` of Kafka 4.1.

use std::sync::Arc;

use skein_controller::UnregisterBroker;
use skein_protocol::messages::unregister_broker::{
    UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use skein_types::BrokerId;

use super::create_topics::call_within;
use super::error_fields;
use crate::node::Shared;
use crate::router::Context;

/// How long the controller may take: the request says nothing of it.
const DECISION_MAX_MS: i32 = 30_000;

/// Has the controller take the broker out.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let gone = UnregisterBroker {
        broker_id: BrokerId(request.broker_id),
    };
    let decided = call_within(shared, DECISION_MAX_MS, gone).await;
    let (error_code, error_message) = error_fields(decided.as_ref().err());
    UnregisterBrokerResponse {
        error_code,
        error_message,
        ..Default::default()
    }
}
