//! Describes and changes the configuration of topics and brokers.
//!
//! Input: a topic or broker, changes. Output: its keys with values and where these are set.
//!
//! Source: KIP-133, KIP-226 (sources of values), KIP-339 (incremental changes), KIP-569 (types and
//! documentation).

use skein_protocol::Str;
use skein_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use skein_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use skein_types::{BrokerId, TopicName};

use crate::admin::Admin;
use crate::error::ClientError;

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic's.
    Topic(TopicName),
    /// One broker's.
    Broker(BrokerId),
    /// What all brokers have in common.
    AllBrokers,
    /// The levels of one broker's loggers, until its process ends.
    Loggers(BrokerId),
    /// A group's.
    Group(String),
}

impl ConfigResource {
    const fn wire_type(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::AllBrokers => 4,
            Self::Loggers(_) => 8,
            Self::Group(_) => 32,
        }
    }

    fn wire_name(&self) -> Str {
        match self {
            Self::Topic(name) => Str::from(name.as_str()),
            Self::Broker(id) | Self::Loggers(id) => Str::from(id.to_string()),
            Self::AllBrokers => Str::default(),
            Self::Group(id) => Str::from(id),
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::Topic(name) => format!("configuration of topic {name}"),
            Self::Broker(id) => format!("configuration of broker {id}"),
            Self::AllBrokers => "configuration of all brokers".into(),
            Self::Loggers(id) => format!("loggers of broker {id}"),
            Self::Group(id) => format!("configuration of group {id}"),
        }
    }
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Gives the key this value.
    Set(String, String),
    /// Takes the key's own value away; it has the default then.
    Delete(String),
    /// Adds to a key that is a list.
    Append(String, String),
    /// Takes out of a key that is a list.
    Subtract(String, String),
}

/// Where a value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// For this topic.
    Topic,
    /// For this broker, while it runs.
    DynamicBroker,
    /// For all brokers, while they run.
    DynamicDefaultBroker,
    /// Where the broker was started.
    StaticBroker,
    /// Nowhere.
    Default,
    /// Of a logger: when the broker was started, or since.
    Logger,
    /// For this group.
    Group,
    /// Somewhere that this client does not know.
    Unknown,
}

impl ConfigOrigin {
    const fn from_wire(source: i8) -> Self {
        match source {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            6 => Self::Logger,
            8 => Self::Group,
            _ => Self::Unknown,
        }
    }

    /// A word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::DynamicBroker => "broker",
            Self::DynamicDefaultBroker => "all brokers",
            Self::StaticBroker => "broker's file",
            Self::Default => "default",
            Self::Logger => "logger",
            Self::Group => "group",
            Self::Unknown => "unknown",
        }
    }
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDescription {
    /// The key.
    pub name: String,
    /// Its value; `None` if it has none, or if it is secret.
    pub value: Option<String>,
    /// Where that is set.
    pub origin: ConfigOrigin,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether the value is secret.
    pub is_sensitive: bool,
    /// What the key is for, if the broker says so.
    pub documentation: Option<String>,
}

impl Admin {
    /// The configuration of a topic, a broker, a group or a broker's loggers, by key.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigDescription>, ClientError> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.wire_type(),
                resource_name: resource.wire_name(),
                configuration_keys: None,
            }],
            include_synonyms: false,
            include_documentation: true,
        };
        let response = self
            .ask(&resource.subject(), &request, |response| {
                let answer = response.results.first()?;
                Some((answer.error_code, answer.error_message.clone()))
            })
            .await?;
        let keys = response.results.iter().flat_map(|result| &result.configs);
        let text = |text: &Option<Str>| text.as_ref().map(|text| text.as_str().to_owned());
        let mut keys: Vec<_> = keys
            .map(|key| ConfigDescription {
                name: key.name.as_str().to_owned(),
                value: text(&key.value),
                origin: ConfigOrigin::from_wire(key.config_source),
                is_read_only: key.read_only,
                is_sensitive: key.is_sensitive,
                documentation: text(&key.documentation),
            })
            .collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// Changes the configuration of a topic or of brokers: all of `changes`, or none.
    ///
    /// # Errors
    /// The broker's refusal, such as `INVALID_CONFIG` with the reason.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let configs = changes.iter().map(|change| {
            let (config_operation, name, value) = match change {
                ConfigChange::Set(name, value) => (0, name, Some(value)),
                ConfigChange::Delete(name) => (1, name, None),
                ConfigChange::Append(name, value) => (2, name, Some(value)),
                ConfigChange::Subtract(name, value) => (3, name, Some(value)),
            };
            AlterableConfig {
                name: Str::from(name),
                config_operation,
                value: value.map(Str::from),
            }
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.wire_type(),
                resource_name: resource.wire_name(),
                configs: configs.collect(),
            }],
            validate_only,
        };
        self.ask(&resource.subject(), &request, |response| {
            let answer = response.responses.first()?;
            Some((answer.error_code, answer.error_message.clone()))
        })
        .await
        .map(|_| ())
    }
}
