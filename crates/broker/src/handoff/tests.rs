//! Every interleaving of a few tasks (`--cfg loom`), and many tasks for real.

use super::*;

/// Collects items, and checks that no two tasks are at it.
#[derive(Default)]
struct Collected {
    items: Vec<(usize, usize)>,
    settled: usize,
}

struct Collect;

impl Work<Collected, (usize, usize)> for Collect {
    fn take(&mut self, state: &mut Collected, item: (usize, usize)) {
        state.items.push(item);
    }

    fn settle(&mut self, state: &mut Collected) -> bool {
        state.settled = state.items.len();
        true
    }
}

/// Hands over after each group.
struct CollectOne;

impl Work<Collected, (usize, usize)> for CollectOne {
    fn take(&mut self, state: &mut Collected, item: (usize, usize)) {
        state.items.push(item);
    }

    fn settle(&mut self, state: &mut Collected) -> bool {
        state.settled = state.items.len();
        false
    }
}

fn check(handoff: &Handoff<Collected, (usize, usize)>, tasks: usize, each: usize) {
    let state = handoff.state.try_lock().unwrap();
    assert_eq!(state.items.len(), tasks * each, "an item is stranded");
    assert_eq!(
        state.settled,
        state.items.len(),
        "an item was taken and not settled"
    );
    for task in 0..tasks {
        let of_task: Vec<usize> = state
            .items
            .iter()
            .filter(|(t, _)| *t == task)
            .map(|(_, i)| *i)
            .collect();
        assert_eq!(of_task, (0..each).collect::<Vec<_>>(), "out of order");
    }
}

#[cfg(loom)]
fn explore(tasks: usize, each: usize, preemptions: usize, hands_over: bool) {
    use loom::sync::Arc;
    use loom::thread;

    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let handoff = Arc::new(Handoff::new(Collected::default()));
        let run = move |handoff: &Handoff<_, _>, task| {
            for index in 0..each {
                let item = (task, index);
                let mut submitted = if hands_over {
                    handoff.submit(item, &mut CollectOne)
                } else {
                    handoff.submit(item, &mut Collect)
                };
                // The successor that a real holder would spawn.
                while submitted == Submitted::HandOver {
                    submitted = handoff.drain(&mut CollectOne);
                }
            }
        };
        let others: Vec<_> = (1..tasks)
            .map(|task| {
                let handoff = Arc::clone(&handoff);
                thread::spawn(move || run(&handoff, task))
            })
            .collect();
        run(&handoff, 0);
        for other in others {
            other.join().unwrap();
        }
        check(&handoff, tasks, each);
    });
}

#[cfg(loom)]
#[test]
fn no_item_is_stranded_in_any_interleaving_of_two_tasks() {
    explore(2, 2, 4, false);
}

#[cfg(loom)]
#[test]
fn no_item_is_stranded_in_any_interleaving_of_three_tasks() {
    explore(3, 1, 3, false);
}

/// One task leaves its items and works later; others come in between.
#[cfg(loom)]
#[test]
fn no_item_is_stranded_that_was_left_for_later() {
    use loom::sync::Arc;
    use loom::thread;

    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let handoff = Arc::new(Handoff::new(Collected::default()));
        let other = {
            let handoff = Arc::clone(&handoff);
            thread::spawn(move || {
                handoff.push((1, 0));
                handoff.push((1, 1));
                if !handoff.is_empty() {
                    handoff.drain(&mut Collect);
                }
            })
        };
        handoff.submit((0, 0), &mut Collect);
        handoff.push((0, 1));
        if !handoff.is_empty() {
            handoff.drain(&mut Collect);
        }
        other.join().unwrap();
        check(&handoff, 2, 2);
    });
}

#[cfg(loom)]
#[test]
fn no_item_is_stranded_when_holders_hand_over() {
    explore(2, 2, 4, true);
}

#[cfg(not(loom))]
#[test]
fn nothing_is_lost_under_real_contention() {
    let handoff = Handoff::new(Collected::default());
    let (tasks, each) = (4, 5_000);
    std::thread::scope(|scope| {
        for task in 0..tasks {
            let handoff = &handoff;
            scope.spawn(move || {
                for index in 0..each {
                    handoff.submit((task, index), &mut Collect);
                }
            });
        }
    });
    check(&handoff, tasks, each);
}

#[cfg(not(loom))]
#[test]
fn a_spent_holder_says_that_another_must_go_on() {
    let handoff = Handoff::new(Collected::default());
    let state = handoff.state.try_lock().unwrap();
    assert_eq!(handoff.submit((0, 0), &mut CollectOne), Submitted::Done);
    assert_eq!(handoff.submit((0, 1), &mut CollectOne), Submitted::Done);
    drop(state);
    assert_eq!(handoff.drain(&mut CollectOne), Submitted::Done);
    check(&handoff, 1, 2);
}

#[cfg(not(loom))]
#[test]
fn an_item_does_not_overtake_a_longer_queue_than_one_hold_takes() {
    let handoff = Handoff::new(Collected::default());
    let each = TAKE_MAX * 2 + 10;
    let state = handoff.state.try_lock().unwrap();
    for index in 0..each - 1 {
        assert_eq!(handoff.submit((0, index), &mut Collect), Submitted::Done);
    }
    drop(state);
    assert_eq!(handoff.submit((0, each - 1), &mut Collect), Submitted::Done);
    check(&handoff, 1, each);
}

#[cfg(not(loom))]
#[test]
fn a_full_queue_says_so_and_takes_what_comes() {
    let handoff = Handoff::new(Collected::default());
    let state = handoff.state.try_lock().unwrap();
    for index in 0..QUEUE_MAX {
        assert!(!handoff.is_full());
        handoff.submit((0, index), &mut Collect);
    }
    assert!(handoff.is_full());
    handoff.submit((0, QUEUE_MAX), &mut Collect);
    drop(state);
    assert_eq!(handoff.drain(&mut Collect), Submitted::Done);
    check(&handoff, 1, QUEUE_MAX + 1);
}
