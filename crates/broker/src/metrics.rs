//! What a node counts, for `/metrics`.
//!
//! Input: events from all parts. Output: the OpenMetrics text.
//!
//! Invariant: the names are those of [`Metrics::register`] and nowhere else; a count costs an
//! atomic addition, found without a lock.
//!
//! Source: the OpenMetrics specification, through `prometheus-client`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use skein_env::Clock;
use skein_net::{Budget, Counters};
use skein_protocol::{ApiKey, Message};
use skein_storage::LogDirectory;

use crate::apis;
use crate::groups::LagMeter;

mod directory;
mod errors;
mod group_lag;
mod histogram;
mod queues;
mod topics;

use errors::{Errors, ErrorsCollector};
use histogram::Histogram;
pub(crate) use queues::Queues;
pub(crate) use topics::TopicCounts;
use topics::{Topics, TopicsCollector};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

/// The counts of one API.
struct ApiMetrics {
    requests: Counter,
    seconds: Histogram,
}

/// Everything that a node counts beside its connections.
pub(crate) struct Metrics {
    registry: Registry,
    apis: Vec<(ApiKey, ApiMetrics)>,
    errors: Arc<Errors>,
    /// What goes into topics and out of them.
    pub(crate) topics: Arc<Topics>,
    /// Fetches that wait for data.
    pub(crate) fetches_waiting: Gauge,
    /// Partitions whose storage has failed.
    pub(crate) replicas_offline: Gauge,
    /// Partitions whose logs are open.
    pub(crate) replicas_open: Gauge,
    /// Batches appended.
    pub(crate) batches_appended: Counter,
    /// Bytes appended to logs.
    pub(crate) appended_bytes: Counter,
    /// Writes: one may carry many batches.
    pub(crate) writes: Counter,
    /// Writes that ran on the offload pool.
    pub(crate) writes_offloaded: Counter,
    /// Time of a write.
    pub(crate) write_seconds: Histogram,
    /// Time of a round of flushes.
    pub(crate) flush_seconds: Histogram,
    /// Fetches served from the page cache.
    pub(crate) fetches_hot: Counter,
    /// Fetches that went to the offload pool.
    pub(crate) fetches_cold: Counter,
    /// Batches that fetches have looked up by an offset.
    pub(crate) fetch_lookups: Counter,
    /// Bytes of logs that these lookups walked over.
    pub(crate) fetch_scanned_bytes: Counter,
    /// Compactions that came forward.
    pub(crate) compactions: Counter,
    /// Logs that are being compacted.
    pub(crate) compactions_running: Gauge,
    /// Bytes that compactions read and wrote.
    pub(crate) compaction_io_bytes: Counter,
    /// Bytes that logs have become shorter by.
    pub(crate) compaction_reclaimed_bytes: Counter,
    /// Partitions that cannot be compacted.
    pub(crate) uncleanable_partitions: Gauge,
    /// Partitions whose groups cannot be served.
    pub(crate) unloaded_group_partitions: Gauge,
    /// Logs that were opened.
    pub(crate) logs_opened: Counter,
    /// Segments that were walked over to find the end of their log.
    pub(crate) recovery_scanned_segments: Counter,
    /// Bytes of batches that were walked over then.
    pub(crate) recovery_scanned_bytes: Counter,
    /// Record batches that the broker unpacked and packed again.
    pub(crate) batches_reencoded: Counter,
    /// Record batches that the broker has read to leave redacted records out of an answer.
    pub(crate) batches_redacted: Counter,
    /// Record batches that the broker decompressed.
    pub(crate) decompressions: Counter,
}

