//! The contract of [`Disk`] and [`File`].
//!
//! Input: a disk and an empty directory on it. Output: assertions.
//!
//! Invariant: as for the suite.
//!
//! Source: none.

use std::io::{ErrorKind, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use skein_env::real::RealDisk;
use skein_env::{CacheSteps, Disk, EntryKind, File, OpenMode, Residency};

/// Runs each test on each disk.
macro_rules! on_every_disk {
    ($($name:ident),* $(,)?) => {
        mod real {
            $(#[test]
            fn $name() {
                let directory = tempfile::tempdir().unwrap();
                super::$name(&(std::sync::Arc::new(super::RealDisk) as _), directory.path());
            })*
        }

        #[cfg(feature = "sim")]
        mod simulated {
            $(#[test]
            fn $name() {
                for seed in 0..8 {
                    let world = skein_env::sim::SimWorld::new(seed);
                    let disk = world.node("node").disk;
                    let root = std::path::Path::new("/data/here");
                    disk.create_directory(root).unwrap();
                    super::$name(&disk, root);
                }
            })*
        }
    };
}

on_every_disk!(
    what_is_written_is_read_again,
    pieces_are_written_one_after_the_other,
    a_read_is_short_only_at_the_end,
    bytes_never_written_are_zeros,
    a_cut_file_grows_with_zeros,
    open_modes_differ_in_what_they_make_and_empty,
    a_read_only_file_is_not_written,
    a_removed_file_lives_on_in_its_handle,
    rename_replaces_a_file_in_one_step,
    rename_moves_a_directory_with_its_files,
    directories_are_listed_in_the_order_of_names,
    a_directory_is_removed_with_all_that_is_in_it,
    missing_things_are_not_found,
    syncs_succeed_on_what_exists,
    a_map_shows_what_the_file_holds_now,
    a_map_past_the_end_of_the_file_is_refused,
    a_map_is_not_read_past_its_end,
    a_lock_is_held_once_until_it_is_dropped,
    space_is_less_than_the_total,
    what_was_just_written_is_hot_and_hints_do_no_harm,
    a_read_ahead_tells_what_it_brought_into_the_cache,
    more_pieces_than_the_kernel_takes_are_written_in_part,
    a_rewrite_changes_no_byte_and_no_length,
    what_is_filled_reads_as_zeros,
    what_is_reserved_has_no_length,
);

type AnyDisk = Arc<dyn Disk>;

fn write_all(file: &dyn File, bytes: &[u8], offset: u64) {
    let mut done = 0;
    while done < bytes.len() {
        let count = file
            .write_at(&[IoSlice::new(&bytes[done..])], offset + done as u64)
            .unwrap();
        assert!(count > 0);
        done += count;
    }
}

fn read_all(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn create(disk: &AnyDisk, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    write_all(file.as_ref(), bytes, 0);
    file
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from(index * 7 % 251).unwrap())
        .collect()
}

fn what_is_written_is_read_again(disk: &AnyDisk, root: &Path) {
    let bytes = pattern(20_000);
    let file = create(disk, &root.join("a"), &bytes);
    assert_eq!(file.length().unwrap(), 20_000);
    assert_eq!(read_all(file.as_ref()), bytes);
    write_all(file.as_ref(), b"over", 4094);
    let mut middle = [0; 8];
    assert_eq!(file.read_at(&mut middle, 4092).unwrap(), 8);
    assert_eq!(&middle[2..6], b"over");
    assert_eq!(middle[0], bytes[4092]);
    assert_eq!(middle[7], bytes[4099]);
    let other = disk.open(&root.join("a"), OpenMode::Read).unwrap();
    assert_eq!(read_all(other.as_ref()), read_all(file.as_ref()));
}

fn pieces_are_written_one_after_the_other(disk: &AnyDisk, root: &Path) {
    let file = disk.open(&root.join("a"), OpenMode::CreateNew).unwrap();
    let long = pattern(9000);
    let pieces = [
        IoSlice::new(b"one"),
        IoSlice::new(&[]),
        IoSlice::new(&long),
        IoSlice::new(b"2"),
    ];
    assert_eq!(file.write_at(&pieces, 5).unwrap(), 9004);
    assert_eq!(
        read_all(file.as_ref()),
        [&[0; 5][..], b"one", &long, b"2"].concat()
    );
    assert_eq!(file.write_at(&[], 100_000).unwrap(), 0);
    assert_eq!(file.length().unwrap(), 9009);
}

fn a_read_is_short_only_at_the_end(disk: &AnyDisk, root: &Path) {
    let file = create(disk, &root.join("a"), &pattern(5000));
    let mut buffer = vec![9; 8192];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 5000);
    assert_eq!(file.read_at(&mut buffer, 4999).unwrap(), 1);
    assert_eq!(file.read_at(&mut buffer, 5000).unwrap(), 0);
    assert_eq!(file.read_at(&mut buffer, 1 << 40).unwrap(), 0);
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
}

