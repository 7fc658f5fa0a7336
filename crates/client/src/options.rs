//! What every part of the client is told: names, timeouts, pauses.
//!
//! Input: the program's wishes; a list of addresses as text. Output: the same, with Kafka's
//! defaults.
//!
//! Source: Kafka 4.1's client configuration reference, for names and defaults.

use std::time::Duration;

use skein_config::Address;

use crate::error::ClientError;

/// Addresses in one bootstrap list, at most.
const BOOTSTRAP_MAX: usize = 64;

/// What every part of the client is told.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `client.id`: what brokers log and account by.
    pub client_id: String,
    /// `socket.connection.setup.timeout.ms`, the handshake included.
    pub connect_timeout: Duration,
    /// `request.timeout.ms`: how long a request may wait for its response.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long an operation may take, all attempts together.
    pub api_timeout: Duration,
    /// `retry.backoff.ms`: the pause after the first failure; it doubles with each further one.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// `metadata.max.age.ms`: leaders are asked for again after this time even if nothing failed.
    pub metadata_max_age: Duration,
    /// How long what is asked for may be absent before that is the answer: a topic that no broker
    /// makes, a partition that has no leader because all of its replicas are offline. `None`: for
    /// as long as any other failure is borne, as Kafka's clients do.
    pub absence_max: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_id: "skein".into(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            absence_max: None,
        }
    }
}

/// The addresses of a list such as `one:9092,[::1]:9093`.
///
/// # Errors
/// [`ClientError::Bootstrap`]: it is empty, one of them is no address, or there are more than 64.
pub fn parse_bootstrap(text: &str) -> Result<Vec<Address>, ClientError> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let addresses: Result<Vec<Address>, _> = parts.map(str::parse).collect();
    match addresses {
        Ok(addresses) if !addresses.is_empty() && addresses.len() <= BOOTSTRAP_MAX => Ok(addresses),
        _ => Err(ClientError::Bootstrap(text.chars().take(200).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_list_has_one_or_more_addresses() {
        let addresses = parse_bootstrap("one:9092, [::1]:9093,").unwrap();
        assert_eq!(addresses[0].to_string(), "one:9092");
        assert_eq!(addresses[1].to_string(), "[::1]:9093");
        for text in ["", ",", "one", "one:port", "one:9092,two"] {
            assert!(parse_bootstrap(text).is_err(), "{text:?}");
        }
    }
}
