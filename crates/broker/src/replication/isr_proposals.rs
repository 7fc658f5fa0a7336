//! Proposed ISRs, on their way to the controller.
//!
//! Input: proposals of leaders. Output: one request for all that wait, and each replica's answer.
//!
//! Invariants:
//! - each proposal that a replica makes is answered once, unless a later one of it stands in its
//!   place;
//! - one request is under way: what is proposed meanwhile goes together in the next.
//!
//! Source: KIP-497; `AlterPartitionManager` of Kafka 4.1.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use skein_controller::{
    ALTERATIONS_PER_REQUEST_MAX, AlterPartition, AlterPartitionResult, PartitionAlteration,
    ProposedMember,
};
use skein_metadata::LeaderRecoveryState;
use skein_partition::{Event, FetchedPartition, IsrAnswer, IsrDecision, IsrProposal};
use skein_types::ErrorCode;
use tokio::sync::Notify;

use crate::node::Shared;
use crate::replica::Replica;

/// How long one attempt waits for the controller; the replica asks again.
const ASK_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Default)]
pub(crate) struct IsrProposals {
    waiting: Mutex<BTreeMap<FetchedPartition, Proposed>>,
    wake: Notify,
}

struct Proposed {
    replica: Weak<Replica>,
    proposal: IsrProposal,
}

impl IsrProposals {
    /// The replica proposes another ISR.
    pub(crate) fn propose(&self, replica: &Arc<Replica>, proposal: IsrProposal) {
        let proposed = Proposed {
            replica: Arc::downgrade(replica),
            proposal,
        };
        self.waiting.lock().insert(replica.partition_id(), proposed);
        self.wake.notify_one();
    }

    fn take(&self) -> BTreeMap<FetchedPartition, Proposed> {
        let mut waiting = self.waiting.lock();
        let rest = waiting.keys().nth(ALTERATIONS_PER_REQUEST_MAX).copied();
        let rest = rest.map(|first| waiting.split_off(&first));
        std::mem::replace(&mut *waiting, rest.unwrap_or_default())
    }
}

/// Asks the controller, again and again.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let proposals = &shared.basis.replication.isr_proposals;
        let proposed = proposals.take();
        if proposed.is_empty() {
            proposals.wake.notified().await;
            continue;
        }
        let request = AlterPartition {
            broker_id: shared.identity.broker_id,
            broker_epoch: shared.identity.broker_epoch,
            partitions: proposed.iter().map(alteration).collect(),
        };
        let asked = shared.controller_link.ask(request, ASK_MAX).await;
        let (mut results, otherwise) = match asked {
            Ok(results) => (by_partition(results), ErrorCode::UnknownServerError),
            Err(refusal) => {
                tracing::debug!(%refusal, "no other ISR");
                (BTreeMap::new(), refusal.code)
            }
        };
        for (partition, Proposed { replica, proposal }) in proposed {
            let Some(replica) = replica.upgrade() else {
                continue;
            };
            let result = results.remove(&partition).unwrap_or(Err(otherwise));
            replica.step(Event::IsrProposalAnswered(IsrAnswer {
                attempt: proposal.attempt,
                leader_epoch: proposal.leader_epoch,
                result,
            }));
        }
    }
}

fn alteration((partition, proposed): (&FetchedPartition, &Proposed)) -> PartitionAlteration {
    let (topic_id, partition) = *partition;
    let IsrProposal {
        leader_epoch,
        partition_epoch,
        isr,
        ..
    } = &proposed.proposal;
    let isr = isr.iter().map(|member| ProposedMember {
        broker_id: member.broker_id,
        broker_epoch: member.broker_epoch,
    });
    PartitionAlteration {
        topic_id,
        partition,
        leader_epoch: *leader_epoch,
        partition_epoch: *partition_epoch,
        isr: isr.collect(),
        leader_recovery_state: LeaderRecoveryState::Recovered,
    }
}

fn by_partition(
    results: Vec<AlterPartitionResult>,
) -> BTreeMap<FetchedPartition, Result<IsrDecision, ErrorCode>> {
    let decided = results.into_iter().map(|result| {
        let decision = result.result.map_err(|refusal| refusal.code);
        let decision = decision.map(|altered| IsrDecision {
            partition_epoch: altered.partition_epoch,
            isr: altered.isr,
        });
        ((result.topic_id, result.partition), decision)
    });
    decided.collect()
}
