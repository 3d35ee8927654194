//! The group's state, and what tests do to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use client::{Connect, Local};
use model::{EndReason, ServerId, SessionId, SessionState, StreamId};
use rand::RngExt;
use tokio::sync::mpsc;
use tunnel::ResetCode;
use wire::client::{ClientId, Credential, Hidden, ServerAddress, SessionNews, StreamSecret};

use super::authority::{Authority, Role};
use super::keeper::Ask;
use super::server::Server;

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const TICKET: &str = "a ticket";

/// What goes wrong next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The answer to a resume is lost, after the keeper has taken it.
    LoseResumeAnswer,
    /// The server is too busy to open a session.
    ComeBack { after_ms: u64 },
    /// The server is too busy to say what became of a session.
    NoNews { after_ms: u64 },
    /// The server has no room for another client.
    NoRoom { after_ms: u64 },
}

pub(crate) struct Session {
    pub(crate) host: ServerId,
    pub(crate) state: SessionState,
    pub(crate) current: bool,
    pub(crate) reason: Option<EndReason>,
    /// The backend closes after this many bytes.
    pub(crate) close_after: u64,
}

pub(crate) struct StreamEnd {
    pub(crate) session: SessionId,
    pub(crate) client: ClientId,
    pub(crate) secret: StreamSecret,
    pub(crate) asks: mpsc::UnboundedSender<Ask>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) sessions: HashMap<SessionId, Session>,
    pub(crate) streams: HashMap<StreamId, StreamEnd>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) opens: Vec<(Instant, Credential, [u8; 16])>,
    /// When it was asked what became of a session.
    pub(crate) asked: Vec<Instant>,
    /// When clients for whom there was no room were told so.
    pub(crate) turned_away: Vec<Instant>,
    /// Hosts that no other server reaches, whose keepers are gone too.
    pub(crate) dead: Vec<ServerId>,
    pub(crate) addresses: Vec<ServerAddress>,
    pub(crate) close_after: Option<u64>,
    /// How many paths each server has carried.
    pub(crate) carried: HashMap<ServerId, usize>,
}

pub(crate) struct Group {
    pub(crate) authority: Authority,
    pub(crate) servers: Vec<Server>,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Group {
    /// Servers `s0`, `s1`, ... that all accept; sessions are made on `s0`.
    pub(crate) async fn new(count: u8) -> Self {
        let authority = Authority::new();
        let state = Arc::new(Mutex::new(State::default()));
        let mut servers = Vec::new();
        for number in 0..count {
            let id = ServerId::from_bytes([number + 1; 16]);
            let port = authority.port(id, Role::Client);
            servers.push(Server::start(id, format!("s{number}"), port, state.clone()).await);
        }
        state.lock().unwrap().addresses = servers.iter().map(Server::address).collect();
        Self {
            authority,
            servers,
            state,
        }
    }

    /// A client of this group that has a password.
    pub(crate) fn connect(&self, local: Local) -> Connect {
        Connect {
            servers: self
                .servers
                .iter()
                .map(|server| server.address().address)
                .collect(),
            ca: self.authority.fingerprint(),
            token: "card.1".parse().unwrap(),
            app: Some("shell".parse().unwrap()),
            credential: Credential::Password {
                user: Some("ann".parse().unwrap()),
                password: Hidden(PASSWORD.to_owned()),
            },
            local,
            patience: std::time::Duration::from_secs(3),
        }
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// Breaks every connection of every server.
    pub(crate) fn cut_all(&self) {
        self.servers.iter().for_each(Server::cut);
    }

    /// The host of the current session is gone for good, with its keepers. Nobody says so until [`Group::orphan`].
    pub(crate) fn kill_host(&mut self) {
        self.servers[0].stop();
        self.with(|state| {
            state.dead.push(ServerId::from_bytes([1; 16]));
            state.streams.clear();
        });
    }

    /// The group finds out that the host is gone: its sessions are orphaned, new ones are made on `s1`.
    pub(crate) fn orphan(&self) {
        self.with(|state| {
            for session in state.sessions.values_mut() {
                session.state = SessionState::Orphaned;
            }
        });
    }

    /// An administrator moves the session: its streams end, and another one is made on `s1`.
    pub(crate) fn move_on(&self) {
        self.with(|state| {
            for session in state.sessions.values_mut() {
                session.state = SessionState::Ended;
                session.reason = Some(EndReason::Moved {
                    to: SessionId::from_bytes([9; 10]),
                    by: "ann".to_owned(),
                });
            }
            state.dead.push(ServerId::from_bytes([1; 16]));
        });
        self.reset_streams(ResetCode::SESSION_ENDED);
    }

    /// Every stream is given up with this code.
    pub(crate) fn reset_streams(&self, code: ResetCode) {
        self.with(|state| {
            for stream in state.streams.values() {
                let _ = stream.asks.send(Ask::Reset(code));
            }
        });
    }
}

impl State {
    /// Finds or makes the session.
    pub(crate) fn open(&mut self) -> (SessionId, ServerId, bool) {
        let found = self
            .sessions
            .iter()
            .find(|(_, session)| session.current && session.state == SessionState::Active);
        if let Some((id, session)) = found {
            return (*id, session.host, false);
        }
        self.sessions
            .values_mut()
            .for_each(|session| session.current = false);
        let id = SessionId::from_bytes(rand::rng().random());
        let free = self.addresses.iter().map(|address| address.server);
        let host = free
            .into_iter()
            .find(|server| !self.dead.contains(server))
            .unwrap();
        let session = Session {
            host,
            state: SessionState::Active,
            current: true,
            reason: None,
            close_after: self.close_after.unwrap_or(u64::MAX),
        };
        self.sessions.insert(id, session);
        (id, host, true)
    }

    pub(crate) fn news(&self, session: SessionId) -> SessionNews {
        let known = self.sessions.get(&session);
        SessionNews {
            session,
            state: known.map(|known| known.state),
            current: known.is_some_and(|known| known.current),
            host: known.map(|known| known.host),
            host_heard: known.is_some_and(|known| !self.dead.contains(&known.host)),
            reason: known.and_then(|known| known.reason.clone()),
            leave: None,
            renew: false,
        }
    }

    pub(crate) fn take_fault(&mut self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let place = self.faults.iter().position(wanted)?;
        Some(self.faults.remove(place))
    }
}
