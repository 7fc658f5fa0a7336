//! `IncrementalAlterConfigs` (44): changes of single keys, decided by the controller.
//!
//! Input: resources, each with what to set, delete, append or subtract. Output: for each resource
//! whether it is changed.
//!
//! Invariants: a resource's changes are made all or none; the result of each resource stands where
//! the resource stood in the request.
//!
//! Source: KIP-339.

use std::sync::Arc;

use skein_controller::{ConfigAlteration, IncrementalAlterConfigs, Refusal, ResourceAlterations};
use skein_protocol::Str;
use skein_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use skein_types::ErrorCode;

use crate::node::Shared;
use crate::router::Context;

/// Has the controller change what may be changed.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    if request.resources.is_empty() {
        return IncrementalAlterConfigsResponse::default();
    }
    let alter = IncrementalAlterConfigs {
        resources: request.resources.iter().map(alterations).collect(),
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
    IncrementalAlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

fn alterations(resource: &AlterConfigsResource) -> ResourceAlterations {
    let alterations = resource.configs.iter().map(|config| ConfigAlteration {
        key: config.name.as_str().to_owned(),
        operation: config.config_operation,
        value: config.value.as_ref().map(|value| value.as_str().to_owned()),
    });
    ResourceAlterations {
        resource_type: resource.resource_type,
        name: resource.resource_name.as_str().to_owned(),
        alterations: alterations.collect(),
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
