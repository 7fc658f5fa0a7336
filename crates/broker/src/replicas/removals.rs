//! Removes the directories of partitions whose topics are deleted.
//!
//! Input: places that the image has dropped; at the start, directories that no topic of the image
//! owns. Output: logs closed, directories renamed at once and removed after `file.delete.delay.ms`;
//! those without an owner set aside.
//!
//! ```text
//!   deleted place ─► pending ─┬─► removal task ────────────────────┐
//!                             └─► opening a place of that name ────┴─► close ─► rename ─► remove
//! ```
//!
//! Invariants:
//! - a directory is renamed only after its log was taken from its replica and every write of it has
//!   ended: nothing of a deleted topic is ever written below the name of a later one. A flush may
//!   still run: it writes only to files that it holds open;
//! - a place is opened only after every deleted place of its name is gone, and not at all once it
//!   is deleted itself;
//! - nothing is removed whose deletion this node has not seen: a directory that merely has no owner
//!   may be all that is left after somebody has restored older metadata.
//!
//! Source: KIP-516; Kafka's `LogManager.asyncDelete`.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use skein_env::Lane;
use skein_storage::{DeletedDirectory, StorageError};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{TopicId, TopicPartition};
use tokio::sync::{Notify, oneshot};

use super::Place;
use crate::handlers::describe_configs::broker_config;
use crate::node::Shared;
use crate::tasks;

/// Places that wait for their end.
#[derive(Default)]
pub(super) struct Removals {
    /// In the order of their names, so that a simulation repeats.
    pending: Mutex<BTreeMap<TopicPartition, Vec<Arc<Place>>>>,
    wake: Notify,
}

impl Removals {
    pub(super) fn add(&self, place: &Arc<Place>) {
        let mut pending = self.pending.lock();
        pending
            .entry(place.name.clone())
            .or_default()
            .push(Arc::clone(place));
        drop(pending);
        self.wake.notify_one();
    }

    /// Waits for deleted places, and returns those of the first name.
    async fn next(&self) -> Vec<Arc<Place>> {
        loop {
            if let Some((_, deleted)) = self.pending.lock().first_key_value() {
                return deleted.clone();
            }
            self.wake.notified().await;
        }
    }

    fn of(&self, name: &TopicPartition) -> Vec<Arc<Place>> {
        let pending = self.pending.lock();
        pending.get(name).cloned().unwrap_or_default()
    }

    fn done(&self, place: &Arc<Place>) {
        let mut pending = self.pending.lock();
        if let Some(places) = pending.get_mut(&place.name) {
            places.retain(|other| !Arc::ptr_eq(other, place));
            if places.is_empty() {
                pending.remove(&place.name);
            }
        }
    }
}

/// Removes what is deleted, one partition after the other, for ever.
pub(crate) async fn remove_deleted(shared: Arc<Shared>) {
    loop {
        let deleted = shared.replicas.removals.next().await;
        // In a task of its own: a stop ends this one, and after half a removal the next topic of
        // that name would be opened while this one is still written.
        let (sender, removed) = oneshot::channel();
        let task_shared = Arc::clone(&shared);
        let task = async move {
            remove_each(&task_shared, deleted).await;
            // The node may be stopping.
            let _ = sender.send(());
        };
        let spawn = &shared.env.spawn;
        spawn.spawn(Lane::Data, "remove-deleted", Box::pin(task));
        if removed.await.is_err() {
            return; // the node has ended
        }
    }
}

/// Removes every deleted partition that has the name of `place`, which is to be opened; `false` if
/// it is deleted itself. Its end would wait for this opening, so the opening must not wait for it.
pub(super) async fn make_way_for(shared: &Arc<Shared>, place: &Arc<Place>) -> bool {
    let deleted = shared.replicas.removals.of(&place.name);
    if deleted.iter().any(|deleted| Arc::ptr_eq(deleted, place)) {
        return false;
    }
    remove_each(shared, deleted).await;
    true
}

/// Removes deleted partitions; when this returns they are gone.
async fn remove_each(shared: &Arc<Shared>, deleted: Vec<Arc<Place>>) {
    let removals = &shared.replicas.removals;
    for place in deleted {
        place
            .close_and(shared, remove_directory(shared, &place))
            .await;
        removals.done(&place);
    }
}

async fn remove_directory(shared: &Arc<Shared>, place: &Arc<Place>) {
    #[cfg(feature = "mutations")]
    if mutation::has(Mutation::OldDirectoryReused) {
        return;
    }
    let (task_shared, place) = (Arc::clone(shared), Arc::clone(place));
    let work = move || {
        let result = match task_shared.directory.topic_id(&place.name) {
            Ok(Some(id)) if id == place.topic_id => move_away(&task_shared, &place.name),
            // It was never made, or is another topic's.
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            // The next start, or the next topic of that name, finds it.
            tracing::error!(partition = %place.name, %error, "cannot remove a partition");
        }
    };
    shared.env.offload("remove-partition", work).await;
}

/// Moves a partition's directory away, and removes it later. For the offload pool.
fn move_away(shared: &Arc<Shared>, partition: &TopicPartition) -> Result<(), StorageError> {
    let deleted = shared
        .directory
        .delete_partition(partition, random(shared))?;
    remove_later(shared, deleted);
    Ok(())
}

/// Moves the directory of a partition away that belongs to the topic with id `owner`, which the
/// cluster has not, or not by this name. It stays. For the offload pool.
pub(super) fn set_aside(
    shared: &Arc<Shared>,
    partition: &TopicPartition,
    owner: TopicId,
) -> Result<(), StorageError> {
    let path = shared.directory.set_aside(partition, random(shared))?;
    let path = path.display();
    tracing::warn!(
        %partition, topic_id = %owner, %path,
        "set a log aside that no topic of the cluster owns: delete it, if its topic was deleted"
    );
    Ok(())
}

fn random(shared: &Shared) -> [u8; 16] {
    let mut id = [0; 16];
    shared.env.rng.fill(&mut id);
    id
}

fn remove_later(shared: &Arc<Shared>, deleted: DeletedDirectory) {
    let delay = broker_config(shared, &shared.image())
        .topic_defaults
        .file_delete_delay_ms;
    let directory = Arc::clone(&shared.directory);
    let task = tasks::remove_later(Arc::clone(shared), delay, move || {
        if let Err(error) = directory.remove_deleted(&deleted) {
            tracing::warn!(%error, "cannot remove a deleted partition");
        }
    });
    shared
        .env
        .spawn
        .spawn(Lane::Data, "remove-directory", Box::pin(task));
}

/// Removes what earlier runs left renamed, and sets aside what no topic owns: its topic was deleted
/// just before this node ended, or while it did not run, or the metadata are not those of these
/// logs. To be called before any log is opened.
pub(crate) async fn remove_left_behind(shared: &Arc<Shared>) {
    let task_shared = Arc::clone(shared);
    let work = move || {
        let image = task_shared.image();
        let (partitions, deleted) = task_shared.directory.list()?;
        for directory in deleted {
            remove_later(&task_shared, directory);
        }
        for partition in partitions {
            if image.topic_by_name(partition.topic.as_str()).is_some() {
                // Another topic's directory is set aside when the log is opened.
                continue;
            }
            // Without an id it is not one of ours.
            if let Some(owner) = task_shared.directory.topic_id(&partition)? {
                set_aside(&task_shared, &partition, owner)?;
            }
        }
        Ok::<(), StorageError>(())
    };
    if let Some(Err(error)) = shared.env.offload("remove-left-behind", work).await {
        tracing::error!(%error, "cannot remove what earlier runs left");
    }
}
