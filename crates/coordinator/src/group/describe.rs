//! What can be told of a group: for ListGroups, DescribeGroups, and before it is deleted.
//!
//! Input: a group. Output: its line in a list, its description, whether it may go.
//!
//! Source: `ClassicGroup.asListedGroup`, `GroupMetadataManager.listGroups` and `describeGroups` of
//! Kafka 4.1.1; KIP-518 and KIP-848 (filters), KIP-1043 (GROUP_ID_NOT_FOUND).

use skein_protocol::Str;
use skein_protocol::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use skein_protocol::messages::list_groups::{ListGroupsRequest, ListedGroup};
use skein_types::ErrorCode;

use super::{Group, State};

/// Kafka's name of this kind of group.
const CLASSIC: &str = "classic";

/// What Kafka calls the state of a group that is not there.
const DEAD: &str = "Dead";

/// The first version that says that a group is not there.
const GROUP_ID_NOT_FOUND_VERSION: i16 = 6;

impl Group {
    /// Whether the filters of the request let it through.
    pub(crate) fn is_asked_for(&self, request: &ListGroupsRequest) -> bool {
        let has = |filter: &[Str], name: &str| {
            let mut names = filter.iter();
            filter.is_empty() || names.any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        has(&request.states_filter, self.state.name()) && has(&request.types_filter, CLASSIC)
    }

    /// Its line in the list.
    pub(crate) fn listed(&self) -> ListedGroup {
        ListedGroup {
            group_id: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            group_state: Str::from_static(self.state.name()),
            group_type: Str::from_static(CLASSIC),
        }
    }

    /// All that is known of it. What members subscribe to is told only of a generation that works.
    pub(crate) fn described(&self) -> DescribedGroup {
        let protocol_name = match self.state {
            State::Stable => self.protocol_name.as_ref(),
            _ => None,
        };
        let members = self
            .members
            .iter()
            .map(|(id, member)| DescribedGroupMember {
                member_id: id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                member_metadata: member.metadata(protocol_name),
                member_assignment: member.assignment.clone(),
            });
        DescribedGroup {
            group_id: self.id.clone(),
            group_state: Str::from_static(self.state.name()),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_data: protocol_name.cloned().unwrap_or_default(),
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }
}

/// The description of a group that is not there.
pub(crate) fn not_found(group_id: &Str, version: i16) -> DescribedGroup {
    let dead = DescribedGroup {
        group_id: group_id.clone(),
        group_state: Str::from_static(DEAD),
        ..DescribedGroup::default()
    };
    if version < GROUP_ID_NOT_FOUND_VERSION {
        return dead;
    }
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(Str::from(format!("Group {group_id} not found."))),
        ..dead
    }
}
