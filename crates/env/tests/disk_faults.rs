//! The simulated disk keeps what it promised, and nothing else is sure.
//!
//! Input: seeds. Output: assertions on what is left after kills, power cuts and failing calls.
//!
//! Invariants checked here: those of `sim/disk/content.rs` and `sim/disk/names.rs`.
//!
//! Source: none.

#![cfg(feature = "sim")]
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skein_env::sim::{DiskSpeed, Fault, FaultPlan, Operation, SimRng, SimWorld, is_killed};
use skein_env::{Clock, Disk, EntryKind, File, OpenMode, Residency};

const NODE: &str = "node";

fn disk(world: &SimWorld) -> Arc<dyn Disk> {
    world.node(NODE).disk
}

fn write_all(file: &dyn File, bytes: &[u8], offset: u64) {
    let mut done = 0;
    while done < bytes.len() {
        done += file
            .write_at(&[IoSlice::new(&bytes[done..])], offset + done as u64)
            .unwrap();
    }
}

fn read_all(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn read_path(disk: &Arc<dyn Disk>, path: &str) -> Option<Vec<u8>> {
    match disk.open(Path::new(path), OpenMode::Read) {
        Ok(file) => Some(read_all(file.as_ref())),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            None
        }
    }
}

fn durable_file(disk: &Arc<dyn Disk>, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    write_all(file.as_ref(), bytes, 0);
    file.sync_data().unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    file
}

/// What may be in a file after a power cut: for each byte the values it has had since the last
/// flush, as bits. Values are below 64.
struct Model {
    bytes: Vec<u8>,
    possible: Vec<u64>,
    lengths: BTreeSet<usize>,
}

/// Only a zero: where the device holds nothing a page reads as zeros.
const ZERO: u64 = 1;

impl Model {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            possible: Vec::new(),
            lengths: BTreeSet::from([0]),
        }
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = self.bytes.len().max(at + bytes.len());
        self.set_length(end);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for (possible, byte) in self.possible[at..].iter_mut().zip(bytes) {
            *possible |= 1 << byte;
        }
    }

    fn set_length(&mut self, length: usize) {
        self.bytes.resize(length, 0);
        self.possible.resize(self.possible.len().max(length), ZERO);
        self.possible[length..]
            .iter_mut()
            .for_each(|possible| *possible |= ZERO);
        self.lengths.insert(length);
    }

    fn sync(&mut self) {
        self.possible = self.bytes.iter().map(|byte| 1 << byte).collect();
        self.lengths = BTreeSet::from([self.bytes.len()]);
    }

    fn check(&self, found: &[u8], seed: u64) {
        let (first, last) = (self.lengths.first().unwrap(), self.lengths.last().unwrap());
        assert!(
            (*first..=*last).contains(&found.len()),
            "seed {seed}: length {}",
            found.len()
        );
        for (at, (byte, possible)) in found.iter().zip(&self.possible).enumerate() {
            assert!(
                possible >> byte & 1 == 1,
                "seed {seed}: byte {at} is {byte}: {possible:#b}"
            );
        }
    }
}

fn random_step(file: &dyn File, model: &mut Model, rng: &mut SimRng) {
    let length = model.bytes.len();
    match rng.below(8) {
        0 => {
            file.sync_data().unwrap();
            model.sync();
        }
        1 => {
            let cut = usize::try_from(rng.between(0, length as u64 + 5000)).unwrap();
            file.set_length(cut as u64).unwrap();
            model.set_length(cut);
        }
        choice => {
            let mut bytes = vec![0; usize::try_from(rng.between(1, 6000)).unwrap()];
            rng.fill(&mut bytes);
            bytes.iter_mut().for_each(|byte| *byte %= 64);
            let at = if choice < 4 {
                rng.between(0, length as u64)
            } else {
                length as u64
            };
            write_all(file, &bytes, at);
            model.write(&bytes, usize::try_from(at).unwrap());
        }
    }
    assert_eq!(read_all(file), model.bytes);
}

