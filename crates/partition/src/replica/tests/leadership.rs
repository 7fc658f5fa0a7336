//! Scenarios of leadership, ISR, high watermark and durability.

use skein_record::{EndTxnMarker, EpochEndOffset, TxnResult};

use super::*;
use crate::{FetchIsolation, FollowerFlush};

const FLUSHED: ReplicaSettings = ReplicaSettings {
    durability: Durability::Flushed,
    ..SETTINGS
};

#[test]
fn nobody_appends_to_a_replica_that_does_not_lead() {
    let mut s = Scenario::new(SETTINGS);
    s.check(produce(1, 1), "refuse 1 NOT_LEADER_OR_FOLLOWER");
    s.check(became_leader(1, &[1], &[1]), "epochs, view e1 0/0/0/0");
    s.check(produce(2, 1).in_epoch(0), "refuse 2 FENCED_LEADER_EPOCH");
    s.check(produce(3, 1).in_epoch(2), "refuse 3 UNKNOWN_LEADER_EPOCH");
    s.check(produce(4, 1).in_epoch(1), "write 4 @0");
}

#[test]
fn the_high_watermark_is_the_smallest_end_of_the_isr() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2, 3]);
    s.check(produce(1, 4), "write 1 @0");
    s.check(written(4), "view e1 0/0/0/4");
    s.check(fetched(2, 4), "");
    s.check(fetched(3, 2), "view e1 0/2/2/4");
    s.check(fetched(3, 1), "");
    s.check(fetched(3, 4), "view e1 0/4/4/4, ack 1 @0");
}

#[test]
fn who_leaves_the_isr_no_longer_holds_the_high_watermark() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2, 3]);
    s.check(produce(1, 4), "write 1 @0");
    s.check(written(4), "view e1 0/0/0/4");
    s.check(fetched(2, 3), "");
    s.check(isr_changed(1, &[1, 2, 3], &[1, 2]), "view e1 0/3/3/4");
    s.check(
        isr_changed(2, &[1, 2, 3], &[1]),
        "view e1 0/4/4/4, ack 1 @0",
    );
}

#[test]
fn acks_all_is_refused_below_min_isr_and_acks_1_is_not() {
    let mut s = Scenario::leader(min_isr(2), &[1, 2]);
    s.check(isr_changed(1, &[1, 2], &[1]), "");
    s.check(produce(1, 1), "refuse 1 NOT_ENOUGH_REPLICAS");
    s.check(produce(2, 1).acks(Acks::Leader), "write 2 @0");
    s.check(written(1), "view e1 0/0/0/1, ack 2 @0");
    s.check(SETTINGS, "view e1 0/1/1/1");
}

#[test]
fn waiting_produces_are_refused_when_the_isr_shrinks_below_min_isr() {
    let mut s = Scenario::leader(min_isr(2), &[1, 2]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(written(1), "view e1 0/0/0/1");
    s.check(produce(2, 1), "write 2 @1");
    let shrunk = isr_changed(1, &[1, 2], &[1]);
    s.check(shrunk, "refuse 1 NOT_ENOUGH_REPLICAS_AFTER_APPEND");
    s.check(
        written(2),
        "view e1 0/0/0/2, refuse 2 NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    );
    s.check(isr_changed(2, &[1, 2], &[1, 2]), "");
    s.check(fetched(2, 2), "view e1 0/2/2/2");
}

#[test]
fn raising_min_isr_refuses_what_waits() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2, 3]);
    s.check(isr_changed(1, &[1, 2, 3], &[1, 2]), "");
    s.check(produce(1, 1), "write 1 @0");
    s.check(written(1), "view e1 0/0/0/1");
    s.check(min_isr(3), "refuse 1 NOT_ENOUGH_REPLICAS_AFTER_APPEND");
}

