//! Tests of the partitioners.

use proptest::prelude::*;

use super::*;

/// Keys with the hash that Kafka 4.1.1's Java client gives them, and the partition of twelve.
const JAVA: [(&str, i32, i32); 12] = [
    ("", 275_646_681, 9),
    ("a", -1_563_381_124, 4),
    ("ab", 316_155_434, 2),
    ("abc", 479_470_107, 3),
    ("abcd", -1_323_649_548, 8),
    ("21", -973_932_308, 0),
    ("foobar", -790_332_482, 6),
    ("a-little-bit-long-string", -985_981_536, 8),
    ("a-little-bit-longer-string", -1_486_304_829, 11),
    (
        "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
        -58_897_971,
        5,
    ),
    ("Straße", 403_542_409, 1),
    ("0123456789abcdef0", 1_856_781_438, 6),
];

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn partitions(count: u32, led: &[(i32, &str)]) -> PartitionsToChoose {
    let led = led
        .iter()
        .map(|(index, rack)| (PartitionIndex(*index), Some((*rack).to_owned())));
    PartitionsToChoose {
        count,
        led: led.collect(),
    }
}

#[test]
fn a_key_goes_where_the_java_client_sends_it() {
    let mut chooser = Chooser::new(Partitioning::ByKey, 100);
    for (key, hash, partition) in JAVA {
        assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        // Without a leader too: the key decides alone.
        let all = partitions(12, &[]);
        let chosen = chooser.choose(&topic(), Some(key.as_bytes()), 1, &all, 99);
        assert_eq!(chosen, PartitionIndex(partition), "{key}");
    }
    assert_eq!(murmur2(&[0xff, 0x80, 0, 1, 0xfe]), -173_560_464);
}

#[test]
fn without_a_key_records_stay_together_until_a_batch_is_full() {
    let mut chooser = Chooser::new(Partitioning::ByKey, 100);
    let all = partitions(4, &[(0, "a"), (1, "a"), (3, "a")]);
    let mut chosen = Vec::new();
    for random in 0..40 {
        chosen.push(chooser.choose(&topic(), None, 10, &all, random));
    }
    for batch in chosen.chunks(10) {
        assert!(batch.iter().all(|one| *one == batch[0]), "{chosen:?}");
    }
    for pair in chosen.chunks(10).collect::<Vec<_>>().windows(2) {
        assert_ne!(pair[0][0], pair[1][0]);
    }
    assert!(!chosen.contains(&PartitionIndex(2)), "it has no leader");
}

#[test]
fn a_partition_that_loses_its_leader_is_left_at_once() {
    let mut chooser = Chooser::new(Partitioning::ByKey, 100);
    let both = partitions(2, &[(0, "a"), (1, "a")]);
    let first = chooser.choose(&topic(), None, 1, &both, 0);
    let other = i32::from(first.0 == 0);
    let left = partitions(2, &[(other, "a")]);
    let second = chooser.choose(&topic(), None, 1, &left, 0);
    assert_eq!(second, PartitionIndex(other));
    // The only one with a leader stays, also when its batch is full.
    for random in 0..10 {
        assert_eq!(chooser.choose(&topic(), None, 60, &left, random), second);
    }
}

#[test]
fn round_robin_takes_turns_and_ignores_the_key() {
    let mut chooser = Chooser::new(Partitioning::RoundRobin, 100);
    let all = partitions(3, &[(0, "a"), (1, "a"), (2, "a")]);
    let turns: Vec<_> = (0..6)
        .map(|_| chooser.choose(&topic(), Some(b"key"), 1, &all, 5).0)
        .collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_rack_is_preferred_where_it_leads() {
    let mut chooser = Chooser::new(Partitioning::ByKeyOrRack("b".into()), 1);
    let all = partitions(4, &[(0, "a"), (1, "b"), (2, "a"), (3, "b")]);
    let spread: std::collections::BTreeSet<_> = (0..20)
        .map(|random| chooser.choose(&topic(), None, 10, &all, random).0)
        .collect();
    assert_eq!(spread.into_iter().collect::<Vec<_>>(), [1, 3]);
    let elsewhere = partitions(2, &[(0, "a"), (1, "a")]);
    assert!(chooser.choose(&topic(), None, 1, &elsewhere, 0).0 < 2);
}

#[test]
fn a_programs_own_choice_is_kept_inside_the_topic() {
    struct Last;
    impl Partitioner for Last {
        fn partition(
            &self,
            _topic: &TopicName,
            _key: Option<&[u8]>,
            partitions: &PartitionsToChoose,
            _random: u64,
        ) -> PartitionIndex {
            PartitionIndex(i32::try_from(partitions.count).unwrap() + 1)
        }
    }
    let mut chooser = Chooser::new(Partitioning::Custom(Arc::new(Last)), 1);
    let all = partitions(4, &[]);
    assert_eq!(
        chooser.choose(&topic(), None, 1, &all, 0),
        PartitionIndex(1)
    );
}

proptest! {
    #[test]
    fn every_strategy_stays_inside_the_topic(
        strategy in 0..4_u8,
        key in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        count in 1..20_u32,
        led in prop::collection::btree_set(0..20_i32, 0..20),
        randoms in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let led: Vec<_> = led.into_iter().filter(|at| at.unsigned_abs() < count).collect();
        let led: Vec<_> = led.iter().map(|index| (*index, "b")).collect();
        let all = partitions(count, &led);
        let strategy = match strategy {
            0 => Partitioning::ByKey,
            1 => Partitioning::RoundRobin,
            2 => Partitioning::Random,
            _ => Partitioning::ByKeyOrRack("b".into()),
        };
        let mut chooser = Chooser::new(strategy, 50);
        for random in randoms {
            let chosen = chooser.choose(&topic(), key.as_deref(), 10, &all, random);
            prop_assert!((0..i32::try_from(count).unwrap()).contains(&chosen.0));
            if key.is_none() && !led.is_empty() {
                prop_assert!(led.iter().any(|(index, _)| *index == chosen.0));
            }
        }
    }
}
