//! How long something takes, counted without a lock.
//!
//! Input: durations. Output: how many there were below each of [`BUCKETS`] bounds, and their sum.
//!
//! ```text
//!   bound   20 µs   40 µs   80 µs  …  10.5 s    ∞
//!   bucket    0       1       2    …    19      20
//! ```
//!
//! Invariants, checked by the tests below:
//! - a duration is counted in the first bucket whose bound it does not pass;
//! - an observation is two atomic additions; buckets and sum are each exact, together they are no
//!   snapshot.
//!
//! Source: the OpenMetrics specification. `prometheus-client` has a histogram behind a mutex, which
//! all connections of a node would share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The first bound. Each further one is twice the one before.
const FIRST_BOUND_NANOSECONDS: u64 = 20_000;

/// How many bounds there are: up to about 10 s.
const BUCKETS: usize = 20;

/// Durations by their length. A clone counts in the same buckets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last one is for what passes every bound.
    buckets: [AtomicU64; BUCKETS + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// Counts `took`.
    pub(crate) fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = &self.inner.buckets[bucket_of(nanoseconds)];
        bucket.fetch_add(1, Ordering::Relaxed);
        self.inner
            .nanoseconds
            .fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

fn bucket_of(nanoseconds: u64) -> usize {
    // How often the first bound must be doubled until it is not passed.
    let bounds_passed = nanoseconds.saturating_sub(1) / FIRST_BOUND_NANOSECONDS;
    let doublings = u64::BITS - bounds_passed.leading_zeros();
    (doublings as usize).min(BUCKETS)
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let mut bound = Duration::from_nanos(FIRST_BOUND_NANOSECONDS).as_secs_f64();
        let mut buckets = [(f64::INFINITY, 0); BUCKETS + 1];
        let mut count = 0;
        for (number, (bucket, counted)) in buckets.iter_mut().zip(&self.inner.buckets).enumerate() {
            let counted = counted.load(Ordering::Relaxed);
            count += counted;
            if number < BUCKETS {
                bucket.0 = bound;
                bound *= 2.0;
            }
            bucket.1 = counted;
        }
        let sum = self.inner.nanoseconds.load(Ordering::Relaxed);
        let sum = Duration::from_nanos(sum).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let micros = |micros: u64| bucket_of(micros * 1_000);
        assert_eq!([bucket_of(0), bucket_of(1), micros(20)], [0; 3]);
        assert_eq!([bucket_of(20_001), micros(40)], [1; 2]);
        assert_eq!([bucket_of(40_001), micros(80)], [2; 2]);
        let last = 20_000 << (BUCKETS - 1);
        assert_eq!(bucket_of(last), BUCKETS - 1);
        assert_eq!([bucket_of(last + 1), bucket_of(u64::MAX)], [BUCKETS; 2]);
    }

    #[test]
    fn what_is_told_is_cumulative_and_counts_all() {
        let histogram = Histogram::default();
        let mut registry = Registry::default();
        registry.register("took_seconds", "How long", histogram.clone());
        for micros in [1, 30, 30, 100_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "took_seconds_bucket{le=\"0.00002\"} 1",
            "took_seconds_bucket{le=\"0.00004\"} 3",
            "took_seconds_bucket{le=\"10.48576\"} 3",
            "took_seconds_bucket{le=\"+Inf\"} 4",
            "took_seconds_sum 100.000061",
            "took_seconds_count 4",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in:\n{text}");
        }
    }
}
