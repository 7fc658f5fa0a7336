//! Every API that is advertised, in every version, on a node that runs.
//!
//! What `ApiVersions` tells is what is asked: an API that comes needs a request here.

use std::collections::BTreeMap;

use skein_protocol::messages as m;
use skein_protocol::{ApiKey, EncodeError, Message, Records, Request, Str, frame};
use skein_record::Codec;
use skein_types::{ErrorCode, TopicId};

use super::harness::{Client, Node, TOPIC, batch};

/// The version whose answer does not change with what is served.
const API_VERSIONS: i16 = 4;

const GROUP: &str = "group";
const MEMBER: &str = "member";

/// One API: how it is asked, and what may be answered.
struct Api {
    key: ApiKey,
    codes: &'static [ErrorCode],
    encode: Box<dyn Fn(i16) -> Result<Vec<u8>, EncodeError>>,
    /// The error codes of the answer that is next on the connection.
    receive: fn(&mut Client, i16) -> Vec<i16>,
}

impl Api {
    /// Answered without an error.
    fn of<R: Request>(request: impl Fn(i16) -> R + 'static) -> Self {
        Self::refused::<R>(&[ErrorCode::None], request)
    }

    /// Answered with these codes and no others.
    fn refused<R: Request>(
        codes: &'static [ErrorCode],
        request: impl Fn(i16) -> R + 'static,
    ) -> Self {
        Self {
            key: R::KEY,
            codes,
            encode: Box::new(move |version| {
                let encoded = frame::encode_request(&request(version), version, 1, None)?;
                Ok(encoded.into_bytes().unwrap().to_vec())
            }),
            receive: |client, version| {
                let mut codes = Vec::new();
                // Bytes that are left over fail it.
                let answer = client.answer::<R>(version);
                answer.error_codes(&mut |code| codes.push(code));
                codes
            },
        }
    }
}

fn topic() -> Str {
    Str::from_static(TOPIC)
}

fn group() -> Str {
    Str::from_static(GROUP)
}

fn member() -> Str {
    Str::from_static(MEMBER)
}

/// Something to ask of each API about what is there; of topics also by their `id`.
fn apis(id: TopicId) -> Vec<Api> {
    let all = [
        data_apis(id),
        group_apis(),
        member_apis(),
        topic_apis(),
        config_apis(),
        node_apis(),
    ];
    all.into_iter().flatten().collect()
}

