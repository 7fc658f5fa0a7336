//! Tests of [`super`], on files of the simulated world.

use std::io::IoSlice;
use std::path::Path;

use skein_env::sim::SimWorld;
use skein_env::{OpenMode, Residency};

use super::*;

const STEP: u64 = CacheSteps::STEP;
const STEPS: u64 = 16;

/// A segment of so many steps, none of them in the page cache.
struct Segment {
    base_offset: Offset,
    file: Arc<dyn File>,
}

impl Segment {
    fn new(world: &SimWorld, base_offset: i64) -> Self {
        let disk = world.node("node").disk;
        let path = format!("/{base_offset}");
        let file = disk.open(Path::new(&path), OpenMode::CreateNew).unwrap();
        let step = vec![7; usize::try_from(STEP).unwrap()];
        for number in 0..STEPS {
            let count = file.write_at(&[IoSlice::new(&step)], number * STEP);
            assert_eq!(count.unwrap(), step.len());
        }
        file.sync_data().unwrap();
        file.drop_cache(0, STEPS * STEP);
        Self {
            base_offset: Offset(base_offset),
            file,
        }
    }

    fn range(&self, bytes: Range<u64>) -> FileRange {
        FileRange {
            file: Arc::clone(&self.file),
            position: bytes.start,
            length: bytes.end - bytes.start,
            base_offset: self.base_offset,
            first_batch_bytes: 100,
            records: 1,
            segment_base_offset: self.base_offset,
            scanned_bytes: 0,
        }
    }

    /// Reads the range as `reader`.
    fn read(&self, reader: &ColdReader, of: &Arc<ColdReads>, bytes: Range<u64>) {
        reader.read(of, &self.range(bytes.clone()));
        let length = bytes.end - bytes.start;
        assert_eq!(self.file.residency(bytes.start, length), Residency::Hot);
    }

    /// The steps that are in the page cache.
    fn hot(&self) -> Vec<u64> {
        let is_hot = |step: &u64| self.file.residency(step * STEP, STEP) == Residency::Hot;
        (0..STEPS).filter(is_hot).collect()
    }
}

fn on_segment(test: impl FnOnce(&SimWorld, &Segment, &Arc<ColdReads>)) {
    let world = SimWorld::new(1);
    let segment = Segment::new(&world, 0);
    test(&world, &segment, &Arc::default());
}

#[test]
fn a_reader_that_reads_on_leaves_nothing_behind() {
    on_segment(|world, segment, of| {
        let reader = ColdReader::default();
        // Ranges end somewhere in a step, and a batch that is cut off is read again.
        let mut at = 0;
        while at < STEPS * STEP {
            let end = (at + 3 * STEP + 1_000).min(STEPS * STEP);
            segment.read(&reader, of, at..end);
            assert!(segment.hot().len() <= 9, "{:?}", segment.hot());
            at = if end == STEPS * STEP { end } else { end - 300 };
        }
        assert_eq!(segment.hot(), [15]);
        // On in the next segment.
        let next = Segment::new(world, 1_000);
        next.read(&reader, of, 0..STEP);
        assert_eq!(segment.hot(), [0; 0]);
    });
}

#[test]
fn what_was_in_the_cache_before_stays_there() {
    on_segment(|_, segment, of| {
        segment.file.read_ahead(2 * STEP, STEP).unwrap();
        segment.file.read_ahead(14 * STEP, 2 * STEP).unwrap();
        let reader = ColdReader::default();
        for number in 0..4 {
            segment.read(&reader, of, number * 4 * STEP..(number + 1) * 4 * STEP);
        }
        assert_eq!(segment.hot(), [2, 12, 13, 14, 15]);
    });
}

#[test]
fn a_reader_that_jumps_or_ends_leaves_its_range_to_the_kernel() {
    on_segment(|_, segment, of| {
        let reader = ColdReader::default();
        segment.read(&reader, of, 0..STEP);
        segment.read(&reader, of, 8 * STEP..9 * STEP);
        segment.read(&reader, of, 4 * STEP..5 * STEP);
        // The same range once more.
        segment.read(&reader, of, 4 * STEP..5 * STEP);
        drop(reader);
        assert_eq!(segment.hot(), [0, 4, 8]);
        assert!(of.reads.lock().list.is_empty());
        assert!(of.front.load().is_none());
    });
}

