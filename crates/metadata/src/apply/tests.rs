//! Rules of `apply`, one test each.

use super::*;
use crate::LeaderRecoveryState;
use skein_types::{LeaderEpoch, PartitionEpoch, ProducerId, TopicName, Uuid};

fn at(index: u64) -> LogId {
    LogId { term: 1, index }
}

fn topic(byte: u8, name: &str) -> Record {
    Record::Topic {
        id: Uuid([byte; 16]),
        name: TopicName::new(name).unwrap(),
    }
}

fn broker(id: i32, epoch: i64) -> Record {
    Record::Broker(Broker {
        id: BrokerId(id),
        epoch: BrokerEpoch(epoch),
        incarnation: Uuid([1; 16]),
        raft_id: 1,
        endpoints: vec![],
        rack: None,
        fenced: true,
        stopping: false,
    })
}

fn partition(byte: u8, index: i32, partition_epoch: i32) -> Record {
    Record::Partition {
        topic_id: Uuid([byte; 16]),
        index: PartitionIndex(index),
        partition: Partition {
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
            elr: vec![],
            last_known: vec![],
            offline: vec![],
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(partition_epoch),
            leader_recovery_state: LeaderRecoveryState::Recovered,
        },
    }
}

fn refused(image: &mut Image, records: &[Record]) {
    let before = image.clone();
    assert!(image.apply_records(records).is_err(), "{records:?}");
    assert_eq!(
        *image, before,
        "a refused record leaves the image as it was"
    );
}

#[test]
fn an_entry_with_another_base_changes_nothing_and_says_so() {
    let mut image = Image::new();
    let entry = |base, records| Entry { base, records };
    assert_eq!(
        image.apply(at(1), &entry(None, vec![topic(1, "a")])),
        Ok(Outcome::Applied)
    );
    // Decided on the empty image, before `a` was there.
    let late = entry(None, vec![topic(2, "b")]);
    assert_eq!(
        image.apply(at(2), &late),
        Ok(Outcome::StaleBase(Some(at(1))))
    );
    assert!(image.topic_by_name("b").is_none());
    assert_eq!(image.last_applied(), Some(at(2)));
    assert_eq!(image.last_decision(), Some(at(1)));
    // A no-op is no decision: what was based on the first one still fits.
    assert_eq!(
        image.apply(at(3), &entry(Some(at(1)), vec![topic(2, "b")])),
        Ok(Outcome::Applied)
    );
    assert_eq!(image.last_decision(), Some(at(3)));
}

#[test]
fn records_of_an_entry_take_effect_together_or_not_at_all() {
    let mut image = Image::new();
    let entry = Entry {
        base: None,
        records: vec![topic(1, "a"), topic(2, "a")],
    };
    let before = image.clone();
    assert!(matches!(
        image.apply(at(1), &entry),
        Err(ApplyError::Record { index: 1, .. })
    ));
    assert_eq!(image, before);
}

#[test]
fn the_log_is_applied_in_its_order() {
    let mut image = Image::new();
    image.advance(at(5)).unwrap();
    assert!(matches!(
        image.advance(at(5)),
        Err(ApplyError::OutOfOrder { .. })
    ));
    assert!(image.advance(LogId { term: 0, index: 6 }).is_err());
    assert_eq!(image.last_applied(), Some(at(5)));
}

#[test]
fn names_and_ids_of_topics_are_one_to_one_and_do_not_collide() {
    let mut image = Image::new();
    image.apply_records(&[topic(1, "a.b")]).unwrap();
    refused(&mut image, &[topic(1, "c")]);
    refused(&mut image, &[topic(2, "a.b")]);
    refused(&mut image, &[topic(2, "a_b")]);
    refused(
        &mut image,
        &[Record::Topic {
            id: Uuid::ZERO,
            name: TopicName::new("z").unwrap(),
        }],
    );
    assert_eq!(
        image.topic_colliding_with("a_b").map(TopicName::as_str),
        Some("a.b")
    );
    image
        .apply_records(&[Record::RemoveTopic { id: Uuid([1; 16]) }])
        .unwrap();
    image.apply_records(&[topic(2, "a_b")]).unwrap();
    image.check().unwrap();
}

