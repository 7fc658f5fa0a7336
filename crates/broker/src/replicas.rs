//! The partitions on this node.
//!
//! Input: the metadata image. Output: a replica for each partition that the image places here,
//! opened when it is first asked for.
//!
//! ```text
//!   image ─► what has changed ─┬─► hosted topics ─► places ─► (first use) open the log ─► replica
//!                              └─► topics that are gone ─► resign ─► removals
//! ```
//!
//! Invariants:
//! - a lookup takes no lock: topics are in concurrent maps, an open replica in a `OnceLock`;
//! - images are followed in their order, one at a time: an older one, loaded before another task
//!   followed a newer one, changes nothing;
//! - following costs what has changed, not what there is;
//! - once the node stops there are no new places: all logs that may be open are those that the stop
//!   closes ([`Replicas::end`]).
//!
//! Source: KIP-516 (a topic of the same name is another topic), Kafka's lazy log loading does not
//! exist.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use papaya::Guard;
use parking_lot::Mutex;
use skein_config::{BrokerConfig, TopicConfig};
use skein_metadata::{ConfigResource, Image, ResourceType, Topic, TopicChange};
use skein_partition::FetchedPartition;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, PartitionIndex, TopicId, TopicName};

use crate::handlers::describe_configs::broker_config;
use crate::metrics::TopicCounts;
use crate::node::Shared;
use crate::replica::Replica;
use crate::replica::settings::FollowedConfig;

mod open;
mod place;
mod removals;

pub(crate) use place::{Closing, Place};
use removals::Removals;
pub(crate) use removals::{remove_deleted, remove_left_behind};

/// The partitions on this node.
pub(crate) struct Replicas {
    by_name: papaya::HashMap<TopicName, Arc<HostedTopic>>,
    by_id: papaya::HashMap<TopicId, Arc<HostedTopic>>,
    /// Held by who changes the maps.
    followed: Mutex<Followed>,
    removals: Removals,
    shared: Weak<Shared>,
}

/// What the maps show.
struct Followed {
    image: Arc<Image>,
    /// No later image is followed.
    has_ended: bool,
}

/// A topic of the image.
struct HostedTopic {
    id: TopicId,
    name: TopicName,
    places: Vec<Arc<Place>>,
    counts: Arc<TopicCounts>,
}

