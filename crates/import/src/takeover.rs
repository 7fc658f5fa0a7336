//! The takeover: from Kafka's directory to Skein's.
//!
//! ```text
//!   Kafka's                 half-way                     Skein's
//!   ──────────────────────  ───────────────────────────  ─────────────────────────
//!   __cluster_metadata-0/   kafka-taken-over/            kafka-taken-over/
//!     … skein-import/         … skein-import/              …
//!       (built, flushed)      meta.properties, …         metadata/
//!                       └─ one rename ─┘          └─ the last ─┘
//! ```
//!
//! Input: a directory, what the operator wants. Output: the directory as Skein's, or as it was.
//!
//! Invariants, checked by `tests/takeover.rs`, which ends the process at every disk call:
//! - up to the one rename Kafka starts on the directory: what is built meanwhile lies where it does
//!   not look;
//! - behind it Kafka refuses the directory, because of a name that is no partition's, and so does
//!   `skein serve`, because the metadata are missing, until the last rename;
//! - a second import finds out by the names how far the first one came, and starts over or goes on;
//! - the directory is locked all the time, for Kafka too.
//!
//! Source: own design; `rename(2)`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skein_config::BrokerConfig;
use skein_controller::SUPPORTED_FEATURES;
use skein_env::{Disk, Env, LockGuard};
use skein_quorum::{Controller, FoundingImage, QuorumOptions};
use skein_storage::inspect::{has_clean_shutdown, read_small_file};
use skein_storage::{META_PROPERTIES, MetaProperties, StorageError, lock_directory};
use skein_types::{ClusterId, ParseClusterIdError, Uuid};

use crate::decide::{self, Choice, Node, Plan};
use crate::metadata_log::{self, MetadataLog};
use crate::survey::survey;
use crate::{Finding, ImportError, Subject, Weight};

mod steps;

use steps::Places;
pub use steps::TAKEN_OVER;

/// What the operator wants.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Kafka's log directory.
    pub directory: PathBuf,
    /// `metadata.log.dir`; by default `metadata` in the directory.
    pub metadata_log_dir: Option<PathBuf>,
    /// Topics that stay behind.
    pub leave_out: BTreeSet<String>,
    /// Whether other replicas and controllers are given up.
    pub is_single_node: bool,
    /// Whether users, ACLs and tokens may stay behind.
    pub without_security: bool,
    /// Whether only to tell.
    pub is_dry_run: bool,
}

/// What became of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is Skein's.
    TakenOver,
    /// It is Skein's: an earlier import had handed it over, and this one has finished it.
    Finished,
    /// It is as it was, and could be taken over.
    DryRun,
}

/// What was imported, or would be.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What became of the directory.
    pub outcome: Outcome,
    /// Kafka's cluster id, which stays.
    pub cluster_id: ClusterId,
    /// Kafka's node id, which stays.
    pub node_id: i32,
    /// Whether Kafka had stopped in order.
    pub was_clean: bool,
    /// Topics and partitions that are taken; 0 where an earlier import was finished.
    pub topics: usize,
    /// See `topics`.
    pub partitions: usize,
    /// Where Skein's metadata are.
    pub metadata_log_dir: PathBuf,
    /// What somebody should know.
    pub findings: Vec<Finding>,
}

/// What a look at the directory has found.
enum Found {
    /// It is Kafka's, and nothing stands against the takeover.
    Kafkas(Box<Kafkas>),
    /// An earlier import has handed it over.
    HalfWay(Owner),
}

/// Whose directory it is, and the lock on it.
struct Owner {
    cluster_id: ClusterId,
    node_id: i32,
    _lock: Box<dyn LockGuard>,
}

struct Kafkas {
    owner: Owner,
    raft_id: u64,
    was_clean: bool,
    plan: Plan,
}

