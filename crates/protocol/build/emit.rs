//! Writes the Rust items of a schema: modules, structs, defaults, trait implementations, API keys.
//!
//! Input: checked schemas. Output: Rust source for `src/lib.rs` to include; the bodies of the
//! codecs come from `emit_codec`.
//!
//! Invariant: the text depends on the schemas only, so that equal schemas build equal binaries.

use std::fmt::Write as _;

use crate::schema::{Field, Kind, Message, Role, Schema, Struct, Versions};
use crate::{emit_codec, emit_errors};

/// From this key on, the APIs are our own: far from Kafka's, whose keys grow by one at a time. The
/// same as `ApiKey::PEER_KEYS_FROM`.
const PEER_KEYS_FROM: i16 = 20_000;

/// Source that is being written, indented by four spaces per level.
#[derive(Default)]
pub(crate) struct Source {
    text: String,
    depth: usize,
}

impl Source {
    /// Appends a line. Its indentation follows from the brackets that open and close lines.
    pub(crate) fn line(&mut self, line: &str) {
        if line.starts_with(['}', ')', ']']) {
            self.depth -= 1;
        }
        if !line.is_empty() {
            self.text.push_str(&"    ".repeat(self.depth));
        }
        self.text.push_str(line);
        self.text.push('\n');
        if line.ends_with(['{', '(', '[']) {
            self.depth += 1;
        }
    }

    /// Appends every line of `lines`.
    pub(crate) fn lines(&mut self, lines: &str) {
        for line in lines.lines() {
            self.line(line.trim_start());
        }
    }
}

/// A module per schema, then a macro that names every message.
pub(crate) fn messages(schemas: &[Schema]) -> String {
    let mut source = Source::default();
    for schema in schemas {
        module(&mut source, schema);
    }
    let what = "message of the protocol";
    for_each(&mut source, schemas, "message", what, |schema, role| {
        !matches!(role, Role::Record(_) | Role::Kept) && !is_for_peers(schema)
    });
    let what = "message that only Skein's nodes speak, to one another";
    for_each(&mut source, schemas, "peer_message", what, |schema, _| {
        is_for_peers(schema)
    });
    let what = "key and value of a coordinator's records";
    for_each(
        &mut source,
        schemas,
        "coordinator_message",
        what,
        |_, role| role == Role::Kept,
    );
    let what = "record of Kafka's metadata log";
    for_each(&mut source, schemas, "metadata_record", what, |_, role| {
        matches!(role, Role::Record(_))
    });
    source.text
}

/// Whether a schema is one of our own, that Kafka does not have.
fn is_for_peers(schema: &Schema) -> bool {
    let key = schema.api.as_ref().map(|api| api.key);
    key.is_some_and(|key| key >= PEER_KEYS_FROM)
}

