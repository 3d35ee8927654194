//! Stored credentials: what applications are given at their start and nobody reads.
//!
//! Always true: a value is here only sealed, under the seal key that servers which may lead hold, bound to the group and to its name;
//! an application names secrets that there are. Start at [`StoredSecret`].

use crate::application::Application;
use crate::directory::Directory;
use crate::name::SecretName;
use crate::placeholder::{Piece, pieces};
use crate::time::UnixMillis;
use crate::trust::Sealed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The kind of placeholder that stands for a secret.
const KIND: &str = "secret:";

/// A stored credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// Its name.
    pub name: SecretName,
    /// What it is, in the words of whoever keeps it.
    pub description: Option<String>,
    /// Its value, sealed; empty where it is lost, because a server that could not open it left its group.
    pub sealed: Sealed,
    /// When it was first kept. Said by `apply`.
    pub created: UnixMillis,
    /// Since when it has its value. Said by `apply`.
    pub set: UnixMillis,
    /// Who set its value. Said by `apply`.
    pub by: String,
    /// A server that could read the value and is no member any more: the value should be changed. Said by `apply`.
    pub exposed: Option<Exposed>,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
}

/// Who could read a secret's value and left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// The server's name.
    pub server: String,
    /// When it was removed.
    pub at: UnixMillis,
}

impl StoredSecret {
    /// The most bytes of a value.
    pub const VALUE_LIMIT: usize = 32 * 1024;
    /// The most secrets that one application is given.
    pub const OF_ONE_APP: usize = 16;

    /// Whether its value should be set again: it is lost, or a server that left could read it.
    pub fn is_to_change(&self) -> bool {
        self.is_lost() || self.exposed.is_some()
    }

    /// Whether its value is lost.
    pub fn is_lost(&self) -> bool {
        self.sealed.0.is_empty()
    }
}

/// A change of a stored credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredSecretChange {
    /// Keeps one, or changes it.
    Put {
        /// The record.
        secret: Box<StoredSecret>,
        /// Absent: it must not exist. Present: it must be at this version.
        expect: Option<u64>,
    },
    /// Removes one that no application is given.
    Remove {
        /// Which.
        name: SecretName,
    },
}

/// A text that names a secret and cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} names no secret: write {{secret:NAME}}")]
pub struct SecretPlaceError {
    /// The text from there on, cut.
    pub given: String,
}

/// The name of the secret that a placeholder stands for, if it is one that stands for a secret.
pub fn named(placeholder: &str) -> Option<Result<SecretName, crate::NameError>> {
    placeholder.strip_prefix(KIND).map(str::parse)
}

/// The secrets that a text names.
///
/// # Errors
/// A place that looks like one and is none.
pub fn named_in(text: &str) -> Result<Vec<SecretName>, SecretPlaceError> {
    let error = |from: &str| SecretPlaceError {
        given: from.chars().take(80).collect(),
    };
    let mut found = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Name(name) => match named(name) {
                Some(Ok(name)) => found.push(name),
                Some(Err(_)) => return Err(error(&format!("{{{name}}}"))),
                None => {}
            },
            // Left alone it would reach the command as it is, and fail there without a word.
            Piece::Text(text) => {
                for (at, _) in text.match_indices("{secret:") {
                    if !text.get(..at).unwrap_or_default().ends_with('$') {
                        return Err(error(text.get(at..).unwrap_or_default()));
                    }
                }
            }
        }
    }
    Ok(found)
}

impl Application {
    /// The secrets that its command and environment name.
    ///
    /// # Errors
    /// A place that looks like one and is none.
    pub fn secrets(&self) -> Result<BTreeSet<SecretName>, SecretPlaceError> {
        let mut found = BTreeSet::new();
        for text in self.launch.iter().chain(self.env.values()) {
            found.extend(named_in(text)?);
        }
        Ok(found)
    }

    /// Whether it is given a secret.
    pub fn is_given(&self, secret: &SecretName) -> bool {
        self.secrets().is_ok_and(|secrets| secrets.contains(secret))
    }
}

impl Directory {
    /// A stored credential by its name.
    pub fn secret(&self, name: &SecretName) -> Option<&Arc<StoredSecret>> {
        self.secrets.get(name)
    }

    /// All stored credentials, by name.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<StoredSecret>> + '_ {
        self.secrets.values()
    }

    /// The applications that are given a secret, by name.
    pub fn given_to<'a>(
        &'a self,
        secret: &SecretName,
    ) -> impl Iterator<Item = &'a Arc<Application>> + use<'a> {
        let secret = secret.clone();
        self.apps().filter(move |app| app.is_given(&secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_says_what_it_is_given() {
        let mut app = Application::named("a".parse().unwrap());
        app.launch = Some("run --key {secret:tls.key} '{secret:b}' {user} ${secret:c}".into());
        app.env.insert("P".into(), "{secret:tls.key}".into());
        let names: Vec<_> = app.secrets().unwrap().into_iter().collect();
        assert_eq!(names, ["b".parse().unwrap(), "tls.key".parse().unwrap()]);
        assert!(app.is_given(&"b".parse().unwrap()) && !app.is_given(&"c".parse().unwrap()));
        for text in [
            "{secret:}",
            "x {secret:a b}",
            "{secret:-a}",
            "{secret:a",
            "{secret:a/b}",
        ] {
            app.launch = Some(text.into());
            assert!(app.secrets().is_err(), "{text:?} was accepted");
        }
    }
}
