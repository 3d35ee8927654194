//! What clients did and were told, as it is checked afterwards.
//!
//! Always true: an operation begins before its first request leaves and ends after its last answer came; one that was
//! repeated with its idempotency key is one operation. An operation whose effect nobody told has no end: it may have been
//! carried out at any time since, or never.

use std::fmt;
use std::time::{Duration, Instant};

use model::SessionId;

/// What one operation did to its token, as far as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A create that made this session.
    Made(SessionId),
    /// A create that was given this session, which was there already.
    Found(SessionId),
    /// An end of this session that was acknowledged. It may have been over before.
    Ended(SessionId),
    /// A lookup that was told which session the token has.
    Saw(Option<SessionId>),
    /// A create with an unknown outcome.
    MaybeMade,
    /// An end with an unknown outcome.
    MaybeEnded(SessionId),
}

/// One operation on one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Which token.
    pub token: usize,
    /// What it did.
    pub effect: Effect,
    /// When it was called, since the beginning of the history.
    pub called: Duration,
    /// When its answer was there; none for unknown outcomes.
    pub answered: Option<Duration>,
    /// Who did it where, for people.
    pub story: String,
}

/// A history in the making.
#[derive(Debug)]
pub struct History {
    began: Instant,
    operations: Vec<Operation>,
}

impl Effect {
    /// The session that it names.
    pub fn session(self) -> Option<SessionId> {
        match self {
            Self::Made(id) | Self::Found(id) | Self::Ended(id) | Self::MaybeEnded(id) => Some(id),
            Self::Saw(seen) => seen,
            Self::MaybeMade => None,
        }
    }

    /// Whether nobody was told what it did.
    pub fn is_unknown(self) -> bool {
        matches!(self, Self::MaybeMade | Self::MaybeEnded(_))
    }
}

impl History {
    /// An empty one that begins now.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            operations: Vec::new(),
        }
    }

    /// Adds an operation that was called at `called` and ends now.
    pub fn add(&mut self, token: usize, effect: Effect, called: Instant, story: String) {
        let answered = (!effect.is_unknown()).then(|| self.began.elapsed());
        self.operations.push(Operation {
            token,
            effect,
            called: called.duration_since(self.began),
            answered,
            story,
        });
    }

    /// All operations, in the order in which they ended.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "token {} {:>10.6} ",
            self.token,
            self.called.as_secs_f64()
        )?;
        match self.answered {
            Some(at) => write!(f, "{:>10.6} ", at.as_secs_f64())?,
            None => write!(f, "       ... ")?,
        }
        match self.effect {
            Effect::Made(id) => write!(f, "create made {id}")?,
            Effect::Found(id) => write!(f, "create found {id}")?,
            Effect::Ended(id) => write!(f, "end of {id}")?,
            Effect::Saw(Some(id)) => write!(f, "lookup saw {id}")?,
            Effect::Saw(None) => write!(f, "lookup saw none")?,
            Effect::MaybeMade => write!(f, "create, unknown")?,
            Effect::MaybeEnded(id) => write!(f, "end of {id}, unknown")?,
        }
        write!(f, "  ({})", self.story)
    }
}
