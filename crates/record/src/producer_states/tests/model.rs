//! Any run of appends, markers, failed writes and high watermarks, against a model that keeps the
//! whole log and answers every question by reading it.

use proptest::prelude::*;

use super::*;

/// Everything that was ever appended, in order.
#[derive(Clone, Debug)]
enum Event {
    Data {
        header: BatchHeader,
        base_offset: i64,
    },
    Marker {
        id: i64,
        epoch: i16,
        offset: i64,
    },
}

impl Event {
    fn producer(&self) -> (i64, i16) {
        match self {
            Self::Data { header, .. } => (header.producer_id.0, header.producer_epoch.0),
            Self::Marker { id, epoch, .. } => (*id, *epoch),
        }
    }

    fn base_offset(&self) -> i64 {
        match self {
            Self::Data { base_offset, .. } => *base_offset,
            Self::Marker { offset, .. } => *offset,
        }
    }
}

/// Answers every question by reading the whole log.
#[derive(Debug, Default)]
struct Model {
    log: Vec<(Event, Undo)>,
    high_watermark: i64,
}

impl Model {
    fn of(&self, id: i64) -> impl DoubleEndedIterator<Item = &Event> {
        self.log
            .iter()
            .map(|(event, _)| event)
            .filter(move |event| event.producer().0 == id)
    }

    fn epoch(&self, id: i64) -> Option<i16> {
        self.of(id).last().map(|event| event.producer().1)
    }

    /// The producer's data batches of its current epoch, latest first.
    fn current(&self, id: i64) -> Vec<(BatchHeader, i64)> {
        let epoch = self.epoch(id);
        self.of(id)
            .rev()
            .take_while(|event| Some(event.producer().1) == epoch)
            .filter_map(|event| match event {
                Event::Data {
                    header,
                    base_offset,
                } => Some((*header, *base_offset)),
                Event::Marker { .. } => None,
            })
            .collect()
    }

    fn txn(&self, id: i64) -> Option<i64> {
        self.of(id).fold(None, |open, event| match event {
            Event::Data {
                header,
                base_offset,
            } if header.attributes.is_transactional() => open.or(Some(*base_offset)),
            Event::Data { .. } => open,
            Event::Marker { .. } => None,
        })
    }

    fn first_unstable(&self) -> Option<i64> {
        let mut unstable: Vec<i64> = Vec::new();
        for id in 0..3 {
            let mut open = None;
            for event in self.of(id) {
                match event {
                    Event::Data {
                        header,
                        base_offset,
                    } if header.attributes.is_transactional() => {
                        open = open.or(Some(*base_offset));
                    }
                    Event::Data { .. } => {}
                    Event::Marker { offset, .. } => {
                        let first = open.take().filter(|_| *offset >= self.high_watermark);
                        unstable.extend(first);
                    }
                }
            }
            unstable.extend(open);
        }
        unstable.into_iter().min()
    }

