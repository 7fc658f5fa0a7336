//! `skein log`: looks at the files of a node, without a node.
//!
//! Input: paths of segments, indexes, checkpoints, of a partition's directory or of `log.dirs`.
//! Output: what is in them, how an offset is found there, what is wrong with them.
//!
//! Invariants: nothing is written and nothing is locked, so that a node may run meanwhile; memory
//! is bounded whatever a file claims (`storage/log/inspect.rs`).

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use skein_env::real::RealDisk;
use skein_env::{Disk, EntryKind};
use skein_storage::StorageError;
use skein_storage::inspect::{PartitionFiles, is_log_directory, partitions};

use crate::failure::Failure;

mod dump;
mod dump_small;
mod locate;
mod verify;

/// Bytes of a batch, packed and unpacked, that are taken into memory.
const UNPACKED_MAX_BYTES: usize = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  skein log dump skein-data/orders-0 --records       what is in the files
  skein log locate skein-data/orders-0 --offset 42   where a record lies
  skein log verify skein-data                        whether the files agree

'skein log COMMAND --help' has more examples.";

const DUMP_EXAMPLES: &str = "\
Examples:
  skein log dump skein-data/orders-0                       every file of the partition
  skein log dump skein-data/orders-0/00000000000000000000.log --records
  skein log dump skein-data/orders-0 --from 1200 --count 1 --records
  skein log dump skein-data/orders-0/00000000000000000000.index
  skein log dump skein-data/recovery-point-offset-checkpoint
  skein log dump skein-data/orders-0 --records --json | jq -r .value

With --json each line is one object; \"kind\" says what it is. Records that 'skein record redact'
hides from readers are shown: this is what the disk holds.";

const LOCATE_EXAMPLES: &str = "\
Examples:
  skein log locate skein-data/orders-0 --offset 1200
  skein log locate skein-data/orders-0 --timestamp 15m           a quarter of an hour ago
  skein log locate skein-data/orders-0 --timestamp 2026-01-31T12:00:00Z --json";

const VERIFY_EXAMPLES: &str = "\
Examples:
  skein log verify skein-data                              every partition of a node
  skein log verify skein-data/orders-0 --records           unpack every batch too
  skein log verify skein-data --json | jq '.findings[].path'

The exit code is 1 if something is damaged. A note is something that the next start mends by itself,
such as a torn batch behind the recovery point. A node may go on writing meanwhile.";

/// Arguments of `skein log`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogArguments {
    #[command(subcommand)]
    command: LogCommand,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print what is in segments, indexes, snapshots and checkpoints.
    #[command(after_help = DUMP_EXAMPLES)]
    Dump(dump::DumpArguments),
    /// Show how an offset or a timestamp is found.
    #[command(after_help = LOCATE_EXAMPLES)]
    Locate(locate::LocateArguments),
    /// Check checksums, offsets, indexes, epochs and checkpoints against each other.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(verify::VerifyArguments),
}

/// Runs `skein log`.
pub(crate) fn run(arguments: LogArguments) -> Result<(), Failure> {
    let json = arguments.json;
    match arguments.command {
        LogCommand::Dump(dump) => dump::run(&dump, json),
        LogCommand::Locate(locate) => locate::run(&locate, json),
        LogCommand::Verify(verify) => verify::run(&verify, json),
    }
}

/// What a path is.
enum Place {
    File(PathBuf),
    Partition(PartitionFiles),
    /// A log directory, with the directories of its partitions.
    LogDirectory(PathBuf, Vec<PathBuf>),
}

fn place(path: &Path) -> Result<Place, Failure> {
    let no_such = |error| Failure::wrong(format!("cannot read {}: {error}", path.display()));
    // A directory's name says which partition it is, and its parent has the checkpoints.
    let path = &std::path::absolute(path).map_err(no_such)?;
    match RealDisk.stat(path).map_err(no_such)? {
        EntryKind::File(_) => Ok(Place::File(path.clone())),
        EntryKind::Other => Err(Failure::wrong(format!(
            "{} is neither a file nor a directory",
            path.display()
        ))),
        EntryKind::Directory if is_log_directory(&RealDisk, path)? => Ok(Place::LogDirectory(
            path.clone(),
            partitions(&RealDisk, path)?,
        )),
        EntryKind::Directory => Ok(Place::Partition(PartitionFiles::list(&RealDisk, path)?)),
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let is_permission = matches!(
            &error,
            StorageError::Io { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied
        );
        let failure = Self::failed(error.to_string());
        if is_permission {
            failure.hint("Run it as the user that runs the node.")
        } else {
            failure.hint(format!("What helps: {}.", error.remedy()))
        }
    }
}
