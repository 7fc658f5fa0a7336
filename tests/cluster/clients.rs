//! Real clients, whose topics have three replicas, while nodes are killed, stop, and come back.

use skein_tests::Cluster;
use skein_tests::client::{Client, groups_survive_in, survive_in};

/// Members of groups may miss a short session, and nobody waits for more of them to come.
const SETTINGS: [(&str, &str); 2] = [
    ("group.min.session.timeout.ms", "1000"),
    ("group.initial.rebalance.delay.ms", "0"),
];

/// Those whose groups are tried in a cluster.
const WITH_GROUPS: [Client; 8] = [
    Client::Librdkafka,
    Client::KafkaPython3,
    Client::KafkaPython2,
    Client::FranzGo,
    Client::Java,
    Client::Sarama,
    Client::Aiokafka,
    Client::Kafkajs,
];

#[test]
fn clients_groups_go_on_while_each_node_is_killed_and_comes_back() {
    let mut cluster = Cluster::start(3, &SETTINGS);
    groups_survive_in(&mut cluster, &WITH_GROUPS);
}

#[test]
fn what_librdkafka_was_promised_survives_the_end_of_each_node() {
    survive_in(&mut Cluster::start(3, &SETTINGS), Client::Librdkafka);
}

#[test]
fn what_franz_go_was_promised_survives_the_end_of_each_node() {
    survive_in(&mut Cluster::start(3, &SETTINGS), Client::FranzGo);
}

#[test]
fn what_kafka_python_was_promised_survives_the_end_of_each_node() {
    survive_in(&mut Cluster::start(3, &SETTINGS), Client::KafkaPython3);
}
