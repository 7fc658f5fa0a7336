//! The transactions of the story.
//!
//! Input: the story's batches. Output: which of them end a transaction, and whether a log tells its
//! readers of each that was aborted.
//!
//! Invariant: none of its own.
//!
//! Source: none.

use skein_record::{EndTxnMarker, TxnResult, end_txn_marker};

use super::*;

impl Story {
    /// The transactions that the story's batches abort, by their markers.
    pub(super) fn aborted(&self) -> Vec<AbortedTxn> {
        let first = self.batches.first().map_or(0, |batch| batch.base);
        let mut producers = ProducerStates::starting_at(Offset(first));
        let mut replay = |batch: &Appended| {
            let batch = BatchView::parse(&batch.bytes).unwrap();
            let (_, completed) = producers.replay(&batch).unwrap();
            completed.and_then(|completed| completed.aborted())
        };
        self.batches.iter().filter_map(&mut replay).collect()
    }

    /// Batches of so many records, the last one of a transaction, which [`Story::next_marker`] then
    /// aborts.
    pub(super) fn sizes_to_abort(&self) -> &'static [i64] {
        match self.end() % 3 {
            0 => &[2, 2],
            1 => &[1, 1],
            _ => &[1],
        }
    }

    /// The end of the producer's transaction, if it is in one.
    pub(super) fn next_marker(&mut self, number: i64) -> Option<Appended> {
        let base = self.end();
        let open = self.producers(base);
        let mut ids = open
            .iter()
            .filter(|(_, state)| state.current_txn_first_offset.is_some());
        let (id, _) = ids.next()?;
        let end = EndTxnMarker {
            result: match number % 3 {
                0 => TxnResult::Commit,
                _ => TxnResult::Abort,
            },
            coordinator_epoch: 0,
        };
        let mut marker = end_txn_marker(id, ProducerEpoch(0), end, Millis(1000)).unwrap();
        marker.set_base_offset(Offset(base));
        marker.set_leader_epoch(LeaderEpoch(self.epoch));
        let batch = Appended {
            base,
            end: base + 1,
            bytes: marker.as_slice().to_vec(),
        };
        self.batches.push(batch.clone());
        Some(batch)
    }

    /// What a reader of committed records is told, fetch by fetch.
    pub(super) fn check_aborted(&self, opened: &OpenedLog) -> Result<(), End> {
        let view = opened.log.view();
        let (start, end) = (view.log_start_offset, view.log_end_offset);
        let aborted = self.aborted();
        for from in start.0..end.0 {
            let Some(range) = view.read(Offset(from), 150, end, true)? else {
                continue;
            };
            let told = view.aborted_in(&range, Offset(from), end)?;
            let first_batch_end = self.batches.iter().find(|batch| batch.end > from);
            let first_batch_end = first_batch_end.map_or(end.0, |batch| batch.end);
            for txn in &aborted {
                // Of a transaction whose beginning was deleted the log may know the rest only.
                let overlaps = txn.first_offset.0 < first_batch_end && txn.last_offset.0 >= from;
                let is_told = told.iter().any(|told| {
                    (told.producer_id, told.last_offset) == (txn.producer_id, txn.last_offset)
                        && told.first_offset.0 < first_batch_end
                });
                let has_records = self.batches.iter().any(|batch| {
                    let header = *BatchView::parse(&batch.bytes).unwrap().header();
                    header.producer_id == txn.producer_id
                        && (start.0..txn.last_offset.0).contains(&batch.base)
                        && batch.base < first_batch_end
                        && batch.base >= txn.first_offset.0
                });
                assert!(
                    is_told || !overlaps || !has_records,
                    "{txn:?} at {from}: {told:?}"
                );
            }
            for told in &told {
                let is_true = |txn: &AbortedTxn| {
                    (txn.producer_id, txn.last_offset) == (told.producer_id, told.last_offset)
                };
                assert!(
                    aborted.iter().any(is_true),
                    "{told:?} at {from}: {aborted:?}"
                );
            }
        }
        Ok(())
    }
}
