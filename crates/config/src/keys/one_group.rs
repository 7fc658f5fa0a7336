//! Keys that single groups have in the place of their broker's settings.
//!
//! Input: nothing. Output: rows of the table.
//!
//! A consumer group's values lie within the limits of `group.consumer.min.*` and
//! `group.consumer.max.*` of the broker (`alter.rs`). Share and streams groups have no settings of
//! the broker here, so that Kafka's default limits stand in their rows.
//!
//! Invariant, checked by the tests of [`crate::keys`]: see there.

use crate::key::ConfigType::{Int, String};
use crate::key::{INT_MAX, Key, Synonym};

pub(super) const KEYS: &[Key] = &[
    Key::group("consumer.session.timeout.ms", Int)
        .default("45000")
        .between(1, INT_MAX)
        .synonyms(&[Synonym {
            name: "group.consumer.session.timeout.ms",
            factor: 1,
        }])
        .not_yet()
        .doc("After how long without a heartbeat a member of the consumer group is gone."),
    Key::group("consumer.heartbeat.interval.ms", Int)
        .default("5000")
        .between(1, INT_MAX)
        .synonyms(&[Synonym {
            name: "group.consumer.heartbeat.interval.ms",
            factor: 1,
        }])
        .not_yet()
        .doc("How often members of the consumer group send a heartbeat."),
    Key::group("share.session.timeout.ms", Int)
        .default("45000")
        .between(45_000, 60_000)
        .not_yet()
        .doc("After how long without a heartbeat a member of the share group is gone."),
    Key::group("share.heartbeat.interval.ms", Int)
        .default("5000")
        .between(5_000, 15_000)
        .not_yet()
        .doc("How often members of the share group send a heartbeat."),
    Key::group("share.record.lock.duration.ms", Int)
        .default("30000")
        .between(15_000, 60_000)
        .not_yet()
        .doc("How long a member of the share group keeps a record for itself."),
    Key::group("share.auto.offset.reset", String)
        .default("latest")
        .form(
            "latest, earliest or by_duration:<ISO 8601 duration>",
            is_offset_reset,
        )
        .not_yet()
        .doc("Where the share group begins to read a partition."),
    Key::group("share.isolation.level", String)
        .default("read_uncommitted")
        .one_of(&["read_committed", "read_uncommitted"])
        .not_yet()
        .doc("Whether the share group reads records of transactions that did not commit."),
    Key::group("streams.session.timeout.ms", Int)
        .default("45000")
        .between(45_000, 60_000)
        .not_yet()
        .doc("After how long without a heartbeat a member of the streams group is gone."),
    Key::group("streams.heartbeat.interval.ms", Int)
        .default("5000")
        .between(5_000, 15_000)
        .not_yet()
        .doc("How often members of the streams group send a heartbeat."),
    Key::group("streams.num.standby.replicas", Int)
        .default("0")
        .between(0, 2)
        .not_yet()
        .doc("How many replicas of each task's state the streams group keeps beside the task."),
];

fn is_offset_reset(text: &str) -> bool {
    matches!(text, "latest" | "earliest")
        || text.strip_prefix("by_duration:").is_some_and(is_duration)
}

/// Whether the text is a duration of ISO 8601 in days, hours, minutes and seconds: P1DT12H0.5S.
fn is_duration(text: &str) -> bool {
    let Some(parts) = text.strip_prefix('P') else {
        return false;
    };
    let (days, time) = match parts.split_once('T') {
        Some((_, "")) => return false,
        Some((days, time)) => (days, time),
        None => (parts, ""),
    };
    !parts.is_empty() && has_units(days, "D") && has_units(time, "HMS")
}

/// Whether the text is numbers, each with one of the units behind it, in their order.
fn has_units(mut text: &str, mut units: &str) -> bool {
    while let Some(end) = text.find(|c: char| !c.is_ascii_digit() && c != '.') {
        let (number, behind) = text.split_at(end);
        let Some(unit) = behind.get(..1) else {
            return false;
        };
        let is_number = match number.split_once('.') {
            Some((whole, _)) => unit == "S" && !whole.is_empty(),
            None => !number.is_empty(),
        };
        let Some((_, smaller)) = units.split_once(unit).filter(|_| is_number) else {
            return false;
        };
        (text, units) = (&behind[1..], smaller);
    }
    text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_group_begins_at_an_end_or_some_time_ago() {
        for reset in ["latest", "earliest", "P1D", "PT1H", "P2DT3H4M5.5S", "PT0S"] {
            let by_duration = format!("by_duration:{reset}");
            assert!(
                is_offset_reset(reset) != is_offset_reset(&by_duration),
                "{reset}"
            );
        }
        for wrong in [
            "",
            "P",
            "PT",
            "1D",
            "P1",
            "P1H",
            "PT1D",
            "P1DT",
            "PT1S1H",
            "P-1D",
            "PT.5S",
            "P1.5D",
            "PT1\u{e4}",
            "P1DT1H1H",
        ] {
            assert!(
                !is_offset_reset(&format!("by_duration:{wrong}")),
                "{wrong:?}"
            );
        }
    }
}
