//! The batches of one partition: waiting, in flight, to be sent again.
//!
//! Input: records, completions, the time. Output: the next batch to send, and batches that are
//! finished.
//!
//! ```text
//!   open ──full, lingered, flushed──► taken (gets its place) ──► written
//!                                        │        ▲
//!                                retriable error  │ when nothing of the partition is in flight
//!                                        ▼        │
//!                                     back in its place in the queue ──delivery timeout──► failed
//! ```
//!
//! Invariants:
//! - batches are sent in the order of their ordinals: after a failure nothing is sent before all
//!   that is in flight has come back and stands in its place again (`is_recovering`);
//! - sequences have no gap: after a batch with a place has failed for good, those behind it get
//!   places under the next producer epoch (`is_voided`); those of them that may have been written
//!   fail, because under another sequence they could be written twice.
//!
//! Source: KIP-98, KIP-360 (epoch bump by the client) for what brokers accept.

use std::collections::VecDeque;
use std::time::Duration;

use skein_types::{ErrorCode, ProducerEpoch, Sequence};
use tokio::time::Instant;

use crate::error::ClientError;
use crate::producer::batch::{Ack, Batch, Identity, Outcome, Place};

/// What decides when a batch is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) batch_size: usize,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) in_flight_max: usize,
}

/// When the batch at the front can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Now.
    Now,
    /// At this time, unless something happens before.
    At(Instant),
    /// When something happens.
    No,
}

/// Batches that have their outcome, and are to be told so.
pub(crate) type Finished = Vec<(Batch, Outcome)>;

/// The batches of one partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionQueue {
    /// By ordinal. Only the last one may be open.
    queued: VecDeque<Batch>,
    in_flight: usize,
    /// `None` if the producer is not idempotent, or has to ask for another id.
    identity: Option<Identity>,
    next_sequence: Sequence,
    is_recovering: bool,
    is_voided: bool,
    retry_at: Option<Instant>,
    /// Since when something waits for it though it is offline.
    offline_since: Option<Instant>,
}

impl PartitionQueue {
    pub(crate) fn new(identity: Option<Identity>) -> Self {
        Self {
            identity,
            next_sequence: Sequence(0),
            ..Self::default()
        }
    }

    /// The batch that a further record may join.
    pub(crate) fn last_mut(&mut self) -> Option<&mut Batch> {
        self.queued.back_mut()
    }

