//! The log against a list of batches.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(Vec<i64>, usize)>),
    Roll,
    Truncate(prop::sample::Index),
    DeleteRecords(prop::sample::Index),
    RetainBytes(u64),
    RetainMs(i64),
    Flush,
    Close,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let timestamps = prop::collection::vec(900_i64..2000, 1..5);
    let batches = prop::collection::vec((timestamps, 8_usize..300), 1..6);
    prop_oneof![
        8 => batches.prop_map(Step::Append),
        1 => Just(Step::Roll),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Step::DeleteRecords),
        1 => (0_u64..8000).prop_map(Step::RetainBytes),
        1 => (0_i64..1200).prop_map(Step::RetainMs),
        1 => Just(Step::Flush),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
    ]
}

/// Every record as offset and timestamp, with the base offset of its batch.
#[derive(Default)]
struct Model {
    records: Vec<(i64, i64, i64)>,
    start: i64,
    end: i64,
}

impl Model {
    fn append(&mut self, timestamps: &[i64]) -> i64 {
        let base = self.end;
        for timestamp in timestamps {
            self.records.push((self.end, *timestamp, base));
            self.end += 1;
        }
        base
    }

    fn truncate(&mut self, offset: i64) {
        let base = self
            .records
            .iter()
            .find(|record| record.0 == offset)
            .map(|record| record.2);
        let end = base.unwrap_or(offset);
        self.records.retain(|record| record.0 < end);
        self.end = end;
        self.start = self.start.min(end);
    }

    fn readable(&self) -> Vec<(i64, i64)> {
        let readable = self.records.iter().filter(|record| record.0 >= self.start);
        readable.map(|record| (record.0, record.1)).collect()
    }
}

struct World {
    fixture: Fixture,
    log: Option<Log>,
    model: Model,
    batches: Vec<(i64, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let fixture = fixture();
        let log = Some(fixture.log(small()));
        Self {
            fixture,
            log,
            model: Model::default(),
            batches: Vec::new(),
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn reopen(&mut self) {
        let opened = self.fixture.open(small());
        assert_eq!(opened.recovery.cut, None);
        self.log = Some(opened.log);
        self.log().publish_all();
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append(batches) => {
                let batches: Vec<Vec<u8>> = batches
                    .iter()
                    .map(|(timestamps, size)| {
                        let base = self.model.append(timestamps);
                        let bytes = batch(base, 0, *size, timestamps);
                        self.batches.push((base, bytes.clone()));
                        bytes
                    })
                    .collect();
                self.log().append_all(&batches);
            }
            Step::Roll => self.log().roll(Millis(1)).unwrap(),
            Step::Truncate(index) => {
                let (start, end) = (self.model.start, self.model.end);
                let span = usize::try_from(end - start + 1).unwrap();
                let offset = start + i64::try_from(index.index(span)).unwrap();
                self.log().truncate_to(Offset(offset), Millis(1)).unwrap();
                self.model.truncate(offset);
                let end = self.model.end;
                self.batches.retain(|(base, _)| *base < end);
                self.log().publish_all();
            }
            Step::DeleteRecords(index) => {
                let (start, end) = (self.model.start, self.model.end);
                let span = usize::try_from(end - start + 1).unwrap();
                let offset = start + i64::try_from(index.index(span)).unwrap();
                self.log().advance_log_start(Offset(offset)).unwrap();
                self.model.start = offset;
            }
            Step::RetainBytes(bytes) => {
                let config = LogConfig {
                    retention_bytes: Some(*bytes),
                    ..small()
                };
                self.retain(LogConfig {
                    retention_ms: None,
                    ..config
                });
            }
            Step::RetainMs(ms) => {
                self.retain(LogConfig {
                    retention_ms: Some(Millis(*ms)),
                    ..small()
                });
            }
            Step::Flush => drop(self.log().flush(Millis(1)).unwrap()),
            Step::Close => {
                let log = self.log.take().unwrap();
                let directory = Arc::clone(&log.home.directory);
                let mut producers = ProducerStates::starting_at(Offset(self.model.end));
                producers.on_log_start(log.log_end_offset());
                let offsets =
                    BTreeMap::from([(orders(), log.close(&producers, Millis(1)).unwrap())]);
                directory
                    .write_checkpoint(CheckpointFile::RecoveryPoint, &offsets)
                    .unwrap();
                directory
                    .mark_clean_shutdown(skein_types::BrokerEpoch(1))
                    .unwrap();
                drop(directory);
                self.reopen();
            }
            Step::Kill => {
                self.log = None;
                self.reopen();
            }
        }
    }

    fn retain(&mut self, config: LogConfig) {
        let bases: Vec<i64> = {
            let view = self.log().view();
            (0..view.segment_count())
                .map(|number| view.base_offset(number).0)
                .collect()
        };
        self.log().set_config(config);
        for deleted in self.log().retain(Millis(2000)) {
            deleted.remove(&*self.fixture.disk).unwrap();
        }
        let start = self.log().log_start_offset().0;
        let end = self.model.end;
        assert!(start == self.model.start || bases.contains(&start) || start == end);
        self.model.start = start;
        self.log().set_config(small());
    }

    fn check(&mut self) {
        let (start, end) = (self.model.start, self.model.end);
        let readable = self.model.readable();
        let log = self.log();
        log.check();
        assert_eq!(
            (log.log_start_offset().0, log.log_end_offset().0),
            (start, end)
        );
        let view = log.published();
        view.check_indexes().unwrap();
        let expected: Vec<i64> = readable.iter().map(|record| record.0).collect();
        assert_eq!(offsets(&view, start, end), expected);
        for timestamp in (880..2020).step_by(7) {
            let found = view
                .offset_for_timestamp(Millis(timestamp), Offset(end))
                .unwrap();
            let first = readable.iter().find(|record| record.1 >= timestamp);
            let found = found.map(|found| (found.offset.0, found.timestamp.0));
            assert_eq!(found, first.copied(), "at or after {timestamp}");
        }
        check_unread(&view, start, end, &readable);
    }
}

/// What is unread is what a walk over the batches finds, up to any batch's end.
fn check_unread(view: &LogView, start: i64, end: i64, readable: &[(i64, i64)]) {
    let mut batches: Vec<(i64, u64)> = Vec::new();
    let mut next = start;
    while let Some(range) = view.read(Offset(next), 1, Offset(end), true).unwrap() {
        next = records(&range).last().unwrap().0 + 1;
        batches.push((next, range.length));
    }
    let middle = batches.get(batches.len() / 2).map_or(end, |batch| batch.0);
    for up_to in [middle, end] {
        for from in (start - 1..=end).step_by(3) {
            let unread = view.unread(Offset(from), Offset(up_to)).unwrap();
            let behind = batches
                .iter()
                .filter(|(end, _)| *end > from && *end <= up_to);
            let bytes: u64 = behind.map(|(_, bytes)| bytes).sum();
            assert_eq!(unread.bytes, bytes, "{from} up to {up_to}");
            let first = readable.iter().find(|one| one.0 >= from && one.0 < up_to);
            let found = unread
                .first
                .map(|first| (first.offset.0, first.timestamp.0));
            assert_eq!(found, first.copied(), "{from} up to {up_to}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Rows M13, M15, M58: whatever happens, the log holds what a list would hold.
    #[test]
    fn the_log_is_a_list(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check();
        }
    }
}