#[test]
fn a_power_cut_leaves_flushed_bytes_and_invents_none_for_1000_seeds() {
    for seed in 0..1000 {
        let world = SimWorld::new(seed);
        let mut rng = world.rng("steps");
        let mut model = Model::new();
        let file = durable_file(&disk(&world), "file", b"");
        for _ in 0..2 {
            for _ in 0..rng.between(1, 12) {
                random_step(file.as_ref(), &mut model, &mut rng);
            }
        }
        world.power_cut(NODE);
        assert!(is_killed(&file.length().unwrap_err()));
        let disk = disk(&world);
        let found = read_path(&disk, "file").unwrap();
        model.check(&found, seed);
        // What the cut left is on the device: a second cut takes nothing more.
        world.power_cut(NODE);
        assert_eq!(read_path(&self::disk(&world), "file").unwrap(), found);
    }
}

#[test]
fn every_kind_of_loss_comes_up() {
    let old = vec![1; 20_000];
    let new = vec![2; 20_000];
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let world = SimWorld::new(seed);
        let file = durable_file(&disk(&world), "file", &old);
        write_all(file.as_ref(), &new, 0);
        write_all(file.as_ref(), &new, 20_000);
        world.power_cut(NODE);
        let found = read_path(&disk(&world), "file").unwrap();
        let fresh = &found[20_000..];
        if found == old {
            seen.insert("all lost");
        } else if found == [new.clone(), new.clone()].concat() {
            seen.insert("all kept");
        } else if found.len() == 40_000 && fresh.iter().all(|byte| *byte == 0) {
            seen.insert("full length, zeros");
        } else if found.len() > 20_000 && found.len() < 40_000 {
            seen.insert("a length on the way");
        }
        let torn = |page: &[u8]| page.contains(&1) && page.contains(&2);
        if found[..16384].chunks(4096).any(torn) {
            seen.insert("a torn page");
        }
    }
    let expected = [
        "a length on the way",
        "a torn page",
        "all kept",
        "all lost",
        "full length, zeros",
    ];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn a_name_is_sure_only_after_its_directory_was_synced() {
    let mut lost = 0;
    for seed in 0..300 {
        let world = SimWorld::new(seed);
        let view = disk(&world);
        view.create_directory(Path::new("/logs/topic-0")).unwrap();
        view.sync_directory(Path::new("/")).unwrap();
        view.sync_directory(Path::new("/logs")).unwrap();
        for name in ["a", "b", "c"] {
            view.open(&Path::new("/logs/topic-0").join(name), OpenMode::CreateNew)
                .unwrap();
        }
        view.sync_directory(Path::new("/logs/topic-0")).unwrap();
        view.rename(Path::new("/logs/topic-0/b"), Path::new("/logs/topic-0/d"))
            .unwrap();
        view.remove_file(Path::new("/logs/topic-0/c")).unwrap();
        view.open(Path::new("/logs/topic-0/e"), OpenMode::CreateNew)
            .unwrap();
        world.power_cut(NODE);
        let entries = disk(&world)
            .read_directory(Path::new("/logs/topic-0"))
            .unwrap();
        let names: String = entries
            .iter()
            .map(|(name, _)| name.to_str().unwrap())
            .collect();
        // The later changes in their order, as far as the journal came.
        assert!(
            ["abc", "acd", "ad", "ade"].contains(&names.as_str()),
            "seed {seed}: {names}"
        );
        lost += u32::from(names != "ade");
    }
    assert!((100..300).contains(&lost), "{lost} of 300 lost something");
}

