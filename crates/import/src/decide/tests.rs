//! What is taken, what is refused, what is told.

#![allow(clippy::unwrap_used)] // a test: what fails here is the verdict

use skein_metadata::Image;
use skein_protocol::MetadataRecord;
use skein_protocol::messages::metadata_records::{
    AccessControlEntryRecord, ClientQuotaRecord, PartitionRecord, RegisterBrokerRecord,
};
use skein_types::Offset;

use super::*;
use crate::kafka_metadata::Replay;
use crate::survey::{Extent, PartitionFacts};
use crate::testing::{DIRECTORY, NODE, broker, config, feature, partition, producer_ids, topic};

/// A node with two topics; tests change what they are about.
struct Case {
    records: Vec<MetadataRecord>,
    survey: Survey,
    choice: Choice,
    was_clean: bool,
}

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new(topic).unwrap(),
        partition: PartitionIndex(partition),
    }
}

fn facts(topic: u8) -> PartitionFacts {
    PartitionFacts {
        topic_id: Some(Uuid([topic; 16])),
        segments: 1,
        latest_epoch: Some(LeaderEpoch(3)),
        ..PartitionFacts::default()
    }
}

impl Case {
    fn new() -> Self {
        let records = vec![
            feature(27),
            broker(12),
            topic(1, "orders"),
            MetadataRecord::Partition(partition(1, 0)),
            MetadataRecord::Partition(partition(1, 1)),
            topic(2, "audit"),
            MetadataRecord::Partition(partition(2, 0)),
        ];
        let mut survey = Survey::default();
        for (name, index, id) in [("orders", 0, 1), ("orders", 1, 1), ("audit", 0, 2)] {
            survey.partitions.insert(place(name, index), facts(id));
        }
        Self {
            records,
            survey,
            choice: Choice::default(),
            was_clean: true,
        }
    }

    fn with(record: MetadataRecord) -> Self {
        let mut case = Self::new();
        case.records.push(record);
        case
    }

    /// The first partition of `audit` is another one.
    fn with_audit(change: impl FnOnce(&mut PartitionRecord)) -> Self {
        let mut case = Self::new();
        let mut record = partition(2, 0);
        change(&mut record);
        *case.records.last_mut().unwrap() = MetadataRecord::Partition(record);
        case
    }

    fn with_files(change: impl FnOnce(&mut PartitionFacts)) -> Self {
        let mut case = Self::new();
        change(case.survey.partitions.get_mut(&place("audit", 0)).unwrap());
        case
    }

    fn decide(&self) -> Plan {
        let mut replay = Replay::default();
        for record in &self.records {
            replay.replay(record.clone()).unwrap();
        }
        let node = Node {
            id: NODE,
            directory_id: Some(DIRECTORY),
            raft_id: 77,
            was_clean: self.was_clean,
        };
        let config = BrokerConfig::default();
        decide(
            &replay.finish().0,
            &self.survey,
            &node,
            &self.choice,
            &config,
        )
    }

    /// The only thing that stands against the import.
    fn refusal(&self) -> String {
        let findings = self.decide().findings;
        let refused: Vec<_> = of(Weight::Refused, &findings);
        assert_eq!(refused.len(), 1, "{findings:?}");
        assert!(!findings[0].remedy.is_empty(), "{findings:?}");
        refused[0].clone()
    }

    fn image(&self) -> Image {
        let plan = self.decide();
        assert_eq!(of(Weight::Refused, &plan.findings), [""; 0]);
        let mut image = Image::new();
        image.apply_records(&plan.records).unwrap();
        image.check().unwrap();
        image
    }
}

fn of(weight: Weight, findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .filter(|finding| finding.weight == weight)
        .map(|finding| format!("{}: {}", finding.subject, finding.what))
        .collect()
}

fn expect(case: &Case, text: &str) {
    let refusal = case.refusal();
    assert!(refusal.contains(text), "{refusal}");
}

