//! Indexes that are wrong in a way that only a lookup can see.
//!
//! Input: logs whose index files were changed behind their back. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::recovering::checkpoint;
use super::*;
use crate::log::index::{Entry, OffsetEntry, TimeEntry};
use crate::log::names::FileKind;

const END: i64 = 60;

/// A log of batches of one record each, 10 ms apart, which recovery believes; closed again.
fn written() -> Fixture {
    let fixture = fixture();
    let mut log = fixture.log(small());
    for base in 0..END {
        log.append_all(&[batch_at(base, 1, 100, time_of(base))]);
    }
    log.flush(Millis(1)).unwrap();
    checkpoint(&log);
    fixture
}

fn time_of(offset: i64) -> i64 {
    1000 + 10 * offset
}

/// Changes the entry `number` of the second segment's index; returns its file and what was in it.
fn change<E: Entry>(
    fixture: &Fixture,
    suffix: &str,
    number: usize,
    change: impl FnOnce(&mut E),
) -> (PathBuf, Vec<u8>) {
    let path = fixture.path(&fixture.names(suffix)[1]);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    let bytes = &mut bad[number * E::BYTES..(number + 1) * E::BYTES];
    let mut entry = E::decode(bytes);
    change(&mut entry);
    entry.encode(bytes);
    let entries: Vec<E> = bad.chunks(E::BYTES).map(E::decode).collect();
    assert!(number > 0 && number + 1 < entries.len(), "it is in between");
    assert!(entries.windows(2).all(|pair| pair[1].follows(pair[0])));
    std::fs::write(&path, bad).unwrap();
    (path, good)
}

#[test]
fn a_wrong_entry_in_between_costs_a_walk_and_is_mended() {
    let changes: [fn(&mut OffsetEntry); 4] = [
        // No header is there, nor the end of the segment.
        |entry| entry.position += 7,
        // The batch behind the right one.
        |entry| entry.position += 170,
        // Not the last offset of the batch.
        |entry| entry.relative_offset -= 1,
        // A batch before the right one: every answer stays right.
        |entry| entry.position -= 170,
    ];
    for (at, bad) in changes.into_iter().enumerate() {
        let fixture = written();
        let (path, good) = change(&fixture, ".index", 2, bad);
        let log = fixture.log(small());
        for from in 0..END {
            let found = offsets(&log.view(), from, END);
            assert_eq!(found, (from..END).collect::<Vec<_>>(), "change {at}");
        }
        if at < 3 {
            log.view().check_indexes().unwrap();
            assert_eq!(std::fs::read(path).unwrap(), good, "change {at}");
        }
    }
}

#[test]
fn a_wrong_time_in_between_costs_a_walk_and_is_mended() {
    let changes: [fn(&mut TimeEntry); 3] = [
        |entry| entry.timestamp -= 16,
        |entry| entry.timestamp += 15,
        |entry| entry.relative_offset += 2,
    ];
    for (at, bad) in changes.into_iter().enumerate() {
        let fixture = written();
        let (path, good) = change(&fixture, ".timeindex", 2, bad);
        let log = fixture.log(small());
        for offset in 0..END {
            let timestamp = Millis(time_of(offset) - 5);
            let found = log
                .view()
                .offset_for_timestamp(timestamp, Offset(END))
                .unwrap();
            assert_eq!(found.unwrap().offset, Offset(offset), "change {at}");
        }
        log.view().check_indexes().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), good, "change {at}");
    }
}

#[test]
fn a_good_index_is_not_blamed_for_a_bad_log() {
    let fixture = written();
    let mut position = 0;
    let (path, good) = change(&fixture, ".index", 2, |entry: &mut OffsetEntry| {
        position = usize::try_from(entry.position).unwrap();
    });
    let log = fixture.log(small());
    let log_path = fixture.path(&fixture.names(".log")[1]);
    let mut bytes = std::fs::read(&log_path).unwrap();
    // The batch's magic.
    bytes[position + 16] = 9;
    std::fs::write(&log_path, bytes).unwrap();
    let entry = OffsetEntry::decode(&good[2 * OffsetEntry::BYTES..]);
    let base = log.sealed[1].base_offset.0;
    let target = Offset(base + i64::from(entry.relative_offset));
    for _ in 0..2 {
        let error = log.view().read(target, 100, Offset(END), true).unwrap_err();
        assert!(error.to_string().contains("no batch header"), "{error}");
        // What is before it can still be read.
        assert_eq!(offsets(&log.view(), base, base + 2), [base, base + 1]);
    }
    assert_eq!(std::fs::read(path).unwrap(), good);
}

#[test]
fn nobody_maps_an_index_that_another_thread_makes() {
    let fixture = written();
    let log = fixture.log(small());
    let segment = Arc::clone(&log.sealed[1]);
    let entries = segment.offset_index().unwrap().to_vec().unwrap();
    let times = segment.time_index().unwrap().to_vec().unwrap();
    // Both had to go, and one of the files is missing.
    segment.evict_offsets();
    segment.evict_times();
    std::fs::remove_file(segment.path(FileKind::TimeIndex)).unwrap();
    let (sender, seen) = std::sync::mpsc::channel();
    let other = Arc::clone(&segment);
    fixture.disk.on_write(move |path| {
        if path != other.path(FileKind::OffsetIndex) {
            return;
        }
        // The file is there, and nothing in it yet.
        other.evict_offsets();
        let (other, sender) = (Arc::clone(&other), sender.clone());
        std::thread::spawn(move || {
            let found = other.offset_index().unwrap().to_vec().unwrap();
            sender.send(found).unwrap();
        });
        // Time enough for whoever does not wait.
        std::thread::sleep(std::time::Duration::from_millis(200));
    });
    assert_eq!(segment.time_index().unwrap().to_vec().unwrap(), times);
    assert_eq!(seen.recv().unwrap(), entries);
}