/// Takes over a directory.
///
/// # Errors
/// [`ImportError`]; Kafka can then still be started, or a second import goes on.
pub async fn import(env: &Env, options: &ImportOptions) -> Result<Imported, ImportError> {
    let places = Places::of(options);
    let look = {
        let (env, places, options) = (env.clone(), places.clone(), options.clone());
        move || look(&env, &places, &options)
    };
    match env.offload("look at the directory", look).await {
        None => Err(ImportError::Stopped),
        Some(found) => match found? {
            Found::HalfWay(owner) => finish(env, options, &places, owner).await,
            Found::Kafkas(kafkas) => take_over(env, options, &places, *kafkas).await,
        },
    }
}

async fn take_over(
    env: &Env,
    options: &ImportOptions,
    places: &Places,
    kafkas: Kafkas,
) -> Result<Imported, ImportError> {
    let Kafkas {
        owner,
        raft_id,
        was_clean,
        plan,
    } = kafkas;
    let imported = Imported {
        outcome: if options.is_dry_run {
            Outcome::DryRun
        } else {
            Outcome::TakenOver
        },
        cluster_id: owner.cluster_id,
        node_id: owner.node_id,
        was_clean,
        topics: plan.topics,
        partitions: plan.partitions,
        metadata_log_dir: places.metadata.clone(),
        findings: plan.findings,
    };
    if options.is_dry_run {
        return Ok(imported);
    }
    let clear = {
        let (disk, places) = (Arc::clone(&env.disk), places.clone());
        move || steps::clear(&*disk, &places)
    };
    let cleared = env.offload("clear", clear).await;
    cleared.ok_or(ImportError::Stopped)??;
    let image = FoundingImage {
        cluster_id: owner.cluster_id,
        raft_id,
        records: plan.records,
    };
    let quorum = QuorumOptions {
        directory: places.staged_before(),
        config: Arc::new(BrokerConfig::default()),
        features: SUPPORTED_FEATURES
            .iter()
            .map(|feature| (feature.name.to_owned(), feature.max_level))
            .collect(),
        audit: None,
    };
    let controller = Controller::found(env.clone(), quorum, image).await?;
    controller.shutdown().await?;
    let hand_over = {
        let (disk, places, aside) = (Arc::clone(&env.disk), places.clone(), plan.aside);
        move || {
            steps::hand_over(&*disk, &places, &aside)?;
            steps::finish(&*disk, &places)
        }
    };
    let handed_over = env.offload("hand over", hand_over).await;
    handed_over.ok_or(ImportError::Stopped)??;
    drop(owner);
    Ok(imported)
}

/// Goes on where an earlier import was ended.
async fn finish(
    env: &Env,
    options: &ImportOptions,
    places: &Places,
    owner: Owner,
) -> Result<Imported, ImportError> {
    if options.is_dry_run {
        return Err(ImportError::unfit(
            &places.taken_over,
            "an earlier import was ended behind the point of no return",
            "run the import again without --dry-run: it finishes the work",
        ));
    }
    let (disk, task_places) = (Arc::clone(&env.disk), places.clone());
    let finish = move || steps::finish(&*disk, &task_places);
    let finished = env.offload("finish", finish).await;
    let metadata_log_dir = finished.ok_or(ImportError::Stopped)??;
    Ok(Imported {
        outcome: Outcome::Finished,
        cluster_id: owner.cluster_id,
        node_id: owner.node_id,
        was_clean: true,
        topics: 0,
        partitions: 0,
        metadata_log_dir,
        findings: Vec::new(),
    })
}