fn bytes_never_written_are_zeros(disk: &AnyDisk, root: &Path) {
    let file = create(disk, &root.join("a"), b"start");
    write_all(file.as_ref(), b"end", 50_000);
    let bytes = read_all(file.as_ref());
    assert_eq!(bytes.len(), 50_003);
    assert!(bytes[5..50_000].iter().all(|byte| *byte == 0));
}

fn a_cut_file_grows_with_zeros(disk: &AnyDisk, root: &Path) {
    let bytes = pattern(10_000);
    let file = create(disk, &root.join("a"), &bytes);
    file.set_length(4100).unwrap();
    assert_eq!(read_all(file.as_ref()), bytes[..4100]);
    file.set_length(9000).unwrap();
    let grown = read_all(file.as_ref());
    assert_eq!(grown[..4100], bytes[..4100]);
    assert!(grown[4100..].iter().all(|byte| *byte == 0));
    file.set_length(0).unwrap();
    assert_eq!(file.length().unwrap(), 0);
}

fn open_modes_differ_in_what_they_make_and_empty(disk: &AnyDisk, root: &Path) {
    let path = root.join("a");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(
            disk.open(&path, mode).err().unwrap().kind(),
            ErrorKind::NotFound
        );
    }
    create(disk, &path, b"text");
    let error = disk.open(&path, OpenMode::CreateNew).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        assert_eq!(read_all(disk.open(&path, mode).unwrap().as_ref()), b"text");
    }
    assert_eq!(
        disk.open(&path, OpenMode::CreateOrTruncate)
            .unwrap()
            .length()
            .unwrap(),
        0
    );
    disk.open(&root.join("b"), OpenMode::CreateOrTruncate)
        .unwrap();
    assert_eq!(disk.stat(&root.join("b")).unwrap(), EntryKind::File(0));
}

fn a_read_only_file_is_not_written(disk: &AnyDisk, root: &Path) {
    create(disk, &root.join("a"), b"text");
    let file = disk.open(&root.join("a"), OpenMode::Read).unwrap();
    file.write_at(&[IoSlice::new(b"x")], 0).unwrap_err();
    file.set_length(1).unwrap_err();
    assert_eq!(read_all(file.as_ref()), b"text");
}

fn a_removed_file_lives_on_in_its_handle(disk: &AnyDisk, root: &Path) {
    let path = root.join("a");
    let file = create(disk, &path, b"text");
    disk.remove_file(&path).unwrap();
    assert_eq!(disk.stat(&path).unwrap_err().kind(), ErrorKind::NotFound);
    create(disk, &path, b"another");
    write_all(file.as_ref(), b"more", 4);
    assert_eq!(read_all(file.as_ref()), b"textmore");
    assert_eq!(disk.stat(&path).unwrap(), EntryKind::File(7));
}

fn rename_replaces_a_file_in_one_step(disk: &AnyDisk, root: &Path) {
    let (from, to) = (root.join("new"), root.join("old"));
    let old = create(disk, &to, b"old");
    create(disk, &from, b"the new");
    disk.rename(&from, &to).unwrap();
    assert_eq!(disk.stat(&from).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        read_all(disk.open(&to, OpenMode::Read).unwrap().as_ref()),
        b"the new"
    );
    assert_eq!(read_all(old.as_ref()), b"old");
}

fn rename_moves_a_directory_with_its_files(disk: &AnyDisk, root: &Path) {
    disk.create_directory(&root.join("one/two")).unwrap();
    create(disk, &root.join("one/two/file"), b"text");
    disk.rename(&root.join("one"), &root.join("uno")).unwrap();
    assert_eq!(
        disk.stat(&root.join("uno/two/file")).unwrap(),
        EntryKind::File(4)
    );
    disk.stat(&root.join("one")).unwrap_err();
}

fn directories_are_listed_in_the_order_of_names(disk: &AnyDisk, root: &Path) {
    assert_eq!(disk.read_directory(root).unwrap(), []);
    for name in ["c", "a", "b10", "b9"] {
        create(disk, &root.join(name), name.as_bytes());
    }
    disk.create_directory(&root.join("d/deep")).unwrap();
    let expected = [
        ("a".into(), EntryKind::File(1)),
        ("b10".into(), EntryKind::File(3)),
        ("b9".into(), EntryKind::File(2)),
        ("c".into(), EntryKind::File(1)),
        ("d".into(), EntryKind::Directory),
    ];
    assert_eq!(disk.read_directory(root).unwrap(), expected);
    disk.create_directory(&root.join("d/deep")).unwrap();
    disk.create_directory(&root.join("a")).unwrap_err();
    disk.create_directory(&root.join("a/below")).unwrap_err();
}