#[test]
fn each_directory_keeps_its_own_order_and_none_with_another() {
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let world = SimWorld::new(seed);
        let view = disk(&world);
        for directory in ["/a", "/b"] {
            view.create_directory(Path::new(directory)).unwrap();
        }
        view.sync_directory(Path::new("/")).unwrap();
        for file in ["/a/1", "/b/1", "/a/2", "/b/2"] {
            view.open(Path::new(file), OpenMode::CreateNew).unwrap();
        }
        world.power_cut(NODE);
        let view = disk(&world);
        let there = |file: &str| view.stat(Path::new(file)).is_ok();
        for directory in ["/a", "/b"] {
            let (first, second) = (format!("{directory}/1"), format!("{directory}/2"));
            assert!(there(&first) || !there(&second), "seed {seed}: {directory}");
        }
        seen.insert(["/a/1", "/a/2", "/b/1", "/b/2"].map(there));
    }
    assert_eq!(seen.len(), 9, "each with none, one or both: {seen:?}");
}

#[test]
fn an_unsynced_parent_loses_what_is_below_it() {
    let lost = (0..100).filter(|seed| {
        let world = SimWorld::new(*seed);
        let view = disk(&world);
        view.create_directory(Path::new("/logs")).unwrap();
        view.open(Path::new("/logs/a"), OpenMode::CreateNew)
            .unwrap()
            .sync_data()
            .unwrap();
        view.sync_directory(Path::new("/logs")).unwrap();
        world.power_cut(NODE);
        disk(&world).stat(Path::new("/logs/a")).is_err()
    });
    assert!((10..100).contains(&lost.count()));
}

#[test]
fn a_rename_over_a_file_leaves_the_old_or_the_new_one_whole() {
    let mut seen = BTreeSet::new();
    for seed in 0..300 {
        let world = SimWorld::new(seed);
        let view = disk(&world);
        durable_file(&view, "checkpoint", b"the old one");
        let file = view
            .open(Path::new("checkpoint.tmp"), OpenMode::CreateNew)
            .unwrap();
        write_all(file.as_ref(), b"new", 0);
        file.sync_data().unwrap();
        view.rename(Path::new("checkpoint.tmp"), Path::new("checkpoint"))
            .unwrap();
        world.power_cut(NODE);
        seen.insert(read_path(&disk(&world), "checkpoint").unwrap());
    }
    assert_eq!(
        seen,
        BTreeSet::from([b"the old one".to_vec(), b"new".to_vec()])
    );
}

#[test]
fn a_rename_between_directories_never_loses_or_doubles_the_file() {
    for seed in 0..300 {
        let world = SimWorld::new(seed);
        let view = disk(&world);
        for directory in ["/a", "/b"] {
            view.create_directory(Path::new(directory)).unwrap();
        }
        durable_file(&view, "/a/file", b"text");
        view.sync_directory(Path::new("/a")).unwrap();
        view.rename(Path::new("/a/file"), Path::new("/b/file"))
            .unwrap();
        if seed % 2 == 0 {
            view.sync_directory(Path::new(if seed % 4 == 0 { "/a" } else { "/b" }))
                .unwrap();
        }
        world.power_cut(NODE);
        let view = disk(&world);
        let there = ["/a/file", "/b/file"].map(|path| read_path(&view, path));
        assert!(
            there[0].is_some() != there[1].is_some(),
            "seed {seed}: {there:?}"
        );
        assert!(seed % 2 != 0 || there[1].is_some(), "seed {seed}: synced");
    }
}

#[test]
fn a_synced_rename_is_not_overtaken_by_an_older_change_of_the_other_directory() {
    for seed in 0..100 {
        let world = SimWorld::new(seed);
        let view = disk(&world);
        for directory in ["/a", "/b"] {
            view.create_directory(Path::new(directory)).unwrap();
        }
        durable_file(&view, "/a/file", b"text");
        view.open(Path::new("/b/file"), OpenMode::CreateNew)
            .unwrap();
        view.rename(Path::new("/a/file"), Path::new("/b/file"))
            .unwrap();
        view.sync_directory(Path::new("/a")).unwrap();
        world.power_cut(NODE);
        assert_eq!(
            read_path(&disk(&world), "/b/file").unwrap(),
            b"text",
            "seed {seed}"
        );
    }
}

