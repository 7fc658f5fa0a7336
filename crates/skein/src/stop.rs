//! A wish to stop: SIGTERM, or Ctrl-C.
//!
//! Input: signals. Output: something to wait for beside the work, so that the work ends in order.

use skein_env::real::termination_signal;
use skein_env::{Env, Lane};
use tokio::sync::watch;

use crate::output::warning;

/// Whether somebody wants the command to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Takes the signals from now on.
    pub(crate) fn listen(env: &Env) -> Self {
        let (sender, receiver) = watch::channel(false);
        let signal = async move {
            match termination_signal().await {
                Ok(_) => drop(sender.send(true)),
                // They end the process then, as they do without a handler.
                Err(error) => {
                    warning(&format!("signals are not handled: {error}"));
                    std::future::pending().await
                }
            }
        };
        env.spawn.spawn(Lane::Data, "signal", Box::pin(signal));
        Self(receiver)
    }

    /// Whether it is wanted by now.
    pub(crate) fn is_wanted(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when it is wanted. May be cancelled.
    pub(crate) async fn wanted(&mut self) {
        if self.0.wait_for(|is_wanted| *is_wanted).await.is_err() {
            std::future::pending().await
        }
    }
}
