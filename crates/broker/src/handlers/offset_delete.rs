//! `OffsetDelete` (47): offsets of a group are forgotten.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides.
//!
//! Source: KIP-496.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::node::Shared;
use crate::router::Context;

/// Asks the group's coordinator.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let group_id = request.group_id.clone();
    let request = Request::OffsetDelete(request);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::OffsetDelete(response) => response,
        other => unreachable!("{other:?} answers another request"),
    }
}
