//! Lists, describes and changes consumer groups.
//!
//! Input: group ids, offsets. Output: what their coordinators say of them.
//!
//! Invariants:
//! - a committed offset is changed only of a group without members: the coordinator refuses it
//!   otherwise, because we commit as a member of no generation;
//! - what members say of themselves may be anything: an assignment that cannot be read is none.
//!
//! Source: KIP-222 (the admin's view of groups), KIP-496 (OffsetDelete), KIP-518 (filters by
//! state), KIP-709 (OffsetFetch of several groups), KIP-1043 (GROUP_ID_NOT_FOUND).

use std::collections::BTreeMap;
use std::sync::Arc;

use skein_protocol::messages::consumer_protocol::ConsumerProtocolAssignment;
use skein_protocol::messages::delete_groups::DeleteGroupsRequest;
use skein_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribedGroup, DescribedGroupMember,
};
use skein_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use skein_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use skein_protocol::{Decoder, Message, Str};
use skein_types::{BrokerId, ErrorCode, PartitionIndex, TopicName, TopicPartition};

use crate::admin::Admin;
use crate::cluster::Broker;
use crate::committed::{self, CommittedOffset};
use crate::coordinator::Coordinator;
use crate::error::ClientError;
use crate::retry::Retry;

/// A line of the list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// What its members speak among one another; `consumer` for consumers, empty for a group that
    /// has only offsets.
    pub protocol_type: String,
    /// `Stable`, `Empty` and so on; empty where the broker does not say.
    pub state: String,
    /// `classic` or `consumer`; empty where the broker does not say.
    pub kind: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

/// What is known of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group_id: String,
    /// `Stable`, `Empty` and so on.
    pub state: String,
    /// What its members speak among one another.
    pub protocol_type: String,
    /// How partitions are given to members; empty while that is not agreed.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// Where that is, if it is known.
    pub coordinator_broker: Option<Broker>,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// `group.instance.id`, of a static member.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Its address.
    pub host: String,
    /// What it reads.
    pub assignment: Vec<TopicPartition>,
}

impl Admin {
    /// The groups of all brokers, by id. Filters are names of states and of types; an empty one
    /// lets all through.
    ///
    /// # Errors
    /// A broker's refusal; that one cannot be reached, because the list would have a gap.
    pub async fn list_groups(
        &self,
        states: &[String],
        kinds: &[String],
    ) -> Result<Vec<GroupListing>, ClientError> {
        let names = |names: &[String]| names.iter().map(Str::from).collect();
        let request = ListGroupsRequest {
            states_filter: names(states),
            types_filter: names(kinds),
        };
        let metadata = &self.pool.metadata;
        let view = metadata.view();
        // A broker that has come since has groups too.
        let newer = metadata.newer_than(view.version, false).await?;
        let brokers = newer.brokers.clone();
        let mut groups = BTreeMap::new();
        for broker in brokers.into_keys() {
            for group in self.groups_of(broker, &request).await?.groups {
                let listing = GroupListing {
                    group_id: group.group_id.as_str().to_owned(),
                    protocol_type: group.protocol_type.as_str().to_owned(),
                    state: group.group_state.as_str().to_owned(),
                    kind: group.group_type.as_str().to_owned(),
                    coordinator: broker,
                };
                groups.insert(listing.group_id.clone(), listing);
            }
        }
        Ok(groups.into_values().collect())
    }

    async fn groups_of(
        &self,
        broker: BrokerId,
        request: &ListGroupsRequest,
    ) -> Result<ListGroupsResponse, ClientError> {
        let metadata = &self.pool.metadata;
        let timeout = metadata.options.request_timeout;
        let subject = format!("groups of broker {broker}");
        let mut retry = Retry::new(&metadata.env, &metadata.options, &*subject);
        loop {
            let called = match self.pool.connection(broker).await {
                Ok(connection) => connection.call(request, timeout).await,
                Err(error) => Err(error),
            };
            let error = match called {
                Ok(response) => match ErrorCode::from_code(response.error_code) {
                    ErrorCode::None => return Ok(response),
                    code => ClientError::refused(&*subject, code, None),
                },
                Err(error) => error,
            };
            retry.pause(error).await?;
        }
    }

    /// What is known of a group and its members.
    ///
    /// # Errors
    /// The coordinator's refusal, [`ErrorCode::GroupIdNotFound`] if there is no such group.
    pub async fn describe_group(&self, group_id: &str) -> Result<GroupDescription, ClientError> {
        let coordinator = self.coordinator(group_id);
        let request = DescribeGroupsRequest {
            groups: vec![Str::from(group_id)],
            include_authorized_operations: false,
        };
        let outcome = |groups: &[DescribedGroup]| match groups.first() {
            Some(group) => (group.error_code, group.error_message.clone()),
            None => (ErrorCode::GroupIdNotFound.code(), None),
        };
        let response = coordinator
            .ask::<DescribeGroupsRequest, _>(
                i16::MAX,
                |_| &request,
                |response| outcome(&response.groups),
            )
            .await?;
        let Some(group) = response.groups.into_iter().next() else {
            return Err(ClientError::Senseless {
                subject: coordinator.subject(),
                reason: "it is empty",
            });
        };
        if group.group_state.as_str() == "Dead" {
            // What brokers before Kafka 4.0 say of a group that is not there.
            let code = ErrorCode::GroupIdNotFound;
            return Err(ClientError::refused(coordinator.subject(), code, None));
        }
        let broker = coordinator.broker().await?;
        let view = self.pool.metadata.view();
        Ok(GroupDescription {
            group_id: group_id.to_owned(),
            state: group.group_state.as_str().to_owned(),
            protocol_type: group.protocol_type.as_str().to_owned(),
            assignor: group.protocol_data.as_str().to_owned(),
            coordinator: broker,
            coordinator_broker: view.brokers.get(&broker).cloned(),
            members: group.members.iter().map(member).collect(),
        })
    }

