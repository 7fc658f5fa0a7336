//! `SyncGroup` (14): a member's assignment, and the leader's for all.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides.
//!
//! Source: KIP-559.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use skein_types::ErrorCode;

use crate::node::Shared;
use crate::router::Context;

/// The first version in which a member says what it takes the group's protocol to be.
const PROTOCOL_VERSION: i16 = 5;

/// Asks the group's coordinator.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.head.api_version >= PROTOCOL_VERSION && !says_protocol {
        return SyncGroupResponse {
            error_code: ErrorCode::InconsistentGroupProtocol.code(),
            ..SyncGroupResponse::default()
        };
    }
    let group_id = request.group_id.clone();
    let request = Request::SyncGroup(request);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::SyncGroup(response) => response,
        other => unreachable!("{other:?} answers another request"),
    }
}