fn data_apis(id: TopicId) -> Vec<Api> {
    vec![
        Api::of(move |_| m::produce::ProduceRequest {
            acks: -1,
            timeout_ms: 5_000,
            topic_data: vec![m::produce::TopicProduceData {
                name: topic(),
                topic_id: id,
                partition_data: vec![m::produce::PartitionProduceData {
                    index: 0,
                    records: Some(Records::Bytes(batch(Codec::None, 1, None, 10))),
                }],
            }],
            ..Default::default()
        }),
        Api::of(move |_| m::fetch::FetchRequest {
            min_bytes: 1,
            session_epoch: -1,
            topics: vec![m::fetch::FetchTopic {
                topic: topic(),
                topic_id: id,
                partitions: vec![m::fetch::FetchPartition {
                    partition_max_bytes: 1_000,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }),
        Api::of(|_| m::list_offsets::ListOffsetsRequest {
            replica_id: -1,
            topics: vec![m::list_offsets::ListOffsetsTopic {
                name: topic(),
                partitions: vec![m::list_offsets::ListOffsetsPartition {
                    timestamp: -1,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }),
        Api::of(
            |_| m::offset_for_leader_epoch::OffsetForLeaderEpochRequest {
                topics: vec![m::offset_for_leader_epoch::OffsetForLeaderTopic {
                    topic: topic(),
                    partitions: vec![Default::default()],
                }],
                ..Default::default()
            },
        ),
        Api::of(|_| m::delete_records::DeleteRecordsRequest {
            topics: vec![m::delete_records::DeleteRecordsTopic {
                name: topic(),
                partitions: vec![Default::default()],
            }],
            timeout_ms: 5_000,
        }),
        Api::of(|_| m::init_producer_id::InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 1_000,
            ..Default::default()
        }),
        Api::of(|_| m::describe_producers::DescribeProducersRequest {
            topics: vec![m::describe_producers::TopicRequest {
                name: topic(),
                partition_indexes: vec![0],
            }],
        }),
    ]
}

fn group_apis() -> Vec<Api> {
    vec![
        // From outside, without a generation.
        Api::of(|_| m::offset_commit::OffsetCommitRequest {
            group_id: group(),
            topics: vec![m::offset_commit::OffsetCommitRequestTopic {
                name: topic(),
                partitions: vec![Default::default()],
                ..Default::default()
            }],
            ..Default::default()
        }),
        Api::of(|version| match version {
            8.. => m::offset_fetch::OffsetFetchRequest {
                groups: vec![m::offset_fetch::OffsetFetchRequestGroup {
                    group_id: group(),
                    topics: Some(vec![m::offset_fetch::OffsetFetchRequestTopics {
                        name: topic(),
                        partition_indexes: vec![0],
                        ..Default::default()
                    }]),
                    ..Default::default()
                }],
                ..Default::default()
            },
            _ => m::offset_fetch::OffsetFetchRequest {
                group_id: group(),
                topics: Some(vec![m::offset_fetch::OffsetFetchRequestTopic {
                    name: topic(),
                    partition_indexes: vec![0],
                }]),
                ..Default::default()
            },
        }),
        Api::of(|version| match version {
            4.. => m::find_coordinator::FindCoordinatorRequest {
                coordinator_keys: vec![group()],
                ..Default::default()
            },
            _ => m::find_coordinator::FindCoordinatorRequest {
                key: group(),
                ..Default::default()
            },
        }),
        Api::of(|_| m::describe_groups::DescribeGroupsRequest {
            groups: vec![group()],
            ..Default::default()
        }),
        Api::of(|_| m::list_groups::ListGroupsRequest::default()),
        Api::of(|_| m::offset_delete::OffsetDeleteRequest {
            group_id: group(),
            topics: vec![m::offset_delete::OffsetDeleteRequestTopic {
                name: topic(),
                partitions: vec![Default::default()],
            }],
        }),
        Api::refused(&[ErrorCode::GroupIdNotFound], |_| {
            m::delete_groups::DeleteGroupsRequest {
                groups_names: vec![Str::from_static("none")],
            }
        }),
    ]
}

/// Of a member that nobody knows: a group does not wait for it.
fn member_apis() -> Vec<Api> {
    const NO_MEMBER: &[ErrorCode] = &[ErrorCode::UnknownMemberId];
    vec![
        Api::refused(NO_MEMBER, |_| m::join_group::JoinGroupRequest {
            group_id: group(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: member(),
            protocol_type: Str::from_static("consumer"),
            protocols: vec![Default::default()],
            ..Default::default()
        }),
        Api::refused(NO_MEMBER, |_| m::heartbeat::HeartbeatRequest {
            group_id: group(),
            member_id: member(),
            ..Default::default()
        }),
        Api::refused(
            &[ErrorCode::None, ErrorCode::UnknownMemberId],
            |version| match version {
                3.. => m::leave_group::LeaveGroupRequest {
                    group_id: group(),
                    members: vec![m::leave_group::MemberIdentity {
                        member_id: member(),
                        ..Default::default()
                    }],
                    ..Default::default()
                },
                _ => m::leave_group::LeaveGroupRequest {
                    group_id: group(),
                    member_id: member(),
                    ..Default::default()
                },
            },
        ),
        Api::refused(NO_MEMBER, |version| m::sync_group::SyncGroupRequest {
            group_id: group(),
            member_id: member(),
            protocol_type: (version >= 5).then(|| Str::from_static("consumer")),
            protocol_name: (version >= 5).then(|| Str::from_static("range")),
            ..Default::default()
        }),
    ]
}

fn topic_apis() -> Vec<Api> {
    vec![
        Api::of(|_| m::metadata::MetadataRequest {
            topics: Some(vec![m::metadata::MetadataRequestTopic {
                name: Some(topic()),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        Api::of(|version| m::create_topics::CreateTopicsRequest {
            topics: vec![m::create_topics::CreatableTopic {
                name: Str::from(format!("made-{version}")),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 5_000,
            ..Default::default()
        }),
        Api::of(|version| {
            // What CreateTopics made in its versions from 2 on.
            let made = Str::from(format!("made-{}", version + 1));
            let mut request = m::delete_topics::DeleteTopicsRequest {
                timeout_ms: 5_000,
                ..Default::default()
            };
            if version >= 6 {
                request.topics = vec![m::delete_topics::DeleteTopicState {
                    name: Some(made),
                    ..Default::default()
                }];
            } else {
                request.topic_names = vec![made];
            }
            request
        }),
        Api::of(|version| m::create_partitions::CreatePartitionsRequest {
            topics: vec![m::create_partitions::CreatePartitionsTopic {
                name: topic(),
                count: 2 + i32::from(version),
                assignments: None,
            }],
            timeout_ms: 5_000,
            ..Default::default()
        }),
        Api::of(
            |_| m::describe_topic_partitions::DescribeTopicPartitionsRequest {
                topics: vec![m::describe_topic_partitions::TopicRequest { name: topic() }],
                ..Default::default()
            },
        ),
        Api::refused(&[ErrorCode::None, ErrorCode::ElectionNotNeeded], |_| {
            m::elect_leaders::ElectLeadersRequest {
                topic_partitions: Some(vec![m::elect_leaders::TopicPartitions {
                    topic: topic(),
                    partitions: vec![0],
                }]),
                ..Default::default()
            }
        }),
    ]
}

fn config_apis() -> Vec<Api> {
    const RESOURCE_TOPIC: i8 = 2;
    let (key, value) = (Str::from_static("segment.ms"), Str::from_static("1000000"));
    let (other_key, other_value) = (key.clone(), value.clone());
    vec![
        Api::of(|_| m::describe_configs::DescribeConfigsRequest {
            resources: vec![m::describe_configs::DescribeConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: topic(),
                configuration_keys: None,
            }],
            include_synonyms: true,
            ..Default::default()
        }),
        Api::of(move |_| m::alter_configs::AlterConfigsRequest {
            resources: vec![m::alter_configs::AlterConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: topic(),
                configs: vec![m::alter_configs::AlterableConfig {
                    name: key.clone(),
                    value: Some(value.clone()),
                }],
            }],
            ..Default::default()
        }),
        Api::of(
            move |_| m::incremental_alter_configs::IncrementalAlterConfigsRequest {
                resources: vec![m::incremental_alter_configs::AlterConfigsResource {
                    resource_type: RESOURCE_TOPIC,
                    resource_name: topic(),
                    configs: vec![m::incremental_alter_configs::AlterableConfig {
                        name: other_key.clone(),
                        config_operation: 0,
                        value: Some(other_value.clone()),
                    }],
                }],
                ..Default::default()
            },
        ),
        Api::of(
            |version| m::list_config_resources::ListConfigResourcesRequest {
                resource_types: match version {
                    1.. => vec![RESOURCE_TOPIC],
                    _ => Vec::new(),
                },
            },
        ),
    ]
}

fn node_apis() -> Vec<Api> {
    vec![
        Api::of(|_| m::api_versions::ApiVersionsRequest {
            client_software_name: Str::from_static("test"),
            client_software_version: Str::from_static("1.0"),
        }),
        Api::of(|_| m::describe_log_dirs::DescribeLogDirsRequest { topics: None }),
        Api::of(|_| m::describe_quorum::DescribeQuorumRequest {
            topics: vec![m::describe_quorum::RequestTopicData {
                topic_name: Str::from_static("__cluster_metadata"),
                partitions: vec![Default::default()],
            }],
        }),
        // Taken away where it is not.
        Api::of(|version| m::update_features::UpdateFeaturesRequest {
            feature_updates: vec![m::update_features::FeatureUpdateKey {
                feature: Str::from_static("group.version"),
                max_version_level: 0,
                allow_downgrade: version == 0,
                upgrade_type: match version {
                    0 => 1,
                    _ => 2,
                },
            }],
            ..Default::default()
        }),
        Api::of(|_| m::describe_cluster::DescribeClusterRequest::default()),
        Api::refused(&[ErrorCode::BrokerIdNotRegistered], |_| {
            m::unregister_broker::UnregisterBrokerRequest { broker_id: 77 }
        }),
    ]
}

/// What the node says that it serves: API, lowest and highest version.
fn advertised(client: &mut Client) -> BTreeMap<i16, (i16, i16)> {
    let request = m::api_versions::ApiVersionsRequest {
        client_software_name: Str::from_static("test"),
        client_software_version: Str::from_static("1.0"),
    };
    let response = client.call(&request, API_VERSIONS);
    let ranges = response.api_keys.into_iter();
    ranges
        .map(|api| (api.api_key, (api.min_version, api.max_version)))
        .collect()
}

/// The id of the topic, which has records, and whose group's coordinator is there.
fn prepare(node: &Node, client: &mut Client) -> TopicId {
    node.create(TOPIC, 1, &[]);
    let find = || m::find_coordinator::FindCoordinatorRequest {
        coordinator_keys: vec![group()],
        ..Default::default()
    };
    let heartbeat = m::heartbeat::HeartbeatRequest {
        group_id: group(),
        member_id: member(),
        ..Default::default()
    };
    let has_coordinator = (0..200).any(|_| {
        let found = client.call(&find(), 4).coordinators[0].error_code;
        let answered = client.call(&heartbeat, 4).error_code;
        let is_there = found == 0 && answered == ErrorCode::UnknownMemberId.code();
        if !is_there {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        is_there
    });
    assert!(has_coordinator, "no coordinator loads the group");
    let metadata = client.call(
        &m::metadata::MetadataRequest {
            topics: Some(vec![m::metadata::MetadataRequestTopic {
                name: Some(topic()),
                ..Default::default()
            }]),
            ..Default::default()
        },
        12,
    );
    metadata.topics[0].topic_id
}

#[test]
fn every_advertised_version_of_every_api_is_answered_in_that_version() {
    let node = Node::start();
    let mut client = node.connect();
    let id = prepare(&node, &mut client);
    let advertised = advertised(&mut client);
    let apis = apis(id);
    let mut asked: Vec<i16> = apis.iter().map(|api| api.key.code()).collect();
    asked.sort_unstable();
    assert!(
        asked.iter().eq(advertised.keys()),
        "{asked:?} {advertised:?}"
    );
    for api in &apis {
        let (mut lowest, highest) = advertised[&api.key.code()];
        if api.key == ApiKey::Produce {
            // Advertised lower than it is served, so that librdkafka compresses.
            assert_eq!(lowest, 0);
            lowest = 3;
        }
        for version in lowest..=highest {
            let what = format!("{} version {version}", api.key);
            let request = (api.encode)(version).unwrap_or_else(|error| panic!("{what}: {error}"));
            client.send(&request);
            for code in (api.receive)(&mut client, version) {
                let code = ErrorCode::from_code(code);
                assert!(api.codes.contains(&code), "{what}: {code:?}");
            }
        }
    }
}

#[test]
fn a_version_that_is_not_advertised_is_refused() {
    let node = Node::start();
    let mut client = node.connect();
    let apis = apis(prepare(&node, &mut client));
    for (key, (lowest, highest)) in advertised(&mut client) {
        let api = ApiKey::from_i16(key).unwrap();
        let encode = &apis.iter().find(|one| one.key == api).unwrap().encode;
        let too_low = (lowest > 0).then(|| lowest - 1);
        for version in [Some(highest + 1), too_low].into_iter().flatten() {
            let mut client = node.connect();
            // Right in all but its version, where the codec knows that.
            client.send(&encode(version).unwrap_or_else(|_| head(api, version)));
            if api == ApiKey::ApiVersions {
                // In the version that everybody reads, with the table to choose from.
                let answer = client.answer::<m::api_versions::ApiVersionsRequest>(0);
                assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
                assert!(!answer.api_keys.is_empty());
            } else {
                assert!(client.is_closed(), "{api} version {version}");
            }
        }
    }
}

/// What clients conclude from a feature is that they may use its APIs.
#[test]
fn a_feature_is_claimed_only_where_its_apis_are_served() {
    const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
    const ADD_PARTITIONS_TO_TXN: i16 = 24;
    let node = Node::start();
    let mut client = node.connect();
    let served = advertised(&mut client);
    for version in 3..=API_VERSIONS {
        let request = m::api_versions::ApiVersionsRequest {
            client_software_name: Str::from_static("test"),
            client_software_version: Str::from_static("1.0"),
        };
        let answer = client.call(&request, version);
        assert!(answer.finalized_features_epoch >= 0);
        let finalized = answer.finalized_features.iter().map(|one| &*one.name);
        let supported = answer.supported_features.iter().map(|one| &*one.name);
        let claimed: Vec<&str> = finalized.chain(supported).collect();
        for (feature, api) in [
            ("group.version", CONSUMER_GROUP_HEARTBEAT),
            ("transaction.version", ADD_PARTITIONS_TO_TXN),
        ] {
            let is_served = served.contains_key(&api);
            assert!(is_served || !claimed.contains(&feature), "{feature}");
        }
        // Its records are Kafka's, and so are its levels.
        assert!(!claimed.contains(&"metadata.version"), "{claimed:?}");
    }
}

/// A request that is all header, with an empty client id and room for what else it may have.
fn head(api: ApiKey, version: i16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(api.code().to_be_bytes());
    bytes.extend(version.to_be_bytes());
    bytes.extend(7_i32.to_be_bytes());
    bytes.extend([0; 16]);
    let length = i32::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], &bytes].concat()
}