#[test]
fn a_flush_after_a_failed_one_does_not_bring_back_what_that_lost() {
    let mut lost = 0;
    for seed in 0..100 {
        let world = SimWorld::new(seed);
        let file = durable_file(&disk(&world), "file", b"");
        write_all(file.as_ref(), &[7; 8192], 0);
        world
            .disk(NODE)
            .fail_path("file", Operation::Sync, Fault::Eio, 1);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        file.sync_data().unwrap();
        assert_eq!(
            read_all(file.as_ref()),
            [7; 8192],
            "the page cache hides it"
        );
        world.power_cut(NODE);
        let found = read_path(&disk(&world), "file").unwrap();
        assert_eq!(found.len(), 8192, "the second flush did its part");
        let whole = |page: &[u8]| page.iter().all(|byte| *byte == page[0]);
        assert!(
            found.chunks(4096).all(whole),
            "seed {seed}: a page is written or given up"
        );
        lost += u32::from(found != [7; 8192]);
    }
    assert!((30..100).contains(&lost), "{lost} of 100");
}

/// Writes two pages, whose flush fails; then `again`, a flush, and a power cut. How many of 100
/// seeds have lost a page.
fn losses(before: &[u8], again: impl Fn(&dyn File)) -> usize {
    let lost = (0..100).filter(|seed| {
        let world = SimWorld::new(*seed);
        let file = durable_file(&disk(&world), "file", before);
        write_all(file.as_ref(), &[7; 8000], 0);
        world
            .disk(NODE)
            .fail_path("file", Operation::Sync, Fault::Eio, 1);
        file.sync_data().unwrap_err();
        world.kill(NODE);
        let file = disk(&world)
            .open(Path::new("file"), OpenMode::ReadWrite)
            .unwrap();
        assert_eq!(read_all(file.as_ref()), [7; 8000], "a kill loses nothing");
        again(file.as_ref());
        file.sync_data().unwrap();
        world.power_cut(NODE);
        read_path(&disk(&world), "file").unwrap() != [7; 8000]
    });
    lost.count()
}

#[test]
fn what_a_failed_flush_lost_comes_back_only_past_the_cache() {
    let write_again = |file: &dyn File| write_all(file, &[7; 8000], 0);
    let rewrite = |file: &dyn File| file.rewrite(0..8000, &mut Vec::new()).unwrap();
    assert!(losses(b"", |_| ()) > 30);
    assert!(
        losses(b"", write_again) > 30,
        "the cache takes new blocks for written"
    );
    assert_eq!(losses(b"", rewrite), 0);
    // Blocks that the device has had are written where they are.
    assert!(losses(&[1; 8000], |_| ()) > 30);
    assert_eq!(losses(&[1; 8000], write_again), 0);
    assert_eq!(losses(&[1; 8000], rewrite), 0);
}

#[test]
fn a_failed_flush_gives_up_nothing_that_was_cut_off_before() {
    for seed in 0..100 {
        let world = SimWorld::new(seed);
        let file = durable_file(&disk(&world), "file", b"");
        write_all(file.as_ref(), &[0; 8000], 0);
        file.set_length(10).unwrap();
        world
            .disk(NODE)
            .fail_path("file", Operation::Sync, Fault::Eio, 1);
        file.sync_data().unwrap_err();
        file.rewrite(0..10, &mut Vec::new()).unwrap();
        write_all(file.as_ref(), &[7; 7990], 10);
        file.sync_data().unwrap();
        world.power_cut(NODE);
        let found = read_path(&disk(&world), "file").unwrap();
        assert_eq!(found[10..], [7; 7990], "seed {seed}");
    }
}

