//! Entries, their golden bytes, and views of a growing index.

use super::*;
use crate::testing::{ENOSPC, Fault, FaultyDisk};

fn offset_entry(number: u32) -> OffsetEntry {
    OffsetEntry {
        relative_offset: number * 3,
        position: number * 5000,
    }
}

/// The bytes that Kafka writes for these entries.
#[test]
fn entries_have_kafkas_bytes() {
    let mut bytes = [0; 8];
    OffsetEntry {
        relative_offset: 0x0102_0304,
        position: 0x0506_0708,
    }
    .encode(&mut bytes);
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(OffsetEntry::decode(&bytes).position, 0x0506_0708);
    let entry = TimeEntry {
        timestamp: 0x0102_0304_0506_0708,
        relative_offset: 9,
    };
    let mut bytes = [0; 12];
    entry.encode(&mut bytes);
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]);
    assert_eq!(TimeEntry::decode(&bytes), entry);
    let early = TimeEntry {
        timestamp: -2,
        relative_offset: 1,
    };
    early.encode(&mut bytes);
    assert_eq!(TimeEntry::decode(&bytes), early);
}

#[test]
fn views_stay_as_they_were_while_the_writer_goes_on() {
    let temporary = tempfile::TempDir::new().unwrap();
    let disk: Arc<dyn Disk> = FaultyDisk::new();
    let path = temporary.path().join("0.index");
    let mut writer = IndexWriter::<OffsetEntry>::new(disk, path.clone());
    let mut views = Vec::new();
    for number in 0..2000 {
        writer.push(offset_entry(number));
        views.push(writer.view().clone());
    }
    for (number, view) in (0..).zip(&views) {
        assert_eq!(view.last().unwrap(), Some(offset_entry(number)));
        let found = view
            .partition_point(|entry| entry.relative_offset < number * 3)
            .unwrap();
        assert_eq!(found, number as usize);
    }
    assert!(std::fs::metadata(&path).unwrap().len() < writer.size_in_bytes());
    writer.write_tail().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 2000 * 8);
    assert_eq!(OffsetEntry::decode(&bytes[8 * 700..]), offset_entry(700));
    assert_eq!(views[1999].get(5).unwrap(), offset_entry(5));
}

#[test]
fn a_full_disk_keeps_entries_in_memory_and_writes_them_later() {
    let temporary = tempfile::TempDir::new().unwrap();
    let disk = FaultyDisk::new();
    let path = temporary.path().join("0.timeindex");
    let mut writer = IndexWriter::<TimeEntry>::new(disk.clone(), path.clone());
    disk.plan(&[Fault::Error(5, ENOSPC), Fault::Error(0, ENOSPC)]);
    let entry = |number: u32| TimeEntry {
        timestamp: i64::from(number),
        relative_offset: number,
    };
    for number in 0..500 {
        writer.push(entry(number));
    }
    assert_eq!(
        writer.view().to_vec().unwrap(),
        (0..500).map(entry).collect::<Vec<_>>()
    );
    writer.write_tail().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let read: Vec<TimeEntry> = bytes.chunks_exact(12).map(TimeEntry::decode).collect();
    assert_eq!(read, (0..500).map(entry).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "after Some")]
fn entries_rise() {
    let temporary = tempfile::TempDir::new().unwrap();
    let mut writer =
        IndexWriter::<OffsetEntry>::new(FaultyDisk::new(), temporary.path().join("0.index"));
    writer.push(offset_entry(2));
    writer.push(offset_entry(2));
}
