//! `stead connect`: a user's way to a session, and back to it, whatever happens to servers and paths in between.
//!
//! ```text
//! viewer ── TCP, unix socket or stdio ── carry (tunnel end) ── TLS ── server ── … ── keeper (tunnel end) ── backend
//! ```
//!
//! [`Connect::run`] logs in and opens the token's session, lets viewers in, and carries each on a resumable stream of its own. A path
//! that breaks is replaced, and the viewer notices nothing but a pause. A session that is lost with its host is said to be lost; its
//! viewers' connections are closed, and new ones reach the session that takes its place.
//!
//! Always true: a session is given up only when a server says that it is over or that nobody reaches its host ([`fate`]); a lost session
//! is announced before another takes its place; the password is forgotten after the login, the ticket goes on from there.
//!
//! Start reading at [`engine`], then [`stream`], [`path`] and [`carry`].

mod carry;
mod engine;
mod event;
mod fate;
mod idle;
mod opening;
mod path;
mod shared;
mod stream;
mod terminal;
mod viewer;

use std::time::Duration;

use model::{AppName, EndReason, Token};
use tokio::sync::mpsc;
use wire::client::Credential;

use crate::trust::{Fingerprint, Trust};
use engine::Engine;
use opening::{Patience, open};
use shared::Shared;
use terminal::Terminal;
use viewer::Doors;

pub use event::Event;
pub use opening::OpenError;
pub use viewer::{Local, LocalError};

/// What to connect to, and how.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Servers of the group, `host:port`; one that answers tells the others.
    pub servers: Vec<String>,
    /// The fingerprint of the group's authority.
    pub ca: Fingerprint,
    /// Whose session.
    pub token: Token,
    /// Which application; when absent the one that the token is for.
    pub app: Option<AppName>,
    /// Who asks.
    pub credential: Credential,
    /// How viewers reach it.
    pub local: Local,
    /// How long servers may be out of reach at the start, before this is an error.
    pub patience: Duration,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The session has come to its end.
    Ended(EndReason),
    /// Another client with this token has taken the session over.
    TakenOver,
    /// The viewer program has exited.
    ViewerExited(i32),
    /// Standard input and output are closed, or the user left the terminal (Enter, `~`, `.`); the session goes on.
    Closed,
    /// Standard input or output failed; the session goes on.
    ViewerGone,

    /// The session was lost, and standard input and output cannot be connected to another one.
    SessionLost {
        /// Why.
        reason: String,
    },
}

impl End {
    /// The exit code of the program, as the command line's contract has it: the viewer program's own, 3 for a session that was lost,
    /// 4 for one that was taken over.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Ended(_) | Self::Closed => 0,
            Self::ViewerExited(code) => *code,
            Self::ViewerGone => 1,
            Self::SessionLost { .. } => 3,
            Self::TakenOver => 4,
        }
    }
}

/// Why there is no connection, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no session to connect to.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Viewers cannot come.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The ticket is not valid any more.
    #[error("the login is not valid any more: log in again")]
    TicketExpired,
}

impl Connect {
    /// Connects, and stays connected until the end. What happens is told through `events`. Dropping the future leaves the session as if
    /// the client had gone.
    ///
    /// # Errors
    /// The session cannot be opened, at the start or after one was lost, or viewers cannot come.
    pub async fn run(self, events: mpsc::UnboundedSender<Event>) -> Result<End, ConnectError> {
        let Self {
            servers,
            ca,
            token,
            app,
            credential,
            local,
            patience,
        } = self;
        // Where nobody said where, the group may.
        let doors = match &local {
            Local::Usual => None,
            said => Some(Doors::open(said).await?),
        };
        let (shared, signals) = Shared::new(Trust::new(ca), token, app, servers);
        let patience = Patience::of_user(patience);
        let opened = open(&shared, credential, patience, Shared::anybody).await?;
        let doors = match doors {
            Some(doors) => doors,
            None => Doors::open(&Local::usual(opened.said.listen)).await?,
        };
        if let Some(text) = opened.said.notice.clone() {
            // Whoever does not listen any more is not to be told.
            let _ = events.send(Event::Notice { text });
        }
        let engine = Engine::new(shared, signals, events, doors, &opened);
        if local != Local::Stdio {
            return engine.run(None).await;
        }
        let (terminal, viewer) = Terminal::take();
        tokio::select! {
            end = engine.run(Some(viewer)) => end,
            () = terminal.left() => Ok(End::Closed),
        }
    }
}
