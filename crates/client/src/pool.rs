//! The connections of one part of the client, one per broker.
//!
//! Input: broker ids and requests. Output: connections that are alive, and responses.
//!
//! Invariant: at most one connection per broker, and at most one attempt to make it at a time, so
//! that requests to a broker keep their order.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skein_protocol::Request;
use skein_types::{BrokerId, ErrorCode};

use crate::connection::Connection;
use crate::error::ClientError;
use crate::metadata::Metadata;

/// The connection to one broker, if there is one; locked while it is being made.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

/// The connections of one part of the client.
pub(crate) struct Pool {
    pub(crate) metadata: Arc<Metadata>,
    slots: Mutex<BTreeMap<BrokerId, Slot>>,
}

impl Pool {
    pub(crate) fn new(metadata: Arc<Metadata>) -> Self {
        Self {
            metadata,
            slots: Mutex::default(),
        }
    }

    /// The connection to a broker, if it stands.
    pub(crate) fn ready(&self, broker: BrokerId) -> Option<Arc<Connection>> {
        let slot = self.slots.lock().get(&broker).cloned()?;
        let connection = slot.try_lock().ok()?.clone()?;
        (!connection.is_closed()).then_some(connection)
    }

    /// The connection to a broker, made if need be.
    ///
    /// # Errors
    /// It cannot be made; [`ErrorCode::BrokerNotAvailable`] if the broker is not known.
    pub(crate) async fn connection(
        &self,
        broker: BrokerId,
    ) -> Result<Arc<Connection>, ClientError> {
        let slot = Arc::clone(self.slots.lock().entry(broker).or_default());
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|one| !one.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        *slot = None;
        let view = self.metadata.view();
        let Some(known) = view.brokers.get(&broker) else {
            let subject = format!("broker {broker}");
            return Err(ClientError::refused(
                subject,
                ErrorCode::LeaderNotAvailable,
                None,
            ));
        };
        let Metadata { env, options, .. } = &*self.metadata;
        let connection = Arc::new(Connection::open(env, &known.address, options).await?);
        *slot = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Asks any broker; the next one if one cannot be reached.
    ///
    /// # Errors
    /// What the last broker came to.
    pub(crate) async fn call_any<R: Request>(
        &self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.call_any_as::<R, _>(|_| request).await
    }

    /// The same with a request that depends on the version.
    ///
    /// # Errors
    /// What the last broker came to.
    pub(crate) async fn call_any_as<R: Request, B: Borrow<R>>(
        &self,
        request: impl Fn(i16) -> B,
    ) -> Result<R::Response, ClientError> {
        let timeout = self.metadata.options.request_timeout;
        let mut view = self.metadata.view();
        if view.brokers.is_empty() {
            view = self.metadata.newer_than(view.version, false).await?;
        }
        let brokers: Vec<_> = view.brokers.keys().copied().collect();
        let mut last = None;
        // Those with a connection first.
        let (ready, others): (Vec<_>, Vec<_>) = brokers
            .into_iter()
            .partition(|id| self.ready(*id).is_some());
        for broker in ready.into_iter().chain(others) {
            let answered = match self.connection(broker).await {
                Ok(connection) => {
                    let called = connection.call_as::<R, _>(i16::MAX, &request, timeout);
                    called.await
                }
                Err(error) => Err(error),
            };
            match answered {
                Err(error @ ClientError::Connection { .. }) => last = Some(error),
                answered => return answered,
            }
        }
        // The brokers that were known may all have moved.
        self.metadata.newer_than(view.version, false).await?;
        Err(last.unwrap_or_else(|| {
            ClientError::refused(R::KEY.name(), ErrorCode::LeaderNotAvailable, None)
        }))
    }
}
