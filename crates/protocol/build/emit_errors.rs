//! Writes the functions that walk over the error codes of a response.
//!
//! Input: a response's structs. Output: for each that has error codes, or holds one that does, a
//! function which shows them to a visitor; for the response the one of the trait.
//!
//! Invariant: every field that is called an error code is shown, wherever it stands.

use crate::emit::{Source, ident};
use crate::schema::{Field, Kind, Message, Role, Struct};

/// `fn see_error_codes` of one struct of a response.
pub(crate) fn walk(source: &mut Source, message: &Message, definition: &Struct) {
    if message.role != Role::Response || !has_codes(message, definition) {
        return;
    }
    source.line("");
    source.line("fn see_error_codes(&self, see: &mut dyn FnMut(i16)) {");
    for field in &definition.fields {
        let name = ident(&field.name);
        if is_code(field) {
            source.line(&format!("see(self.{name});"));
        } else if let Some(inner) = inner(message, field)
            && has_codes(message, inner)
        {
            let all = match (&field.kind, &field.nullable) {
                (Kind::Array(_), None) => format!("&self.{name}"),
                (Kind::Array(_), Some(_)) => format!("self.{name}.iter().flatten()"),
                (_, Some(_)) => format!("&self.{name}"),
                (_, None) => format!("[&self.{name}]"),
            };
            source.line(&format!("for inner in {all} {{"));
            source.line("inner.see_error_codes(see);");
            source.line("}");
        }
    }
    source.line("}");
}

/// What the trait says of the whole response.
pub(crate) fn of_trait(message: &Message) -> &'static str {
    if message.role == Role::Response && has_codes(message, &message.structs[0]) {
        "
         fn error_codes(&self, see: &mut dyn FnMut(i16)) {
         self.see_error_codes(see);
         }"
    } else {
        ""
    }
}

fn has_codes(message: &Message, definition: &Struct) -> bool {
    // A struct does not contain itself: the schema was checked.
    let holds = |field| inner(message, field).is_some_and(|inner| has_codes(message, inner));
    let mut fields = definition.fields.iter();
    fields.any(|field| is_code(field) || holds(field))
}

fn is_code(field: &Field) -> bool {
    field.kind == Kind::Int16 && field.name.ends_with("error_code")
}

fn inner<'a>(message: &'a Message, field: &Field) -> Option<&'a Struct> {
    message.find(field.kind.struct_name()?)
}
