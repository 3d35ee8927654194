//! How a command ends when it does not succeed: one sentence what, one why, one what to do, and an exit code.
//!
//! Always true: what goes wrong is told on stderr, so that stdout holds nothing but what was asked for. Start at [`Failure`].

use std::fmt;
use std::process::ExitCode;

/// The exit codes that scripts rely on; 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It failed; the reason was printed.
    Failed = 1,
    /// The command makes no sense as it was given.
    Usage = 2,
    /// Not reachable, or no primary: the same command may work later.
    Later = 3,
    /// Refused: permission, policy, state.
    Refused = 4,
}

impl Exit {
    /// The exit code that a server named in its answer; anything unknown is a plain failure.
    pub(crate) fn named(code: u64) -> Self {
        match code {
            2 => Self::Usage,
            3 => Self::Later,
            4 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Failure {
    /// What was not done.
    pub(crate) what: String,
    /// Why not.
    pub(crate) why: String,
    /// What would help, if anything is known to.
    pub(crate) remedy: Option<String>,
    /// How the program ends.
    pub(crate) exit: Exit,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", sentence(&self.what))?;
        write!(f, "\n  why: {}", sentence(&self.why))?;
        if let Some(remedy) = &self.remedy {
            write!(f, "\n  do:  {}", sentence(remedy))?;
        }
        Ok(())
    }
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    let end = if text.ends_with(['.', '!', '?', ':', '`']) {
        ""
    } else {
        "."
    };
    format!("{}{end}", text.replace('\n', "\n       "))
}

impl Failure {
    /// Something failed.
    pub(crate) fn failed(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
            remedy: None,
            exit: Exit::Failed,
        }
    }

    /// The command makes no sense as it was given.
    pub(crate) fn usage(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Usage,
            ..Self::failed(what, why)
        }
    }

    /// The same command may work later.
    pub(crate) fn later(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Later,
            ..Self::failed(what, why)
        }
    }

    /// Refused.
    pub(crate) fn refused(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Refused,
            ..Self::failed(what, why)
        }
    }

    /// With what would help.
    #[must_use]
    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_sentences() {
        let failure = Failure::refused("the user was not added", "there is already a user \"ann\"")
            .remedy("choose another name.");
        assert_eq!(
            failure.to_string(),
            "error: the user was not added.\n  why: there is already a user \"ann\".\n  do:  choose another name."
        );
        assert_eq!(failure.exit as u8, 4);
    }

    #[test]
    fn exit_codes_of_servers() {
        assert_eq!(Exit::named(3), Exit::Later);
        assert_eq!(Exit::named(0), Exit::Failed);
        assert_eq!(Exit::named(77), Exit::Failed);
    }
}
