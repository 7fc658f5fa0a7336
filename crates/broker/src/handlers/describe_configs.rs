//! `DescribeConfigs` (32): every key of a topic or a broker, with its value and what stands behind
//! it.
//!
//! Input: resources, each with the keys asked for or all. Output: for each resource its entries.
//!
//! ```text
//!   topic           every topic key, by the overrides in the image
//!   broker <id>     every broker key; this broker's only, another one's are not known here
//!   broker ""       what is set for all brokers at run time, and nothing else
//!   broker logger   the levels of this broker's loggers (`broker_loggers.rs`)
//!   group           every group key, by the overrides in the image
//!   client metrics  no entries: there is nothing to set
//! ```
//!
//! Invariants:
//! - resources are answered each on its own, except that a type which is none refuses the request;
//! - secrets are never told (`skein_config::describe_broker`).
//!
//! Source: KIP-133, KIP-226 (synonyms), KIP-569 (types and documentation).

use std::collections::BTreeMap;
use std::sync::Arc;

use skein_config::{
    BrokerConfig, ConfigEntry, ConfigSource, ConfigSynonym, Facts, describe_broker, describe_group,
    describe_topic,
};
use skein_controller::Refusal;
use skein_env::Loggers;
use skein_metadata::{ConfigResource, Image, ResourceType};
use skein_protocol::Str;
use skein_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use skein_types::{BrokerId, ErrorCode, TopicName};

use super::broker_loggers::{self, BROKER_LOGGER, require_this_broker};
use crate::node::Shared;
use crate::router::Context;

/// Kafka's numbers of the kinds of resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// What entries are made of.
struct Sources<'a> {
    image: &'a Image,
    /// As the node was started with it.
    config: &'a BrokerConfig,
    broker_id: BrokerId,
    loggers: &'a dyn Loggers,
    facts: Facts,
    include_synonyms: bool,
    include_documentation: bool,
}

/// Answers each resource on its own.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    _context: &Context,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let image = shared.image();
    let sources = Sources {
        image: &image,
        config: &shared.config,
        broker_id: shared.identity.broker_id,
        loggers: &*shared.env.loggers,
        facts: facts(shared, &image),
        include_synonyms: request.include_synonyms,
        include_documentation: request.include_documentation,
    };
    describe_all(&sources, request.resources)
}

/// The configuration of this broker under the dynamic settings of `image`.
pub(crate) fn broker_config(shared: &Shared, image: &Image) -> BrokerConfig {
    effective(&shared.config, shared.identity.broker_id, image)
}

/// What computed defaults depend on.
pub(super) fn facts(shared: &Shared, image: &Image) -> Facts {
    // The data lane has two threads for each core, unless `num.network.threads` says otherwise.
    let cores = shared.env.spawn.data_threads().div_ceil(2);
    Facts {
        brokers: u16::try_from(image.brokers().len())
            .unwrap_or(u16::MAX)
            .max(1),
        cores: u16::try_from(cores).unwrap_or(u16::MAX),
    }
}

fn effective(config: &BrokerConfig, broker_id: BrokerId, image: &Image) -> BrokerConfig {
    let for_all = overrides(image, &ConfigResource::broker(None));
    let for_this = overrides(image, &ConfigResource::broker(Some(broker_id)));
    if for_all.is_empty() && for_this.is_empty() {
        return config.clone();
    }
    config.with_dynamic(for_all, for_this)
}

