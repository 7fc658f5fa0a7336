//! How a command fails: a sentence, what to do, an exit code.
//!
//! Input: errors of the client, the system, the configuration. Output: text on standard error, and
//! the code.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use skein_client::ClientError;
use skein_types::ErrorCode;

/// The command could not be carried out.
const FAILED: u8 = 1;
/// The command, or the configuration, is wrong.
const WRONG: u8 = 2;

/// How a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever reads the output has gone; nothing is wrong.
    ReaderGone,
    /// The output has said what is wrong.
    Shown {
        /// The exit code.
        code: u8,
    },
    /// To be told.
    Told {
        /// The exit code.
        code: u8,
        /// What happened.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl Failure {
    /// It could not be done.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Told {
            code: FAILED,
            message: message.into(),
            hint: None,
        }
    }

    /// It was wrong to ask for it.
    pub(crate) fn wrong(message: impl Into<String>) -> Self {
        Self::Told {
            code: WRONG,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with what to do.
    pub(crate) fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::ReaderGone | Self::Shown { .. } => self,
            Self::Told { code, message, .. } => Self::Told {
                code,
                message,
                hint: Some(text.into()),
            },
        }
    }

    /// What happened.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::ReaderGone => "nobody reads the output",
            Self::Shown { .. } => "the output says what is wrong",
            Self::Told { message, .. } => message,
        }
    }

    /// Writes it to standard error.
    pub(crate) fn report(self) -> ExitCode {
        let (code, message, hint) = match self {
            Self::ReaderGone => return ExitCode::SUCCESS,
            Self::Shown { code } => return ExitCode::from(code),
            Self::Told {
                code,
                message,
                hint,
            } => (code, message, hint),
        };
        let mut out = io::stderr().lock();
        // Where standard error is closed, the exit code still speaks.
        let _ = writeln!(out, "skein: {message}");
        if let Some(hint) = hint {
            let _ = writeln!(out, "       {hint}");
        }
        ExitCode::from(code)
    }
}

impl From<io::Error> for Failure {
    /// Of standard output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        Self::failed(format!("cannot write the output: {error}"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = hint(&error);
        let failure = match &error {
            ClientError::Bootstrap(_) | ClientError::Options(_) => Self::wrong(error.to_string()),
            ClientError::TimedOut {
                last: Some(last), ..
            } if matches!(**last, ClientError::Unreachable { .. }) => {
                Self::failed(last.to_string())
            }
            _ => Self::failed(error.to_string()),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn hint(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Unreachable { last, .. } if last.is_foreign() => Some(
            "Something listens there, but not a Kafka broker in plain text: another service, or a \
             port for TLS? --bootstrap names another address.",
        ),
        ClientError::Unreachable { .. } => {
            Some("Is a node running? 'skein serve' starts one; --bootstrap names another address.")
        }
        ClientError::TimedOut {
            last: Some(last), ..
        } => hint(last),
        ClientError::Offline { .. } => Some(
            "The logs of their nodes say why; 'skein topic describe' shows which partitions have a \
             leader.",
        ),
        ClientError::RecordTooLarge { .. } => Some("--max-request-size raises the limit."),
        _ => match error.code()? {
            ErrorCode::UnknownTopicOrPartition => {
                Some("'skein topic list' shows the topics, 'skein topic create' makes one.")
            }
            ErrorCode::GroupIdNotFound => Some("'skein group list' shows the groups."),
            ErrorCode::FencedInstanceId => Some(
                "Another member of the group has begun with the same --group-instance-id: give \
                 each its own.",
            ),
            ErrorCode::BrokerIdNotRegistered => Some("'skein node list' shows the nodes."),
            ErrorCode::TopicAlreadyExists => Some("'skein topic describe' shows it."),
            ErrorCode::MessageTooLarge => {
                Some("The topic's max.message.bytes is the limit; 'skein topic alter' raises it.")
            }
            ErrorCode::KafkaStorageError => Some(
                "The broker cannot write to its disk, or read from it: is it full? Its log says.",
            ),
            ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
                Some("Fewer replicas are in sync than min.insync.replicas; is a node down?")
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(failure: Failure) -> (u8, String, String) {
        match failure {
            Failure::Told {
                code,
                message,
                hint,
            } => (code, message, hint.unwrap_or_default()),
            Failure::ReaderGone | Failure::Shown { .. } => panic!("it is to be told"),
        }
    }

    #[test]
    fn a_node_that_is_not_there_is_told_without_the_story_of_the_attempts() {
        let unreachable = ClientError::Unreachable {
            addresses: "a:1".into(),
            last: Box::new(ClientError::Closed),
        };
        let error = ClientError::TimedOut {
            subject: "connecting".into(),
            timeout: std::time::Duration::from_secs(1),
            last: Some(Box::new(unreachable)),
        };
        let (code, message, hint) = parts(error.into());
        assert_eq!(code, 1);
        assert!(message.starts_with("no broker answers at a:1"), "{message}");
        assert!(hint.contains("skein serve"));
    }

    #[test]
    fn a_broken_pipe_is_no_error_and_a_wrong_address_is_wrong_usage() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(Failure::from(gone), Failure::ReaderGone));
        assert_eq!(parts(ClientError::Bootstrap("x".into()).into()).0, 2);
        assert_eq!(
            parts(io::Error::from(io::ErrorKind::StorageFull).into()).0,
            1
        );
    }
}
