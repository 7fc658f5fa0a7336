//! Addresses that a node binds or tells others.
//!
//! Input: `NAME://host:port` and `host:port`. Output: [`Listener`] and [`Address`].
//!
//! Invariants, held by the parsers: a host is not empty and has no character that an address can't
//! have; an IPv6 host is kept without brackets and printed with them; a listener's name is in upper
//! case.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Longest host name that DNS knows.
const MAX_HOST_BYTES: usize = 253;
/// What `localhost` stands for.
const LOCALHOSTS: [&str; 2] = ["127.0.0.1", "::1"];
/// What an empty bind host stands for.
const WILDCARD_HOST: &str = "0.0.0.0";

/// A host and a port. Port 0 asks the system for a free one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A host name or an IP address; IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address of the form host:port, or [host]:port for IPv6")]
pub struct ParseAddressError;

impl Address {
    /// Whether it stands for every interface of the machine.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
    }

    /// Whether only this machine can reach it. A name other than `localhost` may be anything: no.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Whether both can't be bound on one machine.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.port == other.port
            && self.port != 0
            && (self.has_host_of(other) || self.is_wildcard() || other.is_wildcard())
    }

    /// Whether both say the same, however they write the host. No name is looked up.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.port == other.port && self.has_host_of(other)
    }

    /// Names don't care for case, and `localhost` may be any loopback address that is in use.
    fn has_host_of(&self, other: &Self) -> bool {
        let is_name_of_loopback = |one: &Self, two: &Self| {
            one.host.eq_ignore_ascii_case("localhost") && LOCALHOSTS.contains(&two.host.as_str())
        };
        match (self.host.parse::<IpAddr>(), other.host.parse::<IpAddr>()) {
            (Ok(one), Ok(two)) => one.to_canonical() == two.to_canonical(),
            _ => {
                self.host.eq_ignore_ascii_case(&other.host)
                    || is_name_of_loopback(self, other)
                    || is_name_of_loopback(other, self)
            }
        }
    }

    /// As [`Address::from_str`]; an empty host is every interface, as in Kafka's
    /// `PLAINTEXT://:9092`.
    fn parse_bind(text: &str) -> Result<Self, ParseAddressError> {
        if text.starts_with(':') && !text.starts_with("::") {
            return format!("{WILDCARD_HOST}{text}").parse();
        }
        text.parse()
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let (host, port) = text.trim().rsplit_once(':').ok_or(ParseAddressError)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or(ParseAddressError)?;
                inner.parse::<Ipv6Addr>().map_err(|_| ParseAddressError)?;
                inner
            }
            None if is_host_name(host) => host,
            None => return Err(ParseAddressError),
        };
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseAddressError);
        }
        let port = port.parse().map_err(|_| ParseAddressError)?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What protects the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Nothing.
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL authentication on plain TCP.
    SaslPlaintext,
    /// SASL authentication inside TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Plaintext,
        Self::Ssl,
        Self::SaslPlaintext,
        Self::SaslSsl,
    ];

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol of that name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// Whether this version can serve it. Serving one that was asked for without its protection
    /// would be worse than not to start.
    pub(crate) const fn is_served(self) -> bool {
        matches!(self, Self::Plaintext)
    }
}

/// A place where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in upper case.
    pub name: String,
    /// The host to bind, or to tell clients.
    pub host: String,
    /// The port to bind, or to tell clients. 0 asks the system for a free one.
    pub port: u16,
    /// What protects its connections.
    pub security_protocol: SecurityProtocol,
}

impl Listener {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        Address {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.name, self.address())
    }
}

/// Name and address of `NAME://host:port`.
pub(crate) fn parse_listener(text: &str) -> Option<(String, Address)> {
    let (name, address) = text.trim().split_once("://")?;
    let name = parse_listener_name(name)?;
    Some((name, Address::parse_bind(address).ok()?))
}

/// Name and protocol of `NAME:PROTOCOL`.
pub(crate) fn parse_protocol_mapping(text: &str) -> Option<(String, SecurityProtocol)> {
    let (name, protocol) = text.split_once(':')?;
    Some((
        parse_listener_name(name)?,
        SecurityProtocol::from_name(protocol.trim())?,
    ))
}

fn parse_listener_name(name: &str) -> Option<String> {
    let name = name.trim();
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (!name.is_empty() && name.bytes().all(is_valid)).then(|| name.to_uppercase())
}

fn is_host_name(host: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_HOST_BYTES).contains(&host.len()) && host.bytes().all(is_valid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn listeners_have_a_name_a_host_and_a_port() {
        let parsed = |text: &str| parse_listener(text).map(|(name, at)| format!("{name} {at}"));
        assert_eq!(
            parsed("PLAINTEXT://127.0.0.1:9092").unwrap(),
            "PLAINTEXT 127.0.0.1:9092"
        );
        assert_eq!(parsed(" external://[::1]:0 ").unwrap(), "EXTERNAL [::1]:0");
        assert_eq!(
            parsed("PLAINTEXT://:9092").unwrap(),
            "PLAINTEXT 0.0.0.0:9092"
        );
        for bad in [
            "",
            "://a:1",
            "P://",
            "P://a",
            "P://a:x",
            "P://a:+1",
            "P://a:65536",
            "a:1",
            "P://::1:9092",
            "P://[a]:1",
            "P://a b:1",
            "P://user@a:1",
            "P P://a:1",
            "P://:::1",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn loopback_and_wildcard_are_told_apart_from_the_rest() {
        let check = |text: &str, loopback: bool, wildcard: bool| {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.is_loopback(), loopback, "{text}");
            assert_eq!(address.is_wildcard(), wildcard, "{text}");
        };
        check("127.0.0.1:1", true, false);
        check("127.8.8.8:1", true, false);
        check("[::1]:1", true, false);
        check("localhost:1", true, false);
        check("0.0.0.0:1", false, true);
        check("[::]:1", false, true);
        check("10.0.0.1:1", false, false);
        check("localhost.example.com:1", false, false);
    }

    proptest! {
        #[test]
        fn printing_an_address_and_parsing_it_gives_it_back(
            host in prop_oneof![
                "[a-z0-9][a-z0-9._-]{0,30}",
                any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
                any::<Ipv6Addr>().prop_map(|ip| ip.to_string()),
            ],
            port: u16,
        ) {
            let address = Address { host, port };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC*") {
            let _ = text.parse::<Address>();
            let _ = parse_listener(&text);
            let _ = parse_protocol_mapping(&text);
        }
    }
}
