//! The client's cache of the cluster's state.
//!
//! Input: topics that parts of the client are interested in, and their word that the cache is
//! stale.
//! Output: [`ClusterView`]s.
//!
//! Invariants:
//! - one Metadata request at a time; whoever finds a view stale names its version, and gets a newer
//!   one without a further request if somebody else fetched it meanwhile;
//! - a view is never changed, only replaced.
//!
//! Source: the Kafka protocol guide, Metadata.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skein_config::Address;
use skein_env::Env;
use skein_protocol::Str;
use skein_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use skein_types::{ErrorCode, TopicName};
use tokio::time::Instant;

use crate::cluster::{ClusterView, Topic};
use crate::connection::Connection;
use crate::error::ClientError;
use crate::options::ClientOptions;
use crate::retry::{Absence, Retry};

/// The client's cache of the cluster's state.
pub(crate) struct Metadata {
    pub(crate) env: Env,
    pub(crate) options: ClientOptions,
    bootstrap: Vec<Address>,
    cache: Mutex<Cache>,
    /// Held while a request is under way; keeps the connection that was good last time.
    request: tokio::sync::Mutex<Option<Connection>>,
}

struct Cache {
    view: Arc<ClusterView>,
    refreshed: Instant,
    /// What is asked for. It has as many entries as topics that the program has named.
    topics: BTreeSet<TopicName>,
}

impl Metadata {
    pub(crate) fn new(env: Env, bootstrap: Vec<Address>, options: ClientOptions) -> Self {
        Self {
            env,
            options,
            bootstrap,
            cache: Mutex::new(Cache {
                view: Arc::default(),
                refreshed: Instant::now(),
                topics: BTreeSet::new(),
            }),
            request: tokio::sync::Mutex::new(None),
        }
    }

    /// What is known now.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.cache.lock().view)
    }

    /// Whether the view is older than `metadata.max.age.ms`.
    pub(crate) fn is_old(&self) -> bool {
        self.cache.lock().refreshed.elapsed() > self.options.metadata_max_age
    }

    /// A view that is newer than version `seen`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when no broker answers.
    pub(crate) async fn newer_than(
        &self,
        seen: u64,
        allow_auto_topic_creation: bool,
    ) -> Result<Arc<ClusterView>, ClientError> {
        let mut connection = self.request.lock().await;
        let view = self.view();
        if view.version > seen {
            return Ok(view);
        }
        let topics = self.cache.lock().topics.clone();
        let names = topics.into_iter().map(|name| MetadataRequestTopic {
            name: Some(Str::from(name.as_str())),
            ..Default::default()
        });
        let request = MetadataRequest {
            topics: Some(names.collect()),
            allow_auto_topic_creation,
            ..Default::default()
        };
        let response = self.ask(&mut connection, &request).await?;
        let mut cache = self.cache.lock();
        cache.view = Arc::new(cache.view.merge(&response));
        cache.refreshed = Instant::now();
        Ok(Arc::clone(&cache.view))
    }

    /// A topic, waiting for it if `auto_create` says that a broker may be making it.
    ///
    /// # Errors
    /// The broker's refusal, or [`ClientError::TimedOut`].
    pub(crate) async fn topic(
        &self,
        name: &TopicName,
        auto_create: bool,
        timeout: Duration,
    ) -> Result<(Arc<ClusterView>, Topic), ClientError> {
        let mut view = {
            let mut cache = self.cache.lock();
            cache.topics.insert(name.clone());
            Arc::clone(&cache.view)
        };
        let subject = format!("topic {name}");
        let mut retry = Retry::within(&self.env, &self.options, &*subject, timeout);
        let mut asked = false;
        let mut absence = Absence::default();
        loop {
            if let Some(topic) = view
                .topics
                .get(name)
                .filter(|topic| !topic.partitions.is_empty())
            {
                let topic = topic.clone();
                return Ok((view, topic));
            }
            let code = view.refused.get(name).copied();
            if let Some(code) = code.filter(|_| asked) {
                let error = ClientError::refused(&*subject, code, None);
                if code == ErrorCode::UnknownTopicOrPartition {
                    if !auto_create {
                        return Err(error);
                    }
                    absence.check(Some(error.clone()), self.options.absence_max)?;
                }
                retry.pause(error).await?;
            }
            asked = true;
            match self.newer_than(view.version, auto_create).await {
                Ok(newer) => view = newer,
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// Says that a topic is of no more interest.
    pub(crate) fn forget(&self, name: &TopicName) {
        self.cache.lock().topics.remove(name);
    }

    /// Every topic of the cluster; the cache stays as it is.
    pub(crate) async fn all_topics(&self) -> Result<ClusterView, ClientError> {
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let mut connection = self.request.lock().await;
        let response = self.ask(&mut connection, &request).await?;
        Ok(ClusterView::default().merge(&response))
    }

    /// Asks the broker that answered last, then the others that are known, then the bootstrap list.
    async fn ask(
        &self,
        connection: &mut Option<Connection>,
        request: &MetadataRequest,
    ) -> Result<MetadataResponse, ClientError> {
        let timeout = self.options.request_timeout;
        if let Some(known) = connection.take().filter(|known| !known.is_closed()) {
            match known.call(request, timeout).await {
                Ok(response) => {
                    *connection = Some(known);
                    return Ok(response);
                }
                Err(error) => tracing::debug!(%error, "asking another broker"),
            }
        }
        let mut last = None;
        let addresses = self.addresses();
        for address in &addresses {
            let opened = Connection::open(&self.env, address, &self.options).await;
            let answered = match opened {
                Ok(opened) => match opened.call(request, timeout).await {
                    Ok(response) => Ok((opened, response)),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            match answered {
                Ok((opened, response)) => {
                    *connection = Some(opened);
                    return Ok(response);
                }
                Err(error) => last = Some(error),
            }
        }
        let addresses: Vec<_> = addresses.iter().map(Address::to_string).collect();
        Err(ClientError::Unreachable {
            addresses: addresses.join(","),
            last: Box::new(last.unwrap_or(ClientError::Bootstrap(String::new()))),
        })
    }

    /// Known brokers from a random one on, then the bootstrap list.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let view = self.view();
        let mut addresses: Vec<_> = view
            .brokers
            .values()
            .map(|one| one.address.clone())
            .collect();
        if !addresses.is_empty() {
            let count = addresses.len() as u64;
            let first = usize::try_from(self.env.rng.next_u64() % count).unwrap_or(0);
            addresses.rotate_left(first);
        }
        for address in &self.bootstrap {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }
}
