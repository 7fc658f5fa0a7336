//! Bringing a member of the quorum up.
//!
//! ```text
//!  lock ─► identity ─► log, vote, snapshot ─► (formation) ─► Raft ─► (initialise)
//! ```
//!
//! Input: `metadata.log.dir`, empty or as a former process left it. Output: a running Raft; its
//! image has what is known to be committed, so a node alone has to lead first.
//!
//! Invariants:
//! - each step can be repeated: a crash anywhere leaves a directory from which the next start goes
//!   on;
//! - one process per directory (the lock lives as long as the log's files);
//! - a founder initialises with the members of its record and nothing else, and has log and vote on
//!   the disk when [`start`] returns;
//! - a node alone does not wait for an election timeout: it asks for its own vote at once.
//!
//! Source: own design; openraft's `initialize`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, Raft, SnapshotPolicy};
use skein_env::{Disk, Env, LockGuard};
use skein_metadata::LogId;
use skein_storage::create_directory;
use tokio::sync::oneshot;

use crate::audit::AuditLog;
use crate::identity::{Founding, Identity};
use crate::log_files::{Recovered, VOTE_FILE, log_file_names, recover};
use crate::log_store::LogStore;
use crate::network::Peers;
use crate::snapshot_file::{SNAPSHOT_FILE, SnapshotFile, StoredSnapshot};
use crate::state_machine::{Published, StateMachine};
use crate::transport::PeerTransport;
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
/// Until log and vote of a founder are flushed.
const INITIALISE_TIMEOUT: Duration = Duration::from_secs(30);
/// Voters that a cluster has at most.
pub(crate) const VOTERS_MAX: usize = 5;

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

/// What is to be done where a node that took part in a cluster has lost its votes or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenLost {
    /// A person has to look: there is nobody who would have copies.
    Refuse,
    /// It joins its cluster again, as somebody else.
    Retire,
}

/// Opens the directory; makes what is missing if nothing ever was there, with an identity of
/// `new`. Blocks.
pub(crate) fn open(
    env: &Env,
    directory: &Path,
    when_lost: WhenLost,
    new: impl FnOnce() -> Identity,
) -> Result<Opened, QuorumError> {
    let disk = &env.disk;
    create_directory(&**disk, directory)?;
    let lock = lock(&**disk, directory)?;
    let identity = Identity::read(&**disk, directory)?;
    let found = Found::read(disk, directory).and_then(|found| {
        #[cfg(feature = "mutations")]
        if skein_types::mutation::has(skein_types::mutation::Mutation::WipedVoterVotes) {
            return Ok(found);
        }
        found.check(directory, identity.as_ref())?;
        Ok(found)
    });
    let (mut found, identity) = match (found, identity) {
        (Ok(found), Some(identity)) => (found, identity),
        (Ok(found), None) => {
            let identity = new();
            identity.write(&**disk, directory)?;
            (found, identity)
        }
        (Err(error @ QuorumError::Lost { .. }), Some(identity))
            if when_lost == WhenLost::Retire && identity.founding.is_some() =>
        {
            tracing::error!(%error, "this node joins its cluster again as a new member");
            let identity = retire(&**disk, directory, &identity.retired(&*env.rng))?;
            (Found::read(disk, directory)?, identity)
        }
        (Err(error), _) => return Err(error),
    };
    if identity.founding.is_none() && found.is_something() {
        // A founding record was dropped, and what it had begun is still there.
        retire(&**disk, directory, &identity)?;
        found = Found::read(disk, directory)?;
    }
    found.recovered.files.hold(lock);
    Ok(Opened {
        identity,
        recovered: found.recovered,
        vote: found.vote,
        snapshot: found.snapshot,
        snapshot_file: found.snapshot_file,
    })
}

/// What lies beside the identity.
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    vote: Option<RaftVote>,
    pub(crate) snapshot: Option<StoredSnapshot>,
    snapshot_file: SnapshotFile,
}