impl Metrics {
    /// All metrics of a node, at zero.
    pub(crate) fn new(counters: Arc<Counters>, budgets: [Budget; 2]) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("skein"),
            apis: Vec::new(),
            errors: Arc::new(Errors::new()),
            topics: Arc::default(),
            fetches_waiting: Gauge::default(),
            replicas_offline: Gauge::default(),
            replicas_open: Gauge::default(),
            batches_appended: Counter::default(),
            appended_bytes: Counter::default(),
            writes: Counter::default(),
            writes_offloaded: Counter::default(),
            write_seconds: Histogram::default(),
            flush_seconds: Histogram::default(),
            fetches_hot: Counter::default(),
            fetches_cold: Counter::default(),
            fetch_lookups: Counter::default(),
            fetch_scanned_bytes: Counter::default(),
            compactions: Counter::default(),
            compactions_running: Gauge::default(),
            compaction_io_bytes: Counter::default(),
            compaction_reclaimed_bytes: Counter::default(),
            uncleanable_partitions: Gauge::default(),
            unloaded_group_partitions: Gauge::default(),
            logs_opened: Counter::default(),
            recovery_scanned_segments: Counter::default(),
            recovery_scanned_bytes: Counter::default(),
            batches_reencoded: Counter::default(),
            batches_redacted: Counter::default(),
            decompressions: Counter::default(),
        };
        metrics.register();
        metrics.register_compaction();
        metrics.register_recovery();
        metrics.register_apis();
        let collectors: [Box<dyn Collector>; 3] = [
            Box::new(ErrorsCollector(Arc::clone(&metrics.errors))),
            Box::new(TopicsCollector(Arc::clone(&metrics.topics))),
            Box::new(Connections { counters, budgets }),
        ];
        for collector in collectors {
            metrics.registry.register_collector(collector);
        }
        metrics
    }

    /// Tells of the log directory and of the node's queues too.
    pub(crate) fn observe(&mut self, directory: Arc<LogDirectory>, queues: Queues) {
        let directory = directory::Directory(directory);
        self.registry.register_collector(Box::new(directory));
        self.registry.register_collector(Box::new(queues));
    }

    /// Tells how far groups are behind too.
    pub(crate) fn observe_groups(&mut self, meter: &Arc<LagMeter>, clock: &Arc<dyn Clock>) {
        let (meter, clock) = (Arc::clone(meter), Arc::clone(clock));
        let lag = group_lag::GroupLag { meter, clock };
        self.registry.register_collector(Box::new(lag));
    }

    /// A request was answered, or appended where there is no answer.
    pub(crate) fn request(&self, api: ApiKey, took: Duration) {
        if let Some((_, metrics)) = self.apis.iter().find(|(key, _)| *key == api) {
            metrics.requests.inc();
            metrics.seconds.observe(took);
        }
    }

    /// An answer of `api` is being encoded.
    pub(crate) fn errors_in<M: Message>(&self, api: ApiKey, response: &M) {
        self.errors.count(api, response);
    }

    /// The text that `/metrics` serves.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let open = self.replicas_open.clone();
        registry.register("replicas_open", "Partitions whose logs are open", open);
        let offline = self.replicas_offline.clone();
        registry.register(
            "replicas_offline",
            "Partitions whose storage has failed",
            offline,
        );
        let batches = self.batches_appended.clone();
        registry.register("batches_appended", "Record batches appended", batches);
        let bytes = self.appended_bytes.clone();
        registry.register("appended_bytes", "Bytes of record batches appended", bytes);
        let writes = self.writes.clone();
        registry.register(
            "writes",
            "Writes to segment files; one takes many batches",
            writes,
        );
        let offloaded = self.writes_offloaded.clone();
        registry.register("writes_offloaded", "Writes on the offload pool", offloaded);
        let seconds = self.write_seconds.clone();
        registry.register(
            "write_seconds",
            "Time of a write to a segment file",
            seconds,
        );
        let seconds = self.flush_seconds.clone();
        registry.register("flush_seconds", "Time of a round of group flushes", seconds);
        let hot = self.fetches_hot.clone();
        registry.register("fetches_hot", "Fetches read from the page cache", hot);
        let cold = self.fetches_cold.clone();
        registry.register("fetches_cold", "Fetches read by the offload pool", cold);
        let lookups = self.fetch_lookups.clone();
        let help = "Batches that fetches have looked up by an offset";
        registry.register("fetch_lookups", help, lookups);
        let bytes = self.fetch_scanned_bytes.clone();
        registry.register(
            "fetch_scanned_bytes",
            "Bytes of logs that lookups of fetches walked over",
            bytes,
        );
        let waiting = self.fetches_waiting.clone();
        registry.register("fetches_waiting", "Fetches that wait for data", waiting);
        let reencoded = self.batches_reencoded.clone();
        registry.register(
            "batches_reencoded",
            "Batches packed anew by the broker",
            reencoded,
        );
        let redacted = self.batches_redacted.clone();
        registry.register(
            "batches_redacted",
            "Batches read to leave redacted records out of an answer",
            redacted,
        );
        let decompressions = self.decompressions.clone();
        registry.register(
            "broker_decompressions",
            "Batches decompressed by the broker",
            decompressions,
        );
    }

    fn register_compaction(&mut self) {
        let registry = &mut self.registry;
        let compactions = self.compactions.clone();
        registry.register("compactions", "Compactions of logs", compactions);
        let running = self.compactions_running.clone();
        let help = "Logs that are being compacted";
        registry.register("compactions_running", help, running);
        let bytes = self.compaction_io_bytes.clone();
        registry.register(
            "compaction_io_bytes",
            "Bytes that compactions read and wrote",
            bytes,
        );
        let bytes = self.compaction_reclaimed_bytes.clone();
        registry.register(
            "compaction_reclaimed_bytes",
            "Bytes that compactions took out of logs",
            bytes,
        );
        let uncleanable = self.uncleanable_partitions.clone();
        registry.register(
            "uncleanable_partitions",
            "Partitions that cannot be compacted until the node restarts",
            uncleanable,
        );
    }

    fn register_recovery(&mut self) {
        let registry = &mut self.registry;
        let unloaded = self.unloaded_group_partitions.clone();
        registry.register(
            "unloaded_group_partitions",
            "Partitions of __consumer_offsets that cannot be read, so that their groups wait",
            unloaded,
        );
        let opened = self.logs_opened.clone();
        registry.register("logs_opened", "Logs opened", opened);
        let segments = self.recovery_scanned_segments.clone();
        registry.register(
            "recovery_scanned_segments",
            "Segments that were walked over to find the ends of logs",
            segments,
        );
        let bytes = self.recovery_scanned_bytes.clone();
        registry.register(
            "recovery_scanned_bytes",
            "Bytes of batches that were walked over to find the ends of logs",
            bytes,
        );
    }

    fn register_apis(&mut self) {
        let requests = Family::<ApiLabel, Counter>::default();
        let latency = Family::<ApiLabel, Histogram>::default();
        for (api, _) in apis::SERVED {
            let label = ApiLabel { api: api.name() };
            let metrics = ApiMetrics {
                requests: requests.get_or_create(&label).clone(),
                seconds: latency.get_or_create(&label).clone(),
            };
            self.apis.push((*api, metrics));
        }
        self.registry
            .register("requests", "Requests answered", requests);
        let help = "Time from a request's first byte to its answer";
        self.registry.register("request_seconds", help, latency);
    }
}

