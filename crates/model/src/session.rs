//! Sessions: one run of an application for one token, on one host.
//!
//! A million of them are in memory at once: mind the size of [`Session`] (`tests/memory.rs` measures it).

use crate::id::{ServerId, SessionId};
use crate::name::{AppName, Token, UserName};
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    /// Its host was told to start it.
    Starting,
    /// A client is attached.
    Active,
    /// It runs with no client attached.
    Suspended,
    /// Its host cannot be reached.
    Orphaned,
    /// It is over.
    Ended,
}

impl SessionState {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Orphaned => "orphaned",
            Self::Ended => "ended",
        }
    }
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// Its command came to its end.
    Exited {
        /// The exit status; absent when a signal ended it.
        code: Option<i32>,
        /// The signal, if one did.
        signal: Option<i32>,
    },
    /// It could not be started, or its backend never accepted.
    FailedToStart {
        /// What happened, with the last lines that the command printed; at most 4 KiB.
        detail: String,
    },
    /// An administrator or its user ended it.
    ByHand {
        /// Who.
        by: String,
    },
    /// No client for longer than the application allows.
    TimedOut,
    /// Its host came back without it.
    LostWithHost,
    /// It was unreachable, its token went on in another session, and the application's limits leave no room for both.
    Superseded {
        /// The session that took its place.
        by: SessionId,
    },
    /// Its host was removed from the group.
    HostRemoved,
    /// Its token goes on in another session, on another server.
    Moved {
        /// That session.
        to: SessionId,
        /// Who wanted it.
        by: String,
    },
    /// Nothing passed through it for longer than the application allows.
    Idle,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited {
                signal: Some(signal),
                ..
            } => write!(f, "its command was ended by signal {signal}"),
            Self::Exited {
                code: Some(code),
                signal: None,
            } => write!(f, "its command exited with status {code}"),
            Self::Exited {
                code: None,
                signal: None,
            } => f.write_str("its command exited"),
            Self::FailedToStart { detail } => write!(f, "it could not be started: {detail}"),
            Self::ByHand { by } => write!(f, "{by} ended it"),
            Self::TimedOut => {
                f.write_str("it had no client for longer than its application allows")
            }
            Self::Idle => {
                f.write_str("nothing passed through it for longer than its application allows")
            }
            Self::LostWithHost => f.write_str("its host came back without it"),
            Self::Superseded { by } => write!(
                f,
                "its host was unreachable and session {by} took its place"
            ),
            Self::HostRemoved => f.write_str("its host was removed from the group"),
            Self::Moved { to, by } => write!(f, "{by} moved it: it goes on as session {to}"),
        }
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub token: Token,
    /// Who logged in for it.
    pub user: UserName,
    /// What it runs.
    pub app: AppName,
    /// Where it runs.
    pub host: ServerId,
    /// Where it is in its life.
    pub state: SessionState,
    /// Whether it is the one that its token gets when it asks for the application. At most one is.
    pub current: bool,
    /// When it was made.
    pub created: UnixMillis,
    /// When a client was last attached.
    pub last_attached: Option<UnixMillis>,
    /// The address of the client that is attached, or was last. At most [`Session::CLIENT_LIMIT`] bytes.
    pub client: Option<Box<str>>,
    /// When it ended.
    pub ended: Option<UnixMillis>,
    /// Why it ended. Boxed, as few sessions have one and memory is counted per session.
    pub reason: Option<Box<EndReason>>,
    /// The number of the change that made it, or by which its host last spoke of it.
    pub heard_number: u64,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
}

impl Session {
    /// Where its client is, or was when it was last attached, as far as that is known.
    pub fn client_address(&self) -> Option<IpAddr> {
        let client = self.client.as_deref()?;
        let with_port = client.parse::<SocketAddr>().map(|client| client.ip());
        with_port.or_else(|_| client.parse()).ok()
    }

    /// The most bytes of a client's address that are kept.
    pub const CLIENT_LIMIT: usize = 256;
    /// The most bytes that are kept of what a command printed before it failed to start.
    pub const DETAIL_LIMIT: usize = 4096;

    /// A session that its host is to start, made at `created` by the change of that number; not yet the current one.
    pub fn to_start(
        id: SessionId,
        (token, user, app): (&Token, &UserName, &AppName),
        host: ServerId,
        created: UnixMillis,
        number: u64,
    ) -> Self {
        Self {
            id,
            token: token.clone(),
            user: user.clone(),
            app: app.clone(),
            host,
            state: SessionState::Starting,
            current: false,
            created,
            last_attached: None,
            client: None,
            ended: None,
            reason: None,
            heard_number: number,
            version_number: number,
        }
    }

    /// Whether it is not over.
    pub fn is_live(&self) -> bool {
        self.state != SessionState::Ended
    }

    /// Whether it is not over and its host can be reached.
    pub fn is_reachable(&self) -> bool {
        self.is_live() && self.state != SessionState::Orphaned
    }
}

/// What a host says of one of its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Which session.
    pub session: SessionId,
    /// What it was seen as: active, suspended or ended.
    pub seen: Seen,
}

/// What a session was seen as, by its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// A client is attached.
    Active {
        /// The client's address.
        client: String,
        /// Since when.
        at: UnixMillis,
    },
    /// It runs with no client.
    Suspended,
    /// It is over.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// A running session that its host found again and reports whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its id.
    pub session: SessionId,
    /// Whose it is.
    pub token: Token,
    /// Who logged in for it.
    pub user: UserName,
    /// What it runs.
    pub app: AppName,
    /// When it was made.
    pub created: UnixMillis,
    /// The address of the client that is attached now, if one is.
    pub client: Option<String>,
    /// When a client was last attached.
    pub last_attached: Option<UnixMillis>,
}