impl Found {
    pub(crate) fn read(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Self, QuorumError> {
        let recovered = recover(Arc::clone(disk), directory)?;
        let vote = read_vote(&**disk, directory)?;
        let snapshot_file = SnapshotFile::new(Arc::clone(disk), directory);
        let snapshot = snapshot_file.read()?;
        Ok(Self {
            recovered,
            vote,
            snapshot,
            snapshot_file,
        })
    }

    /// Whether Raft has left anything.
    fn is_something(&self) -> bool {
        self.recovered.files.is_begun() || self.vote.is_some() || self.snapshot.is_some()
    }

    /// Checks that all is there that the identity, or what else is there, speaks of.
    fn check(&self, directory: &Path, identity: Option<&Identity>) -> Result<(), QuorumError> {
        let begun = self.recovered.files.is_begun();
        match identity {
            Some(identity) => {
                let has_state = self.snapshot.is_some() || !self.recovered.entries.is_empty();
                identity.check(directory, self.vote.is_some(), begun && has_state)?;
            }
            None if self.is_something() => {
                let path = directory.join(crate::IDENTITY_FILE);
                return Err(QuorumError::lost(&path, "missing"));
            }
            None => {}
        }
        check_snapshot(directory, self.recovered.purged, self.snapshot.as_ref())
    }
}

/// Takes away what is left of a former member, and writes who the node is now. The vote goes first:
/// without it a crash in between ends here again.
pub(crate) fn retire(
    disk: &dyn Disk,
    directory: &Path,
    new: &Identity,
) -> Result<Identity, QuorumError> {
    let remove = |name: &str| match disk.remove_file(&directory.join(name)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(QuorumError::io("remove", &directory.join(name), source))
        }
        _ => Ok(()),
    };
    let sync = || {
        disk.sync_directory(directory)
            .map_err(|source| QuorumError::io("flush", directory, source))
    };
    remove(VOTE_FILE)?;
    sync()?;
    remove(SNAPSHOT_FILE)?;
    for name in log_file_names(disk, directory)? {
        remove(&name)?;
    }
    sync()?;
    new.write(disk, directory)?;
    Ok(new.clone())
}

/// The voters that a cluster begins with: all founders, or as many as there may be. The others
/// join.
fn first_voters(founding: &Founding) -> BTreeMap<u64, PeerNode> {
    let members = founding.members.iter().take(VOTERS_MAX);
    let node = |address: &String| PeerNode {
        address: address.clone(),
    };
    members.map(|(id, address)| (*id, node(address))).collect()
}

/// Starts Raft on what the directory held.
pub(crate) async fn start(
    env: &Env,
    opened: Opened,
    transport: Option<Arc<dyn PeerTransport>>,
    audit: Option<AuditLog>,
) -> Result<Node, QuorumError> {
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
    if let Some(audit) = &audit {
        audit.start(identity.raft_id);
    }
    let state_machine = StateMachine::new(env.clone(), snapshot_file, snapshot, audit);
    let published = state_machine.published();
    let config = Arc::new(config()?);
    let raft_id = identity.raft_id;
    let network = Peers { raft_id, transport };
    let raft = Raft::new(raft_id, config, network, store.clone(), state_machine)
        .await
        .map_err(QuorumError::stopped)?;
    begin(&raft, &identity).await?;
    Ok(Node {
        raft,
        store,
        published,
        identity,
        closed,
    })
}

/// Has a founder initialise, and a node alone ask for its own vote. Others hear from a leader, or
/// stand for election after a while.
async fn begin(raft: &RaftHandle, identity: &Identity) -> Result<(), QuorumError> {
    if raft.is_initialized().await.map_err(QuorumError::stopped)? {
        if is_alone(raft) {
            let elected = raft.trigger().elect(false).await;
            elected.map_err(QuorumError::stopped)?;
        }
        return Ok(());
    }
    let voters = identity.founding.as_ref().map(first_voters);
    let Some(voters) = voters.filter(|voters| voters.contains_key(&identity.raft_id)) else {
        return Ok(());
    };
    // This also asks for the first vote. Raft tells of a vote when it is on the disk, and the first
    // entry is there before it.
    raft.initialize(voters)
        .await
        .map_err(QuorumError::stopped)?;
    raft.wait(Some(INITIALISE_TIMEOUT))
        .metrics(
            |metrics| metrics.vote.leader_id.term > 0,
            "the first vote is flushed",
        )
        .await
        .map_err(QuorumError::stopped)?;
    Ok(())
}

/// Whether the quorum is this node and nobody else.
pub(crate) fn is_alone(raft: &RaftHandle) -> bool {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let mut voters = metrics.membership_config.membership().voter_ids();
    voters.next() == Some(metrics.id) && voters.next().is_none()
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
        // Others may have, and have committed, entries of this term that this node had not flushed
        // when it lost its power: in the same term it would give their places to others.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(QuorumError::stopped)
}

pub(crate) fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn LockGuard>, QuorumError> {
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
