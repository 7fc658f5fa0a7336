//! `DescribeGroups` (15): what is known of groups and their members.
//!
//! Input: group ids. Output: a description of each, in their order.
//!
//! Source: KIP-430 (operations), KIP-1043 (GROUP_ID_NOT_FOUND).

use std::sync::Arc;

use skein_coordinator::{Request, Response};
use skein_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};

use crate::node::Shared;
use crate::router::Context;

/// What may be done to a group, as bits of Kafka's operations: all of them, without an authorizer.
const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// Asks the coordinator of each group.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let ask = Request::DescribeGroups(vec![group_id.clone()], context.head.api_version);
        match shared.groups.ask(shared, &group_id, ask).await {
            Response::DescribeGroups(described) => groups.extend(described),
            other => unreachable!("{other:?} answers another request"),
        }
    }
    for group in &mut groups {
        if request.include_authorized_operations && group.error_code == 0 {
            group.authorized_operations = GROUP_OPERATIONS;
        }
    }
    DescribeGroupsResponse {
        groups,
        ..DescribeGroupsResponse::default()
    }
}
