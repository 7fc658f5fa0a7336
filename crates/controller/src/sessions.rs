//! Which brokers are alive, as the controller sees it.
//!
//! Input: heartbeats and evidence of death, with the time they came. Output: who is alive, and
//! whose session has ended and must be fenced.
//!
//! Invariants: a new controller gives every broker one full session from its activation, because
//! what the former one heard is not in the log; only the present registration of a broker has a
//! session. A partition is taken at most once in a session from a leader that reaches too few.
//!
//! Source: KIP-631; `BrokerHeartbeatManager` of Kafka 4.1.

use std::collections::BTreeMap;

use skein_metadata::Image;
use skein_types::{BrokerEpoch, BrokerId, Millis, PartitionIndex, TopicId};

/// The sessions of all brokers. Times are monotonic.
#[derive(Clone, Debug)]
pub struct Sessions {
    timeout_ms: Millis,
    ends: BTreeMap<BrokerId, Session>,
    /// When a partition was last taken from a leader that reached too few of its followers.
    handed_over: BTreeMap<(TopicId, PartitionIndex), Millis>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    epoch: BrokerEpoch,
    /// The first moment at which it is over.
    end: Millis,
    /// This controller has heard it; else it has the session for what a former one may have heard.
    is_heard: bool,
}

impl Sessions {
    /// The sessions of a controller that becomes active now.
    ///
    /// `timeout_ms` is `broker.session.timeout.ms`.
    #[must_use]
    pub fn new(image: &Image, now: Millis, timeout_ms: Millis) -> Self {
        let mut sessions = Self {
            timeout_ms,
            ends: BTreeMap::new(),
            handed_over: BTreeMap::new(),
        };
        for broker in image.brokers() {
            let session = Session {
                epoch: broker.epoch,
                end: now.saturating_add(timeout_ms),
                is_heard: false,
            };
            sessions.ends.insert(broker.id, session);
        }
        sessions
    }

    /// How long a session lasts.
    pub(crate) const fn timeout_ms(&self) -> Millis {
        self.timeout_ms
    }

    /// The broker was heard from, or has just been registered. What an older epoch says is ignored.
    pub fn touch(&mut self, id: BrokerId, epoch: BrokerEpoch, now: Millis) {
        if self
            .ends
            .get(&id)
            .is_some_and(|session| session.epoch > epoch)
        {
            return;
        }
        let end = now.saturating_add(self.timeout_ms);
        let is_heard = true;
        let session = Session {
            epoch,
            end,
            is_heard,
        };
        self.ends.insert(id, session);
    }

    /// There is evidence that the process of this registration is dead.
    pub fn end(&mut self, id: BrokerId, epoch: BrokerEpoch) {
        if self
            .ends
            .get(&id)
            .is_some_and(|session| session.epoch == epoch)
        {
            self.ends.remove(&id);
        }
    }

    /// Whether the partition may be taken from its leader, for reaching too few followers.
    #[must_use]
    pub fn may_hand_over(&self, partition: (TopicId, PartitionIndex), now: Millis) -> bool {
        let last = self.handed_over.get(&partition);
        last.is_none_or(|last| now >= last.saturating_add(self.timeout_ms))
    }

    /// The partition was taken from its leader so.
    pub fn handed_over(&mut self, partition: (TopicId, PartitionIndex), now: Millis) {
        let timeout_ms = self.timeout_ms;
        self.handed_over
            .retain(|_, last| now < last.saturating_add(timeout_ms));
        self.handed_over.insert(partition, now);
    }

    /// Whether the broker's session lives.
    #[must_use]
    pub fn is_alive(&self, id: BrokerId, now: Millis) -> bool {
        self.ends.get(&id).is_some_and(|session| now < session.end)
    }

    /// Whether this controller has heard the broker, under its present registration.
    #[must_use]
    pub fn has_heard(&self, id: BrokerId) -> bool {
        self.ends.get(&id).is_some_and(|session| session.is_heard)
    }

    /// The registered brokers that are not fenced and whose session has ended.
    #[must_use]
    pub fn ended(&self, image: &Image, now: Millis) -> Vec<(BrokerId, BrokerEpoch)> {
        let unfenced = image.brokers().filter(|broker| !broker.fenced);
        let ended = unfenced.filter(|broker| !self.is_alive(broker.id, now));
        ended.map(|broker| (broker.id, broker.epoch)).collect()
    }

    /// When the next session ends; `None` if there is none.
    #[must_use]
    pub fn next_end(&self) -> Option<Millis> {
        self.ends.values().map(|session| session.end).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_new_controller_gives_every_broker_one_full_session() {
        let image = testing::image_of_brokers(2);
        let sessions = Sessions::new(&image, Millis(100), Millis(50));
        assert!(sessions.is_alive(BrokerId(1), Millis(149)));
        assert!(!sessions.is_alive(BrokerId(1), Millis(150)));
        assert_eq!(sessions.ended(&image, Millis(149)), []);
        assert_eq!(sessions.ended(&image, Millis(150)).len(), 2);
        assert_eq!(sessions.next_end(), Some(Millis(150)));
    }

    #[test]
    fn only_the_present_registration_has_a_session() {
        let mut sessions = Sessions::new(&Image::new(), Millis(0), Millis(50));
        sessions.touch(BrokerId(1), BrokerEpoch(5), Millis(0));
        sessions.touch(BrokerId(1), BrokerEpoch(4), Millis(40));
        assert!(
            !sessions.is_alive(BrokerId(1), Millis(50)),
            "epoch 4 keeps nothing alive"
        );
        sessions.end(BrokerId(1), BrokerEpoch(4));
        assert!(
            sessions.is_alive(BrokerId(1), Millis(49)),
            "epoch 4's death is no news"
        );
        sessions.end(BrokerId(1), BrokerEpoch(5));
        assert!(!sessions.is_alive(BrokerId(1), Millis(1)));
    }
}
