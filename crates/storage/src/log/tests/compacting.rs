//! Compaction against a list of records.

use std::collections::BTreeMap;

use proptest::prelude::*;
use skein_record::{EndTxnMarker, TxnResult, end_txn_marker};

use super::*;

const RETENTION: i64 = 500;

/// A compressed batch of one record unpacks to less than this, one of several to more.
const FEW_BYTES: usize = 150;

pub(super) fn settings() -> CompactionSettings {
    CompactionSettings {
        min_cleanable_dirty_ratio: 0.0,
        min_compaction_lag_ms: Millis(0),
        max_compaction_lag_ms: None,
        delete_retention_ms: Millis(RETENTION),
    }
}

pub(super) fn budget(keys_max: u64) -> CompactionBudget {
    CompactionBudget {
        dedupe_buffer_bytes: 24 * keys_max,
        load_factor: 0.9,
        io_buffer_bytes: 1000,
        unpacked_max_bytes: 100_000,
        hash_key: [3; 16],
    }
}

pub(super) fn compacting() -> LogConfig {
    LogConfig {
        is_compacting: true,
        is_deleting: false,
        ..small()
    }
}

/// So that several segments become one.
pub(super) fn large() -> LogConfig {
    LogConfig {
        segment_bytes: 100_000,
        ..compacting()
    }
}

impl Log {
    /// Compacts the log once; where it came, if there was something to do.
    pub(super) fn compact_with(
        &mut self,
        producers: Option<&ProducerStates>,
        budget: CompactionBudget,
        now: i64,
    ) -> Result<Option<CompactionStats>, CompactionError> {
        let source = self.compaction_source(producers);
        let Some(dirty) = source.dirty(&settings(), Millis(now))? else {
            return Ok(None);
        };
        let mut compaction = Compaction::new(source, dirty, &settings(), budget, Millis(now));
        let mut unpack_bytes = FEW_BYTES;
        loop {
            match compaction.step(unpack_bytes)? {
                CompactionStep::Worked(_) => unpack_bytes = FEW_BYTES,
                CompactionStep::Starved(_) => {
                    assert_eq!(unpack_bytes, FEW_BYTES, "it has all that there is");
                    unpack_bytes = usize::MAX;
                }
                CompactionStep::Cleaned(cleaned) => {
                    let Swapped::Done(files) = self.swap_compacted(&cleaned)? else {
                        compaction.abandon();
                        return Ok(None);
                    };
                    for file in files {
                        file.remove(&**self.home.disk())?;
                    }
                }
                CompactionStep::Ended(stats) => {
                    self.complete_compaction(compaction.completion())?;
                    return Ok(Some(stats));
                }
            }
        }
    }

    pub(super) fn compact(&mut self, now: i64) -> Option<CompactionStats> {
        self.compact_with(None, budget(1000), now).unwrap()
    }
}

/// Offset, key and value of a record.
pub(super) type Told = (i64, u8, Option<u8>);

fn keyed(codec: Codec, base: i64, records: &[(u8, Option<u8>)]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    builder.set_base_offset(Offset(base));
    builder.set_leader_epoch(LeaderEpoch(0));
    for (number, (key, value)) in records.iter().enumerate() {
        let timestamp = 1000 + base + i64::try_from(number).unwrap();
        let value = value.map(|value| vec![value; 90]);
        builder
            .append(Millis(timestamp), Some(&[*key]), value.as_deref(), &[])
            .unwrap();
    }
    builder
}

fn bytes(builder: BatchBuilder) -> Vec<u8> {
    builder.build().unwrap().as_slice().to_vec()
}

pub(super) fn append(log: &mut Log, records: &[(u8, Option<u8>)]) {
    let base = log.log_end_offset().0;
    log.append_all(&[bytes(keyed(Codec::None, base, records))]);
}

/// All batches of the log.
fn batches(view: &LogView) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut next = view.log_start_offset;
    while let Some(range) = view.read(next, 1, view.log_end_offset, true).unwrap() {
        let mut bytes = vec![0; usize::try_from(range.first_batch_bytes).unwrap()];
        range.file.read_at(&mut bytes, range.position).unwrap();
        let batch = BatchView::parse(&bytes).unwrap();
        batch.check_crc().unwrap();
        next = batch.header().next_offset();
        all.push(bytes);
    }
    all
}

