//! What waits, and where.
//!
//! Input: the queues of a node, looked at when somebody asks. Output: their lengths.
//!
//! Invariant: looking holds a lock no longer than it takes to read a length.
//!
//! Source: none.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use skein_env::{Lane, Spawn};
use skein_quorum::Controller;

use crate::flusher::Flusher;

/// The queues of a node.
pub(crate) struct Queues {
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) controller: Controller,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) sealed_flusher: Arc<Flusher>,
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

impl Collector for Queues {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "What waits: work for the threads that may block, logs for a flush, requests \
                    for the controller";
        let mut metric =
            encoder.encode_descriptor("queue_length", help, None, MetricType::Gauge)?;
        for (queue, length) in [
            ("offload", self.spawn.queued(Lane::Data)),
            ("offload_control", self.spawn.queued(Lane::Control)),
            ("offload_background", self.spawn.queued(Lane::Background)),
            ("flush", self.flusher.waiting()),
            ("flush_sealed", self.sealed_flusher.waiting()),
            ("controller", self.controller.queued_requests()),
        ] {
            let length = ConstGauge::new(i64::try_from(length).unwrap_or(i64::MAX));
            length.encode(metric.encode_family(&[("queue", queue)])?)?;
        }
        Ok(())
    }
}
