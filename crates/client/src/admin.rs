//! Changes and describes the cluster.
//!
//! Input: orders and questions. Output: what the brokers say of them.
//!
//! Any broker can be asked: it forwards to the controller what is the controller's. What fails for
//! a while is tried again as long as `default.api.timeout.ms` allows. If the answer to a change was
//! lost, the next attempt may find it done: then a topic "already exists", or is unknown after its
//! deletion.
//!
//! Invariant: one method, one subject, one answer; a list of subjects is the caller's loop, so that
//! a refusal always names its subject.
//!
//! Source: the Kafka protocol guide; KIP-4 (administration), KIP-339 (incremental changes).

use std::collections::BTreeMap;
use std::sync::Arc;

use skein_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use skein_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use skein_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use skein_protocol::messages::describe_cluster::DescribeClusterRequest;
use skein_protocol::{Request, Str};
use skein_types::{BrokerId, ErrorCode, TopicName, TopicPartition};

use crate::cluster::{Broker, Topic};
use crate::consumer::IsolationLevel;
use crate::error::ClientError;
use crate::list_offsets::{FoundOffset, OffsetSpec, list_offsets};
use crate::pool::Pool;
use crate::retry::Retry;

mod cluster;
mod configs;
mod groups;
mod lag;

pub use cluster::{Elected, Election, Node, Nodes, PartitionDescription, Quorum, QuorumMember};
pub use configs::{ConfigChange, ConfigDescription, ConfigOrigin, ConfigResource};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use lag::Lag;

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// `None` is the cluster's `num.partitions`.
    pub partitions: Option<u32>,
    /// `None` is the cluster's `default.replication.factor`.
    pub replication_factor: Option<u16>,
    /// Overrides of the cluster's defaults.
    pub configs: Vec<(String, String)>,
}

/// What a cluster says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: String,
    /// The broker that calls itself the controller.
    pub controller_id: Option<BrokerId>,
    /// The live brokers.
    pub brokers: Vec<Broker>,
}

/// Changes and describes the cluster.
pub struct Admin {
    pool: Arc<Pool>,
}

