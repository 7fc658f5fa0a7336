//! Appends, cut-backs, scans and truncations of one segment file.
//!
//! Input: logs on a temporary or simulated disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use std::io::IoSlice;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::Severity;
use crate::testing::{EIO, ENOSPC, Fault, FaultyDisk};

/// Frames of `[length u8][sum u8][payload]`; the sum is the payload's, so that a tear shows.
struct Toy {
    skip: bool,
    seen: Vec<u64>,
}

fn toy() -> Toy {
    Toy {
        skip: false,
        seen: Vec::new(),
    }
}

impl Frames for Toy {
    fn head_bytes(&self) -> usize {
        2
    }

    fn head(&mut self, position: u64, head: &[u8]) -> Head {
        self.seen.push(position);
        match (head[0], self.skip) {
            (255, _) => Head::Stop,
            (254, _) => Head::Bad("254"),
            (length, true) => Head::Skip(u64::from(length)),
            (length, false) => Head::Read(u64::from(length)),
        }
    }

    fn body(&mut self, _: u64, frame: &[u8]) -> Result<(), &'static str> {
        if self.skip || sum(&frame[2..]) == frame[1] {
            Ok(())
        } else {
            Err("sum")
        }
    }
}

fn sum(payload: &[u8]) -> u8 {
    payload
        .iter()
        .fold(1, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len() + 2).unwrap();
    let mut bytes = vec![length, sum(payload)];
    bytes.extend_from_slice(payload);
    bytes
}

struct Fixture {
    _directory: TempDir,
    disk: Arc<FaultyDisk>,
    path: PathBuf,
}

fn fixture() -> Fixture {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.log");
    Fixture {
        _directory: directory,
        disk: FaultyDisk::new(),
        path,
    }
}