#[test]
fn a_removed_topic_takes_its_partitions_and_configuration_along() {
    let mut image = Image::new();
    let resource = ConfigResource::topic(&TopicName::new("a").unwrap());
    let set = |value: Option<&str>| Record::Config {
        resource: resource.clone(),
        key: "k".into(),
        value: value.map(str::to_owned),
    };
    refused(&mut image, &[set(Some("1"))]);
    image
        .apply_records(&[topic(1, "a"), partition(1, 0, 0), set(Some("1"))])
        .unwrap();
    assert_eq!(image.config_value(&resource, "k"), Some("1"));
    image
        .apply_records(&[Record::RemoveTopic { id: Uuid([1; 16]) }])
        .unwrap();
    image.apply_records(&[topic(2, "a")]).unwrap();
    assert_eq!(
        image.config(&resource),
        None,
        "a new topic of the name starts with defaults"
    );
    image.apply_records(&[set(Some("1")), set(None)]).unwrap();
    assert_eq!(image.config_resources().count(), 0);
}

#[test]
fn partitions_leave_no_gap_and_their_epochs_grow() {
    let mut image = Image::new();
    image
        .apply_records(&[topic(1, "a"), partition(1, 0, 0)])
        .unwrap();
    refused(&mut image, &[partition(1, 2, 0)]);
    refused(&mut image, &[partition(1, -1, 0)]);
    refused(&mut image, &[partition(1, 0, 0)]);
    refused(&mut image, &[partition(2, 0, 0)]);
    image
        .apply_records(&[partition(1, 0, 1), partition(1, 1, 0)])
        .unwrap();
    let partition = image.partition(Uuid([1; 16]), PartitionIndex(0)).unwrap();
    assert_eq!(partition.partition_epoch, PartitionEpoch(1));
}

#[test]
fn a_broker_epoch_is_never_given_twice_not_even_after_a_removal() {
    let mut image = Image::new();
    image.apply_records(&[broker(1, 1), broker(2, 2)]).unwrap();
    refused(&mut image, &[broker(3, 2)]);
    let stale = Record::RemoveBroker {
        id: BrokerId(2),
        epoch: BrokerEpoch(1),
    };
    refused(&mut image, &[stale]);
    let remove = Record::RemoveBroker {
        id: BrokerId(2),
        epoch: BrokerEpoch(2),
    };
    image.apply_records(&[remove]).unwrap();
    assert_eq!(image.next_broker_epoch(), BrokerEpoch(3));
    refused(&mut image, &[broker(2, 2)]);
    refused(&mut image, &[broker(2, i64::MAX)]);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let block = |next| Record::ProducerIds {
        broker_id: BrokerId(1),
        broker_epoch: BrokerEpoch(1),
        next_producer_id: ProducerId(next),
    };
    let mut image = Image::new();
    image.apply_records(&[block(1000), block(2000)]).unwrap();
    refused(&mut image, &[block(2000)]);
    refused(&mut image, &[block(1500)]);
}

#[test]
fn an_update_leaves_the_former_image_alone() {
    let mut image = Image::new();
    image
        .apply_records(&[topic(1, "a"), partition(1, 0, 0)])
        .unwrap();
    let former = image.clone();
    image
        .apply_records(&[partition(1, 0, 1), topic(2, "b")])
        .unwrap();
    assert_eq!(former.topics().len(), 1);
    let partition = former.partition(Uuid([1; 16]), PartitionIndex(0)).unwrap();
    assert_eq!(partition.partition_epoch, PartitionEpoch(0));
}

#[test]
fn changes_between_images_are_told() {
    use crate::TopicChange;
    let mut image = Image::new();
    let same = topic(1, "same");
    image
        .apply_records(&[same, topic(2, "grows"), topic(3, "goes")])
        .unwrap();
    let former = image.clone();
    let gone = Record::RemoveTopic { id: Uuid([3; 16]) };
    let resource = ConfigResource::broker(None);
    let config = Record::Config {
        resource: resource.clone(),
        key: "k".into(),
        value: Some("v".into()),
    };
    image
        .apply_records(&[partition(2, 0, 0), gone, topic(4, "comes"), config])
        .unwrap();
    let told: Vec<_> = image
        .topic_changes(&former)
        .map(|change| match change {
            TopicChange::Added(topic) => format!("+{}", topic.name),
            TopicChange::Removed(topic) => format!("-{}", topic.name),
            TopicChange::Changed { former, now } => {
                let (before, after) = (former.partitions.len(), now.partitions.len());
                format!("{} {before} {after}", now.name)
            }
        })
        .collect();
    assert_eq!(told, ["grows 0 1", "-goes", "+comes"]);
    assert_eq!(
        image.config_changes(&former).collect::<Vec<_>>(),
        [&resource]
    );
    assert_eq!(image.topic_changes(&image).count(), 0);
    assert_eq!(image.overrides(&resource).len(), 1);
}
