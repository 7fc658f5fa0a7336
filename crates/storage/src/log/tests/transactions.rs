//! What a reader of committed records is told, against a list of batches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use skein_record::{ABORTED_TXN_BYTES, AbortedTxn, EndTxnMarker, TxnResult, end_txn_marker};
use skein_types::BrokerEpoch;

use super::compacting::{budget, compacting};
use super::*;

const EPOCH: ProducerEpoch = ProducerEpoch(0);
const KEYS: i64 = 5;

/// What a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of no transaction.
    Plain,
    Data(i64),
    End(i64, TxnResult),
}

#[derive(Clone, Debug)]
struct Written {
    base: i64,
    count: i64,
    kind: Kind,
}

/// A log with transactions, and all that was ever written to it.
struct World {
    fixture: Fixture,
    config: LogConfig,
    log: Option<Log>,
    producers: ProducerStates,
    written: Vec<Written>,
    /// What time it is for compaction.
    now: i64,
}

/// A record as a consumer with `isolation.level=read_committed` gets it: its offset and its key.
type Seen = (i64, i64);

impl World {
    fn new(config: LogConfig) -> Self {
        let fixture = fixture();
        let log = Some(fixture.log(config));
        Self {
            fixture,
            config,
            log,
            producers: ProducerStates::default(),
            written: Vec::new(),
            now: 10_000,
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn write(&mut self, kind: Kind, count: i64) {
        let base = self.log().log_end_offset().0;
        let bytes = match kind {
            Kind::End(producer, result) => marker(base, producer, result),
            Kind::Plain => data(base, count, None),
            Kind::Data(producer) => data(base, count, Some(producer)),
        };
        let batch = BatchView::parse(&bytes).unwrap();
        let (_, completed) = self.producers.replay(&batch).unwrap();
        let aborted: Vec<AbortedTxn> = completed
            .and_then(|done| done.aborted())
            .into_iter()
            .collect();
        self.log().append(&[&bytes], Millis(1000)).unwrap();
        self.log().note_aborted(&aborted);
        self.written.push(Written { base, count, kind });
        self.settle();
    }

    /// What a replica does behind each change of its log.
    fn settle(&mut self) {
        let end = self.log().log_end_offset();
        let stable = self.stable().max(self.log().log_start_offset());
        self.log().publish(end, stable);
        if self.log().is_snapshot_due() {
            let producers = self.producers.clone();
            self.log().write_snapshot(&producers).unwrap();
        }
    }

    fn stable(&mut self) -> Offset {
        let end = self.log().log_end_offset();
        self.producers.first_undecided_offset().unwrap_or(end)
    }

    fn checkpoint(&mut self) {
        let recovery_point = self.log().flush(Millis(1)).unwrap();
        let offsets = BTreeMap::from([(orders(), recovery_point)]);
        let directory = &self.log().home.directory;
        directory
            .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
            .unwrap();
    }

    fn close(&mut self) {
        let log = self.log.take().unwrap();
        let directory = Arc::clone(&log.home.directory);
        let end = log.close(&self.producers, Millis(1)).unwrap();
        let offsets = BTreeMap::from([(orders(), end)]);
        directory
            .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
            .unwrap();
        directory.mark_clean_shutdown(BrokerEpoch(1)).unwrap();
    }

    fn reopen(&mut self) {
        self.log = None;
        let opened = self.fixture.open(self.config);
        assert_eq!(opened.recovery.cut, None);
        self.log = Some(opened.log);
        let open = self.producers.first_undecided_offset();
        assert_eq!(opened.producers.first_undecided_offset(), open);
        self.producers = opened.producers;
        self.settle();
    }

    fn truncate(&mut self, offset: i64) {
        let Some(truncated) = self.log().truncate_to(Offset(offset), Millis(1)).unwrap() else {
            return;
        };
        self.producers = truncated.producers;
        self.written
            .retain(|batch| batch.base < truncated.log_end_offset.0);
        self.settle();
    }

    fn retain(&mut self, bytes: u64) {
        let config = LogConfig {
            retention_bytes: Some(bytes),
            ..self.config
        };
        self.log().set_config(config);
        for deleted in self.log().delete_old_segments(Millis(1)).unwrap() {
            deleted.remove(&*self.fixture.disk).unwrap();
        }
        let config = self.config;
        self.log().set_config(config);
        self.settle();
    }

    fn compact(&mut self, keys_max: u64, later: i64) {
        self.now += later;
        self.log().flush(Millis(1)).unwrap();
        let (now, producers) = (self.now, self.producers.clone());
        self.log()
            .compact_with(Some(&producers), budget(keys_max), now)
            .unwrap();
    }

    /// The records that a consumer of committed records gets from `from` on.
    fn committed(&self, from: i64, end: i64) -> Vec<Seen> {
        let mut seen = Vec::new();
        for (number, batch) in self.written.iter().enumerate() {
            let is_committed = match batch.kind {
                Kind::Plain => true,
                Kind::End(..) => false,
                Kind::Data(producer) => {
                    let mut later = self.written[number..].iter();
                    let end = later.find_map(|later| match later.kind {
                        Kind::End(of, result) if of == producer => Some(result),
                        _ => None,
                    });
                    end == Some(TxnResult::Commit)
                }
            };
            let offsets = batch.base.max(from)..(batch.base + batch.count).min(end);
            if is_committed {
                seen.extend(offsets.map(|offset| (offset, offset % KEYS)));
            }
        }
        seen
    }

    /// Compares what is read from `from` with the list.
    fn check(&mut self, from: i64) {
        let end = self.stable().0;
        let is_compacting = self.config.is_compacting;
        let log = self.log();
        log.check();
        let view = log.published();
        let from = from.clamp(view.log_start_offset.0, end.max(view.log_start_offset.0));
        check_entries(&view);
        let (seen, expected) = (read_committed(&view, from, end), self.committed(from, end));
        if is_compacting {
            assert!(
                seen.iter().all(|record| expected.contains(record)),
                "{seen:?} {expected:?}"
            );
            assert_eq!(last_of_each(&seen), last_of_each(&expected));
        } else {
            assert_eq!(seen, expected);
        }
    }
}

fn last_of_each(records: &[Seen]) -> BTreeMap<i64, i64> {
    records
        .iter()
        .map(|(offset, key)| (*key, *offset))
        .collect()
}

fn data(base: i64, count: i64, producer: Option<i64>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.set_base_offset(Offset(base));
    builder.set_leader_epoch(LeaderEpoch(0));
    if let Some(producer) = producer {
        builder.set_producer(ProducerId(producer), EPOCH, Sequence(0));
        builder.set_transactional(true);
    }
    for offset in base..base + count {
        let key = (offset % KEYS).to_be_bytes();
        builder
            .append(Millis(1000 + offset), Some(&key), Some(&[7; 60]), &[])
            .unwrap();
    }
    builder.build().unwrap().as_slice().to_vec()
}

fn marker(base: i64, producer: i64, result: TxnResult) -> Vec<u8> {
    let end = EndTxnMarker {
        result,
        coordinator_epoch: 0,
    };
    let time = Millis(1000 + base);
    let mut batch = end_txn_marker(ProducerId(producer), EPOCH, end, time).unwrap();
    batch.set_base_offset(Offset(base));
    batch.set_leader_epoch(LeaderEpoch(0));
    batch.as_slice().to_vec()
}

/// The whole batches of a range.
fn batches_of(range: &FileRange) -> Vec<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(range.length).unwrap()];
    let filled = range.file.read_at(&mut bytes, range.position).unwrap();
    let batches = Batches::new(&bytes[..filled]);
    batches
        .map(|batch| batch.unwrap().as_slice().to_vec())
        .collect()
}

