//! What a stream waits for; what it does not have is waited for for ever.

use std::io;

use tokio::io::{Interest, Ready};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::backend::Socket;

pub(crate) fn interest(read: bool, write: bool) -> Interest {
    match (read, write) {
        (true, true) => Interest::READABLE | Interest::WRITABLE,
        (false, true) => Interest::WRITABLE,
        _ => Interest::READABLE,
    }
}

pub(crate) async fn path_ready(path: Option<(&UnixStream, Interest)>) -> io::Result<Ready> {
    match path {
        Some((socket, interest)) => socket.ready(interest).await,
        None => std::future::pending().await,
    }
}

pub(crate) async fn backend_ready(backend: Option<(&Socket, Interest)>) -> io::Result<Ready> {
    match backend {
        Some((socket, interest)) => socket.ready(interest).await,
        None => std::future::pending().await,
    }
}

pub(crate) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
