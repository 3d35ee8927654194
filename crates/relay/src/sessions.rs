//! What the data path asks of the floor above: logins, sessions, and byte streams to keepers.
//!
//! The `server` crate implements [`Sessions`]. What gives a future may take its time (a session that starts takes as long as its
//! application's ready-timeout) but must end by itself; a client that went away meanwhile drops the future. What gives none is
//! answered from memory.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use model::{AppName, AuthorityMark, ServerId, ServerName, SessionId, Token};
use tokio::io::{AsyncRead, AsyncWrite};
use wire::client::{Answer, Credential, Hidden, Refused};
use wire::keeper::{Opening, OpeningAnswer};

/// An answer that is being worked on.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the keeper answered, and the stream to it.
pub type OpenedStream = (OpeningAnswer, Box<dyn ByteStream>);

/// A stream of bytes, whatever carries it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + ?Sized> ByteStream for T {}

/// A client's wish for the session of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Whose session.
    pub token: Token,
    /// Which application, where the client names one.
    pub app: Option<AppName>,
    /// Who asks.
    pub credential: Credential,
    /// The same for repeats of one request, so that it makes one session.
    pub attempt: [u8; 16],
    /// Where the client is.
    pub from: SocketAddr,
}

/// A client may attach: the times that it has to know of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachTarget {
    /// Silence after which a path is dead, in milliseconds.
    pub dead_after_ms: u64,
    /// How long the stream is kept without a client, in milliseconds.
    pub retain_ms: u64,
}

/// What stands behind the client port.
pub trait Sessions: Send + Sync {
    /// Who answers here.
    fn me(&self) -> (ServerId, ServerName);

    /// A client came from there, and says by which authority it knows the group.
    fn came_with(&self, _authority: AuthorityMark, _version: &str, _from: SocketAddr) {}

    /// Logs in, and finds or makes the session: [`Answer::Opened`], [`Answer::Refused`] or [`Answer::ComeBack`].
    fn open(&self, request: OpenRequest) -> Pending<'_, Answer>;

    /// Finds the token's session: [`Answer::Found`], [`Answer::Refused`] or [`Answer::ComeBack`].
    fn find(&self, token: &Token, app: &AppName, ticket: &Hidden) -> Answer;

    /// Says what has become of a session: [`Answer::State`], [`Answer::Refused`] or [`Answer::ComeBack`].
    fn ask(&self, session: SessionId, ticket: &Hidden) -> Answer;

    /// A new ticket for one that holds, and the servers as a client at `from` reaches them: [`Answer::Renewed`],
    /// [`Answer::Refused`] or [`Answer::ComeBack`].
    fn renew(&self, ticket: Hidden, from: SocketAddr) -> Pending<'_, Answer>;

    /// Whether a client with this ticket may have a stream to this session.
    fn attach_target(
        &self,
        session: SessionId,
        ticket: Hidden,
    ) -> Pending<'_, Result<AttachTarget, Refused>>;

    /// Opens a byte stream to the session's keeper, wherever its host is, and brings the opening there. A resume is proved to the
    /// keeper, which is why this needs no ticket.
    ///
    /// What the keeper itself refuses is an `Ok` with [`OpeningAnswer::Refused`] and any byte stream.
    fn open_stream(
        &self,
        session: SessionId,
        opening: Opening,
    ) -> Pending<'_, Result<OpenedStream, Refused>>;
}