fn overrides(image: &Image, resource: &ConfigResource) -> BTreeMap<String, String> {
    let overrides = image.config(resource).into_iter().flatten();
    overrides
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn describe_all(
    sources: &Sources<'_>,
    resources: Vec<DescribeConfigsResource>,
) -> DescribeConfigsResponse {
    let is_known = |kind| {
        matches!(
            kind,
            TOPIC | BROKER | BROKER_LOGGER | CLIENT_METRICS | GROUP
        )
    };
    let unknown = resources
        .iter()
        .map(|one| one.resource_type)
        .find(|kind| !is_known(*kind));
    let unknown = unknown.map(|kind| invalid(format!("there is no resource type {kind}")));
    let results = resources.into_iter().map(|resource| {
        let configs = match &unknown {
            Some(refusal) => Err(refusal.clone()),
            None => sources.describe(&resource),
        };
        let refusal = configs.as_ref().err();
        DescribeConfigsResult {
            error_code: refusal
                .map_or(ErrorCode::None, |refusal| refusal.code)
                .code(),
            // Where there is nothing to say Kafka says so in an empty text.
            error_message: Some(Str::from(refusal.map_or("", |refusal| &refusal.message))),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: configs.unwrap_or_default(),
        }
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

impl Sources<'_> {
    fn describe(
        &self,
        resource: &DescribeConfigsResource,
    ) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
        let name = resource.resource_name.as_str();
        let keys = resource
            .configuration_keys
            .as_deref()
            .filter(|keys| !keys.is_empty());
        let keys = keys.map(|keys| keys.iter().map(|key| key.as_str().to_owned()).collect());
        let keys: Option<Vec<String>> = keys;
        let keys = keys.as_deref();
        let entries = match resource.resource_type {
            TOPIC => self.topic(name, keys)?,
            BROKER if name.is_empty() => self.all_brokers(keys),
            BROKER => {
                require_this_broker(self.broker_id, name)?;
                let config = effective(self.config, self.broker_id, self.image);
                let mut entries = describe_broker(&config, keys, self.facts);
                if let Some(id) = entries.iter_mut().find(|entry| entry.name == "node.id") {
                    // Where nobody has set it the controller gave it.
                    let given = || self.broker_id.to_string();
                    id.value.get_or_insert_with(given);
                }
                entries
            }
            BROKER_LOGGER => {
                require_this_broker(self.broker_id, name)?;
                return Ok(broker_loggers::describe(self.loggers, keys));
            }
            _ if name.is_empty() => return Err(invalid("the resource needs a name")),
            GROUP => {
                let (kind, name) = (ResourceType::Group, name.to_owned());
                let overrides = overrides(self.image, &ConfigResource { kind, name });
                let config = effective(self.config, self.broker_id, self.image);
                describe_group(&config, &overrides, keys)
            }
            _ => Vec::new(),
        };
        let entries = entries.into_iter();
        Ok(entries.map(|entry| self.to_response(entry)).collect())
    }

    fn topic(&self, name: &str, keys: Option<&[String]>) -> Result<Vec<ConfigEntry>, Refusal> {
        let name = TopicName::new(name)
            .map_err(|error| Refusal::new(ErrorCode::InvalidTopicException, error.to_string()))?;
        let Some(topic) = self.image.topic_by_name(name.as_str()) else {
            let message = "there is no such topic";
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        let replicas = topic
            .partitions
            .front()
            .map_or(1, |partition| partition.replicas.len());
        let replicas = u16::try_from(replicas).unwrap_or(u16::MAX);
        let config = effective(self.config, self.broker_id, self.image);
        let overrides = overrides(self.image, &ConfigResource::topic(&name));
        Ok(describe_topic(
            &config, &overrides, keys, self.facts, replicas,
        ))
    }

    /// What is set for all brokers while they run.
    fn all_brokers(&self, keys: Option<&[String]>) -> Vec<ConfigEntry> {
        let for_all = overrides(self.image, &ConfigResource::broker(None));
        let set = |entry: &ConfigEntry| entry.source == ConfigSource::DynamicDefaultBroker;
        let config = self.config.with_dynamic(for_all, BTreeMap::new());
        let mut entries = describe_broker(&config, keys, self.facts);
        entries.retain(set);
        for entry in &mut entries {
            let of_all = |one: &ConfigSynonym| one.source == ConfigSource::DynamicDefaultBroker;
            entry.synonyms.retain(of_all);
        }
        entries
    }

    fn to_response(&self, entry: ConfigEntry) -> DescribeConfigsResourceResult {
        let synonyms = entry
            .synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: Str::from_static(synonym.name),
                value: synonym.value.map(Str::from),
                source: synonym.source.code(),
            });
        DescribeConfigsResourceResult {
            name: Str::from_static(entry.name),
            value: entry.value.map(Str::from),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.sensitive,
            synonyms: if self.include_synonyms {
                synonyms.collect()
            } else {
                Vec::new()
            },
            config_type: entry.config_type.code(),
            documentation: self
                .include_documentation
                .then(|| Str::from(entry.documentation)),
        }
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests;