fn end_of(batch: &BatchView<'_>) -> Option<TxnResult> {
    if !batch.header().attributes.is_control() {
        return None;
    }
    let records = batch.records(1000).unwrap();
    let record = records.iter().next()?.unwrap();
    EndTxnMarker::parse(&record).map(|marker| marker.result)
}

/// Reads as Kafka's consumer does: it believes what each fetch tells of aborted transactions, and
/// nothing else.
fn read_committed(view: &LogView, from: i64, end: i64) -> Vec<Seen> {
    let (mut seen, mut next) = (Vec::new(), from);
    while let Some(range) = view.read(Offset(next), 700, Offset(end), true).unwrap() {
        let mut aborted = view.aborted_in(&range, Offset(next), Offset(end)).unwrap();
        for txn in &aborted {
            assert!(
                txn.last_offset.0 >= next && txn.first_offset.0 < end,
                "{txn:?}"
            );
        }
        aborted.sort_by_key(|txn| txn.first_offset);
        let mut aborted: VecDeque<AbortedTxn> = aborted.into();
        let mut skipped = BTreeSet::new();
        for bytes in batches_of(&range) {
            let batch = BatchView::parse(&bytes).unwrap();
            let header = batch.header();
            while let Some(txn) =
                aborted.pop_front_if(|txn| txn.first_offset <= header.last_offset())
            {
                skipped.insert(txn.producer_id);
            }
            next = header.next_offset().0;
            if header.attributes.is_control() {
                if end_of(&batch) == Some(TxnResult::Abort) {
                    skipped.remove(&header.producer_id);
                }
            } else if !(header.attributes.is_transactional()
                && skipped.contains(&header.producer_id))
            {
                for record in &batch.records(100_000).unwrap() {
                    let record = record.unwrap();
                    let key = i64::from_be_bytes(record.key.unwrap().try_into().unwrap());
                    if record.offset.0 >= from {
                        seen.push((record.offset.0, key));
                    }
                }
            }
        }
    }
    seen
}

