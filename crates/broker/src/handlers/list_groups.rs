//! `ListGroups` (16): the groups that this broker coordinates.
//!
//! Input: filters by state and type. Output: a line for each group.
//!
//! Invariant: while a coordinator here still loads, there is an error and no half of a list.
//!
//! Source: KIP-518, KIP-848; `GroupCoordinatorService.listGroups` of Kafka 4.1.1.

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use skein_types::ErrorCode;

use crate::node::Shared;
use crate::router::Context;

/// Asks every coordinator of this node.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let mut all = ListGroupsResponse::default();
    for partition in shared.groups.partitions(shared) {
        let request = Request::ListGroups(request.clone());
        let response = shared
            .groups
            .ask_partition(shared, partition, request)
            .await;
        match response {
            Response::ListGroups(some) => match ErrorCode::from_code(some.error_code) {
                ErrorCode::None => all.groups.extend(some.groups),
                // It moved away meanwhile: who coordinates it now lists its groups.
                ErrorCode::NotCoordinator => {}
                _ => return some,
            },
            other => unreachable!("{other:?} answers another request"),
        }
    }
    all
}
