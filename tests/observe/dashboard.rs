//! The dashboard, against the table of metrics.
//!
//! Input: `config/grafana-dashboard.json`. Output: every query of it uses only metrics and labels
//! of the table.

use serde_json::Value;

use super::{config, queries, table};

/// The dashboard has at least so many queries: a search that finds none checks nothing.
const QUERIES_MIN: usize = 20;

#[test]
fn every_query_of_the_dashboard_is_of_documented_metrics() {
    let dashboard: Value = serde_json::from_str(&config("grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    assert!(found.len() >= QUERIES_MIN, "{} queries", found.len());
    let rows = table::rows();
    let faults: Vec<_> = found
        .iter()
        .flat_map(|query| queries::faults(query, &rows, &[]))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_lie_upon_each_other() {
    let dashboard: Value = serde_json::from_str(&config("grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64());
    let places: Vec<_> = panels
        .iter()
        .map(|panel| place(panel).map(|number| number.expect("a place")))
        .collect();
    for (at, panel) in panels.iter().enumerate() {
        let [x, y, w, h] = places[at];
        assert!(x + w <= 24, "{}", panel["title"]);
        for (other, [x2, y2, w2, h2]) in places.iter().enumerate().skip(at + 1) {
            let apart = x + w <= *x2 || x2 + w2 <= x || y + h <= *y2 || y2 + h2 <= y;
            assert!(apart, "{} and {}", panel["title"], panels[other]["title"]);
            assert_ne!(panel["id"], panels[other]["id"]);
        }
    }
}

/// Queries of panels, and those that fill the choices at the top.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "expr" || key == "definition" => {
                        found.push(text.clone());
                    }
                    value => collect(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
