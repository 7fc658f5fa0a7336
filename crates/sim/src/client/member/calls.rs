//! What a member asks its coordinator, and what the answers mean to it.
//!
//! Input: where the member is in the protocol. Output: requests; where it is then.
//!
//! Invariant: an assignment is made by the leader alone, and gives every partition to one member.
//!
//! Source: the classic group protocol; KIP-559 (protocol in SyncGroup), KIP-814 (a static leader
//! that need not assign).

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use skein_protocol::Str;
use skein_protocol::messages::heartbeat::HeartbeatRequest;
use skein_protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use skein_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use skein_types::ErrorCode;

use super::{Member, Place};
use crate::client::groups;
use crate::event::{GroupEvent, Stamp, Subject};

/// What the groups speak, so that the node reads what members subscribe to.
const PROTOCOL_TYPE: &str = "consumer";

/// The one assignor.
const PROTOCOL: &str = "sim";

/// A subscription in version 0: to one topic, which is not the one whose offsets are committed, so
/// that they may be deleted.
const SUBSCRIPTION: &[u8] = b"\x00\x00\x00\x00\x00\x01\x00\x09elsewhere\xff\xff\xff\xff";

/// The same, to the topic whose offsets are committed, so that they do not expire.
const OWN_SUBSCRIPTION: &[u8] = b"\x00\x00\x00\x00\x00\x01\x00\x0eread-by-groups\xff\xff\xff\xff";

const HEARTBEAT_VERSION: i16 = 4;
const LEAVE_VERSION: i16 = 4;
const SYNC_VERSION: i16 = 5;

/// What an answer means to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Good,
    /// There was none, or none that says anything.
    Nothing,
    /// It joins again as who it is.
    Rejoin,
    /// It is nobody any more.
    Unknown,
}

