//! The names of a simulated disk: once as programs see them, once on the device.
//!
//! Input: paths and changes of names. Output: the files behind them.
//!
//! A change of names is journalled: creating and removing set one entry, renaming sets two in one
//! step. Syncing a directory brings its changes to the device, with every earlier change that they
//! build on. A power cut keeps a prefix of each directory's other changes, drawn by the seed: the
//! whole journal up to a moment, or each directory up to another one.
//!
//! POSIX promises no order. Within a directory this disk keeps it, as file systems do that journal
//! or copy their metadata (ext4, XFS, btrfs): a log whose first file's name is lost while a later
//! one's is not would look like one that retention has shortened. Between directories there is none
//! but by `sync`, as on those that write out a directory alone.
//!
//! Invariants, checked by `tests/disk_faults.rs`:
//! - after `sync` of a directory a power cut leaves its entries as they were then, or as a prefix
//!   of the later changes made them;
//! - a rename is never seen half.
//!
//! Source: `rename(2)`, `fsync(2)`; the order of a journalling file system.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::sim::disk::content::{Content, Usage};
use crate::sim::rng::SimRng;

/// Changes that wait in the journal; the oldest reach the device by themselves beyond that.
const JOURNAL_MAX: usize = 4096;

/// A file, whatever it is called.
pub(super) struct FileNode {
    /// Unlike every other file's on this disk.
    pub(super) id: u64,
    pub(super) content: Mutex<Content>,
}

/// What a name stands for.
#[derive(Clone)]
pub(super) enum Entry {
    File(Arc<FileNode>),
    Directory(u64),
}

/// All names of one disk.
pub(super) struct Names {
    directories: BTreeMap<u64, Directory>,
    journal: VecDeque<Vec<Change>>,
    next_id: u64,
}

#[derive(Default)]
struct Directory {
    entries: BTreeMap<OsString, Entry>,
    device: BTreeMap<OsString, Entry>,
}

/// Sets or clears one entry.
struct Change {
    directory: u64,
    name: OsString,
    entry: Option<Entry>,
}

const ROOT: u64 = 0;

impl Names {
    pub(super) fn new() -> Self {
        let directories = BTreeMap::from([(ROOT, Directory::default())]);
        Self {
            directories,
            journal: VecDeque::new(),
            next_id: ROOT + 1,
        }
    }

    /// What is at `path`.
    pub(super) fn find(&self, path: &Path) -> Result<Entry, Errno> {
        let mut entry = Entry::Directory(ROOT);
        for name in names(path) {
            let Entry::Directory(directory) = entry else {
                return Err(Errno::NOTDIR);
            };
            let found = self
                .directories
                .get(&directory)
                .and_then(|at| at.entries.get(name));
            entry = found.cloned().ok_or(Errno::NOENT)?;
        }
        Ok(entry)
    }

    /// The entries of the directory at `path`, in the order of their names.
    pub(super) fn list(&self, path: &Path) -> Result<Vec<(OsString, Entry)>, Errno> {
        let directory = self.directory(path)?;
        let entries = self
            .directories
            .get(&directory)
            .map(|at| &at.entries)
            .into_iter()
            .flatten();
        Ok(entries
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect())
    }

    /// Makes an empty file at `path`, where nothing is.
    pub(super) fn create_file(
        &mut self,
        path: &Path,
        usage: &Arc<Usage>,
    ) -> Result<Arc<FileNode>, Errno> {
        let (directory, name) = self.place(path)?;
        let content = Mutex::new(Content::new(Arc::clone(usage)));
        let file = Arc::new(FileNode {
            id: self.take_id(),
            content,
        });
        self.change(vec![Change {
            directory,
            name,
            entry: Some(Entry::File(Arc::clone(&file))),
        }]);
        Ok(file)
    }

