//! Opens a partition's log and starts its replica.
//!
//! Input: a partition's place and what the image says of it. Output: a replica that leads.
//!
//! Invariants:
//! - a directory that was made for another topic id is moved away first: its records belong to a topic
//!   that was deleted;
//! - what recovery cut off is logged with its offsets; corruption below the recovery point is an
//!   error, never a cut.
//!
//! Source: KIP-516; the recovery rules of `skein_storage`.

use std::sync::Arc;

use skein_config::TopicConfig;
use skein_metadata::Partition;
use skein_partition::RecoveredLog;
use skein_storage::{Log, OpenedLog, StorageError};
use thiserror::Error;

use super::{Place, became_leader, overrides};
use crate::node::Shared;
use crate::replica::settings::{log_config, replica_settings};
use crate::replica::{Opened, Replica};

/// Why a replica cannot be opened.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    /// What the disk says, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

/// Opens the log on the offload pool and starts the replica.
pub(super) async fn open(
    shared: &Arc<Shared>,
    place: &Arc<Place>,
    registration: &Partition,
) -> Result<Arc<Replica>, OpenError> {
    let overrides = overrides(&shared.image(), &place.name.topic);
    let config = TopicConfig::new(&shared.config, &overrides);
    let work = {
        let (shared, place, config) = (Arc::clone(shared), Arc::clone(place), config.clone());
        move || open_log(&shared, &place, &config)
    };
    let opened = shared
        .env
        .offload("open-log", work)
        .await
        .ok_or(OpenError::Stopped)??;
    report(place, &opened);
    let OpenedLog {
        log,
        producers,
        leader_epochs,
        high_watermark,
        ..
    } = opened;
    let recovered = RecoveredLog {
        log_start_offset: log.log_start_offset(),
        high_watermark,
        flushed_end_offset: log.recovery_point(),
        log_end_offset: log.log_end_offset(),
        producers,
        leader_epochs,
    };
    let expiration_ms = shared.config.transaction.producer_id_expiration_ms;
    let settings = replica_settings(&config, expiration_ms);
    let machine = skein_partition::Replica::new(shared.identity.broker_id, settings, recovered);
    let opened = Opened {
        name: place.name.clone(),
        machine,
        log,
        config,
    };
    let replica = Replica::new(opened, Arc::clone(shared));
    replica.step(became_leader(registration));
    shared.metrics.replicas_open.inc();
    Ok(replica)
}

fn open_log(
    shared: &Arc<Shared>,
    place: &Place,
    config: &TopicConfig,
) -> Result<OpenedLog, StorageError> {
    let directory = &shared.directory;
    let stands_for = directory.topic_id(&place.name)?;
    if stands_for.is_some_and(|id| id != place.topic_id) {
        super::remove_directory(shared, &place.name)?;
    }
    let expiration_ms = shared.config.transaction.producer_id_expiration_ms;
    let config = log_config(config, expiration_ms);
    Log::open(
        directory,
        &place.name,
        Some(place.topic_id),
        config,
        shared.env.clock.now(),
    )
}

fn report(place: &Place, opened: &OpenedLog) {
    if let Some(cut) = &opened.recovery.cut {
        tracing::warn!(
            partition = %place.name,
            log_end_offset = cut.log_end_offset.get(),
            segment_base_offset = cut.segment_base_offset.get(),
            position = cut.position,
            bytes = cut.bytes,
            reason = cut.reason,
            "cut off the torn tail of a log"
        );
    }
}
