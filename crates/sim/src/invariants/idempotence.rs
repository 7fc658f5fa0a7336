//! A batch of an idempotent producer is in the log once, and none of its predecessors is missing,
//! also when the node was restarted in between.
//!
//! Input: what was sent, acknowledged, refused and read; power cuts. Output: the first duplicate,
//! gap, or refusal without a reason.
//!
//! - no batch with a producer id is at two offsets; a batch without one is at most as often in the
//!   log as it was sent;
//! - read back in offset order, the sequences of a producer follow one another. A node that knows a
//!   producer takes its next sequence only; one that does not takes any (KIP-360). It does not
//!   while nothing of the producer is in the log. So there may be a gap before the first batch of a
//!   producer that is in the log, and nowhere else; and in that gap only batches that *may be
//!   missing*, each by itself;
//! - a batch may be missing if it was refused, if it was on its way while writes could fail
//!   unheard, or if a power cut came before its acknowledgement, or after it where that promises
//!   only to survive a kill (`durability=replicated`, and no clean stop in between);
//! - a batch that waits for no other is refused with OUT_OF_ORDER_SEQUENCE_NUMBER or
//!   UNKNOWN_PRODUCER_ID only if it is in the log already (a snapshot knows the last batch of each
//!   producer, so that after a restart older ones are not recognised); if a batch that its producer
//!   has seen acknowledged may be missing; or if it is the producer's first, may be missing, and
//!   later ones came in its place.
//!
//! Source: KIP-98, KIP-360.

use std::collections::{BTreeMap, BTreeSet};

use skein_types::{ErrorCode, Offset, Sequence};

use super::{Facts, Invariant};
use crate::batches::{BatchId, Identity};
use crate::event::{End, Event, PartitionId, Stamp};
use crate::plan::Plan;

/// What is known of each partition's producers.
pub(crate) struct Idempotence {
    partitions: Vec<Partition>,
    attempts: BTreeMap<BatchId, u32>,
    /// Whether a write may fail now without any client hearing of it.
    writes_may_fail: bool,
    is_healed: bool,
}

#[derive(Default)]
struct Partition {
    is_compacted: bool,
    is_flushed: bool,
    /// Where batches were seen; forgotten at a power cut, after which they may be elsewhere.
    places: BTreeMap<BatchId, BTreeSet<Offset>>,
    by_offset: BTreeMap<Offset, BatchId>,
    producers: BTreeMap<Identity, Producer>,
    /// Batches with a producer id that were sent, and neither acknowledged nor given up.
    open: BTreeSet<BatchId>,
    /// Batches with a producer id whose acknowledgement a power cut may make void.
    weak: BTreeSet<BatchId>,
    /// Refusals that are right only if the batch is in the log.
    unexplained: BTreeMap<BatchId, String>,
}

#[derive(Default)]
struct Producer {
    batches: BTreeMap<Sequence, BatchId>,
    may_be_missing: BTreeSet<BatchId>,
    /// A batch that it has seen acknowledged may be missing.
    has_lost: bool,
}

impl Idempotence {
    /// Nothing is known.
    pub(crate) fn new(plan: &Plan) -> Self {
        let partitions = plan.partitions().map(|partition| Partition {
            is_flushed: partition.is_flushed,
            is_compacted: partition.compaction.is_some(),
            ..Partition::default()
        });
        Self {
            partitions: partitions.collect(),
            attempts: BTreeMap::new(),
            writes_may_fail: false,
            is_healed: true,
        }
    }

