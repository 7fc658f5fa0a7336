//! The way in: one client per program and cluster.
//!
//! Input: an environment, addresses, options. Output: producers, consumers and an admin, which
//! share what is known of the cluster.

use std::sync::Arc;

use skein_env::Env;

use crate::admin::Admin;
use crate::cluster::ClusterView;
use crate::consumer::{Consumer, ConsumerOptions};
use crate::error::ClientError;
use crate::group::{GroupConsumer, GroupOptions};
use crate::metadata::Metadata;
use crate::options::{ClientOptions, parse_bootstrap};
use crate::pool::Pool;
use crate::producer::{Producer, ProducerOptions};
use crate::retry::Retry;

/// What is known of one cluster. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    metadata: Arc<Metadata>,
}

impl Client {
    /// Asks the brokers of a list such as `one:9092,two:9092` for the rest of the cluster, as long
    /// as [`ClientOptions::connect_timeout`] allows.
    ///
    /// # Errors
    /// [`ClientError::Bootstrap`]; [`ClientError::TimedOut`] when nobody answers.
    pub async fn connect(
        env: Env,
        bootstrap: &str,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let addresses = parse_bootstrap(bootstrap)?;
        let metadata = Metadata::new(env, addresses, options);
        let mut retry = Retry::within(
            &metadata.env,
            &metadata.options,
            "connecting",
            metadata.options.connect_timeout,
        );
        loop {
            match metadata.newer_than(0, false).await {
                Ok(_) => break,
                Err(error) => retry.pause(error).await?,
            }
        }
        drop(retry);
        Ok(Self {
            metadata: Arc::new(metadata),
        })
    }

    /// What is known of the cluster now.
    #[must_use]
    pub fn cluster(&self) -> Arc<ClusterView> {
        self.metadata.view()
    }

    /// Something that changes and describes the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.pool())
    }

    /// Something that writes records.
    ///
    /// # Errors
    /// [`ClientError::Options`]; with idempotence, that no producer id is to be had.
    pub async fn producer(&self, options: ProducerOptions) -> Result<Producer, ClientError> {
        Producer::start(self.pool(), options).await
    }

    /// Something that reads records.
    #[must_use]
    pub fn consumer(&self, options: ConsumerOptions) -> Consumer {
        Consumer::new(self.pool(), options)
    }

    /// Something that reads records as a member of a group.
    ///
    /// # Errors
    /// [`ClientError::Options`].
    pub fn group_consumer(
        &self,
        group: GroupOptions,
        options: ConsumerOptions,
    ) -> Result<GroupConsumer, ClientError> {
        if group.group_id.is_empty() {
            return Err(ClientError::Options("a group's name is not empty"));
        }
        if group.topics.is_empty() || group.assignors.is_empty() {
            return Err(ClientError::Options("a member has topics and assignors"));
        }
        if group.heartbeat_interval >= group.session_timeout {
            return Err(ClientError::Options(
                "heartbeat.interval.ms is below session.timeout.ms",
            ));
        }
        Ok(GroupConsumer::new(self.pool(), group, options))
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::new(Pool::new(Arc::clone(&self.metadata)))
    }
}
