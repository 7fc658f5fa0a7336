//! Writes the bodies of `read` and `write`, the two directions of a struct's codec.
//!
//! Input: a checked struct. Output: two functions that touch its fields in the order of the schema.
//!
//! Invariants: both functions test the same conditions on the version, because they take them from
//! [`condition`]; a value that a version cannot carry is dropped only where the schema says so.

use crate::emit::{Source, default_value, ident};
use crate::schema::{Field, Kind, Message, Struct, Versions};

/// Statements longer than this are broken, so that lines of the usual depth stay within 100
/// columns.
const LINE_MAX: usize = 84;

/// `fn read`: decodes one struct.
pub(crate) fn read(source: &mut Source, message: &Message, definition: &Struct) {
    let tagged: Vec<&Field> = definition
        .fields
        .iter()
        .filter(|f| f.tag.is_some())
        .collect();
    let mut body = Vec::new();
    let flexible = flexible_condition(message, definition);
    let opening = match (&flexible, tagged.is_empty()) {
        (None, _) => "Ok(Self {",
        (Some(_), true) => "let this = Self {",
        (Some(_), false) => "let mut this = Self {",
    };
    body.push(opening.to_owned());
    for field in &definition.fields {
        read_field(&mut body, field, definition);
    }
    body.push(if flexible.is_some() { "};" } else { "})" }.to_owned());
    if let Some(flexible) = flexible {
        if flexible != "true" {
            body.push("if flexible {".to_owned());
        }
        if tagged.is_empty() {
            body.push("d.skip_tags()?;".to_owned());
        } else {
            read_tags(&mut body, &tagged, definition, message);
        }
        if flexible != "true" {
            body.push("}".to_owned());
        }
        body.push("Ok(this)".to_owned());
    }
    function(
        source,
        "read(d: &mut Decoder<'_>, VERSION: i16) -> Result<Self, DecodeError>",
        message,
        definition,
        &body,
    );
}

fn read_field(body: &mut Vec<String>, field: &Field, definition: &Struct) {
    let name = ident(&field.name);
    if field.tag.is_some() {
        body.push(format!("{name}: {},", default_value(field)));
        return;
    }
    let value = read_value(field);
    let Some(condition) = condition(field.versions, definition.versions) else {
        body.push(format!("{name}: {value},"));
        return;
    };
    let default = default_value(field);
    let line = format!("{name}: if {condition} {{ {value} }} else {{ {default} }},");
    if line.len() <= LINE_MAX && !value.contains('\n') {
        body.push(line);
    } else {
        body.push(format!(
            "{name}: if {condition} {{\n{value}\n}} else {{\n{default}\n}},"
        ));
    }
}

/// An expression that decodes the field in the versions that have it.
fn read_value(field: &Field) -> String {
    let plain = read_kind(&field.kind, field.inflexible, "");
    let Some(nullable) = field.nullable else {
        return format!("{plain}?");
    };
    if field.kind == Kind::Records {
        return format!("{plain}?");
    }
    let optional = match &field.kind {
        Kind::Struct(name) => format!("d.nullable(|d| {name}::read(d, version))?"),
        kind => format!("{}?", read_kind(kind, field.inflexible, "nullable_")),
    };
    match condition(nullable, field.versions) {
        None => optional,
        Some(condition) => format!("if {condition} {{\n{optional}\n}} else {{\nSome({plain}?)\n}}"),
    }
}

fn read_kind(kind: &Kind, inflexible: bool, prefix: &str) -> String {
    let flexible = if inflexible { "false" } else { "flexible" };
    match kind {
        Kind::String => format!("d.{prefix}string({flexible})"),
        Kind::Bytes => format!("d.{prefix}bytes({flexible})"),
        Kind::Records => format!("d.records({flexible})"),
        Kind::Struct(name) => format!("{name}::read(d, version)"),
        Kind::Array(element) => {
            let (min_size, element) = match &**element {
                Kind::Struct(name) => (
                    format!("{name}::MIN_SIZE"),
                    format!("|d| {name}::read(d, version)"),
                ),
                Kind::String | Kind::Bytes => (
                    "1".to_owned(),
                    format!("|d| {}", read_kind(element, inflexible, "")),
                ),
                scalar => (
                    scalar.min_size(false).to_string(),
                    format!("Decoder::{}", method(scalar)),
                ),
            };
            let line = format!("d.{prefix}array({flexible}, {min_size}, {element})");
            match element.strip_prefix("|d| ") {
                Some(body) if line.len() > LINE_MAX / 2 => {
                    format!("d.{prefix}array({flexible}, {min_size}, |d| {{\n{body}\n}})")
                }
                _ => line,
            }
        }
        scalar => format!("d.{}()", method(scalar)),
    }
}

