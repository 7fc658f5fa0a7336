//! The steps of a takeover that change names.
//!
//! ```text
//!   1  <log>/__cluster_metadata-0/skein-import.plan   written: what steps 3 to 5 have to do
//!   2  __cluster_metadata-0 ─► kafka-taken-over       the point of no return
//!   3  directories that stay behind ─► kafka-taken-over/left-out/
//!   4  kafka-taken-over/meta.properties               a copy; Skein goes on with the original
//!   5  skein-import ─► metadata                       from here on skein serve starts
//!   6  skein-import.plan                              removed
//! ```
//!
//! Input: the places, the names that stay behind. Output: the directory, one step after the other.
//!
//! Invariant: each step is durable before the next begins, and each can be repeated.
//!
//! Source: own design.

use std::path::{Path, PathBuf};

use skein_env::{Disk, EntryKind};
use skein_quorum::IDENTITY_FILE;
use skein_storage::inspect::read_small_file;
use skein_storage::{META_PROPERTIES, create_directory, replace_small_file};

use super::is_there;
use crate::ImportError;
use crate::metadata_log::METADATA_LOG;
use crate::takeover::ImportOptions;

/// Where Kafka's own files lie after a takeover, in the log directory.
pub const TAKEN_OVER: &str = "kafka-taken-over";
/// Skein's metadata before they have their name.
const STAGED: &str = "skein-import";
/// Skein's metadata, unless another place is named.
const METADATA: &str = "metadata";
/// What is still to be done.
const PLAN: &str = "skein-import.plan";
/// Where topics lie that stay behind.
const LEFT_OUT: &str = "left-out";

/// First line of a plan.
const PLAN_VERSION: &str = "version=1";
const PLAN_METADATA: &str = "metadata=";
const PLAN_ASIDE: &str = "aside=";

/// Where things are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) directory: PathBuf,
    /// Kafka's metadata log.
    pub(super) kafka: PathBuf,
    /// Where it goes.
    pub(super) taken_over: PathBuf,
    /// Where Skein's metadata go.
    pub(super) metadata: PathBuf,
}

impl Places {
    pub(super) fn of(options: &ImportOptions) -> Self {
        let directory = options.directory.clone();
        let by_default = directory.join(METADATA);
        Self {
            kafka: directory.join(METADATA_LOG),
            taken_over: directory.join(TAKEN_OVER),
            metadata: options.metadata_log_dir.clone().unwrap_or(by_default),
            directory,
        }
    }

    /// Where Skein's metadata are built: in the file system where they stay, and where Kafka does
    /// not look.
    pub(super) fn staged_before(&self) -> PathBuf {
        self.staged(&self.metadata, &self.kafka)
    }

    pub(super) fn plan_after(&self) -> PathBuf {
        self.taken_over.join(PLAN)
    }

    fn staged(&self, metadata: &Path, within: &Path) -> PathBuf {
        if metadata == self.directory.join(METADATA) {
            return within.join(STAGED);
        }
        let mut name = metadata.file_name().unwrap_or_default().to_os_string();
        name.push(".");
        name.push(STAGED);
        metadata.with_file_name(name)
    }
}

/// Checks that Kafka's metadata log is there, and that Skein's have room.
pub(super) fn check_places(disk: &dyn Disk, places: &Places) -> Result<(), ImportError> {
    let identity = places.directory.join(METADATA).join(IDENTITY_FILE);
    if is_there(disk, &identity)? {
        let what = "the directory is Skein's already";
        return Err(ImportError::unfit(&identity, what, "run skein serve"));
    }
    if !is_there(disk, &places.kafka)? {
        let what = "there is no metadata log of Kafka";
        let remedy = "if Kafka's metadata.log.dir is another directory, move __cluster_metadata-0 \
                      here; if Kafka never ran, start Skein on an empty directory";
        return Err(ImportError::unfit(&places.kafka, what, remedy));
    }
    if is_there(disk, &places.metadata)? {
        let what = "Skein's metadata are to be there, and something is there already";
        let remedy = "name a directory that does not exist yet";
        return Err(ImportError::unfit(&places.metadata, what, remedy));
    }
    Ok(())
}

/// Removes what an earlier import built and did not hand over.
pub(super) fn clear(disk: &dyn Disk, places: &Places) -> Result<(), ImportError> {
    let staged = places.staged_before();
    if is_there(disk, &staged)? {
        disk.remove_directory(&staged)
            .map_err(|source| ImportError::io("remove the directory", &staged, source))?;
        sync_parent(disk, &staged)?;
    }
    Ok(())
}