    fn sent(&mut self, batch: BatchId, facts: &Facts<'_>) {
        *self.attempts.entry(batch).or_default() += 1;
        let of = facts.batches.get(batch);
        let Some((identity, sequence)) = of.origin else {
            return;
        };
        let partition = &mut self.partitions[of.partition.0];
        partition.open.insert(batch);
        let producer = partition.producers.entry(identity).or_default();
        producer.batches.insert(sequence, batch);
        if self.writes_may_fail {
            producer.may_be_missing.insert(batch);
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

    /// A fault of the disk, its end, or the end of a process.
    fn world_changed(&mut self, event: &Event, facts: &Facts<'_>) {
        match event {
            Event::WritesMayFail => {
                self.writes_may_fail = true;
                self.is_healed = false;
                self.partitions
                    .iter_mut()
                    .for_each(|partition| partition.open_may_be_missing(facts));
            }
            Event::WritesHealed => self.is_healed = true,
            // What failed has left replicas offline, and they refuse: until the next process.
            Event::Starting if self.is_healed => self.writes_may_fail = false,
            Event::Ended(End::PowerCut) => {
                self.partitions
                    .iter_mut()
                    .for_each(|partition| partition.lost_power(facts));
            }
            Event::Ended(End::Clean) => {
                self.partitions
                    .iter_mut()
                    .for_each(|partition| partition.weak.clear());
            }
            _ => {}
        }
    }
}

impl Invariant for Idempotence {
    fn name(&self) -> &'static str {
        "idempotence"
    }

    fn observe(&mut self, event: &Event, facts: &Facts<'_>) -> Result<(), String> {
        match event {
            Event::Sent { batch, .. } => self.sent(*batch, facts),
            Event::Acked { batch, sent, .. } => {
                let of = facts.batches.get(*batch);
                self.partitions[of.partition.0].acked(*batch, *sent, facts);
            }
            Event::Refused {
                batch,
                code,
                is_head,
            } => {
                let of = facts.batches.get(*batch);
                return self.partitions[of.partition.0].refused(*batch, *code, *is_head, facts);
            }
            Event::GivenUp { batch } => {
                let of = facts.batches.get(*batch);
                self.partitions[of.partition.0].open.remove(batch);
            }
            Event::Read {
                partition,
                base_offset,
                batch,
                asked,
            }
            | Event::ReadRest {
                partition,
                base_offset,
                batch: Some(batch),
                asked,
                ..
            } if asked.era == facts.now.era => {
                return self.read(*partition, *base_offset, *batch, facts);
            }
            Event::ReadBack {
                partition, start, ..
            } => {
                let partition = &self.partitions[partition.0];
                partition.check_refusals(*start, facts)?;
                return partition.check_sequences(*start, facts);
            }
            event => self.world_changed(event, facts),
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
    fn producer_of(&mut self, batch: BatchId, facts: &Facts<'_>) -> Option<&mut Producer> {
        let (identity, _) = facts.batches.get(batch).origin?;
        Some(self.producers.entry(identity).or_default())
    }

    fn acked(&mut self, batch: BatchId, sent: Stamp, facts: &Facts<'_>) {
        self.open.remove(&batch);
        let survives = self.is_flushed && facts.batches.get(batch).acks == -1;
        let Some(producer) = self.producer_of(batch, facts) else {
            return;
        };
        if survives || sent.era == facts.now.era {
            // It is in the log, whatever became of it on the way.
            producer.may_be_missing.remove(&batch);
        } else {
            producer.may_be_missing.insert(batch);
            producer.has_lost = true;
        }
        if !survives {
            self.weak.insert(batch);
        }
    }

    fn refused(
        &mut self,
        batch: BatchId,
        code: ErrorCode,
        is_head: bool,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let is_about_sequences = is_about_sequences(code);
        let Some((_, sequence)) = facts.batches.get(batch).origin else {
            return match is_about_sequences {
                true => Err(format!(
                    "{batch} has no producer id, but is refused: {code}"
                )),
                false => Ok(()),
            };
        };
        let Some(producer) = self.producer_of(batch, facts) else {
            return Ok(());
        };
        let is_first = sequence == Sequence(0);
        let later_came_first = is_first && producer.may_be_missing.contains(&batch);
        let is_explained = producer.has_lost || later_came_first;
        producer.may_be_missing.insert(batch);
        if is_head && is_about_sequences && !is_explained {
            let text = format!("{batch}, sequence {sequence}, is refused: {code}");
            self.unexplained.insert(batch, text);
        }
        Ok(())
    }

    /// Whatever is on its way may be lost unheard.
    fn open_may_be_missing(&mut self, facts: &Facts<'_>) {
        for batch in std::mem::take(&mut self.open) {
            if let Some(producer) = self.producer_of(batch, facts) {
                producer.may_be_missing.insert(batch);
            }
            self.open.insert(batch);
        }
    }

    fn lost_power(&mut self, facts: &Facts<'_>) {
        self.places.clear();
        self.by_offset.clear();
        self.unexplained.clear();
        self.open_may_be_missing(facts);
        for batch in std::mem::take(&mut self.weak) {
            if let Some(producer) = self.producer_of(batch, facts) {
                producer.may_be_missing.insert(batch);
                producer.has_lost = true;
            }
        }
    }

    /// Finds the batches that were refused as if they had been there before. Where `start` has
    /// moved, they may have been, and are deleted.
    fn check_refusals(&self, start: Offset, facts: &Facts<'_>) -> Result<(), String> {
        if start > Offset::ZERO {
            return Ok(());
        }
        let absent = self.unexplained.iter().find(|(batch, _)| {
            !self.places.contains_key(batch) && !self.may_be_compacted(**batch, facts)
        });
        match absent {
            Some((_, text)) => Err(format!("{text}, but nothing before it is missing")),
            None => Ok(()),
        }
    }

    /// Compares each producer's sequences, in the order of offsets from `start` on.
    fn check_sequences(&self, start: Offset, facts: &Facts<'_>) -> Result<(), String> {
        let mut next: BTreeMap<Identity, Sequence> = BTreeMap::new();
        for (at, batch) in &self.by_offset {
            let of = facts.batches.get(*batch);
            if of.end(*at) <= start {
                continue;
            }
            let Some((identity, sequence)) = of.origin else {
                continue;
            };
            let known = next.get(&identity).copied();
            let expected = known.unwrap_or(Sequence(0));
            let may_skip = (known.is_none() || self.is_compacted) && sequence > expected;
            if sequence != expected && !may_skip {
                return Err(format!(
                    "{batch} of producer {} at {at} has sequence {sequence} where {expected} is \
                     expected",
                    identity.id
                ));
            }
            // What was before the start may have filled the gap.
            if may_skip && start == Offset::ZERO {
                self.check_gap(identity, expected, sequence, facts)?;
            }
            let records = i32::try_from(of.records).unwrap_or(i32::MAX);
            next.insert(identity, Sequence(sequence.0.saturating_add(records)));
        }
        Ok(())
    }

    /// Whether compaction may have taken the batch before anybody has read it.
    fn may_be_compacted(&self, batch: BatchId, facts: &Facts<'_>) -> bool {
        self.is_compacted && facts.batches.may_all_be_compacted(batch)
    }

    /// The sequences from `start` to `end` are not in the log: could they go missing?
    fn check_gap(
        &self,
        identity: Identity,
        start: Sequence,
        end: Sequence,
        facts: &Facts<'_>,
    ) -> Result<(), String> {
        let Some(producer) = self.producers.get(&identity) else {
            return Ok(());
        };
        let mut missing = producer.batches.range(start..end);
        let must_be_there = |batch: &BatchId| {
            !producer.may_be_missing.contains(batch) && !self.may_be_compacted(*batch, facts)
        };
        match missing.find(|(_, batch)| must_be_there(batch)) {
            Some((_, batch)) => Err(format!(
                "{batch} of producer {} is not in the log, but later ones are, and nothing could \
                 keep it away",
                identity.id
            )),
            None => Ok(()),
        }
    }
}
