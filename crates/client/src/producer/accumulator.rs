//! The records that are not delivered yet, as batches per partition.
//!
//! Input: records, completions, the time, who leads what. Output: for each broker the batches that
//! go into its next request; when to look again.
//!
//! Invariants:
//! - nothing is sent because of `append` alone: a batch leaves when it is full, has lingered, is
//!   flushed, or when others wait for memory;
//! - a request carries at most one batch of a partition, and at most `max_request_size` bytes
//!   beyond its first batch; partitions take turns (`cursor`), so that a busy one starves none.
//!
//! Source: none; the rules are those that KIP-91 and KIP-782 explain.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use skein_record::Codec;
use skein_types::{BrokerId, Millis, TopicPartition};
use tokio::time::Instant;

use crate::error::ClientError;
use crate::producer::batch::{Ack, Batch, Identity};
use crate::producer::options::ProducerOptions;
use crate::producer::partition_queue::{Finished, Pace, PartitionQueue, Readiness};
use crate::producer::record::{Delivery, ProducerRecord};

/// The records that are not delivered yet.
#[derive(Debug)]
pub(crate) struct Accumulator {
    pace: Pace,
    codec: Codec,
    max_request_size: usize,
    is_idempotent: bool,
    identity: Option<Identity>,
    partitions: BTreeMap<TopicPartition, PartitionQueue>,
    /// Ordinals of the batches without an outcome.
    unfinished: BTreeSet<u64>,
    next_ordinal: u64,
    /// Batches below are sent without waiting.
    flush_end: u64,
    /// The partition that was served last.
    cursor: Option<TopicPartition>,
}

/// A record that was taken.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) delivery: Delivery,
    /// A batch was begun or became full: the sender has something to plan.
    pub(crate) is_news: bool,
}

/// What can be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Brokers that lead partitions with a batch to send.
    pub(crate) brokers: BTreeSet<BrokerId>,
    /// A batch could be sent if its partition had a leader.
    pub(crate) lacks_leader: bool,
    /// When to look again, if nothing happens before.
    pub(crate) next: Option<Instant>,
}

impl Accumulator {
    pub(crate) fn new(options: &ProducerOptions, identity: Option<Identity>) -> Self {
        Self {
            pace: Pace {
                batch_size: options.batch_size,
                linger: options.linger,
                delivery_timeout: options.delivery_timeout,
                in_flight_max: options.in_flight_per_partition(),
            },
            codec: options.compression,
            max_request_size: options.max_request_size,
            is_idempotent: options.is_idempotent(),
            identity,
            partitions: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            next_ordinal: 0,
            flush_end: 0,
            cursor: None,
        }
    }

    /// Takes a record; the caller holds its bytes of memory.
    pub(crate) fn append(
        &mut self,
        partition: &TopicPartition,
        record: &ProducerRecord,
        timestamp: Millis,
        now: Instant,
    ) -> Result<Appended, ClientError> {
        if !self.partitions.contains_key(partition) {
            let queue = PartitionQueue::new(self.identity);
            self.partitions.insert(partition.clone(), queue);
        }
        let identity = self.identity;
        let queue = self
            .partitions
            .entry(partition.clone())
            .or_insert_with(|| PartitionQueue::new(identity));
        let failed = |source| ClientError::Encode {
            partition: partition.clone(),
            source,
        };
        let batch_size = self.pace.batch_size;
        if let Some(last) = queue
            .last_mut()
            .filter(|last| last.has_room(record.size_max(), batch_size))
        {
            let delivery = last.append(record, timestamp).map_err(failed)?;
            let is_news = last.size_in_bytes() >= batch_size;
            return Ok(Appended { delivery, is_news });
        }
        let mut batch = Batch::new(self.next_ordinal, partition.clone(), self.codec, now);
        let delivery = batch.append(record, timestamp).map_err(failed)?;
        self.unfinished.insert(self.next_ordinal);
        self.next_ordinal += 1;
        queue.push(batch);
        Ok(Appended {
            delivery,
            is_news: true,
        })
    }

    /// What can be done now. `is_pressed`: somebody waits for memory.
    pub(crate) fn schedule(
        &self,
        now: Instant,
        is_pressed: bool,
        leader: impl Fn(&TopicPartition) -> Option<BrokerId>,
    ) -> Schedule {
        let mut schedule = Schedule::default();
        for (partition, queue) in &self.partitions {
            match self.readiness(queue, now, is_pressed) {
                Readiness::No => {}
                Readiness::At(at) => schedule.look_again_at(at),
                Readiness::Now => match leader(partition) {
                    Some(leader) => drop(schedule.brokers.insert(leader)),
                    None => schedule.lacks_leader = true,
                },
            }
            if let Some(at) = queue.expires_at(self.pace) {
                schedule.look_again_at(at);
            }
        }
        schedule
    }

