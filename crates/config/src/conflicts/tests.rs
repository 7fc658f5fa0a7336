//! Each conflict, and its nearest neighbour that is none.

use crate::Layers;

fn check(options: &[&str], expected: &[&str]) {
    let layers = options
        .iter()
        .fold(Layers::new(), |layers, option| layers.set(option));
    let found: Vec<_> = match layers.build() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found.len(), expected.len(), "{options:?}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{options:?}: {found}");
    }
}

#[test]
fn the_defaults_have_no_conflict() {
    check(&[], &[]);
}

#[test]
fn there_is_exactly_one_data_directory() {
    check(&["log.dirs=/a"], &[]);
    check(
        &["log.dirs=/a,/b"],
        &["log.dirs must name exactly one directory, and names 2"],
    );
    check(&["log.dirs="], &["exactly one directory, and names 0"]);
}

#[test]
fn a_wildcard_bind_needs_an_address_for_clients() {
    let refused = ["binds every interface: say in advertised.listeners"];
    check(&["listeners=PLAINTEXT://0.0.0.0:9092"], &refused);
    check(&["listeners=PLAINTEXT://:9092"], &refused);
    check(&["listeners=PLAINTEXT://[::]:9092"], &refused);
    check(&["listeners=PLAINTEXT://10.0.0.1:9092"], &[]);
    let advertised = "advertised.listeners=plaintext://kafka.example:9092";
    check(&["listeners=PLAINTEXT://:9092", advertised], &[]);
}

#[test]
fn what_is_advertised_can_be_connected_to() {
    let advertise = |address| format!("advertised.listeners={address}");
    check(
        &[&advertise("PLAINTEXT://0.0.0.0:9092")],
        &["clients can't connect to PLAINTEXT"],
    );
    check(
        &[&advertise("PLAINTEXT://host:0")],
        &["clients can't connect to PLAINTEXT://host:0"],
    );
    check(
        &[&advertise("OTHER://host:1")],
        &["names OTHER, which listeners does not have"],
    );
}

#[test]
fn a_listener_has_one_name_and_a_protection_that_exists() {
    check(&["listeners="], &["at least one listener"]);
    check(
        &["listeners=PLAINTEXT://127.0.0.1:1,plaintext://127.0.0.1:2"],
        &["PLAINTEXT twice"],
    );
    check(
        &["listeners=OTHER://127.0.0.1:1"],
        &["does not say what protects listener OTHER"],
    );
    check(
        &["listeners=SSL://127.0.0.1:1"],
        &["asks for SSL, and this version serves PLAINTEXT"],
    );
    let map = "listener.security.protocol.map=IN:PLAINTEXT,OUT:SASL_SSL";
    check(&["listeners=IN://127.0.0.1:1", map], &[]);
    check(
        &["listeners=OUT://127.0.0.1:1", map],
        &["OUT asks for SASL_SSL"],
    );
}

#[test]
fn a_peer_listener_that_others_can_reach_needs_a_secret() {
    let refused = ["can be reached from outside: set cluster.secret.file to a file with the same"];
    check(&["peer.listener=10.0.0.1:9192"], &refused);
    check(&["peer.listener=0.0.0.0:9192"], &refused);
    check(&["peer.listener=node-1:9192"], &refused);
    check(
        &[
            "peer.listener=10.0.0.1:9192",
            "cluster.secret.file=/etc/skein/secret",
        ],
        &[],
    );
    check(&["peer.listener=[::1]:9192"], &[]);
}

#[test]
fn no_peer_is_named_twice() {
    check(
        &["cluster.peers=10.0.0.1:9192,10.0.0.2:9192,10.0.0.1:9193"],
        &[],
    );
    check(
        &["cluster.peers=10.0.0.1:9192, 10.0.0.2:9192,, 10.0.0.1:9192"],
        &["as the others connect to it, each once"],
    );
    // However it is written.
    check(
        &["cluster.peers=a:1,A:1,[::1]:2,[0:0:0:0:0:0:0:1]:2,localhost:3,127.0.0.1:3"],
        &[
            "cluster.peers names A:1 twice",
            "0:1]:2 twice",
            "names 127.0.0.1:3 twice",
        ],
    );
}

#[test]
fn a_peer_is_an_address_that_others_can_connect_to() {
    for peer in ["0.0.0.0:9192", "[::]:9192", "node-1:0", "node-1", ":9192"] {
        check(
            &[&format!("cluster.peers=node-2:9192,{peer}")],
            &["expected host:port of each node's peer.listener, as the others connect to it"],
        );
    }
}

#[test]
fn a_node_need_not_know_which_of_the_peers_it_is() {
    check(
        &[
            "cluster.peers=node-1.example:9192,node-2.example:9192",
            "peer.listener=0.0.0.0:19192",
            "cluster.secret.file=/etc/skein/secret",
        ],
        &[],
    );
}

#[test]
fn no_two_listeners_take_one_port() {
    check(&["peer.listener=127.0.0.1:9092"], &["take the same port"]);
    check(&["peer.listener=localhost:9092"], &["take the same port"]);
    check(&["http.listener=127.0.0.1:9092"], &["take the same port"]);
    check(&["http.listener=0.0.0.0:9192"], &["take the same port"]);
    check(&["http.listener=127.0.0.2:9092"], &[]);
    check(
        &["http.listener=", "listeners=PLAINTEXT://127.0.0.1:0"],
        &[],
    );
    check(
        &["http.listener=127.0.0.1:0", "peer.listener=127.0.0.1:0"],
        &[],
    );
}

#[test]
fn a_limit_within_another_is_not_above_it() {
    check(
        &["message.max.bytes=104857601"],
        &[
            "message.max.bytes (104857601) must not be above socket.request.max.bytes (104857600)",
            "must not be above queued.max.request.bytes (67108864)",
        ],
    );
    check(
        &["broker.heartbeat.interval.ms=2001"],
        &["broker.session.timeout.ms (2000)"],
    );
    check(&["broker.heartbeat.interval.ms=2000"], &[]);
    check(
        &[
            "log.cleaner.min.compaction.lag.ms=2",
            "log.cleaner.max.compaction.lag.ms=1",
        ],
        &["log.cleaner.max.compaction.lag.ms (1)"],
    );
}
