//! The life of a session: started, ready, used, over.
//!
//! One loop, one closed list of what can happen ([`Happening`]), one place that acts on each. Everything that waits is a task of its own
//! that reports back; nothing here waits.
//!
//! Always true: a session ends once, for one reason, and the reason is on disk before anybody is told.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use model::{EndReason, UnixMillis};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tunnel::Config;
use wire::keeper::{
    Command, ENDED, EndRecord, FILE_FORMAT, Opening, OpeningRefusal, PROTOCOL, Spec, Status,
};

use super::backend::{self, NoBackend, Socket};
use super::command::{self, Running};
use super::control::{Controls, refuse};
use super::happening::Happening;
use super::life::{Life, exit_reason, now};
use super::output::Output;
use super::places::Places;
use super::streams::{Asking, Resuming, Streams};
use super::terminal::Terminal;

mod deadline;

/// Happenings that may wait; who has more to say waits.
const QUEUE: usize = 256;
/// How long a keeper stays after the end when no server takes notice of it.
const STAY: Duration = Duration::from_secs(600);
/// How long it stays for clients when it has been told to go.
const LEAVE: Duration = Duration::from_secs(3);
/// How long the last output of a command that has exited is waited for.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the connection that found the backend ready is kept for the first client.
const SPARE: Duration = Duration::from_secs(5);

/// A session and everything that belongs to it.
pub(crate) struct Session {
    spec: Spec,
    dir: PathBuf,
    places: Arc<Places>,
    life: Life,
    terminal: Option<Terminal>,
    output: Output,
    processes: Option<super::processes::Processes>,
    streams: Streams,
    controls: Controls,
    /// The connection that found the backend ready.
    spare: Option<(Socket, Instant)>,
    attached: bool,
    ever_attached: bool,
    last_attached: Option<UnixMillis>,
    /// Since when no client has been attached.
    alone: Instant,
    /// A server has recorded the end.
    forgotten: bool,
    /// A signal asks for an end without waiting for servers.
    leaving: Option<Instant>,
    happenings: mpsc::Sender<Happening>,
}

/// Lives the life of a session; returns whether its folder may go.
pub(crate) async fn live(
    dir: &Path,
    spec: Spec,
    places: Places,
    listener: UnixListener,
    mut terminate: Signal,
) -> bool {
    let (happenings, mut queue) = mpsc::channel(QUEUE);
    // Other sessions may live on in this process: nobody is let in any more when this one is over.
    let mut door = JoinSet::new();
    door.spawn(super::door::accept(listener, happenings.clone()));
    let mut session = Session::start(dir, spec, places, happenings);
    while !session.is_over() {
        let deadline = session.deadline();
        let timer = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            happening = queue.recv() => match happening {
                Some(happening) => session.handle(happening),
                None => break,
            },
            Some(()) = terminate.recv() => session.handle(Happening::Terminated),
            () = timer => session.handle_deadline(),
        }
    }
    session.controls.close().await;
    session.forgotten
}

impl Session {
    fn start(
        dir: &Path,
        spec: Spec,
        mut places: Places,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let account = command::account(&spec, &mut places);
        let config = Config {
            dead_after: Duration::from_millis(spec.dead_after_ms),
            retain: Duration::from_millis(spec.retain_ms),
            answers: true,
            ..Config::default()
        };
        let on_terminal = spec
            .app
            .command()
            .is_some_and(|(_, on_terminal)| on_terminal);
        let streams = Streams::new(config, &spec.app.backends, on_terminal, happenings.clone());
        let mut session = Self {
            spec,
            dir: dir.to_owned(),
            places: Arc::new(places),
            life: Life::Starting(Vec::new()),
            terminal: None,
            output: Output::in_memory(),
            processes: None,
            streams,
            controls: Controls::new(),
            spare: None,
            attached: false,
            ever_attached: false,
            last_attached: None,
            alone: Instant::now(),
            forgotten: false,
            leaving: None,
            happenings,
        };
        let started = account.and_then(|account| {
            command::start(&session.spec, &session.places, dir, account.as_ref())
        });
        match started {
            Ok(running) => {
                if let Some(running) = running {
                    session.watch(running);
                }
                session.await_backend();
            }
            Err(error) => session.end(EndReason::FailedToStart {
                detail: error.to_string(),
            }),
        }
        session
    }