fn read_tags(body: &mut Vec<String>, tagged: &[&Field], definition: &Struct, message: &Message) {
    body.push("d.tags(|tag, d| {".to_owned());
    body.push("match tag {".to_owned());
    for field in tagged {
        let guard = match condition(field.versions, flexible_versions(message, definition)) {
            Some(condition) => format!(" if {condition}"),
            None => String::new(),
        };
        let tag = field.tag.unwrap_or_default();
        let target = ident(&field.name);
        let value = read_value(field);
        body.push(format!("{tag}{guard} => {{\nthis.{target} = {value};\n}}"));
    }
    body.push("_ => return Ok(false),".to_owned());
    body.push("}".to_owned());
    body.push("Ok(true)".to_owned());
    body.push("})?;".to_owned());
}

/// `fn write`: encodes one struct.
pub(crate) fn write(source: &mut Source, message: &Message, definition: &Struct) {
    let mut body = Vec::new();
    for field in definition.fields.iter().filter(|field| field.tag.is_none()) {
        let value = write_value(field, definition);
        guarded(
            &mut body,
            field,
            definition.versions,
            definition,
            vec![value],
        );
    }
    if let Some(flexible) = flexible_condition(message, definition) {
        if flexible != "true" {
            body.push("if flexible {".to_owned());
        }
        write_tags(&mut body, message, definition);
        if flexible != "true" {
            body.push("} else {".to_owned());
            let tagged = definition
                .fields
                .iter()
                .filter(|f| f.tag.is_some() && !f.ignorable);
            let checks: Vec<String> = tagged.map(|field| absent(field, definition)).collect();
            if checks.is_empty() {
                body.pop();
            }
            body.extend(checks);
            body.push("}".to_owned());
        }
    }
    body.push("Ok(())".to_owned());
    function(
        source,
        "write(&self, e: &mut Encoder, VERSION: i16) -> Result<(), EncodeError>",
        message,
        definition,
        &body,
    );
}

fn write_tags(body: &mut Vec<String>, message: &Message, definition: &Struct) {
    let tagged: Vec<&Field> = definition
        .fields
        .iter()
        .filter(|f| f.tag.is_some())
        .collect();
    if tagged.is_empty() {
        body.push("e.no_tags();".to_owned());
        return;
    }
    let within = flexible_versions(message, definition);
    body.push("let mut tags = e.tags();".to_owned());
    for field in tagged {
        let tag = field.tag.unwrap_or_default();
        let value = write_value(field, definition);
        let encoding = match value.strip_suffix("?;") {
            Some(fallible) => fallible.to_owned(),
            None => format!("{{ {value} Ok(()) }}"),
        };
        let field_line = format!("tags.field({tag}, |e| {encoding})?;");
        let is_set = is_set(field);
        match condition(field.versions, within) {
            Some(condition) if field.ignorable => {
                body.push(format!("if {condition} && {is_set} {{\n{field_line}\n}}"));
            }
            _ => {
                let write = vec![format!("if {is_set} {{\n{field_line}\n}}")];
                guarded(body, field, within, definition, write);
            }
        }
    }
}

/// Puts `statements` behind the condition that the version has the field, and a check behind
/// `else`.
fn guarded(
    body: &mut Vec<String>,
    field: &Field,
    within: Versions,
    definition: &Struct,
    statements: Vec<String>,
) {
    let Some(condition) = condition(field.versions, within) else {
        body.extend(statements);
        return;
    };
    body.push(format!("if {condition} {{"));
    body.extend(statements);
    if !field.ignorable {
        body.push("} else {".to_owned());
        body.push(absent(field, definition));
    }
    body.push("}".to_owned());
}

/// A statement that fails if the field is set.
fn absent(field: &Field, definition: &Struct) -> String {
    let is_set = is_set(field);
    let name = format!("\"{}.{}\"", definition.name, field.name);
    let line = format!("absent({is_set}, {name}, version)?;");
    if line.len() <= LINE_MAX {
        return line;
    }
    format!("absent(\n{is_set},\n{name},\nversion,\n)?;")
}

/// A statement that encodes the field in the versions that have it.
fn write_value(field: &Field, definition: &Struct) -> String {
    let place = format!("self.{}", ident(&field.name));
    let plain = |value: &str| write_kind(&field.kind, field.inflexible, value, "");
    let Some(nullable) = field.nullable else {
        return plain(&place);
    };
    let optional = match &field.kind {
        Kind::Records => return plain(&place),
        Kind::Struct(_) => {
            format!("e.nullable({place}.as_ref(), |e, inner| inner.write(e, version))?;")
        }
        kind => write_kind(kind, field.inflexible, &place, "nullable_"),
    };
    match condition(nullable, field.versions) {
        None => optional,
        Some(condition) => {
            let required = format!(
                "let value = required({place}.as_ref(), \"{}.{}\", version)?;",
                definition.name, field.name
            );
            let plain = plain("value").replace("&value", "value");
            format!("if {condition} {{\n{optional}\n}} else {{\n{required}\n{plain}\n}}")
        }
    }
}

