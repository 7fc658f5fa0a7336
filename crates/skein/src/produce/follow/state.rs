//! The file that keeps how far a log file was collected.
//!
//! Input: places. Output: a small text file that is replaced durably; at the next start the place.
//!
//! ```text
//! {"version":1,"topic":"orders","cluster_id":"…","file":"/var/log/app.log","device":…,"inode":…,
//!  "fingerprint":"…","fingerprint_length":1024,"position":12345}
//! crc32c 1a2b3c4d
//! ```
//!
//! Invariants:
//! - the file is whole at any time: what is written beside it is flushed before it takes its name,
//!   and the directory is flushed after;
//! - two commands never use one state file at a time: it is locked, by a file beside it.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::Hasher;
use std::io;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use siphasher::sip::SipHasher13;
use skein_record::crc32c;

use crate::failure::Failure;
use crate::produce::follow::files::{Fingerprint, Place};
use crate::produce::follow::tail::FileId;

/// Version of the format.
const VERSION: u64 = 1;
/// Bytes of a state file, at most: paths are no longer than 4096 bytes.
const STATE_MAX: u64 = 64 * 1024;

/// Where the state of a log file and topic is kept if nobody says: not beside the log, where who
/// reads may often not write, and where what lies there is rotated.
pub(crate) fn default_path(log: &Path, topic: &str) -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let directory = variable("XDG_STATE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| Some(variable("HOME")?.join(".local/state")))
        .ok_or_else(|| {
            Failure::wrong("neither XDG_STATE_HOME nor HOME is set; where is the state to be kept?")
                .hint("--state names a file.")
        })?;
    let mut hasher = SipHasher13::new();
    hasher.write(log.as_os_str().as_bytes());
    hasher.write(&[0]);
    hasher.write(topic.as_bytes());
    let mut name = log.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{:016x}.json", hasher.finish()));
    Ok(directory.join("skein").join(name))
}

/// What a log file is collected for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) topic: String,
    pub(crate) cluster_id: String,
    /// The log file.
    pub(crate) file: String,
}

/// The file that keeps how far a log file was collected.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    purpose: Purpose,
    _lock: File,
}

impl StateFile {
    /// Takes the state file, and the place that it holds.
    pub(crate) fn open(path: &Path, purpose: Purpose) -> Result<(Self, Option<Place>), Failure> {
        let path = std::path::absolute(path).map_err(|error| failed("find", path, &error))?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| failed("create", parent, &error))?;
        }
        let lock = lock(&path)?;
        let state = Self {
            path,
            purpose,
            _lock: lock,
        };
        let place = state.load()?;
        Ok((state, place))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a place, durably.
    pub(crate) fn save(&self, place: Place) -> Result<(), Failure> {
        let text = encode(&self.purpose, place);
        let temporary = beside(&self.path, ".new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &self.path)?;
            match self.path.parent() {
                Some(parent) => File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        write().map_err(|error| failed("write", &self.path, &error))
    }

    fn load(&self) -> Result<Option<Place>, Failure> {
        let mut text = Vec::new();
        let read =
            File::open(&self.path).and_then(|file| file.take(STATE_MAX + 1).read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &self.path, &error)),
            Ok(_) => {}
        }
        let path = self.path.display();
        let remedy = format!(
            "To collect {} from its start, delete it (what was sent before is sent again); to go \
             on at its end, delete it and add --from end.",
            self.purpose.file
        );
        let (purpose, place) = decode(&text).map_err(|what| {
            Failure::failed(format!("the state file {path} is damaged: {what}"))
                .hint(remedy.clone())
        })?;
        let differs = [
            ("topic", &purpose.topic, &self.purpose.topic),
            ("cluster", &purpose.cluster_id, &self.purpose.cluster_id),
            ("file", &purpose.file, &self.purpose.file),
        ]
        .into_iter()
        .find(|(_, kept, asked)| kept != asked);
        match differs {
            None => Ok(Some(place)),
            Some((what, kept, asked)) => Err(Failure::failed(format!(
                "the state file {path} is for {what} {kept}, not {asked}"
            ))
            .hint(format!(
                "Name another one with --state, or delete it. {remedy}"
            ))),
        }
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let beside = beside(path, ".lock");
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&beside);
    let file = open.map_err(|error| failed("write", &beside, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let path = path.display();
            Err(
                Failure::failed(format!("another skein produce uses {path}"))
                    .hint("One of them is enough; or give each a state file with --state."),
            )
        }
        Err(TryLockError::Error(error)) => Err(failed("lock", &beside, &error)),
    }
}

