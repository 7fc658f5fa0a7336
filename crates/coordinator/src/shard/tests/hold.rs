//! Answers wait for the log; and what becomes of them when it does not come.

use super::join::two_members;
use super::*;

#[test]
fn an_answer_waits_for_the_append_and_a_read_for_what_was_ordered_before_it() {
    let mut s = two_members();
    s.held = Some(Vec::new());
    s.check(heartbeat("a#1", 1), "7 ok");
    s.check(commit("a#1", 1, 5), "keep t-0=5");
    // Both would tell of an offset that may still be lost.
    s.check(fetch(None), "");
    s.check(heartbeat("a#1", 1), "");
    s.check(commit("b#3", 1, 6), "keep t-0=6");
    let ends = s.held.take().unwrap();
    let mut effects = Vec::new();
    let now = s.now();
    let end = |end: usize| Offset(end.try_into().unwrap());
    s.shard.on_appended(end(ends[0]), &mut effects);
    s.shard.on_appended(end(ends[1]), &mut effects);
    assert_eq!(effects, [], "written, and not committed");
    s.shard.on_high_watermark(end(ends[0]), now, &mut effects);
    assert_eq!(s.carry_out(effects), "8 committed, 9 [t-0=5], 10 ok");
    let mut effects = Vec::new();
    s.shard.on_high_watermark(end(ends[1]), now, &mut effects);
    assert_eq!(s.carry_out(effects), "11 committed");
}

#[test]
fn an_answer_that_waits_too_long_says_so() {
    let mut s = two_members();
    s.held = Some(Vec::new());
    s.check(commit("a#1", 1, 5), "keep t-0=5");
    s.after(4_999, "");
    s.after(1, "7 COORDINATOR_NOT_AVAILABLE");
    let ends = s.held.take().unwrap();
    let mut effects = Vec::new();
    s.append(ends[0], &mut effects);
    assert_eq!(effects, [], "it was answered");
    s.check(fetch(None), "8 [t-0=5]");
}

fn resigned(s: Scenario, reason: Resignation) -> String {
    let mut effects = Vec::new();
    s.shard.resign(reason, &mut effects);
    let shown: Vec<String> = effects.iter().map(show).collect();
    shown.join(", ")
}

#[test]
fn who_waits_is_answered_when_the_coordinator_ends() {
    let waiting = || {
        let mut s = two_members();
        s.held = Some(Vec::new());
        s.check(commit("a#1", 1, 5), "keep t-0=5");
        s.check(fetch(None), "");
        s.check(join("a", "a#1"), "");
        s
    };
    // Who fetches is always told to look for another coordinator (`fetch_error`).
    let answers = |code: &str| format!("7 {code}, 8 NOT_COORDINATOR, 9 {code} ");
    let failed = resigned(waiting(), Resignation::AppendFailed);
    assert!(
        failed.starts_with(&answers("COORDINATOR_NOT_AVAILABLE")),
        "{failed}"
    );
    let ended = resigned(waiting(), Resignation::LeadershipEnded);
    assert!(ended.starts_with(&answers("NOT_COORDINATOR")), "{ended}");
}

#[test]
fn an_assignment_is_given_out_when_its_record_is_committed() {
    let mut s = two_members();
    s.check(join("a", "a#1"), "");
    let _ = s.ask(join("b", "b#3").into());
    s.held = Some(Vec::new());
    s.check(sync("b#3", 2, &[]), "");
    s.check(sync("a#1", 2, &[("b#3", "all")]), "keep g 2 a#1* b#3");
    let ends = s.held.take().unwrap();
    let mut effects = Vec::new();
    s.append(ends[0], &mut effects);
    assert_eq!(s.carry_out(effects), "10 synced \"\", 9 synced \"all\"");
}
