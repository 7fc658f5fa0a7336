//! Log lines for programs: a JSON object each.
//!
//! Input: an event. Output: a line with its time, level, target and message, and its other fields.
//!
//! ```text
//!   {"time":"2026-…Z","level":"ERROR","target":"skein_broker::tasks","message":"a flush failed",
//!    "fields":{"partition":"orders-3","error":"…: fdatasync failed: Input/output error"}}
//! ```
//!
//! Invariants, checked by the tests below:
//! - an event is one line, whatever its fields hold; numbers and booleans stay what they are;
//! - an error is told with its causes, each once: errors of this project name theirs in their own
//!   text, others may not.
//!
//! Source: none.

use std::error::Error;
use std::fmt;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The field that `tracing` keeps the text of an event in.
const MESSAGE: &str = "message";

/// Causes of an error that are told: a chain that ends nowhere must not fill the disk.
const CAUSES_MAX: usize = 16;

/// Writes events as JSON, a line each.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = json!({
            "time": time,
            "level": metadata.level().as_str(),
            "target": metadata.target(),
            MESSAGE: fields.message,
            "fields": fields.others,
        });
        writeln!(writer, "{line}")
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn keep(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            (MESSAGE, Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no number for what is not finite: null.
        self.keep(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.keep(field, chain(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}").into());
    }
}

/// An error and its causes, colons between. A cause that the text before it names is not repeated.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    for cause in causes.take(CAUSES_MAX) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;
    use crate::logs::LogFormat;
    use crate::logs::tests::Lines;

    #[derive(Debug, Error)]
    enum Failure {
        #[error("it is far away")]
        Root,
        #[error("the disk is slow: {0}")]
        Tells(#[source] Box<Failure>),
        #[error("cannot write")]
        Silent(#[source] Box<Failure>),
    }

    fn object(lines: &Lines) -> Value {
        let text = lines.take();
        assert_eq!(text.matches('\n').count(), 1, "one line: {text:?}");
        assert!(text.ends_with('\n'));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_event_is_one_line_that_has_all_of_it() {
        let lines = Lines::of(LogFormat::Json, "info");
        lines.log(|| {
            let topic = "two\nlines \"and\" \u{1b}[31mmore";
            tracing::info!(target: "skein_net::a", topic, bytes = 7_u64, lag = -1_i64, full = true,
                rate = f64::NAN, state = ?Some(1), "a {}\nb", 1);
        });
        let mut told = object(&lines);
        let time = told["time"].take();
        assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
        let fields = json!({
            "topic": "two\nlines \"and\" \u{1b}[31mmore",
            "bytes": 7, "lag": -1, "full": true, "rate": null, "state": "Some(1)",
        });
        let expected = json!({
            "time": null, "level": "INFO", "target": "skein_net::a", "message": "a 1\nb",
            "fields": fields,
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn an_error_is_told_with_its_causes_each_once() {
        let lines = Lines::of(LogFormat::Json, "info");
        let error = Failure::Silent(Box::new(Failure::Tells(Box::new(Failure::Root))));
        let error: &(dyn Error + 'static) = &error;
        lines.log(|| tracing::error!(error, "it failed"));
        let text = "cannot write: the disk is slow: it is far away";
        assert_eq!(object(&lines)["fields"]["error"], text);
    }
}
