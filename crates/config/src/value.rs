//! Values of configuration keys, and their text.
//!
//! Input: text from a file, an option or a request. Output: a [`Value`] of the key's type, and its
//! canonical text again.
//!
//! Invariant, checked by a property test: `parse(print(value)) == value`.
//!
//! Source: Kafka's `ConfigDef.parseType`: white space around a value does not count; lists are
//! split at commas.

use std::collections::BTreeSet;
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
    let items = text.split(',').map(str::trim);
    let mut known = BTreeSet::new();
    items
        .filter(|item| !item.is_empty() && known.insert(*item))
        .map(str::to_owned)
        .collect()
}

/// Whether an item stands between the commas more than once, which a list does not show any more.
pub(crate) fn repeats_an_item(text: &str) -> bool {
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).count() > split_list(text).len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_typed() -> impl Strategy<Value = (ConfigType, Value)> {
        let item = "[^, \\pC\\s][^,\\pC\\s]{0,6}";
        prop_oneof![
            any::<bool>().prop_map(|value| (ConfigType::Boolean, Value::Bool(value))),
            any::<i16>().prop_map(|value| (ConfigType::Short, Value::Int(value.into()))),
            any::<i32>().prop_map(|value| (ConfigType::Int, Value::Int(value.into()))),
            any::<i64>().prop_map(|value| (ConfigType::Long, Value::Int(value))),
            prop::num::f64::NORMAL.prop_map(|value| (ConfigType::Double, Value::Double(value))),
            any::<String>()
                .prop_map(|text| (ConfigType::String, Value::Text(text.trim().to_owned()))),
            prop::collection::btree_set(item, 0..5)
                .prop_map(|items| { (ConfigType::List, Value::List(items.into_iter().collect())) }),
        ]
    }

    #[test]
    fn numbers_keep_to_their_types() {
        assert_eq!(
            Value::parse(ConfigType::Short, " 32767 "),
            Some(Value::Int(32_767))
        );
        assert_eq!(Value::parse(ConfigType::Short, "32768"), None);
        assert_eq!(Value::parse(ConfigType::Int, "2147483648"), None);
        assert_eq!(Value::parse(ConfigType::Long, "9223372036854775808"), None);
        assert_eq!(Value::parse(ConfigType::Double, "NaN"), None);
        assert_eq!(Value::parse(ConfigType::Double, "inf"), None);
        assert_eq!(Value::parse(ConfigType::Boolean, "yes"), None);
    }

    #[test]
    fn a_list_has_each_item_once_and_no_empty_one() {
        let items = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(
            Value::parse(ConfigType::List, " a , b,,a "),
            Some(Value::List(items))
        );
        assert_eq!(
            Value::parse(ConfigType::List, ""),
            Some(Value::List(Vec::new()))
        );
    }

    proptest! {
        #[test]
        fn parsing_what_was_printed_gives_the_value_back((config_type, value) in any_typed()) {
            prop_assert_eq!(Value::parse(config_type, &value.to_string()), Some(value));
        }
    }
}