impl Admin {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    /// Creates a topic; with `validate_only`, only says whether it could be created.
    ///
    /// # Errors
    /// The broker's refusal, such as [`ErrorCode::TopicAlreadyExists`].
    pub async fn create_topic(
        &self,
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: Str::from(name),
                value: Some(Str::from(value)),
            });
        let partitions = topic
            .partitions
            .map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX));
        let factor = topic
            .replication_factor
            .map_or(-1, |count| i16::try_from(count).unwrap_or(i16::MAX));
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::from(topic.name.as_str()),
                num_partitions: partitions,
                replication_factor: factor,
                assignments: Vec::new(),
                configs: configs.collect(),
            }],
            timeout_ms: self.timeout_ms(),
            validate_only,
        };
        let subject = format!("topic {}", topic.name);
        self.ask(&subject, &request, |response| {
            let answer = response.topics.first()?;
            Some((answer.error_code, answer.error_message.clone()))
        })
        .await
        .map(|_| ())
    }

    /// Deletes a topic with its records.
    ///
    /// # Errors
    /// The broker's refusal, such as [`ErrorCode::UnknownTopicOrPartition`].
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(Str::from(name.as_str())),
                ..Default::default()
            }],
            topic_names: vec![Str::from(name.as_str())],
            timeout_ms: self.timeout_ms(),
        };
        self.pool.metadata.forget(name);
        let subject = format!("topic {name}");
        // An unknown topic is no passing state here, though the code counts as one.
        self.ask(&subject, &request, |response| {
            let answer = response.responses.first()?;
            Some((answer.error_code, answer.error_message.clone()))
        })
        .await
        .map(|_| ())
    }

    /// Raises the number of a topic's partitions to `count`.
    ///
    /// # Errors
    /// The broker's refusal, such as [`ErrorCode::InvalidPartitions`] when there are more already.
    pub async fn create_partitions(
        &self,
        name: &TopicName,
        count: u32,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Str::from(name.as_str()),
                count: i32::try_from(count).unwrap_or(i32::MAX),
                assignments: None,
            }],
            timeout_ms: self.timeout_ms(),
            validate_only,
        };
        let subject = format!("topic {name}");
        self.ask(&subject, &request, |response| {
            let answer = response.results.first()?;
            Some((answer.error_code, answer.error_message.clone()))
        })
        .await
        .map(|_| ())
    }

    /// Every topic, the cluster's own included.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn list_topics(&self) -> Result<BTreeMap<TopicName, Topic>, ClientError> {
        let metadata = &self.pool.metadata;
        let mut retry = Retry::new(&metadata.env, &metadata.options, "the list of topics");
        loop {
            match metadata.all_topics().await {
                Ok(view) => return Ok(view.topics),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// One topic, as it is now.
    ///
    /// # Errors
    /// The broker's refusal, such as [`ErrorCode::UnknownTopicOrPartition`].
    pub async fn describe_topic(&self, name: &TopicName) -> Result<Topic, ClientError> {
        let metadata = &self.pool.metadata;
        // Whatever is cached may be old.
        let seen = metadata.view().version;
        let timeout = metadata.options.api_timeout;
        metadata.topic(name, false, timeout).await?;
        let view = metadata.newer_than(seen, false).await?;
        match view.topics.get(name) {
            Some(topic) => Ok(topic.clone()),
            None => {
                let code = view.refused.get(name).copied();
                let code = code.unwrap_or(ErrorCode::UnknownTopicOrPartition);
                Err(ClientError::refused(format!("topic {name}"), code, None))
            }
        }
    }

    /// Offsets by meaning.
    ///
    /// # Errors
    /// The broker's refusal, [`ClientError::NoSuchPartition`].
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation_level: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, FoundOffset>, ClientError> {
        let timeout = self.pool.metadata.options.api_timeout;
        list_offsets(&self.pool, wanted, isolation_level, timeout).await
    }

    /// The cluster: its id, its controller, its brokers.
    ///
    /// # Errors
    /// The broker's refusal.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let request = DescribeClusterRequest::default();
        let response = self
            .ask("the cluster", &request, |response| {
                Some((response.error_code, response.error_message.clone()))
            })
            .await?;
        let brokers = response.brokers.iter().filter_map(|broker| {
            Some(Broker {
                id: BrokerId(broker.broker_id),
                address: skein_config::Address {
                    host: broker.host.as_str().to_owned(),
                    port: u16::try_from(broker.port).ok()?,
                },
                rack: broker.rack.as_ref().map(|rack| rack.as_str().to_owned()),
            })
        });
        Ok(ClusterDescription {
            cluster_id: response.cluster_id.as_str().to_owned(),
            controller_id: (response.controller_id >= 0)
                .then_some(BrokerId(response.controller_id)),
            brokers: brokers.collect(),
        })
    }

    fn timeout_ms(&self) -> i32 {
        let timeout = self.pool.metadata.options.request_timeout;
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Asks any broker until the answer is final. `outcome` finds error code and message in it.
    async fn ask<R: Request>(
        &self,
        subject: &str,
        request: &R,
        outcome: impl Fn(&R::Response) -> Option<(i16, Option<Str>)>,
    ) -> Result<R::Response, ClientError> {
        let metadata = &self.pool.metadata;
        let mut retry = Retry::new(&metadata.env, &metadata.options, subject);
        loop {
            let error = match self.pool.call_any(request).await {
                Ok(response) => match outcome(&response) {
                    Some((code, _)) if code == ErrorCode::None.code() => return Ok(response),
                    Some((code, message)) => {
                        let code = ErrorCode::from_code(code);
                        let message = message.as_ref().map(Str::as_str);
                        let error = ClientError::refused(subject, code, message);
                        if is_final(code) {
                            return Err(error);
                        }
                        error
                    }
                    None => {
                        return Err(ClientError::Senseless {
                            subject: subject.to_owned(),
                            reason: "it is empty",
                        });
                    }
                },
                Err(error) => error,
            };
            retry.pause(error).await?;
        }
    }
}

/// Codes that pass for others but not here: nobody is making the topic meanwhile.
const fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
    )
}
