//! Requests start in order, answers leave in order, barriers are alone.

use proptest::prelude::*;

use super::harness::*;

#[tokio::test(start_paused = true)]
async fn a_barrier_waits_for_all_before_it_and_holds_back_all_behind_it() {
    let running = Running::new();
    for (key, id) in [(LATER, 1), (BARRIER_LATER, 2), (NOW, 3)] {
        running.peer.send(&frame_of(key, id, b"body"));
    }
    settle().await;
    assert_eq!(
        running.seen.started(),
        [1],
        "the barrier waits for the first"
    );
    running.seen.answer(1);
    settle().await;
    assert_eq!(
        running.seen.started(),
        [1, 2],
        "what follows waits for the barrier"
    );
    running.seen.answer(2);
    settle().await;
    assert_eq!(running.peer.answers(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_barrier_waits_until_the_socket_has_taken_the_answers() {
    let running = Running::new();
    running.peer.open_window(3);
    running.peer.send(&frame_of(NOW, 1, b""));
    running.peer.send(&frame_of(BARRIER_LATER, 2, b""));
    settle().await;
    assert_eq!(running.seen.started(), [1]);
    running.peer.open_window(100);
    settle().await;
    assert_eq!(running.seen.started(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_start_before_those_before_them_are_answered() {
    let running = Running::new();
    for id in 0..10 {
        running.peer.send(&frame_of(LATER, id, b""));
    }
    settle().await;
    assert_eq!(running.seen.started(), (0..10).collect::<Vec<_>>());
    assert!(running.peer.answers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_answer_is_nothing_sends_nothing() {
    let running = Running::new();
    for id in 0..200 {
        running.peer.send(&frame_of(SILENT, id, b"x"));
    }
    running.peer.send(&frame_of(NOW, 200, b""));
    settle().await;
    assert_eq!(running.peer.answers(), [200]);
    assert_eq!(running.seen.started().len(), 201);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_pipelined_requests_are_answered_in_few_calls() {
    let running = Running::new();
    let frames: Vec<u8> = (0..5000)
        .flat_map(|id| frame_of(NOW, id, b"12345678"))
        .collect();
    running.peer.send(&frames);
    settle().await;
    assert_eq!(running.peer.answers(), (0..5000).collect::<Vec<_>>());
    let state = running.peer.state();
    assert!(
        state.reads < 10 + frames.len() / 8000,
        "{} reads",
        state.reads
    );
    assert!(state.events.len() < 170, "{} writes", state.events.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the kinds, the order of completion, the pieces read and written.
    #[test]
    fn answers_leave_in_the_order_of_their_requests(
        kinds in prop::collection::vec(
            prop::sample::select(vec![LATER, LATER, NOW, BARRIER_LATER, SILENT, STREAMED, FILE]),
            1..120,
        ),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 120),
        read_max in 1_usize..40,
        window in 1_usize..60,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let running = Running::new();
            running.peer.state().read_max = read_max;
            running.seen.0.lock().file_length = 30;
            running.seen.0.lock().range_length = 30;
            for (id, kind) in (0_i32..).zip(&kinds) {
                let body = batches_of(&[b"one", b"", b"another"]);
                running.peer.send(&frame_of(*kind, id, &body));
            }
            let owed: Vec<i32> = (0_i32..)
                .zip(&kinds)
                .filter(|(_, kind)| **kind != SILENT)
                .map(|(id, _)| id)
                .collect();
            for pick in picks.iter().cycle().take(20_000) {
                running.peer.open_window(window);
                settle().await;
                let mut waiting: Vec<i32> =
                    running.seen.0.lock().waiting.keys().copied().collect();
                waiting.sort_unstable();
                if !waiting.is_empty() {
                    running.seen.answer(*pick.get(&waiting));
                }
                if running.peer.answers().len() == owed.len() {
                    break;
                }
            }
            assert_eq!(running.peer.answers(), owed);
            let started = running.seen.started();
            assert_eq!(started, (0..i32::try_from(kinds.len()).unwrap()).collect::<Vec<_>>());
        });
    }
}