impl Replicas {
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self {
            by_name: papaya::HashMap::new(),
            by_id: papaya::HashMap::new(),
            followed: Mutex::new(Followed {
                image: Arc::new(Image::new()),
                has_ended: false,
            }),
            removals: Removals::default(),
            shared,
        }
    }

    /// The replica of a partition that this node leads.
    pub(crate) async fn by_name(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<Arc<Replica>, ErrorCode> {
        let find = || self.by_name.pin().get(topic).cloned();
        self.find(find, partition, ErrorCode::UnknownTopicOrPartition)
            .await
    }

    /// The replica of a partition that this node leads, by topic id.
    pub(crate) async fn by_id(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> Result<Arc<Replica>, ErrorCode> {
        let find = || self.by_id.pin().get(&topic).cloned();
        self.find(find, partition, ErrorCode::UnknownTopicId).await
    }

    async fn find(
        &self,
        find: impl Fn() -> Option<Arc<HostedTopic>>,
        partition: PartitionIndex,
        unknown_topic: ErrorCode,
    ) -> Result<Arc<Replica>, ErrorCode> {
        let place = find().and_then(|topic| topic.place(partition));
        let place = match place {
            Some(place) => place,
            None => {
                // The image may know what this has not followed yet.
                let shared = self.shared()?;
                let is_known = self.follow(&shared);
                let unknown = |code| match is_known {
                    true => code,
                    // Another node may lead it by now.
                    false => ErrorCode::NotLeaderOrFollower,
                };
                let topic = find().ok_or(unknown(unknown_topic))?;
                topic
                    .place(partition)
                    .ok_or(unknown(ErrorCode::UnknownTopicOrPartition))?
            }
        };
        self.leading(&place).await
    }

    /// The replica of a place that this node leads; its log is opened if it is not open.
    pub(crate) async fn leading(&self, place: &Arc<Place>) -> Result<Arc<Replica>, ErrorCode> {
        match place.open_replica() {
            Some(replica) => Ok(Arc::clone(replica)),
            None => place.open(&self.shared()?).await,
        }
    }

    /// The replica of a partition on this node, whoever leads it; its log is opened if it is not
    /// open.
    pub(crate) async fn whoever_leads(
        &self,
        partition: FetchedPartition,
    ) -> Result<Arc<Replica>, ErrorCode> {
        let (topic, index) = partition;
        let shared = self.shared()?;
        // The image may know what this has not followed yet.
        self.follow(&shared);
        let hosted = self.by_id.pin().get(&topic).cloned();
        let place = hosted.and_then(|hosted| hosted.place(index));
        let place = place.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        place.open_for_anyone(&shared).await
    }

    /// The replica of a partition, if its log is open.
    pub(crate) fn open_by_id(&self, partition: FetchedPartition) -> Option<Arc<Replica>> {
        let (topic, index) = partition;
        let hosted = self.by_id.pin().get(&topic).cloned()?;
        hosted.place(index)?.open_replica().cloned()
    }

    /// All replicas whose logs are open.
    pub(crate) fn open_replicas(&self) -> Vec<Arc<Replica>> {
        let places = self.places();
        places
            .iter()
            .filter_map(|place| place.open_replica().cloned())
            .collect()
    }

    /// All places, in the order of their names.
    pub(crate) fn places(&self) -> Vec<Arc<Place>> {
        let mut places: Vec<_> = self
            .by_id
            .pin()
            .values()
            .flat_map(|topic| topic.places.clone())
            .collect();
        places.sort_by(|a, b| a.name.cmp(&b.name));
        places
    }

    /// Follows no image any more; all places that there will ever be. A log that was opened after
    /// the others were closed would be in use behind the mark of a clean stop.
    pub(crate) fn end(&self) -> Vec<Arc<Place>> {
        self.followed.lock().has_ended = true;
        self.places()
    }

    /// Brings the maps to what the present image says; `false` if they are followed no more.
    pub(crate) fn follow(&self, shared: &Shared) -> bool {
        self.follow_to(shared, shared.image())
    }

    fn follow_to(&self, shared: &Shared, image: Arc<Image>) -> bool {
        let mut followed = self.followed.lock();
        if followed.has_ended {
            return false;
        }
        // Another may have followed a newer one since this one was loaded.
        if image.last_applied() <= followed.image.last_applied() {
            return true;
        }
        let mut removed = Vec::new();
        for change in removals_first(&image, &followed.image) {
            match change {
                TopicChange::Added(topic) | TopicChange::Changed { now: topic, .. } => {
                    self.host(shared, topic);
                }
                TopicChange::Removed(topic) => {
                    self.take_out(topic.id);
                    shared.metrics.topics.forget(topic.id);
                    removed.push(topic.name.clone());
                }
            }
        }
        self.follow_configs(shared, &image, &followed.image);
        followed.image = image;
        // Coordinators write, and who looks a partition up may be waiting for the lock.
        drop(followed);
        for topic in removed {
            shared.groups.on_topic_deleted(&topic);
        }
        true
    }

    /// Has topics, and the limits of connections, take the configuration that has changed.
    fn follow_configs(&self, shared: &Shared, image: &Image, former: &Image) {
        let mut topics = Vec::new();
        let mut is_of_broker = false;
        for resource in image.config_changes(former) {
            match resource.kind {
                ResourceType::Topic => {
                    topics.extend(self.by_name.pin().get(resource.name.as_str()).cloned());
                }
                // Every topic inherits from the brokers.
                ResourceType::Broker => {
                    is_of_broker = true;
                    topics.extend(self.by_id.pin().values().cloned());
                }
                ResourceType::ClientMetrics | ResourceType::Group => {}
            }
        }
        if topics.is_empty() && !is_of_broker {
            return;
        }
        let broker = broker_config(shared, image);
        if is_of_broker {
            shared.settings.send_replace(broker.clone());
        }
        for topic in topics {
            let config = followed_config_of(&broker, image, topic.id, &topic.name);
            for replica in topic.places.iter().filter_map(|place| place.open_replica()) {
                replica.configure(&config);
            }
        }
    }

    fn host(&self, shared: &Shared, topic: &Topic) {
        let before = self.by_id.pin().get(&topic.id).cloned();
        let known = before.as_deref().map_or(&[][..], |hosted| &hosted.places);
        for ((_, partition), place) in topic.partitions().zip(known) {
            place.follow(shared, partition);
        }
        let counts = match &before {
            Some(before) => Arc::clone(&before.counts),
            None => shared.metrics.topics.counts_of(topic.id, &topic.name),
        };
        let new = topic.partitions().skip(known.len());
        let place = |index, partition| Place::new(topic, index, partition, Arc::clone(&counts));
        let new: Vec<_> = new
            .map(|(index, partition)| Arc::new(place(index, Arc::clone(partition))))
            .collect();
        if before.is_some() && new.is_empty() {
            return;
        }
        for place in &new {
            place.begin_to_follow(shared);
        }
        let hosted = Arc::new(HostedTopic {
            id: topic.id,
            name: topic.name.clone(),
            places: known.iter().cloned().chain(new).collect(),
            counts,
        });
        self.by_id.pin().insert(topic.id, Arc::clone(&hosted));
        self.by_name.pin().insert(topic.name.clone(), hosted);
    }

    fn take_out(&self, topic: TopicId) {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::DeletedTopicServed) {
            return;
        }
        let by_id = self.by_id.guard();
        let Some(hosted) = self.by_id.remove(&topic, &by_id) else {
            return;
        };
        let by_name = self.by_name.guard();
        // A topic made again under the same name stays.
        let named = self.by_name.get(&hosted.name, &by_name);
        if named.is_some_and(|named| named.id == topic) {
            self.by_name.remove(&hosted.name, &by_name);
        }
        for place in &hosted.places {
            // Waiting fetches and produces hear of it now; the log goes when its writes have ended.
            if let Some(replica) = place.open_replica() {
                replica.resign();
            }
            self.removals.add(place);
        }
        // Else the maps keep the topic, and with it open files, until many more are removed.
        by_id.flush();
        by_name.flush();
    }

    /// The configuration of a place's replica in the image that was followed last.
    fn followed_config(&self, shared: &Shared, place: &Place) -> FollowedConfig {
        self.with_config(shared, place, |config| config)
    }

    /// Runs `work` with that configuration, while no other image is followed.
    fn with_config<T>(
        &self,
        shared: &Shared,
        place: &Place,
        work: impl FnOnce(FollowedConfig) -> T,
    ) -> T {
        let followed = self.followed.lock();
        let image = &followed.image;
        let broker = broker_config(shared, image);
        work(followed_config_of(
            &broker,
            image,
            place.topic_id,
            &place.name.topic,
        ))
    }

    fn shared(&self) -> Result<Arc<Shared>, ErrorCode> {
        // It is gone only when the node has stopped.
        self.shared.upgrade().ok_or(ErrorCode::NotLeaderOrFollower)
    }
}

