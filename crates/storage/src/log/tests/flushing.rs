//! Flush plans and the recovery point.

use super::*;
use crate::testing::{EIO, Fault};

#[test]
fn a_flush_is_due_by_records_and_by_time() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        flush_messages: Some(10),
        flush_ms: Some(Millis(500)),
        ..small()
    });
    assert!(
        !log.is_flush_due(Millis(100_000)),
        "there is nothing to flush"
    );
    log.fill_to(9, 1, 100);
    assert!(!log.is_flush_due(Millis(1499)));
    assert!(log.is_flush_due(Millis(1500)));
    log.fill_to(10, 1, 100);
    assert!(log.is_flush_due(Millis(1000)));
    log.flush(Millis(1600)).unwrap();
    assert!(!log.is_flush_due(Millis(100_000)));
    log.fill_to(11, 1, 100);
    assert!(!log.is_flush_due(Millis(2099)));
    assert!(log.is_flush_due(Millis(2100)));
}

#[test]
fn the_recovery_point_moves_to_what_the_plan_covered() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    assert!(log.flush_plan(FlushScope::All).unwrap().is_none());
    log.fill_to(30, 1, 100);
    let base = log.active.base_offset;
    let plan = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
    assert_eq!(plan.end_offset(), base);
    log.fill_to(60, 1, 100);
    let flushed = plan.run().unwrap();
    assert_eq!(log.complete_flush(&flushed, Millis(1)), base);
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    let flushed = plan.run().unwrap();
    log.fill_to(70, 1, 100);
    assert_eq!(log.complete_flush(&flushed, Millis(1)), Offset(60));
    assert_eq!(log.flush(Millis(1)).unwrap(), Offset(70));
    assert!(log.flush_plan(FlushScope::All).unwrap().is_none());
}

#[test]
fn plans_that_overtake_each_other_do_not_lower_it() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(10, 1, 100);
    let early = log.flush_plan(FlushScope::All).unwrap().unwrap();
    log.fill_to(40, 1, 100);
    let late = log.flush_plan(FlushScope::All).unwrap().unwrap();
    let (late, early) = (late.run().unwrap(), early.run().unwrap());
    assert_eq!(log.complete_flush(&late, Millis(1)), Offset(40));
    assert_eq!(log.complete_flush(&early, Millis(1)), Offset(40));
}

#[test]
fn after_a_failed_flush_nothing_more_is_written() {
    let fixture = fixture();
    let mut log = fixture.log(LogConfig {
        flush_messages: Some(1),
        ..small()
    });
    log.fill_to(10, 1, 100);
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    fixture.disk.plan(&[Fault::Flush(EIO)]);
    let error = plan.run().unwrap_err();
    log.flush_failed(&error);
    assert_eq!(log.recovery_point(), Offset(0));
    assert!(log.append(&[&batch_at(10, 1, 100, 1)], Millis(1)).is_err());
    assert!(
        log.flush_plan(FlushScope::All).is_err(),
        "a second flush would not tell"
    );
    assert!(!log.is_flush_due(Millis(1)), "nor is one asked for");
    assert_eq!(offsets(&log.view(), 0, 10), upto(10));
}

#[test]
fn a_plan_does_not_succeed_where_another_one_failed() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.fill_to(40, 1, 100);
    let all = log.flush_plan(FlushScope::All).unwrap().unwrap();
    let sealed = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
    fixture.disk.plan(&[Fault::Flush(EIO)]);
    assert!(all.run().is_err());
    assert!(
        sealed.run().is_err(),
        "the kernel has told of the failure already"
    );
}

#[test]
fn retention_may_be_faster_than_a_flush() {
    let fixture = fixture();
    let config = LogConfig {
        retention_bytes: Some(2000),
        retention_ms: None,
        ..small()
    };
    let mut log = fixture.log(config);
    log.fill_to(60, 1, 100);
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    for segment in log.retain(Millis(1)) {
        segment.remove(&*fixture.disk).unwrap();
    }
    let flushed = plan.run().unwrap();
    assert_eq!(log.complete_flush(&flushed, Millis(1)), Offset(60));
}
