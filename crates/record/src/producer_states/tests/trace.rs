//! The same steps as Kafka 4.1.1 took, with the same answers.
//!
//! Input: `kafka_trace.txt`, steps chosen at random and what Kafka's classes said. Output:
//! agreement on every verdict, every ended transaction, every first unstable offset, and the
//! snapshots' bytes.

use super::*;

const TRACE: &str = include_str!("kafka_trace.txt");

/// The fewest answers of each kind that make the trace worth reading.
const ANSWERS_MIN: usize = 3;

fn numbers(words: &[&str]) -> Vec<i64> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

fn batch(table: &mut ProducerStates, step: &[i64]) -> String {
    let [id, epoch, sequence, count, is_transactional, timestamp] = *step else {
        panic!()
    };
    let (epoch, sequence) = (
        i16::try_from(epoch).unwrap(),
        i32::try_from(sequence).unwrap(),
    );
    let count = i32::try_from(count).unwrap();
    let mut header = header(id, epoch, sequence, count, is_transactional == 1);
    header.max_timestamp = Millis(timestamp);
    match verdict(table, &header) {
        Verdict::Append => {
            let _ = append(table, &header);
            "append".to_owned()
        }
        Verdict::Duplicate {
            base_offset,
            last_offset,
            timestamp,
        } => {
            format!("dup {base_offset} {last_offset} {timestamp}")
        }
        Verdict::Rejected(code) => format!("error {}", code.code()),
    }
}

fn end(table: &mut ProducerStates, step: &[i64]) -> String {
    let [id, epoch, coordinator_epoch, commit, timestamp] = *step else {
        panic!()
    };
    let (id, epoch) = (ProducerId(id), ProducerEpoch(i16::try_from(epoch).unwrap()));
    let coordinator_epoch = i32::try_from(coordinator_epoch).unwrap();
    if let Err(code) = table.check_marker(id, epoch, coordinator_epoch) {
        return format!("error {}", code.code());
    }
    let result = if commit == 1 {
        TxnResult::Commit
    } else {
        TxnResult::Abort
    };
    let (marker, offset) = (marker(result, coordinator_epoch), table.map_end_offset());
    let (_, completed) = table.reserve_marker(id, epoch, marker, offset, Millis(timestamp));
    match completed {
        Some(txn) => format!("append {} {}", txn.first_offset, txn.last_stable_offset),
        None => "append none".to_owned(),
    }
}

fn snapshot(table: &ProducerStates, end_offset: i64) -> String {
    assert_eq!(table.map_end_offset(), Offset(end_offset));
    table
        .snapshot()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn every_answer_is_kafkas() {
    let mut table = ProducerStates::default();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for (line, text) in (1..).zip(TRACE.lines()) {
        let Some((step, expected)) = text.split_once(" = ").filter(|_| !text.starts_with('#'))
        else {
            table = ProducerStates::default();
            continue;
        };
        let words: Vec<_> = step.split(' ').collect();
        let step = numbers(&words[1..]);
        let answer = match words[0] {
            "batch" => batch(&mut table, &step),
            "marker" => end(&mut table, &step),
            "high_watermark" => {
                table.on_high_watermark(Offset(step[0]));
                table
                    .first_unstable_offset()
                    .unwrap_or(Offset::NONE)
                    .to_string()
            }
            "snapshot" => snapshot(&table, step[0]),
            other => panic!("unknown step {other}"),
        };
        assert_eq!(answer, expected, "line {line}: {text}");
        table.check();
        let kind = expected.split(' ').next().unwrap();
        let kind = if kind == "error" { expected } else { kind };
        *answers.entry(format!("{} {kind}", words[0])).or_default() += 1;
    }
    for kind in ["append", "dup", "error 45", "error 47", "error 48"] {
        let count = answers
            .get(&format!("batch {kind}"))
            .copied()
            .unwrap_or_default();
        assert!(count >= ANSWERS_MIN, "{kind}: {count}");
    }
    for kind in ["append", "error 47", "error 52"] {
        let count = answers
            .get(&format!("marker {kind}"))
            .copied()
            .unwrap_or_default();
        assert!(count >= ANSWERS_MIN, "{kind}: {count}");
    }
}