pub(super) fn told(view: &LogView) -> Vec<Told> {
    let mut all = Vec::new();
    for bytes in batches(view) {
        let batch = BatchView::parse(&bytes).unwrap();
        if batch.header().attributes.is_control() {
            continue;
        }
        for record in &batch.records(100_000).unwrap() {
            let record = record.unwrap();
            assert_eq!(record.timestamp.0, 1000 + record.offset.0);
            all.push((
                record.offset.0,
                record.key.unwrap()[0],
                record.value.map(|value| value[0]),
            ));
        }
    }
    all
}

pub(super) fn last_values(records: &[Told]) -> BTreeMap<u8, u8> {
    let mut values = BTreeMap::new();
    for (_, key, value) in records {
        match value {
            Some(value) => drop(values.insert(*key, *value)),
            None => drop(values.remove(key)),
        }
    }
    values
}

/// A log with 40 single records of 4 keys, everything flushed, the last segment active.
pub(super) fn forty() -> (Fixture, Log) {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    for number in 0..40 {
        append(&mut log, &[(number % 4, Some(number))]);
    }
    log.flush(Millis(1)).unwrap();
    (fixture, log)
}

#[test]
fn of_each_key_the_last_record_below_the_active_segment_stays() {
    let (fixture, mut log) = forty();
    let before = told(&log.view());
    let active = log.active.base_offset.0;
    let old_view = log.view();
    log.set_config(large());
    let stats = log.compact(2000).unwrap();
    assert_eq!((stats.start, stats.end), (Offset(0), Offset(active)));
    let after = told(&log.view());
    let expected: Vec<Told> = before
        .iter()
        .filter(|record| record.0 >= active - 4)
        .copied()
        .collect();
    assert_eq!(after, expected);
    log.view().check_indexes().unwrap();
    assert_eq!(log.segment_count(), 2);
    // Who had the view before goes on reading what it showed.
    assert_eq!(told(&old_view), before);
    // Nothing is dirty any more, also after a restart.
    assert_eq!(log.compact(2000), None);
    drop((log, old_view));
    let mut log = fixture.log(compacting());
    log.publish_all();
    assert_eq!(told(&log.view()), expected);
    assert_eq!(log.compact(2000), None);
    for suffix in [".cleaned", ".swap", ".deleted"] {
        assert_eq!(fixture.names(suffix), [] as [&str; 0]);
    }
}

/// A `.swap` tells by its last batch what it replaces.
#[test]
fn the_last_batch_of_each_new_segment_stays_though_it_may_be_empty() {
    let (_fixture, mut log) = forty();
    assert!(log.compact(2000).unwrap().bytes_after > 0);
    let batches = batches(&log.view());
    let headers = batches
        .iter()
        .map(|bytes| *BatchView::parse(bytes).unwrap().header());
    let (mut ends, mut emptied) = (BTreeMap::new(), 0);
    for header in headers {
        ends.insert(header.next_offset(), header.records_count);
        emptied += usize::from(header.records_count == 0);
    }
    assert!(log.sealed.len() > 1 && emptied > 0);
    for segment in log.sealed.iter() {
        assert!(ends.contains_key(&segment.end_offset), "{ends:?}");
    }
}

/// The process is killed behind a swap, before the recovery point was checkpointed, and the topic
/// is compacted no more: the gaps are no lost records.
#[test]
fn gaps_are_told_of_before_they_are_made() {
    let (fixture, mut log) = forty();
    log.set_config(large());
    let source = log.compaction_source(None);
    let dirty = source.dirty(&settings(), Millis(2000)).unwrap().unwrap();
    let mut compaction = Compaction::new(source, dirty, &settings(), budget(1000), Millis(2000));
    loop {
        match compaction.step(usize::MAX).unwrap() {
            CompactionStep::Worked(_) | CompactionStep::Starved(_) => {}
            CompactionStep::Cleaned(cleaned) => {
                let swapped = log.swap_compacted(&cleaned).unwrap();
                assert!(matches!(swapped, Swapped::Done(_)));
                break;
            }
            CompactionStep::Ended(_) => panic!("nothing was compacted"),
        }
    }
    let left = told(&log.view());
    assert!(left.len() < 40);
    drop((log, compaction));
    let opened = fixture.open(small());
    assert_eq!(opened.recovery.cut, None);
    assert_eq!(told(&opened.log.view()), left);
}

