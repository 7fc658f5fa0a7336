//! What a shard does without being asked: deadlines, and offsets that nobody needs any more.
//!
//! Input: the time, and topics that are no more. Output: what the groups make of it; tombstones.
//!
//! Invariant: a call does a bounded piece of work. What is left has a deadline that has passed, so
//! that the runtime comes again when others had their turn.
//!
//! Source: `GroupCoordinatorShard.cleanupGroupMetadata` and `onPartitionsDeleted` of Kafka 4.1.1.

use skein_protocol::Str;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{Millis, Now, TopicId, TopicName};

use super::{Effect, Phase, Shard};
use crate::group::Group;
use crate::offsets::{expiry, tombstone};
use crate::timers::TimerKey;

/// Deadlines that one call looks at.
const TIMERS_PER_CALL_MAX: usize = 1_024;

/// Groups that one call searches for expired offsets.
const GROUPS_SEARCHED_MAX: usize = 1_024;

/// Tombstones of one append.
const TOMBSTONES_MAX: usize = 1_000;

impl Shard {
    /// Does what is due.
    pub fn on_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.parking.time_out(now.monotonic, effects);
        if self.phase != Phase::Active {
            return;
        }
        for _ in 0..TIMERS_PER_CALL_MAX {
            let Some(entry) = self.timers.pop(now.monotonic) else {
                break;
            };
            let is_search = entry.1 == TimerKey::Expiry;
            self.timer_came_up(entry, now);
            if !is_search {
                self.settle(now, effects);
            } else if !self.settle_in_pieces(now, effects) {
                // What cannot be kept would be found at once again, and again.
                self.expiry_from = None;
                self.schedule_expiry(now);
            }
        }
    }

    /// Of the offsets that were replayed those go whose topic is no more, or another one of the
    /// same name: theirs went when nobody was here to hear of it. `id_of` tells the id of a topic
    /// that there is. To be called before [`Shard::loaded`].
    pub fn drop_offsets_of_former_topics(&mut self, id_of: impl Fn(&str) -> Option<TopicId>) {
        for group in self.groups.values() {
            let stale = group.offsets.stale(group.id(), &id_of);
            self.stale_offsets.extend(stale);
        }
    }

    /// The topic is no more, and neither are the offsets committed for it.
    pub fn on_topic_deleted(&mut self, topic: &TopicName, now: Now, effects: &mut Vec<Effect>) {
        for group in self.groups.values() {
            let stale = group.offsets.tombstones(group.id(), Some(topic.as_str()));
            self.stale_offsets.extend(stale);
        }
        self.forget_stale_offsets(now, effects);
    }

    /// Forgets what has gathered, once the shard may write.
    pub(super) fn forget_stale_offsets(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.phase != Phase::Active {
            return;
        }
        let stale = std::mem::take(&mut self.stale_offsets);
        for some in stale.chunks(TOMBSTONES_MAX) {
            self.outcome.records.extend_from_slice(some);
            self.settle_in_pieces(now, effects);
        }
    }

    pub(super) fn schedule_expiry(&mut self, now: Now) {
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::ExpiryForgotten) {
            return;
        }
        let interval_ms = self.offsets_config.retention_check_interval_ms;
        let deadline = now.monotonic.saturating_add(interval_ms);
        self.expiry
            .set(deadline, &mut self.timers, || TimerKey::Expiry);
    }

    fn timer_came_up(&mut self, entry: (Millis, TimerKey), now: Now) {
        if entry.1 == TimerKey::Expiry {
            if self.expiry.comes_up(entry, now.monotonic, &mut self.timers) {
                self.search_expired(now);
            }
            return;
        }
        let (groups, mut turn) = self.parts(now);
        let (TimerKey::Join(id) | TimerKey::Sync(id) | TimerKey::Session(id, _)) = &entry.1 else {
            return;
        };
        if let Some(group) = groups.get_mut(id) {
            group.timer_came_up(entry, &mut turn);
            group.check();
        }
    }

    /// Searches some of the groups; those that are left with nothing go.
    fn search_expired(&mut self, now: Now) {
        let retention_ms = self.offsets_config.retention_ms;
        let from = self.expiry_from.take().unwrap_or_default();
        let mut records = Vec::new();
        for (searched, (id, group)) in self.groups.range(from..).enumerate() {
            if searched == GROUPS_SEARCHED_MAX {
                self.expiry_from = Some(id.clone());
                break;
            }
            let room = TOMBSTONES_MAX - records.len();
            let (expired, is_all) = expiry::expired(group, now.time_of_day, retention_ms, room);
            let tombstone = |(topic, partition): (Str, i32)| tombstone(id, &topic, partition);
            records.extend(expired.into_iter().map(tombstone));
            if is_all && group.is_unused() {
                records.push(group.tombstone());
            }
            if records.len() >= TOMBSTONES_MAX {
                // There may be more of this group.
                self.expiry_from = Some(id.clone());
                break;
            }
        }
        self.outcome.records.extend(records);
        if self.expiry_from.is_some() {
            // At once, as soon as others had their turn.
            self.expiry
                .set(now.monotonic, &mut self.timers, || TimerKey::Expiry);
        } else {
            self.schedule_expiry(now);
        }
    }
}

impl Group {
    /// Whether nobody is in it, or about to be.
    fn is_unused(&self) -> bool {
        self.is_empty() && !self.has_pending_members()
    }
}
