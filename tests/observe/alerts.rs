//! The alert rules, against the table of metrics and the notes for operators.
//!
//! Input: `config/alerts.yml`, with each expression on one line. Output: every expression uses only
//! metrics of the table, every alert has a summary and a section of its own in the notes, and no
//! section is of an alert that there is not.

use std::collections::BTreeSet;

use super::{config, queries, table};

/// What Prometheus itself knows of a target.
const OF_PROMETHEUS: [&str; 1] = ["up"];

#[test]
fn every_alert_is_of_documented_metrics_and_explained() {
    let alerts = alerts();
    let rows = table::rows();
    let faults: Vec<_> = alerts
        .iter()
        .flat_map(|alert| queries::faults(&alert.expression, &rows, &OF_PROMETHEUS))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    let notes = config("OPERATIONS.md");
    let explained = notes
        .lines()
        .filter_map(|line| line.strip_prefix("### Skein"));
    let explained: BTreeSet<_> = explained.map(|rest| format!("Skein{rest}")).collect();
    let explained: BTreeSet<_> = explained.iter().map(String::as_str).collect();
    assert_eq!(names, explained, "alerts, and what OPERATIONS.md explains");
}

struct Alert {
    name: String,
    expression: String,
}

fn alerts() -> Vec<Alert> {
    let text = config("alerts.yml");
    let mut found: Vec<Alert> = Vec::new();
    let mut summaries = 0;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            found.push(Alert {
                name: name.to_owned(),
                expression: String::new(),
            });
        } else if let (Some(expression), Some(alert)) =
            (line.strip_prefix("expr: "), found.last_mut())
        {
            alert.expression = expression.to_owned();
        } else if line.starts_with("summary: ") {
            summaries += 1;
        }
    }
    assert!(!found.is_empty(), "no alert in config/alerts.yml");
    assert_eq!(summaries, found.len(), "each alert says what it is");
    found
}
