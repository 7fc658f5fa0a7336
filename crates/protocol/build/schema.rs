//! The schema of one API.
//!
//! Input: what [`parse`] has read. Output: a [`Schema`] that is sound, and how long its structs
//! are.
//!
//! Invariants, checked in [`Message::check`]: structs are defined once and don't contain
//! themselves; an element of an array takes at least one byte in every version; tagged fields exist
//! only in flexible versions and their tags are distinct; `records` are nullable and not tagged.

#[path = "parse.rs"]
mod parse;

use std::collections::{BTreeMap, BTreeSet};

/// Structs may be nested this deep. It bounds the recursion of the decoders that are generated.
const DEPTH_MAX: usize = 8;

/// One file: an API with its request and response, or a few structs that stand alone.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Name of the Rust module, which is the file's name.
    pub(crate) module: String,
    pub(crate) api: Option<Api>,
    pub(crate) messages: Vec<Message>,
}

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: i16,
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Request,
    Response,
    Data,
    /// The key or the value of a record that a coordinator keeps.
    Kept,
    /// A record of Kafka's metadata log, with its key.
    Record(u32),
}

/// What is encoded as one piece.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) role: Role,
    pub(crate) versions: Versions,
    /// The first flexible version.
    pub(crate) flexible: Option<i16>,
    /// The message itself, then the structs in it, in the order of their definition.
    pub(crate) structs: Vec<Struct>,
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    /// The versions in which the message can contain it.
    pub(crate) versions: Versions,
    /// Its shortest encoding in any of them, in bytes.
    pub(crate) min_size: usize,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
    pub(crate) inflexible: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Kind>),
}

/// A range of versions, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Versions {
    pub(crate) fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

impl Message {
    /// Whether `version` has the compact encodings and tagged fields of KIP-482.
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.flexible.is_some_and(|first| version >= first)
    }

    pub(crate) fn name(&self) -> &str {
        &self.structs[0].name
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|found| found.name == name)
    }

    /// Whether an array has elements of that struct.
    pub(crate) fn is_element(&self, name: &str) -> bool {
        let mut fields = self.structs.iter().flat_map(|inner| &inner.fields);
        fields.any(|field| {
            matches!(field.kind, Kind::Array(_)) && field.kind.struct_name() == Some(name)
        })
    }

    /// Checks what the module header promises and measures the structs.
    fn check(&mut self) -> Result<(), String> {
        let mut measured = BTreeMap::new();
        for version in self.versions.first..=self.versions.last {
            self.measure(0, version, 0, &mut measured)?;
        }
        for index in 0..self.structs.len() {
            let (versions, min_size) = *measured
                .get(&index)
                .ok_or_else(|| format!("struct {} is in no version", self.structs[index].name))?;
            self.structs[index].versions = versions;
            self.structs[index].min_size = min_size;
        }
        for inner in &self.structs {
            let mut tags = BTreeSet::new();
            for field in &inner.fields {
                self.check_field(field, &mut tags)
                    .map_err(|error| format!("{}.{}: {error}", inner.name, field.name))?;
            }
        }
        Ok(())
    }

    fn check_field(&self, field: &Field, tags: &mut BTreeSet<u32>) -> Result<(), String> {
        if let Some(tag) = field.tag {
            if !self.is_flexible(field.versions.first) {
                return Err("a tagged field in a version that is not flexible".to_owned());
            }
            // The encoder counts the tags of a struct in one byte.
            if tag > 126 || !tags.insert(tag) {
                return Err(format!("tag {tag} is too large or used twice"));
            }
        }
        if field.kind == Kind::Records
            && (field.nullable != Some(field.versions) || field.tag.is_some())
        {
            return Err("records are nullable in every version and never tagged".to_owned());
        }
        if field.default.as_deref() == Some("null") && field.nullable.is_none() {
            return Err("null is the default, but not allowed".to_owned());
        }
        if let Kind::Array(element) = &field.kind
            && let Some(name) = element.struct_name()
            && self.find(name).is_none_or(|found| found.min_size == 0)
        {
            return Err("an element can be empty".to_owned());
        }
        Ok(())
    }

    /// Shortest encoding of a struct in `version`. Notes it, and the version, in `measured`.
    fn measure(
        &self,
        index: usize,
        version: i16,
        depth: usize,
        measured: &mut BTreeMap<usize, (Versions, usize)>,
    ) -> Result<usize, String> {
        let measuring = &self.structs[index];
        if depth > DEPTH_MAX {
            return Err(format!("struct {} is nested too deep", measuring.name));
        }
        let flexible = self.is_flexible(version);
        let mut size = usize::from(flexible);
        for field in measuring
            .fields
            .iter()
            .filter(|field| field.versions.contains(version))
        {
            let mut field_size = field.kind.min_size(flexible && !field.inflexible);
            if let Some(name) = field.kind.struct_name() {
                let inner = self.structs.iter().position(|found| found.name == name);
                let inner = inner.ok_or_else(|| format!("struct {name} is not defined"))?;
                let struct_size = self.measure(inner, version, depth + 1, measured)?;
                if field
                    .nullable
                    .is_some_and(|nullable| nullable.contains(version))
                {
                    field_size = field_size.max(1);
                } else if matches!(field.kind, Kind::Struct(_)) {
                    field_size = struct_size;
                }
            }
            if field.tag.is_none() {
                size += field_size;
            }
        }
        let once = Versions {
            first: version,
            last: version,
        };
        let (versions, min_size) = measured.entry(index).or_insert((once, size));
        versions.last = version;
        *min_size = size.min(*min_size);
        Ok(size)
    }
}

impl Kind {
    /// The struct that this is, or is an array of.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.struct_name(),
            _ => None,
        }
    }

    /// Shortest encoding in bytes; 0 for a struct, whose fields decide.
    pub(crate) fn min_size(&self, flexible: bool) -> usize {
        match self {
            Self::Struct(_) => 0,
            Self::Bool | Self::Int8 => 1,
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 => 4,
            Self::Int64 | Self::Float64 => 8,
            Self::Uuid => 16,
            Self::String if !flexible => 2,
            Self::Bytes | Self::Records | Self::Array(_) if !flexible => 4,
            Self::String | Self::Bytes | Self::Records | Self::Array(_) => 1,
        }
    }
}
