//! The coordinator of one group, and questions to it.
//!
//! Input: a group, requests. Output: the responses of the broker that coordinates the group.
//!
//! Invariant: a broker that says that it is not the coordinator, or that cannot be reached, is
//! asked no more before somebody has said anew who is.
//!
//! Source: KIP-699 (several keys in FindCoordinator); `CoordinatorStrategy` of Kafka 4.1.1's admin
//! client.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_protocol::messages::find_coordinator::FindCoordinatorRequest;
use skein_protocol::{Request, Str};
use skein_types::{BrokerId, ErrorCode};

use crate::error::ClientError;
use crate::pool::Pool;
use crate::retry::Retry;

/// The kind of coordinator that groups have.
const GROUP: i8 = 0;

/// The first version of FindCoordinator that asks for several.
const SEVERAL_VERSION: i16 = 4;

/// The coordinator of one group.
pub(crate) struct Coordinator {
    pool: Arc<Pool>,
    group_id: Str,
    known: Mutex<Option<BrokerId>>,
}

impl Coordinator {
    pub(crate) fn new(pool: Arc<Pool>, group_id: &str) -> Self {
        Self {
            pool,
            group_id: Str::from(group_id),
            known: Mutex::new(None),
        }
    }

    /// How errors name the group.
    pub(crate) fn subject(&self) -> String {
        format!("group {}", self.group_id)
    }

    /// Which broker it is. One attempt.
    ///
    /// # Errors
    /// The refusal of whoever was asked, or why nobody could be.
    pub(crate) async fn broker(&self) -> Result<BrokerId, ClientError> {
        if let Some(known) = *self.known.lock() {
            return Ok(known);
        }
        let key = &self.group_id;
        let request = |version| FindCoordinatorRequest {
            key_type: GROUP,
            key: if version < SEVERAL_VERSION {
                key.clone()
            } else {
                Str::default()
            },
            coordinator_keys: if version < SEVERAL_VERSION {
                Vec::new()
            } else {
                vec![key.clone()]
            },
        };
        let pool = &self.pool;
        let response = pool
            .call_any_as::<FindCoordinatorRequest, _>(request)
            .await?;
        let (code, message, node_id) = match response.coordinators.first() {
            Some(one) => (one.error_code, &one.error_message, one.node_id),
            None => (
                response.error_code,
                &response.error_message,
                response.node_id,
            ),
        };
        let code = ErrorCode::from_code(code);
        if !code.is_none() {
            let message = message.as_ref().map(Str::as_str);
            return Err(ClientError::refused(self.subject(), code, message));
        }
        let broker = BrokerId(node_id);
        let view = pool.metadata.view();
        if !view.brokers.contains_key(&broker) {
            // A broker that is new has an address that only newer metadata tell.
            pool.metadata.newer_than(view.version, false).await?;
        }
        *self.known.lock() = Some(broker);
        Ok(broker)
    }

    /// Asks it once; `request` makes the request in the version that both sides know, which is not
    /// above `version_max`.
    ///
    /// # Errors
    /// It cannot be found or reached.
    pub(crate) async fn call<R: Request, B: Borrow<R>>(
        &self,
        version_max: i16,
        request: impl Fn(i16) -> B,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let broker = self.broker().await?;
        let called = match self.pool.connection(broker).await {
            Ok(connection) => {
                let called = connection.call_as::<R, _>(version_max, request, timeout);
                called.await
            }
            Err(error) => Err(error),
        };
        if let Err(ClientError::Connection { .. } | ClientError::Refused { .. }) = &called {
            self.forget();
        }
        called
    }

    /// Asks it until the answer is final: `outcome` finds the error code in the answer, and what
    /// the broker says of it.
    ///
    /// # Errors
    /// The coordinator's refusal; [`ClientError::TimedOut`].
    pub(crate) async fn ask<R: Request, B: Borrow<R>>(
        &self,
        version_max: i16,
        request: impl Fn(i16) -> B,
        outcome: impl Fn(&R::Response) -> (i16, Option<Str>),
    ) -> Result<R::Response, ClientError> {
        let options = &self.pool.metadata.options;
        let mut retry = Retry::new(&self.pool.metadata.env, options, self.subject());
        loop {
            let called = self.call::<R, B>(version_max, &request, options.request_timeout);
            let error = match called.await {
                Ok(response) => {
                    let (code, message) = outcome(&response);
                    let code = ErrorCode::from_code(code);
                    if code.is_none() {
                        return Ok(response);
                    }
                    let message = message.as_ref().map(Str::as_str);
                    let error = ClientError::refused(self.subject(), code, message);
                    if code == ErrorCode::UnknownTopicOrPartition {
                        // Nobody is making the topic meanwhile.
                        return Err(error);
                    }
                    if is_elsewhere(code) {
                        self.forget();
                    }
                    error
                }
                Err(error) => error,
            };
            retry.pause(error).await?;
        }
    }

    /// Has the next question find the coordinator anew.
    pub(crate) fn forget(&self) {
        *self.known.lock() = None;
    }
}

/// Whether a code says that somebody else coordinates the group, or will.
pub(crate) const fn is_elsewhere(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable
    )
}
