//! One client connection as the broker sees it.
//!
//! Input: requests from `skein_net`. Output: the same, routed, counted and timed.
//!
//! Invariant: a session holds nothing that another connection needs.
//!
//! Source: none.

use std::ops::Deref;
use std::sync::Arc;

use skein_env::BoxFuture;
use skein_net::{Admission, ConnectionInfo, Request, Service, Session, Started};
use skein_protocol::ApiKey;
use tokio::time::Instant;

use crate::burst::Burst;
use crate::cold_reads::ColdReader;
use crate::metrics::Metrics;
use crate::node::Shared;
use crate::told_brokers::Told;
use crate::{apis, router};

/// Serves client connections.
pub(crate) struct ClientService {
    shared: Arc<Shared>,
}

/// Who is connected, and where it is counted what he is told.
pub(crate) struct ClientConnection {
    pub(crate) info: ConnectionInfo,
    pub(crate) metrics: Arc<Metrics>,
    /// Which deaths of brokers he has been told of.
    pub(crate) told: Told,
    pub(crate) cold_reader: ColdReader,
}

impl ClientConnection {
    pub(crate) fn new(shared: &Shared, info: ConnectionInfo) -> Self {
        Self {
            info,
            metrics: Arc::clone(&shared.metrics),
            told: shared.told_brokers.open(Instant::now()),
            cold_reader: ColdReader::default(),
        }
    }
}

impl Deref for ClientConnection {
    type Target = ConnectionInfo;

    fn deref(&self) -> &ConnectionInfo {
        &self.info
    }
}

/// One client connection.
struct ClientSession {
    shared: Arc<Shared>,
    connection: Arc<ClientConnection>,
    burst: Arc<Burst>,
}

impl ClientService {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Service for ClientService {
    fn open(&self, info: ConnectionInfo) -> Box<dyn Session> {
        Box::new(ClientSession {
            shared: Arc::clone(&self.shared),
            connection: Arc::new(ClientConnection::new(&self.shared, info)),
            burst: Arc::new(Burst::default()),
        })
    }
}

impl Session for ClientSession {
    fn admit(&self, api_key: i16, api_version: i16) -> Admission {
        apis::admit(api_key, api_version)
    }

    fn burst(&self) -> Arc<dyn skein_net::Burst> {
        Arc::clone(&self.burst) as Arc<dyn skein_net::Burst>
    }

    fn start<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Started> {
        Box::pin(async move {
            let Some(api) = ApiKey::from_i16(request.head.api_key) else {
                return Started::Close {
                    reason: "an unknown API".to_owned(),
                };
            };
            let received = request.received;
            let started =
                router::route(&self.shared, &self.connection, &self.burst, api, request).await;
            timed(&self.shared, api, received, started)
        })
    }
}

/// Counts the request, and its time when it is answered.
fn timed(shared: &Arc<Shared>, api: ApiKey, received: Instant, started: Started) -> Started {
    match started {
        Started::Later(response) => {
            let shared = Arc::clone(shared);
            Started::Later(Box::pin(async move {
                let response = response.await;
                shared.metrics.request(api, received.elapsed());
                response
            }))
        }
        answered => {
            shared.metrics.request(api, received.elapsed());
            answered
        }
    }
}
