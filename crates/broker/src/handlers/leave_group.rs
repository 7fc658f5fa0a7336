//! `LeaveGroup` (13): members leave their group.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides.
//!
//! Source: KIP-345, KIP-800.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let group_id = request.group_id.clone();
    let request = Request::LeaveGroup(request, context.head.api_version);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::LeaveGroup(response) => response,
        other => unreachable!("{other:?} answers another request"),
    }
}
