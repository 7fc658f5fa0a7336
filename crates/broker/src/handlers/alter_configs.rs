//! `AlterConfigs` (33): whole configurations in the place of others.
//!
//! Input: resources, each with all that shall be set. Output: for each resource whether it is
//! changed. What changes configurations, in this way or key by key, goes through [`change_all`]:
//! to the controller, or to the loggers of this broker.
//!
//! Invariants: a resource's changes are made all or none; the result of each resource stands where
//! the resource stood in the request.
//!
//! Source: KIP-133; superseded by KIP-339, and still what kafkajs, aiokafka and kafka-python send.

use std::sync::Arc;

use skein_controller::{AlterConfigs, AlterConfigsResult, ConfigChange, Refusal, ResourceChange};
use skein_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use skein_types::ErrorCode;

use super::broker_loggers::{self, BROKER_LOGGER, require_this_broker};
use super::create_topics::duplicates;
use super::error_fields;
use crate::node::Shared;
use crate::router::Context;

/// Changes what may be changed.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let changes = request.resources.into_iter().map(whole).collect();
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
    AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn whole(resource: AlterConfigsResource) -> ResourceChange {
    let configs = resource.configs.into_iter();
    let configs = configs.map(|config| (config.name.into(), config.value.map(String::from)));
    ResourceChange {
        resource_type: resource.resource_type,
        name: resource.resource_name.into(),
        change: ConfigChange::Whole(configs.collect()),
    }
}

/// Changes the resources, and tells of each, in their order.
pub(super) async fn change_all(
    shared: &Arc<Shared>,
    changes: Vec<ResourceChange>,
    validate_only: bool,
) -> Vec<AlterConfigsResult> {
    let is_loggers = |change: &ResourceChange| change.resource_type == BROKER_LOGGER;
    let named = changes.iter().filter(|change| is_loggers(change));
    let twice = duplicates(named.map(|change| change.name.clone()));
    let changes = changes.into_iter().enumerate();
    let (loggers, others): (Vec<_>, Vec<_>) = changes.partition(|(_, change)| is_loggers(change));
    let loggers = loggers.into_iter().map(|(place, change)| {
        let result = if twice.contains(&change.name) {
            let message = "the request names the broker's loggers more than once";
            Err(Refusal::new(ErrorCode::InvalidRequest, message))
        } else {
            change_loggers(shared, &change, validate_only)
        };
        (place, result_of(change, result))
    });
    let mut results: Vec<_> = loggers.collect();
    let (places, others): (Vec<_>, Vec<_>) = others.into_iter().unzip();
    let others = propose(shared, others, validate_only).await;
    results.extend(places.into_iter().zip(others));
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

fn change_loggers(
    shared: &Shared,
    change: &ResourceChange,
    validate_only: bool,
) -> Result<(), Refusal> {
    require_this_broker(shared.identity.broker_id, &change.name)?;
    broker_loggers::alter(&*shared.env.loggers, &change.change, validate_only)
}

/// Has the controller change what is in the metadata.
async fn propose(
    shared: &Arc<Shared>,
    resources: Vec<ResourceChange>,
    validate_only: bool,
) -> Vec<AlterConfigsResult> {
    if resources.is_empty() {
        return Vec::new();
    }
    let alter = AlterConfigs {
        resources,
        validate_only,
    };
    match shared.controller.propose(alter.clone()).await {
        Ok(results) => {
            // Who is answered reads by what he has set, of a partition that this node leads.
            shared.replicas.follow(shared);
            results
        }
        Err(refusal) => {
            let resources = alter.resources.into_iter();
            resources
                .map(|change| result_of(change, Err(refusal.clone())))
                .collect()
        }
    }
}

fn result_of(change: ResourceChange, result: Result<(), Refusal>) -> AlterConfigsResult {
    AlterConfigsResult {
        resource_type: change.resource_type,
        name: change.name,
        result,
    }
}
