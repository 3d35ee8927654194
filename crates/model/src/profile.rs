//! Profiles and preferences: small documents that say how it is for whoever logs in. Administrators write profiles, users their own
//! preferences.
//!
//! Always true: a key is one of the catalogue and its value fits it; what [`Directory::effective`] gives follows from the directory alone,
//! with where each value comes from. Start there.

use crate::directory::Directory;
use crate::name::{AppName, Token, UserName};
use crate::placeholder::{Piece, pieces};
use crate::settings::value::nearest;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// The most bytes of a value.
const VALUE_LIMIT: usize = 4096;
/// The most characters of a notice.
const NOTICE_LIMIT: usize = 1024;
/// What stands before the name of a variable.
const VARIABLE: &str = "env.";

/// Something that a document can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileKey {
    /// What it is called.
    pub name: &'static str,
    /// What its values are, in words.
    pub values: &'static str,
    /// One sentence of help.
    pub help: &'static str,
    /// Who may say it in preferences.
    pub preference: Preferable,
}

/// Whether users may say something themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preferable {
    /// Unless a profile locks it.
    Always,
    /// Where a profile says it and does not lock it.
    WhereOffered,
    /// Only profiles say it.
    Never,
}

/// Everything that a document can say.
pub const KEYS: [ProfileKey; 4] = [
    ProfileKey {
        name: "app",
        values: "the name of an application",
        help: "What a client gets that names no application, and whose token is registered for none.",
        preference: Preferable::Always,
    },
    ProfileKey {
        name: "env.NAME",
        values: "text, at most 4096 bytes",
        help: "A variable in the environment of sessions that are started for the user; it goes before what the application says.",
        preference: Preferable::WhereOffered,
    },
    ProfileKey {
        name: "listen",
        values: "an address of the machine itself and a port, as in 127.0.0.1:5900; port 0 for any free one",
        help: "Where `stead connect` listens when it is not told.",
        preference: Preferable::Always,
    },
    ProfileKey {
        name: "notice",
        values: "one line, at most 1024 characters",
        help: "What `stead connect` says to the user after the login.",
        preference: Preferable::Never,
    },
];

/// Why a document cannot say something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// There is no such key.
    #[error("there is no key {given:?}")]
    Unknown {
        /// What was given.
        given: String,
        /// The nearest that there is.
        nearest: String,
    },
    /// The value does not fit.
    #[error("{given:?} does not fit {key}, which is {values}")]
    Value {
        /// The key.
        key: String,
        /// What was given, cut.
        given: String,
        /// What fits.
        values: &'static str,
    },
    /// Users do not say this themselves.
    #[error("{key} is said by profiles only")]
    NotPreferable {
        /// The key.
        key: String,
    },
}

/// The key that a name stands for.
///
/// # Errors
/// There is none, with the nearest.
pub fn key(name: &str) -> Result<&'static ProfileKey, ProfileError> {
    let found = KEYS
        .iter()
        .find(|key| match key.name.strip_prefix(VARIABLE) {
            Some(_) => variable(name).is_some(),
            None => key.name == name,
        });
    found.ok_or_else(|| ProfileError::Unknown {
        given: name.chars().take(80).collect(),
        nearest: match name.starts_with(VARIABLE) {
            true => "env.NAME",
            false => nearest(name, KEYS.iter().map(|key| key.name)).unwrap_or("env.NAME"),
        }
        .to_owned(),
    })
}

/// The variable that a key sets, if it sets one.
pub fn variable(key: &str) -> Option<&str> {
    let name = key.strip_prefix(VARIABLE)?;
    let first = name.chars().next()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (name.len() <= 128 && !first.is_ascii_digit() && name.chars().all(fits)).then_some(name)
}