/// The connections' totals, read when they are asked for.
#[derive(Debug)]
struct Connections {
    counters: Arc<Counters>,
    budgets: [Budget; 2],
}

impl Collector for Connections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = &self.counters;
        let mut gauge = |name: &str, help: &str, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let open = Counters::read(&counters.connections);
        gauge("connections", "Open client connections", open)?;
        let in_flight = self.budgets.iter().map(Budget::in_flight_bytes);
        let in_flight = in_flight.sum::<usize>() as u64;
        gauge(
            "in_flight_bytes",
            "Bytes of requests being received or written",
            in_flight,
        )?;
        let mut counter = |name: &str, help: &str, value: &AtomicU64| {
            let counter = ConstCounter::new(Counters::read(value));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)
        };
        let accepted = &counters.connections_accepted;
        counter("connections_accepted", "Connections accepted", accepted)?;
        let refused = &counters.connections_refused;
        counter(
            "connections_refused",
            "Connections refused at a limit",
            refused,
        )?;
        counter(
            "received_bytes",
            "Bytes read from sockets",
            &counters.received_bytes,
        )?;
        counter(
            "sent_bytes",
            "Bytes written to sockets",
            &counters.sent_bytes,
        )?;
        let by_sendfile = &counters.sent_file_bytes;
        counter(
            "sent_file_bytes",
            "Bytes sent from files by the kernel",
            by_sendfile,
        )?;
        let moved = &counters.moved_bytes;
        counter(
            "moved_bytes",
            "Received bytes moved to another buffer",
            moved,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_api_is_counted_and_the_text_ends_as_it_must() {
        let metrics = Metrics::new(Arc::default(), [Budget::new(10), Budget::new(10)]);
        for (api, _) in apis::SERVED {
            metrics.request(*api, Duration::from_millis(3));
        }
        let text = metrics.encode();
        for (api, _) in apis::SERVED {
            let line = format!("skein_requests_total{{api=\"{}\"}} 1", api.name());
            assert!(text.contains(&line), "{line} in:\n{text}");
        }
        assert!(text.contains("skein_connections 0"));
        assert!(text.ends_with("# EOF\n"));
    }
}
