//! Several processes one after the other on the same disk, and on the same page cache.
//!
//! Input: faults, kills and power cuts. Output: as in the parent.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use skein_env::sim::Operation;

use super::*;

/// What a process may do that starts on the page cache of one whose flush failed.
fn second_lives() -> Vec<Vec<Step>> {
    use Step::{Append, Checkpoint, DeleteRecords, Flush, Retain, Roll, ShutDown, Truncate};
    let all = Flush(FlushScope::All);
    let sealed = Flush(FlushScope::Sealed);
    vec![
        vec![all.clone(), Checkpoint],
        vec![Append(vec![2, 3]), all.clone(), Checkpoint, Append(vec![1])],
        vec![all.clone(), Append(vec![3]), all.clone()],
        vec![sealed.clone(), Checkpoint, Append(vec![2])],
        vec![Append(vec![5, 5, 5]), Roll, sealed, Checkpoint],
        vec![ShutDown],
        vec![Append(vec![1]), ShutDown],
        vec![Truncate(5), Append(vec![2]), all.clone(), Checkpoint],
        vec![DeleteRecords(3), Retain(1500), all.clone(), Checkpoint],
        vec![Append(vec![2]), Truncate(4), ShutDown, Append(vec![2]), all],
    ]
}

/// The disk fails the call; the process is killed, another one starts on its page cache and goes
/// on; then the power is cut.
fn strike_kill_and_cut(script: &[Step], call: u64, life: &[Step], seed: u64) {
    let world = SimWorld::new(seed);
    let root = Path::new("/data");
    let mut story = Story::new();
    let disk = world.node(NODE).disk;
    world.disk(NODE).fail_after(call, Fault::Eio);
    let _ = tell(&disk, root, &mut story, script);
    if story.is_truncating {
        return;
    }
    world.disk(NODE).heal();
    world.kill(NODE);
    let disk = world.node(NODE).disk;
    assert!(tell(&disk, root, &mut story, life).is_ok());
    world.power_cut(NODE);
    let disk = world.node(NODE).disk;
    let flushed = story.lose_power();
    assert!(go_on(&disk, root, &mut story, flushed).is_ok());
}

#[test]
fn what_was_flushed_after_a_failed_flush_and_a_kill_survives_a_power_cut() {
    let script = script();
    for call in 0..calls(&script) {
        for (number, life) in second_lives().iter().enumerate() {
            let seed = call * 100 + number as u64;
            let struck = std::panic::catch_unwind(|| {
                strike_kill_and_cut(&script, call, life, seed);
            });
            assert!(struck.is_ok(), "EIO at call {call}, then {life:?}");
        }
    }
}

/// The disk fails call `call` of an opening; the same process opens the log again, with the same
/// directory, and flushes. Returns whether the opening was as short as that.
fn reopen_and_cut(call: u64, fault: Fault) -> bool {
    let world = SimWorld::new(call);
    let (root, mut story) = (Path::new("/data"), Story::new());
    let disk = world.node(NODE).disk;
    let limits = CacheLimits::default();
    let directory = LogDirectory::open(Arc::clone(&disk), root, limits).unwrap();
    world.disk(NODE).fail_after(call, fault);
    let has_failed = Run::open_in(&directory, &mut story, 0).is_err();
    world.disk(NODE).heal();
    let Ok(mut run) = Run::open_in(&directory, &mut story, 0) else {
        panic!("the log does not open");
    };
    assert!(run.append(&[2, 1]).is_ok());
    assert!(run.flush(FlushScope::All).is_ok());
    assert_eq!(run.story.flushed, run.story.written);
    drop((run, directory));
    world.power_cut(NODE);
    let flushed = story.lose_power();
    assert!(go_on(&world.node(NODE).disk, root, &mut story, flushed).is_ok());
    !has_failed
}

#[test]
fn what_was_flushed_after_an_opening_that_failed_survives_a_power_cut() {
    // Within so many calls every opening of a new log has ended.
    const CALLS_MAX: u64 = 100;
    for fault in [Fault::Eio, Fault::NoSpace] {
        let ended = (0..CALLS_MAX).find(|call| {
            let struck = std::panic::catch_unwind(|| reopen_and_cut(*call, fault));
            struck.unwrap_or_else(|_| panic!("{fault:?} at call {call} of the opening"))
        });
        assert!(ended.is_some_and(|calls| calls > 5), "{ended:?}");
    }
}

/// Several processes one after the other on one disk, each with a fault, each ended by a kill or a
/// power cut.
fn live_often(seed: u64) {
    let world = SimWorld::new(seed);
    let mut rng = world.rng("lives");
    let root = Path::new("/data");
    let (mut story, mut at_least) = (Story::new(), 0);
    for _ in 0..6 {
        let disk = world.node(NODE).disk;
        let faults = [Fault::Kill, Fault::PowerCut, Fault::Eio, Fault::Eio];
        let kind = usize::try_from(rng.below(4)).unwrap();
        let fault = faults[kind];
        let mut script = random_script(&mut rng);
        script.truncate(usize::try_from(rng.between(1, 12)).unwrap());
        // The opening itself is not struck: what it does to a story that ends there is told by the
        // other tests.
        let opened = Run::open(&disk, root, &mut story, at_least);
        assert!(opened.is_ok(), "the log does not open");
        drop(opened);
        if kind == 3 {
            world
                .disk(NODE)
                .fail_path(".log", Operation::Sync, fault, 1);
        } else {
            world.disk(NODE).fail_after(rng.below(300), fault);
        }
        let ended = tell(&disk, root, &mut story, &script);
        world.disk(NODE).heal();
        if story.is_truncating {
            return;
        }
        let has_died = matches!(ended, Err(End::Died));
        let is_power_cut = if has_died {
            fault == Fault::PowerCut
        } else {
            rng.chance(2)
        };
        if !has_died && is_power_cut {
            world.power_cut(NODE);
        } else if !has_died {
            world.kill(NODE);
        }
        at_least = if is_power_cut {
            story.lose_power()
        } else {
            story.written
        };
    }
}

/// Seeds of [`live_often`].
const LIVES: u64 = 400;

#[test]
fn what_was_promised_survives_many_lives() {
    let seeds = std::env::var("STORAGE_CRASH_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(LIVES) {
        let lived = std::panic::catch_unwind(|| live_often(seed));
        assert!(lived.is_ok(), "seed {seed}");
    }
}
