//! Values of a broker that are each allowed by themselves and don't go together.
//!
//! Input: a [`BrokerConfig`]. Output: every conflict, in words that say what to change.
//!
//! Invariants of a configuration that a node starts with, checked here:
//! - there is exactly one data directory;
//! - a listener on every interface has an address that clients can use;
//! - a peer listener that others can reach has a secret, and no peer is named twice. The node's own
//!   entry need not look like its `peer.listener` (that may be a wildcard, or behind a name): it
//!   finds itself by connecting;
//! - no listener promises a protection that it does not have, and no two take one port;
//! - a limit that lies within another is not above it.

use crate::broker_config::{BrokerConfig, Reader};
use crate::broker_sections::NetworkConfig;
use crate::cluster_secret::SECRET_REMEDY;
use crate::error::ConfigError;
use crate::listener::{Address, Listener};

/// Pairs of keys of which the first must not be above the second.
const ASCENDING: [(&str, &str); 13] = [
    ("message.max.bytes", "socket.request.max.bytes"),
    ("message.max.bytes", "queued.max.request.bytes"),
    (
        "queued.max.request.bytes.per.connection",
        "queued.max.request.bytes",
    ),
    ("broker.heartbeat.interval.ms", "broker.session.timeout.ms"),
    ("replica.fetch.wait.max.ms", "replica.lag.time.max.ms"),
    ("replica.fetch.wait.max.ms", "replica.socket.timeout.ms"),
    (
        "group.min.session.timeout.ms",
        "group.max.session.timeout.ms",
    ),
    (
        "group.consumer.min.session.timeout.ms",
        "group.consumer.session.timeout.ms",
    ),
    (
        "group.consumer.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    (
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.heartbeat.interval.ms",
    ),
    (
        "group.consumer.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    (
        "group.consumer.heartbeat.interval.ms",
        "group.consumer.session.timeout.ms",
    ),
    (
        "log.cleaner.min.compaction.lag.ms",
        "log.cleaner.max.compaction.lag.ms",
    ),
];

/// Every conflict of the configuration.
pub(crate) fn conflicts(config: &BrokerConfig) -> Vec<ConfigError> {
    let network = &config.network;
    let mut found = Vec::new();
    found.extend(directories(config));
    listeners(network, &mut found);
    advertised_listeners(network, &mut found);
    ports(network, &mut found);
    found.extend(peer_listener(config));
    peers(&config.node.cluster_peers, &mut found);
    limits(config, &mut found);
    found.into_iter().map(ConfigError::Conflict).collect()
}

fn directories(config: &BrokerConfig) -> Option<String> {
    let count = Reader(config.settings()).list("log.dirs").len();
    (count != 1).then(|| {
        format!(
            "log.dirs must name exactly one directory, and names {count}: run one node for each \
             disk, or join the disks below the file system"
        )
    })
}

fn listeners(network: &NetworkConfig, found: &mut Vec<String>) {
    if network.listeners.is_empty() {
        found.push("listeners must name at least one listener".to_owned());
    }
    for (index, listener) in network.listeners.iter().enumerate() {
        let name = &listener.name;
        if network
            .listeners
            .iter()
            .take(index)
            .any(|other| other.name == *name)
        {
            found.push(format!("listeners names {name} twice"));
        }
        if !network
            .protocol_map
            .iter()
            .any(|(mapped, _)| mapped == name)
        {
            found.push(format!(
                "listener.security.protocol.map does not say what protects listener {name}"
            ));
        } else if !listener.security_protocol.is_served() {
            found.push(format!(
                "listener {name} asks for {}, and this version serves PLAINTEXT only",
                listener.security_protocol.name()
            ));
        }
    }
}

fn advertised_listeners(network: &NetworkConfig, found: &mut Vec<String>) {
    for (name, address) in &network.advertised {
        if !network
            .listeners
            .iter()
            .any(|listener| listener.name == *name)
        {
            found.push(format!(
                "advertised.listeners names {name}, which listeners does not have"
            ));
        }
        if address.is_wildcard() || address.port == 0 {
            found.push(format!(
                "advertised.listeners: clients can't connect to {name}://{address}; name a host \
                 that they can reach, and a port"
            ));
        }
    }
    for listener in network
        .listeners
        .iter()
        .filter(|bound| bound.address().is_wildcard())
    {
        if !network
            .advertised
            .iter()
            .any(|(name, _)| *name == listener.name)
        {
            found.push(format!(
                "listener {listener} binds every interface: say in advertised.listeners which \
                 address clients shall use, such as {}://myhost.example:{}",
                listener.name, listener.port
            ));
        }
    }
}

fn ports(network: &NetworkConfig, found: &mut Vec<String>) {
    let bound = bound_addresses(network);
    for (index, (key, address)) in bound.iter().enumerate() {
        for (other_key, other) in bound.iter().take(index) {
            if address.overlaps(other) {
                found.push(format!(
                    "{key} {address} and {other_key} {other} take the same port"
                ));
            }
        }
    }
}

fn bound_addresses(network: &NetworkConfig) -> Vec<(&'static str, Address)> {
    let listeners = network
        .listeners
        .iter()
        .map(|bound| ("listener", Listener::address(bound)));
    let peer = ("peer.listener", network.peer_listener.clone());
    let http = network
        .http_listener
        .clone()
        .map(|address| ("http.listener", address));
    listeners.chain([peer]).chain(http).collect()
}

fn peer_listener(config: &BrokerConfig) -> Option<String> {
    let address = &config.network.peer_listener;
    let is_open = !address.is_loopback() && config.node.cluster_secret_file.is_none();
    is_open.then(|| {
        format!(
            "peer.listener {address} can be reached from outside: set cluster.secret.file to a \
             file with the same secret on each node ({SECRET_REMEDY}), or bind it to 127.0.0.1"
        )
    })
}

fn peers(peers: &[Address], found: &mut Vec<String>) {
    for (index, peer) in peers.iter().enumerate() {
        if peers.iter().take(index).any(|other| other.is_same_as(peer)) {
            found.push(format!(
                "cluster.peers names {peer} twice: each node needs an entry of its own"
            ));
        }
    }
}

fn limits(config: &BrokerConfig, found: &mut Vec<String>) {
    let reader = Reader(config.settings());
    for (small, large) in ASCENDING {
        let (least, most) = (reader.int(small), reader.int(large));
        if least > most {
            found.push(format!(
                "{small} ({least}) must not be above {large} ({most})"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
