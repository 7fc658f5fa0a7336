//! Tests of one partition's queue: by scenario, and against a broker that checks sequences.

use proptest::prelude::*;
use skein_record::Codec;
use skein_types::{Millis, Offset, PartitionIndex, ProducerId, TopicName, TopicPartition};

use super::*;
use crate::producer::record::ProducerRecord;

const PAUSE: Duration = Duration::from_millis(100);

fn pace() -> Pace {
    Pace {
        batch_size: 1,
        linger: Duration::from_millis(50),
        delivery_timeout: Duration::from_secs(100),
        in_flight_max: 5,
    }
}

fn identity() -> Identity {
    Identity {
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(0),
    }
}

fn batch(ordinal: u64, created: Instant) -> Batch {
    let topic = TopicName::new("t").unwrap();
    let partition = TopicPartition {
        topic: topic.clone(),
        partition: PartitionIndex(0),
    };
    let mut batch = Batch::new(ordinal, partition, Codec::None, created);
    let record = ProducerRecord::new(topic, ordinal.to_string());
    batch.append(&record, Millis(0)).unwrap();
    batch
}

fn queue_of(batches: u64, now: Instant) -> PartitionQueue {
    let mut queue = PartitionQueue::new(Some(identity()));
    for ordinal in 0..batches {
        queue.push(batch(ordinal, now));
    }
    queue
}

fn refused(code: ErrorCode) -> Result<Ack, ClientError> {
    Err(ClientError::refused("t-0", code, None))
}

fn written() -> Result<Ack, ClientError> {
    Ok(Ack {
        base_offset: Offset(0),
        log_append_time: Millis::NONE,
    })
}

fn sequence(batch: &Batch) -> (i16, i32) {
    let place = batch.place.unwrap();
    (place.identity.producer_epoch.0, place.base_sequence.0)
}

#[test]
fn after_a_failure_nothing_is_sent_before_all_has_come_back_in_order() {
    let now = Instant::now();
    let mut queue = queue_of(4, now);
    let (first, second, third) = (queue.take(), queue.take(), queue.take());
    let mut finished = Finished::new();
    let not_leader = refused(ErrorCode::NotLeaderOrFollower);
    queue.complete(
        first.unwrap(),
        not_leader,
        now,
        PAUSE,
        pace(),
        &mut finished,
    );
    assert_eq!(queue.readiness(now + PAUSE, pace(), true), Readiness::No);
    let out_of_order = refused(ErrorCode::OutOfOrderSequenceNumber);
    queue.complete(
        third.unwrap(),
        out_of_order.clone(),
        now,
        PAUSE,
        pace(),
        &mut finished,
    );
    queue.complete(
        second.unwrap(),
        out_of_order,
        now,
        PAUSE,
        pace(),
        &mut finished,
    );
    assert!(finished.is_empty());
    assert_eq!(
        queue.readiness(now, pace(), true),
        Readiness::At(now + PAUSE)
    );
    assert_eq!(queue.readiness(now + PAUSE, pace(), false), Readiness::Now);
    let order: Vec<_> = std::iter::from_fn(|| queue.take())
        .map(|batch| (batch.ordinal, sequence(&batch)))
        .collect();
    assert_eq!(order, [(0, (0, 0)), (1, (0, 1)), (2, (0, 2)), (3, (0, 3))]);
}

#[test]
fn a_lost_sequence_begins_a_new_epoch_and_what_may_be_written_is_not_sent_twice() {
    let now = Instant::now();
    let mut queue = queue_of(4, now);
    let (first, second, third) = (queue.take(), queue.take(), queue.take());
    let mut finished = Finished::new();
    let too_large = refused(ErrorCode::MessageTooLarge);
    queue.complete(first.unwrap(), too_large, now, PAUSE, pace(), &mut finished);
    let timed_out = refused(ErrorCode::RequestTimedOut);
    queue.complete(
        second.unwrap(),
        timed_out,
        now,
        PAUSE,
        pace(),
        &mut finished,
    );
    let out_of_order = refused(ErrorCode::OutOfOrderSequenceNumber);
    queue.complete(
        third.unwrap(),
        out_of_order,
        now,
        PAUSE,
        pace(),
        &mut finished,
    );
    let failed: Vec<_> = finished.iter().map(|(batch, _)| batch.ordinal).collect();
    assert_eq!(failed, [0, 1]);
    let unknown = finished[1].1.as_ref().unwrap_err();
    assert!(
        matches!(unknown, ClientError::OutcomeUnknown { last: Some(_), .. }),
        "{unknown}"
    );
    let (third, fourth) = (queue.take().unwrap(), queue.take().unwrap());
    assert_eq!((third.ordinal, sequence(&third)), (2, (1, 0)));
    assert_eq!((fourth.ordinal, sequence(&fourth)), (3, (1, 1)));
}

