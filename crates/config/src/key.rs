//! What the table says of one key.
//!
//! Input: a row of [`crate::keys`], written with the `const` builders below. Output: the key's
//! checks and its words. A row reads like a sentence:
//!
//! ```text
//! Key::broker("num.partitions", Int).default("1").between(1, INT_MAX).doc("Partitions of …")
//! ```
//!
//! Invariants, checked by the tests of [`crate::keys`]: names are unique within a scope, a default
//! is allowed by its own key, a synonym names a broker key, and the documentation is not empty.

use crate::value::{Value, repeats_an_item};

/// Largest value of Kafka's `INT`.
pub(crate) const INT_MAX: i64 = i32::MAX as i64;
/// Largest value of Kafka's `SHORT`.
pub(crate) const SHORT_MAX: i64 = i16::MAX as i64;
/// Largest value of Kafka's `LONG`; most keys take it for "no limit".
pub(crate) const LONG_MAX: i64 = i64::MAX;

/// Most threads of one kind.
pub(crate) const MAX_THREADS: u16 = 1024;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Kafka's name, such as `log.segment.bytes`.
    pub name: &'static str,
    /// Where it may be set.
    pub scope: Scope,
    /// How its value is written.
    pub config_type: ConfigType,
    /// The type that clients are told: Kafka reads some lists as text and takes them apart later.
    pub told_type: ConfigType,
    /// Its value where nobody sets one.
    pub default: DefaultValue,
    /// Which values of its type it takes.
    pub allowed: AllowedValues,
    /// Whether an item that is repeated in its list is a mistake.
    pub each_once: bool,
    /// Whether a running broker takes a new value. Keys of topics and groups always do.
    pub dynamic: bool,
    /// Whether its value stays where AlterConfigs replaces a whole configuration and does not name
    /// it.
    pub kept_by_replace: bool,
    /// Kafka's "internal": accepted, but described only where it was set.
    pub internal: bool,
    /// Whether this version acts on it. If not, it is accepted and checked, and a warning says so.
    pub in_effect: bool,
    /// The broker keys whose value counts where this one is not set, in order.
    pub synonyms: &'static [Synonym],
    /// What it does, in a few sentences.
    pub doc: &'static str,
}

/// Where a key may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On brokers: file, environment, `--set`, and dynamically if the key is dynamic.
    Broker,
    /// On topics.
    Topic,
    /// On both under one name; the broker's value is the default of its topics.
    Both,
    /// On consumer groups.
    Group,
}

/// Kafka's types of configuration values. The numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Text, without the white space around it.
    String = 2,
    /// A whole number of 32 bits.
    Int = 3,
    /// A whole number of 16 bits.
    Short = 4,
    /// A whole number of 64 bits.
    Long = 5,
    /// A finite decimal number.
    Double = 6,
    /// Items with commas between them.
    List = 7,
    /// Text that is never shown.
    Password = 9,
}

/// The value of a key that nobody has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// None: the documentation says what its absence means.
    Null,
    /// This one, written as in a file.
    Value(&'static str),
    /// It depends on the cluster, the topic or the machine.
    Computed(Rule),
}

/// Defaults that depend on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// min(3, brokers): as safe as the cluster allows.
    ReplicationFactor,
    /// 2 where there are three or more replicas, else 1: one may fail, and writes go on.
    MinInsyncReplicas,
    /// max(4, 2 × cores): half of them may be in a write, and the others still answer.
    NetworkThreads,
}

/// What computed defaults depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Brokers of the cluster, at least 1.
    pub brokers: u16,
    /// Cores of this machine, at least 1.
    pub cores: u16,
}

/// Which values of its type a key takes.
#[derive(Clone, Copy, Debug)]
pub enum AllowedValues {
    /// All of them.
    Any,
    /// Whole numbers from the first to the second, both included.
    Between(i64, i64),
    /// Whole numbers from the first to the second, or the third.
    BetweenOr(i64, i64, i64),
    /// Decimal numbers from the first to the second, both included.
    Ratio(f64, f64),
    /// One of these words; of a list, each item, and there must be one.
    OneOf(&'static [&'static str]),
    /// Of a list that may be empty, each item.
    AnyOf(&'static [&'static str]),
    /// Text of a form of its own: the form in words, and the check.
    Form(&'static str, fn(&str) -> bool),
}

/// A broker key that stands in for another key, and how many of the other's units one of its is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The broker key.
    pub name: &'static str,
    /// 3,600,000 from hours to milliseconds, 1 where the units are the same.
    pub factor: i64,
}

impl Key {
    const fn new(name: &'static str, scope: Scope, config_type: ConfigType) -> Self {
        Self {
            name,
            scope,
            config_type,
            told_type: config_type,
            default: DefaultValue::Null,
            allowed: AllowedValues::Any,
            each_once: false,
            dynamic: matches!(scope, Scope::Topic | Scope::Group),
            kept_by_replace: false,
            internal: false,
            in_effect: true,
            synonyms: &[],
            doc: "",
        }
    }

