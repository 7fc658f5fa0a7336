//! The clients of a run.
//!
//! Input: the plan, the node's address. Output: requests, and events of what came back.
//!
//! Each client is one task on a host of its own. It works until it is told to settle: then it
//! begins nothing new, but goes on until everything it has begun is answered.
//!
//! Invariant: what a client does depends on the plan, its own random numbers and what it is
//! answered.
//!
//! Source: none.

pub(crate) mod admin;
pub(crate) mod committer;
pub(crate) mod consumer;
pub(crate) mod fetch;
pub(crate) mod groups;
pub(crate) mod lister;
pub(crate) mod member;
pub(crate) mod producer;

use std::sync::Arc;
use std::time::Duration;

use skein_env::Env;
use skein_env::sim::SimRng;
use skein_protocol::Request;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::event::Stamp;
use crate::history::Actor;
use crate::plan::Plan;
use crate::wire::{Wire, malformed};
use crate::witness::Witness;

/// The longest pause of a client that could not reach the node, in milliseconds.
const BACK_OFF_MAX_MS: u64 = 100;

/// What every client has.
pub(crate) struct Client {
    pub(crate) actor: Actor,
    pub(crate) env: Env,
    pub(crate) rng: SimRng,
    pub(crate) plan: Arc<Plan>,
    pub(crate) witness: Arc<Witness>,
    /// Whether everything is to be settled.
    pub(crate) settle: watch::Receiver<bool>,
    wire: Option<Wire>,
}

impl Client {
    /// A client that has not connected yet.
    pub(crate) fn new(
        actor: Actor,
        env: Env,
        rng: SimRng,
        plan: Arc<Plan>,
        witness: Arc<Witness>,
        settle: watch::Receiver<bool>,
    ) -> Self {
        Self {
            actor,
            env,
            rng,
            plan,
            witness,
            settle,
            wire: None,
        }
    }

    /// Whether nothing new is to be begun.
    pub(crate) fn is_settling(&self) -> bool {
        *self.settle.borrow()
    }

    /// Takes the connection, made if there is none; `None` after a failure and a pause. Whoever has
    /// used it without an error gives it back.
    pub(crate) async fn take_wire(&mut self) -> Option<Wire> {
        if let Some(wire) = self.wire.take() {
            return Some(wire);
        }
        match Wire::open(&self.env).await {
            Ok(wire) => Some(wire),
            Err(_) => {
                self.back_off().await;
                None
            }
        }
    }

    /// Gives the connection back for the next request.
    pub(crate) fn give_back(&mut self, wire: Wire) {
        self.wire = Some(wire);
    }

    /// Closes the connection.
    pub(crate) fn hang_up(&mut self) {
        self.wire = None;
    }

    /// Sends one request and waits for its answer; `None` if there was none, after a pause.
    pub(crate) async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Option<(R::Response, Stamp)> {
        let mut wire = self.take_wire().await?;
        let asked = self.witness.ask();
        match wire.call(request, version).await {
            Ok(response) => {
                self.give_back(wire);
                Some((response, asked))
            }
            Err(error) => {
                self.lost(&error);
                self.back_off().await;
                None
            }
        }
    }

    /// The connection failed with `error`, which must be one that an honest node can cause.
    pub(crate) fn lost(&self, error: &std::io::Error) {
        if let Some(malformed) = malformed(error) {
            self.witness
                .accuse(self.actor, "well_formed", None, malformed.to_string());
        }
    }

    /// Waits a little before the next attempt.
    pub(crate) async fn back_off(&mut self) {
        let pause = self.rng.between(1, BACK_OFF_MAX_MS);
        sleep(Duration::from_millis(pause)).await;
    }

    /// Waits up to `max`.
    pub(crate) async fn pause(&mut self, max: Duration) {
        if !max.is_zero() {
            let most = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
            sleep(Duration::from_micros(self.rng.below(most + 1))).await;
        }
    }
}
