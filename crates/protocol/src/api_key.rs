//! The APIs of the protocol and the versions of them that the schemas know.
//!
//! Input: the key and version of a request. Output: the API, and the versions of its two headers.
//!
//! Invariant, held by the generated table: every API has a request and a response of the same
//! versions. What a listener serves and advertises is the broker's choice within these.
//!
//! Source: KIP-482 for the header versions, KIP-511 for the exception of ApiVersions.

use std::fmt;
use std::ops::RangeInclusive;

macro_rules! api_keys {
    ($($key:literal $name:ident $first:literal $last:literal $flexible:literal;)*) => {
        /// An API: what a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs)] // the names are the documentation: they are Kafka's
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// Every API, in the order of the keys.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The API of a key that a request header carries; `None` if the schemas have none.
            #[must_use]
            pub const fn from_i16(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name, such as `ListOffsets`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The versions that can be encoded and decoded.
            #[must_use]
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $first..=$last,)*
                }
            }

            /// First version with compact encodings and tagged fields.
            const fn flexible_from(self) -> i16 {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/api_key.rs"));

impl ApiKey {
    /// From this key on, the APIs are our own, between the nodes of a cluster: far from Kafka's,
    /// whose keys grow by one at a time.
    pub const PEER_KEYS_FROM: i16 = 20_000;

    /// Whether only the nodes of a cluster speak it, over their peer listeners: it is neither
    /// served nor advertised on a listener of clients.
    #[must_use]
    pub const fn is_for_peers(self) -> bool {
        self.code() >= Self::PEER_KEYS_FROM
    }

    /// The number that a request header carries.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether `version` has compact encodings and tagged fields (KIP-482).
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// Version of the request header in front of a request of `version`: 1, or 2 if flexible.
    ///
    /// It is defined for unknown versions too: that is how the header of an ApiVersions request
    /// from the future can be read.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the response header: 0, or 1 if flexible.
    ///
    /// ApiVersions always answers with 0, because its client may not know the version yet
    /// (KIP-511).
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            Self::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_strangers_are_none() {
        for &key in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(key.code()), Some(key));
        }
        assert_eq!(ApiKey::from_i16(-1), None);
        assert_eq!(ApiKey::from_i16(4), None, "LeaderAndIsr is gone");
        assert_eq!(ApiKey::Fetch.versions(), 4..=18);
        assert_eq!(ApiKey::Fetch.to_string(), "Fetch");
    }

    #[test]
    fn our_own_apis_are_told_from_kafkas() {
        let ours: Vec<_> = ApiKey::ALL
            .iter()
            .filter(|key| key.is_for_peers())
            .collect();
        let expected = [
            ApiKey::PeerHandshake,
            ApiKey::PeerProof,
            ApiKey::QuorumRpc,
            ApiKey::ReplicasOffline,
            ApiKey::ReplicasFlushed,
            ApiKey::ReportLogEnds,
            ApiKey::HastenFetch,
        ];
        assert!(ours.into_iter().eq(&expected));
        // Kafka's newest API of 4.1 is 92; what nodes take from Kafka is not ours.
        assert!(
            ApiKey::ALL
                .iter()
                .all(|key| key.is_for_peers() || key.code() < 100)
        );
        assert!(!ApiKey::BrokerHeartbeat.is_for_peers());
    }

    #[test]
    fn header_versions_follow_flexibility_except_for_api_versions() {
        assert_eq!(ApiKey::Fetch.request_header_version(11), 1);
        assert_eq!(ApiKey::Fetch.response_header_version(11), 0);
        assert_eq!(ApiKey::Fetch.request_header_version(12), 2);
        assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
        // SaslHandshake never became flexible.
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(i16::MAX), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
    }
}
