//! Waits for something to happen to a log file.
//!
//! Input: the directory and the name of the log; what the kernel tells of the directory. Output: a
//! wake-up when the file, or one whose name begins with its name, may have changed.
//!
//! The kernel does not tell of everything: not of changes on another machine of a network file
//! system, not of the target of a symbolic link elsewhere. So there is a wake-up at an interval
//! too, and where inotify is not to be had, nothing else.
//!
//! Source: inotify(7).

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// Between two looks at a file that is written to all the time.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of what the kernel tells that are taken at once.
const EVENTS_BYTES: usize = 4096;
/// Events that are taken before the log is looked at in any case.
const EVENTS_MAX: usize = 10_000;

/// Waits for something to happen to a log file.
#[derive(Debug)]
pub(crate) struct Wakes {
    directory: PathBuf,
    name: Vec<u8>,
    interval: Duration,
    events: Option<AsyncFd<OwnedFd>>,
}

impl Wakes {
    pub(crate) fn new(directory: &Path, name: &OsStr, interval: Duration) -> Self {
        let mut wakes = Self {
            directory: directory.to_owned(),
            name: name.as_bytes().to_vec(),
            interval,
            events: None,
        };
        // From before the first look on, so that nothing happens between the two.
        wakes.listen();
        wakes
    }

    /// Returns when something may have happened, and at the latest after the interval.
    pub(crate) async fn next(&mut self) {
        if self.events.is_none() {
            // The directory may have come meanwhile.
            self.listen();
        }
        // Its end is the wake-up at the interval.
        let _ = tokio::time::timeout(self.interval, self.told()).await;
        tokio::time::sleep(PAUSE.min(self.interval)).await;
    }

    fn listen(&mut self) {
        self.events = listen(&self.directory).ok();
    }

    /// Waits until the kernel tells of the log file.
    async fn told(&mut self) {
        loop {
            let Some(events) = &self.events else {
                return std::future::pending().await;
            };
            let Ok(mut ready) = events.readable().await else {
                self.events = None;
                continue;
            };
            match drain(events.get_ref(), &self.name) {
                Told::Log => return,
                Told::Others => ready.clear_ready(),
                Told::NoMore => self.events = None,
            }
        }
    }
}

/// Has the kernel tell of what happens in a directory.
#[expect(
    deprecated,
    reason = "unsound for types whose descriptor may change or close early: OwnedFd's does not"
)]
fn listen(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let what = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ATTRIB
        | WatchFlags::ONLYDIR;
    inotify::add_watch(&events, directory, what)?;
    AsyncFd::new(events)
}

/// What the kernel told of.
enum Told {
    /// The log.
    Log,
    /// Other files.
    Others,
    /// That it tells no more: the directory is gone.
    NoMore,
}

/// Takes all that the kernel has to tell.
fn drain(events: &OwnedFd, name: &[u8]) -> Told {
    let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
    let mut reader = inotify::Reader::new(events, &mut buffer);
    let mut is_log = false;
    for _ in 0..EVENTS_MAX {
        match reader.next() {
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => return Told::NoMore,
            // Without a name it is about the directory, or there was too much to tell.
            Ok(event) => {
                is_log |= event
                    .file_name()
                    .is_none_or(|other| other.to_bytes().starts_with(name));
            }
            Err(Errno::AGAIN) if is_log => return Told::Log,
            Err(Errno::AGAIN) => return Told::Others,
            Err(Errno::INTR) => {}
            Err(_) => return Told::NoMore,
        }
    }
    Told::Log
}
