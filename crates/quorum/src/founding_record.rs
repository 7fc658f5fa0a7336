//! The end of a founding record that came to nothing.
//!
//! Nodes that agreed on a founding record elect their first leader with a majority of it. When so
//! many of them were wiped before that, the record can never come to anything, and whoever still
//! holds it waits for ever, and keeps the wiped ones from founding anew. An operator drops it.
//!
//! Input: the directory of a node that is stopped. Output: the directory of a new node.
//!
//! Invariants:
//! - nothing is dropped that a controller has decided: with an entry of one, or a snapshot, the
//!   cluster has lived, and its metadata may be the last copy;
//! - the node's Raft id goes with the record: the others cannot elect with this node any more, and
//!   if they are a majority by themselves it joins them;
//! - a crash in between leaves a directory from which the next start goes on (`node.rs`).
//!
//! Source: own design.

use std::path::Path;

use openraft::EntryPayload;
use skein_env::Env;
use skein_types::ClusterId;

use crate::QuorumError;
use crate::identity::Identity;
use crate::node::{Found, lock, retire};
use crate::types::RaftEntryOf;

/// Drops the founding record in `directory`, the `metadata.log.dir` of a node that does not run.
/// Blocks. Returns the id of the cluster that never was.
///
/// # Errors
/// [`QuorumError::NoRecord`]: there is none, or a controller has decided something;
/// [`QuorumError::Locked`]: the node runs; the disk fails.
pub fn drop_founding_record(env: &Env, directory: &Path) -> Result<ClusterId, QuorumError> {
    let disk = &env.disk;
    let none = |reason: &str| {
        let (directory, reason) = (directory.to_path_buf(), reason.to_owned());
        Err(QuorumError::NoRecord { directory, reason })
    };
    // The lock is a file: it is not made where nobody ever was.
    let Some(identity) = Identity::read(&**disk, directory)? else {
        return none("it is no metadata.log.dir of a node: it holds no identity");
    };
    let _lock = lock(&**disk, directory)?;
    let Some(founding) = identity.founding.filter(|founding| founding.is_record()) else {
        return none("its node holds no founding record: it has no cluster yet, or joined one");
    };
    if founding.members.len() == 1 {
        return none("its node founded its cluster alone: no majority of others can be missing");
    }
    let found = Found::read(disk, directory)?;
    let mut entries = found.recovered.entries.iter();
    let is_decision = |entry: &RaftEntryOf| matches!(entry.payload, EntryPayload::Normal(_));
    let has_decisions =
        found.recovered.purged.is_some() || found.snapshot.is_some() || entries.any(is_decision);
    if has_decisions {
        return none(
            "the cluster has had a controller, whose decisions may have their last copy here; \
             nothing was dropped",
        );
    }
    drop(found);
    let new = Identity::new(&*env.rng);
    new.write(&**disk, directory)?;
    retire(&**disk, directory, &new)?;
    Ok(founding.cluster_id)
}