impl HostedTopic {
    fn place(&self, partition: PartitionIndex) -> Option<Arc<Place>> {
        let index = usize::try_from(partition.get()).ok()?;
        self.places.get(index).cloned()
    }
}

/// What has changed since `former`. A topic may have been deleted since then and another one of its
/// name made: who finds the new one must find the removal of the old one too, and open no log
/// before it.
fn removals_first<'a>(image: &'a Image, former: &'a Image) -> Vec<TopicChange<'a>> {
    let mut changes: Vec<_> = image.topic_changes(former).collect();
    changes.sort_by_key(|change| !matches!(change, TopicChange::Removed(_)));
    changes
}

/// Settings go by names: those of a topic that was deleted have gone with it, and what has its name
/// now has others.
fn followed_config_of(
    broker: &BrokerConfig,
    image: &Image,
    topic_id: TopicId,
    topic: &TopicName,
) -> FollowedConfig {
    let resource = ConfigResource::topic(topic);
    let overrides: BTreeMap<String, String> = image
        .topic(topic_id)
        .and_then(|_| image.config(&resource))
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    FollowedConfig {
        topic: TopicConfig::new(broker, &overrides),
        transaction: Arc::clone(&broker.transaction),
        replication: Arc::clone(&broker.replica),
    }
}

#[cfg(test)]
mod tests;
