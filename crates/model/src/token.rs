//! The register of tokens: whose a token is, under which other names it is known, and what it gets.
//!
//! Always true: a name is the token or the alias of at most one entry; a session is kept under the token itself, whatever name it
//! was opened with. Start at [`Directory::admitted`].

use crate::change::Refusal;
use crate::directory::Directory;
use crate::name::{AppName, RegionName, Token, UserName};
use crate::settings::Unregistered;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::sync::Arc;

/// A token that the group knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredToken {
    /// The token.
    pub token: Token,
    /// Whose it is.
    pub user: UserName,
    /// The application that a client with it gets when it names none.
    pub app: Option<AppName>,
    /// The region in which its sessions belong.
    pub home: Option<RegionName>,
    /// Whether it may be used.
    pub enabled: bool,
    /// Other names under which clients may present it, at most [`ALIASES`].
    pub aliases: Vec<Token>,
    /// When it was registered.
    pub created: UnixMillis,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
}

/// The most aliases of one token.
pub const ALIASES: usize = 16;

impl Token {
    /// The part before the first full stop, which says what kind of credential it is; `None` where there is none.
    pub fn kind(&self) -> Option<&str> {
        self.as_str().split_once('.').map(|(kind, _)| kind)
    }

    /// Whose it is by its name alone: `user.ann` is ann's.
    pub fn names_user(&self) -> Option<&str> {
        self.as_str().strip_prefix("user.")
    }
}

impl Directory {
    /// What is registered of a token, by its own name or an alias.
    pub fn registered(&self, name: &Token) -> Option<&Arc<RegisteredToken>> {
        let token = self.aliases.get(name).unwrap_or(name);
        self.tokens.get(token)
    }

    /// All registered tokens, by name.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<RegisteredToken>> + '_ {
        self.tokens.values()
    }

    /// The registered tokens behind one, by name; all of them without one.
    pub fn tokens_from(
        &self,
        after: Option<&Token>,
    ) -> impl Iterator<Item = &Arc<RegisteredToken>> + '_ {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let behind = self.tokens.range((from, Bound::Unbounded));
        behind.map(|(_, token)| token)
    }

    /// The token under which sessions are kept: the token itself where an alias is given.
    pub fn canonical<'a>(&'a self, name: &'a Token) -> &'a Token {
        self.aliases.get(name).unwrap_or(name)
    }

    /// The token that a user may use under this name.
    ///
    /// # Errors
    /// It is disabled, somebody else's, or not registered where it has to be.
    pub fn admitted(&self, name: &Token, user: &UserName) -> Result<Token, Refusal> {
        let refused = |refusal: fn(Token) -> Refusal| Err(refusal(name.clone()));
        let owner = match self.registered(name) {
            Some(known) if !known.enabled => {
                return refused(|token| Refusal::TokenDisabled { token });
            }
            Some(known) => Some(known.user.as_str()),
            None => name.names_user(),
        };
        match owner {
            Some(owner) if owner != user.as_str() => {
                refused(|token| Refusal::TokenOfAnother { token })
            }
            None if self.settings.unregistered() == Unregistered::Refuse => {
                refused(|token| Refusal::TokenUnknown { token })
            }
            _ => Ok(self.canonical(name).clone()),
        }
    }
}
