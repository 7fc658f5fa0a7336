//! The partitions on this node.
//!
//! Input: the metadata image. Output: a replica for each partition that the image places here, opened when
//! it is first asked for.
//!
//! ```text
//!   image ─► follow ─► hosted topics ─► place per partition ─► (first use) open the log ─► replica
//!                 └──► topics that are gone ─► resign ─► directory renamed ─► removed later
//! ```
//!
//! Invariants:
//! - a lookup takes no lock: topics are in concurrent maps, an open replica in a `OnceLock`;
//! - a partition's log is opened once; who comes meanwhile waits for that;
//! - a directory whose topic id is not the image's is never opened: it is moved out of the way.
//!
//! Source: KIP-516 (a topic of the same name is another topic), Kafka's lazy log loading does not exist.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use skein_config::TopicConfig;
use skein_env::Lane;
use skein_metadata::{ConfigResource, Image, Partition, Topic};
use skein_partition::{Event, Registration};
use skein_storage::StorageError;
use skein_types::{BrokerId, ErrorCode, PartitionIndex, TopicId, TopicName, TopicPartition};

use crate::node::Shared;
use crate::replica::Replica;
use crate::tasks;

mod open;

/// The partitions on this node.
pub(crate) struct Replicas {
    by_name: papaya::HashMap<TopicName, Arc<HostedTopic>>,
    by_id: papaya::HashMap<TopicId, Arc<HostedTopic>>,
    /// Held by who changes the maps.
    following: Mutex<()>,
    shared: Weak<Shared>,
}

/// A topic of the image.
pub(crate) struct HostedTopic {
    id: TopicId,
    name: TopicName,
    overrides: BTreeMap<String, String>,
    partitions: Vec<Arc<Place>>,
}

/// A partition's place, with its replica once that is open.
pub(crate) struct Place {
    pub(crate) name: TopicPartition,
    pub(crate) topic_id: TopicId,
    replica: OnceLock<Arc<Replica>>,
    /// Held while the log is opened; keeps why that failed.
    opening: tokio::sync::Mutex<Option<ErrorCode>>,
    /// What the image says.
    registration: Mutex<Arc<Partition>>,
}

/// What following an image left to do, off the caller's path.
#[derive(Default)]
pub(crate) struct Leftover {
    /// Partitions whose directories must go.
    pub(crate) deleted: Vec<(TopicPartition, TopicId)>,
}

