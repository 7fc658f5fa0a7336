//! Reads the text of a schema.
//!
//! Input: one file of `schema/`. Output: a [`Schema`], or the number of the line that is wrong and
//! why.
//!
//! The format, by example:
//!
//! ```text
//! api 1 Fetch                                  the API's key and name, if there is one
//!
//! request 4-18 flexible 12+                    valid versions, and those with compact encodings
//!   struct Cursor                              a struct that several fields use, ahead of them
//!     topic_name  string  0+
//!   cluster_id    string        12+  tag 0 nullable default null ignorable
//!   topics        []FetchTopic  4+             a field: name, type, versions, attributes
//!     topic       string        4-12           the fields of FetchTopic, which this line defines
//!
//! response 4-18 flexible 12+                   named FetchResponse; `data Name 0-3` names itself,
//!                                              `kept Name 0-3` is what a coordinator keeps, and
//!                                              `record 3 NameRecord 0-2` is one of Kafka's
//!                                              metadata log, with its key
//! ```
//!
//! - Types: `bool int8 int16 uint16 int32 int64 float64 uuid string bytes records`, the name of a
//!   struct, and any of these but `records` behind `[]`.
//! - Versions: `4`, `4-12`, `4+`.
//! - `nullable`, or `nullable 2+` where only some of the field's versions have it.
//! - `default x`; without it zero, empty or false. `null` needs `nullable`.
//! - `ignorable`: a value is dropped without an error in versions that don't have the field.
//! - `tag n`: the field is tagged (KIP-482). `inflexible`: it has the old encoding in every
//!   version.
//! - Two spaces indent by one level; lines that start with `#` and empty lines are skipped.
//!
//! Invariant: every word of the text means something; what is not understood is an error.

use std::collections::VecDeque;

use super::{Api, DEPTH_MAX, Field, Kind, Message, Role, Schema, Struct, Versions};

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
                (Some("kept"), Some(name), Some(versions)) => {
                    schema.add_message(Role::Kept, Some(name), versions, &line, &mut lines)
                }
                (Some("record"), Some(key), Some(name)) => {
                    schema.add_record(key, name, &line, &mut lines)
                }
                _ => Err(
                    "expected `api`, `request`, `response`, `data`, `kept` or `record`".to_owned(),
                ),
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

    fn add_record(
        &mut self,
        key: &str,
        name: &str,
        line: &Line<'_>,
        lines: &mut Lines<'_>,
    ) -> Result<(), String> {
        let role = Role::Record(key.parse().map_err(|_| format!("bad key `{key}`"))?);
        if self.messages.iter().any(|known| known.role == role) {
            return Err(format!("two records have key {key}"));
        }
        if !name.ends_with("Record") {
            return Err(format!("`{name}` is not the name of a record"));
        }
        let versions = line.words.get(3).ok_or("a record has versions")?;
        self.add_message(role, Some(name), versions, line, lines)
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
}

impl Versions {
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
