//! Raft's state machine: the image.
//!
//! Input: committed entries, snapshots of other nodes. Output: the image, published after each
//! batch of entries; then the answers to those who proposed them.
//!
//! Invariants:
//! - the image is published before a proposer hears of its entry, so that who was answered sees it;
//! - an entry that does not fit the image stops this node (`ApplyError`): the others' images have
//!   it too, or ours is not theirs.
//!
//! Source: openraft's `RaftStateMachine`.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use skein_env::{Env, Lane};
use skein_metadata::{Image, Outcome, decode_snapshot};
use tokio::sync::watch;

use crate::QuorumError;
use crate::audit::AuditLog;
use crate::snapshot_file::{SnapshotFile, StoredSnapshot};
use crate::types::{RaftLogId, RaftStoredMembership, TypeConfig, log_id_of, raft_log_id};

type RaftSnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
type RaftSnapshot = openraft::alias::SnapshotOf<TypeConfig, Vec<u8>>;

/// The image for everybody on this node.
#[derive(Clone)]
pub(crate) struct Published {
    image: Arc<ArcSwap<Image>>,
    changes: watch::Sender<Arc<Image>>,
}

impl Published {
    pub(crate) fn new(image: Image) -> Self {
        let image = Arc::new(image);
        let changes = watch::Sender::new(Arc::clone(&image));
        Self {
            image: Arc::new(ArcSwap::new(image)),
            changes,
        }
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
        self.changes.subscribe()
    }

    fn publish(&self, image: &Image) {
        let image = Arc::new(image.clone());
        self.image.store(Arc::clone(&image));
        self.changes.send_replace(image);
    }
}

/// See the module.
pub(crate) struct StateMachine {
    env: Env,
    image: Image,
    membership: RaftStoredMembership,
    published: Published,
    file: SnapshotFile,
    audit: Option<AuditLog>,
    /// Builders end with it.
    alive: Arc<()>,
}

impl StateMachine {
    /// The state of `snapshot`, or of nothing; the log goes on from there.
    pub(crate) fn new(
        env: Env,
        file: SnapshotFile,
        snapshot: Option<StoredSnapshot>,
        audit: Option<AuditLog>,
    ) -> Self {
        let (image, membership) = match snapshot {
            Some(snapshot) => (snapshot.image, snapshot.membership),
            None => (Image::new(), RaftStoredMembership::default()),
        };
        if let Some(audit) = &audit {
            audit.snapshot(&image);
        }
        let published = Published::new(image.clone());
        Self {
            env,
            image,
            membership,
            published,
            file,
            audit,
            alive: Arc::default(),
        }
    }

    pub(crate) fn published(&self) -> Published {
        self.published.clone()
    }

    /// Applies one entry, and tells the audit log of it.
    fn apply_audited(
        &mut self,
        entry: &crate::types::RaftEntryOf,
    ) -> Result<Outcome, skein_metadata::ApplyError> {
        let Some(audit) = self.audit.clone() else {
            return self.apply_entry(entry);
        };
        let former = self.image.clone();
        let outcome = self.apply_entry(entry)?;
        let records = match &entry.payload {
            EntryPayload::Normal(proposal) => proposal.entry.records.as_slice(),
            EntryPayload::Blank | EntryPayload::Membership(_) => &[],
        };
        audit.applied(log_id_of(entry), records, &former, &self.image);
        Ok(outcome)
    }

