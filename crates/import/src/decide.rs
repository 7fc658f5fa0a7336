//! What of Kafka's metadata becomes Skein's, and what stands against it.
//!
//! ```text
//!   partition's replicas │ this node    │ --single-node │ verdict
//!   ─────────────────────┼──────────────┼───────────────┼────────────────────────────────
//!   this node alone      │              │               │ taken
//!   others               │ not among    │               │ refused, by topic
//!   this node and others │ in the ISR   │ no            │ refused, by topic
//!   this node and others │ in the ISR   │ yes           │ taken, with this replica alone
//!   this node and others │ not in ISR   │               │ refused, by topic
//! ```
//!
//! A node that stops cleanly leaves the ISR; if that would empty it, it stays eligible (ELR), which
//! counts as in the ISR here.
//!
//! Input: Kafka's metadata, a survey of the directory, who the node is, the operator's choice.
//! Output: the records that found the new cluster, the directories to put aside, findings.
//!
//! Invariants, checked by the tests of this file:
//! - topics, partitions, configurations and producer ids are in the records or in a finding;
//! - leader epochs do not go back: nobody leads a partition yet, and whoever is elected gets the
//!   epoch above Kafka's;
//! - every partition directory belongs to a partition that is taken, or is put aside.
//!
//! Source: KIP-631, KIP-858, KIP-966; own design.

use std::collections::{BTreeMap, BTreeSet};

use skein_config::{BrokerConfig, validate_broker_overrides, validate_topic_overrides};
use skein_metadata::{Broker, ConfigResource, Endpoint, LeaderRecoveryState, Partition, Record};
use skein_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicName,
    TopicPartition, Uuid,
};

use crate::finding::{Finding, Subject, Weight};
use crate::kafka_metadata::{
    BROKER_RESOURCE, KafkaBroker, KafkaMetadata, KafkaPartition, KafkaTopic, TOPIC_RESOURCE,
};
use crate::survey::Survey;

mod checks;

/// Who takes over.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: i32,
    /// Of `meta.properties`; Kafka before 3.7 has none.
    pub(crate) directory_id: Option<Uuid>,
    /// Drawn for the new metadata.
    pub(crate) raft_id: u64,
    /// Whether Kafka has stopped in order.
    pub(crate) was_clean: bool,
}

/// What the operator allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Topics that stay behind.
    pub(crate) leave_out: BTreeSet<String>,
    /// Other replicas and controllers are given up.
    pub(crate) is_single_node: bool,
    /// Users, ACLs and tokens may stay behind.
    pub(crate) without_security: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// What the new cluster begins with.
    pub(crate) records: Vec<Record>,
    /// Directories of topics that stay behind.
    pub(crate) aside: Vec<String>,
    /// Topics and partitions that are taken.
    pub(crate) topics: usize,
    pub(crate) partitions: usize,
    pub(crate) findings: Vec<Finding>,
}

/// Decides.
pub(crate) fn decide(
    kafka: &KafkaMetadata,
    survey: &Survey,
    node: &Node,
    choice: &Choice,
    config: &BrokerConfig,
) -> Plan {
    let mut decision = Decision {
        kafka,
        survey,
        node,
        choice,
        config,
        plan: Plan {
            records: Vec::new(),
            aside: Vec::new(),
            topics: 0,
            partitions: 0,
            findings: Vec::new(),
        },
    };
    decision.check_features();
    decision.check_security();
    decision.check_cluster();
    decision.take_broker();
    decision.take_topics();
    decision.take_broker_configs();
    decision.take_producer_ids();
    decision.check_entries();
    decision.plan.findings.sort();
    decision.plan
}

struct Decision<'a> {
    kafka: &'a KafkaMetadata,
    survey: &'a Survey,
    node: &'a Node,
    choice: &'a Choice,
    config: &'a BrokerConfig,
    plan: Plan,
}

