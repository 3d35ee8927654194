//! Between clients and servers on the client port, under ALPN `stead-client/1`.
//!
//! The client sends a [`Request`] in a frame and gets an [`Answer`]; several may follow on one connection.
//! After [`Answer::Attached`] and [`Answer::Resumed`] the connection carries the frames of the tunnel instead.

use model::{
    AppName, AuthorityMark, EndReason, ServerId, ServerName, SessionId, SessionState, StreamId,
    Token, UnixMillis, UserName,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

/// ALPN of the client's protocol.
pub const ALPN: &[u8] = b"stead-client/1";
/// The protocol that this version speaks.
pub const PROTOCOL: u16 = 1;
/// The label of the TLS exporter that resuming is bound to.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-stead-tunnel-1";

/// One run of a client program; another one with the same token takes the session over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientId(pub [u8; 16]);

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How a client proves who its user is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// An account and its password.
    Password {
        /// The account; the one whose the token is when absent.
        user: Option<UserName>,
        /// The password.
        password: Hidden,
    },
    /// A ticket from an earlier login.
    Ticket(Hidden),
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First on every connection; answered by [`Answer::Hello`].
    Hello {
        /// The protocol that the client speaks.
        protocol: u16,
        /// The version of its program.
        version: String,
        /// The authority that it knows the group by.
        authority: AuthorityMark,
    },
    /// Logs in, and finds or makes the token's session of an application.
    Open {
        /// Whose session.
        token: Token,
        /// Which application; when absent the one that is registered with the token, or the only one that the user may use.
        app: Option<AppName>,
        /// Who asks.
        credential: Credential,
        /// The same for repeats of one request, so that it makes one session.
        attempt: [u8; 16],
    },
    /// Finds the token's session without making one.
    Find {
        /// Whose session.
        token: Token,
        /// Which application.
        app: AppName,
        /// A ticket.
        ticket: Hidden,
    },
    /// Asks what has become of a session.
    Ask {
        /// Which.
        session: SessionId,
        /// A ticket.
        ticket: Hidden,
    },
    /// A new stream to a session.
    Attach {
        /// Which session.
        session: SessionId,
        /// A ticket for its token.
        ticket: Hidden,
        /// Which run of the client this is.
        client: ClientId,
    },
    /// Goes on with a stream on a new connection.
    Resume(Resume),
    /// A new ticket for one that still holds.
    Renew {
        /// The ticket.
        ticket: Hidden,
    },
}

/// A client's claim to a stream that it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Which session.
    pub session: SessionId,
    /// Which stream.
    pub stream: StreamId,
    /// Counted by the client: higher with every attempt.
    pub epoch: u64,
    /// How many bytes it has received in order.
    pub received: u64,
    /// Keyed with the stream's secret, over the new connection's TLS exporter, the stream, epoch and offset.
    pub proof: [u8; 32],
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Answer to [`Request::Hello`].
    Hello {
        /// The protocol that is spoken from now on.
        protocol: u16,
        /// Who answers.
        server: ServerId,
        /// Its name.
        name: ServerName,
    },
    /// The session, and what the client needs to reach it now and later.
    Opened(Box<Opened>),
    /// The token's session; absent when it has none.
    Found {
        /// The session and its host.
        session: Option<(SessionId, ServerId, SessionState)>,
        /// How old the answer may be, in milliseconds.
        age_ms: u64,
    },
    /// What has become of a session.
    State(SessionNews),
    /// The stream is open; the tunnel's frames follow.
    Attached {
        /// Its name.
        stream: StreamId,
        /// What its resumes are proved with.
        secret: StreamSecret,
        /// Silence after which a path is dead, in milliseconds.
        dead_after_ms: u64,
        /// How long the stream is kept without a client, in milliseconds.
        retain_ms: u64,
    },
    /// The stream goes on; the tunnel's frames follow.
    Resumed {
        /// The epoch that was accepted.
        epoch: u64,
        /// How many bytes the other end has received in order.
        received: u64,
    },
    /// A new ticket.
    Renewed {
        /// The ticket.
        ticket: Hidden,
        /// When it stops being valid.
        expires: UnixMillis,
        /// The servers, as they are now.
        servers: Vec<ServerAddress>,
    },
    /// No, and why.
    Refused(Refused),
    /// Too busy now.
    ComeBack {
        /// When to ask again, in milliseconds.
        after_ms: u64,
    },
}