    /// A row for brokers.
    pub(crate) const fn broker(name: &'static str, config_type: ConfigType) -> Self {
        Self::new(name, Scope::Broker, config_type)
    }

    /// A row for topics.
    pub(crate) const fn topic(name: &'static str, config_type: ConfigType) -> Self {
        Self::new(name, Scope::Topic, config_type)
    }

    /// A row for groups.
    pub(crate) const fn group(name: &'static str, config_type: ConfigType) -> Self {
        Self::new(name, Scope::Group, config_type)
    }

    /// A row for both; such keys are dynamic on brokers too.
    pub(crate) const fn both(name: &'static str, config_type: ConfigType) -> Self {
        Self::new(name, Scope::Both, config_type).dynamic()
    }

    pub(crate) const fn default(mut self, value: &'static str) -> Self {
        self.default = DefaultValue::Value(value);
        self
    }

    pub(crate) const fn computed(mut self, rule: Rule) -> Self {
        self.default = DefaultValue::Computed(rule);
        self
    }

    pub(crate) const fn between(mut self, min: i64, max: i64) -> Self {
        self.allowed = AllowedValues::Between(min, max);
        self
    }

    pub(crate) const fn between_or(mut self, min: i64, max: i64, other: i64) -> Self {
        self.allowed = AllowedValues::BetweenOr(min, max, other);
        self
    }

    pub(crate) const fn ratio(mut self, min: f64, max: f64) -> Self {
        self.allowed = AllowedValues::Ratio(min, max);
        self
    }

    pub(crate) const fn one_of(mut self, words: &'static [&'static str]) -> Self {
        self.allowed = AllowedValues::OneOf(words);
        self
    }

    pub(crate) const fn any_of(mut self, words: &'static [&'static str]) -> Self {
        self.allowed = AllowedValues::AnyOf(words);
        self
    }

    pub(crate) const fn form(mut self, what: &'static str, check: fn(&str) -> bool) -> Self {
        self.allowed = AllowedValues::Form(what, check);
        self
    }

    /// A list in which an item that is repeated is a mistake. Others say it once, as Kafka's do.
    pub(crate) const fn each_once(mut self) -> Self {
        self.each_once = true;
        self
    }

    pub(crate) const fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }

    pub(crate) const fn kept_by_replace(mut self) -> Self {
        self.kept_by_replace = true;
        self
    }

    pub(crate) const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// A list that Kafka has for text.
    pub(crate) const fn told_as_text(mut self) -> Self {
        self.told_type = ConfigType::String;
        self
    }

    /// Accepted and checked, though nothing acts on it yet.
    pub(crate) const fn not_yet(mut self) -> Self {
        self.in_effect = false;
        self
    }

    pub(crate) const fn synonyms(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    pub(crate) const fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// Whether brokers have it.
    #[must_use]
    pub const fn is_broker(&self) -> bool {
        matches!(self.scope, Scope::Broker | Scope::Both)
    }

    /// Whether topics have it.
    #[must_use]
    pub const fn is_topic(&self) -> bool {
        matches!(self.scope, Scope::Topic | Scope::Both)
    }

    /// Whether groups have it.
    #[must_use]
    pub const fn is_group(&self) -> bool {
        matches!(self.scope, Scope::Group)
    }

    /// Whether its value must not be shown.
    #[must_use]
    pub const fn is_sensitive(&self) -> bool {
        matches!(self.config_type, ConfigType::Password)
    }

    /// The variable of the environment that sets it: `SKEIN_LOG_SEGMENT_BYTES`.
    #[must_use]
    pub fn environment_variable(&self) -> String {
        format!("SKEIN_{}", self.name.to_uppercase().replace('.', "_"))
    }

    /// What it does, and whether this version does it.
    #[must_use]
    pub fn documentation(&self) -> String {
        if self.in_effect {
            self.doc.to_owned()
        } else {
            format!(
                "{} Accepted and checked, but without effect in this version.",
                self.doc
            )
        }
    }

    /// Reads a value. `None` where the key does not take it: [`Key::allowed_values`] says what it
    /// takes.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<Value> {
        let value = Value::parse(self.config_type, text)?;
        let is_allowed = self.allows(&value) && !(self.each_once && repeats_an_item(text));
        is_allowed.then_some(value)
    }

    /// The default as a value, where it depends on nothing.
    #[must_use]
    pub fn default_value(&self) -> Option<Value> {
        match self.default {
            DefaultValue::Value(text) => self.parse(text),
            DefaultValue::Null | DefaultValue::Computed(_) => None,
        }
    }

    /// The default as text, computed where need be.
    #[must_use]
    pub fn default_text(&self, facts: Facts) -> Option<String> {
        match self.default {
            DefaultValue::Null => None,
            DefaultValue::Value(text) => Some(text.to_owned()),
            DefaultValue::Computed(rule) => Some(rule.compute(facts).to_string()),
        }
    }

    /// The default in words: also one that depends on something, and one that is empty.
    #[must_use]
    pub fn default_in_words(&self) -> String {
        match self.default {
            DefaultValue::Null => "not set".to_owned(),
            DefaultValue::Value("") => "empty".to_owned(),
            DefaultValue::Value(value) => value.to_owned(),
            DefaultValue::Computed(rule) => rule.text().to_owned(),
        }
    }

    /// The values that the key takes, in words that finish the sentence "expected …".
    #[must_use]
    pub fn allowed_values(&self) -> String {
        let (type_min, type_max) = self.config_type.range();
        match (self.config_type, self.allowed) {
            (_, AllowedValues::Between(min, max)) => range_in_words(min, max),
            (_, AllowedValues::BetweenOr(min, max, other)) => {
                format!("{}, or {other}", range_in_words(min, max))
            }
            (_, AllowedValues::Ratio(min, max)) if max == f64::MAX => {
                format!("a number not below {min}")
            }
            (_, AllowedValues::Ratio(min, max)) => format!("a number from {min} to {max}"),
            (ConfigType::List, AllowedValues::OneOf(words)) => {
                format!("a list of one or more of {}", words.join(", "))
            }
            (_, AllowedValues::OneOf(words)) => format!("one of {}", words.join(", ")),
            (_, AllowedValues::AnyOf(words)) => {
                format!("a list of none or more of {}", words.join(", "))
            }
            (_, AllowedValues::Form(what, _)) => what.to_owned(),
            (ConfigType::Boolean, AllowedValues::Any) => "true or false".to_owned(),
            (ConfigType::Double, AllowedValues::Any) => "a number".to_owned(),
            (ConfigType::List, AllowedValues::Any) => {
                "a list with commas between its items".to_owned()
            }
            (ConfigType::String | ConfigType::Password, AllowedValues::Any) => {
                "any text".to_owned()
            }
            (ConfigType::Int | ConfigType::Short | ConfigType::Long, AllowedValues::Any) => {
                range_in_words(type_min, type_max)
            }
        }
    }

    fn allows(&self, value: &Value) -> bool {
        match (self.allowed, value) {
            (AllowedValues::Any, _) => true,
            (AllowedValues::Between(min, max), Value::Int(number)) => (min..=max).contains(number),
            (AllowedValues::BetweenOr(min, max, other), Value::Int(number)) => {
                *number == other || (min..=max).contains(number)
            }
            (AllowedValues::Ratio(min, max), Value::Double(number)) => (min..=max).contains(number),
            (AllowedValues::OneOf(words), Value::Text(text)) => words.contains(&text.as_str()),
            (AllowedValues::OneOf(words), Value::List(items)) => {
                !items.is_empty() && items.iter().all(|item| words.contains(&item.as_str()))
            }
            (AllowedValues::AnyOf(words), Value::List(items)) => {
                items.iter().all(|item| words.contains(&item.as_str()))
            }
            (AllowedValues::Form(_, check), Value::Text(text)) => check(text),
            (AllowedValues::Form(_, check), Value::Bool(is_set)) => check(&is_set.to_string()),
            (AllowedValues::Form(_, check), Value::List(items)) => {
                items.iter().all(|item| check(item))
            }
            _ => false,
        }
    }
}

