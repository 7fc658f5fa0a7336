//! Whether a log directory takes appends.
//!
//! Input: what appends ran into. Output: take them, refuse them for now, or refuse them for good.
//!
//! ```text
//!           ENOSPC, short write, no room
//!           at the start, a reserve spent      EIO, EROFS, …
//!  Online ─────────────────────► Full    any ─────────────────► Offline
//!     ▲    an append succeeds,     │
//!     │    or somebody finds room  │
//!     └────────────────────────────┘
//! ```
//!
//! A full directory asks the device for its free space before it tries an append again: a write
//! that is doomed would only have to be cut back. What the reserves lack is not free.
//!
//! Invariants, held by [`Condition`]: a directory that is offline stays so until the node restarts;
//! who wants to know of that is told once, also when it had happened before.
//!
//! Source: none.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use skein_env::{Disk, DiskSpace};

use crate::reserve::Reserve;
use crate::{Severity, StorageError};

/// Free bytes beyond the append itself that a full directory needs before it takes appends again:
/// indexes and checkpoints want room too.
const RESERVE_BYTES: u64 = 1024 * 1024;

const ONLINE: u8 = 0;
const FULL: u8 = 1;
const OFFLINE: u8 = 2;

/// Whether a log directory takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryState {
    /// It does.
    Online,
    /// The device is full: appends are refused retriably until there is room.
    Full,
    /// The device fails: appends are refused until the node restarts.
    Offline,
}

#[derive(Default)]
pub(crate) struct Condition {
    state: AtomicU8,
    /// Who wants to know that the directory is offline; `None` once that was told.
    listener: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Those on the directory's device.
    reserves: Mutex<Vec<Arc<Reserve>>>,
}

impl Condition {
    pub(crate) fn state(&self) -> DirectoryState {
        match self.state.load(Ordering::Relaxed) {
            ONLINE => DirectoryState::Online,
            FULL => DirectoryState::Full,
            _ => DirectoryState::Offline,
        }
    }

    /// Refuses an append of `wanted_bytes` that can't succeed. Costs one load while all is well.
    pub(crate) fn before_append(
        &self,
        disk: &dyn Disk,
        path: &Path,
        wanted_bytes: u64,
    ) -> Result<(), StorageError> {
        match self.state() {
            DirectoryState::Online => Ok(()),
            DirectoryState::Offline => Err(StorageError::Broken {
                path: path.to_path_buf(),
            }),
            DirectoryState::Full => {
                let space = disk
                    .space(path)
                    .map_err(|source| StorageError::io("stat", path, source))?;
                let (usable_bytes, path) = (space.usable_bytes, path.to_path_buf());
                let kept_bytes = RESERVE_BYTES.saturating_add(self.missing_bytes(space));
                if usable_bytes < wanted_bytes.saturating_add(kept_bytes) {
                    return Err(StorageError::Full {
                        path,
                        usable_bytes,
                        wanted_bytes,
                    });
                }
                Ok(())
            }
        }
    }

    pub(crate) fn on_append(&self, path: &Path) {
        // A plain load on the path of every append; the exchange only where there is news.
        if self.state.load(Ordering::Relaxed) == FULL
            && self
                .state
                .compare_exchange(FULL, ONLINE, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::info!(path = %path.display(), "the log directory has room again");
        }
    }

    pub(crate) fn on_error(&self, path: &Path, error: &StorageError) {
        match (error.severity(), self.state()) {
            (_, DirectoryState::Offline) => {}
            (Severity::Directory, _) => {
                self.go_offline();
                let remedy = error.remedy();
                tracing::error!(path = %path.display(), %error, remedy, "the log directory fails");
            }
            (Severity::Retriable, DirectoryState::Online) if error.is_disk_full() => {
                let full =
                    self.state
                        .compare_exchange(ONLINE, FULL, Ordering::Relaxed, Ordering::Relaxed);
                if full.is_ok() {
                    let remedy = error.remedy();
                    tracing::warn!(path = %path.display(), %error, remedy, "the disk is full");
                }
            }
            _ => {}
        }
    }

    /// There is no room beyond what is kept back, or not even for that: records must not take
    /// it.
    pub(crate) fn on_shortage(&self, path: &Path) {
        let full = self
            .state
            .compare_exchange(ONLINE, FULL, Ordering::Relaxed, Ordering::Relaxed);
        if full.is_ok() {
            tracing::warn!(path = %path.display(), "the log directory refuses records: no room");
        }
    }

    pub(crate) fn add_reserve(&self, reserve: Arc<Reserve>) {
        self.reserves.lock().push(reserve);
    }

    pub(crate) fn wants_room(&self) -> bool {
        self.state() == DirectoryState::Full
            || self
                .reserves
                .lock()
                .iter()
                .any(|reserve| reserve.is_spent())
    }

    /// See [`super::LogDirectory::look_for_room`].
    pub(crate) fn look_for_room(&self, disk: &dyn Disk, path: &Path) {
        let reserves = self.reserves.lock().clone();
        // Each of them, also when the first finds no room.
        for reserve in &reserves {
            reserve.fill();
        }
        // Who is asked again in a second need not tell why.
        let Ok(space) = disk.space(path) else { return };
        if space.usable_bytes >= RESERVE_BYTES.saturating_add(self.missing_bytes(space)) {
            self.on_append(path);
        } else {
            self.on_shortage(path);
        }
    }