#[test]
fn ids_epochs_configs_and_producer_ids_are_taken() {
    let mut case = Case::with(producer_ids(4000));
    case.records.extend([
        config(2, "orders", "retention.ms", Some("1000")),
        config(4, "", "log.retention.ms", Some("2000")),
        config(4, "1", "message.max.bytes", Some("3000")),
        config(4, "2", "message.max.bytes", Some("4000")),
    ]);
    let image = case.image();
    let topic = image.topic_by_name("orders").unwrap();
    assert_eq!((topic.id, topic.partitions.len()), (Uuid([1; 16]), 2));
    let partition = topic.partition(PartitionIndex(1)).unwrap();
    assert_eq!(partition.replicas, [BrokerId(NODE)]);
    assert_eq!(partition.isr, [BrokerId(NODE)]);
    assert_eq!(
        partition.leader,
        BrokerId::NONE,
        "who is elected gets the next epoch"
    );
    assert_eq!(partition.leader_epoch, LeaderEpoch(3));
    assert_eq!(partition.partition_epoch, PartitionEpoch(4));
    assert_eq!(image.next_producer_id(), ProducerId(4000));
    assert_eq!(image.next_broker_epoch(), BrokerEpoch(13));
    let broker = image.broker(BrokerId(NODE)).unwrap();
    assert_eq!((broker.raft_id, broker.fenced), (77, true));
    let value = |resource: &ConfigResource, key| image.config_value(resource, key);
    let name = TopicName::new("orders").unwrap();
    assert_eq!(
        value(&ConfigResource::topic(&name), "retention.ms"),
        Some("1000")
    );
    assert_eq!(
        value(&ConfigResource::broker(None), "log.retention.ms"),
        Some("2000")
    );
    let own = ConfigResource::broker(Some(BrokerId(NODE)));
    assert_eq!(value(&own, "message.max.bytes"), Some("3000"));
    let left = of(Weight::Left, &case.decide().findings);
    assert_eq!(
        left,
        ["message.max.bytes of broker 2: this version keeps no such settings"]
    );
}

#[test]
fn a_setting_that_is_not_known_is_told_and_left() {
    let case = Case::with(config(
        2,
        "audit",
        "message.downconversion.enable",
        Some("true"),
    ));
    let left = of(Weight::Left, &case.decide().findings);
    assert!(
        left[0].starts_with("message.downconversion.enable of topic audit: \"true\""),
        "{left:?}"
    );
    case.image();
    let tiered = Case::with(config(2, "audit", "remote.storage.enable", Some("true")));
    expect(
        &tiered,
        "remote.storage.enable of topic audit: its older records",
    );
}

#[test]
fn replicas_decide_whether_a_partition_is_taken() {
    let elsewhere = Case::with_audit(|p| p.replicas = vec![2]);
    expect(&elsewhere, "audit-0: it lies on other nodes only: 2");
    let several = |isr: Vec<i32>| {
        Case::with_audit(|p| {
            (p.replicas, p.isr, p.directories) = (vec![2, NODE], isr, vec![DIRECTORY, DIRECTORY]);
        })
    };
    expect(
        &several(vec![2]),
        "node 1 was not in sync; those in sync: 2",
    );
    let mut both = several(vec![2, NODE]);
    expect(&both, "audit-0: it has several replicas: 2, 1");
    both.choice.is_single_node = true;
    let image = both.image();
    let audit = image.topic_by_name("audit").unwrap();
    assert_eq!(audit.partitions[0].replicas, [BrokerId(NODE)]);
    let left = of(Weight::Left, &both.decide().findings);
    assert_eq!(
        left,
        ["partition audit-0: its other replicas are given up: 2"]
    );
    let mut out_of_sync = several(vec![2]);
    out_of_sync.choice.is_single_node = true;
    expect(&out_of_sync, "not in sync");
    let mut stopped_last = several(vec![]);
    let MetadataRecord::Partition(record) = stopped_last.records.last_mut().unwrap() else {
        panic!("the partition of audit")
    };
    record.eligible_leader_replicas = Some(vec![NODE]);
    stopped_last.choice.is_single_node = true;
    let image = stopped_last.image();
    let partition = image.topic_by_name("audit").unwrap().partitions[0].clone();
    assert_eq!(
        (&partition.isr[..], &partition.elr[..]),
        (&[][..], &[BrokerId(NODE)][..])
    );
    // Killed since, it may have lost something.
    stopped_last.was_clean = false;
    expect(&stopped_last, "not in sync");
    let moving = Case::with_audit(|p| p.adding_replicas = vec![2]);
    expect(&moving, "a reassignment");
}

#[test]
fn a_partition_that_lost_its_isr_is_led_by_its_only_member() {
    let image = Case::with_audit(|p| p.isr = vec![]).image();
    let partition = image.topic_by_name("audit").unwrap().partitions[0].clone();
    assert_eq!(partition.last_known, [BrokerId(NODE)]);
}

#[test]
fn directories_must_be_those_of_the_metadata() {
    let mut missing = Case::new();
    missing.survey.partitions.remove(&place("orders", 1));
    expect(&missing, "orders-1: its directory is missing");
    let mut extra = Case::new();
    extra.survey.partitions.insert(place("orders", 2), facts(1));
    expect(&extra, "orders-2: Kafka's metadata know no such partition");
    let mut stranger = Case::new();
    stranger.survey.strangers.push("backup".into());
    expect(&stranger, "backup: neither");
    let mut leftovers = Case::new();
    leftovers.survey.leftovers = vec!["a-0.00-delete".into(), "b-0.00-future".into()];
    assert_eq!(of(Weight::Note, &leftovers.decide().findings).len(), 2);
    leftovers.image();
    let elsewhere = Case::with_audit(|p| p.directories = vec![Uuid([6; 16])]);
    expect(&elsewhere, "audit-0: it lies in another directory");
    let mut unassigned = Uuid::ZERO;
    for reserved in 0..3 {
        unassigned.0[15] = reserved;
        Case::with_audit(|p| p.directories = vec![unassigned]).image();
    }
}

