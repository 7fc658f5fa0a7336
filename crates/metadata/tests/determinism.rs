//! The same log gives the same image, byte for byte, however it was reached: by applying it whole,
//! or from a snapshot of any prefix, or from entries that went through their encoding.

#![allow(clippy::unwrap_used)] // a test: what fails here is the verdict

use std::collections::BTreeSet;

use proptest::prelude::*;
use skein_metadata::{
    Broker, ConfigResource, Entry, Image, ImageDigest, LeaderRecoveryState, LogId, Outcome, Part,
    Partition, Record, ResourceType, decode_snapshot, encode_snapshot,
};
use skein_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicName, Uuid,
};

fn broker_ids() -> impl Strategy<Value = Vec<BrokerId>> {
    proptest::sample::subsequence(vec![BrokerId(1), BrokerId(2), BrokerId(3)], 0..=3)
}

fn name() -> impl Strategy<Value = TopicName> {
    prop_oneof![Just("a"), Just("a.b"), Just("a_b"), Just("c_d"), Just("e")]
        .prop_map(|name| TopicName::new(name).unwrap())
}

fn topic_id() -> impl Strategy<Value = Uuid> {
    (1_u8..6).prop_map(|byte| Uuid([byte; 16]))
}

fn partition() -> impl Strategy<Value = Partition> {
    (
        broker_ids(),
        broker_ids(),
        0_i32..4,
        0_i32..40,
        any::<bool>(),
        broker_ids(),
    )
        .prop_map(
            |(isr, elr, leader_epoch, partition_epoch, leads, offline)| {
                let elr: Vec<_> = elr.into_iter().filter(|id| !isr.contains(id)).collect();
                let leader = isr
                    .first()
                    .copied()
                    .filter(|_| leads)
                    .unwrap_or(BrokerId::NONE);
                let member = |id: &BrokerId| isr.contains(id) || elr.contains(id);
                let offline = offline.into_iter().filter(|id| !member(id)).collect();
                let nobody = isr.is_empty() && elr.is_empty();
                Partition {
                    replicas: vec![BrokerId(2), BrokerId(1), BrokerId(3)],
                    last_known: if nobody { vec![BrokerId(3)] } else { vec![] },
                    offline,
                    isr,
                    elr,
                    leader,
                    leader_epoch: LeaderEpoch(leader_epoch),
                    partition_epoch: PartitionEpoch(partition_epoch),
                    leader_recovery_state: LeaderRecoveryState::Recovered,
                }
            },
        )
}

fn record() -> impl Strategy<Value = Record> {
    let broker = (
        1_i32..4,
        1_i64..60,
        any::<bool>(),
        proptest::option::of("[a-z]{1,3}"),
    );
    let config = (
        any::<bool>(),
        name(),
        "[a-c]",
        proptest::option::of("[a-z0-9]{0,4}"),
    );
    prop_oneof![
        Just(Record::Cluster {
            cluster_id: Uuid([9; 16]).into()
        }),
        ("[ab]", 0_i16..3).prop_map(|(name, level)| Record::Feature { name, level }),
        broker.prop_map(|(id, epoch, fenced, rack)| Record::Broker(Broker {
            id: BrokerId(id),
            epoch: BrokerEpoch(epoch),
            incarnation: Uuid([3; 16]),
            raft_id: 5,
            endpoints: vec![],
            rack,
            fenced,
            stopping: false,
        })),
        (1_i32..4, 1_i64..60, any::<bool>()).prop_map(|(id, epoch, fenced)| Record::BrokerState {
            id: BrokerId(id),
            epoch: BrokerEpoch(epoch),
            fenced,
            stopping: !fenced,
        }),
        (4_u64..7).prop_map(|raft_id| Record::ForgetMember { raft_id }),
        (topic_id(), name()).prop_map(|(id, name)| Record::Topic { id, name }),
        topic_id().prop_map(|id| Record::RemoveTopic { id }),
        (topic_id(), 0_i32..4, partition()).prop_map(|(topic_id, index, partition)| {
            Record::Partition {
                topic_id,
                index: PartitionIndex(index),
                partition,
            }
        }),
        config.prop_map(|(of_topic, topic, key, value)| Record::Config {
            resource: if of_topic {
                ConfigResource::topic(&topic)
            } else {
                ConfigResource {
                    kind: ResourceType::Broker,
                    name: String::new(),
                }
            },
            key,
            value,
        }),
        (1_i64..9000).prop_map(|next| Record::ProducerIds {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(1),
            next_producer_id: ProducerId(next),
        }),
    ]
}

