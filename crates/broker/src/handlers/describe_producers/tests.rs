//! Producers of partitions, on a node in the simulated world.

use super::*;
use crate::testing::{NOW, batch, batch_of, with_node};

#[test]
fn producers_are_told_with_their_last_sequence() {
    with_node(1, &[], async |_, node| {
        node.create("topic", &[]).await;
        node.produce("topic", batch(1, b"value")).await.unwrap();
        let ask =
            async |topic: &str, index| describe(node.shared(), topic, PartitionIndex(index)).await;
        assert_eq!(
            ask("topic", 0).await,
            Ok(vec![]),
            "without an id nobody is known"
        );
        for (producer, sequence) in [(7, 0), (7, 3), (9, 0)] {
            let batch = batch_of(producer, sequence, 3);
            node.produce("topic", batch).await.unwrap();
        }
        let producers = ask("topic", 0).await.unwrap();
        let told: Vec<_> = producers
            .iter()
            .map(|one| (one.producer_id, one.producer_epoch, one.last_sequence))
            .collect();
        assert_eq!(told, [(7, 0, 5), (9, 0, 2)]);
        for one in &producers {
            assert_eq!(
                (one.coordinator_epoch, one.current_txn_start_offset),
                (-1, -1)
            );
            assert!(one.last_timestamp >= NOW.get(), "{one:?}");
        }

        let unknown = Err(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(ask("topic", 1).await, unknown);
        assert_eq!(ask("topic", -1).await, unknown);
        assert_eq!(ask("absent", 0).await, unknown);
        assert_eq!(ask("a/b", 0).await, Err(ErrorCode::InvalidTopicException));
        let replica = node.replica("topic").await.unwrap();
        replica.resign();
        assert_eq!(ask("topic", 0).await, Err(ErrorCode::NotLeaderOrFollower));
    });
}
