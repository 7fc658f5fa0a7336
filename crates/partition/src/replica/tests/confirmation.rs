//! Who may answer alone, and for how long.

use super::*;
use crate::{IsrAnswer, IsrDecision};

fn produce_with(ticket: u64, acks: Acks) -> Event {
    let mut event = produce(ticket, 1).into();
    if let Event::ProduceReceived { acks: asked, .. } = &mut event {
        *asked = acks;
    }
    event
}

/// Leader of three, not confirmed by the controller.
fn unconfirmed() -> Scenario {
    let mut s = Scenario::leader(SETTINGS, &[1, 2, 3]);
    s.confirmed_until = Millis(i64::MIN);
    s
}

/// A fetch that was sent now, as far as its leader can know.
fn heard(s: &Scenario, broker_id: i32, leader_epoch: i32, fetch_offset: i64) -> Event {
    let mut event = fetched_in(leader_epoch, broker_id, fetch_offset);
    if let Event::FollowerFetched(fetch) = &mut event {
        fetch.sent_after = Some(s.times().monotonic);
    }
    event
}

fn confirmed_until(s: &Scenario) -> i64 {
    s.replica.followers_confirm_until().0 - MONOTONIC_AHEAD_MS
}

#[test]
fn alone_a_leader_acknowledges_only_what_others_have() {
    let mut s = unconfirmed();
    for acks in [Acks::None, Acks::Leader] {
        s.check(produce_with(7, acks), "refuse 7 NOT_LEADER_OR_FOLLOWER");
    }
    s.check(produce_with(8, Acks::All), "write 8 @0");
    s.check(written(1), "view e1 0/0/0/1");
    s.check(heard(&s, 2, 1, 1), "");
    s.check(heard(&s, 3, 1, 1), "view e1 0/1/1/1, ack 8 @0");
}

#[test]
fn the_controllers_word_lasts_until_the_moment_it_names() {
    let mut s = unconfirmed();
    s.confirmed_until = Millis(s.now.0 + MONOTONIC_AHEAD_MS + 10);
    s.now.0 += 9;
    s.check(produce_with(1, Acks::Leader), "write 1 @0");
    s.check(written(1), "view e1 0/0/0/1, ack 1 @0");
    s.now.0 += 1;
    s.check(
        produce_with(2, Acks::Leader),
        "refuse 2 NOT_LEADER_OR_FOLLOWER",
    );
}

#[test]
fn what_was_written_too_late_is_not_acknowledged_alone() {
    let mut s = unconfirmed();
    s.confirmed_until = Millis(s.now.0 + MONOTONIC_AHEAD_MS + 10);
    s.check(produce_with(1, Acks::Leader), "write 1 @0");
    s.now.0 += 10;
    s.check(
        written(1),
        "view e1 0/0/0/1, refuse 1 NOT_LEADER_OR_FOLLOWER",
    );
}

#[test]
fn fetches_of_all_others_confirm_for_a_session_from_the_oldest() {
    let mut s = unconfirmed();
    let begun = s.now.0;
    s.check(heard(&s, 2, 1, 0), "");
    s.now.0 += 500;
    s.check(
        produce_with(1, Acks::Leader),
        "refuse 1 NOT_LEADER_OR_FOLLOWER",
    );
    s.check(heard(&s, 3, 1, 0), "");
    assert_eq!(confirmed_until(&s), begun + 2_000);
    s.now.0 = begun + 1_999;
    s.check(produce_with(2, Acks::Leader), "write 2 @0");
    s.check(written(1), "view e1 0/0/0/1, ack 2 @0");
    s.now.0 += 1;
    s.check(
        produce_with(3, Acks::Leader),
        "refuse 3 NOT_LEADER_OR_FOLLOWER",
    );
    s.check(heard(&s, 2, 1, 1), "");
    assert_eq!(confirmed_until(&s), begun + 2_500);
    s.check(produce_with(4, Acks::Leader), "write 4 @1");
}

#[test]
fn a_fetch_that_may_have_been_on_its_way_for_long_confirms_nothing() {
    let mut s = unconfirmed();
    s.check(fetched(2, 0), "");
    s.check(fetched(3, 0), "");
    s.check(
        produce_with(1, Acks::Leader),
        "refuse 1 NOT_LEADER_OR_FOLLOWER",
    );
}

#[test]
fn a_fetch_in_another_epoch_confirms_nothing() {
    let mut s = unconfirmed();
    s.check(heard(&s, 2, 2, 0), "");
    s.check(heard(&s, 3, 0, 0), "");
    s.check(
        produce_with(1, Acks::Leader),
        "refuse 1 NOT_LEADER_OR_FOLLOWER",
    );
    // Another leadership begins from nothing.
    s.check(heard(&s, 2, 1, 0), "");
    s.check(heard(&s, 3, 1, 0), "");
    s.check(
        became_leader(2, &[1, 2, 3], &[1, 2, 3]),
        "epochs, view e2 0/0/0/0",
    );
    s.check(
        produce_with(2, Acks::Leader),
        "refuse 2 NOT_LEADER_OR_FOLLOWER",
    );
}

#[test]
fn who_cannot_be_elected_is_not_asked() {
    let mut s = unconfirmed();
    s.check(isr_changed(1, &[1, 2, 3], &[1, 2]), "");
    s.check(heard(&s, 2, 1, 0), "");
    s.check(produce_with(1, Acks::Leader), "write 1 @0");
    s.check(written(1), "view e1 0/0/0/1, ack 1 @0");
    // The third is eligible, so it could be.
    let mut eligible = registration(1, 2, &[1, 2, 3], &[1, 2]);
    eligible.elr = vec![BrokerId(3)];
    s.check(Event::PartitionChanged(eligible), "");
    s.check(
        produce_with(2, Acks::Leader),
        "refuse 2 NOT_LEADER_OR_FOLLOWER",
    );
    s.check(isr_changed(3, &[1, 2, 3], &[1]), "view e1 0/1/1/1");
    assert_eq!(s.replica.followers_confirm_until(), Millis(i64::MAX));
}

#[test]
fn who_leaves_the_isr_may_be_eligible_until_the_image_says_otherwise() {
    let mut s = unconfirmed();
    s.check(heard(&s, 2, 1, 0), "");
    s.check(heard(&s, 3, 1, 0), "");
    s.now.0 += 3_000;
    let proposal = IsrAnswer {
        attempt: 0,
        leader_epoch: LeaderEpoch(1),
        result: Ok(IsrDecision {
            partition_epoch: PartitionEpoch(1),
            isr: vec![BrokerId(1)],
        }),
    };
    s.check(Event::IsrProposalAnswered(proposal), "");
    s.check(
        produce_with(1, Acks::Leader),
        "refuse 1 NOT_LEADER_OR_FOLLOWER",
    );
    s.check(isr_changed(2, &[1, 2, 3], &[1]), "");
    s.check(produce_with(2, Acks::Leader), "write 2 @0");
}

#[test]
fn a_replica_that_has_no_others_needs_nobody() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.confirmed_until = Millis(i64::MIN);
    s.check(produce_with(1, Acks::Leader), "write 1 @0");
    s.check(written(1), "view e1 0/1/1/1, ack 1 @0");
}
