//! The APIs that this broker serves on its client listeners.
//!
//! Input: nothing. Output: the table that `ApiVersions` tells and the router goes by.
//!
//! Invariant: what is advertised is served, in every version; a test calls each (`tests/raw.rs`),
//! and [`tests`] below holds the table against the codec. One exception is deliberate: Produce is
//! advertised from version 0 and refused below 3, because librdkafka otherwise sends uncompressed
//! batches without a word (KAFKA-18659).
//!
//! Source: the ranges of an Apache Kafka 4.1.1 broker.

use std::ops::RangeInclusive;

use skein_net::Admission;
use skein_protocol::ApiKey;

/// Lowest version of Produce that is told.
const PRODUCE_ADVERTISED_FROM: i16 = 0;

/// What is served: API and versions, in the order of the keys.
pub(crate) const SERVED: &[(ApiKey, RangeInclusive<i16>)] = &[
    (ApiKey::Produce, 3..=13),
    (ApiKey::Fetch, 4..=18),
    (ApiKey::ListOffsets, 1..=10),
    (ApiKey::Metadata, 0..=13),
    (ApiKey::OffsetCommit, 2..=9),
    (ApiKey::OffsetFetch, 1..=9),
    (ApiKey::FindCoordinator, 0..=6),
    (ApiKey::JoinGroup, 0..=9),
    (ApiKey::Heartbeat, 0..=4),
    (ApiKey::LeaveGroup, 0..=5),
    (ApiKey::SyncGroup, 0..=5),
    (ApiKey::DescribeGroups, 0..=6),
    (ApiKey::ListGroups, 0..=5),
    (ApiKey::ApiVersions, 0..=4),
    (ApiKey::CreateTopics, 2..=7),
    (ApiKey::DeleteTopics, 1..=6),
    (ApiKey::DeleteRecords, 0..=2),
    (ApiKey::InitProducerId, 0..=5),
    (ApiKey::OffsetForLeaderEpoch, 2..=4),
    (ApiKey::DescribeConfigs, 1..=4),
    (ApiKey::AlterConfigs, 0..=2),
    (ApiKey::DescribeLogDirs, 1..=4),
    (ApiKey::CreatePartitions, 0..=3),
    (ApiKey::DeleteGroups, 0..=2),
    (ApiKey::ElectLeaders, 0..=2),
    (ApiKey::IncrementalAlterConfigs, 0..=1),
    (ApiKey::OffsetDelete, 0..=0),
    (ApiKey::DescribeQuorum, 0..=2),
    (ApiKey::UpdateFeatures, 0..=2),
    (ApiKey::DescribeCluster, 0..=2),
    (ApiKey::DescribeProducers, 0..=0),
    (ApiKey::UnregisterBroker, 0..=0),
    (ApiKey::ListConfigResources, 0..=1),
    (ApiKey::DescribeTopicPartitions, 0..=0),
];

/// The served versions of `api`, if it is served.
pub(crate) fn served(api: ApiKey) -> Option<&'static RangeInclusive<i16>> {
    SERVED
        .iter()
        .find(|(served, _)| *served == api)
        .map(|(_, versions)| versions)
}

/// What `ApiVersions` tells: API, lowest and highest version.
pub(crate) fn advertised() -> impl Iterator<Item = (ApiKey, i16, i16)> {
    SERVED.iter().map(|(api, versions)| {
        let lowest = if *api == ApiKey::Produce {
            PRODUCE_ADVERTISED_FROM
        } else {
            *versions.start()
        };
        (*api, lowest, *versions.end())
    })
}

/// How a request is taken.
pub(crate) fn admit(api_key: i16, api_version: i16) -> Admission {
    let Some(api) = ApiKey::from_i16(api_key) else {
        return Admission::Refused {
            reason: "an unknown API",
        };
    };
    let Some(versions) = served(api) else {
        return Admission::Refused {
            reason: "an API that is not served",
        };
    };
    let header_version = api.request_header_version(api_version);
    match api {
        // Also in a version from the future: the answer tells which ones there are (KIP-511).
        ApiKey::ApiVersions => Admission::Barrier { header_version },
        _ if !versions.contains(&api_version) => Admission::Refused {
            reason: "a version that is not served",
        },
        ApiKey::Produce => Admission::Streamed { header_version },
        ApiKey::Fetch => Admission::Pipelined { header_version },
        _ => Admission::Barrier { header_version },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_version_is_one_that_the_codec_knows() {
        for (api, versions) in SERVED {
            let known = api.versions();
            assert!(
                known.contains(versions.start()) && known.contains(versions.end()),
                "{api}"
            );
        }
        assert!(SERVED.is_sorted_by_key(|(api, _)| api.code()));
    }

    #[test]
    fn produce_is_advertised_from_zero_and_refused_below_three() {
        assert_eq!(advertised().next(), Some((ApiKey::Produce, 0, 13)));
        assert!(matches!(admit(0, 2), Admission::Refused { .. }));
        assert!(matches!(
            admit(0, 3),
            Admission::Streamed { header_version: 1 }
        ));
    }

    #[test]
    fn api_versions_from_the_future_are_answered() {
        assert!(matches!(
            admit(18, 99),
            Admission::Barrier { header_version: 2 }
        ));
        assert!(matches!(admit(3, 99), Admission::Refused { .. }));
        assert!(matches!(admit(999, 0), Admission::Refused { .. }));
    }
}
