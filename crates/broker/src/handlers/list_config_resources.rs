//! `ListConfigResources` (74): whose configuration can be asked for.
//!
//! Input: kinds of resources. Output: the resources of these kinds, by kind and name.
//!
//! Invariant: topics, brokers and their loggers are listed whether or not something is set of them;
//! groups and client metrics only if something is.
//!
//! Source: KIP-1142; in version 0 `ListClientMetricsResources` of KIP-714.

use std::sync::Arc;

use skein_metadata::{Image, ResourceType};
use skein_protocol::Str;
use skein_protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use skein_types::ErrorCode;

use super::broker_loggers::BROKER_LOGGER;
use crate::node::Shared;
use crate::router::Context;

/// The first version that can ask for kinds; before it there was one.
const RESOURCE_TYPES_VERSION: i16 = 1;

/// Answers from the image.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    let wanted = match (context.head.api_version, request.resource_types.as_slice()) {
        (..RESOURCE_TYPES_VERSION, _) => &[ResourceType::ClientMetrics.code()],
        (_, []) => ALL,
        (_, wanted) => wanted,
    };
    list(&shared.image(), wanted)
}

/// Every kind, in the order of its listing.
const ALL: &[i8] = &[
    ResourceType::Topic.code(),
    ResourceType::Broker.code(),
    BROKER_LOGGER,
    ResourceType::ClientMetrics.code(),
    ResourceType::Group.code(),
];

fn list(image: &Image, wanted: &[i8]) -> ListConfigResourcesResponse {
    if wanted.iter().any(|kind| !ALL.contains(kind)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..Default::default()
        };
    }
    let kinds = ALL.iter().filter(|kind| wanted.contains(kind));
    let config_resources = kinds.flat_map(|kind| {
        names(image, *kind)
            .into_iter()
            .map(|resource_name| ConfigResource {
                resource_name,
                resource_type: *kind,
            })
    });
    ListConfigResourcesResponse {
        config_resources: config_resources.collect(),
        ..Default::default()
    }
}

fn names(image: &Image, kind: i8) -> Vec<Str> {
    match ResourceType::from_code(kind) {
        Some(ResourceType::Topic) => {
            let topics = image.topics_by_name();
            topics.map(|topic| topic.name.as_str().into()).collect()
        }
        // What has no kind in the metadata are the loggers of the brokers.
        Some(ResourceType::Broker) | None => {
            let brokers = image.brokers();
            brokers.map(|broker| broker.id.to_string().into()).collect()
        }
        Some(kind @ (ResourceType::ClientMetrics | ResourceType::Group)) => {
            let resources = image.config_resources().filter(|one| one.kind == kind);
            resources.map(|one| one.name.as_str().into()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use skein_metadata::Record;
    use skein_types::{TopicName, Uuid};

    use super::*;

    #[test]
    fn kinds_are_listed_once_in_their_order_and_unknown_ones_refused() {
        let mut image = Image::new();
        let topic = |byte, name| Record::Topic {
            id: Uuid([byte; 16]),
            name: TopicName::new(name).unwrap(),
        };
        let config = |kind, name: &str| Record::Config {
            resource: skein_metadata::ConfigResource {
                kind,
                name: name.to_owned(),
            },
            key: "key".to_owned(),
            value: Some("value".to_owned()),
        };
        let records = [
            topic(1, "b"),
            topic(2, "a"),
            config(ResourceType::Group, "g"),
            config(ResourceType::ClientMetrics, "m"),
            config(ResourceType::Broker, ""),
        ];
        image.apply_records(&records).unwrap();
        let listed = |wanted: &[i8]| -> Vec<(i8, String)> {
            let response = list(&image, wanted);
            assert_eq!(response.error_code, 0);
            let resources = response.config_resources.into_iter();
            let named = resources.map(|one| (one.resource_type, one.resource_name.as_str().into()));
            named.collect()
        };
        let of = |kind: i8, name: &str| (kind, name.to_owned());
        assert_eq!(
            listed(ALL),
            [of(2, "a"), of(2, "b"), of(16, "m"), of(32, "g")]
        );
        assert_eq!(
            listed(&[32, 2, 2, 32]),
            [of(2, "a"), of(2, "b"), of(32, "g")]
        );
        for unknown in [0, 1, 3, 64, -1] {
            let response = list(&image, &[2, unknown]);
            assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
            assert!(response.config_resources.is_empty());
        }
    }
}
