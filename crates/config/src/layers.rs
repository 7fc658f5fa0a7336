//! The static configuration of a broker, from its three places.
//!
//! Input: the environment, the text of a `server.properties`, options `--set key=value`. Output: a
//! [`BrokerConfig`], or everything that is wrong, at once and each with its place.
//!
//! **Precedence: environment < file < `--set`**, in whatever order they are handed over. The
//! environment is what a machine or an image brings along, the file is what somebody wrote for this
//! node, an option is what somebody wants right now.
//!
//! A key's variable is its name in upper case, dots as underscores, after `SKEIN_`:
//! `SKEIN_LOG_SEGMENT_BYTES`. A variable that names no key is a warning, not an error: platforms
//! put variables of their own there (a Kubernetes service named `skein` brings
//! `SKEIN_SERVICE_HOST`).
//!
//! Invariant, held by [`Layers::put`]: every setting kept here is one that its key takes.

use std::collections::BTreeMap;
use std::fmt;

use crate::broker_config::BrokerConfig;
use crate::conflicts::conflicts;
use crate::error::{ConfigError, ConfigErrors, Origin, quoted};
use crate::key::Key;
use crate::keys;
use crate::nearest::nearest;
use crate::properties;
use crate::settings::Settings;

/// Prefix of environment variables.
const ENVIRONMENT_PREFIX: &str = "SKEIN_";

/// A value as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// What an operator should know, though the node starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigWarning {
    /// A variable with our prefix that names no key.
    UnknownVariable {
        /// The variable.
        variable: String,
        /// The variable that was probably meant.
        nearest: Option<String>,
    },
    /// A key that stands twice in a file; the last one counts.
    Repeated {
        /// The key.
        key: &'static str,
        /// The entry that does not count.
        origin: Origin,
    },
    /// A key that this version accepts but does not act on.
    WithoutEffect {
        /// The key.
        key: &'static str,
        /// Where it is set.
        origin: Origin,
    },
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVariable {
                variable,
                nearest: Some(nearest),
            } => {
                write!(
                    f,
                    "environment variable {variable} names no key; did you mean {nearest}?"
                )
            }
            Self::UnknownVariable {
                variable,
                nearest: None,
            } => {
                write!(f, "environment variable {variable} names no key")
            }
            Self::Repeated { key, origin } => {
                write!(
                    f,
                    "{origin}{key} is set again further down; this one does not count"
                )
            }
            Self::WithoutEffect { key, origin } => {
                write!(f, "{origin}{key} has no effect in this version")
            }
        }
    }
}

/// Collects what was set, then builds the configuration.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    environment: BTreeMap<&'static str, Setting>,
    file: BTreeMap<&'static str, Setting>,
    command_line: BTreeMap<&'static str, Setting>,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigWarning>,
}

impl Layers {
    /// No settings: every key has its default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the variables that begin with `SKEIN_`, and leaves the others alone.
    #[must_use]
    pub fn environment<K: AsRef<str>, V: AsRef<str>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        for (variable, value) in variables {
            let variable = variable.as_ref();
            if !variable.starts_with(ENVIRONMENT_PREFIX) {
                continue;
            }
            match keys::of_brokers().find(|key| key.environment_variable() == variable) {
                Some(key) => {
                    let origin = Origin::Environment(variable.to_owned());
                    let setting = self.checked(key, value.as_ref(), origin);
                    self.environment.extend(setting);
                }
                None => {
                    let names: Vec<_> = keys::of_brokers().map(Key::environment_variable).collect();
                    // Lower case, because that is how the search compares.
                    let names: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();
                    let nearest = nearest(variable, names.iter().map(String::as_str));
                    self.warnings.push(ConfigWarning::UnknownVariable {
                        variable: quoted(variable),
                        nearest: nearest.map(str::to_uppercase),
                    });
                }
            }
        }
        self
    }

    /// Takes the entries of a file. `path` is for messages.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: &[u8]) -> Self {
        let origin = |line| Origin::File {
            path: path.to_owned(),
            line,
        };
        let entries = match properties::parse(bytes) {
            Ok(entries) => entries,
            Err(error) => {
                let message = error.message.to_owned();
                self.errors.push(ConfigError::Syntax {
                    message,
                    origin: origin(error.line),
                });
                return self;
            }
        };
        for entry in entries {
            let setting = self.put(&entry.key, &entry.value, origin(entry.line));
            let former = setting.and_then(|(key, setting)| {
                self.file
                    .insert(key, setting)
                    .map(|former| (key, former.origin))
            });
            self.warnings
                .extend(former.map(|(key, origin)| ConfigWarning::Repeated { key, origin }));
        }
        self
    }

    /// Takes an option of the form `key=value`. Of several for one key, the last counts.
    #[must_use]
    pub fn set(mut self, option: &str) -> Self {
        match option.split_once('=') {
            Some((key, value)) => {
                let setting = self.put(key.trim(), value, Origin::CommandLine);
                self.command_line.extend(setting);
            }
            None => self.errors.push(ConfigError::Syntax {
                message: format!("{:?} is not of the form key=value", quoted(option)),
                origin: Origin::CommandLine,
            }),
        }
        self
    }

    /// The configuration, and what its operator should know.
    ///
    /// # Errors
    /// Everything that is wrong with any value, or with values that don't go together.
    pub fn build(mut self) -> Result<(BrokerConfig, Vec<ConfigWarning>), ConfigErrors> {
        let mut fixed = self.environment;
        fixed.extend(self.file);
        fixed.extend(self.command_line);
        for (name, setting) in &fixed {
            if keys::broker(name).is_some_and(|key| !key.in_effect) {
                let origin = setting.origin.clone();
                self.warnings
                    .push(ConfigWarning::WithoutEffect { key: name, origin });
            }
        }
        let config = BrokerConfig::new(Settings {
            fixed,
            ..Settings::default()
        });
        self.errors.extend(conflicts(&config));
        if self.errors.is_empty() {
            Ok((config, self.warnings))
        } else {
            Err(ConfigErrors(self.errors))
        }
    }

    fn put(&mut self, name: &str, value: &str, origin: Origin) -> Option<(&'static str, Setting)> {
        match keys::require_broker(name, &origin) {
            Ok(key) => self.checked(key, value, origin),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    fn checked(
        &mut self,
        key: &'static Key,
        value: &str,
        origin: Origin,
    ) -> Option<(&'static str, Setting)> {
        match check_value(key, value, &origin) {
            Ok(()) => Some((
                key.name,
                Setting {
                    value: value.to_owned(),
                    origin,
                },
            )),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }
}

/// Whether the key takes the value.
pub(crate) fn check_value(
    key: &'static Key,
    value: &str,
    origin: &Origin,
) -> Result<(), ConfigError> {
    if key.parse(value).is_some() {
        return Ok(());
    }
    let shown = if key.is_sensitive() {
        "***".to_owned()
    } else {
        quoted(value)
    };
    Err(ConfigError::InvalidValue {
        key: key.name,
        value: shown,
        allowed: key.allowed_values(),
        origin: origin.clone(),
    })
}

#[cfg(test)]
mod tests;
