//! What can happen on a host, and what is to be done then.

use super::Keeper;
use model::session::{Observation, Registration};
use model::{EndReason, SessionId, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;

/// What can happen on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The host has looked for the keepers that outlived its last run: these are all, the ended ones included.
    Found {
        /// What each says.
        keepers: BTreeMap<SessionId, Keeper>,
        /// The newest change that the host's directory had when it began to look.
        view: u64,
    },
    /// A keeper says how things are.
    Keeper(SessionId, Box<Keeper>),
    /// A session that is only a binding of its token to a running server is here, without a keeper.
    Bound {
        /// Which.
        session: SessionId,
        /// What its keeper would say.
        keeper: Box<Keeper>,
        /// Since when it is known here.
        since: Duration,
    },
    /// A client came to a session through a gateway.
    Visited {
        /// Which session.
        session: SessionId,
        /// The client's address, without its port.
        client: String,
        /// The time by this machine's clock.
        at: UnixMillis,
        /// When.
        now: Duration,
    },
    /// Bytes passed between gateways' clients and a session's backend.
    Passed {
        /// Of which session.
        session: SessionId,
        /// When the last did.
        at: Duration,
    },
    /// A client that came through a gateway has gone.
    Left {
        /// From which session.
        session: SessionId,
        /// The time by this machine's clock.
        at: UnixMillis,
        /// When.
        now: Duration,
    },
    /// A keeper could not be started.
    NotStarted {
        /// For which session.
        session: SessionId,
        /// What happened.
        detail: String,
    },
    /// A keeper has gone without a word: its session is over.
    Lost {
        /// Whose.
        session: SessionId,
        /// As what it is recorded.
        reason: EndReason,
    },
    /// A keeper was told to forget its session, and did.
    Forgotten(SessionId),
    /// The replica has every change that the primary had when asked: what it shows is not of the past.
    UpToDate,
    /// The registration after the start was accepted, its last part included.
    Registered,
    /// There is a primary, or another: what was said to the last may be lost.
    NewPrimary,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start the session's keeper.
    StartKeeper(SessionId),
    /// Tell a keeper to end its session.
    EndKeeper {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// The end is recorded: the keeper and its folder may go.
    ForgetKeeper(SessionId),
    /// Tell the group what was seen; at most [`model::Command::OBSERVATION_LIMIT`].
    Observe(Vec<Observation>),
    /// Register sessions that are found running. The parts of one registration are to be accepted in their order.
    Register {
        /// At most [`model::Command::REGISTRATION_LIMIT`].
        sessions: Vec<Registration>,
        /// In the last part of the registration after a start: how far the host's view went.
        complete_to: Option<u64>,
    },
}
