//! The keeper's socket: who may come in, and what a connection is for.
//!
//! Always true: a connection of another user is dropped unread; one that has not said what it is for has sent at most 4 KiB, in at
//! most 10 s, and there are at most [`UNPROVED`] of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use wire::frame::UNPROVED_LIMIT;
use wire::keeper::Opening;

use super::happening::Happening;
use crate::socket::{is_trusted, read_message};

/// How long an opening may take.
const OPENING: Duration = Duration::from_secs(10);
/// The most connections that have not said what they are for.
const UNPROVED: usize = 256;

/// Accepts connections for as long as the keeper lives.
pub(crate) async fn accept(listener: UnixListener, happenings: mpsc::Sender<Happening>) {
    let places = Arc::new(Semaphore::new(UNPROVED));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, say: connections wait meanwhile.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if !is_trusted(&stream) {
            tracing::warn!("a connection of another user was dropped");
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(
                "a connection was dropped: {UNPROVED} others have not said what they are for"
            );
            continue;
        };
        let happenings = happenings.clone();
        tokio::spawn(async move {
            if let Some((stream, opening)) = opening(stream).await {
                // The keeper may have ended meanwhile.
                let _ = happenings.send(Happening::Opened(stream, opening)).await;
            }
            drop(place);
        });
    }
}

async fn opening(mut stream: UnixStream) -> Option<(UnixStream, Opening)> {
    match timeout(OPENING, read_message(&mut stream, UNPROVED_LIMIT)).await {
        Ok(Ok(opening)) => Some((stream, opening)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection did not say what it is for");
            None
        }
        Err(_) => None,
    }
}
