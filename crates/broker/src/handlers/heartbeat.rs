//! `Heartbeat` (12): a member of a group lives.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides.
//!
//! Source: KIP-345.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let group_id = request.group_id.clone();
    let request = Request::Heartbeat(request);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::Heartbeat(response) => response,
        other => unreachable!("{other:?} answers another request"),
    }
}
