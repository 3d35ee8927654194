//! Byte streams to keepers: on this server through their sockets, elsewhere on a connection of their own to the host.

use crate::hosting::Visit;
use crate::node::Node;
use host::{BackendSocket, LinkError, NoBackend};
use model::{Application, EndReason, Server, Session, SessionId, SessionState};
use peer::dial::PeerStream;
use relay::ByteStream;
use relay::gateway::Socket;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use wire::control::{StreamAnswer, StreamOpening, StreamTo};
use wire::frame::{CLIENT_LIMIT, HEADER};
use wire::keeper::{Opening, OpeningAnswer};

/// How long another server may take to answer beyond what the keeper itself may take.
const SLACK: Duration = Duration::from_secs(5);
/// How long a stream may take to open when its application is not known.
const LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked again whether a session that is being started will come at all.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a session may take to be heard of here that another server speaks of.
const COMES_WITHIN: Duration = Duration::from_secs(3);
/// How long a backend that runs already may take to accept a gateway's client.
const ACCEPTS_WITHIN: Duration = Duration::from_secs(3);

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
    /// No backend of it accepts.
    #[error("its backend does not accept: {detail}")]
    Backend {
        /// What was tried and seen.
        detail: String,
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
        let awaited = self.0.hosting.arrivals.expect(session);
        loop {
            let news = awaited.news();
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
                    self.0.hosting.want(session);
                }
                _ => return Err(StreamError::NotHere),
            }
            // That the session has failed elsewhere is seen a little later.
            let look = Instant::now() + LOOK_AGAIN;
            let _ = timeout_at(look.min(deadline), news).await;
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
        let to = StreamTo::Keeper(opening);
        let (answer, stream) = self.ask_host(host, session, to, limit).await?;
        match answer {
            StreamAnswer::Keeper(answer) => Ok((answer, Box::new(stream))),
            other => Err(no_stream(other)),
        }
    }

    async fn ask_host(
        &self,
        host: &Server,
        session: SessionId,
        to: StreamTo,
        limit: Duration,
    ) -> Result<(StreamAnswer, PeerStream), StreamError> {
        let mut stream = self.dial_stream(host).await?;
        let asking = timeout(limit, async {
            write_message(&mut stream, &StreamOpening { session, to }).await?;
            read_message::<_, StreamAnswer>(&mut stream).await
        });
        let answer = asking.await.map_err(|_| StreamError::TooSlow)??;
        Ok((answer, stream))
    }

    /// Connects a gateway's client to the backend of a session on another server.
    ///
    /// # Errors
    /// Why there is no way.
    pub(crate) async fn remote_backend(
        &self,
        host: &Server,
        session: SessionId,
        client: SocketAddr,
        reached: SocketAddr,
    ) -> Result<PeerStream, StreamError> {
        let to = StreamTo::Backend { client, reached };
        let limit = COMES_WITHIN + ACCEPTS_WITHIN + SLACK;
        let (answer, stream) = self.ask_host(host, session, to, limit).await?;
        match answer {
            StreamAnswer::Connected => Ok(stream),
            other => Err(no_stream(other)),
        }
    }

    /// Connects a gateway's client to the backend of a session on this server; the session counts as used as long as the visit is
    /// kept.
    ///
    /// # Errors
    /// The session is not here, or its backend does not accept.
    pub(crate) async fn local_backend(
        &self,
        session: SessionId,
        client: SocketAddr,
        reached: SocketAddr,
    ) -> Result<(Socket, Visit), StreamError> {
        let (app, known) = self.bound_here(session).await?;
        let folder = self.session_folder(session);
        let limit = ACCEPTS_WITHIN.min(Duration::from_millis(app.ready_timeout_ms));
        let connected = match app.is_balanced() {
            true => self.connect_balanced(&app, &known, &folder).await,
            false => host::connect_running(&app, &known, &folder, limit).await,
        };
        let socket = match connected {
            Ok(BackendSocket::Tcp(stream)) => Socket::Tcp(stream),
            Ok(BackendSocket::Unix(stream)) => Socket::Unix(stream),
            Err(error) => {
                let detail = error.detail;
                self.0.hosting.not_accepted(session, &detail);
                return Err(StreamError::Backend { detail });
            }
        };
        socket.settle()?;
        let may_idle = app.idle_timeout_ms.is_some();
        let visit = self.0.hosting.visit(session, client.ip(), may_idle);
        let mut socket = socket;
        if app.proxy_protocol {
            let header = wire::proxy::written(client, reached);
            socket.write_all(&header).await?;
        }
        Ok((socket, visit))
    }

    /// Connects to the first backend that accepts of those that are up, the session's own before all others.
    async fn connect_balanced(
        &self,
        app: &Application,
        session: &Session,
        folder: &Path,
    ) -> Result<BackendSocket, NoBackend> {
        let balanced = self.balanced(session.id, app);
        let none = |detail| NoBackend { detail };
        let balanced = balanced.map_err(|error| none(error.to_string()))?;
        let mut met = Vec::new();
        for backend in &balanced.backends {
            let one = Application {
                backends: vec![backend.clone()],
                ..balanced.clone()
            };
            // They run already: who does not accept now is not waited for, another one may.
            match host::connect_running(&one, session, folder, Duration::ZERO).await {
                Ok(socket) => {
                    self.0.backends.hold(session.id, backend);
                    return Ok(socket);
                }
                Err(error) => {
                    self.note_backend(backend, Err(error.detail.clone()));
                    met.push(error.detail);
                }
            }
        }
        Err(none(met.join("; ")))
    }

    /// A session on this server that needs no keeper. The server that asks may have heard of it before this one.
    async fn bound_here(
        &self,
        session: SessionId,
    ) -> Result<(Arc<Application>, Arc<Session>), StreamError> {
        let deadline = Instant::now() + COMES_WITHIN;
        let mut changed = self.directory_changed();
        loop {
            changed.borrow_and_update();
            let directory = self.directory();
            if let Some(known) = directory.session(session) {
                let app = directory.app(&known.app);
                let here = known.host == self.me() && known.is_live();
                let app = app.filter(|app| here && app.launch.is_none());
                let app = app.ok_or(StreamError::NotHere)?;
                return Ok((app.clone(), known.clone()));
            }
            if timeout_at(deadline, changed.changed()).await.is_err() {
                return Err(StreamError::NotHere);
            }
        }
    }

    /// Serves a stream that another member opened for a client that reached it.
    pub(crate) async fn serve_stream<S: ByteStream + 'static>(
        &self,
        mut far: S,
    ) -> Result<(), StreamError> {
        let opening: StreamOpening = timeout(SLACK, read_message(&mut far))
            .await
            .map_err(|_| StreamError::TooSlow)??;
        let StreamOpening { session, to } = opening;
        let error = match to {
            StreamTo::Keeper(opening) => match self.local_stream(session, opening).await {
                Ok((answer, near)) => {
                    write_message(&mut far, &StreamAnswer::Keeper(answer)).await?;
                    relay::pipe(far, near, self.stop()).await;
                    return Ok(());
                }
                Err(error) => error,
            },
            StreamTo::Backend { client, reached } => {
                match self.local_backend(session, client, reached).await {
                    Ok((near, visit)) => {
                        write_message(&mut far, &StreamAnswer::Connected).await?;
                        let (visitors, me) = (&self.0.gateways.visitors, self.me());
                        let (over, visitor) = visitors.enter(session, me, &self.directory(), me);
                        let far = Box::new(far);
                        let passing = visit.passing();
                        relay::gateway::forward_here(far, near, &passing, over, self.stop()).await;
                        drop((visit, visitor));
                        return Ok(());
                    }
                    Err(error) => error,
                }
            }
        };
        let answer = match error {
            StreamError::NotHere => StreamAnswer::NotHere,
            StreamError::Backend { detail } => StreamAnswer::NoBackend { detail },
            error => StreamAnswer::KeeperUnreachable {
                why: error.to_string(),
            },
        };
        write_message(&mut far, &answer).await?;
        Ok(far.shutdown().await?)
    }
}

fn no_stream(answer: StreamAnswer) -> StreamError {
    match answer {
        StreamAnswer::NotHere => StreamError::NotHere,
        StreamAnswer::KeeperUnreachable { why } => StreamError::Keeper { why },
        StreamAnswer::NoBackend { detail } => StreamError::Backend { detail },
        StreamAnswer::Keeper(_) | StreamAnswer::Connected => StreamError::Keeper {
            why: "it answers something else than it was asked".to_owned(),
        },
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
