//! How a record is printed: `--format`.
//!
//! Input: a template such as `{offset}\t{key}={value}\n`, a record. Output: bytes.
//!
//! Invariant: keys and values are printed as the bytes they are; what is not there prints nothing.

use std::io;
use std::io::Write;

use skein_client::ConsumerRecord;

use crate::time::rfc3339;

/// What a template is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Time,
    Key,
    Value,
    Headers,
    LeaderEpoch,
}

/// The names of the fields.
const FIELDS: [(&str, Field); 9] = [
    ("topic", Field::Topic),
    ("partition", Field::Partition),
    ("offset", Field::Offset),
    ("timestamp", Field::Timestamp),
    ("time", Field::Time),
    ("key", Field::Key),
    ("value", Field::Value),
    ("headers", Field::Headers),
    ("leader_epoch", Field::LeaderEpoch),
];

/// How a record is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

impl Template {
    /// Parses a template: `{field}`, `{{` and `}}` for braces, `\n`, `\t`, `\r`, `\0`, `\\`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let after = &rest[first.len_utf8()..];
            match first {
                '{' if after.starts_with('{') => {
                    literal.push(b'{');
                    rest = &after[1..];
                }
                '}' if after.starts_with('}') => {
                    literal.push(b'}');
                    rest = &after[1..];
                }
                '}' => return Err("a '}' without its '{'; write '}}' for a brace".into()),
                '{' => {
                    let (name, behind) = after.split_once('}').ok_or("a '{' without its '}'")?;
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Field(field(name)?));
                    rest = behind;
                }
                '\\' => {
                    let escape = after
                        .chars()
                        .next()
                        .ok_or("a '\\' at the end; write '\\\\'")?;
                    literal.push(match escape {
                        'n' => b'\n',
                        't' => b'\t',
                        'r' => b'\r',
                        '0' => 0,
                        '\\' => b'\\',
                        _ => {
                            return Err(format!(
                                "'\\{escape}' means nothing; know \\n \\t \\r \\0 \\\\"
                            ));
                        }
                    });
                    rest = &after[escape.len_utf8()..];
                }
                other => {
                    literal.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = after;
                }
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// Prints a record.
    pub(crate) fn write(&self, out: &mut impl Write, record: &ConsumerRecord) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Field(field) => write_field(out, *field, record)?,
            }
        }
        Ok(())
    }
}

fn field(name: &str) -> Result<Field, String> {
    let known = FIELDS.iter().find(|(known, _)| *known == name.trim());
    known.map(|(_, field)| *field).ok_or_else(|| {
        let names: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        format!("no field {name:?}; there are {}", names.join(", "))
    })
}

fn write_field(out: &mut impl Write, field: Field, record: &ConsumerRecord) -> io::Result<()> {
    match field {
        Field::Topic => write!(out, "{}", record.partition.topic),
        Field::Partition => write!(out, "{}", record.partition.partition),
        Field::Offset => write!(out, "{}", record.offset),
        Field::Timestamp => write!(out, "{}", record.timestamp),
        Field::Time => out.write_all(rfc3339(record.timestamp).as_bytes()),
        Field::Key => out.write_all(record.key.as_deref().unwrap_or_default()),
        Field::Value => out.write_all(record.value.as_deref().unwrap_or_default()),
        Field::LeaderEpoch => write!(out, "{}", record.leader_epoch),
        Field::Headers => {
            for (index, header) in record.headers.iter().enumerate() {
                if index > 0 {
                    out.write_all(b",")?;
                }
                out.write_all(&header.key)?;
                out.write_all(b"=")?;
                out.write_all(header.value.as_deref().unwrap_or_default())?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use skein_client::RecordHeader;
    use skein_types::{LeaderEpoch, Millis, Offset, PartitionIndex, TopicName, TopicPartition};

    use super::*;

    fn record() -> ConsumerRecord {
        let header = |key: &'static str, value: Option<&'static str>| RecordHeader {
            key: key.into(),
            value: value.map(Bytes::from),
        };
        ConsumerRecord {
            partition: TopicPartition {
                topic: TopicName::new("orders").unwrap(),
                partition: PartitionIndex(2),
            },
            offset: Offset(41),
            timestamp: Millis(1_769_862_896_700),
            leader_epoch: LeaderEpoch(5),
            key: None,
            value: Some(Bytes::from_static(b"\xffvalue")),
            headers: vec![header("a", Some("1")), header("b", None)],
        }
    }

    fn printed(template: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Template::parse(template)
            .unwrap()
            .write(&mut out, &record())
            .unwrap();
        out
    }

    #[test]
    fn fields_escapes_and_braces() {
        assert_eq!(printed("{topic}-{partition}@{offset}"), b"orders-2@41");
        assert_eq!(printed("{key}|{value}\\n"), b"|\xffvalue\n");
        assert_eq!(printed("{headers} {leader_epoch}"), b"a=1,b= 5");
        assert_eq!(
            printed("{timestamp}\\t{time}"),
            b"1769862896700\t2026-01-31T12:34:56.700Z"
        );
        assert_eq!(printed("{{{offset}}}\\\\ü"), "{41}\\ü".as_bytes());
        assert_eq!(printed(""), b"");
    }

    #[test]
    fn mistakes_are_named() {
        for (template, word) in [
            ("{offst}", "offset"),
            ("{offset", "without"),
            ("}", "brace"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.contains(word), "{template}: {error}");
        }
        assert!(Template::parse("\\").is_err() && Template::parse("\\x").is_err());
    }

    proptest! {
        #[test]
        fn no_template_makes_it_panic(text in "[{}\\\\nté]{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                template.write(&mut Vec::new(), &record()).unwrap();
            }
        }
    }
}
