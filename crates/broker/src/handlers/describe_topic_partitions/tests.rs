//! Tests of [`super`].

use skein_metadata::{Broker, Endpoint, LeaderRecoveryState, Record};
use skein_protocol::messages::describe_topic_partitions::RequestCursor;
use skein_types::{BrokerEpoch, LeaderEpoch, PartitionEpoch, Uuid};

use super::*;

const LISTENER: &str = "PLAINTEXT";

fn broker(id: i32, fenced: bool) -> Record {
    Record::Broker(Broker {
        id: BrokerId(id),
        epoch: BrokerEpoch(i64::from(id)),
        incarnation: Uuid([1; 16]),
        raft_id: 1,
        endpoints: vec![Endpoint {
            listener: LISTENER.to_owned(),
            host: "host".to_owned(),
            port: 9092,
            security_protocol: 0,
        }],
        rack: None,
        fenced,
        stopping: false,
    })
}

/// Topics with so many partitions, on the brokers 1, 2 (fenced) and 3 (not registered).
fn image(topics: &[(&str, i32)]) -> Image {
    let mut image = Image::new();
    image
        .apply_records(&[broker(1, false), broker(2, true)])
        .unwrap();
    for (number, (name, partitions)) in (1..).zip(topics) {
        let id = Uuid([number; 16]);
        let name = TopicName::new(name).unwrap();
        let mut records = vec![Record::Topic { id, name }];
        records.extend((0..*partitions).map(|index| Record::Partition {
            topic_id: id,
            index: PartitionIndex(index),
            partition: Partition {
                replicas: vec![BrokerId(3), BrokerId(1), BrokerId(2)],
                isr: vec![BrokerId(1)],
                elr: vec![BrokerId(2)],
                last_known: Vec::new(),
                offline: Vec::new(),
                leader: BrokerId(1),
                leader_epoch: LeaderEpoch(4),
                partition_epoch: PartitionEpoch(5),
                leader_recovery_state: LeaderRecoveryState::Recovered,
            },
        }));
        image.apply_records(&records).unwrap();
    }
    image
}

fn request(
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsRequest {
    let topic = |name: &&str| TopicRequest {
        name: Str::from(*name),
    };
    DescribeTopicPartitionsRequest {
        topics: topics.iter().map(topic).collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(name, partition_index)| RequestCursor {
            topic_name: Str::from(name),
            partition_index,
        }),
    }
}

/// A page as text: `name!code` for an error, else `name:partitions`; then the cursor.
fn page_text(image: &Image, request: &DescribeTopicPartitionsRequest, limit: u32) -> String {
    let response = page(image, LISTENER, request, limit);
    let mut text = String::new();
    for topic in &response.topics {
        text += topic.name.as_deref().unwrap();
        if topic.error_code == 0 {
            text += ":";
        } else {
            text += &format!("!{}", topic.error_code);
        }
        let numbers = topic
            .partitions
            .iter()
            .map(|partition| partition.partition_index);
        text += &numbers
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
            .join(",");
        text += " ";
    }
    if let Some(cursor) = response.next_cursor {
        text += &format!("> {} {}", cursor.topic_name, cursor.partition_index);
    }
    text.trim_end().to_owned()
}

#[track_caller]
fn check(topics: &[&str], limit: i32, cursor: Option<(&str, i32)>, expected: &str) {
    let image = image(&[("b", 4), ("a", 3), ("c", 1)]);
    let text = page_text(&image, &request(topics, limit, cursor), 2000);
    assert_eq!(text, expected);
}

#[test]
fn all_topics_go_by_name_in_pages() {
    check(&[], 2000, None, "a:0,1,2 b:0,1,2,3 c:0");
    check(&[], 5, None, "a:0,1,2 b:0,1 > b 2");
    check(&[], 5, Some(("b", 2)), "b:2,3 c:0");
    check(&[], 3, None, "a:0,1,2 > b 0");
    check(&[], 4, Some(("b", 0)), "b:0,1,2,3 > c 0");
    check(&[], 8, None, "a:0,1,2 b:0,1,2,3 c:0");
}