fn a_directory_is_removed_with_all_that_is_in_it(disk: &AnyDisk, root: &Path) {
    disk.create_directory(&root.join("d/deep")).unwrap();
    let file = create(disk, &root.join("d/deep/file"), b"text");
    disk.remove_directory(&root.join("d")).unwrap();
    assert_eq!(
        disk.stat(&root.join("d")).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(read_all(file.as_ref()), b"text");
    disk.create_directory(&root.join("d")).unwrap();
    assert_eq!(disk.read_directory(&root.join("d")).unwrap(), []);
}

fn missing_things_are_not_found(disk: &AnyDisk, root: &Path) {
    let missing = root.join("missing");
    let errors = [
        disk.stat(&missing).unwrap_err(),
        disk.remove_file(&missing).unwrap_err(),
        disk.remove_directory(&missing).unwrap_err(),
        disk.rename(&missing, &root.join("a")).unwrap_err(),
        disk.read_directory(&missing).unwrap_err(),
        disk.sync_directory(&missing).unwrap_err(),
        disk.open(&missing.join("below"), OpenMode::CreateNew)
            .err()
            .unwrap(),
        disk.space(&missing).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}

fn syncs_succeed_on_what_exists(disk: &AnyDisk, root: &Path) {
    let file = create(disk, &root.join("a"), &pattern(10_000));
    file.sync_data().unwrap();
    disk.sync_directory(root).unwrap();
    assert_eq!(read_all(file.as_ref()), pattern(10_000));
}

fn a_map_shows_what_the_file_holds_now(disk: &AnyDisk, root: &Path) {
    let file = create(disk, &root.join("a"), &pattern(10_000));
    let map = disk.map_index(&file, 8192).unwrap();
    let mut out = [0; 16];
    map.read(4090, &mut out);
    assert_eq!(out[..], pattern(10_000)[4090..4106]);
    write_all(file.as_ref(), b"changed", 4095);
    map.read(4090, &mut out);
    assert_eq!(&out[5..12], b"changed");
    drop(file);
    map.read(8176, &mut out);
    assert_eq!(map.length(), 8192);
    let empty = disk.open(&root.join("b"), OpenMode::CreateNew).unwrap();
    let map = disk.map_index(&empty, 0).unwrap();
    map.read(0, &mut []);
    assert_eq!(map.length(), 0);
}

fn a_map_past_the_end_of_the_file_is_refused(disk: &AnyDisk, root: &Path) {
    let file = create(disk, &root.join("a"), b"12345678");
    let error = disk.map_index(&file, 9).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn a_map_is_not_read_past_its_end(disk: &AnyDisk, root: &Path) {
    let file = create(disk, &root.join("a"), b"12345678");
    let map = disk.map_index(&file, 6).unwrap();
    for (at, length) in [(5, 2), (7, 0), (usize::MAX, 2)] {
        let map = Arc::clone(&map);
        let read = thread::spawn(move || map.read(at, &mut vec![0; length]));
        assert!(read.join().is_err(), "{length} bytes at {at}");
    }
}

fn a_lock_is_held_once_until_it_is_dropped(disk: &AnyDisk, root: &Path) {
    let path = root.join(".lock");
    let guard = disk.lock(&path).unwrap();
    assert_eq!(
        disk.lock(&path).err().unwrap().kind(),
        ErrorKind::WouldBlock
    );
    drop(guard);
    disk.lock(&path).unwrap();
}

fn space_is_less_than_the_total(disk: &AnyDisk, root: &Path) {
    let space = disk.space(root).unwrap();
    assert!(space.usable_bytes > 0);
    assert!(space.usable_bytes <= space.total_bytes);
}

fn what_was_just_written_is_hot_and_hints_do_no_harm(disk: &AnyDisk, root: &Path) {
    let file = create(disk, &root.join("a"), &pattern(400_000));
    assert_eq!(file.residency(0, 400_000), Residency::Hot);
    assert_eq!(file.residency(4000, 1), Residency::Hot);
    assert_eq!(file.residency(0, 0), Residency::Hot);
    file.sync_data().unwrap();
    file.drop_cache(0, 400_000);
    file.drop_cache(0, 0);
    file.read_ahead(0, 400_000).unwrap();
    file.read_ahead(399_999, 1_000_000).unwrap();
    file.read_ahead(7, 0).unwrap();
    assert_eq!(file.residency(0, 400_000), Residency::Hot);
    for page in (0..400_000).step_by(4096) {
        assert_eq!(file.residency(page, 1), Residency::Hot, "{page}");
    }
    assert_eq!(read_all(file.as_ref()), pattern(400_000));
}

/// On a file system that is memory nothing leaves the cache, and so nothing is brought there.
fn a_read_ahead_tells_what_it_brought_into_the_cache(disk: &AnyDisk, root: &Path) {
    const STEP: u64 = CacheSteps::STEP;
    const CONTENT: usize = (1 << 20) + 1_000;
    let length = CONTENT as u64;
    assert_eq!(length / STEP, 4);
    // The first and the last step of each part.
    let steps = |parts: Vec<Range<u64>>| -> Vec<(u64, u64)> {
        let ends = parts.iter().map(|part| (part.start, part.end));
        ends.map(|(start, end)| (start / STEP, end / STEP - 1))
            .collect()
    };
    let file = create(disk, &root.join("a"), &pattern(CONTENT));
    let read_ahead = |offset, length| steps(file.read_ahead(offset, length).unwrap());
    assert_eq!(read_ahead(0, length), []);
    file.sync_data().unwrap();
    file.drop_cache(STEP, STEP);
    file.drop_cache(3 * STEP, 4096);
    if file.residency(STEP, STEP) == Residency::Hot {
        return;
    }
    // The step in which a range ends belongs to the next one.
    assert_eq!(read_ahead(10, STEP), []);
    assert_eq!(read_ahead(STEP + 10, 1_000), []);
    assert_eq!(read_ahead(STEP + 10, 3 * STEP), [(1, 1), (3, 3)]);
    assert_eq!(read_ahead(0, length), []);
    file.drop_cache(2 * STEP, 2 * STEP);
    assert_eq!(read_ahead(0, length), [(2, 3)]);
    file.drop_cache(STEP, STEP);
    assert_eq!(steps(file.prefetch(0, length)), [(1, 1)]);
    file.read_ahead(0, length).unwrap();
    assert_eq!(steps(file.prefetch(0, length)), []);
    assert_eq!(read_all(file.as_ref()), pattern(CONTENT));
}

fn more_pieces_than_the_kernel_takes_are_written_in_part(disk: &AnyDisk, root: &Path) {
    let file = disk.open(&root.join("a"), OpenMode::CreateNew).unwrap();
    let pieces = vec![IoSlice::new(b"ab"); 3000];
    let count = file.write_at(&pieces, 0).unwrap();
    assert!((2048..=6000).contains(&count), "{count}");
    assert_eq!(file.length().unwrap(), count as u64);
}

fn a_rewrite_changes_no_byte_and_no_length(disk: &AnyDisk, root: &Path) {
    let bytes = pattern(30_000);
    let file = create(disk, &root.join("a"), &bytes);
    disk.rename(&root.join("a"), &root.join("b")).unwrap();
    let mut scratch = Vec::new();
    for range in [
        0..0,
        0..30_000,
        0..4096,
        4095..4097,
        5000..20_000,
        29_999..30_000,
        8192..30_000,
    ] {
        file.rewrite(range.clone(), &mut scratch).unwrap();
        file.sync_data().unwrap();
        assert!(read_all(file.as_ref()) == bytes, "{range:?}");
    }
    assert!(file.rewrite(0..30_001, &mut scratch).is_err());
    assert!(read_all(file.as_ref()) == bytes);
    // What comes after it is appended where it belongs.
    write_all(file.as_ref(), b"more", 30_000);
    let again = disk.open(&root.join("b"), OpenMode::Read).unwrap();
    assert!(read_all(again.as_ref()) == [bytes.as_slice(), b"more"].concat());
}

fn what_is_filled_reads_as_zeros(disk: &AnyDisk, root: &Path) {
    let mut bytes = pattern(300_000);
    let file = create(disk, &root.join("a"), &bytes);
    file.fill(100..200_000).unwrap();
    bytes[100..200_000].fill(0);
    assert_eq!(read_all(file.as_ref()), bytes);
    file.fill(299_999..700_001).unwrap();
    bytes[299_999] = 0;
    bytes.resize(700_001, 0);
    assert_eq!(read_all(file.as_ref()), bytes);
    let read_only = disk.open(&root.join("a"), OpenMode::Read).unwrap();
    assert!(read_only.fill(0..1).is_err());
}

fn what_is_reserved_has_no_length(disk: &AnyDisk, root: &Path) {
    let bytes = pattern(5000);
    let file = create(disk, &root.join("a"), &bytes);
    // A file system that can't says so, and nothing has changed.
    let _ = file.reserve(5000..1_000_000);
    assert_eq!(file.length().unwrap(), 5000);
    assert_eq!(read_all(file.as_ref()), bytes);
    write_all(file.as_ref(), b"more", 5000);
    file.set_length(5004).unwrap();
    assert_eq!(read_all(file.as_ref()), [&bytes[..], b"more"].concat());
}
