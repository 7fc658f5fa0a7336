//! What an import found that somebody should know.

use std::fmt;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Nothing is imported while it stands.
    Refused,
    /// It is left behind.
    Left,
    /// It is taken, or harmless, and worth knowing.
    Note,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The directory as a whole.
    Directory,
    /// The metadata log.
    Metadata,
    /// A topic.
    Topic(String),
    /// A partition: topic and number.
    Partition(String, i32),
    /// A configuration: whose, and the key.
    Config(String, String),
    /// A feature level.
    Feature(String),
    /// Users, access control lists, quotas, delegation tokens.
    Security,
    /// A name in the directory.
    Entry(String),
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How much it weighs.
    pub weight: Weight,
    /// What it is about.
    pub subject: Subject,
    /// What was found.
    pub what: String,
    /// What to do about it; empty where nothing needs to be done.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn new(
        weight: Weight,
        subject: Subject,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            weight,
            subject,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("the directory"),
            Self::Metadata => f.write_str("the metadata log"),
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::Partition(topic, partition) => write!(f, "partition {topic}-{partition}"),
            Self::Config(resource, key) => write!(f, "{key} of {resource}"),
            Self::Feature(name) => write!(f, "feature {name}"),
            Self::Security => f.write_str("security"),
            Self::Entry(name) => f.write_str(name),
        }
    }
}