#[test]
fn asked_topics_go_by_name_once_each_and_errors_cost_nothing() {
    check(&["c", "a", "c"], 2000, None, "a:0,1,2 c:0");
    check(&["c", "aa", "a", "x/y"], 3, None, "a:0,1,2 > aa 0");
    check(
        &["c", "aa", "a", "x/y"],
        4,
        Some(("aa", 0)),
        "aa!3 c:0 x/y!17",
    );
}

#[test]
fn a_cursor_may_point_at_what_is_gone() {
    check(&[], 2000, Some(("b", 9)), "b: c:0");
    check(&[], 2000, Some(("bb", 2)), "c:0");
    check(&["a", "bb", "c"], 2000, Some(("bb", 2)), "bb!3 c:0");
}

#[test]
fn a_cursor_points_into_what_is_asked_for() {
    let is_valid = |topics: &[&str], cursor| has_valid_cursor(&request(topics, 1, Some(cursor)));
    assert!(is_valid(&[], ("b", 0)) && is_valid(&["a", "b"], ("b", 7)));
    assert!(!is_valid(&["a", "c"], ("b", 0)));
    assert!(!is_valid(&[], ("b", -1)) && !is_valid(&["b"], ("b", -1)));
    assert!(has_valid_cursor(&request(&["a"], 1, None)));
}

#[test]
fn a_page_keeps_the_smaller_limit_and_tells_at_least_one() {
    let image = image(&[("a", 3)]);
    assert_eq!(
        page_text(&image, &request(&[], 2000, None), 2),
        "a:0,1 > a 2"
    );
    for limit in [i32::MIN, -1, 0, 1] {
        assert_eq!(
            page_text(&image, &request(&[], limit, None), 2),
            "a:0 > a 1"
        );
    }
}

#[test]
fn following_the_cursors_tells_each_partition_once() {
    let image = image(&[("e", 1), ("d", 7), ("c", 2), ("b", 3), ("a", 5)]);
    for limit in 1..=20 {
        let mut told = Vec::new();
        let mut cursor: Option<(String, i32)> = None;
        loop {
            let at = cursor.as_ref().map(|(name, index)| (name.as_str(), *index));
            let response = page(&image, LISTENER, &request(&[], limit, at), 2000);
            let mut size = 0;
            for topic in response.topics {
                let name = topic.name.unwrap();
                size += topic.partitions.len();
                let numbers = topic
                    .partitions
                    .iter()
                    .map(|partition| partition.partition_index);
                told.extend(numbers.map(|number| format!("{name}{number}")));
            }
            assert!(size <= usize::try_from(limit).unwrap());
            match response.next_cursor {
                Some(next) => cursor = Some((next.topic_name.into(), next.partition_index)),
                None => break,
            }
        }
        assert_eq!(told.len(), 18);
        assert!(told.is_sorted_by(|one, next| one < next), "{told:?}");
    }
}

#[test]
fn a_partition_tells_who_holds_it_and_who_is_gone() {
    let image = image(&[("a", 1)]);
    let response = page(&image, LISTENER, &request(&["a"], 1, None), 1);
    let topic = &response.topics[0];
    assert_eq!(topic.topic_id, Uuid([1; 16]));
    assert_eq!(topic.topic_authorized_operations, TOPIC_OPERATIONS);
    let expected = DescribeTopicPartitionsResponsePartition {
        error_code: 0,
        partition_index: 0,
        leader_id: 1,
        leader_epoch: 4,
        replica_nodes: vec![3, 1, 2],
        isr_nodes: vec![1],
        eligible_leader_replicas: Some(vec![2]),
        last_known_elr: Some(Vec::new()),
        offline_replicas: vec![3, 2],
    };
    assert_eq!(topic.partitions, [expected]);
    let elsewhere = page(&image, "OTHER", &request(&["a"], 1, None), 1);
    assert_eq!(elsewhere.topics[0].partitions[0].leader_id, -1);
}
