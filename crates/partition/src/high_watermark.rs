//! High watermark of a partition leader: the end of what no clean election can lose.
//!
//! Input: how far each member of the maximal ISR has the log. Output: the end that all of them
//! have.
//!
//! ```text
//!  leader      ├──────────────────────────┤          log end
//!  follower 2  ├────────────────────┤
//!  follower 3  ├───────────────┤                     smallest of the ISR = high watermark
//!  follower 4  ├──────┤                              not in the ISR: does not count
//! ```
//!
//! Invariants, checked in `Replica::check` and by the model test:
//! - it never decreases: `Replica` takes only a larger one;
//! - it does not move while the ISR is smaller than the effective `min.insync.replicas`;
//! - with `durability=flushed` it does not pass what any member has on disk.
//!
//! See KIP-101 (leader epoch), KIP-497 (maximal ISR), KIP-966 (strict min ISR).

use std::num::NonZeroU32;

use skein_config::default_min_insync_replicas;
use skein_types::Offset;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};

use crate::Refusal;
use crate::isr::{Followers, Measure};

/// Whether the ISR is large enough to commit anything. The controller goes by the same number
/// ([`skein_config::TopicConfig::effective_min_insync_replicas`]): who is eligible for it has all
/// that is committed here.
///
/// # Errors
/// [`Refusal::NotEnoughReplicas`] with the numbers.
pub(crate) fn check_min_isr(
    followers: &Followers,
    min_insync_replicas: Option<NonZeroU32>,
) -> Result<(), Refusal> {
    #[cfg(feature = "mutations")]
    if mutation::has(Mutation::MinIsrNotKept) {
        return Ok(());
    }
    let (in_sync, replicas) = (followers.in_sync(), followers.replicas());
    let wanted = min_insync_replicas.map_or_else(|| default_of(replicas), NonZeroU32::get);
    // A topic with fewer replicas than the minimum could never be written.
    let min_insync_replicas = wanted.min(replicas);
    if in_sync < min_insync_replicas {
        return Err(Refusal::NotEnoughReplicas {
            in_sync,
            min_insync_replicas,
        });
    }
    Ok(())
}

fn default_of(replicas: u32) -> u32 {
    let replicas = u16::try_from(replicas).unwrap_or(u16::MAX);
    u32::from(default_min_insync_replicas(replicas))
}

