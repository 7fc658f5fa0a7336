//! The way to the controller, wherever it is.
//!
//! Input: a request, and how long its answer is worth waiting for. Output: the decision.
//!
//! Invariants:
//! - a request to a controller on this node makes no detour;
//! - whoever asks waits no longer than he says, also without a quorum;
//! - nothing polls: a request that met no controller waits until another one is known, or for
//!   [`RETRY`], as one that answers nobody does not say so.
//!
//! Source: `NodeToControllerChannelManager` of Kafka 4.1.

use std::fmt::Display;
use std::time::Duration;

use skein_controller::Refusal;
use skein_net::{PeerAddress, PeerLinks, Purpose};
use skein_protocol::Request as ApiRequest;
use skein_quorum::{ActiveController, Controller};
use skein_types::ErrorCode;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::ControllerCall;
use super::transport::peer_address;

/// When a controller that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(50);

/// How long one attempt waits: instead of a controller that hangs there is another one soon.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Asks the controller. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ControllerLink {
    controller: Controller,
    /// `None` in a cluster of one.
    links: Option<PeerLinks>,
}

impl ControllerLink {
    pub(crate) const fn new(controller: Controller, links: Option<PeerLinks>) -> Self {
        Self { controller, links }
    }

    /// Has a request decided; one whose answer was lost is asked again.
    ///
    /// # Errors
    /// [`Refusal`]: what the controller says; NOT_CONTROLLER if there was none in time.
    pub(crate) async fn ask<C: ControllerCall>(
        &self,
        request: C,
        within: Duration,
    ) -> Result<C::Response, Refusal> {
        let deadline = Instant::now() + within;
        let mut leaders = self.controller.watch_leader();
        loop {
            let leader = leaders.borrow_and_update().clone();
            let attempt = self.attempt(leader.as_ref(), &request);
            let outcome = timeout_at(deadline, attempt).await.unwrap_or_else(|_| {
                let message = format!("no decision in {} ms", within.as_millis());
                Err(Refusal::new(ErrorCode::RequestTimedOut, message))
            });
            match outcome {
                Err(refusal) if is_elsewhere(&refusal) && Instant::now() < deadline => {
                    if let Ok(Err(_)) = timeout(RETRY, leaders.changed()).await {
                        // The quorum has ended on this node; the broker will too.
                        sleep(RETRY).await;
                    }
                }
                decided => return decided,
            }
        }
    }

    async fn attempt<C: ControllerCall>(
        &self,
        leader: Option<&ActiveController>,
        request: &C,
    ) -> Result<C::Response, Refusal> {
        match leader {
            Some(leader) if leader.raft_id == self.controller.raft_id() => {
                self.controller.propose(request.clone()).await
            }
            Some(leader) => {
                let wire = request.to_wire();
                let call = self.call(leader, Purpose::Control, &wire, ATTEMPT_MAX);
                C::from_answer(call.await?)
            }
            None => Err(not_controller("no controller is known")),
        }
    }

    /// Sends one message to the node that is the controller.
    ///
    /// # Errors
    /// NOT_CONTROLLER if it can't be reached or does not answer.
    pub(super) async fn call<R: ApiRequest>(
        &self,
        leader: &ActiveController,
        purpose: Purpose,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, Refusal> {
        let (links, address) = self.way_to(leader)?;
        let call = links.call(&address, purpose, request, timeout);
        call.await.map_err(|error| no_word_of(leader, &error))
    }

    /// Sees to a connection to the node that is the controller.
    ///
    /// # Errors
    /// NOT_CONTROLLER if it can't be reached.
    pub(super) async fn connect(
        &self,
        leader: &ActiveController,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<(), Refusal> {
        let (links, address) = self.way_to(leader)?;
        let connected = links.connect(&address, purpose, timeout).await;
        connected.map_err(|error| no_word_of(leader, &error))?;
        Ok(())
    }

    fn way_to(&self, leader: &ActiveController) -> Result<(&PeerLinks, PeerAddress), Refusal> {
        let Some(links) = &self.links else {
            return Err(not_controller("this node has no way to others"));
        };
        let address = peer_address(&leader.address);
        Ok((links, address.map_err(|error| no_word_of(leader, &error))?))
    }

    /// Whether this node knows that it is the controller.
    pub(super) fn is_here(&self) -> bool {
        let leader = self.controller.leader();
        leader.is_some_and(|leader| leader.raft_id == self.controller.raft_id())
    }

    /// The controller, if it is another node.
    pub(super) fn elsewhere(&self) -> Option<ActiveController> {
        let leader = self.controller.leader();
        leader.filter(|leader| leader.raft_id != self.controller.raft_id())
    }
}

/// Whether another node may decide what this one did not.
fn is_elsewhere(refusal: &Refusal) -> bool {
    refusal.code == ErrorCode::NotController
}

fn no_word_of(leader: &ActiveController, error: &dyn Display) -> Refusal {
    not_controller(&format!("the controller at {}: {error}", leader.address))
}

fn not_controller(message: &str) -> Refusal {
    Refusal::new(ErrorCode::NotController, message)
}