/// Records in entries; the flag says whether the entry is based on the last decision, as it should
/// be.
fn log() -> impl Strategy<Value = Vec<(bool, Vec<Record>)>> {
    let entry = (
        proptest::bool::weighted(0.9),
        proptest::collection::vec(record(), 1..3),
    );
    proptest::collection::vec(entry, 1..120)
}

/// Gives entries the bases that their proposers would have given them, leaves out those that do not
/// fit, and so makes a log such as a controller writes.
fn legal(log: Vec<(bool, Vec<Record>)>) -> Vec<(LogId, Entry)> {
    let mut image = Image::new();
    let mut entries = Vec::new();
    for ((fresh, records), index) in log.into_iter().zip(1..) {
        let log_id = LogId {
            term: 1 + index / 50,
            index,
        };
        let stale = Some(LogId { term: 0, index: 0 });
        let entry = Entry {
            base: if fresh { image.last_decision() } else { stale },
            records,
        };
        if image.apply(log_id, &entry).is_ok() {
            image.check().unwrap();
            entries.push((log_id, entry));
        }
    }
    entries
}

/// Applies an entry, and has the digest follow.
fn follow(digest: &mut ImageDigest, image: &mut Image, log_id: LogId, entry: &Entry) {
    let former = image.clone();
    image.apply(log_id, entry).unwrap();
    let parts = Part::touched_by(&entry.records, &former);
    digest.follow(&parts, &former, image);
}

/// Topic 1 with so many partitions, and an override.
fn large(partitions: i32) -> Image {
    let id = Uuid([1; 16]);
    let name = TopicName::new("a").unwrap();
    let resource = ConfigResource::topic(&name);
    let mut records = vec![Record::Topic { id, name }];
    records.extend((0..partitions).map(|index| changed(index, 0)));
    records.push(Record::Config {
        resource,
        key: "b".to_owned(),
        value: Some("c".to_owned()),
    });
    let mut image = Image::new();
    image.apply_records(&records).unwrap();
    image
}

/// A partition of topic 1 in a new epoch.
fn changed(index: i32, epoch: i32) -> Record {
    Record::Partition {
        topic_id: Uuid([1; 16]),
        index: PartitionIndex(index),
        partition: Partition {
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
            elr: vec![],
            last_known: vec![],
            offline: vec![],
            leader: BrokerId(1),
            leader_epoch: LeaderEpoch(epoch),
            partition_epoch: PartitionEpoch(epoch),
            leader_recovery_state: LeaderRecoveryState::Recovered,
        },
    }
}

#[test]
fn a_hash_follows_an_entry_at_the_cost_of_what_it_changes() {
    let former = large(1_000);
    let one = Part::touched_by(&[changed(7, 1), changed(7, 2)], &former);
    let part = Part::Partition(Uuid([1; 16]), PartitionIndex(7));
    assert_eq!(one, BTreeSet::from([part]));
    let id = Uuid([1; 16]);
    let all = Part::touched_by(&[Record::RemoveTopic { id }], &former);
    assert_eq!(all.len(), 1_000 + 2, "with its name and its overrides");
}

#[test]
fn a_topic_that_is_removed_and_made_again_in_one_entry_is_followed() {
    let mut image = large(3);
    let mut digest = ImageDigest::of(&image);
    let id = Uuid([1; 16]);
    let name = TopicName::new("b").unwrap();
    let entry = Entry {
        base: None,
        records: vec![
            Record::RemoveTopic { id },
            Record::Topic { id, name },
            changed(0, 0),
        ],
    };
    follow(&mut digest, &mut image, LogId { term: 1, index: 1 }, &entry);
    assert_eq!(digest, ImageDigest::of(&image));
}