#[test]
fn a_rewrite_that_is_not_flushed_is_not_durable() {
    let lost = (0..100).filter(|seed| {
        let world = SimWorld::new(*seed);
        let file = durable_file(&disk(&world), "file", b"");
        write_all(file.as_ref(), &[7; 8000], 0);
        world
            .disk(NODE)
            .fail_path("file", Operation::Sync, Fault::Eio, 1);
        file.sync_data().unwrap_err();
        file.rewrite(0..8000, &mut Vec::new()).unwrap();
        world.power_cut(NODE);
        read_path(&disk(&world), "file").unwrap() != [7; 8000]
    });
    assert!(lost.count() > 30);
}

#[test]
fn a_rewrite_that_is_killed_leaves_zeros_behind_the_end_at_most() {
    let mut longer = 0;
    for seed in 0..100 {
        let world = SimWorld::new(seed);
        let file = durable_file(&disk(&world), "file", &[7; 8000]);
        world.disk(NODE).fail_after(0, Fault::Kill);
        assert!(is_killed(
            &file.rewrite(5000..8000, &mut Vec::new()).unwrap_err()
        ));
        let found = read_path(&disk(&world), "file").unwrap();
        assert_eq!(found[..8000], [7; 8000]);
        assert!(found[8000..].iter().all(|byte| *byte == 0) && found.len() <= 8192);
        longer += u32::from(found.len() > 8000);
    }
    assert!((20..80).contains(&longer), "{longer}");
}

#[test]
fn a_kill_keeps_the_page_cache_and_ends_the_handles() {
    let world = SimWorld::new(1);
    let view = disk(&world);
    let file = view.open(Path::new("file"), OpenMode::CreateNew).unwrap();
    let _lock = view.lock(Path::new("lock")).unwrap();
    write_all(file.as_ref(), b"unflushed", 0);
    assert!(world.is_alive(NODE));
    world.kill(NODE);
    assert!(!world.is_alive(NODE));
    for error in [
        file.write_at(&[IoSlice::new(b"x")], 0).unwrap_err(),
        file.read_at(&mut [0], 0).unwrap_err(),
        file.sync_data().unwrap_err(),
        file.set_length(0).unwrap_err(),
        view.stat(Path::new("file")).unwrap_err(),
        view.remove_file(Path::new("file")).unwrap_err(),
    ] {
        assert!(is_killed(&error), "{error}");
    }
    let view = disk(&world);
    assert_eq!(read_path(&view, "file").unwrap(), b"unflushed");
    view.lock(Path::new("lock")).unwrap();
}

/// Appends records of one byte, flushes each, and acknowledges it by pushing it.
fn append_and_acknowledge(disk: &dyn Disk, acknowledged: &mut Vec<u8>) -> std::io::Result<()> {
    let file = disk.open(Path::new("log"), OpenMode::CreateOrTruncate)?;
    disk.sync_directory(Path::new("/"))?;
    for record in 1..=5 {
        let at = u64::from(record - 1) * 3000;
        let count = file.write_at(&[IoSlice::new(&[record; 3000])], at)?;
        assert_eq!(count, 3000);
        file.sync_data()?;
        acknowledged.push(record);
    }
    Ok(())
}

#[test]
fn a_crash_at_every_call_keeps_what_was_acknowledged() {
    for fault in [Fault::Kill, Fault::PowerCut] {
        let mut calls = 0;
        for k in 0.. {
            let mut died = false;
            for seed in 0..20 {
                let world = SimWorld::new(seed);
                world.disk(NODE).fail_after(k, fault);
                let mut acknowledged = Vec::new();
                match append_and_acknowledge(disk(&world).as_ref(), &mut acknowledged) {
                    Ok(()) => assert_eq!(acknowledged.len(), 5),
                    Err(error) => {
                        assert!(is_killed(&error), "{error}");
                        assert!(!world.is_alive(NODE));
                        died = true;
                    }
                }
                world.disk(NODE).heal();
                let found = read_path(&disk(&world), "log").unwrap_or_default();
                for (index, record) in acknowledged.into_iter().enumerate() {
                    assert_eq!(found[index * 3000..(index + 1) * 3000], [record; 3000]);
                }
            }
            if !died {
                calls = k;
                break;
            }
        }
        assert_eq!(
            calls, 12,
            "one open, one directory sync, five writes and flushes"
        );
    }
}