impl Member {
    pub(super) async fn join(&mut self) {
        let request = JoinGroupRequest {
            group_id: groups::name_of(&self.client, self.plan.group),
            session_timeout_ms: self.plan.session_timeout_ms,
            rebalance_timeout_ms: self.plan.rebalance_timeout_ms,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: PROTOCOL.into(),
                metadata: Bytes::from_static(match self.client.plan.groups.expires {
                    true => OWN_SUBSCRIPTION,
                    false => SUBSCRIPTION,
                }),
            }],
            ..Default::default()
        };
        let answer = self.client.call(&request, self.plan.join_version).await;
        let Some((response, asked)) = answer else {
            return;
        };
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => self.joined(response, asked),
            ErrorCode::MemberIdRequired => self.member_id = response.member_id.detached(),
            code => {
                let answer = self.judge(code, "a join").await;
                self.follow(answer);
            }
        }
    }

    fn joined(&mut self, response: JoinGroupResponse, asked: Stamp) {
        self.member_id = response.member_id.detached();
        let of = self.membership(response.generation_id);
        let joined = GroupEvent::Joined { of, asked };
        groups::tell(&self.client, self.plan.group, joined);
        let leads = response.leader == response.member_id && !response.skip_assignment;
        let others = leads.then(|| {
            let members = response.members.into_iter();
            let members = members.map(|member| {
                let owner = match &member.group_instance_id {
                    Some(instance) => instance.to_string(),
                    None => member.member_id.to_string(),
                };
                (member.member_id.detached(), owner)
            });
            members.collect()
        });
        self.place = Place::Joined {
            generation: response.generation_id,
            others,
        };
    }

    /// Fetches its part of the assignment, or brings all of it if it leads.
    pub(super) async fn sync(&mut self, generation: i32, others: Option<Vec<(Str, String)>>) {
        let assignments = match others {
            Some(members) => self.assign(generation, members),
            None => Vec::new(),
        };
        let request = self.sync_request(generation, assignments);
        let Some((response, asked)) = self.client.call(&request, SYNC_VERSION).await else {
            return;
        };
        let code = ErrorCode::from_code(response.error_code);
        if !code.is_none() {
            let answer = self.judge(code, "a sync").await;
            return self.follow(answer);
        }
        let Some((assignment, owner, partitions)) = read_assignment(response.assignment) else {
            let text = format!("{} is given no assignment", self.membership(generation));
            return self.accuse("one_owner", text);
        };
        let own_name = self.plan.instance.as_deref().unwrap_or(&self.member_id);
        if owner != own_name {
            let text = format!("{own_name} is given the part of {owner}");
            return self.accuse("one_owner", text);
        }
        let synced = GroupEvent::Synced {
            of: self.membership(generation),
            owner,
            assignment,
            partitions: partitions.clone(),
            asked,
        };
        groups::tell(&self.client, self.plan.group, synced);
        self.place = Place::Owner {
            generation,
            partitions,
        };
    }

    /// Asks for its part in a generation that is over: it must be refused.
    pub(super) async fn sync_late(&mut self, generation: i32) {
        let request = self.sync_request(generation, Vec::new());
        let Some((response, asked)) = self.client.call(&request, SYNC_VERSION).await else {
            return;
        };
        if response.error_code != 0 {
            return;
        }
        if let Some((assignment, owner, partitions)) = read_assignment(response.assignment) {
            let synced = GroupEvent::Synced {
                of: self.membership(generation),
                owner,
                assignment,
                partitions,
                asked,
            };
            groups::tell(&self.client, self.plan.group, synced);
        }
    }

    fn sync_request(
        &self,
        generation: i32,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> SyncGroupRequest {
        SyncGroupRequest {
            group_id: groups::name_of(&self.client, self.plan.group),
            generation_id: generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance(),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: Some(PROTOCOL.into()),
            assignments,
        }
    }

    /// Gives each partition to a member, and tells of it.
    fn assign(
        &mut self,
        generation: i32,
        members: Vec<(Str, String)>,
    ) -> Vec<SyncGroupRequestAssignment> {
        let mut parts = vec![Vec::new(); members.len()];
        for partition in 0..self.client.plan.groups.partitions {
            let at = self.client.rng.below(members.len().max(1) as u64);
            if let Some(part) = parts.get_mut(usize::try_from(at).unwrap_or(0)) {
                part.push(partition);
            }
        }
        let assignment = self.client.witness.next_write().0;
        let mut owners = BTreeMap::new();
        let mut assignments = Vec::new();
        for ((member_id, owner), partitions) in members.into_iter().zip(parts) {
            assignments.push(SyncGroupRequestAssignment {
                member_id,
                assignment: write_assignment(assignment, &owner, &partitions),
            });
            owners.insert(owner, partitions);
        }
        let assigning = GroupEvent::Assigning {
            of: self.membership(generation),
            assignment,
            owners,
        };
        groups::tell(&self.client, self.plan.group, assigning);
        assignments
    }

    pub(super) async fn heartbeat(&mut self, generation: i32) -> Answer {
        let request = HeartbeatRequest {
            group_id: groups::name_of(&self.client, self.plan.group),
            generation_id: generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.instance(),
        };
        match self.client.call(&request, HEARTBEAT_VERSION).await {
            None => Answer::Nothing,
            Some((response, _)) => match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => Answer::Good,
                code => self.judge(code, "a heartbeat").await,
            },
        }
    }

    /// Leaves; whether that was heard is not waited for.
    pub(super) async fn leave(&mut self) {
        let request = LeaveGroupRequest {
            group_id: groups::name_of(&self.client, self.plan.group),
            members: vec![MemberIdentity {
                member_id: self.member_id.clone(),
                group_instance_id: self.instance(),
                ..Default::default()
            }],
            ..Default::default()
        };
        // Whoever is still a member then has a session that ends.
        let _ = self.client.call(&request, LEAVE_VERSION).await;
    }

    /// What a refusal means; one that no honest node gives is accused.
    pub(super) async fn judge(&mut self, code: ErrorCode, what: &str) -> Answer {
        match code {
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => Answer::Rejoin,
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedInstanceId
            | ErrorCode::GroupIdNotFound => Answer::Unknown,
            code => {
                groups::expect_unavailable(&self.client, self.plan.group, code, what);
                self.client.back_off().await;
                Answer::Nothing
            }
        }
    }

    fn accuse(&self, invariant: &'static str, text: String) {
        let subject = Some(Subject::Group(self.plan.group));
        let witness = &self.client.witness;
        witness.accuse(self.client.actor, invariant, subject, text);
    }
}

fn write_assignment(assignment: i64, owner: &str, partitions: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i64(assignment);
    bytes.put_u16(u16::try_from(owner.len()).unwrap_or(u16::MAX));
    bytes.put_slice(owner.as_bytes());
    for partition in partitions {
        bytes.put_i32(*partition);
    }
    bytes.freeze()
}

fn read_assignment(mut bytes: Bytes) -> Option<(i64, String, Vec<i32>)> {
    let assignment = bytes.try_get_i64().ok()?;
    let length = usize::from(bytes.try_get_u16().ok()?);
    if bytes.len() < length {
        return None;
    }
    let owner = String::from_utf8(bytes.split_to(length).to_vec()).ok()?;
    let mut partitions = Vec::new();
    while let Ok(partition) = bytes.try_get_i32() {
        partitions.push(partition);
    }
    Some((assignment, owner, partitions))
}