/// Checks a value of a key.
///
/// # Errors
/// There is no such key, or the value does not fit it.
pub fn check(name: &str, value: &str) -> Result<&'static ProfileKey, ProfileError> {
    let key = key(name)?;
    let fits = match key.name {
        "app" => value.parse::<AppName>().is_ok(),
        // A group's administrator does not open a port of a user's machine to others.
        "listen" => value
            .parse::<SocketAddr>()
            .is_ok_and(|address| address.ip().is_loopback()),
        "notice" => {
            let short = (1..=NOTICE_LIMIT).contains(&value.chars().count());
            short && !value.chars().any(char::is_control)
        }
        // What stands for something else stands in applications, which administrators write.
        _ => {
            let plain = pieces(value)
                .iter()
                .all(|piece| matches!(piece, Piece::Text(_)));
            plain && value.len() <= VALUE_LIMIT && !value.contains('\0')
        }
    };
    match fits {
        true => Ok(key),
        false => Err(ProfileError::Value {
            key: name.to_owned(),
            given: value.chars().take(200).collect(),
            values: key.values,
        }),
    }
}

/// Whom a profile is for, the most general first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Audience {
    /// Everybody.
    Group,
    /// Whoever uses an application.
    App(AppName),
    /// A user.
    User(UserName),
    /// A client's credential.
    Token(Token),
}

/// The text form: `group`, `app:NAME`, `user:NAME`, `token:TOKEN`.
impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group => f.write_str("group"),
            Self::App(name) => write!(f, "app:{name}"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Token(token) => write!(f, "token:{token}"),
        }
    }
}

impl std::str::FromStr for Audience {
    type Err = crate::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("app", name)) => name.parse().map(Self::App),
            Some(("token", token)) => token.parse().map(Self::Token),
            Some(("user", name)) => name.parse().map(Self::User),
            None if text == "group" => Ok(Self::Group),
            _ => Err(crate::NameError::Character {
                what: "profile's name",
                character: text.chars().next().unwrap_or(' '),
                allowed: "group, app:NAME, user:NAME, token:TOKEN",
            }),
        }
    }
}

/// A document of administrators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Whom it is for.
    pub audience: Audience,
    /// What it says, by key.
    pub values: BTreeMap<String, ProfileValue>,
    /// When it was last changed. Said by `apply`.
    pub changed: UnixMillis,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
}

/// What a profile says of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileValue {
    /// The value.
    pub value: String,
    /// Whether more special profiles and preferences cannot say otherwise.
    pub locked: bool,
}

/// A user's own document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferences {
    /// Whose.
    pub user: UserName,
    /// What they say, by key.
    pub values: BTreeMap<String, String>,
    /// When they were last changed. Said by `apply`.
    pub changed: UnixMillis,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
}

/// A change of profiles or preferences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileChange {
    /// Makes or changes a profile.
    Put {
        /// The record.
        profile: Box<Profile>,
        /// Absent: it must not exist. Present: it must be at this version.
        expect: Option<u64>,
    },
    /// Removes a profile.
    Remove {
        /// Whose.
        audience: Audience,
    },
    /// Makes or changes a user's preferences.
    Prefer {
        /// The record.
        preferences: Box<Preferences>,
        /// Absent: they must not exist. Present: they must be at this version.
        expect: Option<u64>,
    },
    /// Removes a user's preferences.
    Forget {
        /// Whose.
        user: UserName,
    },
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A profile.
    Profile(Audience),
    /// The user's preferences.
    Preferences,
}

/// The text form: that of the audience, or `preferences`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(audience) => audience.fmt(f),
            Self::Preferences => f.write_str("preferences"),
        }
    }
}

/// What holds for whoever logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The value.
    pub value: String,
    /// Where it comes from.
    pub from: Origin,
    /// Whether a profile has locked it.
    pub locked: bool,
    /// Who says otherwise and is not followed, in the order of the documents.
    pub passed_over: Vec<Origin>,
}

impl Directory {
    /// A profile.
    pub fn profile(&self, audience: &Audience) -> Option<&Arc<Profile>> {
        self.profiles.get(audience)
    }

