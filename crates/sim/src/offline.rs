//! Looks at the node's disk while no node runs.
//!
//! Input: the log directory, after a stop or a crash. Output: every index entry compared with the
//! log.
//!
//! Invariant: what is opened is what the next start of the node would open.
//!
//! Source: Kafka's `kafka-dump-log --index-sanity-check`.

use std::path::Path;
use std::sync::Arc;

use skein_env::sim::SimWorld;
use skein_storage::{CacheLimits, Log, LogConfig, LogDirectory, StorageError};

use crate::history::Actor;
use crate::node::{LOG_DIR, NODE};
use crate::plan::Plan;
use crate::witness::Witness;

/// Opens every log and compares its indexes with it; `was_clean`: the node was stopped in order, so
/// that nothing may need a repair.
pub(crate) fn check(world: &SimWorld, plan: &Plan, witness: &Witness, was_clean: bool) {
    if let Err(text) = check_logs(world, plan, was_clean) {
        witness.accuse(Actor::Reader, "indexes_agree", None, text);
    }
    world.kill(NODE);
}

fn check_logs(world: &SimWorld, plan: &Plan, was_clean: bool) -> Result<(), String> {
    let env = world.node(NODE);
    let said = |error: StorageError| error.to_string();
    let directory = LogDirectory::open(
        Arc::clone(&env.disk),
        Path::new(LOG_DIR),
        CacheLimits::default(),
    );
    let directory = directory.map_err(said)?;
    let (partitions, _) = directory.list().map_err(said)?;
    for partition in partitions {
        if !plan
            .topics
            .iter()
            .any(|topic| topic.name == partition.topic.as_str())
        {
            continue;
        }
        let now = env.clock.now();
        let opened = Log::open(&directory, &partition, None, LogConfig::default(), now);
        let opened = opened.map_err(said)?;
        if was_clean && !opened.recovery.was_clean {
            return Err(format!(
                "{partition} was closed, but needs {:?}",
                opened.recovery
            ));
        }
        opened.log.view().check_indexes().map_err(said)?;
    }
    Ok(())
}
