//! The keeper of many sessions: those of running backends, which launch nothing.
//!
//! A server that starts one stays connected to it and has it keep session after session; each is kept as in a process of its own, with its
//! own folder, lock and socket. So ten thousand tunnels to running servers take a few processes, not ten thousand.
//!
//! Always true: it ends when its server has gone and its last session is over, or when it is told to go and its sessions are; a session
//! that fails takes no other with it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::SessionId;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use wire::frame::UNPROVED_LIMIT;
use wire::keeper::{HALL_SOCKET, HallAnswer, HallOrder};

use super::{KeeperError, keep_session, leave};
use crate::launch::{DETACH, detach, folder};
use crate::scope;
use crate::socket::{self, is_trusted, read_message, write_message};

/// How long the server that started it may take to come.
const FIRST: Duration = Duration::from_secs(10);
/// Orders that may wait.
const QUEUE: usize = 64;

/// An order, and where its answer goes.
struct Asked(HallOrder, oneshot::Sender<HallAnswer>);

/// Keeps the sessions that servers give it, whose folders are below `sessions`; its own folder is `dir`. Called by `stead keeper --dir DIR
/// --sessions DIR`.
///
/// # Errors
/// Why it could not begin.
pub async fn run(dir: &Path, sessions: &Path) -> Result<(), KeeperError> {
    let unusable = |dir: &Path| {
        let dir = dir.to_owned();
        move |source| KeeperError::Folder { dir, source }
    };
    let dir = std::path::absolute(dir).map_err(unusable(dir))?;
    let sessions = std::path::absolute(sessions).map_err(unusable(sessions))?;
    let group = scope::hall_group(&dir);
    if std::env::var_os(DETACH).is_some() {
        return detach(&dir, &group).map_err(KeeperError::Detach);
    }
    let listener = socket::bind(&dir, HALL_SOCKET).map_err(unusable(&dir))?;
    live(sessions, listener).await?;
    if let Err(error) = fs::remove_dir_all(&dir) {
        tracing::warn!(dir = %dir.display(), %error, "the folder of a keeper stays");
    }
    leave(&group);
    Ok(())
}

async fn live(sessions: PathBuf, listener: tokio::net::UnixListener) -> Result<(), KeeperError> {
    // Handled so that they do not end the process; each session hears for itself that it is to go.
    let _hangup = signal(SignalKind::hangup()).map_err(KeeperError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(KeeperError::Signals)?;
    let (asks, mut asked) = mpsc::channel(QUEUE);
    let (mut servers, mut kept) = (JoinSet::new(), Kept::default());
    let mut is_leaving = false;
    let mut first = Box::pin(sleep(FIRST));
    let mut came = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_trusted(&stream) => {
                    came = true;
                    servers.spawn(serve(stream, asks.clone()));
                }
                Ok(_) => tracing::warn!("a connection of another user was dropped"),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(Asked(order, answer)) = asked.recv() => match order {
                HallOrder::Keep { session } => kept.keep(session, folder(&sessions, session), answer),
                HallOrder::Leave { session } => kept.leave(session, answer),
            },
            () = kept.ended() => {}
            Some(_) = servers.join_next() => {}
            Some(()) = terminate.recv() => is_leaving = true,
            () = &mut first, if !came => came = true,
        }
        let is_needed = !is_leaving && (!came || !servers.is_empty());
        if kept.tasks.is_empty() && !is_needed {
            return Ok(());
        }
    }
}

/// The sessions that are kept.
#[derive(Default)]
struct Kept {
    tasks: JoinSet<()>,
    by_session: HashMap<SessionId, AbortHandle>,
}

impl Kept {
    fn keep(&mut self, session: SessionId, dir: PathBuf, answer: oneshot::Sender<HallAnswer>) {
        let task = self.tasks.spawn(keep(dir, answer));
        self.by_session.insert(session, task);
    }

    fn leave(&mut self, session: SessionId, answer: oneshot::Sender<HallAnswer>) {
        if let Some(task) = self.by_session.remove(&session) {
            task.abort();
        }
        // The server may have gone.
        let _ = answer.send(HallAnswer::Left);
    }

    /// Waits until one has ended; for ever where there is none.
    async fn ended(&mut self) {
        let Some(ended) = self.tasks.join_next().await else {
            return std::future::pending().await;
        };
        match ended {
            Err(error) if !error.is_cancelled() => tracing::error!(%error, "a session failed"),
            _ => {}
        }
        self.by_session.retain(|_, task| !task.is_finished());
    }
}

/// Takes a server's orders, one after the other.
async fn serve(mut stream: UnixStream, asks: mpsc::Sender<Asked>) {
    while let Ok(order) = read_message::<HallOrder>(&mut stream, UNPROVED_LIMIT).await {
        let (answer, answered) = oneshot::channel();
        if asks.send(Asked(order, answer)).await.is_err() {
            return;
        }
        let answer = answered.await.unwrap_or_else(|_| HallAnswer::Refused {
            why: "it failed".to_owned(),
        });
        if write_message(&mut stream, &answer).await.is_err() {
            return;
        }
    }
}

/// The life of one session.
async fn keep(dir: PathBuf, answer: oneshot::Sender<HallAnswer>) {
    let mut answer = Some(answer);
    let mut tell = |told| {
        // The server may have gone.
        let _ = answer.take().map(|answer| answer.send(told));
    };
    if let Err(error) = keep_session(&dir, || tell(HallAnswer::Kept)).await {
        tracing::warn!(dir = %dir.display(), %error, "a session was not kept");
        tell(HallAnswer::Refused {
            why: error.to_string(),
        });
    }
}
