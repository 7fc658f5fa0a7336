//! What is wrong with a configuration, and where.
//!
//! Input: the checks of this crate. Output: sentences for an operator, each with the place of the
//! mistake and what to write instead; for a request, the error code that the client sees.

use std::fmt;

use skein_types::ErrorCode;
use thiserror::Error;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file; the first line is 1.
    File {
        /// The file, as the operator named it.
        path: String,
        /// The line on which the entry begins.
        line: u32,
    },
    /// A variable of the environment.
    Environment(String),
    /// An option `--set` of the command line.
    CommandLine,
    /// A request of a client, or the metadata.
    Request,
}

impl fmt::Display for Origin {
    /// A prefix for an error, with its colon; nothing for a request, whose sender knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}: "),
            Self::Environment(variable) => write!(f, "environment variable {variable}: "),
            Self::CommandLine => f.write_str("--set: "),
            Self::Request => Ok(()),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No such key.
    #[error("{origin}unknown key {key:?}{}", did_you_mean(*nearest))]
    UnknownKey {
        /// As it was written, cut to a sensible length.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
        /// Where it was written.
        origin: Origin,
    },
    /// A key of Kafka's that Skein does without.
    #[error("{origin}{key:?} is a key of Kafka that Skein does without: {reason}")]
    NotSkeins {
        /// As it was written, cut to a sensible length.
        key: String,
        /// What to do instead.
        reason: &'static str,
        /// Where it was written.
        origin: Origin,
    },
    /// A key of topics among the settings of a broker, or the other way round.
    #[error("{origin}{key:?} can't be set here: {hint}")]
    WrongScope {
        /// The key.
        key: &'static str,
        /// Where it can be set, and the key to use here.
        hint: String,
        /// Where it was written.
        origin: Origin,
    },
    /// A value that the key does not take.
    #[error("{origin}invalid value {value:?} for {key}: expected {allowed}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// The value as it was written, cut to a sensible length; stars where it is secret.
        value: String,
        /// The values that the key takes.
        allowed: String,
        /// Where it was written.
        origin: Origin,
    },
    /// Values that don't go together.
    #[error("{0}")]
    Conflict(String),
    /// Text that is not in the form `key=value`, or a file that can't be read as properties.
    #[error("{origin}{message}")]
    Syntax {
        /// What is wrong.
        message: String,
        /// Where.
        origin: Origin,
    },
    /// A running broker can't take a new value of this key.
    #[error("{0} is read-only: set it in the broker's configuration and restart the broker")]
    ReadOnly(&'static str),
    /// APPEND or SUBTRACT on a key that holds no list.
    #[error("{0} is not a list: it can be set or deleted, not appended to or subtracted from")]
    NotAList(&'static str),
    /// The same key twice in one request.
    #[error("{0} appears more than once in the request")]
    DuplicateKey(String),
    /// An operation that needs a value came without one.
    #[error("{0} needs a value; use DELETE to return to the default")]
    NullValue(String),
}

impl ConfigError {
    /// What a client that sent this is told. The request itself is at fault, or one of its values
    /// is.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            Self::DuplicateKey(_) | Self::NullValue(_) => ErrorCode::InvalidRequest,
            _ => ErrorCode::InvalidConfig,
        }
    }

    /// The same for the settings of a broker: there Kafka calls a value that it can't take, and a
    /// key that must not change while it runs, an invalid request.
    #[must_use]
    pub const fn broker_error_code(&self) -> ErrorCode {
        match self {
            Self::InvalidValue { .. } | Self::Conflict(_) | Self::ReadOnly(_) => {
                ErrorCode::InvalidRequest
            }
            _ => self.error_code(),
        }
    }
}

/// Everything that is wrong with a configuration, so that one round of repair is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Characters of a stranger's text that an error repeats.
const MAX_QUOTED_CHARS: usize = 200;

/// Text from outside, short enough for a message.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean {key:?}?"))
}
