//! The names in a query of Prometheus.
//!
//! Input: a query, and the table of metrics. Output: what it asks for and the table does not have.

use std::collections::BTreeSet;

use super::table::Row;

/// What the language itself knows, as far as our queries use it.
const WORDS: [&str; 17] = [
    "and",
    "by",
    "clamp_min",
    "for",
    "histogram_quantile",
    "increase",
    "label_values",
    "le",
    "max",
    "min",
    "min_over_time",
    "on",
    "or",
    "rate",
    "sum",
    "topk",
    "without",
];

/// Labels that Prometheus sets.
const SET_BY_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// What is wrong with a query; empty if nothing is.
pub(super) fn faults(query: &str, rows: &[Row], others: &[&str]) -> Vec<String> {
    let names = names(query);
    let named = |row: &&Row| row.samples().iter().any(|sample| names.contains(sample));
    let used: Vec<_> = rows.iter().filter(named).collect();
    let labels: BTreeSet<_> = used.iter().flat_map(|row| &row.labels).collect();
    let samples: BTreeSet<_> = used.iter().flat_map(|row| row.samples()).collect();
    let is_known = |name: &&String| {
        samples.contains(*name)
            || labels.contains(name)
            || WORDS.contains(&name.as_str())
            || SET_BY_PROMETHEUS.contains(&name.as_str())
            || others.contains(&name.as_str())
    };
    let unknown = names.iter().filter(|name| !is_known(name));
    let mut faults: Vec<_> = unknown.map(|name| format!("{name} in {query}")).collect();
    if used.is_empty() && !names.iter().any(|name| others.contains(&name.as_str())) {
        faults.push(format!("no metric in {query}"));
    }
    faults
}

/// Every word of a query that is no text, number, duration or variable of the dashboard.
fn names(query: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = query;
    while let Some(char) = rest.chars().next() {
        let length = match char {
            '"' => rest[1..].find('"').expect("an end of the text") + 2,
            '$' => 1 + word(&rest[1..]),
            '0'..='9' => number(rest),
            char if is_of_word(char) => {
                let length = word(rest);
                names.insert(rest[..length].to_owned());
                length
            }
            char => char.len_utf8(),
        };
        rest = &rest[length..];
    }
    names
}

fn is_of_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == ':'
}

fn word(text: &str) -> usize {
    text.find(|char| !is_of_word(char)).unwrap_or(text.len())
}

/// With a unit, as `5m`, or an exponent.
fn number(text: &str) -> usize {
    let is_of_number = |char: char| char.is_ascii_alphanumeric() || char == '.';
    text.find(|char| !is_of_number(char)).unwrap_or(text.len())
}

#[test]
fn names_that_the_table_lacks_are_found_in_a_query() {
    let row = |name: &str, kind: &str, label: &str| Row {
        name: name.to_owned(),
        kind: kind.to_owned(),
        labels: [label.to_owned()].into(),
        help: String::new(),
    };
    let rows = [
        row("skein_requests_total", "counter", "api"),
        row("skein_request_seconds", "histogram", "api"),
    ];
    let check = |query: &str| faults(query, &rows, &["up"]);
    for good in [
        "sum by (api) (rate(skein_requests_total{instance=~\"$instance\"}[$__rate_interval]))",
        "histogram_quantile(0.99, sum by (le) (rate(skein_request_seconds_bucket[5m]))) > 1e3",
        "up == 0",
    ] {
        assert_eq!(check(good), [""; 0], "{good}");
    }
    for bad in [
        "rate(skein_requests[5m])",
        "skein_request_seconds",
        "sum by (topic) (skein_requests_total)",
        "skein_requests_total{error=\"a b\"}",
        "1 + 1",
    ] {
        assert!(!check(bad).is_empty(), "{bad}");
    }
}
