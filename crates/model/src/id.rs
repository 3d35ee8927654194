//! Opaque identifiers. Each is a fixed number of random bytes, written as lower-case hex for people.
//!
//! They are made above this floor, where randomness exists; here they are only carried and compared.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// A text that is not an identifier of the expected length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected {expected} hexadecimal digits, found {found} characters")]
pub struct IdError {
    /// How many hexadecimal digits were expected.
    pub expected: usize,
    /// How many characters were given.
    pub found: usize,
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let error = || IdError {
        expected: N * 2,
        found: text.chars().count(),
    };
    if text.len() != N * 2 {
        return Err(error());
    }
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = *pair else {
            return Err(error());
        };
        *byte = nibble(high).ok_or_else(error)? << 4 | nibble(low).ok_or_else(error)?;
    }
    Ok(bytes)
}

/// Writes bytes as lowercase hexadecimal digits, all at once.
fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    f.write_str(&text)
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The length in bytes.
            pub const LEN: usize = $bytes;

            /// Wraps bytes that were drawn elsewhere.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes as they are.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    <[u8; $bytes]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

identifier!(
    /// A failover group, for good.
    GroupId, 16
);
identifier!(
    /// A server, for good; made by `stead init` or `stead join`.
    ServerId, 16
);
identifier!(
    /// A formation: the set of servers now in force.
    FormationId, 16
);
identifier!(
    /// One life of a server's log; a server that lost its log returns under a new one.
    IncarnationId, 16
);
identifier!(
    /// A session.
    SessionId, 10
);

identifier!(
    /// One resumable stream of a session.
    StreamId, 16
);
identifier!(
    /// The idempotency key of a change: the same key is applied once.
    ChangeId, 16
);
identifier!(
    /// An invitation to join.
    InvitationId, 8
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = SessionId::from_bytes([0, 1, 2, 3, 4, 0xfa, 0xfb, 0xfc, 0xfd, 0xff]);
        assert_eq!(id.to_string(), "0001020304fafbfcfdff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in [
            "",
            "0001",
            "zz01020304fafbfcfdff",
            "é001020304fafbfcfdf",
            "0001020304fafbfcfdff0",
        ] {
            assert!(text.parse::<SessionId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn json_is_text_and_postcard_is_bytes() {
        let id = InvitationId::from_bytes([7; 8]);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"0707070707070707\"");
        assert_eq!(postcard::to_stdvec(&id).unwrap(), vec![7; 8]);
    }
}
