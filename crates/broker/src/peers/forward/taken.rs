//! Whom a request that must not be decided twice is sent to, and when again.
//!
//! Input: who is the controller, and what comes of each attempt. Output: the outcome of the attempt
//! that a controller has taken.
//!
//! ```text
//!   wait for a controller ──► reach it ──────► ask it ──► taken: that is the answer
//!      ▲      ▲                  │ no connection   │ it says that it takes none
//!      │      └── pause ◄────────┴─────────────────┘
//!      └── at any time before it is asked: another controller
//! ```
//!
//! Invariants:
//! - a request that has left is sent again only if its receiver says that it has not taken it;
//! - a new controller is asked at once, whatever the pause is, and however long the former one can
//!   not be reached;
//! - at the deadline the last answer stands.
//!
//! Source: `NodeToControllerChannelManager` of Kafka 4.1.

use skein_controller::Refusal;
use skein_protocol::messages::envelope::EnvelopeResponse;
use skein_quorum::ActiveController;
use skein_types::ErrorCode;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::peers::patience::Patience;

/// What the controller, or the way to it, says.
pub(super) type Outcome = Result<EnvelopeResponse, Refusal>;

/// The way to a controller.
pub(super) trait Way: Sync {
    /// Sees to a connection; nothing is asked yet.
    fn reach(
        &self,
        controller: &ActiveController,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Asks over the connection.
    fn ask(&self, controller: &ActiveController) -> impl Future<Output = Outcome> + Send;
}

/// What came of one attempt.
enum Attempt {
    /// It may have been decided.
    Taken(Outcome),
    /// Nothing was decided.
    Untaken(Outcome),
    /// Nothing was asked, as another is the controller.
    Overtaken,
}

/// Asks until a controller takes the request. `None` if this node, `own`, is the controller, or if
/// there is none until `deadline`.
pub(super) async fn until_taken(
    mut leaders: watch::Receiver<Option<ActiveController>>,
    own: u64,
    deadline: Instant,
    way: &impl Way,
) -> Option<Outcome> {
    let mut patience = Patience::new();
    loop {
        let leader = elsewhere(&mut leaders, own, deadline).await?;
        let outcome = match attempt(&mut leaders, &leader, way).await {
            Attempt::Taken(outcome) => return Some(outcome),
            Attempt::Overtaken => {
                patience.hurry();
                continue;
            }
            Attempt::Untaken(outcome) => outcome,
        };
        let now = Instant::now();
        if now >= deadline {
            return Some(outcome);
        }
        let until = deadline.min(now + patience.pause());
        match timeout_at(until, another_than(&mut leaders, &leader)).await {
            Ok(true) => patience.hurry(),
            // The quorum has ended on this node, and the node will too.
            Ok(false) => return Some(outcome),
            Err(_) => {}
        }
    }
}

async fn attempt(
    leaders: &mut watch::Receiver<Option<ActiveController>>,
    leader: &ActiveController,
    way: &impl Way,
) -> Attempt {
    let reached = tokio::select! {
        biased;
        true = another_than(leaders, leader) => return Attempt::Overtaken,
        reached = way.reach(leader) => reached,
    };
    if let Err(refusal) = reached {
        return Attempt::Untaken(Err(refusal));
    }
    match way.ask(leader).await {
        Ok(answer) if is_untaken(&answer) => Attempt::Untaken(Ok(answer)),
        outcome => Attempt::Taken(outcome),
    }
}

/// Whether the node that was asked is not the controller, or not yet able to be.
fn is_untaken(answer: &EnvelopeResponse) -> bool {
    matches!(
        ErrorCode::from_code(answer.error_code),
        ErrorCode::NotController | ErrorCode::BrokerNotAvailable
    )
}

/// The controller, if it is another node. While there is none, as in an election, it is waited for:
/// a client of Kafka's is told of elections by no answer.
pub(super) async fn elsewhere(
    leaders: &mut watch::Receiver<Option<ActiveController>>,
    own: u64,
    deadline: Instant,
) -> Option<ActiveController> {
    // Without one this node answers, and says that it is not the controller.
    let found = timeout_at(deadline, leaders.wait_for(Option::is_some)).await;
    let leader = found.ok()?.ok()?.clone();
    leader.filter(|leader| leader.raft_id != own)
}

/// Waits until `leader` is not the controller any more, or not in that term; `false` if that will
/// not be told.
async fn another_than(
    leaders: &mut watch::Receiver<Option<ActiveController>>,
    leader: &ActiveController,
) -> bool {
    let is_another = |now: &Option<ActiveController>| now.as_ref() != Some(leader);
    leaders.wait_for(is_another).await.is_ok()
}

#[cfg(test)]
mod tests;