/// Finds out what the directory is, and decides what becomes of it. Writes nothing but the lock
/// file.
fn look(env: &Env, places: &Places, options: &ImportOptions) -> Result<Found, ImportError> {
    let disk = &*env.disk;
    let meta = read_meta_properties(disk, &places.directory)?;
    let lock = lock_directory(disk, &places.directory).map_err(|error| match error {
        StorageError::Locked { path } => ImportError::unfit(
            &path,
            "a process holds this lock: Kafka or Skein runs on the directory",
            "stop it first",
        ),
        error => error.into(),
    })?;
    let owner = Owner {
        cluster_id: meta.cluster_id,
        node_id: meta.node_id,
        _lock: lock,
    };
    if is_there(disk, &places.taken_over)? {
        if is_there(disk, &places.plan_after())? {
            return Ok(Found::HalfWay(owner));
        }
        let what = "the directory was taken over from Kafka before, and is Skein's";
        return Err(ImportError::unfit(
            &places.taken_over,
            what,
            "run skein serve",
        ));
    }
    steps::check_places(disk, places)?;
    let was_clean = has_clean_shutdown(disk, &places.directory)?;
    let log = metadata_log::read(disk, &places.kafka, was_clean)?;
    let survey = survey(disk, &places.directory, was_clean)?;
    let node = Node {
        id: meta.node_id,
        directory_id: meta.directory_id,
        raft_id: env.rng.next_u64().max(1),
        was_clean,
    };
    let choice = Choice {
        leave_out: options.leave_out.clone(),
        is_single_node: options.is_single_node,
        without_security: options.without_security,
    };
    let config = BrokerConfig::default();
    let mut plan = decide::decide(&log.metadata, &survey, &node, &choice, &config);
    plan.findings.extend(notes(&log, was_clean));
    let is_refused = |finding: &Finding| finding.weight == Weight::Refused;
    if plan.findings.iter().any(is_refused) {
        return Err(ImportError::Refused(plan.findings));
    }
    Ok(Found::Kafkas(Box::new(Kafkas {
        owner,
        raft_id: node.raft_id,
        was_clean,
        plan,
    })))
}

fn notes(log: &MetadataLog, was_clean: bool) -> Vec<Finding> {
    let note = |subject, what: String| Finding::new(Weight::Note, subject, what, "");
    let mut notes = Vec::new();
    if !was_clean {
        let what = "Kafka did not stop cleanly; the first start recovers the logs, as after a \
                    crash";
        notes.push(note(Subject::Directory, what.to_owned()));
    }
    if log.torn_bytes > 0 {
        let what = format!(
            "it ends at offset {}; {} bytes behind it are of a write that never ended",
            log.end_offset, log.torn_bytes
        );
        notes.push(note(Subject::Metadata, what));
    }
    if log.has_open_transaction {
        let what = "its last transaction did not end, and counts for nothing, as in Kafka";
        notes.push(note(Subject::Metadata, what.to_owned()));
    }
    notes
}

/// What `meta.properties` must say.
struct Meta {
    cluster_id: ClusterId,
    node_id: i32,
    directory_id: Option<Uuid>,
}

fn read_meta_properties(disk: &dyn Disk, directory: &Path) -> Result<Meta, ImportError> {
    let path = directory.join(META_PROPERTIES);
    let unfit = |what: String, remedy: &str| ImportError::unfit(&path, what, remedy);
    let Some(content) = read_small_file(disk, &path)? else {
        let what = "there is no such file, so this is no log directory of Kafka".to_owned();
        let remedy = "name the directory that log.dirs of Kafka's server.properties names";
        return Err(unfit(what, remedy));
    };
    let is_version_0 = |line: &str| line.replace(' ', "") == "version=0";
    if String::from_utf8_lossy(&content).lines().any(is_version_0) {
        let what = "version 0: Kafka ran with ZooKeeper when it wrote the directory".to_owned();
        return Err(unfit(
            what,
            "migrate to KRaft with Kafka 3.9, then upgrade to Kafka 4.1",
        ));
    }
    let Some(meta) = MetaProperties::read(disk, directory)? else {
        return Err(unfit("the file has gone".to_owned(), "is Kafka running?"));
    };
    let (Some(cluster), Some(node_id)) = (&meta.cluster_id, meta.node_id) else {
        let what = "it names no cluster.id, or no node.id".to_owned();
        return Err(unfit(what, "restore it from a backup"));
    };
    let cluster_id = cluster.parse().map_err(|error: ParseClusterIdError| {
        let remedy = "this directory cannot be taken over; copy the topics with a client";
        unfit(format!("cluster.id {cluster:?}: {error}"), remedy)
    })?;
    Ok(Meta {
        cluster_id,
        node_id: node_id.get(),
        directory_id: meta.directory_id,
    })
}

/// Whether there is something with this name.
fn is_there(disk: &dyn Disk, path: &Path) -> Result<bool, ImportError> {
    match disk.stat(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ImportError::io("stat", path, source)),
    }
}
