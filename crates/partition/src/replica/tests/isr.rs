//! Scenarios of the ISR: who leaves, who joins, and what a proposal comes to.

use skein_types::ErrorCode;

use super::*;
use crate::{FollowerFlush, ISR_RETRY_BACKOFF_MS, IsrAnswer, IsrDecision, JOIN_WAIT_MAX_MS};

const LAG: i64 = SETTINGS.replica_lag_time_max_ms.0;

/// A fetch of the process with this epoch.
fn fetched_by(broker_id: i32, broker_epoch: i64, fetch_offset: i64) -> Event {
    Event::FollowerFetched(FollowerFetch {
        broker_id: BrokerId(broker_id),
        broker_epoch: BrokerEpoch(broker_epoch),
        leader_epoch: LeaderEpoch(1),
        fetch_offset: Offset(fetch_offset),
        last_fetched_epoch: LeaderEpoch::NONE,
        sent_after: None,
    })
}

fn answered(attempt: u64, result: Result<IsrDecision, ErrorCode>) -> Event {
    Event::IsrProposalAnswered(IsrAnswer {
        attempt,
        leader_epoch: LeaderEpoch(1),
        result,
    })
}

fn accepted(attempt: u64, partition_epoch: i32, isr: &[i32]) -> Event {
    let decision = IsrDecision {
        partition_epoch: PartitionEpoch(partition_epoch),
        isr: isr.iter().copied().map(BrokerId).collect(),
    };
    answered(attempt, Ok(decision))
}

fn refused(attempt: u64, error_code: ErrorCode) -> Event {
    answered(attempt, Err(error_code))
}

impl Scenario {
    fn pass(&mut self, ms: i64) {
        self.now = Millis(self.now.0 + ms);
    }

    /// Broker 1 leads in epoch 1 with broker 2 alone in sync, and both end at `end`.
    fn leader_of_two(settings: ReplicaSettings, end: i64) -> Self {
        let mut s = Self::new(settings);
        s.check(
            became_leader(1, &[1, 2, 3], &[1, 2]),
            "epochs, view e1 0/0/0/0",
        );
        s.check(produce(99, i32::try_from(end).unwrap()), "write 99 @0");
        s.check(written(end), &format!("view e1 0/0/0/{end}"));
        let committed = format!("view e1 0/{end}/{end}/{end}, ack 99 @0");
        s.check(fetched_by(2, 20, end), &committed);
        s
    }

    /// The same, and broker 3 is proposed.
    fn joining() -> Self {
        let mut s = Self::leader_of_two(SETTINGS, 4);
        s.check(fetched_by(3, 30, 4), "propose #1 on 0 [1 2@20 3@30]");
        s.check(produce(1, 1), "write 1 @4");
        s.check(written(5), "view e1 0/4/4/5");
        s
    }
}

#[test]
fn a_member_that_was_not_caught_up_for_the_lag_time_leaves() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    s.check(produce(1, 1), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5");
    s.pass(LAG);
    s.check(Event::TimePassed, "refuse 1 REQUEST_TIMED_OUT");
    s.pass(1);
    s.check(Event::TimePassed, "propose #1 on 0 [1]");
    s.check(Event::TimePassed, "");
    s.check(accepted(1, 1, &[1]), "view e1 0/5/5/5");
}

#[test]
fn a_member_that_has_everything_stays_however_long_it_is_silent() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    assert_eq!(s.replica.next_deadline(), None);
    s.pass(100 * LAG);
    s.check(Event::TimePassed, "");
}

#[test]
fn a_member_that_never_fetched_in_this_epoch_has_the_lag_time_from_its_start() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.pass(LAG);
    s.check(Event::TimePassed, "");
    s.pass(1);
    s.check(Event::TimePassed, "propose #1 on 0 [1]");
}

#[test]
fn a_member_that_has_now_what_the_log_ended_with_at_its_last_fetch_is_in_sync() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    // It is one batch behind at every fetch, for long.
    for end in 5..40 {
        s.pass(LAG / 4);
        let ticket = u64::try_from(end).unwrap();
        s.check(produce(ticket, 1), &format!("write {ticket} @{}", end - 1));
        let mut effects = Vec::new();
        s.replica.step(written(end), s.times(), &mut effects);
        effects.clear();
        s.replica
            .step(fetched_by(2, 20, end - 1), s.times(), &mut effects);
        let proposes = |effect: &Effect| matches!(effect, Effect::ProposeIsr(_));
        assert!(!effects.iter().any(proposes), "{effects:?}");
    }
    // One that does not get nearer is not.
    s.pass(LAG + 1);
    s.check(fetched_by(2, 20, 38), "propose #1 on 0 [1]");
}

