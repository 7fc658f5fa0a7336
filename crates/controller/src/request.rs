//! What can be asked of the controller.
//!
//! Input and output: closed enums, so that a request can be sent to the node that leads; and for
//! the caller one type per request that knows its response ([`Call`]).
//!
//! Invariant: each request has exactly one response type.
//!
//! Source: the requests of KIP-631 and of Kafka's admin protocol.

use skein_metadata::Record;
use skein_types::{ClusterId, ErrorCode};

use crate::{
    AllocateProducerIds, AlterConfigs, AlterConfigsResult, AlterPartition, AlterPartitionResult,
    BalanceLeaders, BrokerRegistered, CreatePartitions, CreatePartitionsResult, CreateTopics,
    CreateTopicsResult, DeleteTopics, DeleteTopicsResult, ElectLeaders, ElectLeadersResult,
    FenceBrokers, Heartbeat, HeartbeatAnswer, LeadersBalanced, ProducerIdBlock, Refusal,
    RegisterBroker, ReplicasOffline, ReportLogEnds, UnregisterBroker, UpdateFeatures,
};

/// The first decision of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCluster {
    /// Its id.
    pub cluster_id: ClusterId,
    /// Levels of its features.
    pub features: Vec<(String, i16)>,
    /// What else there is from the first moment on: what another system's directory held.
    pub records: Vec<Record>,
}

/// A request type that knows its response.
pub trait Call: Into<Request> {
    /// What it is answered with.
    type Response;

    /// The response, out of the enum.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownServerError`] if it answers another request: a bug of who sent it.
    fn response(response: Response) -> Result<Self::Response, Refusal>;
}

macro_rules! requests {
    ($($(#[$doc:meta])* $request:ident -> $response:ty;)*) => {
        /// Anything that can be asked of the controller.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Request {
            $($(#[$doc])* $request($request),)*
        }

        /// What a granted request is answered with.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Response {
            $($(#[$doc])* $request($response),)*
        }

        $(
            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$request(request)
                }
            }

            impl Call for $request {
                type Response = $response;

                fn response(response: Response) -> Result<$response, Refusal> {
                    match response {
                        Response::$request(response) => Ok(response),
                        other => Err(Refusal::new(
                            ErrorCode::UnknownServerError,
                            format!("not an answer to {}: {other:?}", stringify!($request)),
                        )),
                    }
                }
            }
        )*
    };
}

requests! {
    /// Founds the cluster; answered with its id, also if it is founded already.
    FoundCluster -> ClusterId;
    /// Registers a process of a broker.
    RegisterBroker -> BrokerRegistered;
    /// Keeps a broker's session; fences, unfences or stops it.
    Heartbeat -> HeartbeatAnswer;
    /// Fences brokers whose sessions have ended.
    FenceBrokers -> ();
    /// Takes a broker that is gone for good out of the cluster.
    UnregisterBroker -> ();
    /// Takes replicas out whose storage has failed.
    ReplicasOffline -> ();
    /// Says where logs end of partitions that have lost all their members.
    ReportLogEnds -> ();
    /// Changes the ISR of partitions that a broker leads.
    AlterPartition -> Vec<AlterPartitionResult>;
    /// Creates topics.
    CreateTopics -> Vec<CreateTopicsResult>;
    /// Deletes topics.
    DeleteTopics -> Vec<DeleteTopicsResult>;
    /// Adds partitions to topics.
    CreatePartitions -> Vec<CreatePartitionsResult>;
    /// Changes configurations.
    AlterConfigs -> Vec<AlterConfigsResult>;
    /// Elects leaders where an operator asks for it.
    ElectLeaders -> Vec<ElectLeadersResult>;
    /// Gives leaderships back to the preferred replicas.
    BalanceLeaders -> LeadersBalanced;
    /// Finalizes levels of features.
    UpdateFeatures -> ();
    /// Gives a broker a block of producer ids.
    AllocateProducerIds -> ProducerIdBlock;
}

impl Request {
    /// Whether it makes more of something: on a full device it can wait. A deletion cannot, and
    /// neither can what keeps a node going.
    #[must_use]
    pub const fn makes_more(&self) -> bool {
        matches!(
            self,
            Self::CreateTopics(_) | Self::CreatePartitions(_) | Self::AllocateProducerIds(_)
        )
    }
}
