//! `IncrementalAlterConfigs` (44): changes of single keys.
//!
//! Input: resources, each with what to set, delete, append or subtract. Output: for each resource
//! whether it is changed.
//!
//! Invariants: those of [`super::alter_configs`], which has what both APIs do.
//!
//! Source: KIP-339.

use std::sync::Arc;

use skein_controller::{ConfigChange, KeyAlteration, ResourceChange};
use skein_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};

use super::alter_configs::change_all;
use super::error_fields;
use crate::node::Shared;
use crate::router::Context;

/// Changes what may be changed.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let changes = request.resources.into_iter().map(by_key).collect();
    let results = change_all(shared, changes, request.validate_only).await;
    let responses = results.into_iter().map(|changed| {
        let (error_code, error_message) = error_fields(changed.result.as_ref().err());
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: changed.resource_type,
            resource_name: changed.name.into(),
        }
    });
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn by_key(resource: AlterConfigsResource) -> ResourceChange {
    let alterations = resource.configs.into_iter().map(|config| KeyAlteration {
        key: config.name.into(),
        operation: config.config_operation,
        value: config.value.map(String::from),
    });
    ResourceChange {
        resource_type: resource.resource_type,
        name: resource.resource_name.into(),
        change: ConfigChange::Keys(alterations.collect()),
    }
}
