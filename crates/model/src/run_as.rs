//! The operating-system account that the command of a session runs as.
//!
//! Always true: a name is one that an account may have anywhere (letters of other services' directories included), never a path, an
//! option or several lines. Whether there is such an account only the host knows.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The most bytes of an account's name.
pub const ACCOUNT_LIMIT: usize = 256;
/// What stands for the session's user.
const USER: &str = "{user}";

/// Which account of the operating system a command runs as.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RunAs {
    /// The account that is named like the session's user: `{user}`.
    User,
    /// The account of this name.
    Account(String),
}

/// Why a text names no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} names no account: use {{user}} or a name of at most {ACCOUNT_LIMIT} bytes without spaces, colons, slashes or braces"
)]
pub struct RunAsError {
    /// What was given, cut to 200 characters.
    pub given: String,
}

impl FromStr for RunAs {
    type Err = RunAsError;
    fn from_str(text: &str) -> Result<Self, RunAsError> {
        if text == USER {
            return Ok(Self::User);
        }
        let fits = |c: char| !c.is_control() && !c.is_whitespace() && !":/{},".contains(c);
        let is_name = !text.is_empty()
            && text.len() <= ACCOUNT_LIMIT
            && !text.starts_with(['-', '+'])
            && text.chars().all(fits);
        match is_name {
            true => Ok(Self::Account(text.to_owned())),
            false => Err(RunAsError {
                given: text.chars().take(200).collect(),
            }),
        }
    }
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => USER,
            Self::Account(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_as_text() {
        for text in [
            "{user}",
            "nobody",
            "ann@corp.example",
            "CORP\\ann",
            "änne",
            "_x-1.y$",
        ] {
            assert_eq!(text.parse::<RunAs>().unwrap().to_string(), text);
        }
        assert_eq!("{user}".parse(), Ok(RunAs::User));
        let long = "a".repeat(ACCOUNT_LIMIT + 1);
        for text in [
            "", "a b", "a:b", "a/b", "../a", "-a", "+a", "{token}", "x{user}", "a\n", "a\0", "a,b",
            &long,
        ] {
            assert!(text.parse::<RunAs>().is_err(), "{text:?} was accepted");
        }
    }
}