#[test]
fn an_old_view_reads_its_own_files_also_when_it_had_none_open() {
    let (mut fixture, log) = forty();
    drop(log);
    fixture.limits = CacheLimits {
        descriptors: 1,
        maps: 1,
    };
    let mut log = fixture.log(compacting());
    log.publish_all();
    log.flush(Millis(1)).unwrap();
    let before = told(&log.view());
    let old_view = log.view();
    log.compact(2000).unwrap();
    assert_eq!(told(&old_view), before);
    assert_eq!(
        old_view
            .offset_for_timestamp(Millis(1007), Offset(40))
            .unwrap()
            .unwrap()
            .offset,
        Offset(7)
    );
    assert!(told(&log.view()).len() < before.len());
}

#[test]
fn nothing_past_a_limit_is_compacted() {
    let (_fixture, mut log) = forty();
    let middle = log.sealed[1].end_offset;
    log.publish(middle, middle);
    let stats = log.compact(2000).unwrap();
    assert_eq!(stats.end, middle);
    // The last stable offset counts as well.
    let end = log.log_end_offset();
    log.publish(end, middle);
    assert_eq!(log.compact(2000), None);
    log.publish(end, end);
    assert!(log.compact(2000).is_some());
}

#[test]
fn a_record_stays_as_it_is_for_the_least_lag() {
    let (_fixture, mut log) = forty();
    let lag = CompactionSettings {
        min_compaction_lag_ms: Millis(500),
        ..settings()
    };
    // Records have timestamps from 1000 on, one a millisecond.
    let second = log.sealed[1].end_offset;
    let dirty_end = |log: &Log, now| {
        let source = log.compaction_source(None);
        let dirty = source.dirty(&lag, Millis(now)).unwrap();
        dirty.map(|dirty| dirty.end)
    };
    let newest = 1000 + second.0 - 1;
    assert_eq!(dirty_end(&log, 1500), None);
    assert_eq!(dirty_end(&log, newest + 500), Some(second));
    assert_eq!(
        dirty_end(&log, newest + 499),
        Some(log.sealed[0].end_offset)
    );
    assert_eq!(
        dirty_end(&log, 10_000),
        Some(log.active.base_offset),
        "the active segment is never compacted"
    );
    log.compact(2000).unwrap();
    assert_eq!(dirty_end(&log, 10_000), None);
}

/// Kafka rolls a segment of a compacted topic that is older than the lag, with the next append.
#[test]
fn a_segment_grows_no_longer_than_the_most_lag() {
    use skein_config::{CleanupPolicy, TopicConfig};
    let topic = |compact| TopicConfig {
        cleanup_policy: CleanupPolicy {
            compact,
            delete: !compact,
        },
        max_compaction_lag_ms: Some(Millis(300)),
        ..TopicConfig::default()
    };
    for is_compacted in [true, false] {
        let fixture = fixture();
        let mut log = fixture.log(LogConfig::from(&topic(is_compacted)));
        for (offset, timestamp) in [(0, 1000), (1, 1300), (2, 1301)] {
            log.append_all(&[batch(offset, 0, 10, &[timestamp])]);
        }
        let rolled = if is_compacted {
            vec![Offset(2)]
        } else {
            vec![]
        };
        let ends: Vec<Offset> = log.sealed.iter().map(|sealed| sealed.end_offset).collect();
        assert_eq!(ends, rolled);
    }
}

#[test]
fn unflushed_segments_are_not_compacted() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    for number in 0..40 {
        append(&mut log, &[(number % 4, Some(number))]);
    }
    assert_eq!(log.compact(2000), None);
    log.flush(Millis(1)).unwrap();
    assert!(log.compact(2000).is_some());
}

#[test]
fn tombstones_stay_until_their_horizon_has_passed() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    append(&mut log, &[(1, Some(1)), (2, Some(2))]);
    append(&mut log, &[(1, None)]);
    let roll = |log: &mut Log, key| {
        append(log, &[(key, Some(9))]);
        log.roll(Millis(1)).unwrap();
        log.flush(Millis(1)).unwrap();
    };
    roll(&mut log, 7);
    log.compact(10_000).unwrap();
    let tombstone = (2, 1, None);
    assert_eq!(told(&log.view())[..2], [(1, 2, Some(2)), tombstone]);
    // Later segments make the log dirty again; the horizon counts from the first time.
    roll(&mut log, 7);
    log.compact(10_000 + RETENTION - 1).unwrap();
    assert!(told(&log.view()).contains(&tombstone));
    roll(&mut log, 7);
    log.compact(10_000 + RETENTION).unwrap();
    let left = told(&log.view());
    assert!(!left.contains(&tombstone), "{left:?}");
    assert_eq!(last_values(&left), BTreeMap::from([(2, 2), (7, 9)]));
}