/// The path with more behind its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn encode(purpose: &Purpose, place: Place) -> String {
    let value = json!({
        "version": VERSION,
        "topic": purpose.topic,
        "cluster_id": purpose.cluster_id,
        "file": purpose.file,
        "device": place.id.device,
        "inode": place.id.inode,
        "fingerprint": format!("{:016x}", place.fingerprint.hash),
        "fingerprint_length": place.fingerprint.length,
        "position": place.position,
    });
    let line = value.to_string();
    format!("{line}\ncrc32c {:08x}\n", crc32c(line.as_bytes()))
}

fn decode(text: &[u8]) -> Result<(Purpose, Place), String> {
    if text.len() as u64 > STATE_MAX {
        return Err(format!("it has more than {STATE_MAX} bytes"));
    }
    let text = std::str::from_utf8(text).map_err(|_| "it is not text".to_owned())?;
    let (line, rest) = text
        .split_once('\n')
        .ok_or_else(|| format!("it ends after {} bytes", text.len()))?;
    if rest != format!("crc32c {:08x}\n", crc32c(line.as_bytes())) {
        return Err("its checksum is wrong".to_owned());
    }
    let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let missing = |key: &str| format!("it has no {key}");
    let number = |key: &str| value[key].as_u64().ok_or_else(|| missing(key));
    let text = |key: &str| {
        let text = value[key].as_str().ok_or_else(|| missing(key))?;
        Ok::<_, String>(text.to_owned())
    };
    let version = number("version")?;
    if version != VERSION {
        return Err(format!("it has version {version}; this is {VERSION}"));
    }
    let hash = u64::from_str_radix(&text("fingerprint")?, 16);
    let length = u16::try_from(number("fingerprint_length")?);
    let purpose = Purpose {
        topic: text("topic")?,
        cluster_id: text("cluster_id")?,
        file: text("file")?,
    };
    let place = Place {
        id: FileId {
            device: number("device")?,
            inode: number("inode")?,
        },
        fingerprint: Fingerprint {
            hash: hash.map_err(|_| missing("fingerprint"))?,
            length: length.map_err(|_| missing("fingerprint_length"))?,
        },
        position: number("position")?,
    };
    Ok((purpose, place))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::failed(format!("cannot {what} the state file {path}: {error}"))
        .hint("--state names another one.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose(topic: &str) -> Purpose {
        Purpose {
            topic: topic.into(),
            cluster_id: "c".into(),
            file: "/var/log/ü.log".into(),
        }
    }

    fn place(position: u64) -> Place {
        Place {
            id: FileId {
                device: u64::MAX,
                inode: 7,
            },
            fingerprint: Fingerprint {
                length: 1024,
                hash: u64::MAX - 5,
            },
            position,
        }
    }

    fn message(failure: Failure) -> String {
        let Failure::Told { message, hint, .. } = failure else {
            panic!("it is to be told");
        };
        format!("{message} {}", hint.unwrap_or_default())
    }

    #[test]
    fn a_place_comes_back_and_only_for_its_purpose() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/state");
        let (state, found) = StateFile::open(&path, purpose("t")).unwrap();
        assert_eq!(found, None);
        let used = message(StateFile::open(&path, purpose("t")).unwrap_err());
        assert!(used.contains("another skein produce uses"), "{used}");
        state.save(place(5)).unwrap();
        state.save(place(9)).unwrap();
        drop(state);
        let (_, found) = StateFile::open(&path, purpose("t")).unwrap();
        assert_eq!(found, Some(place(9)));
        let other = message(StateFile::open(&path, purpose("u")).unwrap_err());
        assert!(other.contains("is for topic t, not u"), "{other}");
        let cluster = Purpose {
            cluster_id: "d".into(),
            ..purpose("t")
        };
        let other = message(StateFile::open(&path, cluster).unwrap_err());
        assert!(other.contains("is for cluster c, not d"), "{other}");
    }

    #[test]
    fn every_damage_is_seen_and_has_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let whole = encode(&purpose("t"), place(5)).into_bytes();
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            message(StateFile::open(&path, purpose("t")).unwrap_err())
        };
        for length in 0..whole.len() {
            let told = refused(&whole[..length]);
            assert!(told.contains("is damaged"), "{length}: {told}");
            assert!(told.contains("delete it"), "{told}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            refused(&damaged);
        }
        let newer = String::from_utf8(whole).unwrap();
        let newer = newer.lines().next().unwrap();
        let newer = newer.replace("\"version\":1", "\"version\":2");
        let newer = format!("{newer}\ncrc32c {:08x}\n", crc32c(newer.as_bytes()));
        let told = refused(newer.as_bytes());
        assert!(told.contains("it has version 2; this is 1"), "{told}");
    }

    #[test]
    fn a_log_has_a_state_for_each_topic() {
        let one = default_path(Path::new("/var/log/a.log"), "t").unwrap();
        let two = default_path(Path::new("/var/log/a.log"), "u").unwrap();
        assert_ne!(one, two);
        let name = one.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("a.log-"), "{name}");
    }
}
