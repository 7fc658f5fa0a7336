//! Sizes and room, on a node in the simulated world.

use skein_env::sim::{Fault, Operation, SimWorld};

use super::*;
use crate::testing::{HOST, LOG_DIR, Node, batch, config};

async fn ask(node: &Node, topics: Option<&[(&'static str, &[i32])]>) -> DescribeLogDirsResult {
    let topics = topics.map(|topics| {
        let topics = topics
            .iter()
            .map(|(topic, partitions)| DescribableLogDirTopic {
                topic: Str::from_static(topic),
                partitions: partitions.to_vec(),
            });
        topics.collect()
    });
    let request = DescribeLogDirsRequest { topics };
    describe(node.shared(), request).await
}

fn sizes(result: &DescribeLogDirsResult) -> Vec<(String, i32, i64)> {
    let topics = result.topics.iter();
    let sizes = topics.flat_map(|topic| {
        let of = |one: &DescribeLogDirsPartition| {
            let name = topic.name.as_str().to_owned();
            (name, one.partition_index, one.partition_size)
        };
        topic.partitions.iter().map(of)
    });
    sizes.collect()
}

#[test]
fn the_partitions_that_are_here_are_told_with_their_sizes() {
    let world = SimWorld::new(1);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        for topic in ["a", "b"] {
            node.create(topic, &[]).await;
        }
        let batch = batch(3, b"value");
        let bytes = i64::try_from(batch.as_slice().len()).unwrap();
        node.produce("b", batch).await.unwrap();

        let all = ask(&node, None).await;
        let (a, b) = (("a".to_owned(), 0, 0), ("b".to_owned(), 0, bytes));
        assert_eq!(sizes(&all), [a, b.clone()]);
        assert_eq!((all.error_code, all.log_dir.as_str()), (0, LOG_DIR));
        assert!(0 < all.usable_bytes && all.usable_bytes <= all.total_bytes);

        let asked: [(&'static str, &[i32]); 3] = [("b", &[0, 0, 7, -1]), ("b", &[0]), ("c", &[0])];
        assert_eq!(sizes(&ask(&node, Some(&asked)).await), [b]);
        assert_eq!(sizes(&ask(&node, Some(&[])).await), []);
        node.delete("b").await;
        assert_eq!(sizes(&ask(&node, None).await).len(), 1);
    });
}

#[test]
fn a_partition_that_was_not_opened_yet_has_its_size_too_and_a_failed_one_is_left_out() {
    let world = SimWorld::new(2);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        for topic in ["a", "b"] {
            node.create(topic, &[]).await;
            node.produce(topic, batch(1, b"value")).await.unwrap();
        }
        node.broker.stop().await;
        world.kill(HOST);
        let env = world.node(HOST);
        let disk = world.disk(HOST);
        disk.fail_path("a-0", Operation::Read, Fault::Eio, u64::MAX);
        let node = Node::start(env, &config).await;
        let told = sizes(&ask(&node, None).await);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 == "b" && told[0].2 > 0, "{told:?}");
    });
}

#[test]
fn a_directory_whose_device_failed_is_told_with_an_error_and_nothing_else() {
    let world = SimWorld::new(3);
    let config = config(&world, &[]);
    world.block_on(async {
        let node = Node::start(world.node(HOST), &config).await;
        for topic in ["a", "b"] {
            node.create(topic, &[]).await;
            node.produce(topic, batch(1, b"value")).await.unwrap();
        }
        let disk = world.disk(HOST);
        disk.fail_path("a-0", Operation::Write, Fault::Eio, 1);
        node.produce("a", batch(1, b"lost")).await.unwrap_err();
        for asked in [None, Some(&[("b", &[0][..])][..])] {
            let told = ask(&node, asked).await;
            let failed = DescribeLogDirsResult {
                error_code: ErrorCode::KafkaStorageError.code(),
                log_dir: Str::from_static(LOG_DIR),
                total_bytes: -1,
                usable_bytes: -1,
                ..Default::default()
            };
            assert_eq!(told, failed);
        }
    });
}
