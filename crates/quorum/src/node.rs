//! Bringing a member of the quorum up.
//!
//! ```text
//!  lock ─► identity ─► log, vote, snapshot ─► Raft ─► (found) ─► leader ─► first entry
//!                                                                               └─► initialised
//! ```
//!
//! Input: `metadata.log.dir`, empty or as a former process left it. Output: a running Raft with the
//! image of all that was acknowledged.
//!
//! Invariants:
//! - each step can be repeated: a crash anywhere leaves a directory from which the next start goes
//!   on;
//! - one process per directory (the lock lives as long as the log's files);
//! - a node alone does not wait for an election timeout: it asks for its own vote at once.
//!
//! Source: own design; openraft's `initialize`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use skein_env::{Disk, Env, LockGuard};
use skein_metadata::LogId;
use skein_storage::create_directory;
use tokio::sync::oneshot;

use crate::identity::Identity;
use crate::log_files::{Recovered, VOTE_FILE, recover};
use crate::log_store::LogStore;
use crate::network::NoPeers;
use crate::snapshot_file::{SNAPSHOT_FILE, SnapshotFile, StoredSnapshot};
use crate::state_machine::{Published, StateMachine};
use crate::types::{PeerNode, RaftVote, TypeConfig};
use crate::{QuorumError, frozen, small_file};

pub(crate) type RaftHandle = Raft<TypeConfig, StateMachine>;

/// Name of the lock file.
const LOCK_FILE: &str = "lock";
/// Heartbeats of the leader.
const HEARTBEAT_INTERVAL_MS: u64 = 50;
/// Silence after which a follower stands for election, at least and at most.
const ELECTION_TIMEOUT_MS: (u64, u64) = (100, 150);
/// A leader without a quorum is silent for this long, so that the others may elect; at least twice
/// the longer election timeout.
const QUORUM_LOSS_PROBE_INTERVAL_MS: u64 = 300;
/// Entries after which a snapshot is made.
const SNAPSHOT_LOG_ENTRIES: u64 = 10_000;
/// Entries that stay behind a snapshot, for members that are a little late.
const KEPT_LOG_ENTRIES: u64 = 128;
/// Until a node alone leads; it takes a few flushes.
const LEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A member that is up.
pub(crate) struct Node {
    pub(crate) raft: RaftHandle,
    pub(crate) store: LogStore,
    pub(crate) published: Published,
    pub(crate) identity: Identity,
    /// Fires when the log's files are closed.
    pub(crate) closed: oneshot::Receiver<()>,
}

/// What the directory held.
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) recovered: Recovered,
    pub(crate) vote: Option<RaftVote>,
    pub(crate) snapshot: Option<StoredSnapshot>,
    pub(crate) snapshot_file: SnapshotFile,
}

/// Opens the directory; makes what is missing if nothing ever was there, with an identity of
/// `found`. Blocks.
pub(crate) fn open(
    env: &Env,
    directory: &Path,
    found: impl FnOnce() -> Identity,
) -> Result<Opened, QuorumError> {
    let disk = &env.disk;
    create_directory(&**disk, directory)?;
    let lock = lock(&**disk, directory)?;
    let identity = Identity::read(&**disk, directory)?;
    let mut recovered = recover(Arc::clone(disk), directory)?;
    let vote = read_vote(&**disk, directory)?;
    let snapshot_file = SnapshotFile::new(Arc::clone(disk), directory);
    let snapshot = snapshot_file.read()?;
    let begun = recovered.files.is_begun();
    let identity = match identity {
        Some(identity) => {
            let has_entries = begun && (snapshot.is_some() || !recovered.entries.is_empty());
            identity.check(directory, vote.is_some(), has_entries)?;
            identity
        }
        None if begun || vote.is_some() || snapshot.is_some() => {
            return Err(QuorumError::lost(
                &directory.join(crate::IDENTITY_FILE),
                "missing",
            ));
        }
        None => {
            let identity = found();
            identity.write(&**disk, directory)?;
            identity
        }
    };
    check_snapshot(directory, recovered.purged, snapshot.as_ref())?;
    recovered.files.hold(lock);
    Ok(Opened {
        identity,
        recovered,
        vote,
        snapshot,
        snapshot_file,
    })
}