#[test]
fn old_news_changes_nothing() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(written(1), "view e1 0/0/0/1");
    s.check(isr_changed(3, &[1, 2], &[1, 2]), "");
    s.check(isr_changed(3, &[1, 2], &[1]), "");
    s.check(
        Event::PartitionChanged(registration(0, 9, &[1, 2], &[1])),
        "",
    );
    s.check(
        Event::PartitionChanged(registration(2, 9, &[1, 2], &[1])),
        "",
    );
    s.check(became_leader(1, &[1], &[1]), "");
    s.check(became_leader(0, &[1], &[1]), "");
    s.check(
        Event::Resigned {
            leader_epoch: LeaderEpoch(0),
        },
        "",
    );
    s.check(fetched(2, 2), "");
    s.check(fetched(9, 1), "");
    for leader_epoch in [0, 2] {
        s.check(fetched_in(leader_epoch, 2, 1), "");
    }
    s.check(fetched(2, 1), "view e1 0/1/1/1, ack 1 @0");
}

#[test]
fn the_end_of_leadership_refuses_what_waits() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(written(1), "view e1 0/0/0/1");
    s.check(
        Event::Resigned {
            leader_epoch: LeaderEpoch(2),
        },
        "view unassigned 0/0/0/1, refuse 1 NOT_LEADER_OR_FOLLOWER",
    );
    s.check(became_leader(2, &[1, 2], &[1, 2]), "");
    s.check(produce(2, 1), "refuse 2 NOT_LEADER_OR_FOLLOWER");
    s.check(
        became_leader(3, &[1, 2], &[1, 2]),
        "epochs, view e3 0/0/0/1",
    );
}

#[test]
fn an_elected_leader_knows_its_followers_by_their_fetches_in_its_epoch_only() {
    let mut s = Scenario::leader(SETTINGS, &[1, 2]);
    s.check(produce(1, 1), "write 1 @0");
    s.check(fetched(2, 0), "");
    s.check(written(1), "view e1 0/0/0/1");
    s.check(
        became_leader(2, &[1, 2], &[1, 2]),
        "epochs, view e2 0/0/0/1",
    );
    s.check(fetched(2, 1), "");
    s.check(fetched_in(2, 2, 1), "view e2 0/1/1/1, ack 1 @0");
}

#[test]
fn an_epoch_behind_the_log_takes_the_replica_offline() {
    let mut log = log(0, 5);
    assert!(log.leader_epochs.assign(LeaderEpoch(7), Offset(0)));
    let mut s = Scenario::new(SETTINGS);
    s.replica = Replica::new(BrokerId(1), SETTINGS, log);
    s.check(
        became_leader(6, &[1], &[1]),
        "view offline 0/5/5/5, offline LeaderEpochBehindLog",
    );
    s.check(produce(1, 1), "refuse 1 KAFKA_STORAGE_ERROR");
}

#[test]
fn a_reader_finds_where_an_epoch_ended() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 3), "write 1 @0");
    s.check(written(3), "view e1 0/3/3/3, ack 1 @0");
    s.check(became_leader(4, &[1], &[1]), "epochs, view e4 0/3/3/3");
    let end = |requested| {
        let (offsets, epochs) = (s.replica.published(), s.replica.leader_epochs());
        offsets.end_offset_for(epochs, LeaderEpoch(4), LeaderEpoch(requested))
    };
    assert_eq!(
        end(1).map(|end| (end.epoch, end.end_offset)),
        Ok((LeaderEpoch(1), Offset(3)))
    );
    assert_eq!(
        end(4).map(|end| (end.epoch, end.end_offset)),
        Ok((LeaderEpoch(4), Offset(3)))
    );
    assert_eq!(end(5), Ok(EpochEndOffset::UNDEFINED));
    let fenced = s.replica.published().end_offset_for(
        s.replica.leader_epochs(),
        LeaderEpoch(1),
        LeaderEpoch(1),
    );
    assert_eq!(fenced, Err(Refusal::FencedLeaderEpoch));
}

#[test]
fn flushed_durability_commits_what_is_on_disk_only() {
    let mut s = Scenario::leader(FLUSHED, &[1]);
    s.check(produce(1, 2), "write 1 @0");
    s.check(produce(2, 1).acks(Acks::Leader), "write 2 @2");
    s.check(written(3), "view e1 0/0/0/3, flush 3, ack 2 @2");
    s.check(flushed(1), "view e1 0/1/1/3");
    s.check(produce(3, 1), "write 3 @3");
    s.check(flushed(3), "view e1 0/3/3/3, ack 1 @0");
    s.check(written(4), "view e1 0/3/3/4, flush 4");
    s.check(flushed(4), "view e1 0/4/4/4, ack 3 @3");
}

