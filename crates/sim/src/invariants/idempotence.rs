//! A batch of an idempotent producer is in the log once, and none of its predecessors is missing,
//! also when the node was restarted in between.
//!
//! Input: what was sent, refused and read. Output: the first duplicate, gap, or refusal without a
//! reason.
//!
//! - no batch with a producer id is at two offsets; a batch without one is at most as often in the
//!   log as it was sent;
//! - read back in offset order, the sequences of a producer follow one another. A gap is excused
//!   only where a power cut may have taken what is missing;
//! - a batch that waits for no other is refused with OUT_OF_ORDER_SEQUENCE_NUMBER or
//!   UNKNOWN_PRODUCER_ID only if it is in the log already (a snapshot knows the last batch of each
//!   producer, so that after a restart older ones are not recognised), after such a loss, or when
//!   the producer's first batch could not be written while others were on their way: the node takes
//!   any first sequence of a producer that it does not know, as Kafka does.
//!
//! Source: KIP-98, KIP-360.

use std::collections::{BTreeMap, BTreeSet};

use skein_types::{ErrorCode, Offset, Sequence};

use super::{Facts, Invariant};
use crate::batches::{BatchId, Identity};
use crate::event::{End, Event, PartitionId};
use crate::plan::Plan;

/// What is known of each partition's producers.
pub(crate) struct Idempotence {
    partitions: Vec<Partition>,
    attempts: BTreeMap<BatchId, u32>,
}

#[derive(Default)]
struct Partition {
    /// Where batches were seen; forgotten at a power cut, after which they may be elsewhere.
    places: BTreeMap<BatchId, BTreeSet<Offset>>,
    by_offset: BTreeMap<Offset, BatchId>,
    /// Producers that may have lost a batch in a power cut.
    excused: BTreeSet<Identity>,
    /// Writes may have failed: the first batch of a producer may be missing where later ones are
    /// not.
    writes_may_fail: bool,
    /// Refusals that are right only if the batch is in the log.
    unexplained: BTreeMap<BatchId, String>,
    /// Producers that have sent something.
    active: BTreeSet<Identity>,
}

impl Idempotence {
    /// Nothing is known.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|_| Partition::default());
        Self {
            partitions: partitions.collect(),
            attempts: BTreeMap::new(),
        }
    }

    fn read(
        &mut self,
        partition: PartitionId,
        at: Offset,
        batch: BatchId,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let partition = &mut self.partitions[partition.0];
        partition.by_offset.insert(at, batch);
        let places = partition.places.entry(batch).or_default();
        places.insert(at);
        let has_identity = facts.batches.get(batch).origin.is_some();
        let sent = self.attempts.get(&batch).copied().unwrap_or(0);
        let allowed = if has_identity { 1 } else { sent as usize };
        if places.len() > allowed {
            let kind = if has_identity {
                "of an idempotent producer"
            } else {
                ""
            };
            return Err(format!(
                "{batch} {kind} was sent {sent} times and is at {places:?}"
            ));
        }
        Ok(())
    }
}

impl Invariant for Idempotence {
    fn name(&self) -> &'static str {
        "idempotence"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::Sent { batch, .. } => {
                *self.attempts.entry(*batch).or_default() += 1;
                let of = facts.batches.get(*batch);
                let producer = of.origin.map(|(identity, _)| identity);
                self.partitions[of.partition.0].active.extend(producer);
            }
            Event::Refused {
                batch,
                code,
                is_head: true,
            } if is_about_sequences(*code) => {
                let of = facts.batches.get(*batch);
                let Some((identity, sequence)) = of.origin else {
                    return Err(format!(
                        "{batch} has no producer id, but is refused: {code}"
                    ));
                };
                let partition = &mut self.partitions[of.partition.0];
                let is_first = sequence == Sequence(0);
                let is_excused = is_first && partition.writes_may_fail;
                if !is_excused && !partition.excused.contains(&identity) {
                    let text = format!("{batch}, sequence {sequence}, is refused: {code}");
                    partition.unexplained.insert(*batch, text);
                }
            }
            Event::WritesMayFail => {
                for partition in &mut self.partitions {
                    partition.writes_may_fail = true;
                }
            }
            Event::Read {
                partition,
                base_offset,
                batch,
                asked,
            } if asked.era == facts.now.era => {
                return self.read(*partition, *base_offset, *batch, facts);
            }
            Event::ReadBack { partition, .. } => {
                let partition = &self.partitions[partition.0];
                partition.check_refusals()?;
                return partition.check_sequences(facts);
            }
            Event::Ended(End::PowerCut) => {
                for partition in &mut self.partitions {
                    partition.places.clear();
                    partition.by_offset.clear();
                    partition.unexplained.clear();
                    // What was not flushed may be lost: batches that a producer has seen
                    // acknowledged with `replicated`, and on any topic those of `acks=1`.
                    partition.excused.extend(partition.active.iter().copied());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether the node says that earlier batches of the producer are missing.
fn is_about_sequences(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
    )
}

impl Partition {
    /// Finds the batches that were refused as if they had been there before.
    fn check_refusals(&self) -> Result<(), String> {
        let absent = self
            .unexplained
            .iter()
            .find(|(batch, _)| !self.places.contains_key(batch));
        match absent {
            Some((_, text)) => Err(format!("{text}, but nothing before it is missing")),
            None => Ok(()),
        }
    }

    /// Compares each producer's sequences, in the order of offsets.
    fn check_sequences(&self, facts: &Facts<'_>) -> Result<(), String> {
        let mut next: BTreeMap<Identity, Sequence> = BTreeMap::new();
        for (at, batch) in &self.by_offset {
            let of = facts.batches.get(*batch);
            let Some((identity, sequence)) = of.origin else {
                continue;
            };
            let expected = next.get(&identity).copied().unwrap_or(Sequence(0));
            let follows = sequence == expected;
            let is_first = !next.contains_key(&identity);
            let is_excused = self.excused.contains(&identity) || (is_first && self.writes_may_fail);
            let skips = sequence > expected && is_excused;
            if !follows && !skips {
                return Err(format!(
                    "{batch} of producer {} at {at} has sequence {sequence} where {expected} is \
                     expected",
                    identity.id
                ));
            }
            let records = i32::try_from(of.records).unwrap_or(i32::MAX);
            next.insert(identity, Sequence(sequence.0.saturating_add(records)));
        }
        Ok(())
    }
}
