//! Accounts.

use crate::authentication::Origin;
use crate::name::{ApiTokenName, UserName};
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an account may do beyond using applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Uses applications.
    User,
    /// Reads everything.
    Viewer,
    /// Sessions, drain, switchover.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::User, Self::Viewer, Self::Operator, Self::Admin];

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A password's Argon2id hash in PHC text form; never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

/// An account of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: UserName,
    /// What its password is checked against.
    pub password: PasswordHash,
    /// What it may do.
    pub role: Role,
    /// Groups of users, for application access.
    pub groups: Vec<String>,
    /// A disabled account can neither log in nor use its tickets.
    pub disabled: bool,
    /// When the password was last set; tickets issued before it are refused.
    pub password_set: UnixMillis,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
    /// What programs log in with on its behalf, by name; [`ApiToken::LIMIT`] at most.
    pub api_tokens: Vec<ApiToken>,
    /// The last time that too many logins with it failed, or that somebody unlocked it. Strangers bring this about, so it is no
    /// part of what people edit: [`crate::Command::PutUser`] leaves it as it is, and it does not count as another version.
    pub lock: Option<Lock>,
    /// Where the account came from: somebody made it here, or its first login was accepted elsewhere. It stays as it is.
    pub origin: Origin,
}

impl User {
    /// Whether the directory has a password of it. An account that came from elsewhere has none.
    pub fn has_password(&self) -> bool {
        !self.password.0.is_empty()
    }

    /// An account that came from elsewhere: its first login was accepted there.
    pub fn from_elsewhere(name: UserName, origin: Origin) -> Self {
        Self {
            name,
            password: PasswordHash(String::new()),
            role: Role::User,
            groups: Vec::new(),
            disabled: false,
            password_set: UnixMillis(0),
            version_number: 0,
            api_tokens: Vec::new(),
            lock: None,
            origin,
        }
    }

    /// Until when no password is accepted for it from places that it is not known at; none when it is not locked then.
    pub fn locked_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        let lock = self.lock.as_ref()?;
        (now < lock.until).then_some(lock.until)
    }
}

/// That an account was locked, group-wide, after too many failed logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Since when. Failures from before it have had their consequence.
    pub since: UnixMillis,
    /// Until when; not before `since`.
    pub until: UnixMillis,
    /// How many logins had failed, from all addresses and on all servers.
    pub failures: u32,
    /// Whether somebody ended it, at `until`: locks of single addresses from before then are lifted too.
    pub lifted: bool,
}

/// What a program logs in with on a user's behalf, instead of the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its name.
    pub name: ApiTokenName,
    /// SHA-256 of its secret; never shown.
    pub hash: [u8; 32],
    /// What it allows, where the user is allowed as much.
    pub role: Role,
    /// When it was made.
    pub created: UnixMillis,
    /// When it stops being valid.
    pub expires: UnixMillis,
}

impl ApiToken {
    /// The most tokens of one user.
    pub const LIMIT: usize = 32;
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