impl Replicas {
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self {
            by_name: papaya::HashMap::new(),
            by_id: papaya::HashMap::new(),
            following: Mutex::new(()),
            shared,
        }
    }

    /// The replica of a partition that this node leads.
    pub(crate) async fn by_name(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<Arc<Replica>, ErrorCode> {
        let hosted = self.by_name.pin().get(topic).cloned();
        let place = match hosted.as_deref().and_then(|topic| topic.place(partition)) {
            Some(place) => Arc::clone(place),
            // The image may know what this has not followed yet.
            None => {
                self.follow_now()?;
                let hosted = self.by_name.pin().get(topic).cloned();
                let hosted = hosted.ok_or(ErrorCode::UnknownTopicOrPartition)?;
                hosted
                    .place(partition)
                    .cloned()
                    .ok_or(ErrorCode::UnknownTopicOrPartition)?
            }
        };
        self.leading(&place).await
    }

    /// The replica of a partition that this node leads, by topic id.
    pub(crate) async fn by_id(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> Result<Arc<Replica>, ErrorCode> {
        let hosted = self.by_id.pin().get(&topic).cloned();
        let place = match hosted.as_deref().and_then(|topic| topic.place(partition)) {
            Some(place) => Arc::clone(place),
            None => {
                self.follow_now()?;
                let hosted = self.by_id.pin().get(&topic).cloned();
                let hosted = hosted.ok_or(ErrorCode::UnknownTopicId)?;
                hosted
                    .place(partition)
                    .cloned()
                    .ok_or(ErrorCode::UnknownTopicOrPartition)?
            }
        };
        self.leading(&place).await
    }

    /// All replicas whose logs are open.
    pub(crate) fn open_replicas(&self) -> Vec<Arc<Replica>> {
        let places = self.places();
        places
            .iter()
            .filter_map(|place| place.replica.get().cloned())
            .collect()
    }

    /// All places, in the order of their names.
    pub(crate) fn places(&self) -> Vec<Arc<Place>> {
        let mut places: Vec<_> = self
            .by_id
            .pin()
            .values()
            .flat_map(|topic| topic.partitions.clone())
            .collect();
        places.sort_by(|a, b| a.name.cmp(&b.name));
        places
    }

    /// Opens the log of a place that this node leads.
    pub(crate) async fn leading(&self, place: &Arc<Place>) -> Result<Arc<Replica>, ErrorCode> {
        if let Some(replica) = place.replica.get() {
            return Ok(Arc::clone(replica));
        }
        let shared = self.shared()?;
        let registration = Arc::clone(&place.registration.lock());
        if registration.leader != shared.identity.broker_id {
            return Err(match registration.leader {
                BrokerId::NONE => ErrorCode::LeaderNotAvailable,
                _ => ErrorCode::NotLeaderOrFollower,
            });
        }
        let mut failed = place.opening.lock().await;
        if let Some(replica) = place.replica.get() {
            return Ok(Arc::clone(replica));
        }
        if let Some(code) = *failed {
            return Err(code);
        }
        match open::open(&shared, place, &registration).await {
            Ok(replica) => Ok(Arc::clone(place.replica.get_or_init(|| replica))),
            Err(error) => {
                tracing::error!(partition = %place.name, %error, "cannot open a log");
                shared.metrics.replicas_offline.inc();
                *failed = Some(ErrorCode::KafkaStorageError);
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    fn shared(&self) -> Result<Arc<Shared>, ErrorCode> {
        // It is gone only when the node has stopped.
        self.shared.upgrade().ok_or(ErrorCode::NotLeaderOrFollower)
    }

    fn follow_now(&self) -> Result<(), ErrorCode> {
        let shared = self.shared()?;
        // What is deleted is left to the task that follows the image, which sees it again.
        self.follow(&shared, &shared.image(), false);
        Ok(())
    }

    /// Brings the maps to what `image` says. Only with `deletes` are topics taken out.
    pub(crate) fn follow(&self, shared: &Shared, image: &Arc<Image>, deletes: bool) -> Leftover {
        let _following = self.following.lock();
        let mut leftover = Leftover::default();
        for topic in image.topics() {
            self.follow_topic(shared, image, topic);
        }
        if deletes {
            let gone: Vec<_> = self
                .by_id
                .pin()
                .values()
                .filter(|hosted| image.topic(hosted.id).is_none())
                .cloned()
                .collect();
            for hosted in gone {
                self.take_out(&hosted, &mut leftover);
            }
        }
        leftover
    }

    fn follow_topic(&self, shared: &Shared, image: &Image, topic: &Topic) {
        let before = self.by_id.pin().get(&topic.id).cloned();
        let overrides = overrides(image, &topic.name);
        if let Some(hosted) = &before {
            for ((_, partition), place) in topic.partitions().zip(&hosted.partitions) {
                place.follow(partition);
            }
            if hosted.partitions.len() == topic.partitions.len() && hosted.overrides == overrides {
                return;
            }
            if hosted.overrides != overrides {
                let config = Arc::new(TopicConfig::new(&shared.config, &overrides));
                for replica in hosted
                    .partitions
                    .iter()
                    .filter_map(|place| place.replica.get())
                {
                    replica.configure(&config);
                }
            }
        }
        let known = before
            .as_deref()
            .map(|hosted| hosted.partitions.as_slice())
            .unwrap_or_default();
        let partitions = topic
            .partitions()
            .map(
                |(index, partition)| match known.get(usize::try_from(index.get()).unwrap_or(0)) {
                    Some(place) => Arc::clone(place),
                    None => Arc::new(Place::new(topic, index, Arc::clone(partition))),
                },
            )
            .collect();
        let hosted = Arc::new(HostedTopic {
            id: topic.id,
            name: topic.name.clone(),
            overrides,
            partitions,
        });
        self.by_id.pin().insert(topic.id, Arc::clone(&hosted));
        self.by_name.pin().insert(topic.name.clone(), hosted);
    }

    fn take_out(&self, hosted: &Arc<HostedTopic>, leftover: &mut Leftover) {
        self.by_id.pin().remove(&hosted.id);
        let by_name = self.by_name.pin();
        // A topic made again under the same name stays.
        if by_name
            .get(&hosted.name)
            .is_some_and(|topic| topic.id == hosted.id)
        {
            by_name.remove(&hosted.name);
        }
        for place in &hosted.partitions {
            if let Some(replica) = place.replica.get() {
                replica.resign();
            }
            leftover.deleted.push((place.name.clone(), place.topic_id));
        }
    }
}

/// The overrides of a topic's configuration.
fn overrides(image: &Image, topic: &TopicName) -> BTreeMap<String, String> {
    let resource = ConfigResource::topic(topic);
    let configs = image.config(&resource);
    configs
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

impl HostedTopic {
    fn place(&self, partition: PartitionIndex) -> Option<&Arc<Place>> {
        self.partitions.get(usize::try_from(partition.get()).ok()?)
    }
}

impl Place {
    fn new(topic: &Topic, index: PartitionIndex, registration: Arc<Partition>) -> Self {
        Self {
            name: TopicPartition {
                topic: topic.name.clone(),
                partition: index,
            },
            topic_id: topic.id,
            replica: OnceLock::new(),
            opening: tokio::sync::Mutex::new(None),
            registration: Mutex::new(registration),
        }
    }

    fn follow(&self, partition: &Arc<Partition>) {
        let mut registration = self.registration.lock();
        if Arc::ptr_eq(&registration, partition) {
            return;
        }
        *registration = Arc::clone(partition);
        drop(registration);
        if let Some(replica) = self.replica.get() {
            replica.step(became_leader(partition));
        }
    }
}

/// The event by which a replica learns its registration.
fn became_leader(partition: &Partition) -> Event {
    Event::BecameLeader(Registration {
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
    })
}

/// Moves a partition's directory away and removes it after `file.delete.delay.ms`.
fn remove_directory(shared: &Arc<Shared>, partition: &TopicPartition) -> Result<(), StorageError> {
    let mut id = [0; 16];
    shared.env.rng.fill(&mut id);
    let deleted = shared.directory.delete_partition(partition, id)?;
    let delay = shared.config.topic_defaults.file_delete_delay_ms;
    let directory = Arc::clone(&shared.directory);
    let task = tasks::remove_later(Arc::clone(shared), delay, move || {
        if let Err(error) = directory.remove_deleted(&deleted) {
            tracing::warn!(%error, "cannot remove a deleted partition");
        }
    });
    shared
        .env
        .spawn
        .spawn(Lane::Data, "remove-partition", Box::pin(task));
    Ok(())
}

/// Removes the directories of partitions that are deleted, on the offload pool.
pub(crate) async fn remove_directories(
    shared: &Arc<Shared>,
    deleted: Vec<(TopicPartition, TopicId)>,
) {
    let work = {
        let shared = Arc::clone(shared);
        move || {
            for (partition, topic_id) in deleted {
                // A topic made again under the same name may have moved it away already.
                let is_its = shared.directory.topic_id(&partition);
                let removed = match is_its {
                    Ok(Some(id)) if id == topic_id => remove_directory(&shared, &partition),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error),
                };
                if let Err(error) = removed {
                    tracing::error!(%partition, %error, "cannot remove a partition");
                }
            }
        }
    };
    shared.env.offload("remove-partitions", work).await;
}
