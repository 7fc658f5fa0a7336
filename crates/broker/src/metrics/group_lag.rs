//! How far groups are behind, as `/metrics` tells it.
//!
//! Input: the last measurement of [`LagMeter`], the clock. Output: gauges by group and partition.
//!
//! Source: none.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use skein_env::Clock;

use crate::groups::LagMeter;

/// The last measurement, read when it is asked for.
pub(super) struct GroupLag {
    pub(super) meter: Arc<LagMeter>,
    pub(super) clock: Arc<dyn Clock>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    group: String,
    topic: String,
    partition: i32,
}

impl fmt::Debug for GroupLag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupLag").finish_non_exhaustive()
    }
}

impl Collector for GroupLag {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let lags = self.meter.last();
        // A record that waits goes on to grow older between two measurements.
        let now = self.clock.now();
        let rows = lags.rows.iter().map(|row| {
            let labels = Labels {
                group: row.group.as_str().to_owned(),
                topic: row.topic.as_str().to_owned(),
                partition: row.partition,
            };
            (labels, row)
        });
        let help = "Records that a group has not read yet";
        let mut records =
            encoder.encode_descriptor("group_lag_records", help, None, MetricType::Gauge)?;
        for (labels, row) in rows.clone() {
            ConstGauge::new(row.records).encode(records.encode_family(&labels)?)?;
        }
        let help = "Age of the first record that a group has not read yet";
        let mut seconds =
            encoder.encode_descriptor("group_lag_seconds", help, None, MetricType::Gauge)?;
        for (labels, row) in rows {
            let Some(behind) = row.behind(now) else {
                continue;
            };
            #[allow(clippy::cast_precision_loss, reason = "2^52 ms are 142,000 years")]
            let behind = behind.get() as f64 / 1000.0;
            ConstGauge::new(behind).encode(seconds.encode_family(&labels)?)?;
        }
        let help = "Partitions of groups whose lag is not told: too many, or led elsewhere";
        let left_out =
            encoder.encode_descriptor("group_lag_left_out", help, None, MetricType::Gauge)?;
        ConstGauge::new(lags.left_out).encode(left_out)
    }
}