    fn verdict(&self, header: &BatchHeader) -> Verdict {
        let id = header.producer_id.0;
        let Some(epoch) = self.epoch(id) else {
            return Verdict::Append;
        };
        let current = self.current(id);
        let same = |known: &&(BatchHeader, i64)| {
            known.0.base_sequence == header.base_sequence
                && known.0.records_count == header.records_count
        };
        if header.producer_epoch.0 == epoch
            && let Some((known, base_offset)) = current.iter().take(5).find(same)
        {
            return Verdict::Duplicate {
                base_offset: Offset(*base_offset),
                last_offset: Offset(base_offset + i64::from(known.last_offset_delta)),
                timestamp: known.max_timestamp,
            };
        }
        if header.producer_epoch.0 < epoch {
            return FENCED;
        }
        let expected = match current.first() {
            Some((last, _)) if header.producer_epoch.0 == epoch => {
                (i64::from(last.base_sequence.0) + i64::from(last.records_count)) % (1 << 31)
            }
            _ => 0,
        };
        if i64::from(header.base_sequence.0) != expected {
            return OUT_OF_ORDER;
        }
        if self.txn(id).is_some() && !header.attributes.is_transactional() {
            return Verdict::Rejected(ErrorCode::InvalidTxnState);
        }
        Verdict::Append
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A batch that begins `skew` after the sequence that would be right.
    Produce {
        id: i64,
        epochs_later: i16,
        skew: i32,
        count: i32,
        is_transactional: bool,
    },
    /// The batch that is `back` batches old, again.
    Retry {
        id: i64,
        back: usize,
    },
    EndTxn {
        id: i64,
        epochs_later: i16,
        result: bool,
    },
    Undo {
        count: usize,
    },
    HighWatermark {
        behind: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let skew = prop_oneof![8 => Just(0), 1 => -3..4];
    let epochs_later = prop_oneof![8 => Just(0_i16), 1 => -1..2_i16];
    prop_oneof![
        6 => (0..3_i64, epochs_later.clone(), skew, 1..4, any::<bool>()).prop_map(
            |(id, epochs_later, skew, count, is_transactional)| Step::Produce {
                id, epochs_later, skew, count, is_transactional,
            }),
        2 => (0..3_i64, 0..8_usize).prop_map(|(id, back)| Step::Retry { id, back }),
        2 => (0..3_i64, epochs_later, any::<bool>()).prop_map(
            |(id, epochs_later, result)| Step::EndTxn { id, epochs_later, result }),
        1 => (1..4_usize).prop_map(|count| Step::Undo { count }),
        1 => (0..4_usize).prop_map(|behind| Step::HighWatermark { behind }),
    ]
}

fn batch_of(model: &Model, step: &Step) -> Option<BatchHeader> {
    match *step {
        Step::Produce {
            id,
            epochs_later,
            skew,
            count,
            is_transactional,
        } => {
            let epoch = model.epoch(id).map_or(3, |epoch| epoch + epochs_later);
            // Near the end, so that many runs cross the wrap.
            let next = match model.current(id).first() {
                _ if epochs_later != 0 => 0,
                Some((last, _)) => last.last_sequence().wrapping_add(1).0,
                None if model.epoch(id).is_some() => 0,
                None => i32::MAX - 7,
            };
            let sequence = next.wrapping_add(skew) & i32::MAX;
            Some(header(id, epoch, sequence, count, is_transactional))
        }
        Step::Retry { id, back } => model.current(id).get(back).map(|(header, _)| *header),
        _ => None,
    }
}

fn run(table: &mut ProducerStates, model: &mut Model, step: &Step) {
    if let Some(header) = batch_of(model, step) {
        let expected = model.verdict(&header);
        assert_eq!(verdict(table, &header), expected, "{step:?}");
        if expected == Verdict::Append {
            let base_offset = table.map_end_offset();
            let undo = table.reserve(&header, base_offset);
            model.log.push((
                Event::Data {
                    header,
                    base_offset: base_offset.0,
                },
                undo,
            ));
        }
        return;
    }
    match *step {
        Step::EndTxn {
            id,
            epochs_later,
            result,
        } => {
            let epoch = model.epoch(id).map_or(0, |epoch| epoch + epochs_later);
            let allowed = model.epoch(id).is_none_or(|known| epoch >= known);
            let (producer_id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
            assert_eq!(table.check_marker(producer_id, epoch, 0).is_ok(), allowed);
            if allowed {
                let offset = table.map_end_offset();
                let result = if result {
                    TxnResult::Commit
                } else {
                    TxnResult::Abort
                };
                let open = model.txn(id);
                let (undo, completed) =
                    table.reserve_marker(producer_id, epoch, marker(result, 0), offset, NOW);
                assert_eq!(completed.map(|txn| txn.first_offset.0), open);
                model.log.push((
                    Event::Marker {
                        id,
                        epoch: epoch.0,
                        offset: offset.0,
                    },
                    undo,
                ));
            }
        }
        Step::Undo { count } => {
            for _ in 0..count {
                let high_watermark = model.high_watermark;
                let last = model
                    .log
                    .pop_if(|(event, _)| event.base_offset() >= high_watermark);
                if let Some((_, undo)) = last {
                    table.undo(undo);
                }
            }
        }
        Step::HighWatermark { behind } => {
            let at = model
                .log
                .len()
                .checked_sub(behind + 1)
                .map(|index| &model.log[index].0);
            let offset = at.map_or(0, Event::base_offset).max(model.high_watermark);
            model.high_watermark = offset;
            table.on_high_watermark(Offset(offset));
        }
        Step::Produce { .. } | Step::Retry { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn table_agrees_with_the_whole_log(steps in prop::collection::vec(step(), 1..60)) {
        let (mut table, mut model) = (ProducerStates::default(), Model::default());
        for step in &steps {
            run(&mut table, &mut model, step);
            table.check();
            let unstable = table.first_unstable_offset();
            prop_assert_eq!(unstable.map(|offset| offset.0), model.first_unstable());
            for id in 0..3 {
                let state = table.get(ProducerId(id));
                prop_assert_eq!(state.map(|state| state.producer_epoch.0), model.epoch(id));
                let txn = state.and_then(|state| state.current_txn_first_offset);
                prop_assert_eq!(txn.map(|offset| offset.0), model.txn(id));
            }
        }
    }

    #[test]
    fn undoing_everything_leaves_nothing(steps in prop::collection::vec(step(), 1..40)) {
        let (mut table, mut model) = (ProducerStates::default(), Model::default());
        for step in steps.iter().filter(|step| !matches!(step, Step::HighWatermark { .. })) {
            run(&mut table, &mut model, step);
        }
        while let Some((_, undo)) = model.log.pop() {
            table.undo(undo);
            table.check();
        }
        prop_assert_eq!(table, ProducerStates::default());
    }

    #[test]
    fn snapshot_keeps_all_but_the_older_batches(steps in prop::collection::vec(step(), 1..40)) {
        let (mut table, mut model) = (ProducerStates::default(), Model::default());
        for step in &steps {
            run(&mut table, &mut model, step);
        }
        table.on_high_watermark(table.map_end_offset());
        let bytes = table.snapshot();
        let loaded = ProducerStates::load(&bytes, table.map_end_offset()).unwrap();
        prop_assert_eq!(loaded.snapshot(), bytes);
        prop_assert_eq!(loaded.first_unstable_offset(), table.first_unstable_offset());
        for (id, state) in table.iter() {
            let kept = loaded.get(id).unwrap();
            prop_assert!(kept.batches().eq(state.last_batch()));
            prop_assert_eq!(kept.current_txn_first_offset, state.current_txn_first_offset);
            prop_assert_eq!(kept.coordinator_epoch, state.coordinator_epoch);
        }
    }

    #[test]
    fn arbitrary_snapshots_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..250), count in 0..6_i32,
    ) {
        let load = |bytes: &[u8]| {
            ProducerStates::load(bytes, Offset(0)).map(|table| {
                for (id, state) in table.iter() {
                    let header = header(id.0, state.producer_epoch.0, 0, 1, false);
                    let _ = verdict(&table, &header);
                }
            })
        };
        let _ = load(&bytes);
        // The same with a header that lets every entry through.
        bytes.resize(10 + 46 * usize::try_from(count).unwrap(), 1);
        bytes[..2].copy_from_slice(&[0, 1]);
        bytes[6..10].copy_from_slice(&count.to_be_bytes());
        let crc = crate::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        let _ = load(&bytes);
    }
}
