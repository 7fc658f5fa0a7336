//! What else than a write needs the log: tasks, errands, and the end.
//!
//! Input: work with the log. Output: its event, stepped when the work is done.
//!
//! Invariants:
//! - what has gathered is written first: work sees a log without a group in front of it;
//! - where that write runs elsewhere the work waits, in front of what came later;
//! - once the log was taken, nobody waits for it.
//!
//! Source: none.

use std::sync::Arc;

use skein_env::Lane;
use skein_partition::{Event, PublishedRole};
use skein_record::ProducerStates;
use skein_storage::Log;
use tokio::sync::oneshot;

use super::input::{Errand, Input, LogTask};
use super::{Core, Step};

impl Core {
    pub(super) fn task(&mut self, task: LogTask, step: &mut Step<'_>) {
        self.write_group(step);
        let Some(log) = self.log.as_mut() else {
            self.held.push_front(Input::Task(task));
            return;
        };
        let event = task(log, &mut self.machine);
        self.after_task(event, step);
    }

    pub(super) fn after_task(&mut self, event: Option<Event>, step: &mut Step<'_>) {
        if let Some(event) = event {
            self.step(event, step);
        }
        // The task may have changed the list of segments, of which the state machine knows nothing;
        // and what was committed while the log was away the log does not know.
        let is_behind = self.view.high_watermark != self.machine.published().high_watermark;
        let log = self.log.as_ref();
        if is_behind || log.is_some_and(|log| !Arc::ptr_eq(&self.view, &log.published())) {
            self.publish(step);
        }
    }

    pub(super) fn errand(&mut self, errand: Errand, step: &mut Step<'_>) {
        self.write_group(step);
        let Some(mut log) = self.log.take() else {
            self.held.push_front(Input::Errand(errand));
            return;
        };
        let (replica, env) = (Arc::clone(step.replica), self.basis.env.clone());
        let spawn = Arc::clone(&env.spawn);
        let task = async move {
            let work = move || {
                let event = errand(&mut log);
                (Box::new(log), event)
            };
            // Without an answer the node has ended.
            if let Some((log, event)) = env.offload("errand", work).await {
                replica.submit(Input::Returned(log, event));
            }
        };
        spawn.spawn(Lane::Data, "errand", Box::pin(task));
    }

    /// Gives the log away. From here on every input is refused.
    pub(super) fn take_log(
        &mut self,
        reply: oneshot::Sender<(Log, ProducerStates)>,
        step: &mut Step<'_>,
    ) {
        self.write_group(step);
        if self.log.is_none() {
            self.held.push_front(Input::TakeLog { reply });
            return;
        }
        if let PublishedRole::Leader { leader_epoch, .. } = self.machine.published().role {
            self.step(Event::Resigned { leader_epoch }, step);
        }
        let producers = self.machine.producers().cloned();
        if let (Some(log), Some(producers)) = (self.log.take(), producers) {
            // Who asked may have gone; then the log is closed by being dropped.
            let _ = reply.send((log, producers));
        }
        self.is_closed = true;
        self.timer = None;
        self.delete_replies.clear();
        // Produces of a former leader, which wait for its successor: their clients had better ask
        // that one.
        let left = self.replies.drain();
        step.answers
            .extend(left.map(|reply| (reply, Err(skein_partition::Refusal::NotLeader))));
        for input in std::mem::take(&mut self.held) {
            self.refuse(input, step);
        }
    }
}
