//! Each request finds its group.
//!
//! Input: a request. Output: what its group, or all of them, make of it.
//!
//! Invariant: what is wrong with a request without a look at any group is told first. The empty
//! group id is one where Kafka lets it be one: for commits, fetches, descriptions, deletions.
//!
//! Source: `GroupCoordinatorService` of Kafka 4.1.1; `LeaveGroupRequest` and `LeaveGroupResponse`
//! for the forms of their versions.

use std::fmt::Write as _;

use skein_protocol::Str;
use skein_protocol::messages::delete_groups::DeletableGroupResult;
use skein_protocol::messages::heartbeat::HeartbeatRequest;
use skein_protocol::messages::join_group::JoinGroupRequest;
use skein_protocol::messages::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};
use skein_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use skein_protocol::messages::offset_commit::OffsetCommitRequest;
use skein_protocol::messages::offset_delete::OffsetDeleteRequest;
use skein_protocol::messages::sync_group::SyncGroupRequest;
use skein_types::{ErrorCode, Now, Ticket, Uuid};

use super::Shard;
use crate::group::{Group, Joining, Leaver, not_found};
use crate::offsets::{commit, delete, fetch};
use crate::request::{
    Joiner, Request, Response, commit_error, delete_offsets_error, heartbeat, join_error,
    leave_error, sync_error,
};

/// The first version of LeaveGroup with several members, and an answer for each.
const LEAVE_BATCH_VERSION: i16 = 3;

/// Bytes of a new member's id that are its client's, so that the id fits into every message.
const MEMBER_ID_PREFIX_MAX_BYTES: usize = 1_024;

/// The longest string in a record, in bytes: its values are of versions with short strings.
const RECORD_STRING_MAX_BYTES: usize = i16::MAX as usize;

impl Shard {
    pub(super) fn serve(&mut self, ticket: Ticket, request: Request, now: Now) {
        let response = match request {
            Request::JoinGroup(request, joiner) => return self.join(ticket, request, joiner, now),
            Request::SyncGroup(request) => return self.sync(ticket, &request, now),
            Request::Heartbeat(request) => self.heartbeat(&request, now),
            Request::LeaveGroup(request, version) => self.leave(&request, version, now),
            Request::OffsetCommit(request, version) => self.commit(&request, version, now),
            Request::OffsetFetch {
                group,
                require_stable,
            } => {
                let known = self.groups.get(&group.group_id);
                let offsets = known.map(|known| &known.offsets);
                Response::OffsetFetch(fetch::fetch(offsets, &group, require_stable))
            }
            Request::OffsetDelete(request) => self.delete_offsets(&request, now),
            Request::ListGroups(request) => self.list_groups(&request),
            Request::DescribeGroups(ids, version) => self.describe_groups(&ids, version),
            Request::DeleteGroups(ids) => self.delete_groups(ids, now),
        };
        self.outcome.answers.push((ticket, response));
    }

    fn join(&mut self, ticket: Ticket, request: JoinGroupRequest, joiner: Joiner, now: Now) {
        let (groups, mut turn) = self.parts(now);
        let sessions_ms =
            turn.group.min_session_timeout_ms.get()..=turn.group.max_session_timeout_ms.get();
        let error = if request.group_id.is_empty() {
            Some(ErrorCode::InvalidGroupId)
        } else if !fits_into_a_record(&request) {
            Some(ErrorCode::UnknownServerError)
        } else if !sessions_ms.contains(&request.session_timeout_ms.into()) {
            Some(ErrorCode::InvalidSessionTimeout)
        } else if groups.contains_key(&request.group_id) {
            None
        } else if !request.member_id.is_empty() {
            Some(ErrorCode::UnknownMemberId)
        } else if Group::could_begin_with(&request) {
            None
        } else {
            Some(ErrorCode::InconsistentGroupProtocol)
        };
        if let Some(error) = error {
            return turn.answer(ticket, join_error(request.member_id, error));
        }
        if !groups.contains_key(&request.group_id) {
            let group = Group::found(&request.group_id, now);
            let record = group.record();
            if !turn.fits(&record) {
                let error = join_error(Str::default(), ErrorCode::UnknownServerError);
                return turn.answer(ticket, error);
            }
            turn.keep(record);
            groups.insert(group.id().clone(), group);
        }
        let Some(group) = groups.get_mut(&request.group_id) else {
            return;
        };
        let prefix = request
            .group_instance_id
            .as_ref()
            .unwrap_or(&joiner.client_id);
        let joining = Joining {
            ticket,
            version: joiner.version,
            new_member_id: new_member_id(prefix, joiner.random),
            client_id: joiner.client_id,
            client_host: joiner.client_host,
            request,
        };
        group.join(joining, &mut turn);
        group.check();
    }

    fn sync(&mut self, ticket: Ticket, request: &SyncGroupRequest, now: Now) {
        let (groups, mut turn) = self.parts(now);
        if request.group_id.is_empty() {
            turn.answer(ticket, sync_error(ErrorCode::InvalidGroupId));
        } else if let Some(group) = groups.get_mut(&request.group_id) {
            group.sync(ticket, request, &mut turn);
            group.check();
        } else {
            turn.answer(ticket, sync_error(ErrorCode::UnknownMemberId));
        }
    }