proptest! {
    #[test]
    fn the_same_log_gives_the_same_image(log in log(), cut in any::<prop::sample::Index>()) {
        let entries = legal(log);
        let mut whole = Image::new();
        for (log_id, entry) in &entries {
            let outcome = whole.apply(*log_id, entry).unwrap();
            prop_assert_eq!(outcome == Outcome::Applied, whole.last_decision() == Some(*log_id));
        }
        let bytes = encode_snapshot(&whole).unwrap();
        prop_assert_eq!(&decode_snapshot(&bytes).unwrap(), &whole);

        let cut = cut.index(entries.len() + 1);
        let mut resumed = Image::new();
        for (log_id, entry) in &entries[..cut] {
            resumed.apply(*log_id, entry).unwrap();
        }
        let mut resumed = decode_snapshot(&encode_snapshot(&resumed).unwrap()).unwrap();
        for (log_id, entry) in &entries[cut..] {
            let mut encoded = Vec::new();
            entry.encode(&mut encoded).unwrap();
            let entry = Entry::decode(&encoded).unwrap();
            resumed.apply(*log_id, &entry).unwrap();
        }
        prop_assert_eq!(encode_snapshot(&resumed).unwrap(), bytes);
    }

    #[test]
    fn equal_images_have_equal_hashes_on_whatever_way_and_others_have_others(
        log in log(),
        cut in any::<prop::sample::Index>(),
    ) {
        let entries = legal(log);
        let mut image = Image::new();
        let mut digest = ImageDigest::default();
        let cut = cut.index(entries.len() + 1);
        let mut resumed = None;
        let mut seen = BTreeSet::from([digest.hash(&image)]);
        for (number, (log_id, entry)) in entries.iter().enumerate() {
            if number == cut {
                let image = decode_snapshot(&encode_snapshot(&image).unwrap()).unwrap();
                resumed = Some((ImageDigest::of(&image), image));
            }
            follow(&mut digest, &mut image, *log_id, entry);
            prop_assert_eq!(digest, ImageDigest::of(&image));
            prop_assert!(seen.insert(digest.hash(&image)), "entry {}", log_id);
            if let Some((digest, image)) = &mut resumed {
                follow(digest, image, *log_id, entry);
            }
        }
        if let Some((theirs, their_image)) = resumed {
            prop_assert_eq!(theirs.hash(&their_image), digest.hash(&image));
        }
        // What is not in the log tells images apart too, and alone.
        let mut other = image.clone();
        let feature = Record::Feature { name: "c".to_owned(), level: 1 };
        other.apply_records(std::slice::from_ref(&feature)).unwrap();
        prop_assert_ne!(ImageDigest::of(&other).hash(&other), digest.hash(&image));
    }

    #[test]
    fn a_cut_or_changed_snapshot_is_refused(log in log(), at in any::<prop::sample::Index>()) {
        let mut image = Image::new();
        for (log_id, entry) in legal(log) {
            image.apply(log_id, &entry).unwrap();
        }
        let mut bytes = encode_snapshot(&image).unwrap();
        let at = at.index(bytes.len());
        prop_assert!(decode_snapshot(&bytes[..at]).is_err());
        bytes[at] ^= 0x10;
        prop_assert!(decode_snapshot(&bytes).is_err());
        bytes[at] ^= 0x10;
        bytes.push(0);
        prop_assert!(decode_snapshot(&bytes).is_err());
    }

    #[test]
    fn arbitrary_entries_do_not_panic(bytes: Vec<u8>, flip in any::<prop::sample::Index>()) {
        let _ = Entry::decode(&bytes);
        let _ = decode_snapshot(&bytes);
        let entry = Entry { base: None, records: vec![Record::RemoveTopic { id: Uuid([1; 16]) }] };
        let mut encoded = Vec::new();
        entry.encode(&mut encoded).unwrap();
        let flip = flip.index(encoded.len());
        encoded[flip] = encoded[flip].wrapping_add(1);
        prop_assert!(Entry::decode(&encoded).is_err());
    }
}