/// Every entry has its marker, in the segment that has the entry.
fn check_entries(view: &LogView) {
    for number in 0..=view.sealed.len() {
        let index = view.aborted_index(number).unwrap();
        let entries = index.map_or_else(Vec::new, |index| index.to_vec().unwrap());
        if entries.is_empty() {
            continue;
        }
        let segment = view.segment(number).unwrap();
        for entry in entries {
            let at = segment.find_batch(entry.last_offset).unwrap().unwrap();
            let bytes = segment.read_batch(&at).unwrap();
            let batch = BatchView::parse(&bytes).unwrap();
            assert_eq!(at.header.last_offset(), entry.last_offset);
            assert_eq!(at.header.producer_id, entry.producer_id);
            assert_eq!(end_of(&batch), Some(TxnResult::Abort), "{entry:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Kind, i64),
    Roll,
    Checkpoint,
    Truncate(prop::sample::Index),
    DeleteRecords(prop::sample::Index),
    Retain(u64),
    Compact(u64, i64),
    Close,
    Kill,
}

fn step(compacts: bool) -> impl Strategy<Value = Step> {
    let producer = 1_i64..5;
    let results = vec![TxnResult::Abort, TxnResult::Abort, TxnResult::Commit];
    let end = (producer.clone(), prop::sample::select(results));
    let data = (producer, 1_i64..4);
    let shortens = prop_oneof![
        any::<prop::sample::Index>().prop_map(Step::Truncate),
        any::<prop::sample::Index>().prop_map(Step::DeleteRecords),
        (0_u64..8000).prop_map(Step::Retain),
    ];
    let compact = (2_u64..20, 0_i64..1000).prop_map(|(keys, later)| Step::Compact(keys, later));
    prop_oneof![
        2 => (1_i64..4).prop_map(|count| Step::Write(Kind::Plain, count)),
        8 => data.prop_map(|(of, count)| Step::Write(Kind::Data(of), count)),
        6 => end.prop_map(|(of, result)| Step::Write(Kind::End(of, result), 1)),
        1 => Just(Step::Roll),
        1 => Just(Step::Checkpoint),
        3 => if compacts { compact.boxed() } else { shortens.boxed() },
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
    ]
}

impl World {
    fn run(&mut self, step: &Step) {
        let (start, end) = (
            self.log().log_start_offset().0,
            self.log().log_end_offset().0,
        );
        let span = usize::try_from(end - start + 1).unwrap();
        let offset =
            |index: &prop::sample::Index| start + i64::try_from(index.index(span)).unwrap();
        match step {
            Step::Write(kind, count) => self.write(*kind, *count),
            Step::Roll => self.log().roll(Millis(1)).unwrap(),
            Step::Checkpoint => self.checkpoint(),
            Step::Truncate(index) => self.truncate(offset(index)),
            Step::DeleteRecords(index) => {
                let offset = Offset(offset(index));
                self.log().advance_log_start(offset).unwrap();
            }
            Step::Retain(bytes) => self.retain(*bytes),
            Step::Compact(keys_max, later) => self.compact(*keys_max, *later),
            Step::Close => {
                self.close();
                self.reopen();
            }
            Step::Kill => self.reopen(),
        }
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever happens to the log, a consumer gets the committed records and no other.
    #[test]
    fn a_reader_of_committed_records_gets_them_and_no_others(
        steps in prop::collection::vec((step(false), 0_i64..150), 1..80),
    ) {
        let mut world = World::new(small());
        for (step, from) in &steps {
            world.run(step);
            world.check(*from);
        }
    }

    /// Compaction takes aborted records and in time their markers; what it leaves is told rightly.
    #[test]
    fn compaction_keeps_what_a_reader_of_committed_records_must_be_told(
        steps in prop::collection::vec((step(true), 0_i64..150), 1..80),
    ) {
        let mut world = World::new(compacting());
        for (step, _) in &steps {
            world.run(step);
            world.check(0);
        }
    }
}

/// Transactions of two producers over several segments, one of them still open.
fn story() -> World {
    let mut world = World::new(small());
    for round in 0..12 {
        world.write(Kind::Data(1), 3);
        world.write(Kind::Data(2), 3);
        world.write(Kind::Plain, 1);
        let result = if round % 3 == 0 {
            TxnResult::Commit
        } else {
            TxnResult::Abort
        };
        world.write(Kind::End(1, result), 1);
        if round % 4 == 3 {
            world.write(Kind::End(2, TxnResult::Abort), 1);
        }
    }
    world.write(Kind::Data(3), 1);
    world.write(Kind::Data(1), 1);
    world.write(Kind::End(1, TxnResult::Abort), 1);
    world
}

#[test]
fn the_file_is_kafkas_and_only_segments_with_an_abort_have_one() {
    let mut world = World::new(LogConfig::default());
    world.write(Kind::Data(7), 2);
    world.write(Kind::Data(8), 1);
    world.write(Kind::End(7, TxnResult::Commit), 1);
    world.log().roll(Millis(1)).unwrap();
    world.settle();
    assert_eq!(world.fixture.names(".txnindex"), [] as [&str; 0]);
    world.write(Kind::Data(7), 1);
    world.write(Kind::End(8, TxnResult::Abort), 1);
    world.write(Kind::End(7, TxnResult::Abort), 1);
    world.log().roll(Millis(1)).unwrap();
    assert_eq!(
        world.fixture.names(".txnindex"),
        ["00000000000000000004.txnindex"]
    );
    let mut expected = Vec::new();
    // Version, producer, first offset, marker, and what was decided once the marker was there.
    for (producer, first, last, stable) in [(8_i64, 2_i64, 5_i64, 4_i64), (7, 4, 6, 7)] {
        expected.extend([0, 0]);
        for field in [producer, first, last, stable] {
            expected.extend(field.to_be_bytes());
        }
    }
    let path = world.fixture.path("00000000000000000004.txnindex");
    assert_eq!(std::fs::read(path).unwrap(), expected);
}

#[test]
fn a_fetch_is_told_of_its_own_range_only() {
    let mut world = story();
    let view = world.log().published();
    let mut most = 0;
    for from in 0..view.log_end_offset.0 {
        let end = view.last_stable_offset;
        let Some(range) = view.read(Offset(from), 300, end, true).unwrap() else {
            continue;
        };
        most = most.max(view.aborted_in(&range, Offset(from), end).unwrap().len());
    }
    // Of the 13 aborted ones no more than two or three overlap with 300 bytes and an interval.
    assert!((2..=4).contains(&most), "{most}");
}

/// Damage that a look at the file shows is mended from the batches, at the first use or, where the
/// log is recovered, at the start.
#[test]
fn a_damaged_index_is_made_anew() {
    let damages: [fn(&mut Vec<u8>); 5] = [
        |content| content.truncate(content.len() - 1),
        |content| content[1] = 9,
        |content| content.fill(0),
        |content| content.extend_from_within(..ABORTED_TXN_BYTES),
        |content| content[18..26].fill(0x7f),
    ];
    for is_clean in [true, false] {
        for damage in damages {
            let mut world = story();
            if is_clean {
                world.close();
            } else {
                world.checkpoint();
                world.log = None;
            }
            let names = world.fixture.names(".txnindex");
            assert!(names.len() > 3, "{names:?}");
            for name in &names {
                let path = world.fixture.path(name);
                let mut content = std::fs::read(&path).unwrap();
                damage(&mut content);
                std::fs::write(&path, content).unwrap();
            }
            world.reopen();
            world.check(0);
            // What was mended stays mended.
            world.reopen();
            world.check(0);
        }
    }
}

/// It may be as large as its segment lets it: it is looked at, and copied, piece by piece.
#[test]
fn an_index_of_many_entries_stays_up_to_the_recovery_point_and_is_made_anew_behind_it() {
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    const ENTRIES: usize = 4_500;
    let mut world = World::new(LogConfig::default());
    let abort = |world: &mut World, count| {
        for _ in 0..count {
            world.write(Kind::Data(7), 1);
            world.write(Kind::End(7, TxnResult::Abort), 1);
        }
    };
    abort(&mut world, ENTRIES);
    world.checkpoint();
    abort(&mut world, 300);
    world.log().flush(Millis(1)).unwrap();
    let path = world.fixture.path("00000000000000000000.txnindex");
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len(), (ENTRIES + 300) * ABORTED_TXN_BYTES);
    let entry = |number: usize| number * ABORTED_TXN_BYTES..(number + 1) * ABORTED_TXN_BYTES;
    let damages: [Damage<'_>; 5] = [
        &|_| {},
        &|content| content.truncate(entry(ENTRIES).start),
        &|content| content[entry(ENTRIES + 1)].fill(0),
        &|content| content[entry(3_000)].fill(0),
        // The last entry of a piece once more, as the first one of the next.
        &|content| content.copy_within(entry(2_047), entry(2_048).start),
    ];
    for damage in damages {
        world.log = None;
        let mut content = whole.clone();
        damage(&mut content);
        std::fs::write(&path, content).unwrap();
        world.reopen();
        assert!(std::fs::read(&path).unwrap() == whole);
    }
}

/// The records of an open transaction were deleted, and its segment was removed by the next start.
#[test]
fn an_open_transaction_without_records_is_still_known() {
    let mut world = World::new(small());
    world.write(Kind::Data(2), 1);
    world.log().advance_log_start(Offset(1)).unwrap();
    world.reopen();
    world.write(Kind::End(1, TxnResult::Abort), 1);
    world.reopen();
    assert_eq!(world.producers.first_undecided_offset(), Some(Offset(0)));
    world.write(Kind::End(2, TxnResult::Abort), 1);
    world.reopen();
    world.check(0);
}

#[test]
fn an_old_view_tells_what_it_told_when_its_segments_were_compacted() {
    let mut world = World::new(compacting());
    for _ in 0..6 {
        world.write(Kind::Data(1), 3);
        world.write(Kind::Data(2), 2);
        world.write(Kind::End(1, TxnResult::Abort), 1);
        world.write(Kind::End(2, TxnResult::Commit), 1);
    }
    let (old, end) = (world.log().view(), world.stable().0);
    let expected = world.committed(0, end);
    world.compact(100, 0);
    assert!(read_committed(&world.log().published(), 0, end).len() < expected.len());
    assert_eq!(read_committed(&old, 0, end), expected);
    world.check(0);
}

/// Kafka was killed in the midst of a swap: its order of names is log first.
#[test]
fn a_swap_that_kafka_has_begun_is_finished_with_its_transaction_index() {
    for log_is_swapped in [false, true] {
        let mut world = World::new(small());
        world.write(Kind::Data(1), 2);
        world.write(Kind::Plain, 1);
        world.write(Kind::End(1, TxnResult::Abort), 1);
        world.log().roll(Millis(1)).unwrap();
        world.settle();
        world.close();
        let name = |suffix: &str| world.fixture.path(&format!("{:020}{suffix}", 0));
        if !log_is_swapped {
            std::fs::rename(name(".log"), name(".log.swap")).unwrap();
        }
        std::fs::rename(name(".txnindex"), name(".txnindex.swap")).unwrap();
        world.reopen();
        assert_eq!(world.fixture.names(".swap"), [] as [&str; 0]);
        world.check(0);
    }
}
