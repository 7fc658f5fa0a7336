//! Reads by offset and by time, and how much of the log they look at.
//!
//! Input: logs on a temporary or simulated disk. Output: assertions.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use super::*;

/// Row M12: a lookup walks over less than an interval and one batch, in a log of any size.
#[test]
fn whether_a_lookup_is_hot_is_said_without_reading() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        segment_bytes: 20_000,
        ..small()
    });
    log.fill_to(200, 1, 100);
    let view = log.view();
    let active = view.active.base_offset;
    let middle = Offset((active.0 + 200) / 2);
    let at = view.read(middle, 1, Offset(200), true).unwrap().unwrap();
    let before = fixture.disk.reads();
    assert!(!view.is_lookup_hot(Offset(active.0 - 1)), "it is sealed");
    assert!(view.is_lookup_hot(active) && view.is_lookup_hot(middle));
    fixture.disk.set_cold_below(at.position);
    assert!(!view.is_lookup_hot(active) && !view.is_lookup_hot(middle));
    assert!(view.is_lookup_hot(Offset(199)));
    assert!(view.is_lookup_hot(Offset(200)), "what is to come");
    assert_eq!(fixture.disk.reads(), before);
}

#[test]
fn a_lookup_scans_less_than_an_interval_and_one_batch() {
    let fixture = fixture();
    let config = LogConfig {
        segment_bytes: 20_000,
        index_interval_bytes: 1000,
        ..small()
    };
    let mut log = fixture.log(config);
    let mut largest = 0;
    while log.log_end_offset().0 < 2000 {
        let base = log.log_end_offset().0;
        let size = 20 + usize::try_from(base * 7 % 300).unwrap();
        let batch = batch_at(base, 1 + base % 3, size, 1000);
        largest = largest.max(batch.len() as u64);
        log.append_all(&[batch]);
    }
    assert!(log.view().segment_count() > 20);
    let end = log.log_end_offset();
    for offset in 0..end.0 {
        let range = log
            .view()
            .read(Offset(offset), 1, end, true)
            .unwrap()
            .unwrap();
        let found = records(&range);
        assert!(found.first().unwrap().0 <= offset && found.last().unwrap().0 >= offset);
        assert!(
            range.scanned_bytes <= 1000 + largest,
            "{offset}: {}",
            range.scanned_bytes
        );
    }
}

/// Row M11: the indexes are sparse.
#[test]
fn an_index_has_at_most_one_entry_per_interval() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig::default());
    log.fill_to(20_000, 20, 60);
    let bytes = log.view().size_in_bytes();
    let entries = log.active.indexer.offsets.view().len() as u64;
    assert!(
        entries <= bytes / 4096 + 1,
        "{entries} entries for {bytes} bytes"
    );
    assert!(
        entries >= bytes / (4096 + 2000),
        "{entries} entries for {bytes} bytes"
    );
    log.view().check_indexes().unwrap();
}

#[test]
fn a_read_is_bounded_by_bytes_by_offset_and_by_the_segment() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(40, 2, 100);
    let view = log.view();
    let read = |offset, max_bytes, up_to, min_one| {
        view.read(Offset(offset), max_bytes, Offset(up_to), min_one)
            .unwrap()
    };
    let one = batch_at(0, 2, 100, 1000).len() as u64;
    assert_eq!(
        read(0, 10, 40, true).unwrap().length,
        one,
        "the first batch comes whole"
    );
    assert_eq!(read(0, 10, 40, false).unwrap().length, 10);
    assert_eq!(read(1, one, 40, false).unwrap().base_offset, Offset(0));
    // Up to: at a batch's border, inside of a batch, at or past the offset itself.
    assert_eq!(read(0, 1 << 20, 4, true).unwrap().length, 2 * one);
    assert_eq!(read(0, 1 << 20, 5, true).unwrap().length, 2 * one);
    assert!(read(0, 1 << 20, 1, true).is_none());
    assert!(read(4, 1 << 20, 4, true).is_none());
    assert!(read(5, 1 << 20, 4, true).is_none());
    assert!(read(40, 1 << 20, 40, true).is_none());
    // A read ends with its segment.
    let first = read(0, 1 << 20, 40, true).unwrap();
    let second = i64::try_from(first.length / one * 2).unwrap();
    assert!(second < 40);
    assert_eq!(
        read(second, 1, 40, true).unwrap().segment_base_offset,
        Offset(second)
    );
    assert_eq!(offsets(&view, 0, 40), upto(40));
}