    /// Applies one entry.
    fn apply_entry(
        &mut self,
        entry: &crate::types::RaftEntryOf,
    ) -> Result<Outcome, skein_metadata::ApplyError> {
        let log_id = log_id_of(entry);
        match &entry.payload {
            EntryPayload::Normal(proposal) => return self.image.apply(log_id, &proposal.entry),
            EntryPayload::Blank => self.image.advance(log_id)?,
            EntryPayload::Membership(membership) => {
                self.image.advance(log_id)?;
                let log_id = Some(raft_log_id(log_id));
                self.membership = RaftStoredMembership::new(log_id, membership.clone());
            }
        }
        Ok(Outcome::Applied)
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
        Ok((
            self.image.last_applied().map(raft_log_id),
            self.membership.clone(),
        ))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let outcome = self.apply_audited(&entry).map_err(|error| {
                let entry = log_id_of(&entry);
                io::Error::other(format!("entry {entry} does not fit the metadata: {error}"))
            })?;
            #[cfg(feature = "inspect")]
            crate::inspect::applied(&self.image);
            if let Some(responder) = responder {
                answers.push((responder, outcome));
            }
        }
        self.published.publish(&self.image);
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            env: self.env.clone(),
            image: self.image.clone(),
            membership: self.membership.clone(),
            file: self.file.clone(),
            alive: Arc::downgrade(&self.alive),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        let file = self.file.clone();
        let membership = meta.last_membership.clone();
        let work = move || -> Result<StoredSnapshot, QuorumError> {
            let image = decode_snapshot(&bytes).map_err(QuorumError::stopped)?;
            let snapshot = StoredSnapshot {
                image,
                membership,
                bytes,
            };
            file.write(&snapshot)?;
            Ok(snapshot)
        };
        let snapshot = self
            .env
            .offload_on(Lane::Control, "install snapshot", work)
            .await
            .ok_or_else(killed)?;
        let snapshot = snapshot.map_err(QuorumError::into_io)?;
        self.image = snapshot.image;
        self.membership = snapshot.membership;
        if let Some(audit) = &self.audit {
            audit.snapshot(&self.image);
        }
        #[cfg(feature = "inspect")]
        crate::inspect::applied(&self.image);
        self.published.publish(&self.image);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        let file = self.file.clone();
        let snapshot = self
            .env
            .offload_on(Lane::Control, "read snapshot", move || file.read())
            .await;
        let snapshot = snapshot.ok_or_else(killed)?.map_err(QuorumError::into_io)?;
        Ok(snapshot.map(snapshot_for_raft))
    }
}

/// A snapshot that did not fit on the device is written again after this.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the image as it was when the builder was made. While there is no room for it, it waits:
/// an error would stop Raft, and all that a missing snapshot costs is a longer log. openraft builds
/// one at a time, beside everything else.
pub(crate) struct SnapshotBuilder {
    env: Env,
    image: Image,
    membership: RaftStoredMembership,
    file: SnapshotFile,
    /// Whether the state machine is there.
    alive: Weak<()>,
}

impl SnapshotBuilder {
    async fn write(&self) -> Result<StoredSnapshot, QuorumError> {
        let (image, membership) = (self.image.clone(), self.membership.clone());
        let file = self.file.clone();
        let work = move || -> Result<StoredSnapshot, QuorumError> {
            let snapshot = StoredSnapshot::new(image, membership)?;
            file.write(&snapshot)?;
            Ok(snapshot)
        };
        let written = self
            .env
            .offload_on(Lane::Control, "build snapshot", work)
            .await;
        written.unwrap_or_else(|| Err(QuorumError::stopped(killed())))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let mut is_told = false;
        loop {
            match self.write().await {
                Err(error) if error.is_disk_full() && self.alive.strong_count() > 0 => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%error, "the metadata snapshot waits for room");
                    }
                    tokio::time::sleep(ROOM_INTERVAL).await;
                }
                written => return written.map(snapshot_for_raft).map_err(QuorumError::into_io),
            }
        }
    }
}

fn snapshot_for_raft(snapshot: StoredSnapshot) -> RaftSnapshot {
    let meta = SnapshotMeta {
        last_log_id: snapshot.image.last_applied().map(raft_log_id),
        last_membership: snapshot.membership,
    };
    Snapshot {
        meta,
        snapshot: snapshot.bytes,
    }
}

fn killed() -> io::Error {
    io::Error::other("the node was ended")
}
