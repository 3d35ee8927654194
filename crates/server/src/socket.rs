//! Unix sockets whose path may be longer than the system's limit.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use tokio::net::UnixListener;

/// Listens on a socket of this name in a folder, through the folder's descriptor: its path may have any length.
///
/// # Errors
/// What the system says.
pub fn bind(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let open = File::open(folder)?;
    let short = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
    UnixListener::bind(short)
}
