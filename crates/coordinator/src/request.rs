//! What a shard can be asked, and what it answers.
//!
//! Input: the messages of the protocol, with what of their frame counts. Output: a [`Response`] for
//! each [`Request`]; also the one that says that nobody here can answer.
//!
//! What spans several coordinators is taken apart by the runtime: a [`Request::OffsetFetch`] is for
//! one group, the others hold groups of this shard only.
//!
//! Invariant: whatever an error is about, the answer has the form that the request asks for: an
//! error at its top, or one for each of its groups or partitions.

use skein_protocol::Str;
use skein_protocol::messages::delete_groups::DeletableGroupResult;
use skein_protocol::messages::describe_groups::DescribedGroup;
use skein_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use skein_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use skein_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use skein_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use skein_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use skein_protocol::messages::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use skein_protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use skein_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use skein_types::{ErrorCode, Uuid};

/// A question to a shard.
#[derive(Clone, Debug)]
pub enum Request {
    /// To be a member of a group.
    JoinGroup(JoinGroupRequest, Joiner),
    /// For a member's assignment, or with everybody's.
    SyncGroup(SyncGroupRequest),
    /// To stay a member.
    Heartbeat(HeartbeatRequest),
    /// To be a member no more, or that others are none; with the version of the request.
    LeaveGroup(LeaveGroupRequest, i16),
    /// To keep offsets; with the version of the request.
    OffsetCommit(OffsetCommitRequest, i16),
    /// For the offsets of one group; `require_stable` stands beside the groups on the wire.
    OffsetFetch {
        /// The group, and the partitions.
        group: OffsetFetchRequestGroup,
        /// Whether an offset that a transaction may still change is an error.
        require_stable: bool,
    },
    /// To forget offsets.
    OffsetDelete(OffsetDeleteRequest),
    /// For all groups.
    ListGroups(ListGroupsRequest),
    /// For what is known of groups; with the version of the request.
    DescribeGroups(Vec<Str>, i16),
    /// To forget groups.
    DeleteGroups(Vec<Str>),
}

/// What is known of who wants to join, beside the request.
#[derive(Clone, Debug)]
pub struct Joiner {
    /// Version of the request.
    pub version: i16,
    /// From the request's header.
    pub client_id: Str,
    /// The client's address, as Kafka prints it: `/127.0.0.1`.
    pub client_host: Str,
    /// Random bits for the id of a new member.
    pub random: Uuid,
}

/// An answer of a shard.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // each is the answer to the request of its name
pub enum Response {
    JoinGroup(JoinGroupResponse),
    SyncGroup(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    LeaveGroup(LeaveGroupResponse),
    OffsetCommit(OffsetCommitResponse),
    OffsetFetch(OffsetFetchResponseGroup),
    OffsetDelete(OffsetDeleteResponse),
    ListGroups(ListGroupsResponse),
    DescribeGroups(Vec<DescribedGroup>),
    DeleteGroups(Vec<DeletableGroupResult>),
}

impl Request {
    /// The answer that says nothing but `error`.
    #[must_use]
    pub fn refused(&self, error: ErrorCode) -> Response {
        let code = error.code();
        match self {
            Self::JoinGroup(request, _) => join_error(request.member_id.clone(), error),
            Self::SyncGroup(_) => sync_error(error),
            Self::Heartbeat(_) => heartbeat(error),
            Self::LeaveGroup(..) => leave_error(error),
            Self::OffsetCommit(request, _) => commit_error(request, error),
            Self::OffsetFetch { group, .. } => fetch_error(group.group_id.clone(), error),
            Self::OffsetDelete(_) => delete_offsets_error(error),
            Self::ListGroups(_) => Response::ListGroups(ListGroupsResponse {
                error_code: code,
                ..ListGroupsResponse::default()
            }),
            Self::DescribeGroups(groups, _) => {
                let described = groups.iter().map(|group_id| DescribedGroup {
                    group_id: group_id.clone(),
                    error_code: code,
                    ..DescribedGroup::default()
                });
                Response::DescribeGroups(described.collect())
            }
            Self::DeleteGroups(groups) => {
                let results = groups.iter().map(|group_id| DeletableGroupResult {
                    group_id: group_id.clone(),
                    error_code: code,
                });
                Response::DeleteGroups(results.collect())
            }
        }
    }
}

impl Response {
    /// The same answer, which says `error` now instead of what it was to say.
    #[must_use]
    pub fn failed(self, error: ErrorCode) -> Self {
        let code = error.code();
        match self {
            Self::JoinGroup(_) => join_error(Str::default(), error),
            Self::SyncGroup(_) => sync_error(error),
            Self::Heartbeat(_) => heartbeat(error),
            Self::LeaveGroup(_) => leave_error(error),
            Self::OffsetCommit(mut response) => {
                for topic in &mut response.topics {
                    for partition in &mut topic.partitions {
                        partition.error_code = code;
                    }
                }
                Self::OffsetCommit(response)
            }
            Self::OffsetFetch(group) => fetch_error(group.group_id, error),
            Self::OffsetDelete(_) => delete_offsets_error(error),
            Self::ListGroups(_) => Self::ListGroups(ListGroupsResponse {
                error_code: code,
                ..ListGroupsResponse::default()
            }),
            Self::DescribeGroups(groups) => {
                let failed = groups.into_iter().map(|group| DescribedGroup {
                    group_id: group.group_id,
                    error_code: code,
                    ..DescribedGroup::default()
                });
                Self::DescribeGroups(failed.collect())
            }
            Self::DeleteGroups(mut results) => {
                for result in &mut results {
                    result.error_code = code;
                }
                Self::DeleteGroups(results)
            }
        }
    }
}

pub(crate) fn join_error(member_id: Str, error: ErrorCode) -> Response {
    Response::JoinGroup(JoinGroupResponse {
        member_id,
        error_code: error.code(),
        ..JoinGroupResponse::default()
    })
}

pub(crate) fn sync_error(error: ErrorCode) -> Response {
    Response::SyncGroup(SyncGroupResponse {
        error_code: error.code(),
        ..SyncGroupResponse::default()
    })
}

pub(crate) fn heartbeat(error: ErrorCode) -> Response {
    Response::Heartbeat(HeartbeatResponse {
        error_code: error.code(),
        ..HeartbeatResponse::default()
    })
}

pub(crate) fn leave_error(error: ErrorCode) -> Response {
    Response::LeaveGroup(LeaveGroupResponse {
        error_code: error.code(),
        ..LeaveGroupResponse::default()
    })
}

/// Kafka's consumers before 3.9 give up when a fetch tells them that its coordinator is not
/// available: they are to look for another one.
fn fetch_error(group_id: Str, error: ErrorCode) -> Response {
    let error = match error {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        error => error,
    };
    Response::OffsetFetch(OffsetFetchResponseGroup {
        group_id,
        error_code: error.code(),
        ..OffsetFetchResponseGroup::default()
    })
}

pub(crate) fn delete_offsets_error(error: ErrorCode) -> Response {
    Response::OffsetDelete(OffsetDeleteResponse {
        error_code: error.code(),
        ..OffsetDeleteResponse::default()
    })
}

/// `error` for every partition that was to be committed.
pub(crate) fn commit_error(request: &OffsetCommitRequest, error: ErrorCode) -> Response {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                })
                .collect(),
        });
    Response::OffsetCommit(OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    })
}