    /// All profiles, the most general first.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> + '_ {
        self.profiles.values()
    }

    /// A user's preferences.
    pub fn preferences(&self, user: &UserName) -> Option<&Arc<Preferences>> {
        self.preferences.get(user)
    }

    /// All preferences, by user.
    pub fn all_preferences(&self) -> impl Iterator<Item = &Arc<Preferences>> + '_ {
        self.preferences.values()
    }

    /// What holds for a user with a token, in an application where one is known already.
    ///
    /// A more special document goes before a more general one: group, application, user, token, preferences. What one of them locks
    /// those after it cannot change, and a variable is the user's to say only where a profile offers it.
    pub fn effective(
        &self,
        user: &UserName,
        token: &Token,
        app: Option<&AppName>,
    ) -> BTreeMap<String, Effective> {
        let audiences = [
            Some(Audience::Group),
            app.cloned().map(Audience::App),
            Some(Audience::User(user.clone())),
            Some(Audience::Token(token.clone())),
        ];
        let profiles = audiences.into_iter().flatten();
        let profiles = profiles.filter_map(|audience| self.profiles.get(&audience));
        let mut found: BTreeMap<String, Effective> = BTreeMap::new();
        for profile in profiles {
            for (key, said) in &profile.values {
                let from = Origin::Profile(profile.audience.clone());
                say(&mut found, key, &said.value, from, said.locked);
            }
        }
        let preferred = self.preferences.get(user).into_iter();
        for (key, value) in preferred.flat_map(|one| &one.values) {
            let offered = match self::key(key).map(|key| key.preference) {
                Ok(Preferable::Always) => true,
                Ok(Preferable::WhereOffered) => found.contains_key(key),
                Ok(Preferable::Never) | Err(_) => false,
            };
            if offered {
                say(&mut found, key, value, Origin::Preferences, false);
            }
        }
        found
    }
}

fn say(
    found: &mut BTreeMap<String, Effective>,
    key: &str,
    value: &str,
    from: Origin,
    locked: bool,
) {
    let mut passed_over = Vec::new();
    if let Some(held) = found.get_mut(key) {
        if held.locked {
            held.passed_over.push(from);
            return;
        }
        passed_over = std::mem::take(&mut held.passed_over);
        passed_over.push(held.from.clone());
    }
    let said = Effective {
        value: value.to_owned(),
        from,
        locked,
        passed_over,
    };
    found.insert(key.to_owned(), said);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_those_of_the_catalogue() {
        for (key, value) in [
            ("app", "desktop"),
            ("listen", "127.0.0.1:5900"),
            ("listen", "[::1]:0"),
            ("notice", "Back-up at noon."),
            ("env.LANG", "de_DE.UTF-8"),
            ("env.X_1", ""),
        ] {
            assert!(check(key, value).is_ok(), "{key}={value}");
        }
        for (key, value) in [
            ("app", "a b"),
            ("listen", "localhost:1"),
            ("listen", "0.0.0.0:1"),
            ("notice", ""),
            ("notice", "a\nb"),
            ("env.LANG", "{secret:key}"),
            ("env.LANG", "{dir}"),
            ("env.LANG", "a\0b"),
        ] {
            let wrong = check(key, value).unwrap_err();
            assert!(matches!(wrong, ProfileError::Value { .. }), "{key}={value}");
        }
        for (wrong, near) in [
            ("lsten", "listen"),
            ("env.", "env.NAME"),
            ("env.1", "env.NAME"),
        ] {
            match key(wrong) {
                Err(ProfileError::Unknown { nearest, .. }) => assert_eq!(nearest, near),
                other => panic!("{other:?}"),
            }
        }
        for audience in ["group", "app:a", "user:ann", "token:card.1"] {
            assert_eq!(audience.parse::<Audience>().unwrap().to_string(), audience);
        }
        assert!("group:x".parse::<Audience>().is_err() && "card.1".parse::<Audience>().is_err());
    }
}
