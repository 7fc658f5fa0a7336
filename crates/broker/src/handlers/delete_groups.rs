//! `DeleteGroups` (42): groups without members go, and their offsets with them.
//!
//! Input: group ids. Output: for each whether it is gone, once, also where it is named twice.
//!
//! Source: KIP-229.

use std::collections::BTreeSet;
use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};

use crate::node::Shared;
use crate::router::Context;

/// Asks the coordinator of each group.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    let mut asked = BTreeSet::new();
    for group_id in request.groups_names {
        if !asked.insert(group_id.clone()) {
            continue;
        }
        let ask = Request::DeleteGroups(vec![group_id.clone()]);
        match shared.groups.ask(shared, &group_id, ask).await {
            Response::DeleteGroups(some) => results.extend(some),
            other => unreachable!("{other:?} answers another request"),
        }
    }
    DeleteGroupsResponse {
        results,
        ..DeleteGroupsResponse::default()
    }
}
