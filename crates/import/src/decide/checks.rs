//! What stands against an import.
//!
//! Input: a partition, its files, the cluster around the node. Output: what is wrong and what to
//! do, or nothing.
//!
//! Source: KIP-858 for the reserved directory ids; KIP-584 for feature levels.

use skein_types::{Offset, Uuid};

use super::{Choice, Decision, LEAVE_OUT, Node};
use crate::finding::{Subject, Weight};
use crate::kafka_metadata::KafkaPartition;
use crate::survey::PartitionFacts;

/// What is wrong, and what to do.
type Objection = (String, &'static str);

/// The topic in which groups keep their offsets.
pub(super) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The metadata versions whose records are known here: 3.3-IV3 to 4.1-IV1.
const METADATA_VERSIONS: std::ops::RangeInclusive<i16> = 7..=27;
/// The feature of the quorum's own log, which is not in the records.
const METADATA_VERSION: &str = "metadata.version";
/// Directory ids with a meaning of their own: migrating, unassigned, lost.
const RESERVED_DIRECTORIES: [u128; 3] = [0, 1, 2];

const SINGLE_NODE: &str = "--single-node gives the other replicas up; or leave the topic out with \
                           --leave-out";
const BRING_FILES: &str = "bring the whole directory, as it was when Kafka stopped; or leave the \
                           topic out with --leave-out";
const RESTART_KAFKA: &str = "start Kafka on the directory and stop it cleanly, then try again; or \
                             leave the topic out with --leave-out";

/// Whether the replicas allow to take the partition.
pub(super) fn replicas(
    partition: &KafkaPartition,
    node: &Node,
    choice: &Choice,
) -> Option<Objection> {
    let list = |ids: &[i32]| {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        ids.join(", ")
    };
    if !partition.adding.is_empty() || !partition.removing.is_empty() {
        let what = "a reassignment of its replicas is under way".to_owned();
        let remedy = "finish or cancel it in Kafka with kafka-reassign-partitions.sh";
        return Some((what, remedy));
    }
    if !partition.replicas.contains(&node.id) {
        let on = list(&partition.replicas);
        return Some((format!("it lies on other nodes only: {on}"), LEAVE_OUT));
    }
    if partition.replicas.len() == 1 {
        return None;
    }
    let is_eligible = node.was_clean && partition.elr.contains(&node.id);
    if !partition.isr.contains(&node.id) && !is_eligible {
        let isr = list(&partition.isr);
        let what = format!("node {} was not in sync; those in sync: {isr}", node.id);
        return Some((what, "import the directory of a node that was in sync"));
    }
    if !choice.is_single_node {
        let what = format!("it has several replicas: {}", list(&partition.replicas));
        return Some((what, SINGLE_NODE));
    }
    None
}

/// Whether the partition lies in this directory of the node.
pub(super) fn directory(partition: &KafkaPartition, node: &Node) -> Option<Objection> {
    let at = partition.replicas.iter().position(|id| *id == node.id)?;
    let placed = partition.directories.get(at)?;
    let is_reserved = RESERVED_DIRECTORIES.contains(&u128::from_be_bytes(placed.0));
    if is_reserved || node.directory_id.is_none_or(|id| id == *placed) {
        return None;
    }
    let what = format!("it lies in another directory of the node, {placed}");
    let remedy = "Skein has one log directory: move it here in Kafka with \
                  kafka-reassign-partitions.sh, or leave the topic out with --leave-out";
    Some((what, remedy))
}

/// The partition has no directory.
pub(super) fn missing_directory() -> Objection {
    ("its directory is missing".to_owned(), RESTART_KAFKA)
}

/// Whether the files are those of this partition, and can be served.
pub(super) fn files(
    facts: &PartitionFacts,
    topic_id: Uuid,
    partition: &KafkaPartition,
) -> Option<Objection> {
    if let Some(found) = facts.topic_id.filter(|found| *found != topic_id) {
        let what = format!("its directory belongs to another topic of that name, {found}");
        return Some((what, RESTART_KAFKA));
    }
    if facts.segments == 0 {
        return Some(("its directory has no segment".to_owned(), RESTART_KAFKA));
    }
    if let Some(latest) = facts.latest_epoch
        && latest.get() > partition.leader_epoch
    {
        let what = format!(
            "its records are of leader epoch {latest}, the metadata know of {} only: the metadata \
             log is older than the records",
            partition.leader_epoch
        );
        return Some((what, "bring the metadata log of the same node and time"));
    }
    if let Some((path, reason)) = &facts.unreadable {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let what = format!("segment {name} does not begin with a batch: {reason}");
        return Some((what, LEAVE_OUT));
    }
    if let Some(offset) = facts.open_transaction {
        let what = format!("a transaction that began at offset {offset} has not ended");
        let remedy = "end it in Kafka: stop its producer and wait, or abort it with \
                      kafka-transactions.sh; or leave the topic out with --leave-out";
        return Some((what, remedy));
    }
    None
}

/// Whether the segments hold all that they should. `is_compacted`: gaps in the offsets are what
/// compaction has taken out; but only a clean stop, or a checkpoint, tells that between two
/// segments it was no crash.
pub(super) fn extent(
    facts: &PartitionFacts,
    is_compacted: bool,
    was_clean: bool,
) -> Option<Objection> {
    let extent = facts.extent.as_ref()?;
    let recovery_point = facts.recovery_point.unwrap_or(Offset::ZERO);
    if extent.log_end_offset < recovery_point {
        let what = format!(
            "its files end at offset {}, and Kafka had flushed it up to {recovery_point}: \
             segments are missing or cut",
            extent.log_end_offset
        );
        return Some((what, BRING_FILES));
    }
    let gap = extent.gap.as_ref()?;
    let told = if is_compacted && was_clean {
        return None;
    } else if is_compacted {
        facts.compacted_to.max(facts.recovery_point)
    } else {
        facts.compacted_to
    };
    if told.is_some_and(|told| told >= gap.end) {
        return None;
    }
    let what = format!(
        "offsets {} to {} are missing between two segments",
        gap.start,
        gap.end.0 - 1
    );
    if is_compacted {
        let why = "and no checkpoint tells whether compaction took them or a crash";
        return Some((format!("{what}, {why}"), RESTART_KAFKA));
    }
    Some((what, BRING_FILES))
}

impl Decision<'_> {
    pub(super) fn check_features(&mut self) {
        let kafka = self.kafka;
        let level = kafka.features.get(METADATA_VERSION).copied();
        if !level.is_some_and(|level| METADATA_VERSIONS.contains(&level)) {
            let what = match level {
                Some(level) => format!(
                    "level {level} is unknown here; known are {} to {}",
                    METADATA_VERSIONS.start(),
                    METADATA_VERSIONS.end()
                ),
                None => "the metadata have none".to_owned(),
            };
            let remedy = "use a newer version of Skein, or the Kafka that wrote the directory";
            let subject = Subject::Feature(METADATA_VERSION.to_owned());
            self.tell(Weight::Refused, subject, what, remedy);
        }
        for (name, level) in &kafka.features {
            if name != METADATA_VERSION {
                let what = format!("level {level} is not taken; Skein has levels of its own");
                self.tell(Weight::Note, Subject::Feature(name.clone()), what, "");
            }
        }
    }

    pub(super) fn check_security(&mut self) {
        let kafka = self.kafka;
        let weight = match self.choice.without_security {
            true => Weight::Left,
            false => Weight::Refused,
        };
        let kinds = [
            (kafka.acls.len(), "access control entries"),
            (kafka.scram_users.len(), "SCRAM credentials"),
            (kafka.tokens.len(), "delegation tokens"),
        ];
        for (count, kind) in kinds {
            if count > 0 {
                let what = format!("{count} {kind}, which this version does not have");
                let remedy = "--without-security goes on without them: whoever reaches the port \
                              may do anything then";
                self.tell(weight, Subject::Security, what, remedy);
            }
        }
        if !kafka.quotas.is_empty() {
            let what = format!("{} client quotas are not taken", kafka.quotas.len());
            self.tell(Weight::Left, Subject::Security, what, "");
        }
    }

    pub(super) fn check_cluster(&mut self) {
        let (kafka, id) = (self.kafka, self.node.id);
        if kafka.is_migrating {
            let what = "a migration from ZooKeeper is under way";
            let remedy = "finish it in Kafka";
            self.tell(Weight::Refused, Subject::Metadata, what, remedy);
        }
        let controllers = kafka.voters.len().max(kafka.controllers.len());
        if controllers > 1 && !self.choice.is_single_node {
            let what = format!(
                "{controllers} controllers kept it: its last records may not have been committed"
            );
            let remedy = "--single-node takes this node's copy for the truth";
            self.tell(Weight::Refused, Subject::Metadata, what, remedy);
        }
        let Some(broker) = kafka.broker(id) else {
            let what = format!(
                "no broker {id} is registered in it, though meta.properties says that this is its \
                 directory"
            );
            let remedy = "bring meta.properties and the metadata log of the same node together";
            self.tell(Weight::Refused, Subject::Metadata, what, remedy);
            return;
        };
        if let Some(directory_id) = self.node.directory_id
            && !broker.log_dirs.is_empty()
            && !broker.log_dirs.contains(&directory_id)
        {
            let what = format!(
                "broker {id} has no log directory {directory_id}, which meta.properties says this \
                 is: the metadata are another directory's or another cluster's"
            );
            let remedy = "bring meta.properties and the metadata log of the same node together";
            self.tell(Weight::Refused, Subject::Metadata, what, remedy);
        }
        if broker.log_dirs.len() > 1 {
            let what = format!(
                "the node has {} log directories; this is one of them",
                broker.log_dirs.len()
            );
            self.tell(Weight::Note, Subject::Directory, what, "");
        }
        let others: Vec<_> = kafka.brokers.keys().filter(|other| **other != id).collect();
        if !others.is_empty() {
            let others: Vec<_> = others.into_iter().map(ToString::to_string).collect();
            let what = format!("these brokers are not taken along: {}", others.join(", "));
            self.tell(Weight::Left, Subject::Metadata, what, "");
        }
    }

    /// Every directory must be a partition's that is taken, be put aside, or be harmless.
    pub(super) fn check_entries(&mut self) {
        let (kafka, survey) = (self.kafka, self.survey);
        for partition in survey.partitions.keys() {
            let topic = kafka
                .topics
                .values()
                .find(|topic| topic.name == partition.topic.as_str());
            let index = partition.partition.get();
            if topic.is_some_and(|topic| topic.partitions.contains_key(&index)) {
                continue;
            }
            let what = "Kafka's metadata know no such partition";
            let remedy = "move it out of the directory, or start Kafka, which sets it aside";
            let subject = Subject::Entry(partition.to_string());
            self.tell(Weight::Refused, subject, what, remedy);
        }
        for name in &survey.strangers {
            let what = "neither Kafka nor Skein knows such a directory";
            let remedy = "move it out of the directory";
            self.tell(Weight::Refused, Subject::Entry(name.clone()), what, remedy);
        }
        for name in &survey.leftovers {
            let what = match name.ends_with("-delete") {
                true => "a topic that Kafka was deleting; Skein removes it",
                false => "Kafka no longer used it; Skein leaves it alone",
            };
            self.tell(Weight::Note, Subject::Entry(name.clone()), what, "");
        }
    }
}