#[test]
fn a_full_disk_refuses_new_pages_and_takes_them_after_a_removal() {
    let world = SimWorld::new(3);
    let control = world.disk(NODE);
    control.set_capacity(10 * 4096);
    let view = disk(&world);
    let old = view.open(Path::new("old"), OpenMode::CreateNew).unwrap();
    write_all(old.as_ref(), &[1; 6 * 4096], 0);
    let new = view.open(Path::new("new"), OpenMode::CreateNew).unwrap();
    assert_eq!(
        new.write_at(&[IoSlice::new(&[2; 5 * 4096])], 0).unwrap(),
        4 * 4096
    );
    let error = new
        .write_at(&[IoSlice::new(&[2; 10])], 4 * 4096)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(view.space(Path::new("/")).unwrap().usable_bytes, 0);
    write_all(old.as_ref(), &[3; 6 * 4096], 0); // what is there can be overwritten
    view.remove_file(Path::new("old")).unwrap();
    new.write_at(&[IoSlice::new(&[2; 10])], 4 * 4096)
        .unwrap_err(); // still open
    drop(old);
    assert_eq!(
        new.write_at(&[IoSlice::new(&[2; 10])], 4 * 4096).unwrap(),
        10
    );
    assert_eq!(control.used(), 5 * 4096);
}

#[test]
fn faults_at_random_come_about_as_often_as_planned_and_only_where() {
    let world = SimWorld::new(5);
    let view = disk(&world);
    let plan = FaultPlan {
        path_contains: "bad".into(),
        read_eio_one_in: 10,
        write_eio_one_in: 10,
        short_write_one_in: 10,
        sync_eio_one_in: 10,
        false_cold_one_in: 10,
    };
    world.disk(NODE).set_plan(plan);
    for (path, faulty) in [("good", false), ("bad", true)] {
        let file = view.open(Path::new(path), OpenMode::CreateNew).unwrap();
        let mut counts = [0; 5];
        for at in 0..1000 {
            match file.write_at(&[IoSlice::new(&[9; 100])], at) {
                Ok(100) => {}
                Ok(_) => counts[0] += 1,
                Err(_) => counts[1] += 1,
            }
            counts[2] += i32::from(file.read_at(&mut [0; 10], 0).is_err());
            counts[3] += i32::from(file.sync_data().is_err());
            counts[4] += i32::from(file.residency(0, 10) == Residency::Cold);
        }
        let expected = if faulty { 50..200 } else { 0..1 };
        assert!(
            counts.iter().all(|count| expected.contains(count)),
            "{path}: {counts:?}"
        );
    }
    world.disk(NODE).heal();
    let file = view.open(Path::new("bad"), OpenMode::ReadWrite).unwrap();
    assert!((0..200).all(|_| file.sync_data().is_ok()));
}

#[test]
fn a_file_tells_the_time_of_day_of_its_last_change() {
    let world = SimWorld::new(6);
    world.block_on(async {
        let (view, clock) = (disk(&world), world.clock(NODE));
        let file = view.open(Path::new("file"), OpenMode::CreateNew).unwrap();
        let wait = || tokio::time::sleep(Duration::from_secs(5));
        assert_eq!(file.modified().unwrap(), clock.now());
        wait().await;
        write_all(file.as_ref(), b"abc", 0);
        let written = clock.now();
        wait().await;
        file.sync_data().unwrap();
        assert_eq!(read_all(file.as_ref()), b"abc");
        assert_eq!(file.modified().unwrap(), written);
        file.set_length(1).unwrap();
        assert_eq!(file.modified().unwrap(), clock.now());
        assert!(clock.now() > written);
    });
}