#[test]
fn the_lag_has_a_deadline() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    let caught_up = s.times().monotonic.0;
    s.check(produce(1, 1), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5");
    s.check(Event::TimePassed, "");
    s.pass(1_000);
    s.check(Event::TimePassed, "refuse 1 REQUEST_TIMED_OUT");
    assert_eq!(s.replica.next_deadline(), Some(Millis(caught_up + LAG + 1)));
    s.pass(LAG);
    s.check(Event::TimePassed, "propose #1 on 0 [1]");
    assert_eq!(s.replica.next_deadline(), None, "an answer will come");
}

#[test]
fn who_leaves_counts_until_the_outcome_is_seen() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    s.check(produce(1, 1), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5");
    s.pass(LAG + 1);
    let late = "refuse 1 REQUEST_TIMED_OUT, propose #1 on 0 [1]";
    s.check(Event::TimePassed, late);
    s.check(produce(2, 1).acks(Acks::Leader), "write 2 @5");
    s.check(written(6), "view e1 0/4/4/6, ack 2 @5");
    s.check(isr_changed(1, &[1, 2, 3], &[1]), "view e1 0/6/6/6");
    s.check(accepted(1, 1, &[1]), "");
}

#[test]
fn who_joins_counts_at_once() {
    let mut s = Scenario::joining();
    s.check(fetched_by(2, 20, 5), "");
    s.check(fetched_by(3, 30, 5), "view e1 0/5/5/5, ack 1 @4");
    s.check(accepted(1, 1, &[1, 2, 3]), "");
}

#[test]
fn who_joins_needs_what_is_committed() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    s.check(fetched_by(3, 30, 3), "");
    s.check(fetched_by(3, 30, 4), "propose #1 on 0 [1 2@20 3@30]");
}

#[test]
fn who_joins_needs_what_the_leader_was_elected_with() {
    // The high watermark of a new leader may be behind what its predecessor told.
    let mut log = log(0, 4);
    log.high_watermark = Offset(1);
    let mut s = Scenario::new(SETTINGS);
    s.replica = Replica::new(BrokerId(1), SETTINGS, log);
    s.check(
        became_leader(1, &[1, 2, 3], &[1, 2]),
        "epochs, view e1 0/1/1/4",
    );
    s.check(fetched_by(3, 30, 2), "");
    s.check(fetched_by(3, 30, 3), "");
    s.check(fetched_by(3, 30, 4), "propose #1 on 0 [1 2 3@30]");
}

#[test]
fn who_does_not_say_which_process_it_is_does_not_join() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    s.check(fetched(3, 4), "");
}

#[test]
fn an_earlier_process_is_not_heard_any_more() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    s.check(fetched_by(3, 31, 0), "");
    s.check(fetched_by(3, 30, 4), "");
    s.check(fetched_by(3, 31, 4), "propose #1 on 0 [1 2@20 3@31]");
}

#[test]
fn who_has_another_log_does_not_join_and_what_it_had_does_not_count() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    for last_fetched_epoch in [0, 2] {
        s.check(
            Event::FollowerFetched(FollowerFetch {
                broker_id: BrokerId(3),
                broker_epoch: BrokerEpoch(30),
                leader_epoch: LeaderEpoch(1),
                fetch_offset: Offset(4),
                last_fetched_epoch: LeaderEpoch(last_fetched_epoch),
                sent_after: None,
            }),
            "",
        );
    }
    s.check(produce(1, 1), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5");
    s.check(fetched_by(2, 20, 9), "");
    s.check(fetched_by(2, 20, 5), "view e1 0/5/5/5, ack 1 @4");
}

#[test]
fn one_that_is_a_round_trip_behind_is_waited_for_so_that_it_can_join() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    s.check(fetched_by(3, 30, 0), "");
    s.check(produce(1, 1).acks(Acks::Leader), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5, ack 1 @4");
    // It has what the log ended with when it fetched before, but not what is committed since.
    s.check(fetched_by(2, 20, 5), "view e1 0/5/5/5");
    s.check(fetched_by(3, 30, 4), "");
    s.check(produce(2, 1).acks(Acks::Leader), "write 2 @5");
    s.check(written(6), "view e1 0/5/5/6, ack 2 @5");
    s.check(fetched_by(2, 20, 6), "");
    let waited = s.replica.next_deadline();
    s.check(fetched_by(3, 30, 5), "propose #1 on 0 [1 2@20 3@30]");
    s.check(fetched_by(3, 30, 6), "view e1 0/6/6/6");
    assert!(waited.is_some(), "not for ever");
}