/// A stream's secret; never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSecret(pub [u8; 32]);

impl fmt::Debug for StreamSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamSecret(hidden)")
    }
}

/// What a client gets that opened a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// Its application.
    pub app: AppName,
    /// Whether it was made for this request.
    pub created: bool,
    /// Its host.
    pub host: ServerId,
    /// The ticket that takes the place of the password.
    pub ticket: Hidden,
    /// When the ticket stops being valid.
    pub expires: UnixMillis,
    /// All servers of the group and where this client reaches them, the host first.
    pub servers: Vec<ServerAddress>,
    /// What profiles and preferences say to the client.
    pub said: Said,
}

/// What profiles and preferences say to a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Where it listens for viewers when its user did not say; on its own machine.
    pub listen: Option<SocketAddr>,
    /// What its user is told.
    pub notice: Option<String>,
}

/// Where a client reaches a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAddress {
    /// Which server.
    pub server: ServerId,
    /// Its name.
    pub name: ServerName,
    /// `host:port`.
    pub address: String,
}

/// What has become of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionNews {
    /// Which session.
    pub session: SessionId,
    /// Its state; absent when it is not known any more.
    pub state: Option<SessionState>,
    /// Whether the token gets it when it asks.
    pub current: bool,
    /// Its host.
    pub host: Option<ServerId>,
    /// Whether the server that says so is the host, or has heard it within the grace period.
    pub host_heard: bool,
    /// Why it ended.
    pub reason: Option<EndReason>,
    /// What its client is asked to do, because its host is being drained.
    pub leave: Option<Leave>,
    /// Whether the client should get itself another ticket now: the one that it showed is of a key that is replaced.
    pub renew: bool,
}

/// A session is to go on elsewhere; until it is moved its user chooses the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// How long it may stay at most, in milliseconds.
    pub within_ms: u64,
    /// Who asks.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// The protocols do not fit.
    #[error("protocol {offered} is not spoken here: this server speaks {spoken}")]
    Protocol {
        /// What was offered.
        offered: u16,
        /// What is spoken.
        spoken: u16,
    },
    /// Wrong name or password, or the account is disabled; which is not said.
    #[error("login failed: wrong user name or password")]
    Login,
    /// Too many failures.
    #[error("the account is locked for now after too many failed logins")]
    Locked,
    /// The ticket is not valid (any more).
    #[error("the ticket is not valid any more: log in again")]
    Ticket,
    /// No such application.
    #[error("there is no application {app:?}")]
    UnknownApp {
        /// What was asked for.
        app: AppName,
    },
    /// The user may not use it, a limit was hit, and the like.
    #[error("{detail}")]
    NotAllowed {
        /// Why, in words.
        detail: String,
    },
    /// No server can host the session.
    #[error("no server can host the session: {detail}")]
    NoHost {
        /// Why not, server by server.
        detail: String,
    },
    /// No primary is there to make a session.
    #[error("a new session cannot be made now: {detail}")]
    NoPrimary {
        /// Who is missing.
        detail: String,
    },
    /// The session failed to start.
    #[error("the session could not be started: {detail}")]
    FailedToStart {
        /// What happened, with the last lines that its command printed.
        detail: String,
    },
    /// No such session, or it is over.
    #[error("the session is over or unknown")]
    NoSession,
    /// The session's host cannot be reached from this server.
    #[error("the session's host {host} cannot be reached from here: {detail}")]
    HostUnreachable {
        /// Which host.
        host: String,
        /// What was seen.
        detail: String,
    },
    /// The stream is not known (any more), or its claim does not hold.
    #[error("the stream cannot be resumed: it is not known any more, or the proof does not hold")]
    Resume,
    /// A message that makes no sense here.
    #[error("the request makes no sense here")]
    Malformed,
}
