//! Flush plans and the recovery point.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::testing::{EIO, Fault};

/// A log with so many unflushed files that its flush asks for help.
fn many_files(fixture: &Fixture) -> Log {
    let mut log = fixture.log(small());
    log.fill_to(700, 1, 100);
    assert!(log.segment_count() > 60, "{}", log.segment_count());
    log
}

/// How many flushes of files the disk sees from now on.
fn count_flushes(fixture: &Fixture) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    fixture.disk.on_flush(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    count
}

/// Waits for another thread, unless it never comes that far: then the test fails.
fn waits(is_over: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_over() && begun.elapsed() < Duration::from_secs(10) {
        thread::yield_now();
    }
}

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
fn a_flush_of_sealed_segments_is_asked_for_once_until_it_has_ended() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    let mut end = 0;
    let mut sealed = |log: &mut Log, count: usize| {
        while log.sealed.len() < count {
            end += 1;
            log.fill_to(end, 1, 100);
            assert!(log.sealed.len() == count || !log.take_sealed_flush_due());
        }
    };
    sealed(&mut log, 8);
    assert!(log.take_sealed_flush_due());
    let plan = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
    // Meanwhile more are sealed than are worth a flush: that is for the end of this one.
    sealed(&mut log, 20);
    let flushed = plan.run().unwrap();
    log.complete_flush(&flushed, Millis(1));
    assert!(log.take_sealed_flush_due() && !log.take_sealed_flush_due());
    // A flush that a truncation has overtaken counts for nothing, and is asked for again.
    let plan = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
    let cut = log.log_end_offset().0 - 1;
    log.truncate_to(Offset(cut), Millis(1)).unwrap();
    let flushed = plan.run().unwrap();
    log.complete_flush(&flushed, Millis(1));
    assert!(log.take_sealed_flush_due());
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
fn a_flush_takes_all_files_along_that_a_start_believes() {
    let fixture = fixture();
    let mut log = fixture.log(small());
    log.append_all(&[idempotent(0, 1, 0)]);
    log.roll(Millis(1)).unwrap();
    log.write_snapshot(&producers_of(&[idempotent(0, 1, 0)]))
        .unwrap();
    let flushed = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&flushed);
    fixture.disk.on_flush(move |path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        seen.lock().push(name.to_owned());
    });
    let plan = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
    let done = plan.run().unwrap();
    assert_eq!(log.complete_flush(&done, Millis(1)), Offset(1));
    let mut flushed = std::mem::take(&mut *flushed.lock());
    flushed.sort();
    let expected = [
        "00000000000000000000.index",
        "00000000000000000000.log",
        "00000000000000000000.timeindex",
        "00000000000000000001.snapshot",
        "leader-epoch-checkpoint",
    ];
    assert_eq!(flushed, expected);
}

#[test]
fn a_write_back_that_fails_between_a_roll_and_its_flush_is_told_to_the_flush() {
    for kind in [".log", ".index", ".timeindex"] {
        let fixture = fixture();
        let mut log = fixture.log(small());
        log.fill_to(40, 1, 100);
        let sealed = fixture.path(&fixture.names(kind)[0]);
        fixture.disk.fail_write_back(&sealed);
        let plan = log.flush_plan(FlushScope::Sealed).unwrap().unwrap();
        let error = plan.run().unwrap_err();
        let told = format!("cannot flush {}", sealed.display());
        assert!(error.to_string().starts_with(&told), "{error}");
    }
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

#[test]
fn a_plan_fails_with_the_flush_of_a_helper() {
    let fixture = fixture();
    let mut log = many_files(&fixture);
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    let flushes = count_flushes(&fixture);
    fixture.disk.plan(&[Fault::Flush(EIO)]);
    let helpers = AtomicUsize::new(0);
    let result = plan.run_with(&|helper| {
        helpers.fetch_add(1, Ordering::SeqCst);
        helper.run();
    });
    assert!(matches!(result, Err(StorageError::Io { .. })), "{result:?}");
    assert!(helpers.into_inner() > 1);
    let flushes = flushes.load(Ordering::SeqCst);
    assert_eq!(flushes, 1, "nothing is begun behind an error");
    // Whoever ran it has not told the log.
    assert!(
        log.close(&ProducerStates::starting_at(Offset(700)), Millis(1))
            .is_err()
    );
}

#[test]
fn a_plan_ends_when_its_helpers_are_in_no_flush_any_more() {
    let fixture = fixture();
    let files = {
        let mut log = many_files(&fixture);
        let flushes = count_flushes(&fixture);
        log.flush(Millis(1)).unwrap();
        flushes.load(Ordering::SeqCst)
    };
    let fixture = self::fixture();
    let mut log = many_files(&fixture);
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    let (begun, has_ended) = (count_flushes(&fixture), Arc::new(AtomicBool::new(false)));
    let (first, is_in) = mpsc::channel();
    let (hook_begun, hook_ended) = (Arc::clone(&begun), Arc::clone(&has_ended));
    fixture.disk.on_flush(move |_| {
        hook_begun.fetch_add(1, Ordering::SeqCst);
        if thread::current().name() == Some("helper") {
            // The test has ended only if it has failed.
            let _ = first.send(());
            waits(|| hook_begun.load(Ordering::SeqCst) == files);
            // Time enough for a plan that does not wait.
            (0..1000).for_each(|_| thread::yield_now());
            hook_ended.store(true, Ordering::SeqCst);
        }
    });
    let helpers = AtomicUsize::new(0);
    let flushed = plan.run_with(&|helper| {
        if helpers.fetch_add(1, Ordering::SeqCst) == 0 {
            let thread = thread::Builder::new().name("helper".to_owned());
            thread.spawn(|| helper.run()).unwrap();
            is_in.recv().unwrap();
        }
    });
    assert!(flushed.is_ok());
    assert!(has_ended.load(Ordering::SeqCst), "a file was not flushed");
}

#[test]
fn a_log_that_is_closed_helps_the_flush_that_runs_and_takes_over_its_end() {
    let fixture = fixture();
    let mut log = many_files(&fixture);
    let plan = log.flush_plan(FlushScope::All).unwrap().unwrap();
    let flushes = count_flushes(&fixture);
    let (is_in, has_help) = (Arc::new(Barrier::new(2)), Arc::clone(&flushes));
    let hook_is_in = Arc::clone(&is_in);
    fixture.disk.on_flush(move |_| {
        let before = has_help.fetch_add(1, Ordering::SeqCst);
        if thread::current().name() == Some("plan") && before == 0 {
            hook_is_in.wait();
            waits(|| has_help.load(Ordering::SeqCst) > 100);
        }
    });
    let thread = thread::Builder::new().name("plan".to_owned());
    let running = thread.spawn(move || plan.run()).unwrap();
    is_in.wait();
    let end = log
        .close(&ProducerStates::starting_at(Offset(700)), Millis(1))
        .unwrap();
    assert_eq!(end, Offset(700));
    assert!(running.join().unwrap().is_ok());
    let (flushes, files) = (flushes.load(Ordering::SeqCst), 3 * 60);
    assert!(flushes > files, "{flushes}");
    assert!(flushes < 2 * files, "flushed once more: {flushes}");
}
