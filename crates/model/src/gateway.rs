//! Gateways: ports at which ordinary clients, which know nothing of Stead, are relayed to the host of their token.
//!
//! Always true: what a client says at a gateway is a claim, never a proof. So only applications whose backends run already, and
//! ask who is there themselves, have gateways: nothing is started for a claim. Start at [`Directory::claimed`].

use crate::change::Refusal;
use crate::directory::Directory;
use crate::name::{AppName, GatewayName, Token, UserName};
use crate::settings::Unregistered;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// A gateway. Every server has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Its name.
    pub name: GatewayName,
    /// Where servers accept its clients; an address that a server does not have yet is waited for.
    pub listen: SocketAddr,
    /// What its clients get.
    pub app: AppName,
    /// Where a client's token comes from.
    pub token_from: TokenFrom,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
}

/// Where the token of a gateway's client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenFrom {
    /// The cookie or routing token of the connection request of RDP.
    RdpCookie,
    /// The server name of the TLS client hello, at which is only peeked.
    Sni,
    /// What the PROXY protocol header of a load balancer in front says.
    ProxyProtocol,
    /// The client's address.
    SourceAddress,
}

impl TokenFrom {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RdpCookie,
        Self::Sni,
        Self::ProxyProtocol,
        Self::SourceAddress,
    ];

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RdpCookie => "rdp-cookie",
            Self::Sni => "sni",
            Self::ProxyProtocol => "proxy-protocol",
            Self::SourceAddress => "source-address",
        }
    }
}

impl fmt::Display for TokenFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that says of no place where a token comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is none of rdp-cookie, sni, proxy-protocol and source-address")]
pub struct TokenFromError {
    /// What was given.
    pub given: String,
}

impl FromStr for TokenFrom {
    type Err = TokenFromError;
    fn from_str(text: &str) -> Result<Self, TokenFromError> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| TokenFromError {
            given: text.chars().take(200).collect(),
        })
    }
}

impl UserName {
    /// Whose the sessions of gateways' clients are that nobody is known for. No account has this name.
    pub fn nobody() -> Self {
        Self::new("nobody").expect("invariant: a literal that is a name")
    }

    /// Whether it is [`Self::nobody`].
    pub fn is_nobody(&self) -> bool {
        self.as_str() == "nobody"
    }
}

impl Directory {
    /// A gateway by its name.
    pub fn gateway(&self, name: &GatewayName) -> Option<&std::sync::Arc<Gateway>> {
        self.gateways.get(name)
    }

    /// All gateways, by name.
    pub fn gateways(&self) -> impl Iterator<Item = &std::sync::Arc<Gateway>> + '_ {
        self.gateways.values()
    }

    /// Whether both have the same gateways; costs next to nothing where neither changed since they parted.
    pub fn has_gateways_of(&self, other: &Self) -> bool {
        self.gateways.ptr_eq(&other.gateways) || self.gateways == other.gateways
    }

    /// The token that a client without a login claims, and whose it is: its owner's, that user's whom its name names, or
    /// [nobody's](UserName::nobody).
    ///
    /// # Errors
    /// It is disabled, or not registered where it has to be.
    pub fn claimed(&self, name: &Token) -> Result<(Token, UserName), Refusal> {
        if let Some(known) = self.registered(name) {
            return match known.enabled {
                true => Ok((known.token.clone(), known.user.clone())),
                false => Err(Refusal::TokenDisabled {
                    token: name.clone(),
                }),
            };
        }
        let named = name.names_user().and_then(|user| user.parse().ok());
        match named.filter(|user| self.users.contains_key(user)) {
            Some(user) => Ok((name.clone(), user)),
            None if self.settings.unregistered() == Unregistered::Refuse => {
                Err(Refusal::TokenUnknown {
                    token: name.clone(),
                })
            }
            None => Ok((name.clone(), UserName::nobody())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_read_as_they_are_written() {
        for one in TokenFrom::ALL {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        assert!("cookie".parse::<TokenFrom>().is_err());
    }
}
