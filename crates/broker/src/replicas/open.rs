//! Opens a partition's log and starts its replica.
//!
//! Input: a partition's place and what the image says of it. Output: a replica that leads.
//!
//! Invariants:
//! - a deleted partition of the same name is gone first, and a directory that was made for another
//!   topic id is moved away: its records belong to a topic that was deleted;
//! - what recovery cut off is logged with its offsets; corruption below the recovery point is an
//!   error, never a cut.
//!
//! Source: KIP-516; the recovery rules of `skein_storage`.

use std::sync::Arc;

use skein_config::TopicConfig;
use skein_partition::RecoveredLog;
use skein_storage::{DirectoryState, Log, LogConfig, OpenedLog, Severity, StorageError};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
#[cfg(feature = "mutations")]
use skein_types::transitions;
use thiserror::Error;

use super::{Place, removals};
use crate::node::Shared;
use crate::replica::settings::{FollowedConfig, replica_settings};
use crate::replica::{Opened, Replica};

/// Why a replica cannot be opened.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    /// What the disk says, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The partition is deleted.
    #[error("the partition is deleted")]
    Deleted,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

impl OpenError {
    /// Whether the same may succeed later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Storage(error) => error.severity() == Severity::Retriable,
            Self::Deleted | Self::Stopped => true,
        }
    }

    /// What an operator can do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::Storage(error) => error.remedy(),
            Self::Deleted | Self::Stopped => "nothing: this was to be",
        }
    }
}

/// Opens the log on the offload pool and starts the replica, which has no role yet; returns it with
/// the configuration that it was started with.
pub(super) async fn open(
    shared: &Arc<Shared>,
    place: &Arc<Place>,
) -> Result<(Arc<Replica>, FollowedConfig), OpenError> {
    if !removals::make_way_for(shared, place).await {
        return Err(OpenError::Deleted);
    }
    let config = shared.replicas.followed_config(shared, place);
    let work = {
        let (shared, place) = (Arc::clone(shared), Arc::clone(place));
        let config = config.topic.clone();
        move || open_log(&shared, &place, &config)
    };
    let opened = shared
        .env
        .offload("open-log", work)
        .await
        .ok_or(OpenError::Stopped)??;
    report(shared, place, &opened);
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
    let settings = replica_settings(&config);
    let machine = skein_partition::Replica::new(shared.identity.broker_id, settings, recovered);
    let opened = Opened {
        name: place.name.clone(),
        topic_id: place.topic_id,
        machine,
        log,
        config: config.clone(),
        counts: Arc::clone(&place.counts),
    };
    Ok((Replica::new(opened, Arc::clone(&shared.basis)), config))
}

fn open_log(
    shared: &Arc<Shared>,
    place: &Place,
    config: &TopicConfig,
) -> Result<OpenedLog, StorageError> {
    let directory = &shared.directory;
    if directory.state() == DirectoryState::Offline {
        let path = directory.path().to_path_buf();
        return Err(StorageError::Broken { path });
    }
    let stands_for = directory.topic_id(&place.name)?;
    #[cfg(feature = "mutations")]
    let stands_for = stands_for.filter(|_| !mutation::has(Mutation::OldDirectoryReused));
    if let Some(stranger) = stands_for.filter(|id| *id != place.topic_id) {
        removals::set_aside(shared, &place.name, stranger)?;
    }
    Log::open(
        directory,
        &place.name,
        Some(place.topic_id),
        LogConfig::from(config),
        shared.env.clock.now(),
    )
}

fn report(shared: &Shared, place: &Place, opened: &OpenedLog) {
    let (metrics, recovery) = (&shared.metrics, &opened.recovery);
    #[cfg(feature = "mutations")]
    transitions::made(|| {
        let end = match (&recovery.cut, recovery.was_clean, recovery.scanned_segments) {
            (Some(cut), ..) => cut.reason,
            (None, true, _) => "clean",
            (None, false, 0) => "new",
            (None, false, _) => "scanned",
        };
        let lost = recovery
            .lost_up_to
            .map_or("", |_| ", below the high watermark");
        format!("log opened -> {end}{lost}")
    });
    metrics.logs_opened.inc();
    let scanned_segments = recovery.scanned_segments as u64;
    metrics.recovery_scanned_segments.inc_by(scanned_segments);
    let scanned_bytes = recovery.scanned_bytes + recovery.walked_bytes;
    metrics.recovery_scanned_bytes.inc_by(scanned_bytes);
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
    if let Some(high_watermark) = recovery.lost_up_to {
        tracing::error!(
            partition = %place.name,
            log_end_offset = opened.log.log_end_offset().get(),
            high_watermark = high_watermark.get(),
            "committed records are gone: the log ends before its high watermark"
        );
    }
}
