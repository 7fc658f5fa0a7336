//! Keys of a node: who it is, where its data is, where it listens, who its peers are.
//!
//! Input: nothing. Output: rows of the table, and the checks of their forms.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there.

use crate::key::ConfigType::{Int, List, String};
use crate::key::{INT_MAX, Key};
use crate::listener::{Address, parse_listener, parse_protocol_mapping};

const LISTENER_FORM: &str = "NAME://host:port, with commas between listeners";
const ADDRESS_FORM: &str = "host:port, with brackets around an IPv6 host";
const PEER_FORM: &str = "host:port of each node's peer.listener, as the others connect to it, each \
                         once, with commas between them and brackets around an IPv6 host";

pub(super) const KEYS: &[Key] = &[
    Key::broker("node.id", Int).between(0, INT_MAX).doc(
        "The broker id of this node. Where it is not set, the controller gives the lowest free id \
         from 1 and the node keeps it.",
    ),
    Key::broker("broker.rack", String).doc(
        "The rack, zone or room of this node. Replicas of a partition are spread over as many \
         racks as there are.",
    ),
    Key::broker("log.dirs", List).told_as_text().default("./skein-data").doc(
        "The directory that holds the partitions, made at start if need be; exactly one. A \
         relative path starts at the working directory. Kafka's default lies in /tmp and is lost \
         with a reboot; this one is where the command was started.",
    ),
    Key::broker("metadata.log.dir", String).form("a path", is_not_empty).doc(
        "The directory of the metadata log and of this node's identity. Where it is not set: the \
         directory metadata in log.dirs. On a device of its own, a busy data disk does not delay \
         elections.",
    ),
    Key::broker("listeners", List)
        .told_as_text()
        .default("PLAINTEXT://127.0.0.1:9092")
        .form(LISTENER_FORM, is_listener)
        .doc(
            "Where clients connect. Kafka binds every interface by default, Skein only this \
             machine's loopback. An empty host, 0.0.0.0 or [::] is every interface, and needs \
             advertised.listeners. Port 0 takes a free one.",
        ),
    Key::broker("advertised.listeners", List).told_as_text().form(LISTENER_FORM, is_listener).doc(
        "The addresses that clients are told to connect to, by listener name. A listener that is \
         not named here tells its own address. Required for a listener that binds every \
         interface.",
    ),
    Key::broker("listener.security.protocol.map", List)
        .told_as_text()
        .default("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT")
        .form(
            "NAME:PROTOCOL with PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, with commas between \
             pairs",
            is_protocol_mapping,
        )
        .doc(
            "Which protection each listener has, by its name. This version serves PLAINTEXT; a \
             listener that is mapped to another protocol is refused at start.",
        ),
    Key::broker("peer.listener", String)
        .default("127.0.0.1:9192")
        .form(ADDRESS_FORM, is_address)
        .doc(
            "Where the other nodes connect, for replication and for the metadata quorum. An \
             address other than loopback needs cluster.secret.file. Skein's own key.",
        ),
    Key::broker("http.listener", String)
        .default("127.0.0.1:9292")
        .form("host:port, or nothing to serve no HTTP", is_address_or_empty)
        .doc(
            "Where /healthz, /readyz and /metrics are served. An empty value turns it off. Skein's \
             own key.",
        ),
    Key::broker("cluster.peers", List)
        .default("")
        .form(PEER_FORM, is_peer)
        .each_once()
        .doc(
            "The peer listeners of the nodes that form the cluster, the same list on each of them; \
             a node finds itself among them. Empty: a cluster of this node alone. Skein's own key.",
        ),
    Key::broker("cluster.secret.file", String).form("a path", is_not_empty).doc(
        "A file with the secret that nodes prove to one another when they connect: the same 16 to \
         4096 bytes on each of them, readable by nobody else. Read at start. Skein's own key.",
    ),
];

pub(crate) fn is_listener(text: &str) -> bool {
    parse_listener(text).is_some()
}

pub(crate) fn is_protocol_mapping(text: &str) -> bool {
    parse_protocol_mapping(text).is_some()
}

pub(crate) fn is_address(text: &str) -> bool {
    text.parse::<Address>().is_ok()
}

/// An address that others can connect to.
pub(crate) fn is_peer(text: &str) -> bool {
    text.parse::<Address>()
        .is_ok_and(|address| !address.is_wildcard() && address.port != 0)
}

pub(crate) fn is_address_or_empty(text: &str) -> bool {
    text.is_empty() || is_address(text)
}

fn is_not_empty(text: &str) -> bool {
    !text.is_empty()
}