#[test]
fn one_that_was_about_to_join_and_died_is_not_waited_for_any_more() {
    let mut s = Scenario::leader_of_two(SETTINGS, 4);
    s.check(fetched_by(3, 30, 0), "");
    s.check(produce(1, 1).acks(Acks::Leader), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5, ack 1 @4");
    s.check(fetched_by(2, 20, 5), "view e1 0/5/5/5");
    s.check(fetched_by(3, 30, 4), "");
    s.check(produce(2, 1), "write 2 @5");
    s.check(written(6), "view e1 0/5/5/6");
    s.check(fetched_by(2, 20, 6), "");
    s.pass(JOIN_WAIT_MAX_MS.0);
    s.check(Event::TimePassed, "");
    s.pass(1);
    s.check(Event::TimePassed, "view e1 0/6/6/6, ack 2 @5");
}

#[test]
fn who_died_in_the_isr_is_not_waited_for_once_it_is_out() {
    let mut s = Scenario::joining();
    s.check(accepted(1, 1, &[1, 2, 3]), "");
    s.check(fetched_by(2, 20, 5), "");
    s.check(
        isr_changed(2, &[1, 2, 3], &[1, 2]),
        "view e1 0/5/5/5, ack 1 @4",
    );
    // It lives: it may join again.
    s.check(fetched_by(3, 30, 5), "propose #2 on 2 [1 2@20 3@30]");
}

#[test]
fn one_proposal_is_open_at_a_time() {
    let mut s = Scenario::joining();
    s.pass(LAG + 1);
    s.check(Event::TimePassed, "refuse 1 REQUEST_TIMED_OUT");
    s.check(accepted(1, 1, &[1, 2, 3]), "propose #2 on 1 [1]");
}

#[test]
fn what_was_refused_for_sure_is_taken_back_and_not_asked_for_again_at_once() {
    let mut s = Scenario::joining();
    s.check(fetched_by(2, 20, 5), "");
    let not_waited_for = "view e1 0/5/5/5, ack 1 @4";
    s.check(refused(1, ErrorCode::IneligibleReplica), not_waited_for);
    s.check(fetched_by(3, 30, 5), "");
    s.pass(crate::INELIGIBLE_BACKOFF_MS.0);
    s.check(fetched_by(3, 30, 5), "propose #2 on 0 [1 2@20 3@30]");
}

#[test]
fn another_process_of_the_refused_one_is_proposed_at_once() {
    let mut s = Scenario::joining();
    s.check(refused(1, ErrorCode::IneligibleReplica), "");
    s.check(fetched_by(3, 31, 5), "propose #2 on 0 [1 2@20 3@31]");
}

#[test]
fn what_was_not_answered_is_asked_for_again_as_it_was() {
    let mut s = Scenario::joining();
    s.check(refused(1, ErrorCode::RequestTimedOut), "");
    // The next process has lost everything: it is not the one that was proposed.
    s.check(fetched_by(3, 31, 0), "");
    s.pass(ISR_RETRY_BACKOFF_MS.0 - 1);
    s.check(Event::TimePassed, "");
    let due = s.times().monotonic.0 + 1;
    assert_eq!(s.replica.next_deadline().map(|at| at.0 <= due), Some(true));
    s.pass(1);
    s.check(Event::TimePassed, "propose #2 on 0 [1 2@20 3@30]");
    s.check(refused(1, ErrorCode::IneligibleReplica), "");
    s.check(fetched_by(2, 20, 5), "");
}

#[test]
fn who_may_still_be_let_in_counts_until_a_later_proposal_is_decided() {
    let mut s = Scenario::joining();
    s.check(refused(1, ErrorCode::RequestTimedOut), "");
    s.pass(ISR_RETRY_BACKOFF_MS.0);
    s.check(Event::TimePassed, "propose #2 on 0 [1 2@20 3@30]");
    // The first attempt is still on its way: it may be carried out when 3 is eligible again.
    s.check(
        refused(2, ErrorCode::IneligibleReplica),
        "propose #3 on 0 [1 2@20]",
    );
    s.check(fetched_by(2, 20, 5), "");
    s.check(accepted(3, 1, &[1, 2]), "view e1 0/5/5/5, ack 1 @4");
}

#[test]
fn an_overtaken_proposal_waits_for_the_image() {
    for code in [
        ErrorCode::InvalidUpdateVersion,
        ErrorCode::FencedLeaderEpoch,
        ErrorCode::NewLeaderElected,
        ErrorCode::UnknownTopicId,
    ] {
        let mut s = Scenario::joining();
        s.check(refused(1, code), "");
        s.pass(JOIN_WAIT_MAX_MS.0 + 1);
        s.check(fetched_by(2, 20, 5), "");
        s.check(
            isr_changed(1, &[1, 2, 3], &[1, 2]),
            "view e1 0/5/5/5, ack 1 @4",
        );
    }
}

#[test]
fn an_answer_that_comes_behind_the_image_changes_nothing() {
    let mut s = Scenario::joining();
    s.pass(JOIN_WAIT_MAX_MS.0 + 1);
    s.check(isr_changed(2, &[1, 2, 3], &[1, 2]), "");
    s.check(accepted(1, 1, &[1, 2, 3]), "");
    s.check(refused(1, ErrorCode::IneligibleReplica), "");
    s.check(fetched_by(2, 20, 5), "view e1 0/5/5/5, ack 1 @4");
}

#[test]
fn an_answer_to_a_former_leader_epoch_changes_nothing() {
    let mut s = Scenario::joining();
    s.check(
        became_leader(2, &[1, 2, 3], &[1, 2]),
        "epochs, view e2 0/4/4/5",
    );
    s.check(accepted(1, 9, &[1]), "");
}

#[test]
fn shrinking_below_min_isr_refuses_what_waits_and_commits_nothing() {
    let mut s = Scenario::leader_of_two(min_isr(2), 4);
    s.pass(LAG);
    s.check(produce(1, 1), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5");
    s.pass(1);
    s.check(Event::TimePassed, "propose #1 on 0 [1]");
    s.check(
        accepted(1, 1, &[1]),
        "refuse 1 NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    );
    s.check(produce(2, 1), "refuse 2 NOT_ENOUGH_REPLICAS");
    s.check(fetched_by(2, 20, 5), "propose #2 on 1 [1 2@20]");
    // It counts where it holds back, and not yet where it would let go on.
    s.check(produce(3, 1), "refuse 3 NOT_ENOUGH_REPLICAS");
    s.check(accepted(2, 2, &[1, 2]), "view e1 0/5/5/5");
}

#[test]
fn in_a_flushed_topic_the_disk_decides_who_is_in_sync() {
    let settings = ReplicaSettings {
        durability: Durability::Flushed,
        ..SETTINGS
    };
    let flushed_by = |broker_epoch, end| {
        Event::FollowerFlushed(FollowerFlush {
            broker_id: BrokerId(2),
            broker_epoch: BrokerEpoch(broker_epoch),
            leader_epoch: LeaderEpoch(1),
            end: Offset(end),
        })
    };
    let mut s = Scenario::new(settings);
    s.check(became_leader(1, &[1, 2], &[1]), "epochs, view e1 0/0/0/0");
    s.check(produce(1, 2), "write 1 @0");
    s.check(written(2), "view e1 0/0/0/2, flush 2");
    s.check(flushed(2), "view e1 0/2/2/2, ack 1 @0");
    s.check(fetched_by(2, 20, 2), "");
    s.check(flushed_by(19, 2), "");
    s.check(flushed_by(20, 1), "");
    s.check(flushed_by(20, 2), "propose #1 on 0 [1 2@20]");
    s.check(accepted(1, 1, &[1, 2]), "");
    s.check(produce(2, 1), "write 2 @2");
    s.check(written(3), "view e1 0/2/2/3, flush 3");
    s.check(flushed(3), "");
    // It fetches on, but its disk hangs.
    s.check(fetched_by(2, 20, 3), "");
    s.pass(LAG + 1);
    s.check(
        Event::TimePassed,
        "refuse 2 REQUEST_TIMED_OUT, propose #2 on 1 [1]",
    );
}

#[test]
fn a_silent_follower_does_not_come_back_for_having_all_that_is_committed() {
    let mut s = Scenario::leader_of_two(min_isr(2), 4);
    s.check(produce(1, 1), "write 1 @4");
    s.check(written(5), "view e1 0/4/4/5");
    s.pass(LAG + 1);
    s.check(
        Event::TimePassed,
        "refuse 1 REQUEST_TIMED_OUT, propose #1 on 0 [1]",
    );
    s.check(accepted(1, 1, &[1]), "");
    s.check(Event::TimePassed, "");
    assert_eq!(s.replica.next_deadline(), None);
}
