//! A controller for the cluster model: ISR, ELR, elections, epochs, by the rules of the protocol.
//!
//! Input: registrations, heartbeats, fencing, proposals. Output: the partition as the image has it.
//!
//! Invariant: what it lets happen is what the `controller` crate lets happen; that has its own
//! tests.
//!
//! See KIP-497, KIP-841, KIP-903, KIP-966.

use std::collections::BTreeMap;

use skein_types::ErrorCode;

use super::super::*;
use super::BROKERS;
use crate::{IsrAnswer, IsrDecision};

pub(super) const MIN_ISR: u32 = 2;

pub(super) struct Controller {
    pub(super) isr: Vec<i32>,
    elr: Vec<i32>,
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    partition_epoch: i32,
    /// By broker.
    registered: BTreeMap<i32, i64>,
    active: Vec<i32>,
    next_broker_epoch: i64,
}

impl Controller {
    pub(super) fn new() -> Self {
        Self {
            isr: BROKERS.to_vec(),
            elr: Vec::new(),
            leader: Some(1),
            leader_epoch: 0,
            partition_epoch: 0,
            registered: BROKERS.into_iter().map(|id| (id, i64::from(id))).collect(),
            active: BROKERS.to_vec(),
            next_broker_epoch: 10,
        }
    }

    pub(super) fn is_registered(&self, id: i32, broker_epoch: i64) -> bool {
        self.registered[&id] == broker_epoch
    }

    /// Whether nobody is left who surely has all that was committed.
    pub(super) fn may_have_lost(&self) -> bool {
        self.isr.is_empty() && self.elr.is_empty()
    }

    pub(super) fn registration(&self) -> Registration {
        registration(self.leader_epoch, self.partition_epoch, &BROKERS, &self.isr)
    }

    pub(super) fn register(&mut self, id: i32, is_clean: bool) -> i64 {
        self.next_broker_epoch += 1;
        self.registered.insert(id, self.next_broker_epoch);
        self.leave(id, is_clean);
        self.activate(id);
        self.next_broker_epoch
    }

    pub(super) fn heartbeat(&mut self, id: i32, broker_epoch: i64) {
        if self.is_registered(id, broker_epoch) {
            self.activate(id);
        }
    }

    pub(super) fn fence(&mut self, id: i32) {
        self.active.retain(|active| *active != id);
        self.leave(id, true);
        self.elect();
    }

    pub(super) fn decide(&mut self, from: i32, epoch: i64, proposal: &IsrProposal) -> IsrAnswer {
        let result = self.check(from, epoch, proposal).map(|isr| {
            let left: Vec<i32> = self
                .isr
                .iter()
                .filter(|id| !isr.contains(id))
                .copied()
                .collect();
            self.elr.extend(left);
            self.isr = isr;
            self.settle();
            self.partition_epoch += 1;
            IsrDecision {
                partition_epoch: PartitionEpoch(self.partition_epoch),
                isr: self.isr.iter().copied().map(BrokerId).collect(),
            }
        });
        IsrAnswer {
            attempt: proposal.attempt,
            leader_epoch: proposal.leader_epoch,
            result,
        }
    }

    fn check(
        &self,
        from: i32,
        broker_epoch: i64,
        proposal: &IsrProposal,
    ) -> Result<Vec<i32>, ErrorCode> {
        if !self.is_registered(from, broker_epoch) {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if proposal.leader_epoch.0 != self.leader_epoch || self.leader != Some(from) {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if proposal.partition_epoch.0 != self.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        for member in &proposal.isr {
            let id = member.broker_id.0;
            let is_new = !self.isr.contains(&id);
            let is_known = self.is_registered(id, member.broker_epoch.0);
            if !self.active.contains(&id) || (is_new && !is_known) {
                return Err(ErrorCode::IneligibleReplica);
            }
        }
        Ok(proposal
            .isr
            .iter()
            .map(|member| member.broker_id.0)
            .collect())
    }

    fn activate(&mut self, id: i32) {
        if !self.active.contains(&id) {
            self.active.push(id);
        }
        self.elect();
    }

    fn leave(&mut self, id: i32, is_clean: bool) {
        let was_in_isr = self.isr.contains(&id);
        let was_in_elr = self.elr.contains(&id);
        self.isr.retain(|member| *member != id);
        if is_clean && was_in_isr {
            self.elr.push(id);
        } else if !is_clean {
            self.elr.retain(|member| *member != id);
        }
        if self.leader == Some(id) {
            self.leader = None;
            self.leader_epoch += 1;
        }
        if was_in_isr || was_in_elr {
            self.settle();
            self.partition_epoch += 1;
        }
    }

    fn elect(&mut self) {
        if self.leader.is_some() {
            return;
        }
        let may_lead = |id: &&i32| self.active.contains(id);
        let safe = self.isr.iter().find(may_lead);
        let Some(&leader) = safe.or_else(|| self.elr.iter().find(may_lead)) else {
            return;
        };
        self.leader = Some(leader);
        self.leader_epoch += 1;
        self.partition_epoch += 1;
        if !self.isr.contains(&leader) {
            self.isr.push(leader);
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.isr.sort_unstable();
        self.elr.retain(|id| !self.isr.contains(id));
        if self.isr.len() >= MIN_ISR as usize {
            self.elr.clear();
        }
    }
}
