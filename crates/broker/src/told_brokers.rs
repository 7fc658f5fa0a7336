//! Which brokers Metadata tells a client of: those that live, and once more those that have died.
//!
//! Input: each new image; the connection that asks. Output: the dead that it is told of.
//!
//! ```text
//!   the broker leads         brokers 1 2 3    leader 1
//!   it died; first answer    brokers 1 2 3    leader 2    the client moves its partition
//!   second answer            brokers   2 3    leader 2    and takes down what it has for the dead
//! ```
//!
//! An answer that did both at once would make a client do both at once: librdkafka may then lose
//! track of a partition that it moves, and sends nothing to it until it scans them all, up to a
//! second later. Telling of the dead for longer is no way out: a client goes on to connect to them,
//! at intervals that grow to ten seconds, and lets one pass even when the broker has come back and
//! leads.
//!
//! Invariants:
//! - a broker that is not fenced is told of;
//! - a connection is told of one that is fenced at most once, and only of one that died while the
//!   connection was open, or just before;
//! - no other answer than that of Metadata is about this: DescribeCluster says who lives.
//!
//! Source: own design, after traces of librdkafka 2.16 (`rd_kafka_broker_decommission`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skein_metadata::Image;
use skein_types::BrokerId;
use tokio::time::Instant;

use crate::node::Shared;

/// A client that lost its connection to a broker that died has opened another one by then.
const JUST_DIED: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(crate) struct ToldBrokers {
    known: Mutex<Known>,
}

/// How many deaths a connection has been told of.
pub(crate) struct Told(AtomicU64);

#[derive(Default)]
struct Known {
    /// The last death of each broker; `None` while it lives.
    brokers: BTreeMap<BrokerId, Option<Death>>,
    deaths: u64,
}

#[derive(Clone, Copy)]
struct Death {
    number: u64,
    at: Instant,
}

impl ToldBrokers {
    /// For a connection that is opened at `now`.
    pub(crate) fn open(&self, now: Instant) -> Told {
        let known = self.known.lock();
        let old = known
            .dead()
            .filter(|(_, death)| now.duration_since(death.at) >= JUST_DIED);
        let told = old.map(|(_, death)| death.number).max();
        Told(AtomicU64::new(told.unwrap_or(0)))
    }

    /// The brokers that are fenced in `image`, and that the connection is told of for the last
    /// time, in order.
    pub(crate) fn last_words(&self, told: &Told, image: &Image, now: Instant) -> Vec<BrokerId> {
        let mut known = self.known.lock();
        known.note(image, now);
        let before = told.0.swap(known.deaths, Ordering::Relaxed);
        let news = known.dead().filter(|(_, death)| death.number > before);
        news.map(|(id, _)| id).collect()
    }
}

impl Known {
    fn dead(&self) -> impl Iterator<Item = (BrokerId, Death)> {
        let dead = self.brokers.iter();
        dead.filter_map(|(id, death)| death.map(|death| (*id, death)))
    }

    /// Takes in an image that is the newest at `now`.
    fn note(&mut self, image: &Image, now: Instant) {
        self.brokers.retain(|id, _| image.broker(*id).is_some());
        for broker in image.brokers() {
            if !broker.fenced {
                self.brokers.insert(broker.id, None);
            } else if let Some(death) = self.brokers.get_mut(&broker.id)
                && death.is_none()
            {
                self.deaths += 1;
                let number = self.deaths;
                *death = Some(Death { number, at: now });
            }
        }
    }
}

/// Follows the image until the node stops, so that it is known when a broker died.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut images = shared.controller.subscribe();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        shared
            .told_brokers
            .known
            .lock()
            .note(&image, Instant::now());
        if images.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use skein_metadata::{Broker, Record};
    use skein_types::{BrokerEpoch, Uuid};

    use super::*;

    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);

    /// An image with these brokers, each fenced or not.
    fn image(brokers: &[(BrokerId, bool)]) -> Image {
        let mut image = Image::new();
        for (id, fenced) in brokers {
            let broker = Record::Broker(Broker {
                id: *id,
                epoch: BrokerEpoch(i64::from(id.get())),
                incarnation: Uuid([1; 16]),
                raft_id: 1,
                endpoints: Vec::new(),
                rack: None,
                fenced: *fenced,
                stopping: false,
            });
            image.apply_records(&[broker]).unwrap();
        }
        image
    }

    #[test]
    fn a_connection_is_told_of_each_death_once() {
        let (told, now) = (ToldBrokers::default(), Instant::now());
        let connections = [told.open(now), told.open(now)];
        let hear = |connection: &Told, fenced: [bool; 2]| {
            let image = image(&[(ONE, fenced[0]), (TWO, fenced[1])]);
            told.last_words(connection, &image, now)
        };
        let [first, second] = &connections;
        assert!(hear(first, [false, false]).is_empty());
        assert_eq!(hear(first, [false, true]), [TWO]);
        assert!(hear(first, [false, true]).is_empty());
        assert_eq!(hear(second, [false, true]), [TWO], "it has not heard yet");
        // The other one dies too.
        assert_eq!(hear(first, [true, true]), [ONE]);
        assert_eq!(hear(second, [true, true]), [ONE]);
        // One comes back, and dies again.
        assert!(hear(first, [true, false]).is_empty());
        assert_eq!(hear(first, [true, true]), [TWO]);
        assert_eq!(hear(second, [true, true]), [TWO]);
    }

    #[test]
    fn a_connection_that_was_opened_later_is_not_told() {
        let (told, begun) = (ToldBrokers::default(), Instant::now());
        let dead = image(&[(ONE, true)]);
        told.known.lock().note(&image(&[(ONE, false)]), begun);
        told.known.lock().note(&dead, begun);
        let almost = begun + JUST_DIED.saturating_sub(Duration::from_millis(1));
        let in_time = told.open(almost);
        assert_eq!(told.last_words(&in_time, &dead, almost), [ONE]);
        let later = begun + JUST_DIED;
        let too_late = told.open(later);
        assert!(told.last_words(&too_late, &dead, later).is_empty());
    }

    #[test]
    fn who_was_only_known_dead_is_not_told_of() {
        let (told, now) = (ToldBrokers::default(), Instant::now());
        let connection = told.open(now);
        let dead = image(&[(ONE, true)]);
        assert!(told.last_words(&connection, &dead, now).is_empty());
        // Nor who was unregistered in between.
        told.known.lock().note(&image(&[(ONE, false)]), now);
        told.known.lock().note(&image(&[]), now);
        assert!(told.last_words(&connection, &dead, now).is_empty());
    }
}