/// The macro `for_each_<name>`, which calls another one for each message of some schemas and roles.
fn for_each(
    source: &mut Source,
    schemas: &[Schema],
    name: &str,
    what: &str,
    is_meant: fn(&Schema, Role) -> bool,
) {
    source.lines(&format!(
        "/// Calls the macro `$callback!(module, Type);` for each {what}.
         #[macro_export]
         macro_rules! for_each_{name} {{
         ($callback:ident) => {{"
    ));
    for (schema, message) in all_messages(schemas) {
        if is_meant(schema, message.role) {
            let module = &schema.module;
            source.line(&format!("$callback!({module}, {});", message.name()));
        }
    }
    source.line("};");
    source.line("}");
}

fn all_messages(schemas: &[Schema]) -> impl Iterator<Item = (&Schema, &Message)> {
    schemas
        .iter()
        .flat_map(|schema| schema.messages.iter().map(move |message| (schema, message)))
}

fn module(source: &mut Source, schema: &Schema) {
    match &schema.api {
        Some(api) => source.line(&format!("/// API {}, {}.", api.key, api.name)),
        None => source.line("/// Structs that belong to no API of their own."),
    }
    source.line(&format!("pub mod {} {{", schema.module));
    source.line("#[allow(unused_imports)] // every module starts with the same list");
    source.line("use super::prelude::*;");
    for message in &schema.messages {
        for definition in &message.structs {
            source.line("");
            declaration(source, message, definition);
            source.line("");
            default(source, definition);
            source.line(&format!("impl {} {{", definition.name));
            if message.is_element(&definition.name) {
                source.lines(&format!(
                    "/// Bytes of the shortest encoding in any version.
                     pub(crate) const MIN_SIZE: usize = {{
                     assert!(size_of::<Self>() <= {0} * ALLOCATION_FACTOR);
                     {0}
                     }};
                     ",
                    definition.min_size
                ));
            }
            emit_codec::read(source, message, definition);
            source.line("");
            emit_codec::write(source, message, definition);
            emit_errors::walk(source, message, definition);
            source.line("}");
        }
        source.line("");
        implement_traits(source, schema, message);
    }
    source.line("}");
    source.line("");
}

fn declaration(source: &mut Source, message: &Message, definition: &Struct) {
    let versions = describe(definition.versions);
    let place = if definition.name == message.name() {
        let flexible = match message.flexible {
            Some(first) => format!(", flexible from {first}"),
            None => String::new(),
        };
        let role = match message.role {
            Role::Record(key) => format!("Record {key} of Kafka's metadata log"),
            Role::Kept => "Of a coordinator's records".to_owned(),
            role => format!("{role:?}"),
        };
        format!("{role}, {versions}{flexible}.")
    } else {
        format!("Part of [`{}`], {versions}.", message.name())
    };
    source.line(&format!("/// {place}"));
    let derived_default = if has_plain_defaults(definition) {
        ", Default"
    } else {
        ""
    };
    source.line(&format!(
        "#[derive(Clone, Debug, PartialEq{derived_default})]"
    ));
    source.line(&format!("pub struct {} {{", definition.name));
    for field in &definition.fields {
        source.line(&format!("/// {}.", describe_field(field, definition)));
        source.line(&format!(
            "pub {}: {},",
            ident(&field.name),
            rust_type(field)
        ));
    }
    source.line("}");
}

fn default(source: &mut Source, definition: &Struct) {
    if has_plain_defaults(definition) {
        return;
    }
    source.line(&format!("impl Default for {} {{", definition.name));
    source.line("fn default() -> Self {");
    source.line("Self {");
    for field in &definition.fields {
        source.line(&format!(
            "{}: {},",
            ident(&field.name),
            default_value(field)
        ));
    }
    source.lines("}\n}\n}");
    source.line("");
}

/// Whether every field's default is the default of its Rust type.
fn has_plain_defaults(definition: &Struct) -> bool {
    definition
        .fields
        .iter()
        .all(|field| match (&field.default, field.nullable) {
            (Some(default), _) => default == "null",
            (None, Some(_)) => field.kind == Kind::Records,
            (None, None) => true,
        })
}

/// The value of a field that is not encoded, as an expression.
pub(crate) fn default_value(field: &Field) -> String {
    let value = match (&field.default, &field.kind) {
        (Some(default), _) if default == "null" => return "None".to_owned(),
        (None, Kind::Records) => return "None".to_owned(),
        (Some(default), Kind::String) => format!("Str::from_static({default:?})"),
        (Some(default), _) => literal(default),
        (None, Kind::Bool) => "false".to_owned(),
        (None, Kind::Float64) => "0.0".to_owned(),
        (None, Kind::Uuid) => "Uuid::ZERO".to_owned(),
        (None, Kind::String) => "Str::default()".to_owned(),
        (None, Kind::Bytes) => "Bytes::new()".to_owned(),
        (None, Kind::Array(_)) => "Vec::new()".to_owned(),
        (None, Kind::Struct(name)) => format!("{name}::default()"),
        (None, _) => "0".to_owned(),
    };
    if field.nullable.is_some() {
        format!("Some({value})")
    } else {
        value
    }
}

/// A number as rustc and clippy like to read it; anything else unchanged.
fn literal(number: &str) -> String {
    match number {
        "2147483647" => "i32::MAX".to_owned(),
        "-2147483648" => "i32::MIN".to_owned(),
        "9223372036854775807" => "i64::MAX".to_owned(),
        other => other.to_owned(),
    }
}

fn rust_type(field: &Field) -> String {
    let plain = rust_kind(&field.kind);
    if field.nullable.is_some() {
        format!("Option<{plain}>")
    } else {
        plain
    }
}

fn rust_kind(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "bool".to_owned(),
        Kind::Int8 => "i8".to_owned(),
        Kind::Int16 => "i16".to_owned(),
        Kind::Uint16 => "u16".to_owned(),
        Kind::Int32 => "i32".to_owned(),
        Kind::Int64 => "i64".to_owned(),
        Kind::Float64 => "f64".to_owned(),
        Kind::Uuid => "Uuid".to_owned(),
        Kind::String => "Str".to_owned(),
        Kind::Bytes => "Bytes".to_owned(),
        Kind::Records => "Records".to_owned(),
        Kind::Struct(name) => name.clone(),
        Kind::Array(element) => format!("Vec<{}>", rust_kind(element)),
    }
}

/// A field's name in Rust.
pub(crate) fn ident(name: &str) -> String {
    match name {
        "match" | "type" => format!("r#{name}"),
        _ => name.to_owned(),
    }
}

fn describe(versions: Versions) -> String {
    if versions.first == versions.last {
        format!("version {}", versions.first)
    } else {
        format!("versions {} to {}", versions.first, versions.last)
    }
}

fn describe_field(field: &Field, definition: &Struct) -> String {
    let mut text = describe(field.versions).replacen('v', "V", 1);
    match field.nullable {
        Some(nullable) if nullable == field.versions => text.push_str("; nullable"),
        Some(nullable) => {
            let _ = write!(text, "; nullable in {}", describe(nullable));
        }
        None => {}
    }
    if let Some(tag) = field.tag {
        let _ = write!(text, "; tag {tag}");
    }
    if let Some(default) = &field.default {
        let _ = write!(text, "; default {default}");
    }
    if field.ignorable && field.versions != definition.versions {
        text.push_str("; ignored by other versions");
    }
    text
}

fn implement_traits(source: &mut Source, schema: &Schema, message: &Message) {
    let name = message.name();
    let key = schema
        .api
        .as_ref()
        .map(|api| format!("ApiKey::{}", api.name));
    let optional = key
        .as_ref()
        .map_or("None".to_owned(), |key| format!("Some({key})"));
    let Versions { first, last } = message.versions;
    let error_codes = emit_errors::of_trait(message);
    source.lines(&format!(
        "impl Message for {name} {{
         const NAME: &'static str = \"{name}\";
         const API_KEY: Option<ApiKey> = {optional};
         const VERSIONS: RangeInclusive<i16> = {first}..={last};

         fn decode(d: &mut Decoder<'_>, version: i16) -> Result<Self, DecodeError> {{
         d.check_version::<Self>(version)?;
         Self::read(d, version)
         }}

         fn encode(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError> {{
         e.check_version::<Self>(version)?;
         self.write(e, version)
         }}{error_codes}
         }}"
    ));
    let response = schema
        .messages
        .iter()
        .find(|other| other.role == Role::Response);
    if let (Role::Request, Some(key), Some(response)) = (message.role, key, response) {
        source.lines(&format!(
            "
             impl Request for {name} {{
             const KEY: ApiKey = {key};
             type Response = {};
             }}",
            response.name()
        ));
    }
}

/// The table that `src/api_key.rs` expands into an enum.
pub(crate) fn api_keys(schemas: &[Schema]) -> String {
    let mut source = Source::default();
    source.line("api_keys! {");
    for schema in schemas {
        let request = schema
            .messages
            .iter()
            .find(|message| message.role == Role::Request);
        if let (Some(api), Some(request)) = (&schema.api, request) {
            let Versions { first, last } = request.versions;
            let flexible = request.flexible.unwrap_or(i16::MAX);
            source.line(&format!(
                "{} {} {first} {last} {flexible};",
                api.key, api.name
            ));
        }
    }
    source.line("}");
    source.text
}

/// The table that `src/metadata_record.rs` expands into an enum.
pub(crate) fn metadata_records(schemas: &[Schema]) -> String {
    let mut source = Source::default();
    source.line("metadata_records! {");
    for (schema, message) in all_messages(schemas) {
        if let Role::Record(key) = message.role {
            let name = message.name();
            let variant = name.strip_suffix("Record").unwrap_or(name);
            let module = &schema.module;
            source.line(&format!("{key} {module} {variant} {name};"));
        }
    }
    source.line("}");
    source.text
}