/// Steps 1 and 2.
pub(super) fn hand_over(
    disk: &dyn Disk,
    places: &Places,
    aside: &[String],
) -> Result<(), ImportError> {
    let mut plan = format!("{PLAN_VERSION}\n");
    let metadata = std::path::absolute(&places.metadata)
        .map_err(|source| ImportError::io("find", &places.metadata, source))?;
    let is_default = places.metadata == places.directory.join(METADATA);
    let Some(metadata) = metadata.to_str().filter(|path| !path.contains('\n')) else {
        let what = "the name is not text of one line";
        return Err(ImportError::unfit(
            &places.metadata,
            what,
            "name another place",
        ));
    };
    if !is_default {
        plan += &format!("{PLAN_METADATA}{metadata}\n");
    }
    for name in aside {
        plan += &format!("{PLAN_ASIDE}{name}\n");
    }
    replace_small_file(disk, &places.kafka.join(PLAN), plan.as_bytes())?;
    rename(disk, &places.kafka, &places.taken_over)
}

/// Steps 3 to 6. Returns where Skein's metadata are.
pub(super) fn finish(disk: &dyn Disk, places: &Places) -> Result<PathBuf, ImportError> {
    // The name may not be durable yet, if it was made by a process that was killed.
    sync(disk, &places.directory)?;
    let (metadata, aside) = read_plan(disk, places)?;
    let staged = places.staged(&metadata, &places.taken_over);
    // Without it all but the last step is done, and names may be those of Skein's topics.
    if is_there(disk, &staged)? {
        set_aside(disk, places, &aside)?;
        rename(disk, &staged, &metadata)?;
    }
    sync_parent(disk, &metadata)?;
    if !matches!(disk.stat(&metadata), Ok(EntryKind::Directory)) {
        let what = "Skein's metadata are neither here nor where the import built them";
        let remedy = "give kafka-taken-over the name __cluster_metadata-0 again, and import anew";
        return Err(ImportError::unfit(&metadata, what, remedy));
    }
    let plan = places.plan_after();
    disk.remove_file(&plan)
        .map_err(|source| ImportError::io("remove", &plan, source))?;
    sync(disk, &places.taken_over)?;
    Ok(metadata)
}

/// Steps 3 and 4.
fn set_aside(disk: &dyn Disk, places: &Places, aside: &[String]) -> Result<(), ImportError> {
    let left_out = places.taken_over.join(LEFT_OUT);
    if !aside.is_empty() {
        create_directory(disk, &left_out)?;
    }
    for name in aside {
        let from = places.directory.join(name);
        if is_there(disk, &from)? {
            rename(disk, &from, &left_out.join(name))?;
        }
    }
    let meta = places.directory.join(META_PROPERTIES);
    if let Some(content) = read_small_file(disk, &meta)? {
        replace_small_file(disk, &places.taken_over.join(META_PROPERTIES), &content)?;
    }
    Ok(())
}

fn read_plan(disk: &dyn Disk, places: &Places) -> Result<(PathBuf, Vec<String>), ImportError> {
    let path = places.plan_after();
    let content = read_small_file(disk, &path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let mut lines = text.lines();
    let unknown = |line: &str| {
        let what = format!("{line:?} is not understood");
        ImportError::unfit(
            &path,
            what,
            "use the version of skein that began the import",
        )
    };
    match lines.next() {
        Some(PLAN_VERSION) => {}
        other => return Err(unknown(other.unwrap_or_default())),
    }
    let mut metadata = places.directory.join(METADATA);
    let mut aside = Vec::new();
    for line in lines {
        if let Some(place) = line.strip_prefix(PLAN_METADATA) {
            metadata = PathBuf::from(place);
        } else if let Some(name) = line.strip_prefix(PLAN_ASIDE) {
            aside.push(name.to_owned());
        } else {
            return Err(unknown(line));
        }
    }
    Ok((metadata, aside))
}

/// Renames, durably: the new name first, so that a power cut never leaves none.
fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), ImportError> {
    disk.rename(from, to)
        .map_err(|source| ImportError::io("rename", from, source))?;
    sync_parent(disk, to)?;
    sync_parent(disk, from)
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<(), ImportError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync(disk, parent),
        _ => sync(disk, Path::new(".")),
    }
}

fn sync(disk: &dyn Disk, directory: &Path) -> Result<(), ImportError> {
    disk.sync_directory(directory)
        .map_err(|source| ImportError::io("flush the directory", directory, source))
}
