//! The schema of one API: its model and the parser of its text.
//!
//! Input: the text of one file in `schema/`. Output: a [`Schema`], or the line that is wrong and why.
//!
//! The format, by example:
//!
//! ```text
//! api 1 Fetch                                  the API's key and name; absent where there is no API
//!
//! request 4-18 flexible 12+                    its valid versions, and those with compact encodings
//!   struct Cursor                              a struct that several fields use, ahead of them
//!     topic_name  string  0+
//!   cluster_id    string        12+  tag 0 nullable default null ignorable
//!   topics        []FetchTopic  4+             a field: name, type, versions, attributes
//!     topic       string        4-12           the fields of FetchTopic, which this line defines
//!
//! response 4-18 flexible 12+                   named FetchResponse; `data Name 0-3` names itself
//! ```
//!
//! - Types: `bool int8 int16 uint16 int32 int64 float64 uuid string bytes records`, the name of a
//!   struct, and any of these but `records` behind `[]`.
//! - Versions: `4`, `4-12`, `4+`.
//! - `nullable`, or `nullable 2+` where only some of the field's versions have it.
//! - `default x`; without it zero, empty or false. `null` needs `nullable`.
//! - `ignorable`: a value is dropped without an error in versions that don't have the field.
//! - `tag n`: the field is tagged (KIP-482). `inflexible`: it has the old encoding in every version.
//! - Two spaces indent by one level; lines that start with `#` and empty lines are skipped.
//!
//! Invariants, checked in [`Message::check`]: structs are defined once and don't contain themselves;
//! an element of an array takes at least one byte in every version; tagged fields exist only in
//! flexible versions and their tags are distinct; `records` are nullable and not tagged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

    /// `4`, `4-12` or `4+`; the last ends where `valid` does.
    fn parse(text: &str, valid: Option<Self>) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<i16>()
                .map_err(|_| format!("bad version `{text}`"))
        };
        let versions = if let Some(first) = text.strip_suffix('+') {
            let valid = valid.ok_or("valid versions have an end")?;
            Self {
                first: number(first)?,
                last: valid.last,
            }
        } else if let Some((first, last)) = text.split_once('-') {
            Self {
                first: number(first)?,
                last: number(last)?,
            }
        } else {
            Self {
                first: number(text)?,
                last: number(text)?,
            }
        };
        let outer = valid.unwrap_or(versions);
        if versions.first > versions.last
            || versions.first < outer.first
            || versions.last > outer.last
        {
            return Err(format!("versions `{text}` are none of the message's"));
        }
        Ok(versions)
    }
}

impl Schema {
    /// Parses the file of `module`; an error starts with the number of the line.
    pub(crate) fn parse(module: &str, text: &str) -> Result<Self, String> {
        let mut lines = Lines::new(text)?;
        let mut schema = Self {
            module: module.to_owned(),
            api: None,
            messages: Vec::new(),
        };
        while let Some(line) = lines.next_at(0) {
            let mut words = line.words.iter().copied();
            let result = match (words.next(), words.next(), words.next()) {
                (Some("api"), Some(key), Some(name)) => schema.add_api(key, name),
                (Some("request"), Some(versions), _) => {
                    schema.add_message(Role::Request, None, versions, &line, &mut lines)
                }
                (Some("response"), Some(versions), _) => {
                    schema.add_message(Role::Response, None, versions, &line, &mut lines)
                }
                (Some("data"), Some(name), Some(versions)) => {
                    schema.add_message(Role::Data, Some(name), versions, &line, &mut lines)
                }
                _ => Err("expected `api`, `request`, `response` or `data`".to_owned()),
            };
            // An error inside of a message names its own line.
            result.map_err(|error| match error.split_once(": ") {
                Some((number, _)) if number.parse::<usize>().is_ok() => error,
                _ => format!("{}: {error}", line.number),
            })?;
        }
        if let Some(line) = lines.rest.front() {
            return Err(format!("{}: unexpected indentation", line.number));
        }
        Ok(schema)
    }

    fn add_api(&mut self, key: &str, name: &str) -> Result<(), String> {
        let key = key.parse().map_err(|_| format!("bad key `{key}`"))?;
        self.api = Some(Api {
            key,
            name: name.to_owned(),
        });
        Ok(())
    }

