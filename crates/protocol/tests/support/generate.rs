//! Random messages, made from the schemas and written as bytes.
//!
//! Input: a message of a schema, a version and a seed. Output: bytes that are such a message in its
//! only canonical form: no tagged field has its default, every length is as short as it can be.
//!
//! This is a second implementation of the encoding, from the same schemas and independent of the
//! generated code; the oracle vouches for the schemas.

use std::path::Path;

use crate::schema::{Field, Kind, Message, Schema, Struct};

/// The schemas of the crate, by module.
pub(crate) struct Schemas(pub(crate) Vec<Schema>);

impl Schemas {
    pub(crate) fn load() -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
        let files = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let schemas = files.map(|path| {
            let module = path.file_stem().unwrap().to_str().unwrap();
            Schema::parse(module, &std::fs::read_to_string(&path).unwrap()).unwrap()
        });
        Self(schemas.collect())
    }

    pub(crate) fn message(&self, name: &str) -> &Message {
        let mut messages = self.0.iter().flat_map(|schema| &schema.messages);
        messages.find(|message| message.name() == name).unwrap()
    }
}

/// SplitMix64: small, and good enough to choose lengths and bits.
#[derive(Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Writes one message of one version.
pub(crate) struct Generator<'a> {
    pub(crate) message: &'a Message,
    pub(crate) version: i16,
    pub(crate) rng: Rng,
    pub(crate) shape: Shape,
}

/// What kind of message to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Anything goes.
    Random,
    /// The same, with tagged fields that no schema has.
    UnknownTags,
    /// As few bytes for as many elements as possible: the most that a decoder can be made to
    /// allocate.
    Wide,
}

impl Generator<'_> {
    pub(crate) fn bytes(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let message = self.message;
        self.write_struct(&mut out, &message.structs[0]);
        out
    }

    fn write_struct(&mut self, out: &mut Vec<u8>, written: &Struct) {
        let version = self.version;
        let present = |field: &&Field| field.versions.contains(version);
        for field in written
            .fields
            .iter()
            .filter(present)
            .filter(|field| field.tag.is_none())
        {
            self.write_field(out, field);
        }
        if !self.message.is_flexible(version) {
            return;
        }
        let mut tagged = Vec::new();
        for field in written
            .fields
            .iter()
            .filter(present)
            .filter(|field| field.tag.is_some())
        {
            let mut value = Vec::new();
            self.write_field(&mut value, field);
            let included = self.rng.below(3) > 0;
            let included = included && self.shape != Shape::Wide;
            if included && value != self.default_bytes(field) {
                tagged.push((field.tag.unwrap(), value));
            }
        }
        if self.shape == Shape::UnknownTags {
            tagged.push((100, b"unknown".to_vec()));
            tagged.push((u32::MAX, Vec::new()));
        }
        tagged.sort();
        write_varint(out, tagged.len());
        for (tag, value) in tagged {
            write_varint(out, tag as usize);
            write_varint(out, value.len());
            out.extend(value);
        }
    }

    fn write_field(&mut self, out: &mut Vec<u8>, field: &Field) {
        let flexible = self.message.is_flexible(self.version) && !field.inflexible;
        let nullable = field
            .nullable
            .is_some_and(|nullable| nullable.contains(self.version));
        if nullable && self.is_null(field) {
            write_null(out, &field.kind, flexible);
            return;
        }
        if nullable && matches!(field.kind, Kind::Struct(_)) {
            out.push(1);
        }
        self.write_kind(out, &field.kind, flexible);
    }

    fn write_kind(&mut self, out: &mut Vec<u8>, kind: &Kind, flexible: bool) {
        match kind {
            Kind::Bool => out.push(u8::from(self.rng.below(2) == 1)),
            Kind::Float64 => {
                let small = u32::try_from(self.rng.below(1 << 30)).unwrap();
                out.extend(f64::from(small).to_be_bytes());
            }
            Kind::String => {
                let len = self.length(20, 200);
                let text: String = (0..len)
                    .map(|_| ['a', 'Z', '-', 'ü', '鳥'][self.rng.below(5)])
                    .collect();
                write_length(out, kind, flexible, text.len());
                out.extend(text.as_bytes());
            }
            Kind::Bytes | Kind::Records => {
                let len = self.length(40, 1000);
                write_length(out, kind, flexible, len);
                out.extend(self.rng.bytes(len));
            }
            Kind::Struct(name) => {
                let message = self.message;
                self.write_struct(out, message.find(name).unwrap());
            }
            Kind::Array(element) => {
                let long = if matches!(**element, Kind::Struct(_)) {
                    5
                } else {
                    150
                };
                let len = self.count(long);
                write_length(out, kind, flexible, len);
                for _ in 0..len {
                    self.write_kind(out, element, flexible);
                }
            }
            scalar => {
                // Often small, so that values meet the defaults too.
                let size = scalar.min_size(false);
                let bytes = match self.rng.below(4) {
                    0 => vec![0; size],
                    1 => vec![0xff; size],
                    _ => self.rng.bytes(size),
                };
                out.extend(bytes);
            }
        }
    }

    fn count(&mut self, long: usize) -> usize {
        match self.shape {
            Shape::Wide => [0, 16][self.rng.below(2)],
            _ => self.length(4, long),
        }
    }

    fn is_null(&mut self, field: &Field) -> bool {
        match self.shape {
            Shape::Wide => !matches!(field.kind, Kind::Array(_)),
            _ => self.rng.below(4) == 0,
        }
    }

    /// Mostly below `short`, sometimes `long`.
    fn length(&mut self, short: usize, long: usize) -> usize {
        if self.shape == Shape::Wide {
            return 0;
        }
        if self.rng.below(16) == 0 {
            long
        } else {
            self.rng.below(short)
        }
    }

    fn default_bytes(&self, field: &Field) -> Vec<u8> {
        let mut out = Vec::new();
        match (&field.kind, field.default.as_deref()) {
            (kind, Some("null")) => write_null(&mut out, kind, true),
            (Kind::Struct(name), _) => {
                for inner in &self.message.find(name).unwrap().fields {
                    out.extend(self.default_bytes(inner));
                }
                out.push(0);
            }
            (Kind::String | Kind::Bytes | Kind::Array(_), _) => write_varint(&mut out, 1),
            (Kind::Bool, default) => out.push(u8::from(default == Some("true"))),
            (scalar, default) => {
                let value: i64 = default.map_or(0, |default| default.parse().unwrap());
                let bytes = value.to_be_bytes();
                let size = scalar.min_size(false);
                // Wider than an integer is only a uuid, whose default is zero.
                out.resize(size.saturating_sub(bytes.len()), 0);
                out.extend(&bytes[bytes.len().saturating_sub(size)..]);
            }
        }
        out
    }
}

fn write_null(out: &mut Vec<u8>, kind: &Kind, flexible: bool) {
    match kind {
        Kind::Struct(_) => out.push(0xff),
        _ if flexible => out.push(0),
        Kind::String => out.extend([0xff; 2]),
        _ => out.extend([0xff; 4]),
    }
}

fn write_length(out: &mut Vec<u8>, kind: &Kind, flexible: bool, len: usize) {
    match kind {
        _ if flexible => write_varint(out, len + 1),
        Kind::String => out.extend(i16::try_from(len).unwrap().to_be_bytes()),
        _ => out.extend(i32::try_from(len).unwrap().to_be_bytes()),
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}
