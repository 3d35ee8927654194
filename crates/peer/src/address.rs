//! Addresses as people write them: `host:port`, the host a DNS name or an IP address (`[::1]:5427`).
//!
//! A name is kept as a name and resolved at each connect, never before.

use rustls::pki_types::ServerName;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The most characters of an address.
pub const ADDRESS_LIMIT: usize = 300;

/// Where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A DNS name or an IP address.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

/// The host part of an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name, as it was written.
    Name(String),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Longer than [`ADDRESS_LIMIT`].
    #[error("an address has at most {ADDRESS_LIMIT} characters, this one has {length}")]
    TooLong {
        /// How many characters were given.
        length: usize,
    },
    /// No port at its end.
    #[error("{text:?} has no port: an address is written HOST:PORT")]
    NoPort {
        /// What was given.
        text: String,
    },
    /// A port that is no number from 0 to 65535.
    #[error("{port:?} is no port: a port is a number from 0 to 65535")]
    Port {
        /// What stood in its place.
        port: String,
    },
    /// A host that is neither an IP address nor a DNS name.
    #[error("{host:?} is neither an IP address nor a DNS name")]
    Host {
        /// What stood in its place.
        host: String,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_LIMIT {
            return Err(AddressError::TooLong { length: text.len() });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AddressError::NoPort {
            text: text.to_owned(),
        })?;
        Ok(Self {
            host: host.parse()?,
            port: port.parse().map_err(|_| AddressError::Port {
                port: port.to_owned(),
            })?,
        })
    }
}

impl FromStr for Host {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError::Host {
            host: text.to_owned(),
        };
        if let Some(inside) = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            return match inside.parse() {
                Ok(IpAddr::V6(ip)) => Ok(Self::Ip(IpAddr::V6(ip))),
                _ => Err(refused()),
            };
        }
        if let Ok(IpAddr::V4(ip)) = text.parse() {
            return Ok(Self::Ip(IpAddr::V4(ip)));
        }
        match ServerName::try_from(text) {
            Ok(ServerName::DnsName(_)) => Ok(Self::Name(text.to_owned())),
            _ => Err(refused()),
        }
    }
}

impl Host {
    /// The name that a TLS client says it wants; IP addresses are not sent.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        match self {
            Self::Ip(ip) => ServerName::from(*ip),
            Self::Name(name) => ServerName::try_from(name.clone())
                .expect("invariant: the name was checked when it was parsed"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "127.0.0.1:5427",
            "[::1]:0",
            "boston.example.net:65535",
            "boston:1",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "boston",
            ":1",
            "a b:1",
            "boston:",
            "boston:65536",
            "::1:1",
            "[::1:1",
            "[1.2.3.4]:1",
            "-a:1",
            "ä:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was accepted");
        }
        assert!("x".repeat(ADDRESS_LIMIT + 1).parse::<Address>().is_err());
    }
}
