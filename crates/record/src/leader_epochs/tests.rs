//! Against the plainest model: the epoch of every single offset.

use proptest::prelude::*;

use super::*;

fn table(entries: &[(i32, i64)]) -> LeaderEpochs {
    let mut table = LeaderEpochs::new();
    for (epoch, start) in entries {
        assert!(table.assign(LeaderEpoch(*epoch), Offset(*start)));
    }
    table.check();
    table
}

fn end(table: &LeaderEpochs, epoch: i32, log_end: i64) -> (i32, i64) {
    let answer = table.end_offset_for(LeaderEpoch(epoch), Offset(log_end));
    (answer.epoch.0, answer.end_offset.0)
}

#[test]
fn epoch_ends_where_the_next_begins() {
    let table = table(&[(2, 10), (4, 20), (5, 30)]);
    assert_eq!(end(&table, 5, 44), (5, 44));
    assert_eq!(end(&table, 4, 44), (4, 30));
    assert_eq!(end(&table, 3, 44), (2, 20));
    assert_eq!(end(&table, 2, 44), (2, 20));
    assert_eq!(end(&table, 1, 44), (1, 10));
    assert_eq!(end(&table, 6, 44), (-1, -1));
    assert_eq!(end(&table, -1, 44), (-1, -1));
    assert_eq!(end(&LeaderEpochs::new(), 0, 0), (-1, -1));
}

#[test]
fn batches_of_a_known_epoch_change_nothing() {
    let mut table = table(&[(0, 0)]);
    assert!(!table.assign(LeaderEpoch(0), Offset(5)));
    assert!(!table.assign(LeaderEpoch::NONE, Offset(5)));
    assert!(!table.assign(LeaderEpoch(1), Offset::NONE));
    assert_eq!(table.entries().len(), 1);
}

#[test]
fn leader_that_wrote_nothing_leaves_no_entry() {
    let mut table = table(&[(0, 0), (1, 10)]);
    assert!(table.assign(LeaderEpoch(2), Offset(10)));
    let expected = EpochEntry {
        epoch: LeaderEpoch(2),
        start_offset: Offset(10),
    };
    assert_eq!(table.latest(), Some(expected));
    assert_eq!(
        table.previous(LeaderEpoch(2)).map(|entry| entry.epoch),
        Some(LeaderEpoch(0))
    );
    assert_eq!(table.previous(LeaderEpoch(0)), None);
    assert_eq!(table.entries().len(), 2);
}

#[test]
fn contradicting_entries_give_way() {
    let mut table = table(&[(0, 0), (3, 10), (5, 20)]);
    assert!(table.assign(LeaderEpoch(3), Offset(8)));
    table.check();
    assert_eq!(table.encode(), "0\n2\n0 0\n3 8\n");
}

#[test]
fn truncation_moves_the_first_entry_to_the_new_start() {
    let mut table = table(&[(0, 0), (1, 10), (2, 20)]);
    assert!(table.truncate_from_start(Offset(15)));
    assert_eq!(table.encode(), "0\n2\n1 15\n2 20\n");
    assert!(!table.truncate_from_start(Offset(15)));
    assert!(!table.truncate_from_start(Offset(3)));
    assert!(table.truncate_from_end(Offset(20)));
    assert_eq!(table.encode(), "0\n1\n1 15\n");
    assert!(!table.truncate_from_end(Offset(16)));
    assert!(table.truncate_from_end(Offset(15)));
    assert_eq!(table, LeaderEpochs::new());
}

#[test]
fn checkpoint_that_makes_no_sense_is_refused_with_its_line() {
    let error = |text: &str| LeaderEpochs::decode(text.as_bytes()).unwrap_err();
    assert_eq!(
        LeaderEpochs::decode(&[0xff, 0xfe]),
        Err(CheckpointError::NotText)
    );
    for text in ["", "1\n0\n", "x\n"] {
        assert!(
            matches!(error(text), CheckpointError::Version { .. }),
            "{text:?}"
        );
    }
    for text in [
        "0\n",
        "0\nx\n",
        "0\n-1\n",
        "0\n2\n0 0\n",
        "0\n0\n0 0\n",
        "0\n99999999999\n",
    ] {
        assert!(
            matches!(error(text), CheckpointError::Count { .. }),
            "{text:?}"
        );
    }
    for text in [
        "0\n1\n0\n",
        "0\n1\n0 0 0\n",
        "0\n1\n-1 0\n",
        "0\n1\n0 -5\n",
        "0\n1\na b\n",
    ] {
        assert!(
            matches!(error(text), CheckpointError::Malformed { line: 3, .. }),
            "{text:?}"
        );
    }
    for text in ["0\n2\n1 0\n1 5\n", "0\n2\n1 5\n2 5\n", "0\n2\n2 0\n1 5\n"] {
        assert!(
            matches!(error(text), CheckpointError::NotMonotone { line: 4, .. }),
            "{text:?}"
        );
    }
}

