//! `DescribeCluster` (60): the cluster's id, its brokers, and where admin requests go.
//!
//! Input: which kind of endpoint the client believes to talk to, and whether it wants fenced
//! brokers. Output: what this node's image says.
//!
//! Invariants:
//! - brokers are told by the endpoint of the listener through which the client came;
//! - the controller is one of the brokers told, or none.
//!
//! Source: KIP-700, KIP-919 (endpoint types), KIP-1073 (fenced brokers).

use std::sync::Arc;

use skein_metadata::Image;
use skein_protocol::Str;
use skein_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use skein_types::{BrokerId, ErrorCode};

use super::metadata::{CLUSTER_OPERATIONS, controller_id};
use crate::node::Shared;
use crate::router::Context;

/// Endpoint types: where brokers are asked, and where Kafka's own controllers are.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// First version that can ask for an endpoint type.
const ENDPOINT_TYPE_VERSION: i16 = 1;

/// Answers from the image.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    match check(&request, context.head.api_version) {
        Ok(()) => describe(&shared.image(), &context.connection.listener, &request),
        Err((code, message)) => DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Str::from(message)),
            ..Default::default()
        },
    }
}

/// Whether brokers are what the client asks for.
fn check(request: &DescribeClusterRequest, version: i16) -> Result<(), (ErrorCode, String)> {
    let (code, message) = match request.endpoint_type {
        BROKERS => return Ok(()),
        CONTROLLERS => {
            let message = "the request wants controllers, but came to a broker";
            (ErrorCode::MismatchedEndpointType, message.to_owned())
        }
        other => (
            ErrorCode::UnsupportedEndpointType,
            format!("there is no endpoint type {other}"),
        ),
    };
    let known = version >= ENDPOINT_TYPE_VERSION;
    Err((
        if known {
            code
        } else {
            ErrorCode::InvalidRequest
        },
        message,
    ))
}

fn describe(
    image: &Image,
    listener: &str,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let brokers: Vec<_> = image
        .brokers()
        .filter(|broker| !broker.fenced || request.include_fenced_brokers)
        .filter_map(|broker| {
            let endpoint = broker.endpoints.iter().find(|e| e.listener == listener)?;
            Some(DescribeClusterBroker {
                broker_id: broker.id.get(),
                host: Str::from(&endpoint.host),
                port: i32::from(endpoint.port),
                rack: broker.rack.as_ref().map(Str::from),
                is_fenced: broker.fenced,
            })
        })
        .collect();
    let controller = controller_id(image).get();
    let is_told = brokers.iter().any(|broker| broker.broker_id == controller);
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: image
            .cluster_id()
            .map(|id| Str::from(id.to_string()))
            .unwrap_or_default(),
        controller_id: if is_told {
            controller
        } else {
            BrokerId::NONE.get()
        },
        brokers,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use skein_metadata::{Broker, Endpoint, Record};
    use skein_types::{BrokerEpoch, Uuid};

    use super::*;

    fn broker(id: i32, listeners: &[&str], fenced: bool) -> Record {
        let endpoint = |listener: &&str| Endpoint {
            listener: (*listener).to_owned(),
            host: format!("{}.example", listener.to_lowercase()),
            port: 9092,
            security_protocol: 0,
        };
        Record::Broker(Broker {
            id: BrokerId(id),
            epoch: BrokerEpoch(i64::from(id)),
            incarnation: Uuid([1; 16]),
            raft_id: u64::from(id.unsigned_abs()),
            endpoints: listeners.iter().map(endpoint).collect(),
            rack: Some("rack".to_owned()),
            fenced,
            stopping: false,
        })
    }

    fn image() -> Image {
        let mut image = Image::new();
        let cluster_id = Uuid([2; 16]).into();
        let brokers = [
            broker(1, &["IN"], false),
            broker(2, &["IN", "OUT"], false),
            broker(3, &["IN", "OUT"], true),
        ];
        image
            .apply_records(&[Record::Cluster { cluster_id }])
            .unwrap();
        image.apply_records(&brokers).unwrap();
        image
    }

    #[track_caller]
    fn check_brokers(listener: &str, fenced: bool, controller: i32, expected: &[(i32, bool)]) {
        let request = DescribeClusterRequest {
            include_fenced_brokers: fenced,
            ..Default::default()
        };
        let response = describe(&image(), listener, &request);
        let brokers: Vec<_> = response
            .brokers
            .iter()
            .map(|broker| (broker.broker_id, broker.is_fenced))
            .collect();
        assert_eq!(brokers, expected);
        assert_eq!(response.controller_id, controller);
        let host = format!("{}.example", listener.to_lowercase());
        assert!(response.brokers.iter().all(|broker| *broker.host == *host));
        assert_eq!(response.cluster_id.as_str(), Uuid([2; 16]).to_string());
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }

    #[test]
    fn brokers_are_told_by_the_listener_and_fenced_ones_on_request() {
        check_brokers("IN", false, 1, &[(1, false), (2, false)]);
        check_brokers("IN", true, 1, &[(1, false), (2, false), (3, true)]);
    }

    #[test]
    fn a_controller_that_the_listener_does_not_reach_is_none() {
        check_brokers("OUT", false, -1, &[(2, false)]);
        check_brokers("OUT", true, -1, &[(2, false), (3, true)]);
    }

    #[test]
    fn only_brokers_are_here() {
        let ask = |endpoint_type, version| {
            let request = DescribeClusterRequest {
                endpoint_type,
                ..Default::default()
            };
            check(&request, version).map_err(|(code, _)| code)
        };
        assert_eq!(ask(1, 1), Ok(()));
        assert_eq!(ask(2, 1), Err(ErrorCode::MismatchedEndpointType));
        assert_eq!(ask(0, 2), Err(ErrorCode::UnsupportedEndpointType));
        assert_eq!(ask(3, 0), Err(ErrorCode::InvalidRequest));
    }
}