#[test]
fn a_segment_is_written_only_if_something_of_it_goes() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    for number in 0..40_u8 {
        append(&mut log, &[(number, Some(number))]);
    }
    log.flush(Millis(1)).unwrap();
    let segments = log.sealed.len();
    let stats = log.compact(2000).unwrap();
    assert_eq!(
        (stats.written_bytes, stats.end),
        (0, log.active.base_offset)
    );
    assert_eq!(stats.bytes_after, stats.bytes_before);
    // Now the last batch of the second segment goes, and what is before it is copied.
    let last = log.sealed[1].end_offset.0 - 1;
    let mut expected = told(&log.view());
    expected.retain(|(offset, ..)| *offset != last);
    append(&mut log, &[(u8::try_from(last).unwrap(), Some(99))]);
    log.roll(Millis(1)).unwrap();
    log.flush(Millis(1)).unwrap();
    expected.push((40, u8::try_from(last).unwrap(), Some(99)));
    let second = log.sealed[1].end_position;
    let stats = log.compact(2000).unwrap();
    assert!(
        0 < stats.written_bytes && stats.written_bytes <= second,
        "{stats:?}"
    );
    assert_eq!(told(&log.view()), expected);
    assert_eq!(log.sealed.len(), segments + 1);
}

#[test]
fn a_table_that_is_too_small_takes_several_passes() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    for number in 0..200_u8 {
        append(&mut log, &[(number % 50, Some(number))]);
    }
    log.flush(Millis(1)).unwrap();
    let active = log.active.base_offset;
    let expected = last_values(&told(&log.view()));
    let mut passes = 0;
    while let Some(stats) = log.compact_with(None, budget(21), 2000).unwrap() {
        assert!(stats.end > stats.start);
        assert_eq!(last_values(&told(&log.view())), expected);
        passes += 1;
    }
    assert!(passes > 3, "{passes}");
    let sealed: Vec<Told> = told(&log.view());
    let sealed: Vec<&Told> = sealed.iter().filter(|told| told.0 < active.0).collect();
    let keys: std::collections::BTreeSet<u8> = sealed.iter().map(|told| told.1).collect();
    assert_eq!(keys.len(), sealed.len());
}

#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    let mut producers = ProducerStates::default();
    for number in 0..30_u8 {
        let base = i64::from(number);
        let mut builder = keyed(Codec::None, base, &[(number % 2, Some(number))]);
        // Producer 5 falls silent early.
        let (id, sequence) = if number < 6 { (5, base) } else { (6, base - 6) };
        builder.set_producer(
            ProducerId(id),
            ProducerEpoch(0),
            Sequence(i32::try_from(sequence).unwrap()),
        );
        let bytes = bytes(builder);
        drop(
            producers
                .replay(&BatchView::parse(&bytes).unwrap())
                .unwrap(),
        );
        log.append_all(&[bytes]);
    }
    log.roll(Millis(1)).unwrap();
    log.flush(Millis(1)).unwrap();
    log.set_config(large());
    log.compact_with(Some(&producers), budget(100), 2000)
        .unwrap()
        .unwrap();
    let left: Vec<(i64, i64, i32)> = batches(&log.view())
        .iter()
        .map(|bytes| {
            let header = *BatchView::parse(bytes).unwrap().header();
            (
                header.producer_id.0,
                header.base_offset.0,
                header.records_count,
            )
        })
        .collect();
    assert_eq!(left, [(5, 5, 0), (6, 28, 1), (6, 29, 1)]);
    // The states come back from the batches alone.
    for name in fixture.names(".snapshot") {
        std::fs::remove_file(fixture.path(&name)).unwrap();
    }
    drop(log);
    let opened = fixture.open(compacting());
    for (id, _) in producers.iter() {
        let state = |states: &ProducerStates| states.get(id).unwrap().last_sequence();
        assert_eq!(state(&opened.producers), state(&producers));
    }
}