    fn watch(&mut self, running: Running) {
        let Running {
            mut child,
            processes,
            terminal,
            output,
            drained,
        } = running;
        self.terminal = terminal;
        self.output = output;
        self.processes = Some(processes);
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let status = child.wait().await.ok();
            // Something in the background may hold the output open.
            let _ = timeout(DRAIN, drained).await;
            let _ = happenings.send(Happening::Exited(status)).await;
        });
    }

    /// Tries to connect until the backend accepts or its time is over.
    fn await_backend(&self) {
        let (app, places, terminal) = (
            &self.spec.app,
            Arc::clone(&self.places),
            self.terminal.clone(),
        );
        let limit = Duration::from_millis(app.ready_timeout_ms);
        let (backends, happenings) = (app.backends.clone(), self.happenings.clone());
        let is_terminal = self.terminal.is_some()
            && backends
                .first()
                .is_none_or(|first| *first == model::Backend::Pty);
        tokio::spawn(async move {
            let ready = if is_terminal {
                Ok(None)
            } else {
                let socket = backend::await_one(&backends, &places, terminal.as_ref(), limit);
                socket.await.map(Some)
            };
            let _ = happenings.send(Happening::Ready(ready)).await;
        });
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Opened(stream, opening) => self.opened(stream, opening),
            Happening::Commanded(command) => self.commanded(command),
            Happening::Ready(ready) => self.ready(ready),
            Happening::Connected(asking, connected) => self.connected(asking, connected),
            Happening::Stream(stream, news) => {
                if self.streams.heard(stream, news) {
                    self.note_clients();
                }
            }
            Happening::Exited(status) => self.exited(status),
            Happening::Stopped => self.stopped(),
            Happening::Terminated => {
                self.leaving = Some(Instant::now() + LEAVE);
                self.end(EndReason::ByHand {
                    by: "a signal to its keeper".to_owned(),
                });
            }
        }
    }

    fn opened(&mut self, path: UnixStream, opening: Opening) {
        match opening {
            Opening::Control { protocol } => {
                let (status, happenings) = (self.status(), self.happenings.clone());
                self.controls.open(path, protocol, status, happenings);
            }
            Opening::Attach { client, address } => self.attach(Asking {
                path,
                client,
                address,
            }),
            Opening::Resume {
                stream,
                epoch,
                received,
                proof,
                exporter,
                address,
            } => {
                let resuming = Resuming {
                    path,
                    stream,
                    epoch,
                    received,
                    proof,
                    exporter,
                    address,
                };
                if let Err((path, refusal)) = self.streams.resume(resuming) {
                    refuse(path, refusal);
                }
            }
        }
    }

    fn attach(&mut self, asking: Asking) {
        if let Err(refusal) = self.streams.check(asking.client) {
            return refuse(asking.path, refusal);
        }
        match &mut self.life {
            Life::Starting(waiting) if waiting.len() < super::streams::LIMIT => {
                waiting.push(asking)
            }
            Life::Starting(_) => refuse(
                asking.path,
                OpeningRefusal::TooManyStreams {
                    limit: super::streams::LIMIT as u32,
                },
            ),
            Life::Running => self.connect(asking),
            Life::Ending(reason) | Life::Ended { reason, .. } => {
                refuse(asking.path, OpeningRefusal::Ended(reason.clone()))
            }
        }
    }

    /// Finds a backend for a client that asked.
    fn connect(&mut self, asking: Asking) {
        if let Some((socket, until)) = self.spare.take()
            && Instant::now() < until
            && !socket.is_closed()
        {
            return self.begin_stream(asking, socket);
        }
        let (places, terminal) = (Arc::clone(&self.places), self.terminal.clone());
        let mut backends = self.spec.app.backends.clone();
        if backends.is_empty() && terminal.is_some() {
            backends.push(model::Backend::Pty);
        }
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let connected = backend::connect(&backends, &places, terminal.as_ref()).await;
            let _ = happenings
                .send(Happening::Connected(asking, connected))
                .await;
        });
    }

    /// Makes the stream, after the backend was told whose it is, if it wants to know.
    fn begin_stream(&mut self, asking: Asking, socket: Socket) {
        if self.spec.app.proxy_protocol
            && let Err(error) = socket.introduce(&asking.address)
        {
            let detail = format!("it did not take the header of the PROXY protocol: {error}");
            return refuse(asking.path, OpeningRefusal::Backend { detail });
        }
        self.streams.attach(asking, socket);
        self.note_clients();
    }

    fn connected(&mut self, asking: Asking, connected: Result<Socket, NoBackend>) {
        if let Life::Ending(reason) | Life::Ended { reason, .. } = &self.life {
            return refuse(asking.path, OpeningRefusal::Ended(reason.clone()));
        }
        match (connected, self.streams.check(asking.client)) {
            (Ok(socket), Ok(())) => self.begin_stream(asking, socket),
            (_, Err(refusal)) => refuse(asking.path, refusal),
            (Err(error), _) => refuse(
                asking.path,
                OpeningRefusal::Backend {
                    detail: self.with_output(error.detail),
                },
            ),
        }
    }

    fn ready(&mut self, ready: Result<Option<Socket>, NoBackend>) {
        let Life::Starting(waiting) = &mut self.life else {
            return;
        };
        match ready {
            Ok(spare) => {
                let waiting = std::mem::take(waiting);
                self.life = Life::Running;
                self.alone = Instant::now();
                self.streams.traffic().note();
                self.spare = spare.map(|socket| (socket, Instant::now() + SPARE));
                self.tell();
                for asking in waiting {
                    self.attach(asking);
                }
            }
            Err(error) => {
                let limit = Duration::from_millis(self.spec.app.ready_timeout_ms);
                let detail = format!("the backend did not accept within {limit:?}: {error}");
                self.end(EndReason::FailedToStart {
                    detail: self.with_output(detail),
                });
            }
        }
    }

    fn exited(&mut self, status: Option<ExitStatus>) {
        let exited = exit_reason(status);
        match self.life {
            Life::Starting(_) if self.terminal.is_none() => {
                let detail = self.with_output(format!("{exited} before its backend accepted"));
                self.end(EndReason::FailedToStart { detail });
            }
            _ => self.end(exited),
        }
    }

    fn commanded(&mut self, command: Command) {
        match command {
            Command::End { reason } => self.end(reason),
            Command::Status => self.tell(),
            Command::News => self.streams.tell_news(),
            Command::Traffic => self.streams.traffic().note(),
            Command::Forget => match self.life {
                Life::Ended { .. } => {
                    self.forgotten = true;
                    self.leaving
                        .get_or_insert(Instant::now() + Duration::from_millis(self.spec.retain_ms));
                }
                _ => tracing::warn!("a server wants to forget a session that is not over"),
            },
        }
    }

    /// Begins to end the session, unless that has begun.
    fn end(&mut self, reason: EndReason) {
        let waiting = match &mut self.life {
            Life::Starting(waiting) => std::mem::take(waiting),
            Life::Running => Vec::new(),
            Life::Ending(_) | Life::Ended { .. } => return,
        };
        for asking in waiting {
            let refusal = match &reason {
                EndReason::FailedToStart { detail } => OpeningRefusal::Backend {
                    detail: detail.clone(),
                },
                other => OpeningRefusal::Ended(other.clone()),
            };
            refuse(asking.path, refusal);
        }
        tracing::info!(session = %self.spec.session, %reason, "the session ends");
        self.life = Life::Ending(reason);
        self.spare = None;
        let (processes, happenings) = (self.processes.take(), self.happenings.clone());
        tokio::spawn(async move {
            if let Some(processes) = processes {
                processes.end().await;
                if let Some(group) = &processes.group {
                    group.remove();
                }
            }
            let _ = happenings.send(Happening::Stopped).await;
        });
    }

    fn stopped(&mut self) {
        let Life::Ending(reason) = &self.life else {
            return;
        };
        let (reason, at) = (reason.clone(), now());
        let record = EndRecord {
            format: FILE_FORMAT,
            at,
            reason: reason.clone(),
        };
        let json = serde_json::to_vec_pretty(&record).expect("invariant: a record is plain data");
        if let Err(error) = crate::launch::write_private(&self.dir.join(ENDED), &json) {
            // Servers that are connected are told all the same.
            tracing::error!(%error, "the end of the session could not be recorded");
        }
        self.life = Life::Ended {
            since: Instant::now(),
            at,
            reason,
        };
        self.terminal = None;
        self.streams.end();
        self.tell();
    }

    /// Whether the keeper has nothing left to do.
    fn is_over(&self) -> bool {
        let Life::Ended { since, .. } = &self.life else {
            return false;
        };
        let now = Instant::now();
        let told_to_go = self
            .leaving
            .is_some_and(|until| self.streams.is_empty() || now >= until);
        told_to_go || now >= *since + STAY
    }

    /// Notes whether a client is attached, and tells of it.
    fn note_clients(&mut self) {
        let attached = self.streams.address().is_some();
        if attached || self.attached {
            self.last_attached = Some(now());
        }
        if self.attached && !attached {
            self.alone = Instant::now();
        }
        self.attached = attached;
        self.ever_attached |= attached;
        self.tell();
    }

    fn tell(&mut self) {
        let status = self.status();
        self.controls.tell(status);
    }

    fn status(&self) -> Status {
        Status {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            session: self.spec.session,
            token: self.spec.token.clone(),
            user: self.spec.user.clone(),
            app: self.spec.app.name.clone(),
            created: self.spec.created,
            phase: self.life.phase(),
            client: self.streams.address().map(str::to_owned),
            last_attached: self.last_attached,
            streams: u32::try_from(self.streams.open()).unwrap_or(u32::MAX),
        }
    }

    /// A message with the last lines that the command printed.
    fn with_output(&self, message: String) -> String {
        match self.output.told() {
            told if told.is_empty() => message,
            told => format!("{message}; last output:\n{told}"),
        }
    }
}
