//! Unix sockets in folders of any depth, and frames on them.
//!
//! Always true: a path that does not fit into a socket address (107 bytes) is reached through an open folder instead, so a session
//! works wherever its data lies; a frame's length is checked before its bytes are read.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Bytes of a path that fit into the address of a unix socket.
pub(crate) const PATH_LIMIT: usize = 107;

/// Binds `name` in the folder `dir`, mode 0600. What was there under that name is removed.
pub(crate) fn bind(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let whole = dir.join(name);
    match std::fs::remove_file(&whole) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_folder, path) = reachable(dir, name)?;
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(&whole, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to `name` in the folder `dir`.
pub(crate) async fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let (_folder, path) = reachable(dir, name)?;
    UnixStream::connect(path).await
}

/// Whether a server is at the other end: it runs as the same user, or as root.
pub(crate) fn is_trusted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// A path to `name` in `dir` that fits; it holds as long as the folder that comes with it.
fn reachable(dir: &Path, name: &str) -> io::Result<(Option<std::os::fd::OwnedFd>, PathBuf)> {
    let path = dir.join(name);
    if path.as_os_str().len() <= PATH_LIMIT {
        return Ok((None, path));
    }
    let folder = rustix::fs::open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = PathBuf::from(format!(
        "/proc/self/fd/{}/{name}",
        std::os::fd::AsRawFd::as_raw_fd(&folder)
    ));
    Ok((Some(folder), path))
}

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection failed or ended.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The frame is too long.
    #[error(transparent)]
    Frame(#[from] wire::FrameError),
    /// The frame is not the message that was expected.
    #[error(transparent)]
    Decode(#[from] wire::DecodeError),
}

/// Reads one frame of at most `limit` bytes, and not a byte more.
pub(crate) async fn read_message<T: DeserializeOwned>(
    stream: &mut (impl AsyncReadExt + Unpin),
    limit: usize,
) -> Result<T, ReadError> {
    let mut header = [0; wire::frame::HEADER];
    stream.read_exact(&mut header).await?;
    let mut body = vec![0; wire::frame_length(header, limit)?];
    stream.read_exact(&mut body).await?;
    Ok(wire::decode(&body)?)
}

/// Writes one frame.
pub(crate) async fn write_message<T: Serialize>(
    stream: &mut (impl AsyncWriteExt + Unpin),
    message: &T,
) -> io::Result<()> {
    stream.write_all(&frame(message)).await
}

/// The bytes of one frame.
pub(crate) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let mut out = Vec::new();
    wire::frame_into(message, &mut out);
    out
}