#[test]
fn a_batch_that_cannot_be_read_ends_the_compaction_and_says_where_it_is() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    append(&mut log, &[(1, Some(1))]);
    let bomb: Vec<(u8, Option<u8>)> = (0..2000_u16).map(|_| (1, Some(0))).collect();
    let first = log.log_end_offset().0;
    log.append_all(&[bytes(keyed(Codec::Zstd, first, &bomb))]);
    log.roll(Millis(1)).unwrap();
    log.flush(Millis(1)).unwrap();
    let before = told_sizes(&log);
    let error = log.compact_with(None, budget(100), 2000).unwrap_err();
    assert_eq!(error.bad_segment(), Some(Offset(1)));
    let text = error.to_string();
    assert!(
        text.contains("at offset 1,") && text.contains(".log holds"),
        "{text}"
    );
    assert_eq!(told_sizes(&log), before);
    assert_eq!(fixture.names(".cleaned"), [] as [&str; 0]);
}

fn told_sizes(log: &Log) -> (usize, u64) {
    (log.segment_count(), log.size_in_bytes())
}

#[test]
fn a_damaged_batch_is_not_given_a_good_checksum() {
    let (fixture, mut log) = forty();
    let path = fixture.path(&fixture.names(".log")[0]);
    let mut damaged = std::fs::read(&path).unwrap();
    let at = damaged.len() - 5;
    damaged[at] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let error = log.compact_with(None, budget(100), 2000).unwrap_err();
    assert!(matches!(error, CompactionError::Batch { .. }), "{error}");
}

#[test]
fn a_truncation_or_retention_that_was_faster_ends_the_compaction() {
    for is_truncation in [true, false] {
        let (fixture, mut log) = forty();
        let source = log.compaction_source(None);
        let dirty = source.dirty(&settings(), Millis(2000)).unwrap().unwrap();
        let mut compaction = Compaction::new(source, dirty, &settings(), budget(100), Millis(2000));
        let cleaned = loop {
            if let CompactionStep::Cleaned(cleaned) = compaction.step(usize::MAX).unwrap() {
                break cleaned;
            }
        };
        if is_truncation {
            log.truncate_to(Offset(39), Millis(1)).unwrap();
        } else {
            log.advance_log_start(log.sealed[0].end_offset).unwrap();
            assert!(!log.retain(Millis(2000)).is_empty());
        }
        let before = told(&log.view());
        let swapped = log.swap_compacted(&cleaned).unwrap();
        assert!(matches!(swapped, Swapped::Stale));
        assert_eq!(told(&log.view()), before);
        assert_eq!(fixture.names(".cleaned"), [] as [&str; 0]);
    }
}

/// A batch of one record in a transaction of the producer `id`.
fn transactional(log: &mut Log, id: i64, key: u8, value: u8) {
    let mut builder = keyed(Codec::None, log.log_end_offset().0, &[(key, Some(value))]);
    builder.set_producer(ProducerId(id), ProducerEpoch(0), Sequence(0));
    builder.set_transactional(true);
    log.append_all(&[bytes(builder)]);
}

/// The end of the producer's transaction.
fn marker(log: &mut Log, id: i64, result: TxnResult) {
    let end = EndTxnMarker {
        result,
        coordinator_epoch: 0,
    };
    let offset = log.log_end_offset().0;
    let timestamp = Millis(1000 + offset);
    let marker = end_txn_marker(ProducerId(id), ProducerEpoch(0), end, timestamp).unwrap();
    let mut bytes = marker.as_slice().to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
    log.append_all(&[bytes]);
}

/// Whose markers are in the log.
fn markers(log: &Log) -> Vec<i64> {
    let all = batches(&log.view());
    let headers = all.iter().map(|bytes| {
        let batch = BatchView::parse(bytes).unwrap();
        *batch.header()
    });
    let control = headers.filter(|header| header.attributes.is_control());
    control.map(|header| header.producer_id.0).collect()
}

