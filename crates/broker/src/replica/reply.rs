//! The answer to one produced batch, before it is there.
//!
//! Input: from the replica, that the batch is appended, and later how it ended. Output: two things
//! to wait for.
//!
//! Invariants:
//! - an answer also says "appended": nothing more will happen to the batch;
//! - a reply that is dropped unanswered (the replica closed) answers `NOT_LEADER_OR_FOLLOWER`, so
//!   that no handler waits for ever.
//!
//! Source: none.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use skein_partition::{AckOk, Refusal};

/// How a produce ended.
pub(crate) type AckResult = Result<AckOk, Refusal>;

#[derive(Default)]
struct State {
    is_appended: bool,
    result: Option<AckResult>,
    waker: Option<Waker>,
}

/// The replica's end.
pub(crate) struct ReplySender(Arc<Mutex<State>>);

/// The handler's end. One task waits for it, however many clones there are.
#[derive(Clone)]
pub(crate) struct Reply {
    state: Arc<Mutex<State>>,
    /// The append has woken tasks that waited for this partition, or for its answers.
    pub(crate) has_woken_others: bool,
}

/// Both ends of a new reply.
pub(crate) fn reply() -> (ReplySender, Reply) {
    let state = Arc::new(Mutex::new(State::default()));
    let reply = Reply {
        state: Arc::clone(&state),
        has_woken_others: false,
    };
    (ReplySender(state), reply)
}

impl ReplySender {
    /// The batch is in the log; the answer waits for more.
    pub(crate) fn appended(&self) {
        self.change(|state| state.is_appended = true);
    }

    /// The answer. Says whether a task waited for it.
    pub(crate) fn answer(self, result: AckResult) -> bool {
        self.change(|state| {
            state.is_appended = true;
            state.result = Some(result);
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.0.lock();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
            return true;
        }
        false
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        self.change(|state| {
            state.is_appended = true;
            state.result.get_or_insert(Err(Refusal::NotLeader));
        });
    }
}

impl Reply {
    /// Waits until the batch is in the log, or never will be.
    pub(crate) async fn appended(&self) {
        self.wait(|state| state.is_appended.then_some(())).await;
    }

    /// The answer, if it is there already.
    pub(crate) fn try_result(&self) -> Option<AckResult> {
        self.state.lock().result
    }

    /// Waits for the answer.
    pub(crate) async fn result(&self) -> AckResult {
        self.wait(|state| state.result).await
    }

    async fn wait<T>(&self, ready: impl Fn(&State) -> Option<T>) -> T {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if let Some(value) = ready(&state) {
                return Poll::Ready(value);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skein_types::{Millis, Offset};

    #[tokio::test]
    async fn appended_comes_before_the_answer_or_with_it() {
        let ok = AckOk {
            base_offset: Offset(3),
            log_append_time: Millis::NONE,
            log_start_offset: Offset(0),
        };
        let (sender, reply) = reply();
        sender.appended();
        reply.appended().await;
        assert_eq!(reply.try_result(), None);
        sender.answer(Ok(ok));
        assert_eq!(reply.result().await, Ok(ok));
    }

    #[tokio::test]
    async fn a_dropped_sender_answers() {
        let (sender, reply) = reply();
        drop(sender);
        reply.appended().await;
        assert_eq!(reply.result().await, Err(Refusal::NotLeader));
    }
}