/// Starts Raft on what the directory held, and leads.
pub(crate) async fn start(env: &Env, opened: Opened) -> Result<Node, QuorumError> {
    let Opened {
        identity,
        recovered,
        vote,
        snapshot,
        snapshot_file,
    } = opened;
    if let Some(cut) = &recovered.cut {
        tracing::warn!(
            path = %cut.path.display(), end = cut.end, bytes = cut.bytes, reason = cut.reason,
            "cut a torn end off the metadata log"
        );
    }
    let (store, closed) = LogStore::new(env, recovered, vote);
    let state_machine = StateMachine::new(env.clone(), snapshot_file, snapshot);
    let published = state_machine.published();
    let config = Arc::new(config()?);
    let raft = Raft::new(
        identity.raft_id,
        config,
        NoPeers,
        store.clone(),
        state_machine,
    )
    .await
    .map_err(QuorumError::stopped)?;
    if raft.is_initialized().await.map_err(QuorumError::stopped)? {
        raft.trigger()
            .elect(false)
            .await
            .map_err(QuorumError::stopped)?;
    } else {
        let founders = identity
            .founding
            .iter()
            .flat_map(|founding| founding.members.clone());
        let members: BTreeMap<u64, PeerNode> = founders
            .map(|(id, address)| (id, PeerNode { address }))
            .collect();
        // This also asks for the first vote.
        raft.initialize(members)
            .await
            .map_err(QuorumError::stopped)?;
    }
    raft.wait(Some(LEAD_TIMEOUT))
        .state(ServerState::Leader, "a node alone leads")
        .await
        .map_err(QuorumError::stopped)?;
    // It has nobody to send heartbeats to or to stand against, and its leadership does not end. The
    // clock would wake it a hundred times a second for nothing.
    raft.runtime_config().tick(false);
    Ok(Node {
        raft,
        store,
        published,
        identity,
        closed,
    })
}

fn config() -> Result<Config, QuorumError> {
    let config = Config {
        cluster_name: "skein".to_owned(),
        heartbeat_interval: HEARTBEAT_INTERVAL_MS,
        election_timeout_min: ELECTION_TIMEOUT_MS.0,
        election_timeout_max: ELECTION_TIMEOUT_MS.1,
        enable_pre_vote: Some(true),
        quorum_loss_probe_interval: Some(QUORUM_LOSS_PROBE_INTERVAL_MS),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_LOG_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_LOG_ENTRIES,
        ..Config::default()
    };
    config.validate().map_err(QuorumError::stopped)
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn LockGuard>, QuorumError> {
    let path = directory.join(LOCK_FILE);
    disk.lock(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => QuorumError::Locked { path },
        _ => QuorumError::io("lock", &path, source),
    })
}

fn read_vote(disk: &dyn Disk, directory: &Path) -> Result<Option<RaftVote>, QuorumError> {
    let path = directory.join(VOTE_FILE);
    let bytes = small_file::read(disk, &path, frozen::SMALL_FILE_MAX)?;
    let vote = bytes.map(|bytes| frozen::vote_of(&bytes)).transpose();
    vote.map_err(|error| QuorumError::lost(&path, format!("corrupt: {error}")))
}

/// The snapshot must reach to where the log begins.
fn check_snapshot(
    directory: &Path,
    purged: Option<LogId>,
    snapshot: Option<&StoredSnapshot>,
) -> Result<(), QuorumError> {
    let reached = snapshot.and_then(|snapshot| snapshot.image.last_applied());
    match purged {
        Some(purged) if reached.is_none_or(|reached| reached < purged) => {
            let reason = match reached {
                None => "missing".to_owned(),
                Some(reached) => {
                    format!("too old: it ends at {reached}, the log begins at {purged}")
                }
            };
            Err(QuorumError::lost(&directory.join(SNAPSHOT_FILE), reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RaftStoredMembership;
    use skein_metadata::Image;

    fn snapshot(index: u64) -> StoredSnapshot {
        let mut image = Image::new();
        image.advance(LogId { term: 1, index }).unwrap();
        StoredSnapshot::new(image, RaftStoredMembership::default()).unwrap()
    }

    #[test]
    fn a_log_that_was_purged_needs_a_snapshot_that_reaches_so_far() {
        let check = |purged: Option<u64>, reached: Option<u64>| {
            let purged = purged.map(|index| LogId { term: 1, index });
            check_snapshot(Path::new("/d"), purged, reached.map(snapshot).as_ref())
        };
        check(None, None).unwrap();
        check(None, Some(5)).unwrap();
        check(Some(5), Some(5)).unwrap();
        check(Some(5), Some(6)).unwrap();
        for reached in [None, Some(4)] {
            let error = check(Some(5), reached).unwrap_err().to_string();
            assert!(error.starts_with("/d/snapshot is "), "{error}");
        }
    }
}