    fn heartbeat(&mut self, request: &HeartbeatRequest, now: Now) -> Response {
        let (groups, mut turn) = self.parts(now);
        let result = if request.group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else if let Some(group) = groups.get_mut(&request.group_id) {
            group.heartbeat(request, &mut turn)
        } else {
            Err(ErrorCode::UnknownMemberId)
        };
        heartbeat(result.err().unwrap_or(ErrorCode::None))
    }

    fn leave(&mut self, request: &LeaveGroupRequest, version: i16, now: Now) -> Response {
        if request.group_id.is_empty() {
            return leave_error(ErrorCode::InvalidGroupId);
        }
        let alone = [MemberIdentity {
            member_id: request.member_id.clone(),
            ..MemberIdentity::default()
        }];
        let identities = match version {
            LEAVE_BATCH_VERSION.. => &request.members[..],
            _ => &alone,
        };
        let (groups, mut turn) = self.parts(now);
        let codes = match groups.get_mut(&request.group_id) {
            Some(group) => {
                let leavers: Vec<Leaver<'_>> = identities.iter().map(Leaver::new).collect();
                let codes = group.leave(&leavers, &mut turn);
                group.check();
                codes
            }
            None => vec![ErrorCode::UnknownMemberId; identities.len()],
        };
        if version < LEAVE_BATCH_VERSION {
            return leave_error(codes.first().copied().unwrap_or(ErrorCode::None));
        }
        let members = identities
            .iter()
            .zip(codes)
            .map(|(identity, code)| MemberResponse {
                member_id: identity.member_id.clone(),
                group_instance_id: identity.group_instance_id.clone(),
                error_code: code.code(),
            });
        Response::LeaveGroup(LeaveGroupResponse {
            members: members.collect(),
            ..LeaveGroupResponse::default()
        })
    }

    fn commit(&mut self, request: &OffsetCommitRequest, version: i16, now: Now) -> Response {
        if request.group_id.len() > RECORD_STRING_MAX_BYTES {
            return commit_error(request, ErrorCode::UnknownServerError);
        }
        let (groups, mut turn) = self.parts(now);
        let allowed = match groups.get_mut(&request.group_id) {
            Some(group) => group.accept_commit(request, &mut turn),
            None => commit::validate_without_group(request, version),
        };
        match allowed {
            Ok(()) => commit::commit(request, &mut turn),
            Err(error) => commit_error(request, error),
        }
    }

    fn delete_offsets(&mut self, request: &OffsetDeleteRequest, now: Now) -> Response {
        if request.group_id.is_empty() {
            return delete_offsets_error(ErrorCode::InvalidGroupId);
        }
        let (groups, mut turn) = self.parts(now);
        match groups.get(&request.group_id) {
            Some(group) => delete::delete(group, request, &mut turn),
            None => delete_offsets_error(ErrorCode::GroupIdNotFound),
        }
    }

    fn list_groups(&self, request: &ListGroupsRequest) -> Response {
        let groups = self.groups.values();
        let groups = groups.filter(|group| group.is_asked_for(request));
        Response::ListGroups(ListGroupsResponse {
            groups: groups.map(Group::listed).collect(),
            ..ListGroupsResponse::default()
        })
    }

    fn describe_groups(&self, ids: &[Str], version: i16) -> Response {
        let describe = |id| match self.groups.get(id) {
            Some(group) => group.described(),
            None => not_found(id, version),
        };
        Response::DescribeGroups(ids.iter().map(describe).collect())
    }

    fn delete_groups(&mut self, ids: Vec<Str>, now: Now) -> Response {
        let (groups, mut turn) = self.parts(now);
        let kept = turn.kept();
        let delete = |id: Str| {
            let error = match groups.get(&id) {
                None => ErrorCode::GroupIdNotFound,
                Some(group) if !group.may_be_deleted() => ErrorCode::NonEmptyGroup,
                Some(group) => {
                    for record in group.offsets.tombstones(group.id(), None) {
                        turn.keep(record);
                    }
                    turn.keep(group.tombstone());
                    ErrorCode::None
                }
            };
            DeletableGroupResult {
                group_id: id,
                error_code: error.code(),
            }
        };
        let mut results: Vec<_> = ids.into_iter().map(delete).collect();
        if !turn.fit_since(kept) {
            for result in &mut results {
                result.error_code = ErrorCode::UnknownServerError.code();
            }
        }
        Response::DeleteGroups(results)
    }
}

/// Whether a record can tell of the member. Who does not fit is told so before anything is done for
/// it, with what Kafka says when it fails to write the record.
fn fits_into_a_record(request: &JoinGroupRequest) -> bool {
    let protocols = request.protocols.iter().map(|protocol| &protocol.name);
    let mut strings = [&request.group_id, &request.protocol_type]
        .into_iter()
        .chain(&request.group_instance_id)
        .chain(protocols);
    strings.all(|string| string.len() <= RECORD_STRING_MAX_BYTES)
}

/// As Kafka makes them: the client's name for itself, and a random UUID in its usual text form.
fn new_member_id(prefix: &str, random: Uuid) -> Str {
    let mut id = prefix[..prefix.floor_char_boundary(MEMBER_ID_PREFIX_MAX_BYTES)].to_owned();
    for (index, byte) in Uuid::from_random(random.0).0.into_iter().enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            id.push('-');
        }
        // Writing to a string does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    Str::from(id)
}
