//! The log file and the directory around it.
//!
//! Input: a path, and orders to open and read. Output: looks (`tail.rs`), bytes.
//!
//! A file is known by device and inode, and by a *fingerprint*: a hash of its first bytes. Inodes
//! are given again as soon as a file is deleted, and a file that was emptied keeps its own.
//!
//! Invariant: nothing here waits: what is no regular file is refused before it is read, and opened
//! so that opening it does not block.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::hash::Hasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use siphasher::sip::SipHasher13;
use skein_types::Millis;

use crate::failure::Failure;
use crate::produce::follow::names::is_rotated;
use crate::produce::follow::tail::{FileId, Former, HeldLook, Look, Opening, Tail};

/// First bytes of a file that its fingerprint covers, at most.
const FINGERPRINT_MAX: usize = 1024;
/// Former files of one log that are looked at.
const ROTATED_MAX: usize = 10_000;
/// A rotation may create the file first and permit to read it afterwards.
const DENIED_MAX: Duration = Duration::from_secs(5);

/// A hash of the first bytes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Of how many bytes.
    pub(crate) length: u16,
    pub(crate) hash: u64,
}

impl Fingerprint {
    fn of(bytes: &[u8]) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(bytes);
        Self {
            length: u16::try_from(bytes.len()).unwrap_or(u16::MAX),
            hash: hasher.finish(),
        }
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: FileId,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) position: u64,
}

/// The log file and the directory around it.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    directory: PathBuf,
    name: OsString,
    held: Option<Held>,
    denied_since: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    file: File,
    id: FileId,
    fingerprint: Fingerprint,
}