impl Fixture {
    fn create(&self) -> SegmentFile {
        SegmentFile::create(&*self.disk, &self.path).unwrap()
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}

fn append(file: &mut SegmentFile, pieces: &[&[u8]]) -> Result<u64, AppendError> {
    let pieces: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    file.append(&pieces)
}

#[test]
fn pieces_follow_one_another_in_one_write() {
    let fixture = fixture();
    let mut file = fixture.create();
    assert_eq!(append(&mut file, &[b"ab", b"", b"cde"]).unwrap(), 0);
    assert_eq!(append(&mut file, &[b"f"]).unwrap(), 5);
    assert_eq!(file.end(), 6);
    assert_eq!(fixture.content(), b"abcdef");
    assert_eq!(fixture.disk.take_writes(), [(0, 5), (5, 1)]);
}

#[test]
fn a_failed_or_short_write_leaves_nothing_behind() {
    for fault in [
        Fault::Short(3),
        Fault::Error(3, ENOSPC),
        Fault::Error(0, EIO),
    ] {
        let fixture = fixture();
        let mut file = fixture.create();
        append(&mut file, &[b"kept"]).unwrap();
        fixture.disk.plan(&[fault]);
        let error = append(&mut file, &[b"lost", b"lost"]).unwrap_err();
        assert!(error.is_cut_back(), "{fault:?}");
        assert_eq!(fixture.content(), b"kept", "{fault:?}");
        assert_eq!(append(&mut file, &[b"next"]).unwrap(), 4);
        assert_eq!(fixture.content(), b"keptnext", "{fault:?}");
        let retriable = !matches!(fault, Fault::Error(_, EIO));
        assert_eq!(
            error.cause.severity() == Severity::Retriable,
            retriable,
            "{fault:?}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_cut_back_takes_no_more_writes() {
    let fixture = fixture();
    let mut file = fixture.create();
    append(&mut file, &[b"kept"]).unwrap();
    fixture.disk.plan(&[Fault::Short(2), Fault::Cut(EIO)]);
    let error = append(&mut file, &[b"lost"]).unwrap_err();
    assert!(!error.is_cut_back());
    let error = append(&mut file, &[b"more"]).unwrap_err();
    assert!(matches!(error.cause, StorageError::Broken { .. }));
    assert_eq!(file.end(), 4);
    assert_eq!(fixture.content(), b"keptlo");
}

#[test]
#[should_panic(expected = "append to the sealed")]
fn a_cut_file_takes_no_more_writes() {
    let fixture = fixture();
    let mut file = fixture.create();
    append(&mut file, &[b"abcdef"]).unwrap();
    file.truncate(3).unwrap();
    assert_eq!(fixture.content(), b"abc");
    let _ = append(&mut file, &[b"x"]);
}

#[test]
fn a_cut_that_was_not_flushed_breaks_the_file() {
    let fixture = fixture();
    let mut file = fixture.create();
    append(&mut file, &[b"abcdef"]).unwrap();
    fixture.disk.plan(&[Fault::Flush(EIO)]);
    assert!(file.truncate(3).is_err());
    assert!(matches!(
        append(&mut file, &[b"x"]).unwrap_err().cause,
        StorageError::Broken { .. }
    ));
}

#[test]
fn what_exists_is_not_made_again_and_what_is_missing_is_not_opened() {
    let fixture = fixture();
    assert!(SegmentFile::open(&*fixture.disk, &fixture.path).is_err_and(|e| e.is_not_found()));
    drop(fixture.create());
    assert!(SegmentFile::create(&*fixture.disk, &fixture.path).is_err());
}

#[test]
fn a_walk_can_stop_skip_and_refuse() {
    let fixture = fixture();
    let mut file = fixture.create();
    append(&mut file, &[&frame(b"one"), &frame(b"two"), &[255, 0, 0]]).unwrap();
    let scan = file.scan(0, &mut toy()).unwrap();
    assert_eq!(
        scan,
        Scan {
            frames: 2,
            end: 10,
            fault: None
        }
    );
    let mut skipping = Toy {
        skip: true,
        seen: Vec::new(),
    };
    assert_eq!(file.scan(5, &mut skipping).unwrap().frames, 1);
    assert_eq!(skipping.seen, [5, 10]);

    for (tail, fault) in [
        (&[254u8, 0][..], "254"),
        (&[1, 0], "the length is smaller than the head"),
        (&[9], "the file ends within a head"),
        (&[9, 0, 0], "the file ends within a frame"),
        (&[3, 0, 0], "sum"),
    ] {
        let fixture = self::fixture();
        let mut file = fixture.create();
        append(&mut file, &[&frame(b"one"), tail]).unwrap();
        let scan = file.recover(0, &mut toy()).unwrap();
        assert_eq!(
            scan,
            Scan {
                frames: 1,
                end: 5,
                fault: Some(fault)
            }
        );
        assert_eq!(fixture.content().len(), 5);
        append(&mut file, &[&frame(b"two")]).unwrap();
        assert_eq!(file.scan(0, &mut toy()).unwrap().frames, 2);
    }
}

proptest! {
    /// A frame survives if and only if it and all before it are whole.
    #[test]
    fn recovery_keeps_exactly_the_whole_frames_before_the_first_bad_byte(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..40),
        cut in any::<prop::sample::Index>(),
        flip in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| frame(payload)).collect();
        let mut bytes = frames.concat();
        bytes.truncate(cut.index(bytes.len() + 1));
        let mut first_bad = bytes.len();
        if let (Some(flip), false) = (flip, bytes.is_empty()) {
            first_bad = flip.index(bytes.len());
            bytes[first_bad] = bytes[first_bad].wrapping_add(1);
        }
        let fixture = fixture();
        std::fs::write(&fixture.path, &bytes).unwrap();
        let mut file = SegmentFile::open(&*fixture.disk, &fixture.path).unwrap();
        let scan = file.recover(0, &mut toy()).unwrap();

        let mut end = 0;
        for frame in &frames {
            if end + frame.len() > first_bad {
                break;
            }
            end += frame.len();
        }
        // A flipped length can, by chance, make one longer or shorter frame that is whole: then the
        // walk may go further, but never stops earlier.
        prop_assert!(scan.end >= end as u64);
        if flip.is_none() {
            prop_assert_eq!(scan.end, end as u64);
        }
        prop_assert_eq!(fixture.content(), &bytes[..usize::try_from(scan.end).unwrap()]);
    }
}

/// What these files may grow to; their rooms are of 1 KiB.
const LIMIT: u64 = 16 * 1024;
const FILL_AFTER: u64 = LIMIT / 2;

fn append_with_room(file: &mut SegmentFile, bytes: &[u8]) -> Result<u64, AppendError> {
    file.make_room(bytes.len() as u64, LIMIT, Some(FILL_AFTER));
    append(file, &[bytes])
}

/// A file that has grown by as much as counts as fast.
fn fast(fixture: &Fixture) -> SegmentFile {
    let mut file = fixture.create();
    for _ in 0..80 {
        assert!(!file.has_room(), "room at {}", file.end());
        append_with_room(&mut file, &[7; 103]).unwrap();
    }
    file
}

#[test]
fn a_fast_file_grows_into_zeros_and_a_sealed_one_has_none() {
    let fixture = fixture();
    let mut file = fast(&fixture);
    assert_eq!(append_with_room(&mut file, &[8; 100]).unwrap(), 8240);
    assert!(file.has_room());
    let mut expected = [vec![7; 8240], vec![8; 100]].concat();
    expected.resize(9 * 1024, 0);
    assert_eq!(fixture.content(), expected);
    assert_eq!(append_with_room(&mut file, &[9; 100]).unwrap(), 8340);
    expected[8340..8440].fill(9);
    assert_eq!(fixture.content(), expected);
    file.release_room().unwrap();
    assert!(!file.has_room());
    expected.truncate(8440);
    assert_eq!(fixture.content(), expected);
    // It has to be fast anew.
    append_with_room(&mut file, &[9; 100]).unwrap();
    assert!(!file.has_room());
    file.seal();
    assert_eq!(fixture.content().len(), 8540);
}

#[test]
fn without_a_threshold_nothing_is_filled() {
    let fixture = fixture();
    let mut file = fixture.create();
    for _ in 0..150 {
        file.make_room(103, LIMIT, None);
        append(&mut file, &[&[7; 103]]).unwrap();
    }
    assert!(file.has_room(), "blocks are reserved all the same");
    assert_eq!(fixture.content(), vec![7; 150 * 103]);
}

#[test]
fn room_ends_where_the_file_may_not_grow_further() {
    let fixture = fixture();
    let mut file = fast(&fixture);
    while file.end() < LIMIT - 100 {
        append_with_room(&mut file, &[8; 100]).unwrap();
        assert!(fixture.content().len() as u64 <= LIMIT);
    }
    append_with_room(&mut file, &[8; 1000]).unwrap();
    assert_eq!(fixture.content().len() as u64, file.end());
}

#[test]
fn large_writes_need_no_zeros() {
    let fixture = fixture();
    let mut file = fast(&fixture);
    append_with_room(&mut file, &[8; 1024]).unwrap();
    assert_eq!(fixture.content().len() as u64, file.end());
}

#[test]
fn a_failed_filling_costs_no_append_and_is_not_tried_again() {
    let fixture = fixture();
    let mut file = fast(&fixture);
    fixture.disk.plan(&[Fault::Fill(300, ENOSPC)]);
    append_with_room(&mut file, &[8; 100]).unwrap();
    // A part of the zeros is there: it goes with the rest of the room.
    assert_eq!(fixture.content().len(), 8240 + 300);
    for _ in 0..20 {
        append_with_room(&mut file, &[8; 100]).unwrap();
        assert!(fixture.content().len() as u64 <= file.end().max(8240 + 300));
    }
    let expected = [vec![7; 8240], vec![8; 2100]].concat();
    file.release_room().unwrap();
    assert_eq!(fixture.content(), expected);
}

#[test]
fn a_failed_append_takes_the_room_along() {
    let fixture = fixture();
    let mut file = fast(&fixture);
    append_with_room(&mut file, &[8; 100]).unwrap();
    fixture.disk.plan(&[Fault::Error(50, EIO)]);
    assert!(append_with_room(&mut file, &[9; 100]).is_err());
    assert_eq!(fixture.content().len(), 8340);
    assert!(!file.has_room());
    append_with_room(&mut file, &[9; 100]).unwrap();
    assert_eq!(fixture.content()[8340..], [9; 100]);
}

#[test]
fn a_room_that_cannot_be_released_stays() {
    let fixture = fixture();
    let mut file = fast(&fixture);
    append_with_room(&mut file, &[8; 100]).unwrap();
    fixture.disk.plan(&[Fault::Cut(EIO)]);
    assert!(file.release_room().is_err());
    assert!(file.has_room());
    append_with_room(&mut file, &[9; 100]).unwrap();
    file.release_room().unwrap();
    assert_eq!(fixture.content().len(), 8440);
}