#[test]
fn a_flush_does_not_vouch_for_a_write_without_outcome() {
    let mut s = Scenario::leader(FLUSHED, &[1]);
    s.check(produce(1, 2), "write 1 @0");
    s.check(flushed(2), "");
    s.check(written(2), "view e1 0/0/0/2, flush 2");
    s.check(flushed(2), "view e1 0/2/2/2, ack 1 @0");
}

#[test]
fn flushed_durability_waits_for_the_disks_of_followers() {
    let mut s = Scenario::leader(FLUSHED, &[1, 2]);
    s.check(produce(1, 2), "write 1 @0");
    s.check(written(2), "view e1 0/0/0/2, flush 2");
    s.check(flushed(2), "");
    s.check(fetched(2, 2), "");
    let follower_flushed = |leader_epoch| {
        Event::FollowerFlushed(FollowerFlush {
            broker_id: BrokerId(2),
            broker_epoch: BrokerEpoch::NONE,
            leader_epoch: LeaderEpoch(leader_epoch),
            end: Offset(2),
        })
    };
    s.check(follower_flushed(0), "");
    s.check(follower_flushed(1), "view e1 0/2/2/2, ack 1 @0");
}

#[test]
fn a_topic_that_becomes_flushed_is_flushed() {
    let mut s = Scenario::leader(SETTINGS, &[1]);
    s.check(produce(1, 2), "write 1 @0");
    s.check(written(2), "view e1 0/2/2/2, ack 1 @0");
    s.check(FLUSHED, "flush 2");
    s.check(produce(2, 1), "write 2 @2");
    s.check(written(3), "view e1 0/2/2/3, flush 3");
    s.check(SETTINGS, "view e1 0/3/3/3, ack 2 @2");
}

#[test]
fn a_restarted_leader_tells_no_end_before_it_has_committed_its_log() {
    let mut log = log(0, 5);
    log.high_watermark = Offset(2);
    log.flushed_end_offset = Offset(3);
    let mut s = Scenario::new(FLUSHED);
    s.replica = Replica::new(BrokerId(1), FLUSHED, log);
    s.check(
        became_leader(1, &[1], &[1]),
        "epochs, view e1 0/3/3/5, flush 5",
    );
    let latest = |s: &Scenario| {
        s.replica
            .published()
            .latest(LeaderEpoch::NONE, FetchIsolation::HighWatermark)
    };
    assert_eq!(latest(&s), Err(Refusal::OffsetNotAvailable));
    s.check(flushed(5), "view e1 0/5/5/5");
    assert_eq!(latest(&s), Ok(Offset(5)));
}

#[test]
fn stale_checkpoints_are_brought_inside_the_log() {
    for (high_watermark, expected) in [(0, 10), (15, 15), (99, 20)] {
        let mut log = log(10, 20);
        log.high_watermark = Offset(high_watermark);
        log.flushed_end_offset = Offset(99);
        let replica = Replica::new(BrokerId(1), SETTINGS, log);
        assert_eq!(replica.published().high_watermark, Offset(expected));
    }
}

#[test]
fn an_ended_transaction_is_stable_when_its_marker_is_committed() {
    for checkpoint in [0, 5] {
        let mut log = log(0, 5);
        log.high_watermark = Offset(checkpoint);
        log.producers = ProducerStates::starting_at(Offset(0));
        let marker = EndTxnMarker {
            result: TxnResult::Commit,
            coordinator_epoch: 0,
        };
        let (id, epoch) = (ProducerId(7), ProducerEpoch(0));
        let data = produce(0, 4).producer(7, 0, 0).transactional();
        let _ = log.producers.reserve(&data.header, Offset(0));
        let _ = log
            .producers
            .reserve_marker(id, epoch, marker, Offset(4), Millis(500));
        let mut s = Scenario::new(SETTINGS);
        s.replica = Replica::new(BrokerId(1), SETTINGS, log);
        s.check(became_leader(1, &[1], &[1]), "epochs, view e1 0/5/5/5");
    }
}
