//! Deciding several requests for one entry of the log.
//!
//! Input: the applied image, requests one after the other. Output: a response or refusal for each,
//! and one entry with all records, based on the image's last decision.
//!
//! Invariants, checked by [`Batch::decide`]: each request is decided on the image that the ones
//! before it lead to; records that do not fit that image (a bug of a rule) are refused and left
//! out, so that they can never reach the log.
//!
//! Source: own design; group commit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use skein_config::{BrokerConfig, TopicConfig};
use skein_metadata::{ConfigResource, ENTRY_RECORDS_MAX, Entry, Image, LogId, Record};
use skein_types::{ErrorCode, Millis, TopicName};

use crate::request::{Request, Response};
use crate::{
    LogEnds, RandomBits, Refusal, Sessions, alter_configs, alter_partition, balance, brokers,
    create_partitions, create_topics, delete_topics, elect_leaders, features, log_ends,
    producer_ids, replicas_offline, request, unregister_broker,
};

/// All that a decision depends on beside the image and the request.
pub struct Context<'a> {
    /// Monotonic time.
    pub now: Millis,
    /// Random bits, for topic ids and for where a placement starts.
    pub random: RandomBits,
    /// The settings of the controller's own broker, without the dynamic ones of the image.
    pub config: &'a BrokerConfig,
    /// Which brokers are alive.
    pub sessions: &'a Sessions,
    /// Where logs end of partitions that have lost all their members.
    pub log_ends: &'a LogEnds,
    /// How long ago a majority last confirmed the controller, in ms; 0 for one that needs nobody.
    pub quorum_silence_ms: Millis,
}

/// A granted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What changes; none if nothing does.
    pub records: Vec<Record>,
    /// What the requester is told once the records are applied.
    pub response: Response,
}

/// Requests decided together.
#[derive(Debug)]
pub struct Batch {
    base: Option<LogId>,
    image: Image,
    records: Vec<Record>,
}

/// Decides one request on `image`.
///
/// # Errors
/// [`Refusal`] where the request as a whole is refused; what is refused of its parts is in the
/// response.
pub fn decide(
    image: &Image,
    request: &Request,
    context: &mut Context<'_>,
) -> Result<Decision, Refusal> {
    match request {
        Request::FoundCluster(found) => Ok(found_cluster(image, found)),
        Request::RegisterBroker(register) => brokers::register(image, register, context),
        Request::Heartbeat(heartbeat) => brokers::heartbeat(image, heartbeat, context),
        Request::FenceBrokers(fence) => Ok(brokers::fence(image, fence, context)),
        Request::UnregisterBroker(gone) => unregister_broker::decide(image, gone, context),
        Request::ReplicasOffline(failed) => replicas_offline::decide(image, failed, context),
        Request::ReportLogEnds(report) => log_ends::decide(image, report, context),
        Request::AlterPartition(alter) => alter_partition::decide(image, alter, context),
        Request::CreateTopics(create) => create_topics::decide(image, create, context),
        Request::DeleteTopics(delete) => delete_topics::decide(image, delete, context),
        Request::CreatePartitions(create) => create_partitions::decide(image, create, context),
        Request::AlterConfigs(alter) => Ok(alter_configs::decide(image, alter, context)),
        Request::ElectLeaders(elect) => elect_leaders::decide(image, elect, context),
        Request::BalanceLeaders(_) => Ok(balance::decide(image, context)),
        Request::UpdateFeatures(update) => features::decide(image, update, features::SUPPORTED),
        Request::AllocateProducerIds(allocate) => producer_ids::decide(image, allocate),
    }
}

fn found_cluster(image: &Image, found: &request::FoundCluster) -> Decision {
    if let Some(cluster_id) = image.cluster_id() {
        return Decision {
            records: Vec::new(),
            response: Response::FoundCluster(cluster_id),
        };
    }
    let cluster = Record::Cluster {
        cluster_id: found.cluster_id,
    };
    let feature = |(name, level): &(String, i16)| Record::Feature {
        name: name.clone(),
        level: *level,
    };
    Decision {
        records: std::iter::once(cluster)
            .chain(found.features.iter().map(feature))
            .chain(found.records.iter().cloned())
            .collect(),
        response: Response::FoundCluster(found.cluster_id),
    }
}