    /// What the reserves lack.
    fn missing_bytes(&self, space: DiskSpace) -> u64 {
        let reserves = self.reserves.lock();
        reserves
            .iter()
            .map(|reserve| reserve.missing_bytes(space))
            .sum()
    }

    /// Has `listener` called when the directory goes offline, or at once if it is.
    pub(crate) fn when_offline(&self, listener: Box<dyn FnOnce() + Send>) {
        *self.listener.lock() = Some(listener);
        if self.state() == DirectoryState::Offline {
            self.tell();
        }
    }

    fn go_offline(&self) {
        self.state.store(OFFLINE, Ordering::SeqCst);
        self.tell();
    }

    fn tell(&self) {
        let listener = self.listener.lock().take();
        if let Some(listener) = listener {
            listener();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{EIO, ENOSPC, FaultyDisk};

    #[test]
    fn a_full_directory_recovers_and_a_failed_one_does_not() {
        let directory = tempfile::TempDir::new().unwrap();
        let (disk, path) = (FaultyDisk::new(), directory.path());
        let condition = Condition::default();
        let error =
            |number| StorageError::io("write", path, std::io::Error::from_raw_os_error(number));
        condition.before_append(&*disk, path, u64::MAX).unwrap();

        condition.on_error(path, &error(ENOSPC));
        assert_eq!(condition.state(), DirectoryState::Full);
        disk.set_usable_bytes(Some(RESERVE_BYTES + 9));
        let refused = condition.before_append(&*disk, path, 10).unwrap_err();
        assert!(matches!(
            refused,
            StorageError::Full {
                wanted_bytes: 10,
                ..
            }
        ));
        assert_eq!(refused.severity(), Severity::Retriable);
        disk.set_usable_bytes(Some(RESERVE_BYTES + 10));
        condition.before_append(&*disk, path, 10).unwrap();
        condition.on_append(path);
        assert_eq!(condition.state(), DirectoryState::Online);

        condition.on_error(path, &error(EIO));
        condition.on_append(path);
        condition.on_error(path, &error(ENOSPC));
        assert_eq!(condition.state(), DirectoryState::Offline);
        assert!(condition.before_append(&*disk, path, 10).is_err());
    }

    #[test]
    fn a_spent_reserve_keeps_records_out_until_there_is_room_for_both() {
        let directory = tempfile::TempDir::new().unwrap();
        let (disk, path) = (FaultyDisk::new(), directory.path());
        let condition = Condition::default();
        let any_disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(&disk);
        let reserve = Reserve::new(any_disk, path.join(".reserve"));
        condition.add_reserve(Arc::clone(&reserve));
        let missing = reserve.missing_bytes(disk.space(path).unwrap());
        assert!(missing > 0 && condition.wants_room());
        for (usable_bytes, state) in [
            (RESERVE_BYTES, DirectoryState::Full),
            (RESERVE_BYTES + missing - 1, DirectoryState::Full),
            (RESERVE_BYTES + missing, DirectoryState::Online),
        ] {
            disk.set_usable_bytes(Some(usable_bytes));
            condition.look_for_room(&*disk, path);
            assert_eq!(condition.state(), state, "{usable_bytes}");
            // A full directory keeps the records out of what the reserve lacks.
            let is_refused = condition.before_append(&*disk, path, 0).is_err();
            assert_eq!(is_refused, state == DirectoryState::Full, "{usable_bytes}");
        }
        assert!(!reserve.is_spent() && !condition.wants_room());

        // A start on a full device: the spare file is there, and there is nothing beside it.
        let condition = Condition::default();
        let any_disk: Arc<dyn Disk> = Arc::<FaultyDisk>::clone(&disk);
        condition.add_reserve(Reserve::new(any_disk, path.join(".reserve")));
        disk.set_usable_bytes(Some(RESERVE_BYTES - 1));
        condition.look_for_room(&*disk, path);
        assert_eq!(condition.state(), DirectoryState::Full);

        // As above for an append, which asks by itself.
        condition.on_error(
            path,
            &StorageError::io("write", path, std::io::Error::from_raw_os_error(ENOSPC)),
        );
        disk.set_usable_bytes(Some(RESERVE_BYTES + 10));
        condition.before_append(&*disk, path, 10).unwrap();
        condition.look_for_room(&*disk, path);
        assert_eq!(condition.state(), DirectoryState::Online);
    }

    #[test]
    fn who_listens_is_told_once_that_the_directory_is_offline() {
        let path = Path::new("/d");
        let error = || StorageError::io("write", path, std::io::Error::from_raw_os_error(EIO));
        for fails_before in [false, true] {
            let (condition, told) = (Condition::default(), Arc::new(AtomicU8::new(0)));
            if fails_before {
                condition.on_error(path, &error());
            }
            let counted = Arc::clone(&told);
            condition.when_offline(Box::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            assert_eq!(told.load(Ordering::Relaxed), u8::from(fails_before));
            condition.on_error(path, &error());
            condition.on_error(path, &error());
            assert_eq!(told.load(Ordering::Relaxed), 1);
        }
    }

    #[test]
    fn a_lack_of_descriptors_does_not_look_like_a_full_disk() {
        const EMFILE: i32 = 24;
        let condition = Condition::default();
        let path = Path::new("/d");
        let source = std::io::Error::from_raw_os_error(EMFILE);
        condition.on_error(path, &StorageError::io("open", path, source));
        assert_eq!(condition.state(), DirectoryState::Online);
    }
}
