//! Files as Apache Kafka 4.1.1 writes them.

use super::*;

/// What Kafka's `LogSegment.append` would leave for these batches: an entry before each batch that
/// has more than an interval behind it, and at the end of the segment its largest timestamp.
#[test]
fn index_files_have_kafkas_bytes() {
    let fixture = fixture();
    let config = LogConfig {
        index_interval_bytes: 300,
        ..LogConfig::default()
    };
    let mut log = fixture.log(config);
    let timestamps = [1000, 3000, 2000, 2500, 4000, 3500, 3600, 3700];
    for (base, timestamp) in (0..).zip(timestamps) {
        log.append_all(&[batch(base * 2, 0, 50, &[timestamp, timestamp - 1])]);
    }
    let size = u32::try_from(batch(0, 0, 50, &[1000, 999]).len()).unwrap();
    assert_eq!(size, 175);
    log.roll(Millis(1)).unwrap();
    let mut index = Vec::new();
    // Batches 2, 4 and 6 have two batches, 350 bytes, behind them.
    for batch in [2_u32, 4, 6] {
        index.extend((batch * 2 + 1).to_be_bytes());
        index.extend((batch * size).to_be_bytes());
    }
    assert_eq!(
        std::fs::read(fixture.path("00000000000000000000.index")).unwrap(),
        index
    );
    let mut timeindex = Vec::new();
    // At batch 2 the largest is that of batch 1, at 4 its own; at 6 and at the end it is the same.
    for (timestamp, offset) in [(3000_i64, 3_u32), (4000, 9)] {
        timeindex.extend(timestamp.to_be_bytes());
        timeindex.extend(offset.to_be_bytes());
    }
    assert_eq!(
        std::fs::read(fixture.path("00000000000000000000.timeindex")).unwrap(),
        timeindex
    );
}

#[test]
fn names_of_files_are_kafkas() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(20, 1, 150);
    log.write_snapshot(&producers_of(&[batch_at(0, 20, 1, 1)]))
        .unwrap();
    log.flush(Millis(1)).unwrap();
    let base = log.active.base_offset.0;
    let names = fixture.names("");
    for name in [
        "00000000000000000000.index".to_owned(),
        "00000000000000000000.log".to_owned(),
        "00000000000000000000.timeindex".to_owned(),
        "00000000000000000020.snapshot".to_owned(),
        format!("{base:020}.log"),
        "leader-epoch-checkpoint".to_owned(),
    ] {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
    let epochs = std::fs::read_to_string(fixture.path("leader-epoch-checkpoint")).unwrap();
    assert_eq!(epochs, "0\n1\n0 0\n");
}