    /// The offsets that a group has committed; none for a group that is not there.
    ///
    /// # Errors
    /// The coordinator's refusal.
    pub async fn committed_offsets(
        &self,
        group_id: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let coordinator = self.coordinator(group_id);
        committed::fetch(&coordinator, group_id, None).await
    }

    /// Commits offsets for a group that has no members.
    ///
    /// # Errors
    /// The coordinator's refusal: [`ErrorCode::UnknownMemberId`] if the group has members. What
    /// was asked of other partitions may have been done.
    pub async fn commit_offsets(
        &self,
        group_id: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<(), ClientError> {
        let coordinator = self.coordinator(group_id);
        committed::commit(
            &coordinator,
            &committed::Committer::nobody(group_id),
            offsets,
        )
        .await
    }

    /// Forgets the offsets that a group has committed for these partitions.
    ///
    /// # Errors
    /// The coordinator's refusal: [`ErrorCode::GroupSubscribedToTopic`] if a member may be reading
    /// the topic. What was asked of other partitions may have been done.
    pub async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<(), ClientError> {
        let mut topics: BTreeMap<TopicName, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            let partition_index = partition.0;
            let partition = OffsetDeleteRequestPartition { partition_index };
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| OffsetDeleteRequestTopic {
                name: Str::from(name.as_str()),
                partitions,
            });
        let request = OffsetDeleteRequest {
            group_id: Str::from(group_id),
            topics: topics.collect(),
        };
        let coordinator = self.coordinator(group_id);
        let response = coordinator
            .ask::<OffsetDeleteRequest, _>(
                i16::MAX,
                |_| &request,
                |response| (response.error_code, None),
            )
            .await?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let code = ErrorCode::from_code(partition.error_code);
                if !code.is_none() {
                    let (name, index) = (&topic.name, partition.partition_index);
                    let subject = format!("{}, {name}-{index}", coordinator.subject());
                    return Err(ClientError::refused(subject, code, None));
                }
            }
        }
        Ok(())
    }

    /// Forgets a group that has no members, with all of its offsets.
    ///
    /// # Errors
    /// The coordinator's refusal: [`ErrorCode::NonEmptyGroup`], [`ErrorCode::GroupIdNotFound`].
    pub async fn delete_group(&self, group_id: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest {
            groups_names: vec![Str::from(group_id)],
        };
        let coordinator = self.coordinator(group_id);
        let deleted = coordinator.ask::<DeleteGroupsRequest, _>(
            i16::MAX,
            |_| &request,
            |response| {
                let result = response.results.first();
                let missing = ErrorCode::GroupIdNotFound.code();
                (result.map_or(missing, |result| result.error_code), None)
            },
        );
        deleted.await.map(|_| ())
    }

    fn coordinator(&self, group_id: &str) -> Coordinator {
        Coordinator::new(Arc::clone(&self.pool), group_id)
    }
}

fn member(member: &DescribedGroupMember) -> GroupMember {
    let instance_id = member.group_instance_id.as_ref();
    GroupMember {
        member_id: member.member_id.as_str().to_owned(),
        instance_id: instance_id.map(|id| id.as_str().to_owned()),
        client_id: member.client_id.as_str().to_owned(),
        // Brokers print addresses as Java does.
        host: member.client_host.trim_start_matches('/').to_owned(),
        assignment: assigned(&member.member_assignment).unwrap_or_default(),
    }
}

/// The partitions of an assignment, in order; `None` if it is not of the consumer protocol.
fn assigned(bytes: &bytes::Bytes) -> Option<Vec<TopicPartition>> {
    let mut d = Decoder::new(bytes);
    // Each version begins with the fields of version 0.
    let _version = d.i16().ok()?;
    let assignment = ConsumerProtocolAssignment::decode(&mut d, 0).ok()?;
    let mut partitions = Vec::new();
    for topic in &assignment.assigned_partitions {
        let name = TopicName::new(topic.topic.as_str()).ok()?;
        partitions.extend(topic.partitions.iter().map(|index| TopicPartition {
            topic: name.clone(),
            partition: PartitionIndex(*index),
        }));
    }
    partitions.sort();
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use skein_protocol::Encoder;
    use skein_protocol::messages::consumer_protocol::AssignmentTopicPartition;

    use super::*;

    #[test]
    fn an_assignment_of_any_version_is_read_and_garbage_is_none() {
        let topic = |topic: &str, partitions: &[i32]| AssignmentTopicPartition {
            topic: Str::from(topic),
            partitions: partitions.to_vec(),
        };
        let assignment = ConsumerProtocolAssignment {
            assigned_partitions: vec![topic("b", &[1, 0]), topic("a", &[7])],
            user_data: None,
        };
        for version in 0..=4 {
            let mut e = Encoder::new();
            e.i16(version);
            assignment.encode(&mut e, version.min(3)).unwrap();
            let bytes = e.finish().into_bytes().unwrap();
            let names = assigned(&bytes).unwrap();
            let names: Vec<_> = names.iter().map(TopicPartition::to_string).collect();
            assert_eq!(names, ["a-7", "b-0", "b-1"], "version {version}");
            for end in 0..bytes.len() - 4 {
                assert_eq!(assigned(&bytes.slice(..end)), None, "cut at {end}");
            }
        }
        for garbage in [
            "",
            "\0",
            "nonsense of some length",
            "\0\0\u{7f}\u{7f}\u{7f}\u{7f}",
        ] {
            let bytes = Bytes::copy_from_slice(garbage.as_bytes());
            assert_eq!(assigned(&bytes), None, "{garbage:?}");
        }
    }
}