    /// Begins a batch behind all others.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.queued.push_back(batch);
    }

    /// Whether the producer needs another id for this partition.
    pub(crate) fn lacks_identity(&self) -> bool {
        self.identity.is_none()
    }

    /// Gives the partition a producer id of which it has used nothing.
    pub(crate) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = Sequence(0);
    }

    /// When the batch at the front can be sent; at once if `is_pressed`.
    pub(crate) fn readiness(&self, now: Instant, pace: Pace, is_pressed: bool) -> Readiness {
        let Some(front) = self.queued.front() else {
            return Readiness::No;
        };
        let must_settle = (self.is_recovering || self.is_voided) && self.in_flight > 0;
        if self.in_flight >= pace.in_flight_max || must_settle {
            return Readiness::No;
        }
        if let Some(retry_at) = self.retry_at.filter(|at| *at > now) {
            return Readiness::At(retry_at);
        }
        let is_full = self.queued.len() > 1 || front.size_in_bytes() >= pace.batch_size;
        let linger_end = front.created + pace.linger;
        if is_pressed || is_full || front.last_error.is_some() || linger_end <= now {
            Readiness::Now
        } else {
            Readiness::At(linger_end)
        }
    }

    /// When the oldest queued batch has waited too long.
    pub(crate) fn expires_at(&self, pace: Pace) -> Option<Instant> {
        self.queued
            .front()
            .map(|front| front.created + pace.delivery_timeout)
    }

    /// Bytes of the batch at the front.
    pub(crate) fn front_size(&self) -> usize {
        self.queued.front().map_or(0, Batch::size_in_bytes)
    }

    /// Ordinal of the batch at the front.
    pub(crate) fn front_ordinal(&self) -> Option<u64> {
        self.queued.front().map(|front| front.ordinal)
    }

    /// Takes the batch at the front, to be sent.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let mut batch = self.queued.pop_front()?;
        self.in_flight += 1;
        if let (None, Some(identity)) = (batch.place, self.identity) {
            batch.place = Some(Place {
                identity,
                base_sequence: self.next_sequence,
            });
            self.next_sequence = self.next_sequence.wrapping_add(batch.records_count());
        }
        Some(batch)
    }

    /// Takes back a batch that was sent, with its result. If that is an error that may pass, the
    /// batch is sent again after `pause`.
    pub(crate) fn complete(
        &mut self,
        mut batch: Batch,
        result: Result<Ack, ClientError>,
        now: Instant,
        pause: Duration,
        pace: Pace,
        finished: &mut Finished,
    ) {
        self.in_flight -= 1;
        match result {
            Ok(ack) => finished.push((batch, Ok(ack))),
            Err(error) => {
                batch.failures = batch.failures.saturating_add(1);
                batch.may_be_written |= !proves_unwritten(&error);
                // Behind a batch that failed, the broker misses that one's sequence.
                let is_behind_failure = error.code() == Some(ErrorCode::OutOfOrderSequenceNumber)
                    && (self.is_recovering || self.is_voided);
                let is_in_time = now + pause < batch.created + pace.delivery_timeout;
                if (error.is_retriable() || is_behind_failure) && is_in_time {
                    batch.last_error = Some(error);
                    self.is_recovering = true;
                    self.retry_at = Some(now + pause);
                    let at = self
                        .queued
                        .partition_point(|one| one.ordinal < batch.ordinal);
                    self.queued.insert(at, batch);
                } else {
                    self.fail(batch, error, finished);
                }
            }
        }
        self.settle(finished);
    }

    /// Fails the batches that have waited too long.
    /// `why` is what the producer's last attempt came to, for those that were in none.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        pace: Pace,
        why: Option<&ClientError>,
        finished: &mut Finished,
    ) {
        while self.expires_at(pace).is_some_and(|at| at <= now) {
            let Some(mut batch) = self.queued.pop_front() else {
                break;
            };
            let error = ClientError::TimedOut {
                subject: format!("a batch for {}", batch.partition),
                timeout: pace.delivery_timeout,
                last: batch
                    .last_error
                    .take()
                    .or_else(|| why.cloned())
                    .map(Box::new),
            };
            self.fail(batch, error, finished);
        }
        self.settle(finished);
    }

    /// Fails all that waits, if the partition has been offline for `absence_max`. `why`: it is
    /// offline now. Returns when that is the case, unless something happens before.
    pub(crate) fn fail_offline(
        &mut self,
        now: Instant,
        absence_max: Duration,
        why: Option<&ClientError>,
        finished: &mut Finished,
    ) -> Option<Instant> {
        let Some(why) = why.filter(|_| !self.queued.is_empty()) else {
            self.offline_since = None;
            return None;
        };
        let end = *self.offline_since.get_or_insert(now) + absence_max;
        if now < end {
            return Some(end);
        }
        self.offline_since = None;
        for batch in std::mem::take(&mut self.queued) {
            self.fail(batch, why.clone(), finished);
        }
        self.settle(finished);
        None
    }

    fn fail(&mut self, batch: Batch, error: ClientError, finished: &mut Finished) {
        self.is_voided |= batch.place.is_some();
        finished.push((batch, Err(error)));
    }

    /// When nothing is in flight, what failed stands in its place again; and where a sequence was
    /// lost, places are given anew.
    fn settle(&mut self, finished: &mut Finished) {
        if self.in_flight > 0 {
            return;
        }
        self.is_recovering = false;
        if !std::mem::take(&mut self.is_voided) {
            return;
        }
        self.identity = self.identity.and_then(
            |Identity {
                 producer_id,
                 producer_epoch,
             }| {
                let next = producer_epoch.0.checked_add(1)?;
                Some(Identity {
                    producer_id,
                    producer_epoch: ProducerEpoch(next),
                })
            },
        );
        self.next_sequence = Sequence(0);
        for mut batch in std::mem::take(&mut self.queued) {
            if batch.place.is_none() {
                self.queued.push_back(batch);
            } else if batch.may_be_written {
                let error = ClientError::OutcomeUnknown {
                    partition: batch.partition.clone(),
                    last: batch.last_error.take().map(Box::new),
                };
                finished.push((batch, Err(error)));
            } else {
                match batch.unseal() {
                    Ok(()) => self.queued.push_back(batch),
                    Err(source) => {
                        let partition = batch.partition.clone();
                        finished.push((batch, Err(ClientError::Encode { partition, source })));
                    }
                }
            }
        }
    }
}

/// Whether an error says that the batch was not written. All others leave it open: a leader may
/// have written it before it failed.
fn proves_unwritten(error: &ClientError) -> bool {
    match error {
        ClientError::Encode { .. } => true,
        ClientError::Refused { code, .. } => matches!(
            code,
            ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::UnknownProducerId
                | ErrorCode::CorruptMessage
                | ErrorCode::MessageTooLarge
                | ErrorCode::RecordListTooLarge
                | ErrorCode::InvalidRecord
                | ErrorCode::InvalidTimestamp
                | ErrorCode::InvalidTopicException
                | ErrorCode::InvalidRequiredAcks
                | ErrorCode::UnsupportedCompressionType
                | ErrorCode::UnsupportedForMessageFormat
                | ErrorCode::TopicAuthorizationFailed
                | ErrorCode::ClusterAuthorizationFailed
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
