//! The local socket of a server, however long the path of its data folder is.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// The most bytes that a socket's path may have (`sun_path` of unix(7), without the closing zero).
const PATH_LIMIT: usize = 107;

/// Connects to `<data>/run/admin.sock`.
pub(super) async fn connect(data: &Path) -> io::Result<UnixStream> {
    let folder = data.join("run");
    let path = folder.join("admin.sock");
    if path.as_os_str().len() <= PATH_LIMIT {
        return UnixStream::connect(path).await;
    }
    // Named through its folder's descriptor, the path is short.
    let folder = std::fs::File::open(folder)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/admin.sock", folder.as_raw_fd()));
    UnixStream::connect(short).await
}