impl Decision<'_> {
    fn tell(
        &mut self,
        weight: Weight,
        subject: Subject,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let finding = Finding::new(weight, subject, what, remedy);
        self.plan.findings.push(finding);
    }

    fn take_broker(&mut self) {
        let Some(broker) = self.kafka.broker(self.node.id) else {
            return; // told by the checks of the cluster
        };
        let record = Record::Broker(Broker {
            id: BrokerId(self.node.id),
            epoch: BrokerEpoch(broker.epoch.max(1)),
            incarnation: broker.incarnation,
            raft_id: self.node.raft_id,
            endpoints: endpoints(broker),
            rack: broker.rack.clone(),
            // Until its own process says otherwise.
            fenced: true,
            stopping: false,
        });
        self.plan.records.push(record);
    }

    fn take_topics(&mut self) {
        let kafka = self.kafka;
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (id, topic) in &kafka.topics {
            names.insert(&topic.name);
            if self.choice.leave_out.contains(&topic.name) {
                self.leave_out(topic);
                continue;
            }
            let before = self.plan.findings.len();
            let records = self.topic_records(*id, topic);
            let found = &self.plan.findings[before..];
            if found
                .iter()
                .all(|finding| finding.weight != Weight::Refused)
            {
                self.plan.topics += 1;
                self.plan.partitions += topic.partitions.len();
                self.plan.records.extend(records);
                self.note_internal(&topic.name);
            }
        }
        for name in &self.choice.leave_out {
            if !names.contains(name.as_str()) {
                let what = "Kafka's metadata know no such topic";
                let remedy = "take it off the command line, or mind its spelling";
                self.tell(Weight::Refused, Subject::Topic(name.clone()), what, remedy);
            }
        }
    }

    fn leave_out(&mut self, topic: &KafkaTopic) {
        let mut count = 0;
        for partition in self.survey.partitions.keys() {
            if partition.topic.as_str() == topic.name {
                self.plan.aside.push(partition.to_string());
                count += 1;
            }
        }
        let what = format!("left out, as asked; its {count} directories are put aside");
        self.tell(Weight::Left, Subject::Topic(topic.name.clone()), what, "");
    }

    fn topic_records(&mut self, id: Uuid, topic: &KafkaTopic) -> Vec<Record> {
        let name = match TopicName::new(&topic.name) {
            Ok(name) => name,
            Err(error) => {
                let subject = Subject::Topic(topic.name.clone());
                let remedy = "delete it in Kafka";
                self.tell(Weight::Refused, subject, error.to_string(), remedy);
                return Vec::new();
            }
        };
        let mut records = vec![Record::Topic {
            id,
            name: name.clone(),
        }];
        let resource = ConfigResource::topic(&name);
        for (key, value) in self.topic_overrides(&topic.name) {
            records.push(Record::Config {
                resource: resource.clone(),
                key,
                value: Some(value),
            });
        }
        for (expected, (index, partition)) in (0..).zip(&topic.partitions) {
            if *index != expected {
                let subject = Subject::Partition(topic.name.clone(), expected);
                let what = "Kafka's metadata lack it";
                self.tell(Weight::Refused, subject, what, LEAVE_OUT);
                return Vec::new();
            }
            let place = TopicPartition {
                topic: name.clone(),
                partition: PartitionIndex(*index),
            };
            if let Some(partition) = self.take_partition(id, &place, partition) {
                records.push(Record::Partition {
                    topic_id: id,
                    index: PartitionIndex(*index),
                    partition,
                });
            }
        }
        records
    }

    /// The partition with this node as its only replica; `None` when it cannot be taken.
    fn take_partition(
        &mut self,
        topic_id: Uuid,
        place: &TopicPartition,
        partition: &KafkaPartition,
    ) -> Option<Partition> {
        let subject = Subject::Partition(place.topic.to_string(), place.partition.get());
        let stands_against = checks::replicas(partition, self.node, self.choice)
            .or_else(|| checks::directory(partition, self.node))
            .or_else(|| match self.survey.partitions.get(place) {
                Some(facts) => checks::files(facts, topic_id, partition).or_else(|| {
                    let is_compacted = self.is_compacted(place.topic.as_str());
                    checks::extent(facts, is_compacted, self.node.was_clean)
                }),
                None => Some(checks::missing_directory()),
            });
        if let Some((what, remedy)) = stands_against {
            self.tell(Weight::Refused, subject, what, remedy);
            return None;
        }
        if partition.replicas.len() > 1 {
            let others = partition.replicas.iter().filter(|id| **id != self.node.id);
            let others: Vec<_> = others.map(ToString::to_string).collect();
            let what = format!("its other replicas are given up: {}", others.join(", "));
            self.tell(Weight::Left, subject, what, "");
        }
        Some(self.partition_of(partition))
    }

    /// Whether the topic's `cleanup.policy` has `compact`.
    fn is_compacted(&self, topic: &str) -> bool {
        let of_topic = (TOPIC_RESOURCE, topic.to_owned());
        let (all, own) = (String::new(), self.node.id.to_string());
        let of_broker = |name| (BROKER_RESOURCE, name);
        let keys = [
            (of_topic, "cleanup.policy"),
            (of_broker(own), "log.cleanup.policy"),
            (of_broker(all), "log.cleanup.policy"),
        ];
        let mut set = keys
            .iter()
            .filter_map(|(resource, key)| self.kafka.configs.get(resource)?.get(*key));
        set.next().is_some_and(|policy| policy.contains("compact"))
    }

    fn partition_of(&self, partition: &KafkaPartition) -> Partition {
        let me = vec![BrokerId(self.node.id)];
        let mine = |list: &[i32]| match list.contains(&self.node.id) {
            true => me.clone(),
            false => Vec::new(),
        };
        let isr = mine(&partition.isr);
        let elr = if isr.is_empty() {
            mine(&partition.elr)
        } else {
            Vec::new()
        };
        // A replica that is the only one has whatever there is.
        let last_known = if isr.is_empty() && elr.is_empty() {
            me.clone()
        } else {
            Vec::new()
        };
        Partition {
            replicas: me,
            isr,
            elr,
            last_known,
            offline: Vec::new(),
            leader: BrokerId::NONE,
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            partition_epoch: PartitionEpoch(partition.partition_epoch),
            leader_recovery_state: match partition.recovery_state {
                0 => LeaderRecoveryState::Recovered,
                _ => LeaderRecoveryState::Recovering,
            },
        }
    }

    /// The overrides that topics of this version take; the others are told.
    fn topic_overrides(&mut self, topic: &str) -> BTreeMap<String, String> {
        let kafka = self.kafka;
        let resource = (TOPIC_RESOURCE, topic.to_owned());
        let (of, config) = (format!("topic {topic}"), self.config);
        let check = |one: &BTreeMap<String, String>| {
            validate_topic_overrides(config, one).map_err(|error| error.to_string())
        };
        let taken = self.overrides(&of, kafka.configs.get(&resource), check);
        if let Err(error) = validate_topic_overrides(self.config, &taken) {
            let subject = Subject::Topic(topic.to_owned());
            let what = format!("its settings do not go together: {error}");
            let remedy = "change them in Kafka with kafka-configs.sh";
            self.tell(Weight::Refused, subject, what, remedy);
        }
        taken
    }

    fn overrides(
        &mut self,
        of: &str,
        overrides: Option<&BTreeMap<String, String>>,
        check: impl Fn(&BTreeMap<String, String>) -> Result<(), String>,
    ) -> BTreeMap<String, String> {
        let mut taken = BTreeMap::new();
        for (key, value) in overrides.into_iter().flatten() {
            let one = BTreeMap::from([(key.clone(), value.clone())]);
            let subject = Subject::Config(of.to_owned(), key.clone());
            if key == "remote.storage.enable" && value == "true" {
                let what = "its older records are in tiered storage, which Skein does not read";
                self.tell(Weight::Refused, subject, what, LEAVE_OUT);
            } else if let Err(error) = check(&one) {
                let what = format!("{value:?} is not taken: {error}");
                self.tell(Weight::Left, subject, what, "");
            } else {
                taken.extend(one);
            }
        }
        taken
    }

    fn take_broker_configs(&mut self) {
        let kafka = self.kafka;
        let own = self.node.id.to_string();
        for ((kind, name), overrides) in &kafka.configs {
            let of = match *kind {
                TOPIC_RESOURCE => continue,
                BROKER_RESOURCE if name.is_empty() => "all brokers".to_owned(),
                BROKER_RESOURCE => format!("broker {name}"),
                16 => format!("client metrics {name}"),
                32 => format!("group {name}"),
                kind => format!("resource {name} of type {kind}"),
            };
            if *kind != BROKER_RESOURCE || !(name.is_empty() || *name == own) {
                let keys: Vec<_> = overrides.keys().map(String::as_str).collect();
                let subject = Subject::Config(of, keys.join(", "));
                self.tell(
                    Weight::Left,
                    subject,
                    "this version keeps no such settings",
                    "",
                );
                continue;
            }
            let id = (!name.is_empty()).then_some(BrokerId(self.node.id));
            let check = |one: &BTreeMap<String, String>| {
                validate_broker_overrides(one).map_err(|error| error.to_string())
            };
            for (key, value) in self.overrides(&of, Some(overrides), check) {
                self.plan.records.push(Record::Config {
                    resource: ConfigResource::broker(id),
                    key,
                    value: Some(value),
                });
            }
        }
    }

    fn take_producer_ids(&mut self) {
        let next = self.kafka.next_producer_id;
        if next > 0 {
            let epoch = self.kafka.broker(self.node.id).map_or(0, |b| b.epoch);
            self.plan.records.push(Record::ProducerIds {
                broker_id: BrokerId(self.node.id),
                broker_epoch: BrokerEpoch(epoch),
                next_producer_id: ProducerId(next),
            });
        }
    }

    fn note_internal(&mut self, topic: &str) {
        let what = match topic {
            checks::OFFSETS_TOPIC => "taken with the committed offsets in it",
            "__transaction_state" => "taken; this version serves no transactions yet",
            "__share_group_state" => "taken; this version serves no share groups",
            _ => return,
        };
        self.tell(Weight::Note, Subject::Topic(topic.to_owned()), what, "");
    }
}

/// What helps against most of what stands against a topic.
const LEAVE_OUT: &str = "leave the topic out with --leave-out, or delete it in Kafka";

fn endpoints(broker: &KafkaBroker) -> Vec<Endpoint> {
    let endpoints = broker.end_points.iter().map(|endpoint| Endpoint {
        listener: endpoint.name.as_str().to_owned(),
        host: endpoint.host.as_str().to_owned(),
        port: endpoint.port,
        security_protocol: endpoint.security_protocol,
    });
    endpoints.collect()
}

#[cfg(test)]
mod tests;