#[test]
fn the_last_epoch_asks_for_another_producer_id() {
    let now = Instant::now();
    let last = Identity {
        producer_epoch: ProducerEpoch(i16::MAX),
        ..identity()
    };
    let mut queue = PartitionQueue::new(Some(last));
    queue.push(batch(0, now));
    let taken = queue.take().unwrap();
    let too_large = refused(ErrorCode::MessageTooLarge);
    queue.complete(taken, too_large, now, PAUSE, pace(), &mut Finished::new());
    assert!(queue.lacks_identity());
}

#[test]
fn what_waits_too_long_fails_with_the_last_reason() {
    let now = Instant::now();
    let mut queue = queue_of(1, now);
    let taken = queue.take().unwrap();
    let mut finished = Finished::new();
    let refusal = refused(ErrorCode::NotLeaderOrFollower);
    queue.complete(taken, refusal, now, PAUSE, pace(), &mut finished);
    queue.expire(now + Duration::from_secs(99), pace(), None, &mut finished);
    assert!(finished.is_empty());
    queue.expire(now + Duration::from_secs(100), pace(), None, &mut finished);
    let error = finished[0].1.as_ref().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NotLeaderOrFollower));
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
}

#[test]
fn what_was_in_no_attempt_fails_with_the_reason_of_the_producer() {
    let now = Instant::now();
    let mut queue = queue_of(1, now);
    let mut finished = Finished::new();
    let why = ClientError::Closed;
    queue.expire(
        now + pace().delivery_timeout,
        pace(),
        Some(&why),
        &mut finished,
    );
    let told = finished[0].1.as_ref().unwrap_err().to_string();
    assert!(told.contains("the producer is closed"), "{told}");
}

#[test]
fn what_waits_for_an_offline_partition_fails_after_a_while_and_not_if_it_comes_back() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let mut queue = queue_of(2, now);
    let mut finished = Finished::new();
    let why = ClientError::Closed;
    let mut look = |queue: &mut PartitionQueue, at: u32, is_offline: bool| {
        let why = is_offline.then_some(&why);
        let next = queue.fail_offline(now + at * second, 2 * second, why, &mut finished);
        (next.map(|next| (next - now).as_secs()), finished.len())
    };
    assert_eq!(look(&mut queue, 0, true), (Some(2), 0));
    // A leader was there meanwhile: the time counts anew.
    assert_eq!(look(&mut queue, 1, false), (None, 0));
    assert_eq!(look(&mut queue, 2, true), (Some(4), 0));
    assert_eq!(look(&mut queue, 3, true), (Some(4), 0));
    assert_eq!(look(&mut queue, 4, true), (None, 2));
    assert_eq!(look(&mut queue, 9, true), (None, 2), "nothing waits");
}

/// One partition of a broker, as far as it looks at sequences.
#[derive(Default)]
struct Broker {
    log: Vec<u64>,
    epoch: i16,
    next: i32,
}

impl Broker {
    fn write(&mut self, batch: &Batch) -> Result<Ack, ClientError> {
        let (epoch, sequence) = sequence(batch);
        if epoch > self.epoch {
            (self.epoch, self.next) = (epoch, 0);
        }
        if epoch < self.epoch {
            return refused(ErrorCode::InvalidProducerEpoch);
        }
        if sequence < self.next {
            return written(); // A duplicate: answered, not written.
        }
        if sequence > self.next {
            return refused(ErrorCode::OutOfOrderSequenceNumber);
        }
        self.next += 1;
        self.log.push(batch.ordinal);
        written()
    }
}

proptest! {
    /// Whatever fails: the log has the batches in order, each at most once, and all that are said
    /// to be written.
    #[test]
    fn order_holds_and_nothing_is_written_twice(faults in prop::collection::vec(0..6_u8, 0..60)) {
        let mut now = Instant::now();
        let mut queue = queue_of(12, now);
        let (mut broker, mut finished) = (Broker::default(), Finished::new());
        let mut faults = faults.into_iter();
        for _ in 0..200 {
            now += PAUSE;
            let mut sent = Vec::new();
            while queue.readiness(now, pace(), true) == Readiness::Now {
                sent.push(queue.take().unwrap());
            }
            for batch in sent {
                let result = match faults.next() {
                    // Lost on the way there, or on the way back.
                    Some(0) => refused(ErrorCode::RequestTimedOut),
                    Some(1) => broker.write(&batch).and(refused(ErrorCode::RequestTimedOut)),
                    Some(2) => refused(ErrorCode::NotEnoughReplicas),
                    Some(3) => refused(ErrorCode::MessageTooLarge),
                    _ => broker.write(&batch),
                };
                queue.complete(batch, result, now, PAUSE, pace(), &mut finished);
            }
        }
        prop_assert_eq!(finished.len(), 12, "every batch has its outcome");
        prop_assert!(broker.log.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", broker.log);
        for (batch, outcome) in &finished {
            if outcome.is_ok() {
                prop_assert!(broker.log.contains(&batch.ordinal), "{}", batch.ordinal);
            }
        }
    }
}
