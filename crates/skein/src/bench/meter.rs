//! What is measured while it runs: counts, latencies, and how far it is.
//!
//! Input: records with their bytes and latencies. Output: a progress bar on a terminal, a line now
//! and then elsewhere; totals in the end.
//!
//! Invariant: its memory does not grow: a latency is a count in a histogram of three significant
//! digits.

use std::io::IsTerminal;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::notice;

/// Latencies are told up to here.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Significant digits of a latency.
const DIGITS: u8 = 3;
/// Between two looks of a person.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Between two lines where nobody looks.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0 * 1024.0;

/// What is measured while it runs.
pub(super) struct Meter {
    begin: Instant,
    end: Instant,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// In microseconds.
    pub(super) latencies: Histogram<u64>,
    progress: Progress,
    shown_at: Instant,
}

enum Progress {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Meter {
    /// Measures from now on, about `records`. `is_quiet`: nobody wants to know how far it is.
    pub(super) fn begin(records: Option<u64>, is_quiet: bool) -> Result<Self, Failure> {
        let latencies = Histogram::new_with_bounds(1, micros(LATENCY_MAX), DIGITS)
            .map_err(|error| Failure::failed(format!("no histogram: {error}")))?;
        let progress = if is_quiet {
            Progress::Nothing
        } else if std::io::stderr().is_terminal() {
            Progress::Bar(bar(records))
        } else {
            Progress::Lines
        };
        let now = Instant::now();
        Ok(Self {
            begin: now,
            end: now,
            records: 0,
            bytes: 0,
            latencies,
            progress,
            shown_at: now,
        })
    }

    /// So many records and bytes more.
    pub(super) fn count(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
        self.end = Instant::now();
        self.show();
    }

    /// How long one of them took.
    pub(super) fn time(&mut self, took: Duration) {
        self.latencies.saturating_record(micros(took).max(1));
    }

    /// From the begin to the last record.
    pub(super) fn seconds(&self) -> f64 {
        (self.end - self.begin).as_secs_f64()
    }

    /// Records and MiB in a second.
    pub(super) fn rates(&self) -> (f64, f64) {
        // Nothing takes no time.
        let seconds = self.seconds().max(1e-9);
        (
            as_f64(self.records) / seconds,
            as_f64(self.bytes) / MIB / seconds,
        )
    }

    /// A latency at a quantile, in milliseconds.
    pub(super) fn quantile(&self, quantile: f64) -> f64 {
        as_f64(self.latencies.value_at_quantile(quantile)) / 1000.0
    }

    fn show(&mut self) {
        let interval = match self.progress {
            Progress::Bar(_) => BAR_INTERVAL,
            Progress::Lines => LINE_INTERVAL,
            Progress::Nothing => return,
        };
        if self.end - self.shown_at < interval {
            return;
        }
        self.shown_at = self.end;
        let (records, mib) = self.rates();
        let mut text = format!("{records:.0} records/s, {mib:.1} MiB/s");
        if !self.latencies.is_empty() {
            text += &format!(", p99 {:.2} ms", self.quantile(0.99));
        }
        match &self.progress {
            Progress::Bar(bar) => {
                bar.set_position(self.records);
                bar.set_message(text);
            }
            Progress::Lines => notice(&format!("{} records, {text}", self.records)),
            Progress::Nothing => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Progress::Bar(bar) = &self.progress {
            bar.finish_and_clear();
        }
    }
}

fn bar(records: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(records, ProgressDrawTarget::stderr());
    let style = match records {
        Some(_) => ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}  {eta}"),
        None => ProgressStyle::with_template("{spinner} {pos} records  {msg}  {elapsed}"),
    };
    // The style is a constant; the default one is no failure either.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Counts for people need no more than 53 bits.
#[allow(
    clippy::cast_precision_loss,
    reason = "rates are told with three digits"
)]
pub(super) fn as_f64(number: u64) -> f64 {
    number as f64
}