#[test]
fn files_must_be_those_of_the_partition_and_servable() {
    let id = Uuid([9; 16]);
    expect(
        &Case::with_files(|f| f.topic_id = Some(id)),
        "another topic of that name",
    );
    Case::with_files(|f| f.topic_id = None).image();
    expect(&Case::with_files(|f| f.segments = 0), "no segment");
    let newer = Case::with_files(|f| f.latest_epoch = Some(LeaderEpoch(4)));
    expect(&newer, "leader epoch 4, the metadata know of 3");
    let old = Case::with_files(|f| f.unreadable = Some(("a.log".into(), "magic 1".into())));
    expect(&old, "segment a.log does not begin with a batch: magic 1");
    let open = Case::with_files(|f| f.open_transaction = Some(Offset(7)));
    expect(&open, "a transaction that began at offset 7");
}

#[test]
fn segments_must_hold_what_kafka_has_told() {
    let extent = |end, gap: Option<(i64, i64)>| {
        let gap = gap.map(|(from, to)| Offset(from)..Offset(to));
        let log_end_offset = Offset(end);
        Some(Extent {
            log_end_offset,
            gap,
        })
    };
    Case::with_files(|f| f.extent = extent(9, None)).image();
    let cut = Case::with_files(|f| {
        (f.extent, f.recovery_point) = (extent(9, None), Some(Offset(10)));
    });
    expect(
        &cut,
        "its files end at offset 9, and Kafka had flushed it up to 10",
    );
    let gap = Case::with_files(|f| f.extent = extent(9, Some((3, 5))));
    expect(&gap, "offsets 3 to 4 are missing between two segments");
    // What compaction has taken out, by a policy that may have changed since.
    Case::with_files(|f| (f.extent, f.compacted_to) = (extent(9, Some((3, 5))), Some(Offset(5))))
        .image();

    let mut compacted = gap;
    compacted
        .records
        .push(config(2, "audit", "cleanup.policy", Some("compact,delete")));
    compacted.image();
    compacted.was_clean = false;
    expect(&compacted, "whether compaction took them or a crash");
    let facts = compacted.survey.partitions.get_mut(&place("audit", 0));
    facts.unwrap().recovery_point = Some(Offset(5));
    compacted.image();
}

#[test]
fn a_topic_may_be_left_out_by_name() {
    let mut case = Case::with_files(|f| f.open_transaction = Some(Offset(7)));
    case.survey
        .partitions
        .get_mut(&place("orders", 0))
        .unwrap()
        .segments = 0;
    case.choice.leave_out = BTreeSet::from(["audit".to_owned(), "orders".to_owned()]);
    let plan = case.decide();
    assert_eq!(plan.aside, ["orders-0", "orders-1", "audit-0"]);
    assert_eq!((plan.topics, plan.partitions), (0, 0));
    assert!(case.image().topics().next().is_none());
    case.choice.leave_out = BTreeSet::from(["audits".to_owned()]);
    case.survey = Case::new().survey;
    expect(&case, "topic audits: Kafka's metadata know no such topic");
}

#[test]
fn metadata_of_another_time_or_node_are_refused() {
    let mut newer = Case::new();
    newer.records[0] = feature(28);
    expect(&newer, "feature metadata.version: level 28 is unknown");
    let mut none = Case::new();
    none.records.remove(0);
    expect(&none, "the metadata have none");
    let mut other = Case::new();
    other.records[1] = MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        broker_id: NODE,
        broker_epoch: 12,
        log_dirs: vec![Uuid([6; 16])],
        ..RegisterBrokerRecord::default()
    });
    expect(&other, "another directory's or another cluster's");
    let mut unregistered = Case::new();
    unregistered.records.remove(1);
    expect(&unregistered, "no broker 1 is registered");
}

#[test]
fn security_is_given_up_by_name_only() {
    let acl = MetadataRecord::AccessControlEntry(AccessControlEntryRecord::default());
    let mut case = Case::with(acl);
    expect(&case, "security: 1 access control entries");
    case.choice.without_security = true;
    case.image();
    let quota = MetadataRecord::ClientQuota(ClientQuotaRecord::default());
    let left = of(Weight::Left, &Case::with(quota).decide().findings);
    assert_eq!(left, ["security: 1 client quotas are not taken"]);
}
