//! `AlterConfigs` (33): whole configurations in the place of others, decided by the controller.
//!
//! Input: resources, each with all that shall be set. Output: for each resource whether it is
//! changed.
//!
//! Invariants: a resource's changes are made all or none; the result of each resource stands where
//! the resource stood in the request.
//!
//! Source: KIP-133; superseded by KIP-339, and still what kafkajs, aiokafka and kafka-python send.

use std::sync::Arc;

use skein_controller::{AlterConfigs, Refusal, ResourceConfigs};
use skein_protocol::Str;
use skein_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use skein_types::ErrorCode;

use crate::node::Shared;
use crate::router::Context;

/// Has the controller change what may be changed.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    if request.resources.is_empty() {
        return AlterConfigsResponse::default();
    }
    let alter = AlterConfigs {
        resources: request.resources.iter().map(configs).collect(),
        validate_only: request.validate_only,
    };
    let responses = match shared.controller.propose(alter).await {
        Ok(results) => {
            // Who is answered reads by what he has set, of a partition that this node leads.
            shared.replicas.follow(shared);
            results
                .into_iter()
                .map(|one| to_response(one.resource_type, one.name.into(), one.result.as_ref()))
                .collect()
        }
        Err(refusal) => request
            .resources
            .into_iter()
            .map(|one| to_response(one.resource_type, one.resource_name, Err(&refusal)))
            .collect(),
    };
    AlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

fn configs(resource: &AlterConfigsResource) -> ResourceConfigs {
    let configs = resource.configs.iter().map(|config| {
        let value = config.value.as_ref().map(|value| value.as_str().to_owned());
        (config.name.as_str().to_owned(), value)
    });
    ResourceConfigs {
        resource_type: resource.resource_type,
        name: resource.resource_name.as_str().to_owned(),
        configs: configs.collect(),
    }
}

fn to_response(
    resource_type: i8,
    resource_name: Str,
    result: Result<&(), &Refusal>,
) -> AlterConfigsResourceResponse {
    let refusal = result.err();
    AlterConfigsResourceResponse {
        error_code: refusal
            .map_or(ErrorCode::None, |refusal| refusal.code)
            .code(),
        error_message: refusal.map(|refusal| Str::from(&refusal.message)),
        resource_type,
        resource_name,
    }
}
