//! Byte streams to keepers: on this server through their sockets, elsewhere on a connection of their own to the host.

use crate::node::Node;
use host::LinkError;
use model::{EndReason, Server, SessionId, SessionState};
use relay::ByteStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use wire::control::{StreamAnswer, StreamOpening};
use wire::frame::{CLIENT_LIMIT, HEADER};
use wire::keeper::{Opening, OpeningAnswer};

/// How long another server may take to answer beyond what the keeper itself may take.
const SLACK: Duration = Duration::from_secs(5);
/// How long a stream may take to open when its application is not known.
const LIMIT: Duration = Duration::from_secs(60);

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The session is not on that host.
    #[error("the session is not there")]
    NotHere,
    /// The session failed.
    #[error("{detail}")]
    Failed {
        /// What happened, with the last lines that its command printed.
        detail: String,
    },
    /// Its keeper does not answer.
    #[error("its keeper does not answer: {why}")]
    Keeper {
        /// What was seen.
        why: String,
    },
    /// The host cannot be reached.
    #[error("it cannot be reached: {0}")]
    Dial(#[from] peer::pool::StreamError),
    /// The connection to the host broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The host's answer is malformed.
    #[error("its answer is malformed: {0}")]
    Malformed(#[from] wire::DecodeError),
    /// The host's answer is longer than allowed.
    #[error("its answer is malformed: {0}")]
    TooLong(#[from] wire::FrameError),
    /// It took too long.
    #[error("it did not answer in time")]
    TooSlow,
}

impl Node {
    /// Opens a stream to a session that this server hosts; waits for a session that is just being started.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn local_stream(
        &self,
        session: SessionId,
        opening: Opening,
    ) -> Result<(OpeningAnswer, Box<dyn ByteStream>), StreamError> {
        let deadline = Instant::now() + self.start_limit(session);
        let mut changed = self.directory_changed();
        loop {
            changed.borrow_and_update();
            if let Some(found) = self.try_keeper(session, &opening).await? {
                return Ok(found);
            }
            let directory = self.directory();
            let known = directory
                .session(session)
                .filter(|known| known.host == self.me());
            match known {
                Some(known) if known.state == SessionState::Ended => {
                    return Err(ended(known.reason.as_deref()));
                }
                Some(known) if known.state == SessionState::Starting => {}
                Some(known) if crate::hosting::is_binding(&directory, known) => {
                    self.0.hosting.want(session)
                }
                _ => return Err(StreamError::NotHere),
            }
            // A keeper that was just started makes its socket soon; the directory says when the session failed.
            let pause = Instant::now() + Duration::from_millis(25);
            let _ = timeout_at(pause.min(deadline), changed.changed()).await;
            if Instant::now() >= deadline {
                return Err(StreamError::TooSlow);
            }
        }
    }

    async fn try_keeper(
        &self,
        session: SessionId,
        opening: &Opening,
    ) -> Result<Option<(OpeningAnswer, Box<dyn ByteStream>)>, StreamError> {
        let folder = self.session_folder(session);
        match host::open_stream(&folder, opening, self.start_limit(session)).await {
            Ok((answer, stream)) => Ok(Some((answer, Box::new(stream)))),
            // Nothing listens there: its keeper is just being started, or is gone.
            Err(LinkError::Connect(_)) => Ok(None),
            Err(error) => Err(StreamError::Keeper {
                why: peer::InFull(&error).to_string(),
            }),
        }
    }

    fn start_limit(&self, session: SessionId) -> Duration {
        let directory = self.directory();
        let app = directory
            .session(session)
            .and_then(|known| directory.app(&known.app));
        app.map_or(LIMIT, |app| {
            Duration::from_millis(app.ready_timeout_ms) + SLACK
        })
    }

    /// Opens a stream to a session on another server.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn remote_stream(
        &self,
        host: &Arc<Server>,
        session: SessionId,
        opening: Opening,
    ) -> Result<(OpeningAnswer, Box<dyn ByteStream>), StreamError> {
        let limit = self.start_limit(session) + SLACK;
        let mut stream = self.dial_stream(host).await?;
        let answer = timeout(limit, async {
            write_message(&mut stream, &StreamOpening { session, opening }).await?;
            read_message::<_, StreamAnswer>(&mut stream).await
        })
        .await
        .map_err(|_| StreamError::TooSlow)??;
        match answer {
            StreamAnswer::Keeper(answer) => Ok((answer, Box::new(stream))),
            StreamAnswer::NotHere => Err(StreamError::NotHere),
            StreamAnswer::KeeperUnreachable { why } => Err(StreamError::Keeper { why }),
        }
    }

    /// Serves a stream that another member opened for a client that reached it.
    pub(crate) async fn serve_stream<S: ByteStream>(&self, mut far: S) -> Result<(), StreamError> {
        let opening: StreamOpening = timeout(SLACK, read_message(&mut far))
            .await
            .map_err(|_| StreamError::TooSlow)??;
        let (answer, near) = match self.local_stream(opening.session, opening.opening).await {
            Ok(found) => found,
            Err(error) => {
                let answer = match error {
                    StreamError::NotHere => StreamAnswer::NotHere,
                    error => StreamAnswer::KeeperUnreachable {
                        why: error.to_string(),
                    },
                };
                write_message(&mut far, &answer).await?;
                return Ok(far.shutdown().await?);
            }
        };
        write_message(&mut far, &StreamAnswer::Keeper(answer)).await?;
        relay::pipe(far, near, self.stop()).await;
        Ok(())
    }
}

fn ended(reason: Option<&EndReason>) -> StreamError {
    match reason {
        Some(EndReason::FailedToStart { detail }) => StreamError::Failed {
            detail: detail.clone(),
        },
        _ => StreamError::NotHere,
    }
}

async fn write_message<S: AsyncWrite + Unpin, T: serde::Serialize>(
    stream: &mut S,
    message: &T,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    wire::frame_into(message, &mut bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn read_message<S: AsyncRead + Unpin, T: serde::de::DeserializeOwned>(
    stream: &mut S,
) -> Result<T, StreamError> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let mut bytes = vec![0; wire::frame_length(header, CLIENT_LIMIT)?];
    stream.read_exact(&mut bytes).await?;
    Ok(wire::decode(&bytes)?)
}