    /// Takes the batches for one request to the leader of the partitions that are `mine`.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        is_pressed: bool,
        mine: impl Fn(&TopicPartition) -> bool,
    ) -> Vec<Batch> {
        let ready = |(partition, queue): &(&TopicPartition, &PartitionQueue)| {
            self.readiness(queue, now, is_pressed) == Readiness::Now && mine(partition)
        };
        let behind = match &self.cursor {
            Some(cursor) => (Bound::Excluded(cursor), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let turn = self
            .partitions
            .range::<TopicPartition, _>(behind)
            .chain(&self.partitions);
        let mut names: Vec<TopicPartition> = Vec::new();
        let mut bytes = 0_usize;
        for (partition, queue) in turn.take(self.partitions.len()).filter(ready) {
            bytes = bytes.saturating_add(queue.front_size());
            if bytes > self.max_request_size && !names.is_empty() {
                break;
            }
            names.push(partition.clone());
        }
        let queues = names
            .iter()
            .filter_map(|name| self.partitions.get_mut(name)?.take());
        let batches = queues.collect();
        if let Some(last) = names.pop() {
            self.cursor = Some(last);
        }
        batches
    }

    /// Takes back a batch that was sent, with its result. Returns the bytes of memory that are free
    /// now: none if it is to be sent again.
    pub(crate) fn complete(
        &mut self,
        batch: Batch,
        result: Result<Ack, ClientError>,
        now: Instant,
        pause: Duration,
    ) -> usize {
        let mut finished = Finished::new();
        let partition = batch.partition.clone();
        match self.partitions.get_mut(&partition) {
            Some(queue) => queue.complete(batch, result, now, pause, self.pace, &mut finished),
            None => finished.push((batch, result)),
        }
        self.finish(finished)
    }

    /// Fails what has waited too long. Returns the bytes of memory that are free now.
    /// `why` is what the last attempt of all came to.
    pub(crate) fn expire(&mut self, now: Instant, why: Option<&ClientError>) -> usize {
        let mut finished = Finished::new();
        for queue in self.partitions.values_mut() {
            queue.expire(now, self.pace, why, &mut finished);
        }
        self.finish(finished)
    }

    /// Fails what waits for a partition that has been offline for `absence_max`; `why` says that it
    /// is. Returns the bytes of memory that are free now, and when to look again.
    pub(crate) fn fail_offline(
        &mut self,
        now: Instant,
        absence_max: Duration,
        why: impl Fn(&TopicPartition) -> Option<ClientError>,
    ) -> (usize, Option<Instant>) {
        let mut finished = Finished::new();
        let looks = self.partitions.iter_mut().filter_map(|(partition, queue)| {
            let why = why(partition);
            queue.fail_offline(now, absence_max, why.as_ref(), &mut finished)
        });
        let next = looks.min();
        (self.finish(finished), next)
    }

    /// Has everything sent that was taken before. Returns the ordinal below which all is meant.
    pub(crate) fn flush(&mut self) -> u64 {
        self.flush_end = self.next_ordinal;
        self.flush_end
    }

    /// Ordinal of the oldest batch without an outcome; that of the next one if all have theirs.
    pub(crate) fn unfinished_from(&self) -> u64 {
        self.unfinished
            .first()
            .copied()
            .unwrap_or(self.next_ordinal)
    }

    /// Ordinal of the next batch to begin.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.next_ordinal
    }

    /// Whether a partition waits for a producer id: all epochs of the former one are used up.
    pub(crate) fn lacks_identity(&self) -> bool {
        self.is_idempotent && self.partitions.values().any(PartitionQueue::lacks_identity)
    }

    /// Gives a new producer id to the partitions that wait for one, and to those to come.
    pub(crate) fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
        for queue in self
            .partitions
            .values_mut()
            .filter(|queue| queue.lacks_identity())
        {
            queue.set_identity(identity);
        }
    }

    fn readiness(&self, queue: &PartitionQueue, now: Instant, is_pressed: bool) -> Readiness {
        if self.is_idempotent && queue.lacks_identity() {
            return Readiness::No;
        }
        let is_flushed = queue
            .front_ordinal()
            .is_some_and(|front| front < self.flush_end);
        queue.readiness(now, self.pace, is_pressed || is_flushed)
    }

    fn finish(&mut self, finished: Finished) -> usize {
        finished.into_iter().fold(0, |released, (batch, outcome)| {
            self.unfinished.remove(&batch.ordinal);
            released + batch.finish(outcome)
        })
    }
}

impl Schedule {
    pub(crate) fn look_again_at(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

#[cfg(test)]
mod tests;
