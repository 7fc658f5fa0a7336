//! `SyncGroup` (14): a member's assignment, and the leader's for all.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides.
//!
//! Source: KIP-559.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let group_id = request.group_id.clone();
    let request = Request::SyncGroup(request);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::SyncGroup(response) => response,
        other => unreachable!("{other:?} answers another request"),
    }
}
