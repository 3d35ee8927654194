//! Names that people choose: checked once, at the door, so that the inside does not check again.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The most characters that a name may have.
pub const NAME_LIMIT: usize = 128;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a {what} cannot be empty")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// More than [`NAME_LIMIT`] characters.
    #[error("a {what} has at most {NAME_LIMIT} characters, this one has {length}")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// How many characters were given.
        length: usize,
    },
    /// A character that is not allowed there.
    #[error(
        "a {what} cannot contain {character:?}: letters, digits and any of {allowed:?} only, and a letter or digit first"
    )]
    Character {
        /// What was to be named.
        what: &'static str,
        /// The first character that is not allowed.
        character: char,
        /// The punctuation that is.
        allowed: &'static str,
    },
}

fn check(what: &'static str, allowed: &'static str, text: &str) -> Result<(), NameError> {
    // Bytes do for what is allowed; only what is not is looked at by character.
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let fits = |byte: &u8| plain(*byte) || allowed.as_bytes().contains(byte);
    let bytes = text.as_bytes();
    if bytes.len() <= NAME_LIMIT
        && bytes.first().is_some_and(|first| plain(*first))
        && bytes.iter().all(fits)
    {
        return Ok(());
    }
    let length = text.chars().count();
    if length == 0 {
        return Err(NameError::Empty { what });
    }
    if length > NAME_LIMIT {
        return Err(NameError::TooLong { what, length });
    }
    let fits = |(position, character): (usize, char)| {
        character.is_ascii_alphanumeric() || (position > 0 && allowed.contains(character))
    };
    match text.chars().enumerate().find(|&place| !fits(place)) {
        Some((_, character)) => Err(NameError::Character {
            what,
            character,
            allowed,
        }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// What does not fit and where.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check($what, $allowed, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;

                impl de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $what))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

name!(
    /// The name of a group.
    GroupName, "group name", "._-"
);
name!(
    /// The name of a server, unique in its group whatever its case.
    ServerName, "server name", "._-"
);
name!(
    /// The name of a user.
    UserName, "user name", "._-@+\\"
);
name!(
    /// The name of a user's token for the API, unique among those of the user.
    ApiTokenName, "token name", "._-"
);
name!(
    /// The name of an application.
    AppName, "application name", "._-"
);
name!(
    /// The name of a gateway.
    GatewayName, "gateway name", "._-"
);
name!(
    /// A DNS name under which clients reach the group, as they ask for it.
    ExternalName, "external name", ".-"
);
name!(
    /// The name of a stored credential.
    SecretName, "secret name", "._-"
);
name!(
    /// The name of a region: several groups that know of each other.
    RegionName, "region name", "._-"
);
name!(
    /// The opaque name of a client's credential, `type.id` (`card.1234`, `user.ann`, `pseudo.<device id>`).
    Token, "token", "._-:@+=/"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_names() {
        for text in ["a", "boston", "srv-1.example_net", &"x".repeat(128)] {
            assert_eq!(ServerName::new(text).unwrap().as_str(), text);
        }
        assert!(Token::new("card.1234").is_ok());
    }

    #[test]
    fn refuses_with_the_reason() {
        assert_eq!(
            ServerName::new(""),
            Err(NameError::Empty {
                what: "server name"
            })
        );
        assert!(matches!(
            ServerName::new(&"x".repeat(129)),
            Err(NameError::TooLong { length: 129, .. })
        ));
        for text in ["-a", "a b", "a/b", "a\n", "ä", "../x"] {
            assert!(
                matches!(AppName::new(text), Err(NameError::Character { .. })),
                "{text:?} was accepted"
            );
        }
    }

    #[test]
    fn decoding_checks_too() {
        assert!(serde_json::from_str::<UserName>("\"a b\"").is_err());
    }
}