/// The epoch of each offset of a log: index is the offset minus `start`.
#[derive(Debug, Default)]
struct Model {
    start: usize,
    epochs: Vec<i32>,
}

impl Model {
    fn end(&self) -> usize {
        self.start + self.epochs.len()
    }

    fn end_offset_for(&self, requested: i32) -> (i32, i64) {
        let Some(latest) = self.epochs.last() else {
            return (-1, -1);
        };
        if requested < 0 || requested > *latest {
            return (-1, -1);
        }
        let older = self
            .epochs
            .iter()
            .take_while(|epoch| **epoch <= requested)
            .count();
        let floor = older
            .checked_sub(1)
            .map_or(requested, |index| self.epochs[index]);
        (floor, i64::try_from(self.start + older).unwrap())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { epochs_later: i32, records: usize },
    TruncateEnd { records: usize },
    TruncateStart { records: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3, 1..5_usize)
            .prop_map(|(epochs_later, records)| Step::Append { epochs_later, records }),
        1 => (0..8_usize).prop_map(|records| Step::TruncateEnd { records }),
        1 => (0..6_usize).prop_map(|records| Step::TruncateStart { records }),
    ]
}

proptest! {
    #[test]
    fn table_answers_as_the_list_of_offsets_does(steps in prop::collection::vec(step(), 1..40)) {
        let (mut table, mut model, mut epoch) = (LeaderEpochs::new(), Model::default(), 0);
        for step in steps {
            match step {
                Step::Append { epochs_later, records } => {
                    epoch += epochs_later;
                    table.assign(LeaderEpoch(epoch), Offset(i64::try_from(model.end()).unwrap()));
                    model.epochs.extend(std::iter::repeat_n(epoch, records));
                }
                Step::TruncateEnd { records } => {
                    let kept = model.epochs.len().saturating_sub(records);
                    model.epochs.truncate(kept);
                    table.truncate_from_end(Offset(i64::try_from(model.end()).unwrap()));
                }
                Step::TruncateStart { records } => {
                    // The log keeps one record: an entry without records is the model's limit.
                    let removed = records.min(model.epochs.len().saturating_sub(1));
                    model.epochs.drain(..removed);
                    model.start += removed;
                    table.truncate_from_start(Offset(i64::try_from(model.start).unwrap()));
                }
            }
            table.check();
            let end = i64::try_from(model.end()).unwrap();
            for requested in -1..epoch + 2 {
                let answer = table.end_offset_for(LeaderEpoch(requested), Offset(end));
                let answer = (answer.epoch.0, answer.end_offset.0);
                prop_assert_eq!(answer, model.end_offset_for(requested));
            }
            for (index, epoch) in model.epochs.iter().enumerate() {
                let offset = Offset(i64::try_from(model.start + index).unwrap());
                prop_assert_eq!(table.epoch_for_offset(offset), Some(LeaderEpoch(*epoch)));
            }
            prop_assert_eq!(LeaderEpochs::decode(table.encode().as_bytes()), Ok(table.clone()));
        }
    }

    #[test]
    fn arbitrary_assignments_keep_the_table_in_order(
        steps in prop::collection::vec((-1..6_i32, -1..20_i64), 0..30),
    ) {
        let mut table = LeaderEpochs::new();
        for (epoch, start) in steps {
            table.assign(LeaderEpoch(epoch), Offset(start));
            table.check();
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[0-9 \n-]{0,40}", bytes: Vec<u8>) {
        let _ = LeaderEpochs::decode(text.as_bytes());
        let _ = LeaderEpochs::decode(&bytes);
    }
}