#[test]
fn what_two_readers_hold_goes_with_the_second() {
    on_segment(|_, segment, of| {
        let (first, second) = (ColdReader::default(), ColdReader::default());
        segment.read(&first, of, 0..4 * STEP);
        segment.read(&second, of, 2 * STEP..6 * STEP);
        segment.read(&first, of, 4 * STEP..8 * STEP);
        // The first has 8 to 11 prefetched.
        assert_eq!(segment.hot(), [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        segment.read(&second, of, 6 * STEP..10 * STEP);
        // It has moved on from 2 and 3, and the first not from 4 and 5.
        assert_eq!(segment.hot(), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        segment.read(&first, of, 8 * STEP..12 * STEP);
        assert_eq!(segment.hot(), [6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        segment.read(&second, of, 10 * STEP..12 * STEP);
        assert_eq!(segment.hot(), [8, 9, 10, 11, 12, 13, 14, 15]);
    });
}

#[test]
fn what_a_reader_will_ask_for_next_is_prefetched_once_it_reads_on() {
    on_segment(|_, segment, of| {
        let reader = ColdReader::default();
        segment.read(&reader, of, 0..2 * STEP);
        assert_eq!(segment.hot(), [0, 1]);
        segment.read(&reader, of, 2 * STEP..4 * STEP);
        assert_eq!(segment.hot(), [2, 3, 4, 5]);
        // What was prefetched is the reader's, and goes when it has passed there.
        segment.read(&reader, of, 4 * STEP..5 * STEP);
        assert_eq!(segment.hot(), [4, 5]);
        segment.read(&reader, of, 5 * STEP..6 * STEP);
        assert_eq!(segment.hot(), [5, 6]);
        // Nothing that is not written yet: what comes there belongs to the readers of the tail.
        segment.read(&reader, of, 6 * STEP..15 * STEP);
        segment.read(&reader, of, 15 * STEP..16 * STEP);
        let end = STEPS * STEP;
        let reads = of.reads.lock();
        assert!(reads.list.iter().all(|read| read.bytes.end <= end));
        assert!(reads.list[0].brought.iter().all(|part| part.end <= end));
    });
}

#[test]
fn readers_of_other_replicas_and_segments_are_none_of_its_concern() {
    on_segment(|world, segment, of| {
        let other = Segment::new(world, 1_000);
        let of_other: Arc<ColdReads> = Arc::default();
        let reader = ColdReader::default();
        segment.read(&reader, of, 0..STEP);
        other.read(&reader, &of_other, 0..STEP);
        let beside = ColdReader::default();
        other.read(&beside, of, 0..STEP);
        segment.read(&reader, of, STEP..2 * STEP);
        assert_eq!(segment.hot(), [1, 2]);
        assert_eq!(other.hot(), [0]);
    });
}

#[test]
fn only_what_lies_behind_a_cold_reader_is_passed_by_it() {
    on_segment(|world, segment, of| {
        let newer = Segment::new(world, 1_000);
        let reader = ColdReader::default();
        assert!(!of.is_passed_by(&segment.range(0..1)));
        segment.read(&reader, of, 2 * STEP..4 * STEP);
        assert!(of.is_passed_by(&segment.range(0..1)));
        assert!(of.is_passed_by(&segment.range(4 * STEP - 1..5 * STEP)));
        assert!(!of.is_passed_by(&segment.range(4 * STEP..5 * STEP)));
        assert!(!of.is_passed_by(&newer.range(0..1)));
        let other: Arc<ColdReads> = Arc::default();
        reader.stop([&other].into_iter());
        assert!(of.is_passed_by(&segment.range(0..1)));
        reader.stop([&other, of].into_iter());
        assert!(!of.is_passed_by(&segment.range(0..1)));
    });
}

#[test]
fn a_file_that_retention_removed_is_not_held_open() {
    on_segment(|_, segment, of| {
        let reader = ColdReader::default();
        segment.read(&reader, of, 0..STEP);
        assert_eq!(Arc::strong_count(&segment.file), 1);
    });
}