/// The end of what every member of the maximal ISR has; `None` while the ISR is too small, or a
/// member's end is unknown.
pub(crate) fn committed_end(
    leader_end: Offset,
    followers: &Followers,
    measure: Measure,
    min_insync_replicas: Option<NonZeroU32>,
) -> Option<Offset> {
    check_min_isr(followers, min_insync_replicas).ok()?;
    #[cfg(feature = "mutations")]
    if mutation::has(Mutation::HighWatermarkIsLogEnd) {
        return Some(leader_end);
    }
    followers
        .replicated_ends(measure)
        .try_fold(leader_end, |smallest, end| Some(smallest.min(end?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FollowerFetch, FollowerFlush};
    use skein_config::Durability;
    use skein_types::{BrokerEpoch, BrokerId, LeaderEpoch, Millis};

    fn followers(replicas: &[i32], isr: &[i32], ends: &[(i32, i64)]) -> Followers {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        let mut followers = Followers::new(BrokerId(1), &ids(replicas), &ids(isr), Millis(0));
        for &(broker_id, end) in ends {
            fetch(&mut followers, broker_id, end);
        }
        followers
    }

    fn measure(durability: Durability) -> Measure {
        Measure {
            now: Millis(0),
            leader_end: Offset(100),
            durability,
            lag_time_max_ms: Millis(10_000),
        }
    }

    fn fetch(followers: &mut Followers, broker_id: i32, end: i64) {
        let fetch = FollowerFetch {
            broker_id: BrokerId(broker_id),
            broker_epoch: BrokerEpoch::NONE,
            leader_epoch: LeaderEpoch(0),
            fetch_offset: Offset(end),
            last_fetched_epoch: LeaderEpoch::NONE,
            sent_after: None,
        };
        followers.note_fetched(&fetch, true, measure(Durability::Replicated));
    }

    fn committed(followers: &Followers, durability: Durability, min_isr: u32) -> Option<Offset> {
        let min_isr = Some(NonZeroU32::new(min_isr).unwrap());
        committed_end(Offset(100), followers, measure(durability), min_isr)
    }

    #[test]
    fn without_a_setting_three_replicas_must_have_two_in_sync_and_two_need_one() {
        let committed = |replicas: &[i32], isr: &[i32]| {
            let followers = followers(replicas, isr, &[(2, 80), (3, 80)]);
            let measure = measure(Durability::Replicated);
            committed_end(Offset(100), &followers, measure, None)
        };
        assert_eq!(committed(&[1, 2, 3], &[1]), None);
        assert_eq!(committed(&[1, 2, 3], &[1, 2]), Some(Offset(80)));
        assert_eq!(committed(&[1, 2], &[1]), Some(Offset(100)));
        assert_eq!(committed(&[1], &[1]), Some(Offset(100)));
    }

    #[test]
    fn the_smallest_end_in_the_isr_decides() {
        let all = [(2, 80), (3, 60), (4, 10)];
        let isr_of_3 = followers(&[1, 2, 3, 4], &[1, 2, 3], &all);
        assert_eq!(
            committed(&isr_of_3, Durability::Replicated, 2),
            Some(Offset(60))
        );
        let isr_of_1 = followers(&[1, 2, 3, 4], &[1], &all);
        assert_eq!(
            committed(&isr_of_1, Durability::Replicated, 1),
            Some(Offset(100))
        );
    }

    #[test]
    fn nothing_is_committed_below_min_isr_or_before_a_member_was_seen() {
        let shrunk = followers(&[1, 2, 3], &[1, 2], &[(2, 80)]);
        assert_eq!(committed(&shrunk, Durability::Replicated, 3), None);
        assert_eq!(
            committed(&shrunk, Durability::Replicated, 2),
            Some(Offset(80))
        );
        let unseen = followers(&[1, 2, 3], &[1, 2, 3], &[(2, 80)]);
        assert_eq!(committed(&unseen, Durability::Replicated, 2), None);
    }

    #[test]
    fn min_isr_above_the_number_of_replicas_means_all_of_them() {
        assert_eq!(
            committed(&followers(&[1], &[1], &[]), Durability::Replicated, 2),
            Some(Offset(100))
        );
        assert_eq!(
            committed(&followers(&[1, 2], &[1], &[]), Durability::Replicated, 3),
            None
        );
    }

    #[test]
    fn flushed_counts_what_is_on_disk_and_still_in_the_log() {
        let mut two = followers(&[1, 2], &[1, 2], &[(2, 80)]);
        assert_eq!(
            committed(&two, Durability::Flushed, 2),
            None,
            "nothing is told yet"
        );
        let flush = FollowerFlush {
            broker_id: BrokerId(2),
            broker_epoch: BrokerEpoch::NONE,
            leader_epoch: LeaderEpoch(0),
            end: Offset(50),
        };
        two.note_flushed(&flush, measure(Durability::Flushed));
        assert_eq!(committed(&two, Durability::Flushed, 2), Some(Offset(50)));
        fetch(&mut two, 2, 40);
        assert_eq!(
            committed(&two, Durability::Flushed, 2),
            Some(Offset(40)),
            "it truncated"
        );
        fetch(&mut two, 2, 60);
        assert_eq!(
            committed(&two, Durability::Flushed, 2),
            Some(Offset(40)),
            "40..60 is new"
        );
    }

    #[test]
    fn a_changed_registration_keeps_what_is_known_of_those_who_stay() {
        let mut three = followers(&[1, 2, 3], &[1, 2, 3], &[(2, 80), (3, 60)]);
        let replicas = [BrokerId(1), BrokerId(2), BrokerId(4)];
        three.register(
            BrokerId(1),
            &replicas,
            &[BrokerId(1), BrokerId(2)],
            Millis(0),
        );
        three.check();
        assert_eq!(
            committed(&three, Durability::Replicated, 2),
            Some(Offset(80))
        );
        fetch(&mut three, 3, 1);
        assert_eq!(
            committed(&three, Durability::Replicated, 2),
            Some(Offset(80)),
            "a stranger"
        );
        three.register(BrokerId(1), &replicas, &replicas, Millis(0));
        assert_eq!(
            committed(&three, Durability::Replicated, 2),
            None,
            "4 is new"
        );
    }
}
