//! What was sent of a log file and is not acknowledged yet, and how far all of it is.
//!
//! Input: lines that were sent, in order, each with the place behind it. Output: the state file,
//! which never names a place before which a line is not acknowledged; warnings when nothing is
//! acknowledged for long.
//!
//! Invariants:
//! - acknowledgements are counted in the order of the lines, whatever partition they are from;
//! - a line that cannot be written at all is an error, and the place before it stays.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use skein_client::{Delivery, Producer};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output;
use crate::produce::follow::files::Place;
use crate::produce::follow::state::StateFile;
use crate::produce::summary::Summary;
use crate::reminder::Reminder;

/// Lines on their way, at most; beside the producer's own limit of memory.
pub(crate) const SENT_MAX: usize = 100_000;
/// How often a place is kept at most: it costs two flushes.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long it is waited for acknowledgements before a person is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was sent of a log file and is not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Ledger {
    state: StateFile,
    pub(crate) summary: Summary,
    sent: VecDeque<Sent>,
    reached: Option<Place>,
    kept: Option<Place>,
    keep_at: Instant,
    /// Since when nothing was acknowledged, though something is on its way.
    stuck_since: Instant,
    reminder: Reminder,
}

#[derive(Debug)]
struct Sent {
    /// `None` for a line that is left out.
    delivery: Option<Delivery>,
    /// Behind the line.
    place: Place,
}

impl Ledger {
    pub(crate) fn new(state: StateFile, kept: Option<Place>, summary: Summary) -> Self {
        Self {
            state,
            summary,
            sent: VecDeque::new(),
            reached: kept,
            kept,
            keep_at: Instant::now(),
            stuck_since: Instant::now(),
            reminder: Reminder::new(PATIENCE),
        }
    }

    /// Everything before this place is done: that is where the first run begins.
    pub(crate) fn begin(&mut self, place: Place) -> Result<(), Failure> {
        if self.reached.is_none() {
            self.reached = Some(place);
            self.keep()?;
        }
        Ok(())
    }

    /// A line was sent, or left out.
    pub(crate) fn push(&mut self, delivery: Option<Delivery>, place: Place) {
        if self.sent.is_empty() {
            self.stuck_since = Instant::now();
        }
        self.sent.push_back(Sent { delivery, place });
    }

    /// Lines without an acknowledgement.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.sent.len()
    }

    /// The place in the state file.
    pub(crate) fn kept(&self) -> Option<Place> {
        self.kept
    }

    /// Up to where all is acknowledged.
    pub(crate) fn position(&self) -> Option<u64> {
        self.reached.map(|place| place.position)
    }

    /// Counts what is acknowledged by now, and keeps the place if it is time.
    pub(crate) async fn settle(&mut self) -> Result<(), Failure> {
        let is_settled = |sent: &Sent| sent.delivery.as_ref().is_none_or(Delivery::is_settled);
        let mut has_settled = false;
        while let Some(Sent { delivery, place }) = self.sent.pop_front_if(|sent| is_settled(sent)) {
            has_settled = true;
            if let Some(delivery) = delivery {
                let written = delivery.wait().await;
                let written = written.map_err(|error| self.summary.failed(error))?;
                self.summary.add(&written)?;
            }
            self.reached = Some(place);
        }
        let now = Instant::now();
        if has_settled {
            if let Some(waited) = self.reminder.calm() {
                let waited = waited.as_secs();
                output::notice(&format!("records are acknowledged again, after {waited} s"));
            }
            self.stuck_since = now;
        }
        if self.reached != self.kept && now >= self.keep_at {
            self.keep()?;
        }
        Ok(())
    }

    /// Keeps the place that was reached.
    pub(crate) fn keep(&mut self) -> Result<(), Failure> {
        if let Some(place) = self.reached.filter(|_| self.reached != self.kept) {
            self.state.save(place)?;
            self.kept = Some(place);
            self.keep_at = Instant::now() + KEEP_INTERVAL;
        }
        Ok(())
    }

    /// Waits until all is acknowledged.
    pub(crate) async fn settle_all(&mut self) -> Result<(), Failure> {
        while let Some(front) = self.sent.front_mut() {
            if let Some(delivery) = &mut front.delivery {
                delivery.settled().await;
            }
            self.settle().await?;
        }
        Ok(())
    }

    /// Counts acknowledgements, keeps places and warns, as long as it is polled. May be cancelled.
    pub(crate) async fn tend(&mut self, producer: &Producer) -> Result<Infallible, Failure> {
        loop {
            self.tend_once(producer).await?;
        }
    }

    /// The same until there is room for another line.
    pub(crate) async fn make_room(&mut self, producer: &Producer) -> Result<(), Failure> {
        while self.sent.len() >= SENT_MAX {
            self.tend_once(producer).await?;
        }
        Ok(())
    }

    async fn tend_once(&mut self, producer: &Producer) -> Result<(), Failure> {
        self.warn(producer);
        let next = self.next_duty();
        let acknowledged = async {
            match self.sent.front_mut() {
                Some(Sent {
                    delivery: Some(delivery),
                    ..
                }) => delivery.settled().await,
                Some(_) => {}
                None => std::future::pending().await,
            }
        };
        match next {
            None => acknowledged.await,
            // Its end is the time of the next duty.
            Some(next) => drop(tokio::time::timeout_at(next, acknowledged).await),
        }
        self.settle().await
    }

    /// When there is something to do even if nothing is acknowledged.
    fn next_duty(&self) -> Option<Instant> {
        let keep = (self.reached != self.kept).then_some(self.keep_at);
        let is_waiting = !self.sent.is_empty();
        let warn = is_waiting.then(|| self.stuck_since + self.reminder.next());
        keep.into_iter().chain(warn).min()
    }

    fn warn(&mut self, producer: &Producer) {
        if self.sent.is_empty() || !self.reminder.is_due(self.stuck_since.elapsed()) {
            return;
        }
        let lines = output::count(self.sent.len() as u64, "line");
        let waited = self.stuck_since.elapsed().as_secs();
        let why = producer
            .last_failure()
            .map_or_else(String::new, |error| format!(": {error}"));
        output::warning(&format!(
            "nothing was acknowledged for {waited} s ({lines} on the way); trying on{why}"
        ));
    }
}
