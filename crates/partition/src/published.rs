//! What readers may see of a replica, and what they may ask.
//!
//! Input: the offsets as last published, and a reader's question. Output: the bound of the answer,
//! or the refusal. The functions are pure and need no lock: readers call them on the view they have
//! loaded.
//!
//! ```text
//!  log start        last stable      high watermark        log end
//!      ├────────────────┼──────────────────┼──────────────────┤
//!      └─ read_committed┘                  │                  │
//!      └─ read_uncommitted ────────────────┘                  │
//!      └─ replicas ───────────────────────────────────────────┘
//! ```
//!
//! Invariant, checked in [`PublishedOffsets::check`]: the four offsets stand in this order.
//!
//! See KIP-98 (last stable offset), KIP-207 (a new leader's offsets), KIP-320 (leader epoch of
//! readers), KIP-595 (diverging epoch).

use skein_record::{EpochEndOffset, LeaderEpochs};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{LeaderEpoch, Offset};

use crate::Refusal;

/// The state of a replica as readers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishedOffsets {
    /// Whether the replica leads.
    pub role: PublishedRole,
    /// The first offset.
    pub log_start_offset: Offset,
    /// The end of what is committed and belongs to no open transaction, nor follows one.
    pub last_stable_offset: Offset,
    /// The end of what is committed.
    pub high_watermark: Offset,
    /// The end of what is written.
    pub log_end_offset: Offset,
}

/// A replica's role as readers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishedRole {
    /// It leads nothing.
    Unassigned,
    /// It leads.
    Leader {
        /// In this epoch,
        leader_epoch: LeaderEpoch,
        /// which began here: the log's end when the replica was elected.
        leader_epoch_start_offset: Offset,
    },
    /// It follows the leader of this epoch.
    Follower {
        /// The leader's.
        leader_epoch: LeaderEpoch,
    },
    /// Its storage has failed.
    Offline,
}

/// How far a reader may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FetchIsolation {
    /// A replica: everything.
    LogEnd,
    /// `read_uncommitted`: up to the high watermark.
    HighWatermark,
    /// `read_committed`: up to the last stable offset.
    LastStableOffset,
}

impl PublishedOffsets {
    /// The first offset that a reader with this isolation must not see.
    #[must_use]
    pub const fn end(&self, isolation: FetchIsolation) -> Offset {
        match isolation {
            FetchIsolation::LogEnd => self.log_end_offset,
            FetchIsolation::HighWatermark => self.high_watermark,
            FetchIsolation::LastStableOffset => self.last_stable_offset,
        }
    }

    /// The leader epoch and its start offset, if this replica leads and in the epoch that the
    /// caller knows.
    ///
    /// `current_leader_epoch` is [`LeaderEpoch::NONE`] for a client that sends none.
    ///
    /// # Errors
    /// [`Refusal::NotLeader`], [`Refusal::Offline`], [`Refusal::FencedLeaderEpoch`] for an older
    /// epoch, [`Refusal::UnknownLeaderEpoch`] for one that is newer: this replica has not heard of
    /// it yet.
    pub fn leader(
        &self,
        current_leader_epoch: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), Refusal> {
        let (leader_epoch, leader_epoch_start_offset) = match self.role {
            PublishedRole::Leader {
                leader_epoch,
                leader_epoch_start_offset,
            } => (leader_epoch, leader_epoch_start_offset),
            PublishedRole::Unassigned | PublishedRole::Follower { .. } => {
                return Err(Refusal::NotLeader);
            }
            PublishedRole::Offline => return Err(Refusal::Offline),
        };
        if current_leader_epoch == LeaderEpoch::NONE || current_leader_epoch == leader_epoch {
            Ok((leader_epoch, leader_epoch_start_offset))
        } else if current_leader_epoch < leader_epoch {
            Err(Refusal::FencedLeaderEpoch)
        } else {
            Err(Refusal::UnknownLeaderEpoch)
        }
    }

