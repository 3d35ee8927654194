//! Between a server and the keepers of the sessions that it hosts, over a unix socket.
//!
//! Keepers outlive several upgrades of the server: this protocol is supported for two feature levels back, and
//! enums only grow at their end. The server opens a connection with an [`Opening`] in a frame and gets an
//! [`OpeningAnswer`]; a stream then carries the tunnel's frames, a control connection [`Command`]s one way and
//! [`Notice`]s the other.

use crate::client::{ClientId, StreamSecret};
use crate::credentials::SecretBytes;
use model::{Application, EndReason, SecretName, SessionId, StreamId, Token, UnixMillis, UserName};
use serde::{Deserialize, Serialize};

/// The protocol that this version speaks.
pub const PROTOCOL: u16 = 2;
/// The oldest that it still understands.
pub const OLDEST_PROTOCOL: u16 = 1;
/// The first protocol with [`Command::Traffic`]; older keepers are not told.
pub const TRAFFIC: u16 = 2;
/// The keeper's socket in the session's folder.
pub const SOCKET: &str = "keeper.sock";
/// What the keeper is started with, in the session's folder.
pub const SPEC: &str = "session.json";
/// The format of [`SPEC`] and [`ENDED`] that this version writes; older ones are read too.
pub const FILE_FORMAT: u16 = 1;
/// What the keeper leaves in the session's folder when the session is over.
pub const ENDED: &str = "ended.json";
/// The command's output is kept in this file of the session's folder, bounded.
pub const OUTPUT: &str = "output.log";

/// Everything that a keeper needs to know. Written as JSON before it starts, mode 0600.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The format of this file.
    pub format: u16,
    /// Which session it keeps.
    pub session: SessionId,
    /// Whose it is.
    pub token: Token,
    /// Who logged in.
    pub user: UserName,
    /// When it was made.
    pub created: UnixMillis,
    /// The name of the server that started it, for what is said to people; empty: an older one did.
    #[serde(default)]
    pub server: String,
    /// The application as it was then.
    pub app: Application,
    /// Silence after which a path is dead, in milliseconds.
    pub dead_after_ms: u64,
    /// How long a stream is kept without a client, in milliseconds.
    pub retain_ms: u64,
}

/// The values of the secrets that a session's application is given: what the keeper's standard input holds when it starts, encoded as any
/// message but without a frame. Never on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed(pub Vec<(SecretName, SecretBytes)>);

impl Handed {
    /// The most bytes of it, encoded.
    pub const LIMIT: u64 = 1024 * 1024;
}

/// What a keeper leaves in [`ENDED`] when the session is over, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// The format of this file.
    pub format: u16,
    /// When it ended.
    pub at: UnixMillis,
    /// Why.
    pub reason: EndReason,
}

/// The socket of a keeper of many sessions, in its folder.
pub const HALL_SOCKET: &str = "hall.sock";

/// What a server wants of a keeper of many sessions, which it started itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HallOrder {
    /// To keep another session, whose folder is ready.
    Keep {
        /// Which.
        session: SessionId,
    },
    /// Not to keep a session that did not come up after all: nobody was ever let in.
    Leave {
        /// Which.
        session: SessionId,
    },
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HallAnswer {
    /// Servers and clients can come to the session.
    Kept,
    /// No.
    Refused {
        /// Why, in words.
        why: String,
    },
    /// It is kept no longer, or never was.
    Left,
}

/// What a connection to a keeper is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// Commands and notices.
    Control {
        /// The protocol that the server speaks.
        protocol: u16,
    },
    /// A new stream.
    Attach {
        /// Which run of a client it comes from.
        client: ClientId,
        /// The client's address.
        address: String,
    },
    /// A stream goes on.
    Resume {
        /// Which.
        stream: StreamId,
        /// The client's count of attempts.
        epoch: u64,
        /// How many bytes the client has received in order.
        received: u64,
        /// The client's proof.
        proof: [u8; 32],
        /// The TLS exporter of the client's connection, as the server that it reached saw it.
        exporter: [u8; 32],
        /// The client's address.
        address: String,
    },
}

/// A keeper's answer to an opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpeningAnswer {
    /// To [`Opening::Control`].
    Control(Status),
    /// To [`Opening::Attach`].
    Attached {
        /// The stream's name.
        stream: StreamId,
        /// Its secret.
        secret: StreamSecret,
    },
    /// To [`Opening::Resume`].
    Resumed {
        /// The epoch that was accepted.
        epoch: u64,
        /// How many bytes the keeper has received in order.
        received: u64,
    },
    /// No.
    Refused(OpeningRefusal),
}

/// Why a keeper refuses a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OpeningRefusal {
    /// The server's protocol is not understood.
    #[error("the keeper speaks protocol {spoken}")]
    Protocol {
        /// What it speaks.
        spoken: u16,
    },
    /// The session is over.
    #[error("the session is over")]
    Ended(EndReason),
    /// The session did not come up.
    #[error("the backend does not accept: {detail}")]
    Backend {
        /// What was tried and seen, with the last output.
        detail: String,
    },
    /// The stream is not known, or the proof does not hold.
    #[error("the stream cannot be resumed")]
    Resume,
    /// It has as many streams as it may.
    #[error("the session has {limit} streams already")]
    TooManyStreams {
        /// How many it may have.
        limit: u32,
    },
}

/// Where a session is, as its keeper sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The command was started, the backend does not accept yet.
    Starting,
    /// It can be used.
    Running,
    /// It is over.
    Ended {
        /// When.
        at: UnixMillis,
        /// Why.
        reason: EndReason,
    },
}

/// What a keeper says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The protocol that it speaks.
    pub protocol: u16,
    /// The version of its program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Which session.
    pub session: SessionId,
    /// Whose.
    pub token: Token,
    /// Who logged in.
    pub user: UserName,
    /// Which application.
    pub app: model::AppName,
    /// When it was made.
    pub created: UnixMillis,
    /// Where it is.
    pub phase: Phase,
    /// The address of the attached client, if one is.
    pub client: Option<String>,
    /// When a client was last attached.
    pub last_attached: Option<UnixMillis>,
    /// How many streams it holds, with or without a path.
    pub streams: u32,
}

/// What a server tells a keeper on a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// End the session: hang up, wait a little, kill.
    End {
        /// Why.
        reason: EndReason,
    },
    /// Say how things are.
    Status,
    /// The end was recorded: the folder may go.
    Forget,
    /// There is something to know about the session: its clients are to ask a server.
    News,
    /// Bytes have passed to or from the session's backend beside the keeper, through a gateway. Since protocol [`TRAFFIC`].
    Traffic,
}

/// What a keeper tells the server on a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// How things are now; sent on every change.
    Status(Status),
}