#[test]
fn calls_cost_simulated_time_and_a_stall_is_waited_for() {
    let world = SimWorld::new(6);
    world.block_on(async {
        let view = disk(&world);
        let file = view.open(Path::new("file"), OpenMode::CreateNew).unwrap();
        assert!(view.take_cost() > Duration::ZERO);
        assert_eq!(view.take_cost(), Duration::ZERO);
        let day = Duration::from_secs(86_400);
        world.disk(NODE).set_speed(DiskSpeed {
            call: day,
            ..DiskSpeed::default()
        });
        write_all(file.as_ref(), b"x", 0);
        assert!(view.take_cost() >= day);
        world.disk(NODE).set_speed(DiskSpeed::default());
        let until = tokio::time::Instant::now() + Duration::from_secs(7);
        world.disk(NODE).stall_until(until);
        // However many calls wait for its end.
        (0..3).for_each(|_| write_all(file.as_ref(), b"x", 0));
        let stall = Duration::from_secs(7);
        assert!((stall..stall + Duration::from_secs(1)).contains(&view.take_cost()));
        tokio::time::sleep(Duration::from_secs(8)).await;
        write_all(file.as_ref(), b"x", 0);
        assert!(view.take_cost() < Duration::from_secs(1));
    });
}

#[test]
fn after_a_power_cut_everything_is_cold_until_it_is_read() {
    let world = SimWorld::new(7);
    durable_file(&disk(&world), "file", &[1; 100_000]);
    world.power_cut(NODE);
    let file = disk(&world)
        .open(Path::new("file"), OpenMode::Read)
        .unwrap();
    assert_eq!(file.residency(0, 100_000), Residency::Cold);
    file.read_ahead(0, 50_000).unwrap();
    assert_eq!(file.residency(0, 50_000), Residency::Hot);
    assert_eq!(file.residency(0, 100_000), Residency::Cold);
    file.drop_cache(0, 4096);
    assert_eq!(file.residency(0, 1), Residency::Cold);
}

#[test]
fn rot_flips_bits_until_it_is_undone() {
    let world = SimWorld::new(8);
    durable_file(&disk(&world), "file", &[0b1010; 5000]);
    let rot = world
        .disk(NODE)
        .rot(Path::new("/file"), 4500, 0b0110)
        .unwrap();
    assert!(world.disk(NODE).rot(Path::new("/file"), 5000, 1).is_none());
    assert!(world.disk(NODE).rot(Path::new("/other"), 0, 1).is_none());
    world.power_cut(NODE);
    let found = read_path(&disk(&world), "file").unwrap();
    assert_eq!((found[4499], found[4500]), (0b1010, 0b1100));
    assert_eq!(
        disk(&world).stat(Path::new("file")).unwrap(),
        EntryKind::File(5000)
    );
    // Whatever its file is called by now.
    disk(&world)
        .rename(Path::new("/file"), Path::new("/moved"))
        .unwrap();
    assert!(rot.undo());
    assert_eq!(read_path(&disk(&world), "moved").unwrap(), [0b1010; 5000]);
}

#[test]
#[should_panic(expected = "SIGBUS")]
fn a_map_that_is_read_past_a_cut_is_a_bus_error() {
    let world = SimWorld::new(9);
    let view = disk(&world);
    let file = durable_file(&view, "index", &[1; 8192]);
    let map = view.map_index(&file, 8192).unwrap();
    file.set_length(4096).unwrap();
    map.read(8000, &mut [0; 8]);
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    let run = |seed| {
        let world = SimWorld::new(seed);
        let mut rng = world.rng("steps");
        let file = durable_file(&disk(&world), "file", b"");
        world.disk(NODE).set_plan(FaultPlan {
            read_eio_one_in: 50,
            ..FaultPlan::default()
        });
        for at in 0..100 {
            let mut bytes = [0; 100];
            rng.fill(&mut bytes);
            write_all(file.as_ref(), &bytes, at * 50);
            let _ = file.read_at(&mut bytes, at);
        }
        world.power_cut(NODE);
        (world.trace_hash(), read_path(&disk(&world), "file"))
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}