    /// The end of what a fetch from `fetch_offset` may return; at or below `fetch_offset` it is
    /// nothing yet.
    ///
    /// An offset between the bound and the log's end is no error: a consumer that had read up to
    /// the former leader's high watermark may be ahead of its successor's for a moment.
    ///
    /// # Errors
    /// Those of [`PublishedOffsets::leader`]; [`Refusal::OffsetOutOfRange`] before the log's start
    /// and after its end.
    pub fn fetch_end(
        &self,
        current_leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        isolation: FetchIsolation,
    ) -> Result<Offset, Refusal> {
        self.leader(current_leader_epoch)?;
        if fetch_offset < self.log_start_offset || fetch_offset > self.log_end_offset {
            return Err(Refusal::OffsetOutOfRange);
        }
        Ok(self.end(isolation))
    }

    /// Where the log that the reader has read parts from this one, if it does.
    ///
    /// `last_fetched_epoch` is the epoch of the last record before `fetch_offset` that the reader
    /// has; below 0 it does not say. It has read what was truncated here if that epoch ends before
    /// its offset.
    ///
    /// # Errors
    /// [`Refusal::OffsetOutOfRange`] for an epoch of which this log knows no end: the reader must
    /// find an offset anew.
    pub fn diverging_epoch(
        &self,
        leader_epochs: &LeaderEpochs,
        fetch_offset: Offset,
        last_fetched_epoch: LeaderEpoch,
    ) -> Result<Option<EpochEndOffset>, Refusal> {
        if last_fetched_epoch < LeaderEpoch::ZERO {
            return Ok(None);
        }
        let end = leader_epochs.end_offset_for(last_fetched_epoch, self.log_end_offset);
        if end == EpochEndOffset::UNDEFINED {
            return Err(Refusal::OffsetOutOfRange);
        }
        let diverges = end.epoch < last_fetched_epoch || end.end_offset < fetch_offset;
        #[cfg(feature = "mutations")]
        if mutation::has(Mutation::NoEpochCheckOnFetch) {
            return Ok(None);
        }
        Ok(diverges.then_some(end))
    }

    /// `OffsetForLeaderEpoch`: where the `requested` epoch ends in the log.
    ///
    /// # Errors
    /// Those of [`PublishedOffsets::leader`].
    pub fn end_offset_for(
        &self,
        leader_epochs: &LeaderEpochs,
        current_leader_epoch: LeaderEpoch,
        requested: LeaderEpoch,
    ) -> Result<EpochEndOffset, Refusal> {
        self.leader(current_leader_epoch)?;
        Ok(leader_epochs.end_offset_for(requested, self.log_end_offset))
    }

    /// `ListOffsets` earliest: the log's start.
    ///
    /// # Errors
    /// Those of [`PublishedOffsets::leader`].
    pub fn earliest(&self, current_leader_epoch: LeaderEpoch) -> Result<Offset, Refusal> {
        self.leader(current_leader_epoch)?;
        Ok(self.log_start_offset)
    }

    /// `ListOffsets` latest, and the bound of a search by time.
    ///
    /// # Errors
    /// Those of [`PublishedOffsets::leader`]; [`Refusal::OffsetNotAvailable`] to a consumer while
    /// the high watermark is before the leader epoch's start: the former leader may have told a
    /// later one.
    pub fn latest(
        &self,
        current_leader_epoch: LeaderEpoch,
        isolation: FetchIsolation,
    ) -> Result<Offset, Refusal> {
        let (_, leader_epoch_start_offset) = self.leader(current_leader_epoch)?;
        let is_replica = matches!(isolation, FetchIsolation::LogEnd);
        if !is_replica && self.high_watermark < leader_epoch_start_offset {
            return Err(Refusal::OffsetNotAvailable);
        }
        Ok(self.end(isolation))
    }

