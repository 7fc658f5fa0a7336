//! The snapshot on disk: one file, which the next one replaces.
//!
//! ```text
//!  head(last log id, members, length) canonical image (skein_metadata::encode_snapshot)
//! ```
//!
//! Input: an image with its members. Output: the file, durable; and both again.
//!
//! Invariants: the file is replaced whole; a snapshot never replaces a newer one.
//!
//! Source: own design.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use skein_env::Disk;
use skein_metadata::envelope::{HEADER_BYTES, TRAILER_BYTES};
use skein_metadata::{Image, LogId, SNAPSHOT_MAX_BYTES, decode_snapshot, encode_snapshot};

use crate::frozen::{SMALL_PAYLOAD_MAX, SnapshotHead, snapshot_head_bytes, snapshot_head_of};
use crate::types::RaftStoredMembership;
use crate::{QuorumError, small_file};

/// Name of the file.
pub(crate) const SNAPSHOT_FILE: &str = "snapshot";

/// The place of the snapshot. Clones are handles of the same place.
#[derive(Clone)]
pub(crate) struct SnapshotFile {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    /// What the file holds; locked while it is written.
    written: Arc<Mutex<Option<LogId>>>,
}

/// A snapshot in memory.
#[derive(Clone, Debug)]
pub(crate) struct StoredSnapshot {
    pub(crate) image: Image,
    pub(crate) membership: RaftStoredMembership,
    /// The image's canonical bytes.
    pub(crate) bytes: Vec<u8>,
}

impl StoredSnapshot {
    pub(crate) fn new(image: Image, membership: RaftStoredMembership) -> Result<Self, QuorumError> {
        let bytes = encode_snapshot(&image).map_err(QuorumError::stopped)?;
        Ok(Self {
            image,
            membership,
            bytes,
        })
    }
}

impl SnapshotFile {
    pub(crate) fn new(disk: Arc<dyn Disk>, directory: &Path) -> Self {
        let directory = directory.to_path_buf();
        Self {
            disk,
            directory,
            written: Arc::default(),
        }
    }

    /// The snapshot in the file; `None` if there is no file.
    pub(crate) fn read(&self) -> Result<Option<StoredSnapshot>, QuorumError> {
        let path = self.directory.join(SNAPSHOT_FILE);
        let head_max = SMALL_PAYLOAD_MAX + HEADER_BYTES + TRAILER_BYTES;
        let mut written = self.written.lock();
        let Some(mut bytes) = small_file::read(&*self.disk, &path, head_max + SNAPSHOT_MAX_BYTES)?
        else {
            return Ok(None);
        };
        let corrupt = |error: String| QuorumError::lost(&path, format!("corrupt: {error}"));
        let (head, start) = snapshot_head_of(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if (bytes.len() - start) as u64 != head.image_bytes {
            return Err(corrupt("its length is not what its head says".into()));
        }
        let bytes = bytes.split_off(start);
        let image = decode_snapshot(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if image.last_applied() != head.last_log_id {
            return Err(corrupt("image and head name different entries".into()));
        }
        *written = head.last_log_id;
        Ok(Some(StoredSnapshot {
            image,
            membership: head.membership,
            bytes,
        }))
    }

    /// Writes the snapshot, durably, unless the file has a newer one.
    pub(crate) fn write(&self, snapshot: &StoredSnapshot) -> Result<(), QuorumError> {
        let mut written = self.written.lock();
        let last_log_id = snapshot.image.last_applied();
        if *written >= last_log_id && written.is_some() {
            return Ok(());
        }
        let head = SnapshotHead {
            last_log_id,
            membership: snapshot.membership.clone(),
            image_bytes: snapshot.bytes.len() as u64,
        };
        let head = snapshot_head_bytes(&head).map_err(QuorumError::stopped)?;
        let pieces = [head.as_slice(), &snapshot.bytes];
        small_file::replace(&*self.disk, &self.directory, SNAPSHOT_FILE, &pieces)?;
        *written = last_log_id;
        Ok(())
    }
}
