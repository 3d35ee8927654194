//! What comes of a change.
//!
//! [`Outcome`] is stored and sent: entries are only ever added, at the end.

use super::Refusal;
use crate::divergence::Subject;
use crate::event::Event;
use crate::formation::ChangeName;
use crate::id::{ServerId, SessionId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What came of an accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The session that the token has now.
    Session {
        /// Its id.
        session: SessionId,
        /// Its host.
        host: ServerId,
        /// Whether this change made it.
        created: bool,
    },
    /// What a host must do with the sessions that it registered.
    Registered {
        /// Sessions that are over as far as the group is concerned: their keepers are to end.
        end: Vec<SessionId>,
    },
    /// What came of applying or discarding what a formation that gave way had changed.
    Divergence {
        /// How many records were applied or discarded.
        done: u32,
        /// How many are left.
        left: u32,
        /// Those that could not be applied and why, the first [`REFUSED_LIMIT`](super::Command::REFUSED_LIMIT) of them.
        refused: Vec<(Subject, Refusal)>,
    },
}

/// What applying a change gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The change's name: for a change that was answered before, the name under which it was.
    pub name: ChangeName,
    /// What came of it.
    pub outcome: Result<Outcome, Refusal>,
    /// The events that it made, for the server that applied it: they are in the journal, and are not sent.
    #[serde(skip)]
    pub events: Vec<Arc<Event>>,
}