    /// Makes the directory and its parents.
    pub(super) fn create_directory(&mut self, path: &Path) -> Result<(), Errno> {
        let mut directory = ROOT;
        for name in names(path) {
            let found = self
                .directories
                .get(&directory)
                .and_then(|at| at.entries.get(name));
            directory = match found {
                Some(Entry::Directory(next)) => *next,
                Some(Entry::File(_)) => return Err(Errno::EXIST),
                None => {
                    let next = self.take_id();
                    self.directories.insert(next, Directory::default());
                    let entry = Some(Entry::Directory(next));
                    self.change(vec![Change {
                        directory,
                        name: name.to_owned(),
                        entry,
                    }]);
                    next
                }
            };
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let entry = self.find(from)?;
        let (from_directory, from_name) = self.place(from)?;
        let (to_directory, to_name) = self.place(to)?;
        match (&entry, self.find(to)) {
            (_, Err(Errno::NOENT)) | (Entry::File(_), Ok(Entry::File(_))) => {}
            (Entry::Directory(_), Ok(Entry::File(_))) => return Err(Errno::NOTDIR),
            (Entry::File(_), Ok(Entry::Directory(_))) => return Err(Errno::ISDIR),
            (Entry::Directory(_), Ok(Entry::Directory(_))) => return Err(Errno::NOTEMPTY),
            (_, Err(errno)) => return Err(errno),
        }
        if (from_directory, &from_name) == (to_directory, &to_name) {
            return Ok(());
        }
        self.change(vec![
            Change {
                directory: from_directory,
                name: from_name,
                entry: None,
            },
            Change {
                directory: to_directory,
                name: to_name,
                entry: Some(entry),
            },
        ]);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> Result<(), Errno> {
        if let Entry::Directory(_) = self.find(path)? {
            return Err(Errno::ISDIR);
        }
        let (directory, name) = self.place(path)?;
        self.change(vec![Change {
            directory,
            name,
            entry: None,
        }]);
        Ok(())
    }

    /// Removes the directory at `path`, what is in it first, each as a change of its own.
    pub(super) fn remove_directory(&mut self, path: &Path) -> Result<(), Errno> {
        for (name, entry) in self.list(path)? {
            match entry {
                Entry::File(_) => self.remove_file(&path.join(name))?,
                Entry::Directory(_) => self.remove_directory(&path.join(name))?,
            }
        }
        let (directory, name) = self.place(path)?;
        self.change(vec![Change {
            directory,
            name,
            entry: None,
        }]);
        Ok(())
    }

    /// Brings the changes in the directory at `path` to the device.
    pub(super) fn sync(&mut self, path: &Path) -> Result<(), Errno> {
        let mut wanted = BTreeSet::from([self.directory(path)?]);
        let mut kept = VecDeque::new();
        let mut applied = Vec::new();
        // From the newest back: a change that is applied needs all earlier ones in its directories.
        while let Some(changes) = self.journal.pop_back() {
            if changes
                .iter()
                .any(|change| wanted.contains(&change.directory))
            {
                wanted.extend(changes.iter().map(|change| change.directory));
                applied.push(changes);
            } else {
                kept.push_front(changes);
            }
        }
        self.journal = kept;
        for changes in applied.into_iter().rev() {
            self.apply(changes);
        }
        Ok(())
    }

    /// Brings all changes to the device, as a file system does that is short of room: only then do
    /// removed files give theirs back. Says whether there were any.
    pub(super) fn commit(&mut self) -> bool {
        let journal = std::mem::take(&mut self.journal);
        let any = !journal.is_empty();
        for changes in journal {
            self.apply(changes);
        }
        any
    }

    /// The machine loses power; returns the files that are left, in the order of their paths.
    pub(super) fn power_cut(&mut self, rng: &mut SimRng) -> Vec<Arc<FileNode>> {
        if rng.chance(2) {
            self.keep_a_moment(rng);
        } else {
            self.keep_of_each_directory(rng);
        }
        let mut reachable = BTreeMap::new();
        let mut files = Vec::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            let Some(mut directory) = self.directories.remove(&id) else {
                continue;
            };
            directory.entries.clone_from(&directory.device);
            for entry in directory.entries.values() {
                match entry {
                    Entry::File(file) => files.push(Arc::clone(file)),
                    Entry::Directory(id) => open.push(*id),
                }
            }
            reachable.insert(id, directory);
        }
        self.directories = reachable;
        files
    }

    /// Brings the journal to the device up to a moment; the rest is lost.
    fn keep_a_moment(&mut self, rng: &mut SimRng) {
        let waiting = self.journal.len() as u64;
        let kept = match rng.below(4) {
            0 => 0,
            1 => waiting,
            _ => rng.between(0, waiting),
        };
        let journal = std::mem::take(&mut self.journal);
        for (changes, _) in journal.into_iter().zip(0..kept) {
            self.apply(changes);
        }
    }

    /// Brings each directory's changes to the device up to one of its own; the rest is lost.
    fn keep_of_each_directory(&mut self, rng: &mut SimRng) {
        let lost_one_in = u32::try_from(rng.between(2, 20)).unwrap_or(2);
        let mut ended: BTreeSet<u64> = BTreeSet::new();
        for changes in std::mem::take(&mut self.journal) {
            let is_lost = changes
                .iter()
                .any(|change| ended.contains(&change.directory));
            if is_lost || rng.chance(lost_one_in) {
                ended.extend(changes.iter().map(|change| change.directory));
            } else {
                self.apply(changes);
            }
        }
    }

    fn directory(&self, path: &Path) -> Result<u64, Errno> {
        match self.find(path)? {
            Entry::Directory(directory) => Ok(directory),
            Entry::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// The directory that holds, or would hold, what `path` names, and its name there.
    fn place(&self, path: &Path) -> Result<(u64, OsString), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
        let parent = path.parent().unwrap_or_else(|| Path::new("/"));
        Ok((self.directory(parent)?, name))
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Makes `changes` visible at once and journals them.
    fn change(&mut self, changes: Vec<Change>) {
        for change in &changes {
            if let Some(directory) = self.directories.get_mut(&change.directory) {
                set(
                    &mut directory.entries,
                    change.name.clone(),
                    change.entry.clone(),
                );
            }
        }
        self.journal.push_back(changes);
        if self.journal.len() > JOURNAL_MAX
            && let Some(oldest) = self.journal.pop_front()
        {
            self.apply(oldest);
        }
    }

    /// Brings `changes` to the device.
    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            if let Some(directory) = self.directories.get_mut(&change.directory) {
                set(&mut directory.device, change.name, change.entry);
            }
        }
    }
}

fn set(entries: &mut BTreeMap<OsString, Entry>, name: OsString, entry: Option<Entry>) {
    match entry {
        Some(entry) => entries.insert(name, entry),
        None => entries.remove(&name),
    };
}

/// The names on the way from the root; `/a/./b` and `a/b` are the same.
fn names(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
