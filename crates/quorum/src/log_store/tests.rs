//! openraft's own suite for stores, on a real directory.

use std::path::Path;
use std::time::Duration;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use skein_env::real::{RealOptions, RealWorld};
use tempfile::TempDir;

use super::*;
use crate::log_files::recover;
use crate::snapshot_file::SnapshotFile;
use crate::state_machine::StateMachine;

struct Builder;

/// Keeps directory and threads until a test of the suite is over.
struct Guard {
    _directory: TempDir,
    world: Option<RealWorld>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A runtime must not be dropped on a thread of another one.
        let world = self.world.take();
        std::thread::spawn(move || world.map(|world| world.shutdown(Duration::from_secs(5))));
    }
}

fn store(env: &Env, directory: &Path) -> (LogStore, StateMachine) {
    let recovered = recover(Arc::clone(&env.disk), directory).unwrap();
    let (store, _closed) = LogStore::new(env, recovered, None);
    let file = SnapshotFile::new(Arc::clone(&env.disk), directory);
    (store, StateMachine::new(env.clone(), file, None, None))
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let world = RealWorld::new(RealOptions {
            network_threads: 1,
            io_threads: 1,
        })
        .unwrap();
        let (store, state_machine) = store(&world.env(), directory.path());
        let guard = Guard {
            _directory: directory,
            world: Some(world),
        };
        Ok((guard, store, state_machine))
    }
}

#[test]
fn it_passes_openrafts_suite() {
    TypeConfig::run(Suite::test_all(Builder)).unwrap();
}