#[test]
fn outside_of_the_log_is_out_of_range() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(10, 1, 10);
    log.advance_log_start(Offset(4)).unwrap();
    for offset in [-1, 0, 3, 11, i64::MAX] {
        let error = log
            .view()
            .read(Offset(offset), 100, Offset(10), true)
            .unwrap_err();
        assert!(matches!(
            error,
            ReadError::OutOfRange {
                log_end_offset: Offset(10),
                ..
            }
        ));
        assert!(!error.is_stale());
    }
    assert_eq!(offsets(&log.view(), 4, 10), (4..10).collect::<Vec<_>>());
}

#[test]
fn a_gap_that_compaction_left_is_read_over() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        is_compacting: true,
        ..small()
    });
    for base in [0, 5, 20, 21, 40] {
        log.append_all(&[batch_at(base, 1, 500, 1000)]);
    }
    log.roll(Millis(1)).unwrap();
    log.append_all(&[batch_at(60, 1, 500, 1000)]);
    assert_eq!(offsets(&log.view(), 0, 61), [0, 5, 20, 21, 40, 60]);
    for (from, first) in [(1, 5), (6, 20), (22, 40), (41, 60)] {
        let range = log
            .view()
            .read(Offset(from), 1, Offset(61), true)
            .unwrap()
            .unwrap();
        assert_eq!(range.base_offset, Offset(first));
    }
    assert!(
        log.view()
            .read(Offset(41), 1, Offset(60), true)
            .unwrap()
            .is_none()
    );
}

#[test]
fn compressed_batches_are_searched_inside() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    for (number, codec) in (0..).zip([
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
        Codec::None,
    ]) {
        let base = number * 10;
        let timestamps: Vec<i64> = (base..base + 10).map(|at| 1000 + at * 10).collect();
        let mut builder = BatchBuilder::new(codec);
        log.append_all(&[fill(&mut builder, base, 3, 50, &timestamps)]);
    }
    for offset in 0..50 {
        let found = log
            .view()
            .offset_for_timestamp(Millis(995 + offset * 10), Offset(50))
            .unwrap();
        let timestamp = Millis(1000 + offset * 10);
        let leader_epoch = LeaderEpoch(3);
        let offset = Offset(offset);
        assert_eq!(
            found,
            Some(FoundRecord {
                timestamp,
                offset,
                leader_epoch
            })
        );
    }
    let newest = log.view().max_timestamp(Offset(50)).unwrap().unwrap();
    assert_eq!(
        (newest.offset, newest.timestamp),
        (Offset(49), Millis(1490))
    );
    assert_eq!(log.view().earliest().unwrap().offset, Offset(0));
    assert_eq!(log.view().max_timestamp(Offset(49)).unwrap(), None);
}

#[test]
fn garbage_in_a_batch_does_not_stop_a_search_by_time() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let mut builder = BatchBuilder::new(Codec::Zstd);
    let mut bytes = fill(&mut builder, 0, 0, 50, &[1000, 1001]);
    let last = bytes.len() - 1;
    bytes[skein_record::HEADER_BYTES..last].fill(0xee);
    log.append_all(&[bytes, batch_at(2, 1, 10, 2000)]);
    let found = log
        .view()
        .offset_for_timestamp(Millis(1001), Offset(3))
        .unwrap()
        .unwrap();
    assert_eq!(found.offset, Offset(0));
    let found = log
        .view()
        .offset_for_timestamp(Millis(1002), Offset(3))
        .unwrap()
        .unwrap();
    assert_eq!(found.offset, Offset(2));
}

/// Row M29: descriptors and maps of cold segments are capped.
#[test]
fn descriptors_stay_below_their_cap() {
    let mut fixture = fixture();
    fixture.limits = CacheLimits {
        descriptors: 10,
        maps: 10,
    };
    let mut log = fixture.log(LogConfig {
        segment_bytes: 300,
        ..small()
    });
    log.fill_to(300, 1, 150);
    assert_eq!(fixture.names(".log").len(), 300);
    log.flush(Millis(1)).unwrap();
    let mine = |what: &str, name: &str| {
        let root = fixture.temporary.path().to_str().unwrap();
        match what {
            "fd" => std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
                .filter(|path| path.starts_with(root) && path.to_str().unwrap().ends_with(name))
                .count(),
            _ => std::fs::read_to_string("/proc/self/maps")
                .unwrap()
                .lines()
                .filter(|line| line.contains(root) && line.ends_with(name))
                .count(),
        }
    };
    for offset in (0..300).rev() {
        log.view()
            .read(Offset(offset), 1, Offset(300), true)
            .unwrap()
            .unwrap();
        log.view()
            .offset_for_timestamp(Millis(1000 + offset), Offset(300))
            .unwrap()
            .unwrap();
        assert!(mine("fd", ".log") <= 12, "{}", mine("fd", ".log"));
        assert!(
            mine("fd", "index") <= 2,
            "descriptors of mapped indexes are closed"
        );
        assert!(mine("maps", "index") <= 22);
    }
}