impl Batch {
    /// A batch on the applied image.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            base: image.last_decision(),
            image: image.clone(),
            records: Vec::new(),
        }
    }

    /// Decides one more request.
    ///
    /// # Errors
    /// [`Refusal`]; the batch is as before.
    pub fn decide(
        &mut self,
        request: &Request,
        context: &mut Context<'_>,
    ) -> Result<Response, Refusal> {
        let decision = decide(&self.image, request, context)?;
        if self.records.len() + decision.records.len() > ENTRY_RECORDS_MAX {
            return Err(Refusal::new(
                ErrorCode::PolicyViolation,
                format!("the request changes more than {ENTRY_RECORDS_MAX} things at once"),
            ));
        }
        self.image
            .apply_records(&decision.records)
            .map_err(|error| {
                Refusal::new(
                    ErrorCode::UnknownServerError,
                    format!("the decision does not fit the metadata, which is a bug: {error}"),
                )
            })?;
        self.records.extend(decision.records);
        Ok(decision.response)
    }

    /// The image that the batch leads to.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// How many records the batch has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entry to propose; `None` if nothing changes.
    #[must_use]
    pub fn into_entry(self) -> Option<Entry> {
        let (base, records) = (self.base, self.records);
        (!records.is_empty()).then_some(Entry { base, records })
    }
}

/// The broker's settings with the dynamic ones that the image holds for all brokers.
pub(crate) fn effective_config<'a>(
    image: &Image,
    config: &'a BrokerConfig,
) -> Cow<'a, BrokerConfig> {
    let for_all = image.overrides(&ConfigResource::broker(None));
    if for_all.is_empty() {
        Cow::Borrowed(config)
    } else {
        Cow::Owned(config.with_dynamic(for_all, BTreeMap::new()))
    }
}

/// The configuration of a topic, there or to be, on `config`.
pub(crate) fn topic_config(image: &Image, config: &BrokerConfig, name: &TopicName) -> TopicConfig {
    TopicConfig::new(config, &image.overrides(&ConfigResource::topic(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, topic};
    use crate::{Call, CreateTopics, FoundCluster};
    use skein_types::Uuid;

    #[test]
    fn requests_of_a_batch_are_decided_on_what_the_ones_before_lead_to() {
        let world = World::of_brokers(1);
        let mut batch = Batch::new(&world.image);
        let mut context = Context {
            now: Millis(0),
            random: RandomBits::from_seed([1; 32]),
            config: &world.config,
            sessions: &world.sessions,
            log_ends: &world.log_ends,
            quorum_silence_ms: Millis(0),
        };
        let request = CreateTopics {
            topics: vec![topic("a", 1, 1)],
            validate_only: false,
        };
        let mut decide = || {
            let response = batch.decide(&request.clone().into(), &mut context).unwrap();
            CreateTopics::response(response).unwrap().remove(0).result
        };
        assert!(decide().is_ok());
        assert_eq!(decide().unwrap_err().code, ErrorCode::TopicAlreadyExists);
        assert_eq!(batch.len(), 2, "the refused one left no record");
        let entry = batch.into_entry().unwrap();
        assert_eq!(entry.base, world.image.last_decision());
    }

    #[test]
    fn a_cluster_is_founded_once() {
        let mut world = World::new(Image::new());
        let found = |byte| {
            let features = vec![("metadata.version".to_owned(), 1)];
            Request::FoundCluster(FoundCluster {
                cluster_id: Uuid([byte; 16]).into(),
                features,
                records: vec![Record::Topic {
                    id: Uuid([9; 16]),
                    name: TopicName::new("t").unwrap(),
                }],
            })
        };
        let first = world.grant(found(1));
        assert_eq!(world.grant(found(2)), first);
        assert_eq!(world.image.cluster_id(), Some(Uuid([1; 16]).into()));
        assert_eq!(world.image.feature("metadata.version"), 1);
        assert!(world.image.topic_by_name("t").is_some());
    }

    #[test]
    fn an_answer_to_another_request_is_an_error_not_a_panic() {
        let answer = Response::FenceBrokers(());
        assert!(CreateTopics::response(answer).is_err());
    }
}
