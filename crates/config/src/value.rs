//! Values of configuration keys, and their text.
//!
//! Input: text from a file, an option or a request. Output: a [`Value`] of the key's type, and its
//! canonical text again.
//!
//! Invariant, checked by a property test: `parse(print(value)) == value`.
//!
//! Source: Kafka's `ConfigDef.parseType`: white space around a value does not count; lists are split at
//! commas.

use std::fmt;

use crate::key::ConfigType;

/// A value of a configuration key.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a `boolean` key.
    Bool(bool),
    /// Of an `int`, `short` or `long` key.
    Int(i64),
    /// Of a `double` key; always finite.
    Double(f64),
    /// Of a `string` or `password` key.
    Text(String),
    /// Of a `list` key: items without white space around them, none empty, each once.
    List(Vec<String>),
}

impl Value {
    /// Reads a value of the type. `None` where the text is not one.
    #[must_use]
    pub fn parse(config_type: ConfigType, text: &str) -> Option<Self> {
        let text = text.trim();
        match config_type {
            ConfigType::Boolean if text.eq_ignore_ascii_case("true") => Some(Self::Bool(true)),
            ConfigType::Boolean if text.eq_ignore_ascii_case("false") => Some(Self::Bool(false)),
            ConfigType::Boolean => None,
            ConfigType::Int | ConfigType::Short | ConfigType::Long => {
                let (min, max) = config_type.range();
                let number = text.parse::<i64>().ok()?;
                (min..=max).contains(&number).then_some(Self::Int(number))
            }
            ConfigType::Double => {
                let number = text.parse::<f64>().ok()?;
                number.is_finite().then_some(Self::Double(number))
            }
            ConfigType::String | ConfigType::Password => Some(Self::Text(text.to_owned())),
            ConfigType::List => Some(Self::List(split_list(text))),
        }
    }

    pub(crate) const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) const fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) const fn as_double(&self) -> Option<f64> {
        match self {
            Self::Double(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn as_list(&self) -> Option<&[String]> {
        match self {
            Self::List(value) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::Text(value) => f.write_str(value),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// The items between commas. An empty one says nothing, and neither does one that was there before.
fn split_list(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        if !items.iter().any(|known| known == item) {
            items.push(item.to_owned());
        }
    }
    items
}