/// Row M14: indexes are mapped, and rebuilt when they are missing or wrong.
#[test]
fn a_missing_or_corrupt_index_is_rebuilt_from_the_log() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 6] = [
        ("missing", |path| std::fs::remove_file(path).unwrap()),
        ("empty", |path| std::fs::write(path, "").unwrap()),
        ("odd", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.push(0);
            std::fs::write(path, bytes).unwrap();
        }),
        ("zeros", |path| {
            let length = std::fs::metadata(path).unwrap().len();
            std::fs::write(path, vec![0; usize::try_from(length).unwrap()]).unwrap();
        }),
        ("past the end", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            bytes.extend([0x7f; 24]);
            std::fs::write(path, bytes).unwrap();
        }),
        ("garbage", |path| {
            let length = std::fs::metadata(path).unwrap().len();
            let garbage: Vec<u8> = (0..length).map(|at| (at * 37 % 251) as u8).collect();
            std::fs::write(path, garbage).unwrap();
        }),
    ];
    for (what, damage) in damages {
        for suffix in [".index", ".timeindex"] {
            // An empty offset index is a small one: correct, if slow.
            if (what, suffix) == ("empty", ".index") {
                continue;
            }
            let fixture = fixture();
            let mut log = fixture.log(small());
            log.fill_to(60, 1, 150);
            let good = log.active.base_offset;
            log.flush(Millis(1)).unwrap();
            let rp = BTreeMap::from([(orders(), log.recovery_point())]);
            log.home
                .directory
                .write_checkpoint(CheckpointFile::RecoveryPoint, &rp)
                .unwrap();
            drop(log);
            let name = &fixture.names(suffix)[1];
            let before = std::fs::read(fixture.path(name)).unwrap();
            assert!(before.len() > 8, "{name}");
            damage(&fixture.path(name));
            let log = fixture.log(small());
            assert_eq!(offsets(&log.view(), 0, 60), upto(60), "{what} {suffix}");
            for offset in 0..60 {
                let found = log
                    .view()
                    .offset_for_timestamp(Millis(1000 + offset), Offset(60))
                    .unwrap();
                assert_eq!(found.unwrap().offset, Offset(offset), "{what} {suffix}");
            }
            log.view().check_indexes().unwrap();
            assert_eq!(
                std::fs::read(fixture.path(name)).unwrap(),
                before,
                "{what} {suffix}"
            );
            assert!(good > Offset(0));
        }
    }
}

#[test]
fn the_batches_that_hold_some_offsets_are_found_once_each() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let [first, second, third] = [(0, 5), (5, 5), (20, 3)].map(|(base, count)| {
        let batch = batch_at(base, count, 50, 1000);
        // Between the second and the third lies a gap, as compaction leaves one.
        log.append_all(std::slice::from_ref(&batch));
        batch.len() as u64
    });
    let view = log.view();
    let range = view
        .read(Offset(0), 1 << 20, Offset(23), true)
        .unwrap()
        .unwrap();
    assert_eq!(range.length, first + second + third);
    let places = |range: &FileRange, offsets: &[i64]| {
        let offsets: Vec<_> = offsets.iter().copied().map(Offset).collect();
        let places = view.batches_with(range, &offsets).unwrap();
        for place in &places {
            let batch = view.read_batch(range, *place).unwrap();
            assert_eq!(batch.as_slice().len() as u64, place.length);
        }
        places
            .iter()
            .map(|place| place.position - range.position)
            .collect::<Vec<_>>()
    };
    for offset in [0, 3, 4] {
        assert_eq!(places(&range, &[offset]), [0]);
    }
    assert_eq!(places(&range, &[5]), [first]);
    assert_eq!(places(&range, &[9]), [first]);
    assert_eq!(places(&range, &[10, 15, 19]), [0; 0], "they are gone");
    assert_eq!(places(&range, &[19, 20, 22, 23]), [first + second]);
    assert_eq!(
        places(&range, &[1, 2, 4, 9, 12, 22]),
        [0, first, first + second]
    );
    // What begins behind the range is not named, what passes its end is.
    let cut = FileRange {
        length: first + 1,
        ..range
    };
    assert_eq!(places(&cut, &[1, 6, 22]), [0, first]);
}
