//! Backends that run already, reached without a keeper: for clients of gateways, whose connections end with the server anyway.

use std::io;
use std::path::Path;
use std::time::Duration;

use model::{Application, Backend, Session};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::keeper::backend::{self, NoBackend, Socket};
use crate::keeper::places::Places;

/// Connects to the first backend of the application that accepts within `limit`. `folder` is the session's, which there need
/// not be.
///
/// # Errors
/// None accepts; with what each said.
pub async fn connect_running(
    app: &Application,
    session: &Session,
    folder: &Path,
    limit: Duration,
) -> Result<Socket, NoBackend> {
    let places = Places::of_running(folder, session);
    backend::await_one(&app.backends, &places, None, limit).await
}

/// Whether a backend without placeholders accepts a connection within `limit`; the connection ends at once.
///
/// # Errors
/// What trying it met.
pub async fn accepts(backend: &Backend, limit: Duration) -> io::Result<()> {
    let attempt = async {
        match backend {
            Backend::Pty => Err(io::ErrorKind::Unsupported.into()),
            Backend::Tcp(address) => TcpStream::connect(address).await.map(drop),
            Backend::Unix(path) => {
                let path = Path::new(path);
                let name = path.file_name().and_then(|name| name.to_str());
                match (path.parent(), name) {
                    (Some(folder), Some(name)) => {
                        crate::socket::connect(folder, name).await.map(drop)
                    }
                    _ => Err(io::ErrorKind::InvalidInput.into()),
                }
            }
        }
    };
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, format!("silent for {limit:?}"));
    timeout(limit, attempt).await.map_err(silent)?
}
