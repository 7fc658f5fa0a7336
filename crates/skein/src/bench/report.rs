//! What a measurement came to.
//!
//! Input: a meter, facts of the client. Output: a few lines for people, a JSON object for programs.

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::bench::Place;
use crate::bench::meter::Meter;
use crate::failure::Failure;
use crate::output;

/// The quantiles that are told: name, key, value.
const QUANTILES: [(&str, &str, f64); 5] = [
    ("p50", "p50", 0.5),
    ("p90", "p90", 0.9),
    ("p99", "p99", 0.99),
    ("p99.9", "p99_9", 0.999),
    ("max", "max", 1.0),
];

/// What a measurement came to.
pub(super) struct Report {
    object: Map<String, Value>,
    lines: Vec<String>,
}

impl Report {
    pub(super) fn new(bench: &str, place: &Place, meter: &Meter) -> Self {
        let (records, mib) = meter.rates();
        let seconds = meter.seconds();
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| drop(object.insert(key.into(), value));
        put("bench", bench.into());
        put("topic", place.topic.as_str().into());
        put("is_scratch", place.is_scratch.into());
        put("records", meter.records.into());
        put("bytes", meter.bytes.into());
        put("seconds", rounded(seconds));
        put("records_per_second", rounded(records));
        put("mib_per_second", rounded(mib));
        let total = format!(
            "{} in {seconds:.2} s",
            output::count(meter.records, "record")
        );
        Self {
            object,
            lines: vec![format!("{total}: {records:.0} records/s, {mib:.2} MiB/s")],
        }
    }

    /// Latencies, under this name.
    pub(super) fn latencies(&mut self, key: &str, name: &str, meter: &Meter) {
        let mut object = Map::new();
        let mean = meter.latencies.mean() / 1000.0;
        object.insert("mean".into(), rounded(mean));
        let mut line = format!("{name:<12}mean {mean:.2}");
        for (name, key, quantile) in QUANTILES {
            let value = meter.quantile(quantile);
            object.insert(key.into(), rounded(value));
            line += &format!("  {name} {value:.2}");
        }
        self.object.insert(key.into(), object.into());
        self.lines.push(line + " ms");
    }

    /// A fact of the client, as a line and as an object.
    pub(super) fn fact(&mut self, key: &str, value: Value, line: String) {
        self.object.insert(key.into(), value);
        self.lines.push(line);
    }

    /// It was ended early.
    pub(super) fn interrupted(&mut self) {
        self.object.insert("interrupted".into(), true.into());
        self.lines
            .push("interrupted; this is what it came to".into());
    }

    pub(super) fn print(self, is_json: bool) -> Result<(), Failure> {
        let mut out = output::stdout();
        if is_json {
            return output::json(&mut out, &Value::Object(self.object));
        }
        for line in self.lines {
            writeln!(out, "{line}")?;
        }
        Ok(out.flush()?)
    }
}

/// Three digits behind the point are enough for anybody.
pub(super) fn rounded(number: f64) -> Value {
    json!((number * 1000.0).round() / 1000.0)
}