    fn add_message(
        &mut self,
        role: Role,
        name: Option<&str>,
        versions: &str,
        line: &Line<'_>,
        lines: &mut Lines<'_>,
    ) -> Result<(), String> {
        let name = match (role, name, &self.api) {
            (_, Some(name), _) => name.to_owned(),
            (Role::Request, None, Some(api)) => format!("{}Request", api.name),
            (Role::Response, None, Some(api)) => format!("{}Response", api.name),
            _ => return Err("a request or response needs an `api` line first".to_owned()),
        };
        let versions = Versions::parse(versions, None)?;
        let flexible = match line.words.iter().position(|&word| word == "flexible") {
            Some(at) => {
                let text = line.words.get(at + 1).ok_or("`flexible` needs versions")?;
                let flexible = Versions::parse(text, Some(versions))?;
                if flexible.last != versions.last {
                    return Err("a flexible API stays flexible".to_owned());
                }
                Some(flexible.first)
            }
            None => None,
        };
        let mut message = Message {
            role,
            versions,
            flexible,
            structs: Vec::new(),
        };
        message.add_struct(&name, 1, lines)?;
        message.check()?;
        self.messages.push(message);
        Ok(())
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

    /// Reads the fields at `depth` as those of the struct `name`, and the structs inside.
    fn add_struct(
        &mut self,
        name: &str,
        depth: usize,
        lines: &mut Lines<'_>,
    ) -> Result<(), String> {
        if self.find(name).is_some() {
            return Err(format!("struct {name} is defined twice"));
        }
        if depth > DEPTH_MAX {
            return Err(format!("struct {name} is nested too deep"));
        }
        let at = self.structs.len();
        let versions = self.versions;
        self.structs.push(Struct {
            name: name.to_owned(),
            fields: vec![],
            versions,
            min_size: 0,
        });
        while let Some(line) = lines.next_at(depth) {
            if let ["struct", name] = line.words[..] {
                self.add_struct(name, depth + 1, lines)?;
                continue;
            }
            let field = Field::parse(&line.words, versions)
                .map_err(|error| format!("{}: {error}", line.number))?;
            if let Some(inner) = field.kind.struct_name()
                && lines.has_next_at(depth + 1)
            {
                self.add_struct(inner, depth + 1, lines)
                    .map_err(|error| format!("{}: {error}", line.number))?;
            }
            self.structs[at].fields.push(field);
        }
        Ok(())
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

impl Field {
    /// `name type versions attribute...`
    fn parse(words: &[&str], valid: Versions) -> Result<Self, String> {
        let [name, kind, versions, attributes @ ..] = words else {
            return Err("a field has a name, a type and versions".to_owned());
        };
        let versions = Versions::parse(versions, Some(valid))?;
        let mut field = Self {
            name: (*name).to_owned(),
            kind: Kind::parse(kind)?,
            versions,
            nullable: None,
            tag: None,
            default: None,
            ignorable: false,
            inflexible: false,
        };
        let mut attributes = attributes.iter().copied().peekable();
        while let Some(attribute) = attributes.next() {
            match attribute {
                "ignorable" => field.ignorable = true,
                "inflexible" => field.inflexible = true,
                "nullable" => {
                    let range = attributes.next_if(|next| next.starts_with(char::is_numeric));
                    let range = range.map(|text| Versions::parse(text, Some(versions)));
                    field.nullable = Some(range.transpose()?.unwrap_or(versions));
                }
                "tag" => {
                    let tag = attributes.next().and_then(|tag| tag.parse().ok());
                    field.tag = Some(tag.ok_or("`tag` needs a number")?);
                }
                "default" => {
                    let value = attributes.next().ok_or("`default` needs a value")?;
                    field.default = Some(value.to_owned());
                }
                _ => return Err(format!("unknown attribute `{attribute}`")),
            }
        }
        Ok(field)
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(element) = text.strip_prefix("[]") {
            return match Self::parse(element)? {
                Self::Array(_) | Self::Records => Err(format!("no array of `{element}`")),
                element => Ok(Self::Array(Box::new(element))),
            };
        }
        Ok(match text {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "uuid" => Self::Uuid,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            name if name.starts_with(|first: char| first.is_ascii_uppercase()) => {
                Self::Struct(name.to_owned())
            }
            _ => return Err(format!("unknown type `{text}`")),
        })
    }

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

/// The lines that mean something.
struct Lines<'a> {
    rest: VecDeque<Line<'a>>,
}

#[derive(Clone)]
struct Line<'a> {
    number: usize,
    depth: usize,
    words: Vec<&'a str>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Result<Self, String> {
        let mut rest = VecDeque::new();
        for (index, line) in text.lines().enumerate() {
            let content = line.trim_start_matches(' ');
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let indent = line.len() - content.len();
            if indent % 2 != 0 {
                return Err(format!("{}: two spaces indent by one level", index + 1));
            }
            let words = content.split_whitespace().collect();
            rest.push_back(Line {
                number: index + 1,
                depth: indent / 2,
                words,
            });
        }
        Ok(Self { rest })
    }

    fn has_next_at(&self, depth: usize) -> bool {
        self.rest.front().is_some_and(|line| line.depth == depth)
    }

    /// The next line if it stands at `depth`.
    fn next_at(&mut self, depth: usize) -> Option<Line<'a>> {
        if self.has_next_at(depth) {
            self.rest.pop_front()
        } else {
            None
        }
    }
}
