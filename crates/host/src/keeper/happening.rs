//! The closed list of what can wake a keeper up.

use std::process::ExitStatus;

use model::StreamId;
use tokio::net::UnixStream;
use wire::keeper::{Command, Opening};

use super::backend::{NoBackend, Socket};
use super::carrier::News;
use super::streams::Asking;

/// Everything that can wake a keeper up.
pub(crate) enum Happening {
    /// A connection has said what it is for.
    Opened(UnixStream, Opening),
    /// A server gives a command.
    Commanded(Command),
    /// The backend accepts, or did not in time.
    Ready(Result<Option<Socket>, NoBackend>),
    /// A connection for a client that asked, or none.
    Connected(Asking, Result<Socket, NoBackend>),
    /// A stream tells something.
    Stream(StreamId, News),
    /// The command is over.
    Exited(Option<ExitStatus>),
    /// The last process of the session is gone.
    Stopped,
    /// A signal asks the keeper to end.
    Terminated,
}