impl ConfigType {
    /// The number that DescribeConfigs carries.
    #[must_use]
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// Kafka's name of the type, in lower case as its reference writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Password => "password",
        }
    }

    /// Smallest and largest whole number of the type.
    pub(crate) const fn range(self) -> (i64, i64) {
        match self {
            Self::Short => (i16::MIN as i64, SHORT_MAX),
            Self::Int => (i32::MIN as i64, INT_MAX),
            _ => (i64::MIN, LONG_MAX),
        }
    }
}

impl Rule {
    /// The rule in words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ReplicationFactor => "min(3, brokers)",
            Self::MinInsyncReplicas => "2 with three or more replicas, else 1",
            Self::NetworkThreads => "max(4, 2 × cores)",
        }
    }

    /// Its number. A topic's replication factor is taken to be the default one.
    #[must_use]
    pub fn compute(self, facts: Facts) -> u16 {
        match self {
            Self::ReplicationFactor => facts.brokers.clamp(1, 3),
            Self::MinInsyncReplicas => min_insync_replicas(Self::ReplicationFactor.compute(facts)),
            Self::NetworkThreads => facts.cores.saturating_mul(2).clamp(4, MAX_THREADS),
        }
    }
}

/// The default of `min.insync.replicas` for so many replicas.
#[must_use]
pub const fn min_insync_replicas(replicas: u16) -> u16 {
    if replicas >= 3 { 2 } else { 1 }
}

fn range_in_words(min: i64, max: i64) -> String {
    if max == INT_MAX || max == LONG_MAX {
        format!("a whole number from {min} up (at most {max})")
    } else {
        format!("a whole number from {min} to {max}")
    }
}
