//! What no client may notice but by a delay: nodes that are killed, stop, and come back under it.
//!
//! Input: clients whose scenario talks with its test. Output: nothing, or a panic with what one of
//! them missed.

use super::{Client, Conversation, Target};
use crate::{Cluster, Node, System, node};

/// The scenario that talks with its test; see [`survive`].
pub(super) const SURVIVAL: &str = "acknowledged_records_survive_kill_and_restart";

/// The scenario of groups that talks with its test; see [`groups_survive`].
pub(super) const GROUP_SURVIVAL: &str = "a_group_goes_on_through_kill_and_restart";

/// Kills a node, and later stops it, under a client that writes all the time and then reads
/// everything back.
///
/// # Panics
///
/// When the client misses, or sees twice or out of order, a record that was acknowledged.
pub fn survive(client: Client, system: System) {
    let mut node = Node::start(system, &[]);
    let mut conversation = client.converse(&node, SURVIVAL);
    conversation.expect("kill me", &node);
    node.kill();
    node.start_again();
    conversation.go_on();
    conversation.expect("stop me", &node);
    node.stop();
    node.start_again();
    conversation.go_on();
    conversation.finish(&node);
}

/// As [`survive`], in a cluster whose nodes are killed, and later stopped, in turn.
///
/// # Panics
///
/// As [`survive`], and when the replicas do not catch up in between.
pub fn survive_in(cluster: &mut Cluster, client: Client) {
    let mut conversation = client.converse(cluster, SURVIVAL);
    conversation.expect("kill me", cluster);
    each_in_turn(cluster, Node::kill);
    conversation.go_on();
    conversation.expect("stop me", cluster);
    each_in_turn(cluster, |node| {
        node.stop();
    });
    conversation.go_on();
    conversation.finish(cluster);
}

/// Kills a node under groups that read and commit, one for each client, while others write.
///
/// # Panics
///
/// When a group does not go on, misses a record, or reads again what it has committed.
pub fn groups_survive(clients: &[Client], system: System) {
    let mut node = Node::start(system, &node::SHORT_WAITS);
    let mut conversations = begin(clients, &node);
    node.kill();
    node.start_again();
    end(&mut conversations, &node);
}

/// As [`groups_survive`], in a cluster whose nodes are killed in turn.
///
/// # Panics
///
/// As [`groups_survive`], and when the replicas do not catch up in between.
pub fn groups_survive_in(cluster: &mut Cluster, clients: &[Client]) {
    let mut conversations = begin(clients, cluster);
    each_in_turn(cluster, Node::kill);
    end(&mut conversations, cluster);
}

fn begin(clients: &[Client], target: &dyn Target) -> Vec<Conversation> {
    let start = |client: &Client| client.converse(target, GROUP_SURVIVAL);
    let mut conversations: Vec<Conversation> = clients.iter().map(start).collect();
    for conversation in &mut conversations {
        conversation.expect("kill me", target);
    }
    conversations
}

fn end(conversations: &mut Vec<Conversation>, target: &dyn Target) {
    for conversation in &mut *conversations {
        conversation.go_on();
    }
    for conversation in conversations.drain(..) {
        conversation.finish(target);
    }
}

/// Ends each node in this way, and starts it again, when all partitions are in sync.
fn each_in_turn(cluster: &mut Cluster, end: impl Fn(&mut Node)) {
    for turn in 0..cluster.nodes.len() {
        cluster.wait_until_in_sync();
        end(&mut cluster.nodes[turn]);
        cluster.nodes[turn].start_again();
    }
    cluster.wait_until_in_sync();
}
