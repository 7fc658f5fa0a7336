//! How often and when something is tried again.
//!
//! Input: the errors of attempts. Output: a pause, or the error that ends the trying.
//!
//! Invariants: the pause doubles up to its maximum and is spread by ±20 %, so that clients that
//! failed together don't come back together; past the deadline nothing is tried.
//!
//! Source: KIP-580 (exponential backoff).

use std::time::Duration;

use skein_env::Env;
use tokio::time::Instant;

use crate::error::ClientError;
use crate::options::ClientOptions;

/// Doublings after which the pause is at its maximum in any case; keeps the shift in range.
const DOUBLINGS_MAX: u32 = 20;

/// How long to pause after so many failures in a row; the first one is 1.
pub(crate) fn backoff(options: &ClientOptions, env: &Env, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    let pause = options.retry_backoff.saturating_mul(1 << doublings);
    let pause = pause.min(options.retry_backoff_max);
    // 800 to 1200 thousandths.
    let spread = 800 + u32::try_from(env.rng.next_u64() % 401).unwrap_or(200);
    pause.saturating_mul(spread) / 1000
}

/// Since when something that is asked for is not there.
#[derive(Debug, Default)]
pub(crate) struct Absence {
    since: Option<Instant>,
}

impl Absence {
    /// Takes note that it is not there, and why; or that it is.
    ///
    /// # Errors
    /// `why`, when it has been absent for `absence_max`.
    pub(crate) fn check(
        &mut self,
        why: Option<ClientError>,
        absence_max: Option<Duration>,
    ) -> Result<(), ClientError> {
        let Some(why) = why else {
            self.since = None;
            return Ok(());
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        match absence_max {
            Some(max) if since.elapsed() >= max => Err(why),
            _ => Ok(()),
        }
    }
}

/// One operation and its attempts.
pub(crate) struct Retry<'a> {
    env: &'a Env,
    options: &'a ClientOptions,
    subject: String,
    timeout: Duration,
    deadline: Instant,
    failures: u32,
}

impl<'a> Retry<'a> {
    pub(crate) fn new(
        env: &'a Env,
        options: &'a ClientOptions,
        subject: impl Into<String>,
    ) -> Self {
        Self::within(env, options, subject, options.api_timeout)
    }

    pub(crate) fn within(
        env: &'a Env,
        options: &'a ClientOptions,
        subject: impl Into<String>,
        timeout: Duration,
    ) -> Self {
        Self {
            env,
            options,
            subject: subject.into(),
            timeout,
            deadline: Instant::now() + timeout,
            failures: 0,
        }
    }

    /// Pauses before the next attempt.
    ///
    /// # Errors
    /// `error` itself if it is final; [`ClientError::TimedOut`] if the pause would pass the
    /// deadline.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retriable() {
            return Err(error);
        }
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.options, self.env, self.failures);
        if Instant::now() + pause > self.deadline {
            return Err(ClientError::TimedOut {
                subject: std::mem::take(&mut self.subject),
                timeout: self.timeout,
                last: Some(Box::new(error)),
            });
        }
        tracing::debug!(subject = self.subject, %error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
