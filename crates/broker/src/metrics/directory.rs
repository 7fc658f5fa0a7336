//! The state of the log directory, as `/metrics` tells it.
//!
//! Input: the directory, looked at when somebody asks. Output: gauges.
//!
//! Source: none.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use skein_storage::{DirectoryState, LogDirectory};

/// The log directory, read when it is asked for.
pub(super) struct Directory(pub(super) Arc<LogDirectory>);

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Directory").field(&self.0.path()).finish()
    }
}

impl Collector for Directory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let cold = self.0.cold_files();
        gauge(
            "cold_segment_files",
            "Open files of sealed segments",
            cold.descriptors as u64,
        )?;
        gauge(
            "cold_index_maps",
            "Mapped index files of sealed segments",
            cold.maps as u64,
        )?;
        let state = self.0.state();
        gauge(
            "log_directory_full",
            "1 while the log directory refuses records for want of space",
            u64::from(state == DirectoryState::Full),
        )?;
        gauge(
            "log_directory_offline",
            "1 from when the device of the log directory failed until the node restarts",
            u64::from(state == DirectoryState::Offline),
        )
    }
}