fn write_kind(kind: &Kind, inflexible: bool, place: &str, prefix: &str) -> String {
    let flexible = if inflexible { "false" } else { "flexible" };
    let reference = if prefix.is_empty() {
        format!("&{place}")
    } else {
        format!("{place}.as_deref()")
    };
    match kind {
        Kind::String => format!("e.{prefix}string({flexible}, {reference})?;"),
        Kind::Bytes => format!("e.{prefix}bytes({flexible}, {reference})?;"),
        Kind::Records => format!("e.records({flexible}, {place}.as_ref())?;"),
        Kind::Struct(_) => format!("{place}.write(e, version)?;"),
        Kind::Array(element) => {
            let element = match &**element {
                Kind::Struct(_) => "|e, item| item.write(e, version)".to_owned(),
                Kind::String => format!("|e, item| e.string({flexible}, item)"),
                Kind::Bytes => format!("|e, item| e.bytes({flexible}, item)"),
                scalar => format!("|e, &item| {{ e.{}(item); Ok(()) }}", method(scalar)),
            };
            format!("e.{prefix}array({flexible}, {reference}, {element})?;")
        }
        scalar => format!("e.{}({place});", method(scalar)),
    }
}

/// The method of `Decoder` and `Encoder` for a type of fixed size.
fn method(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int8 => "i8",
        Kind::Int16 => "i16",
        Kind::Uint16 => "u16",
        Kind::Int32 => "i32",
        Kind::Float64 => "f64",
        Kind::Uuid => "uuid",
        _ => "i64",
    }
}

/// An expression that says whether the field differs from its default.
fn is_set(field: &Field) -> String {
    let place = format!("self.{}", ident(&field.name));
    let null = field.default.as_deref() == Some("null") || field.kind == Kind::Records;
    match (&field.kind, field.nullable, &field.default) {
        _ if null => format!("{place}.is_some()"),
        (Kind::String | Kind::Bytes | Kind::Array(_), Some(_), None) => {
            format!("{place}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (Kind::Bool, None, Some(default)) if default == "true" => format!("!{place}"),
        (Kind::Bool, None, _) => place,
        (Kind::String | Kind::Bytes | Kind::Array(_), None, None) => format!("!{place}.is_empty()"),
        _ => format!("{place} != {}", default_value(field)),
    }
}

/// The test that a version is in `versions`, given that it is in `within`; none if it always is.
fn condition(versions: Versions, within: Versions) -> Option<String> {
    let starts = versions.first <= within.first;
    let ends = versions.last >= within.last;
    match (starts, ends) {
        (true, true) => None,
        (false, true) => Some(format!("version >= {}", versions.first)),
        (true, false) => Some(format!("version <= {}", versions.last)),
        (false, false) if versions.first == versions.last => {
            Some(format!("version == {}", versions.first))
        }
        (false, false) => Some(format!(
            "({}..={}).contains(&version)",
            versions.first, versions.last
        )),
    }
}

/// When the struct is flexible: `None` for never, else an expression.
fn flexible_condition(message: &Message, definition: &Struct) -> Option<String> {
    let versions = flexible_versions(message, definition);
    if versions.first > versions.last {
        return None;
    }
    Some(condition(versions, definition.versions).unwrap_or_else(|| "true".to_owned()))
}

/// The versions of the struct that are flexible; empty, with its end before its start, if none is.
fn flexible_versions(message: &Message, definition: &Struct) -> Versions {
    let first = message
        .flexible
        .unwrap_or(i16::MAX)
        .max(definition.versions.first);
    Versions {
        first,
        last: definition.versions.last,
    }
}

/// Writes a function of `body`, which may use `version` and `flexible`.
fn function(
    source: &mut Source,
    signature: &str,
    message: &Message,
    definition: &Struct,
    body: &[String],
) {
    let uses = |word: &str| body.iter().any(|line| has_word(line, word));
    let flexible = flexible_condition(message, definition).unwrap_or_else(|| "false".to_owned());
    let uses_flexible = uses("flexible");
    let uses_version = uses("version") || (uses_flexible && has_word(&flexible, "version"));
    let version = if uses_version { "version" } else { "_version" };
    source.line(&format!("fn {} {{", signature.replace("VERSION", version)));
    if uses_flexible {
        source.line(&format!("let flexible = {flexible};"));
    }
    for lines in body {
        source.lines(lines);
    }
    source.line("}");
}

/// Whether `code` uses the variable `word`: not as a field, and not as a part of another name.
fn has_word(code: &str, word: &str) -> bool {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '.';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        // A range such as `4..=version` is no access to a field.
        let before_ok = before.is_none_or(|letter| !is_name(letter)) || code[..at].ends_with("..=");
        let after_ok =
            after.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_' && letter != ':');
        before_ok && after_ok
    })
}
