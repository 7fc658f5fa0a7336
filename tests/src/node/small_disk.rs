//! A small tmpfs as a node's data directory, in a mount namespace of its own.
//!
//! Input: a directory and a size. Output: commands that see the tmpfs there.
//!
//! A process that only sleeps holds the namespace, so that what is written outlives a node that is
//! killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::guardian::Guarded;

const MOUNT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The namespace; it goes when this is dropped.
pub(super) struct SmallDisk {
    holder: Guarded,
}

impl SmallDisk {
    pub(super) fn mount(directory: &Path, bytes: usize) -> Self {
        fs::create_dir_all(directory).expect("create the data directory");
        let script = format!("mount -t tmpfs -o size={bytes} skein \"$0\" && exec sleep infinity");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--map-root-user", "sh", "-c", &script])
            .arg(directory)
            .stdin(Stdio::null());
        let holder = Guarded::spawn(&mut command).expect("run unshare");
        let disk = Self { holder };
        let asked = Instant::now();
        while !disk.is_mounted(directory) {
            assert!(
                !disk.holder.has_ended() && asked.elapsed() < MOUNT_TIMEOUT,
                "cannot mount a tmpfs at {}",
                directory.display()
            );
            std::thread::sleep(POLL_INTERVAL);
        }
        disk
    }

    /// `command` in the namespace; the process id stays that of the command.
    pub(super) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .arg(format!("--target={}", self.holder.id()))
            .args(["--user", "--mount", "--preserve-credentials", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        inside
    }

    pub(super) fn seen_from_outside(&self, directory: &Path) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/root{}",
            self.holder.id(),
            directory.display()
        ))
    }

    fn is_mounted(&self, directory: &Path) -> bool {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.holder.id()));
        let wanted = format!("skein {} tmpfs", directory.display());
        mounts.is_ok_and(|mounts| mounts.contains(&wanted))
    }
}