impl LogFile {
    /// A log of this name, there or not.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let path = std::path::absolute(path).map_err(|error| failed("find", path, &error))?;
        let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else {
            return Err(Failure::wrong(format!("{} is no file", path.display())));
        };
        Ok(Self {
            directory: directory.to_owned(),
            name: name.to_owned(),
            path,
            held: None,
            denied_since: None,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The place `position` in the file that is read.
    pub(crate) fn place(&self, position: u64) -> Option<Place> {
        self.held.as_ref().map(|held| Place {
            id: held.id,
            fingerprint: held.fingerprint,
            position,
        })
    }

    /// Refuses what can never be followed.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let look = self.look(&Tail::new(Millis(0), false, None))?;
        let Some((id, _)) = look.named else {
            return Ok(());
        };
        let opening = Opening {
            suffix: String::new(),
            id,
            position: 0,
            is_resumed: false,
        };
        match self.open(&opening)? {
            Opened::Denied(failure) => Err(failure),
            Opened::File(_) | Opened::Gone => Ok(()),
        }
    }

    /// Looks at the file that is read, at the name, and if `tail` wants it at the former files.
    pub(crate) fn look(&self, tail: &Tail) -> Result<Look, Failure> {
        let held = self.held.as_ref().map(|held| self.look_at(held));
        let named = match std::fs::metadata(&self.path) {
            Ok(found) => Some((id(&found), self.regular(&found)?.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("look at", &self.path, &error)),
        };
        let rotated = if tail.wants_rotated(named.map(|(id, _)| id)) {
            self.rotated()?
        } else {
            Vec::new()
        };
        Ok(Look {
            held: held.transpose()?,
            named,
            rotated,
        })
    }

    fn look_at(&self, held: &Held) -> Result<HeldLook, Failure> {
        let look = || -> io::Result<HeldLook> {
            let found = held.file.metadata()?;
            let mut first = [0; FINGERPRINT_MAX];
            let length = usize::from(held.fingerprint.length).min(FINGERPRINT_MAX);
            let read = read_up_to(&held.file, &mut first[..length], 0)?;
            Ok(HeldLook {
                size: found.len(),
                is_linked: found.nlink() > 0,
                begins_as_before: Fingerprint::of(&first[..read]) == held.fingerprint,
            })
        };
        look().map_err(|error| failed("read", &self.path, &error))
    }

    /// The former files. What goes away meanwhile is not there.
    fn rotated(&self) -> Result<Vec<Former>, Failure> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.directory, &error)),
        };
        let files = entries.flatten().filter_map(|entry| {
            let name = entry.file_name();
            let suffix = name.as_bytes().strip_prefix(self.name.as_bytes())?;
            let suffix = std::str::from_utf8(suffix).ok()?;
            let found = entry.metadata().ok()?;
            (is_rotated(suffix) && found.is_file()).then(|| Former {
                suffix: suffix.to_owned(),
                id: id(&found),
                made: found.created().ok(),
            })
        });
        Ok(files.take(ROTATED_MAX).collect())
    }

    /// Goes on with another file. `false` if the name leads to yet another one by now, or nowhere.
    pub(crate) fn open(&self, opening: &Opening) -> Result<Opened, Failure> {
        let mut name = self.name.clone();
        name.push(&opening.suffix);
        let path = self.directory.join(name);
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(&path)
            .and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((found, file)) => {
                self.regular(&found)?;
                let is_it = id(&found) == opening.id;
                Ok(if is_it {
                    Opened::File(file)
                } else {
                    Opened::Gone
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Opened::Gone),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(Opened::Denied(denied(&path)))
            }
            Err(error) => Err(failed("open", &path, &error)),
        }
    }

    /// The file may not be read: fails, unless that may be the beginning of a file's life.
    pub(crate) fn deny(&mut self, failure: Failure) -> Result<(), Failure> {
        let since = *self.denied_since.get_or_insert_with(Instant::now);
        // Who starts on such a file should know at once.
        if self.held.is_none() || since.elapsed() > DENIED_MAX {
            return Err(failure);
        }
        Ok(())
    }

    /// Reads from this file from now on. It has this fingerprint, if it is known.
    pub(crate) fn hold(&mut self, file: File, id: FileId, fingerprint: Option<Fingerprint>) {
        self.denied_since = None;
        self.held = Some(Held {
            file,
            id,
            fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of(&[])),
        });
    }

    /// Lets go of the file.
    pub(crate) fn close(&mut self) {
        self.held = None;
    }

    /// The file is another one from now on.
    pub(crate) fn forget_beginning(&mut self) {
        if let Some(held) = &mut self.held {
            held.fingerprint = Fingerprint::of(&[]);
        }
    }

    /// Reads from `position` on; returns how many bytes.
    pub(crate) fn read(&mut self, position: u64, chunk: &mut [u8]) -> Result<usize, Failure> {
        let Some(held) = &mut self.held else {
            return Ok(0);
        };
        let mut read = || -> io::Result<usize> {
            let read = read_up_to(&held.file, chunk, position)?;
            let known = usize::from(held.fingerprint.length);
            if known < FINGERPRINT_MAX {
                let mut first = [0; FINGERPRINT_MAX];
                let end = position.saturating_add(read as u64);
                let length = usize::try_from(end)
                    .unwrap_or(usize::MAX)
                    .min(FINGERPRINT_MAX);
                let length = read_up_to(&held.file, &mut first[..length], 0)?;
                // Only a beginning that is the known one is made longer.
                if length > known && Fingerprint::of(&first[..known]) == held.fingerprint {
                    held.fingerprint = Fingerprint::of(&first[..length]);
                }
            }
            Ok(read)
        };
        read().map_err(|error| {
            let path = self.path.display();
            Failure::failed(format!("cannot read {path} at byte {position}: {error}"))
        })
    }

    /// Whether a line begins at `position`.
    pub(crate) fn is_line_start(&self, position: u64) -> Result<bool, Failure> {
        let (Some(held), Some(before)) = (&self.held, position.checked_sub(1)) else {
            return Ok(true);
        };
        let mut byte = [0];
        let read = read_up_to(&held.file, &mut byte, before);
        let read = read.map_err(|error| failed("read", &self.path, &error))?;
        Ok(read == 0 || byte[0] == b'\n')
    }

    fn regular<'a>(&self, found: &'a Metadata) -> Result<&'a Metadata, Failure> {
        let kind = found.file_type();
        if kind.is_file() {
            return Ok(found);
        }
        let (what, hint) = if kind.is_dir() {
            (
                "a directory",
                "Name a file in it; one command follows one file.",
            )
        } else if kind.is_fifo() || kind.is_socket() {
            let hint = "It has no positions to go on from. 'skein produce TOPIC < PIPE' reads it.";
            ("a pipe or a socket", hint)
        } else {
            ("a device", "--follow takes regular files only.")
        };
        let path = self.path.display();
        Err(Failure::wrong(format!("{path} is {what}, and cannot be followed")).hint(hint))
    }
}

/// What opening a file came to.
#[derive(Debug)]
pub(crate) enum Opened {
    File(File),
    /// It has another name by now, or none.
    Gone,
    /// It may not be read.
    Denied(Failure),
}

fn id(found: &Metadata) -> FileId {
    FileId {
        device: found.dev(),
        inode: found.ino(),
    }
}

/// Reads until `bytes` is full or the file at its end.
fn read_up_to(file: &File, bytes: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], position.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return denied(path);
    }
    Failure::failed(format!("cannot {what} {}: {error}", path.display()))
}

fn denied(path: &Path) -> Failure {
    Failure::failed(format!("cannot read {}: permission denied", path.display())).hint(
        "Whoever runs this command must be allowed to read the file and to search its directory.",
    )
}
