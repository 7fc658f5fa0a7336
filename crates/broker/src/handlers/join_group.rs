//! `JoinGroup` (11): somebody wants to be a member of a group.
//!
//! Input and output: the messages of the protocol; the group's coordinator decides, when everybody
//! has joined.
//!
//! Source: KIP-394, KIP-345, KIP-559, KIP-814.

use std::sync::Arc;

use skein_coordinator::{Joiner, Request, Response};
use skein_protocol::Str;
use skein_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use skein_types::Uuid;

use crate::node::Shared;
use crate::router::Context;

/// The first version with no name of a protocol, in place of an empty one, where there is none.
const NO_NAME_VERSION: i16 = 7;

/// Asks the group's coordinator.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let mut random = [0; 16];
    shared.env.rng.fill(&mut random);
    let joiner = Joiner {
        version: context.head.api_version,
        client_id: Str::from(context.head.client_id.as_deref().unwrap_or_default()),
        // As Java prints an address without a name.
        client_host: Str::from(format!("/{}", context.connection.peer.ip())),
        random: Uuid(random),
    };
    let group_id = request.group_id.clone();
    let request = Request::JoinGroup(request, joiner);
    match shared.groups.ask(shared, &group_id, request).await {
        Response::JoinGroup(mut response) => {
            if context.head.api_version >= NO_NAME_VERSION {
                let name = response.protocol_name.take();
                response.protocol_name = name.filter(|name| !name.is_empty());
            }
            response
        }
        other => unreachable!("{other:?} answers another request"),
    }
}