    /// Asserts the order of the offsets.
    pub(crate) fn check(&self) {
        assert!(Offset::ZERO <= self.log_start_offset);
        assert!(self.log_start_offset <= self.last_stable_offset);
        assert!(self.last_stable_offset <= self.high_watermark);
        assert!(self.high_watermark <= self.log_end_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: PublishedOffsets = PublishedOffsets {
        role: PublishedRole::Leader {
            leader_epoch: LeaderEpoch(5),
            leader_epoch_start_offset: Offset(30),
        },
        log_start_offset: Offset(10),
        last_stable_offset: Offset(20),
        high_watermark: Offset(30),
        log_end_offset: Offset(40),
    };

    #[test]
    fn each_isolation_has_its_bound() {
        let end = |isolation| LEADER.fetch_end(LeaderEpoch(5), Offset(10), isolation);
        assert_eq!(end(FetchIsolation::LastStableOffset), Ok(Offset(20)));
        assert_eq!(end(FetchIsolation::HighWatermark), Ok(Offset(30)));
        assert_eq!(end(FetchIsolation::LogEnd), Ok(Offset(40)));
    }

    #[test]
    fn fetch_is_out_of_range_only_outside_of_the_log() {
        let fetch = |offset| {
            LEADER.fetch_end(
                LeaderEpoch::NONE,
                Offset(offset),
                FetchIsolation::HighWatermark,
            )
        };
        assert_eq!(fetch(-1), Err(Refusal::OffsetOutOfRange));
        assert_eq!(fetch(9), Err(Refusal::OffsetOutOfRange));
        assert_eq!(fetch(10), Ok(Offset(30)));
        assert_eq!(
            fetch(35),
            Ok(Offset(30)),
            "past the high watermark: nothing yet"
        );
        assert_eq!(fetch(40), Ok(Offset(30)));
        assert_eq!(fetch(41), Err(Refusal::OffsetOutOfRange));
    }

    #[test]
    fn a_reader_of_what_was_truncated_is_told_where_the_logs_part() {
        let mut epochs = LeaderEpochs::new();
        epochs.assign(LeaderEpoch(2), Offset(10));
        epochs.assign(LeaderEpoch(5), Offset(30));
        let diverging =
            |offset, epoch| LEADER.diverging_epoch(&epochs, Offset(offset), LeaderEpoch(epoch));
        let parts_at = |epoch, end| {
            Ok(Some(EpochEndOffset {
                epoch: LeaderEpoch(epoch),
                end_offset: Offset(end),
            }))
        };
        assert_eq!(diverging(99, -1), Ok(None), "it does not say");
        assert_eq!(diverging(30, 2), Ok(None));
        assert_eq!(diverging(31, 2), parts_at(2, 30));
        assert_eq!(
            diverging(25, 3),
            parts_at(2, 30),
            "there was no epoch 3 here"
        );
        assert_eq!(diverging(40, 5), Ok(None));
        assert_eq!(diverging(41, 5), parts_at(5, 40));
        assert_eq!(diverging(11, 1), parts_at(1, 10));
        assert_eq!(diverging(20, 6), Err(Refusal::OffsetOutOfRange));
    }

    #[test]
    fn a_reader_with_another_leader_epoch_is_told_which_way_it_errs() {
        assert_eq!(
            LEADER.leader(LeaderEpoch(5)),
            Ok((LeaderEpoch(5), Offset(30)))
        );
        assert_eq!(
            LEADER.leader(LeaderEpoch(4)),
            Err(Refusal::FencedLeaderEpoch)
        );
        assert_eq!(
            LEADER.leader(LeaderEpoch(6)),
            Err(Refusal::UnknownLeaderEpoch)
        );
        let unassigned = PublishedOffsets {
            role: PublishedRole::Unassigned,
            ..LEADER
        };
        assert_eq!(unassigned.earliest(LeaderEpoch(5)), Err(Refusal::NotLeader));
        let offline = PublishedOffsets {
            role: PublishedRole::Offline,
            ..LEADER
        };
        assert_eq!(offline.earliest(LeaderEpoch(5)), Err(Refusal::Offline));
    }

    #[test]
    fn latest_waits_until_the_high_watermark_reaches_the_leader_epoch() {
        let latest =
            |offsets: PublishedOffsets, isolation| offsets.latest(LeaderEpoch::NONE, isolation);
        assert_eq!(
            latest(LEADER, FetchIsolation::HighWatermark),
            Ok(Offset(30))
        );
        assert_eq!(
            latest(LEADER, FetchIsolation::LastStableOffset),
            Ok(Offset(20))
        );
        let behind = PublishedOffsets {
            high_watermark: Offset(29),
            ..LEADER
        };
        for isolation in [
            FetchIsolation::HighWatermark,
            FetchIsolation::LastStableOffset,
        ] {
            assert_eq!(latest(behind, isolation), Err(Refusal::OffsetNotAvailable));
        }
        assert_eq!(latest(behind, FetchIsolation::LogEnd), Ok(Offset(40)));
        assert_eq!(behind.earliest(LeaderEpoch::NONE), Ok(Offset(10)));
    }
}