#[test]
fn data_of_aborted_transactions_goes_and_does_not_hide_what_was_before() {
    let fixture = fixture();
    let mut log = fixture.log(compacting());
    append(&mut log, &[(1, Some(1))]);
    transactional(&mut log, 5, 1, 66);
    transactional(&mut log, 6, 2, 7);
    marker(&mut log, 5, TxnResult::Abort);
    marker(&mut log, 6, TxnResult::Commit);
    transactional(&mut log, 7, 1, 67);
    append(&mut log, &[(2, Some(8))]);
    append(&mut log, &[(9, Some(9))]);
    log.roll(Millis(1)).unwrap();
    log.flush(Millis(1)).unwrap();
    let stats = log.compact(2000).unwrap();
    // An open transaction ends what is compacted.
    assert_eq!(stats.end, Offset(5));
    let expected = [
        (0, 1, Some(1)),
        (2, 2, Some(7)),
        (5, 1, Some(67)),
        (6, 2, Some(8)),
    ];
    assert_eq!(told(&log.view())[..4], expected);
    marker(&mut log, 7, TxnResult::Abort);
    log.roll(Millis(1)).unwrap();
    log.flush(Millis(1)).unwrap();
    log.compact(2000).unwrap();
    let expected = [(0, 1, Some(1)), (6, 2, Some(8)), (7, 9, Some(9))];
    assert_eq!(told(&log.view()), expected);
    // Markers of which nothing is left go when their horizon has passed.
    assert_eq!(markers(&log), [5, 6, 7]);
    let horizon = 2000 + RETENTION;
    for (now, left) in [
        (horizon - 1, vec![5, 6, 7]),
        (horizon, vec![6, 7]),
        (horizon - 1 + RETENTION, vec![]),
    ] {
        append(&mut log, &[(9, Some(9))]);
        log.roll(Millis(1)).unwrap();
        log.flush(Millis(1)).unwrap();
        log.compact(now).unwrap();
        assert_eq!(markers(&log), left, "at {now}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Codec, Vec<(u8, Option<u8>)>),
    Roll,
    Compact { keys_max: u64, later: i64 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0_u8..8, prop::option::weighted(0.8, any::<u8>()));
    let codec = prop::sample::select(Codec::ALL.to_vec());
    prop_oneof![
        6 => (codec, prop::collection::vec(record, 1..6))
            .prop_map(|(codec, records)| Step::Append(codec, records)),
        2 => Just(Step::Roll),
        2 => (3_u64..20, 0_i64..2 * RETENTION)
            .prop_map(|(keys_max, later)| Step::Compact { keys_max, later }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever is compacted when: the last value of each key is there, offsets and order are what
    /// they were, and a tombstone goes only when it was there for its retention.
    #[test]
    fn compaction_keeps_the_last_value_of_every_key(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let fixture = fixture();
        let mut log = fixture.log(compacting());
        let (mut all, mut now): (Vec<Told>, i64) = (Vec::new(), 10_000);
        let mut first_seen: BTreeMap<i64, i64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Append(codec, records) => {
                    let base = log.log_end_offset().0;
                    for (number, (key, value)) in records.iter().enumerate() {
                        all.push((base + i64::try_from(number).unwrap(), *key, *value));
                    }
                    log.append_all(&[bytes(keyed(codec, base, &records))]);
                }
                Step::Roll => log.roll(Millis(1)).unwrap(),
                Step::Compact { keys_max, later } => {
                    now += later;
                    log.flush(Millis(1)).unwrap();
                    let before = told(&log.view());
                    let stats = log.compact_with(None, budget(keys_max), now).unwrap();
                    let after = told(&log.view());
                    let end = stats.map_or(0, |stats| stats.end.0);
                    for gone in before.iter().filter(|record| !after.contains(record)) {
                        let is_hidden = after.iter().chain(&before)
                            .any(|later| later.1 == gone.1 && later.0 > gone.0 && later.0 < end);
                        let was_kept = first_seen.get(&gone.0)
                            .is_some_and(|seen| now >= seen + RETENTION);
                        prop_assert!(is_hidden || gone.2.is_none() && was_kept, "{:?}", gone);
                    }
                    // The horizon is the batch's, also for those of its records behind the end.
                    for bytes in batches(&log.view()) {
                        let batch = BatchView::parse(&bytes).unwrap();
                        if batch.header().delete_horizon().is_some() {
                            for record in &batch.records(100_000).unwrap() {
                                first_seen.entry(record.unwrap().offset.0).or_insert(now);
                            }
                        }
                    }
                }
                Step::Reopen => {
                    log.flush(Millis(1)).unwrap();
                    drop(log);
                    let opened = fixture.open(compacting());
                    prop_assert_eq!(opened.recovery.cut, None);
                    log = opened.log;
                    log.publish_all();
                }
            }
            let left = told(&log.view());
            prop_assert_eq!(last_values(&left), last_values(&all));
            let mut rest = all.iter();
            prop_assert!(left.iter().all(|record| rest.any(|told| told == record)));
            log.check();
            log.view().check_indexes().unwrap();
        }
    }
}
