//! Error codes in answers, by API.
//!
//! Input: responses, as they are encoded. Output: how often each code was told.
//!
//! Invariants:
//! - what is told is bounded by the APIs that are served and the codes that the protocol has;
//! - an answer without an error costs a comparison for each of its codes; a count is an atomic
//!   addition.
//!
//! Source: Kafka's `ErrorsPerSec`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use skein_protocol::{ApiKey, Message};
use skein_types::ErrorCode;

use crate::apis;

/// The counts, a row for each API that is served.
#[derive(Debug)]
pub(super) struct Errors {
    rows: Vec<(ApiKey, Vec<AtomicU64>)>,
}

impl Errors {
    pub(super) fn new() -> Self {
        let row = || ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            rows: apis::SERVED.iter().map(|(api, _)| (*api, row())).collect(),
        }
    }

    /// Counts the errors in an answer of `api`.
    pub(super) fn count<M: Message>(&self, api: ApiKey, response: &M) {
        response.error_codes(&mut |code| {
            if code != ErrorCode::None.code() {
                self.count_one(api, ErrorCode::from_code(code));
            }
        });
    }

    fn count_one(&self, api: ApiKey, code: ErrorCode) {
        let row = self.rows.iter().find(|(key, _)| *key == api);
        let at = ErrorCode::ALL.binary_search(&code);
        if let (Some((_, counts)), Ok(at)) = (row, at) {
            counts[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The counts, read when somebody asks.
#[derive(Debug)]
pub(super) struct ErrorsCollector(pub(super) Arc<Errors>);

impl Collector for ErrorsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Error codes in answers; one answer may carry many";
        let mut metric =
            encoder.encode_descriptor("request_errors", help, None, MetricType::Counter)?;
        for (api, counts) in &self.0.rows {
            for (code, count) in ErrorCode::ALL.iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = [("api", api.name()), ("error", code.name())];
                    ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skein_protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};

    use super::*;

    #[test]
    fn every_code_is_counted_wherever_it_stands_and_none_is_no_error() {
        let errors = Errors::new();
        let partition = |code: ErrorCode| PartitionData {
            error_code: code.code(),
            ..Default::default()
        };
        let response = FetchResponse {
            error_code: 9_999,
            responses: vec![FetchableTopicResponse {
                partitions: vec![
                    partition(ErrorCode::None),
                    partition(ErrorCode::OffsetOutOfRange),
                    partition(ErrorCode::OffsetOutOfRange),
                ],
                ..Default::default()
            }],
            ..Default::default()
        };
        errors.count(ApiKey::Fetch, &response);
        let counted: Vec<_> = errors
            .rows
            .iter()
            .flat_map(|(api, counts)| ErrorCode::ALL.iter().zip(counts).map(move |c| (*api, c)))
            .map(|(api, (code, count))| (api, *code, count.load(Ordering::Relaxed)))
            .filter(|(_, _, count)| *count > 0)
            .collect();
        let unknown = (ApiKey::Fetch, ErrorCode::UnknownServerError, 1);
        let out_of_range = (ApiKey::Fetch, ErrorCode::OffsetOutOfRange, 2);
        assert_eq!(counted, [unknown, out_of_range]);
    }

    #[test]
    fn codes_are_found_by_their_order() {
        assert!(ErrorCode::ALL.is_sorted());
    }
}
