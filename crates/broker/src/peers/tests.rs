//! Three brokers in one simulated world, as their clients and each other see them.

use std::time::Duration;

use skein_env::sim::LinkPlan;
use skein_protocol::ApiKey;
use skein_protocol::messages::metadata::MetadataRequest;
use skein_types::{BrokerId, ErrorCode};
use tokio::time::sleep;

use crate::handlers::{create_topics, metadata};
use crate::router::Context;
use crate::testing::Node;
use crate::testing::cluster::{HOSTS, active, controller_of, until, with_cluster};

#[test]
fn three_nodes_are_one_cluster_of_three_brokers() {
    with_cluster(1, async |_, nodes| {
        let ids: Vec<_> = nodes
            .iter()
            .map(|node| node.shared().identity.broker_id)
            .collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 3, "{ids:?}");
        let clusters: Vec<_> = nodes.iter().map(|node| node.broker.cluster_id()).collect();
        assert!(clusters.iter().all(|id| *id == clusters[0]), "{clusters:?}");
    });
}

#[test]
fn what_a_node_asks_of_the_controller_it_finds_in_its_own_image() {
    with_cluster(2, async |world, nodes| {
        // What the controller answers may well overtake what it replicates.
        world.net().set_plan(LinkPlan {
            latency_max: Duration::from_millis(20),
            ..LinkPlan::default()
        });
        for (number, node) in nodes.iter().cycle().take(60).enumerate() {
            let name = format!("topic-{number}");
            let topic = create_topics::tests::topic_of_one(&name);
            create_topics::make(node.shared(), vec![topic], 5_000)
                .await
                .unwrap();
            assert!(
                node.shared().image().topic_by_name(&name).is_some(),
                "{number}"
            );
            let again = create_topics::tests::topic_of_one(&name);
            let refusal = create_topics::make(node.shared(), vec![again], 5_000).await;
            assert_eq!(refusal.unwrap_err().code, ErrorCode::TopicAlreadyExists);
        }
    });
}

#[test]
fn a_killed_controller_is_replaced_and_fenced() {
    with_cluster(3, async |world, mut nodes| {
        let dead = controller_of(&nodes).await;
        let dead_id = nodes[dead].shared().identity.broker_id;
        drop(nodes.remove(dead));
        world.kill(HOSTS[dead]);
        let next = controller_of(&nodes).await;
        let is_fenced = |id: BrokerId| {
            let image = nodes[next].shared().image();
            image.broker(id).is_some_and(|broker| broker.fenced)
        };
        until(|| is_fenced(dead_id)).await;
        let metadata = async |node: &Node, context: &Context| {
            let answer = metadata::handle(node.shared(), context, MetadataRequest::default());
            answer.await.brokers.len()
        };
        for node in &nodes {
            assert_eq!(active(node), 2);
            let context = node.context(ApiKey::Metadata, 9);
            assert_eq!(metadata(node, &context).await, 3, "the last time");
            assert_eq!(metadata(node, &context).await, 2);
        }
        let topic = create_topics::tests::topic_of_one("after");
        create_topics::make(nodes[1 - next].shared(), vec![topic], 5_000)
            .await
            .unwrap();
        sleep(Duration::from_secs(1)).await;
        for node in &nodes {
            let context = node.context(ApiKey::Metadata, 9);
            assert_eq!(metadata(node, &context).await, 2, "a new connection");
        }
    });
}
