//! Why the client could not do what it was asked.
//!
//! Input: refusals of brokers and failures of the world. Output: one error type, whose text says
//! what happened to what.
//!
//! Invariant: an error of a broker keeps its [`ErrorCode`], so that a program can decide on it.

use std::time::Duration;

use skein_net::CallError;
use skein_protocol::ApiKey;
use skein_record::BatchError;
use skein_types::{BrokerId, ErrorCode, Offset, TopicPartition};
use thiserror::Error;

/// Why the client could not do what it was asked. Cheap to clone: many records share one.
#[derive(Clone, Debug, Error)]
pub enum ClientError {
    /// The bootstrap text is no list of addresses.
    #[error("{0:?} is not a list of addresses of the form host:port, separated by commas")]
    Bootstrap(String),
    /// Nobody answers.
    #[error("no broker answers at {addresses}: {last}")]
    Unreachable {
        /// Where it was tried.
        addresses: String,
        /// What the last one said.
        last: Box<Self>,
    },
    /// A connection cannot be made, or has ended.
    #[error("broker at {address}: {source}")]
    Connection {
        /// Host and port.
        address: String,
        /// What happened.
        source: CallError,
    },
    /// The broker has no version of an API that this client has too.
    #[error("the broker at {address} does not serve {api_key} in a version that this client knows")]
    Unsupported {
        /// Host and port.
        address: String,
        /// The API.
        api_key: ApiKey,
    },
    /// A broker refuses.
    #[error("{subject}: {}", refusal(*code, message.as_deref()))]
    Refused {
        /// What was asked: a topic, a partition, an API.
        subject: String,
        /// Kafka's code.
        code: ErrorCode,
        /// What the broker says of it.
        message: Option<String>,
    },
    /// It took too long; `last` is what the last attempt came to.
    #[error("{subject}: not done within {} ms{}", timeout.as_millis(), because(last.as_deref()))]
    TimedOut {
        /// What was asked.
        subject: String,
        /// How long it was tried.
        timeout: Duration,
        /// What the last attempt came to.
        last: Option<Box<Self>>,
    },
    /// A broker's answer does not fit what was asked.
    #[error("{subject}: the broker's answer makes no sense: {reason}")]
    Senseless {
        /// What was asked.
        subject: String,
        /// What is wrong with the answer.
        reason: &'static str,
    },
    /// A record is larger than a request may be, or than the producer's memory.
    #[error("a record of {bytes} bytes is above the limit of {max}; see max.request.size")]
    RecordTooLarge {
        /// Bytes of the record in its batch, at most.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A topic has no such partition.
    #[error("{partition}: the topic has partitions 0 to {last}")]
    NoSuchPartition {
        /// What was asked for.
        partition: TopicPartition,
        /// The highest there is.
        last: i32,
    },
    /// A partition has no leader, and none of its replicas is there to become it.
    #[error(
        "partition {partition} has no leader: its replicas are offline (on {})",
        on(replicas)
    )]
    Offline {
        /// The partition.
        partition: TopicPartition,
        /// The brokers that have a replica.
        replicas: Vec<BrokerId>,
    },
    /// A batch cannot be made.
    #[error("a batch for {partition} cannot be made: {source}")]
    Encode {
        /// Where it should have gone.
        partition: TopicPartition,
        /// What is wrong.
        source: BatchError,
    },
    /// A fetched batch is corrupt.
    #[error("{partition} at offset {offset}: {source}")]
    Corrupt {
        /// Where it lies.
        partition: TopicPartition,
        /// The offset that was asked for.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// A position is outside of the log and no reset is configured.
    #[error("{partition}: offset {offset} is not in the log, which begins at {log_start_offset}")]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset that was asked for.
        offset: Offset,
        /// First offset of the log; −1 if the broker does not say.
        log_start_offset: Offset,
    },
    /// A batch was sent and its fate is unknown; sending it again could write it twice.
    #[error(
        "{partition}: it is unknown whether the batch was written; it was not sent again{}",
        because(last.as_deref())
    )]
    OutcomeUnknown {
        /// Where it went.
        partition: TopicPartition,
        /// What the last attempt came to.
        last: Option<Box<Self>>,
    },
    /// Options that contradict each other.
    #[error("{0}")]
    Options(&'static str),
    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
}

impl ClientError {
    /// A broker's refusal.
    pub(crate) fn refused(
        subject: impl Into<String>,
        code: ErrorCode,
        message: Option<&str>,
    ) -> Self {
        Self::Refused {
            subject: subject.into(),
            code,
            message: message.filter(|text| !text.is_empty()).map(str::to_owned),
        }
    }

    /// Kafka's code, where a broker gave one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::OffsetOutOfRange { .. } => Some(ErrorCode::OffsetOutOfRange),
            Self::TimedOut { last, .. } | Self::OutcomeUnknown { last, .. } => {
                last.as_ref().and_then(|last| last.code())
            }
            _ => None,
        }
    }

    /// Whether somebody answers who does not speak Kafka's protocol, or not in plain text, as far
    /// as that can be told.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::Connection { source, .. } => matches!(
                source,
                CallError::ResponseLength { .. }
                    | CallError::WrongCorrelationId { .. }
                    | CallError::Decode { .. }
                    | CallError::ClosedByPeer
            ),
            Self::Unreachable { last, .. } => last.is_foreign(),
            Self::TimedOut { last, .. } => last.as_ref().is_some_and(|last| last.is_foreign()),
            _ => false,
        }
    }

    /// Whether the same may succeed when it is tried again.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.is_retriable(),
            Self::Connection { source, .. } => !matches!(source, CallError::Encode(_)),
            Self::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// Whether the cached leaders may be out of date.
    pub(crate) fn is_stale_metadata(&self) -> bool {
        match self {
            Self::Refused { code, .. } => is_stale_metadata(*code),
            Self::Connection { .. } => true,
            _ => false,
        }
    }
}

/// Whether a code says that its sender asked the wrong broker, or for something that has changed.
pub(crate) const fn is_stale_metadata(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::ListenerNotFound
            | ErrorCode::KafkaStorageError
    )
}

fn refusal(code: ErrorCode, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("{message} ({code})"),
        None => code.name().to_owned(),
    }
}

fn on(replicas: &[BrokerId]) -> String {
    let ids: Vec<_> = replicas.iter().map(BrokerId::to_string).collect();
    let noun = if ids.len() == 1 { "broker" } else { "brokers" };
    format!("{noun} {}", ids.join(", "))
}

fn because(last: Option<&ClientError>) -> String {
    last.map_or_else(String::new, |last| format!("; last: {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_code_and_its_words() {
        let error =
            ClientError::refused("topic t", ErrorCode::InvalidPartitions, Some("0 of them"));
        assert_eq!(error.to_string(), "topic t: 0 of them (INVALID_PARTITIONS)");
        assert_eq!(error.code(), Some(ErrorCode::InvalidPartitions));
        assert!(!error.is_retriable());
        let wrapped = ClientError::TimedOut {
            subject: "t".into(),
            timeout: Duration::from_secs(1),
            last: Some(Box::new(error)),
        };
        assert_eq!(wrapped.code(), Some(ErrorCode::InvalidPartitions));
        assert!(ClientError::refused("t", ErrorCode::NotController, None).is_retriable());
    }
}
