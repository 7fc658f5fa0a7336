//! Assignments of replicas that a client chose itself, and the first state of a new partition.
//!
//! Input: replicas. Output: the partition as it is created.
//!
//! Invariants: a new partition has replicas that are registered and distinct; its ISR is those of
//! them that are active, and the first of these leads.
//!
//! Source: `ReplicationControlManager.validateManualPartitionAssignment` of Kafka 4.1.

use skein_metadata::{Image, LeaderRecoveryState, Partition};
use skein_types::{BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch};

use crate::Refusal;
use crate::election::sorted;

/// Checks one partition's replicas; `replication_factor` is that of the topic's other partitions.
///
/// # Errors
/// INVALID_REPLICA_ASSIGNMENT.
pub(crate) fn check(
    image: &Image,
    replicas: &[BrokerId],
    replication_factor: Option<usize>,
) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refuse("an assignment names no broker".to_owned());
    }
    if let Some(stranger) = replicas.iter().find(|id| image.broker(**id).is_none()) {
        return refuse(format!(
            "broker {stranger} of an assignment is not registered"
        ));
    }
    if sorted(replicas.iter().copied()).len() != replicas.len() {
        return refuse("an assignment names a broker more than once".to_owned());
    }
    match replication_factor {
        Some(factor) if factor != replicas.len() => refuse(format!(
            "an assignment names {} brokers, where the other partitions have {factor}",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

/// The partition that is created on these replicas.
///
/// # Errors
/// `code` if none of them is active.
pub(crate) fn new_partition(
    image: &Image,
    replicas: Vec<BrokerId>,
    code: ErrorCode,
) -> Result<Partition, Refusal> {
    let active: Vec<_> = replicas
        .iter()
        .copied()
        .filter(|id| image.is_active(*id))
        .collect();
    let Some(leader) = active.first().copied() else {
        return Err(Refusal::new(
            code,
            "none of a partition's brokers is active",
        ));
    };
    Ok(Partition {
        replicas,
        isr: sorted(active.into_iter()),
        elr: Vec::new(),
        last_known: Vec::new(),
        offline: Vec::new(),
        leader,
        leader_epoch: LeaderEpoch::ZERO,
        partition_epoch: PartitionEpoch::ZERO,
        leader_recovery_state: LeaderRecoveryState::Recovered,
    })
}
