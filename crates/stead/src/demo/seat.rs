//! A user's seat: a session through the engine of `stead connect`, what it says, and a viewer at its local port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::connect::Event;
use client::{Connect, Fingerprint, Local};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use wire::client::{Credential, Hidden};

use super::bytes::Bytes;
use super::failed;
use super::shell::Shell;
use super::stage::Stage;
use crate::errors::Failure;

/// How long the client may take to say what is waited for.
const EVENT: Duration = Duration::from_secs(25);

/// One session.
pub(super) struct Seat {
    app: &'static str,
    listen: String,
    /// Events that were not taken yet, and a signal for more.
    events: Arc<Mutex<Vec<Event>>>,
    more: watch::Receiver<u64>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Seat {
    /// Logs in and opens the session.
    pub(super) async fn take(
        servers: Vec<String>,
        ca: Fingerprint,
        app: &'static str,
        user: &str,
        password: &str,
        stage: &Stage,
    ) -> Result<Self, Failure> {
        let what = format!("the session of application {app} was not opened");
        let connect = Connect {
            servers,
            ca,
            token: "card.demo".parse().map_err(|error| failed(&what, error))?,
            app: Some(app.parse().map_err(|error| failed(&what, error))?),
            credential: Credential::Password {
                user: Some(user.parse().map_err(|error| failed(&what, error))?),
                password: Hidden(password.to_owned()),
            },
            local: Local::Listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            patience: Duration::from_secs(20),
        };
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let running = tokio::spawn(connect.run(sender));
        let ready = timeout(EVENT, receiver.recv())
            .await
            .map_err(|_| failed(&what, "it took too long"))?;
        let Some(Event::Ready {
            listen,
            host,
            session,
        }) = ready
        else {
            let why = match running.await {
                Ok(Err(error)) => crate::errors::chain(&error),
                _ => "the client ended".to_owned(),
            };
            return Err(failed(&what, why));
        };
        stage.line(
            "opened",
            &format!("{app}: session {session} runs on {host}, its viewer connects to {listen}"),
        );
        let (events, (count, more)) = (Arc::new(Mutex::new(Vec::new())), watch::channel(0));
        let told = stage.clone();
        let taking = tokio::spawn({
            let events = events.clone();
            async move {
                while let Some(event) = receiver.recv().await {
                    tell(&told, app, &event);
                    events
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(event);
                    count.send_modify(|count| *count += 1);
                }
            }
        });
        let tasks = vec![running.abort_handle(), taking.abort_handle()];
        Ok(Self {
            app,
            listen,
            events,
            more,
            tasks,
        })
    }

    /// Waits for an event that fits; those before it are forgotten.
    pub(super) async fn until(
        &mut self,
        what: &str,
        fits: impl Fn(&Event) -> bool,
    ) -> Result<Event, Failure> {
        let waiting = async {
            loop {
                self.more.mark_unchanged();
                let mut events = std::mem::take(
                    &mut *self.events.lock().unwrap_or_else(PoisonError::into_inner),
                )
                .into_iter();
                let found = events.by_ref().find(|event| fits(event));
                if let Some(found) = found {
                    let mut kept = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.splice(0..0, events);
                    return Some(found);
                }
                self.more.changed().await.ok()?;
            }
        };
        let why = |why: &str| {
            failed(
                &format!("{}: the client did not say that {what}", self.app),
                why,
            )
        };
        timeout(EVENT, waiting)
            .await
            .map_err(|_| why("it took too long"))?
            .ok_or_else(|| why("it has ended"))
    }

    /// Takes the events that came so far.
    pub(super) fn events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A viewer's connection.
    pub(super) async fn viewer(&self) -> Result<TcpStream, Failure> {
        let what = format!("{}: the viewer was not connected", self.app);
        TcpStream::connect(&self.listen)
            .await
            .map_err(|error| failed(&what, error))
    }
}

fn tell(stage: &Stage, app: &str, event: &Event) {
    let facts = serde_json::to_value(event).unwrap_or(Value::Null);
    let (kind, text) = match event {
        Event::Ready { .. } => ("ready", "ready".to_owned()),
        Event::PathLost { host, .. } => (
            "path-lost",
            format!("the path to {host} is lost; the viewer's connection stays"),
        ),
        Event::Resumed { outage_ms, via } => (
            "resumed",
            format!("goes on through {via} after {outage_ms} ms, nothing lost"),
        ),
        Event::SessionLost { host, reason, .. } => (
            "session-lost",
            format!("the session is lost with {host}: {reason}"),
        ),
        Event::Moved { to, outage_ms, .. } => (
            "moved",
            format!("a new session on {to} after {outage_ms} ms, no password asked"),
        ),
        Event::MoveDue { host, by, .. } => (
            "move-due",
            format!("{by} takes {host} out of use; the session goes elsewhere soon"),
        ),
        Event::MoveCancelled { host, .. } => {
            ("move-cancelled", format!("{host} stays in use after all"))
        }
        Event::TakenOver { .. } => ("taken-over", "taken over by another client".to_owned()),
        Event::Ended { reason } => ("ended", format!("ended: {reason}")),
        Event::Notice { text } => ("notice", format!("notice: {text}")),
    };
    stage.felt(kind, &format!("{app}: {text}"), facts);
}

/// Both sessions and who uses them.
pub(super) struct Seats {
    pub(super) shell_seat: Seat,
    pub(super) bytes_seat: Seat,
    pub(super) shell: Shell,
    pub(super) bytes: Bytes,
}

impl Seats {
    /// Forgets what came so far.
    pub(super) fn forget_events(&self) {
        drop((self.shell_seat.events(), self.bytes_seat.events()));
    }

    /// Lets the viewers in.
    pub(super) async fn sit_down(shell_seat: Seat, bytes_seat: Seat) -> Result<Self, Failure> {
        let mut shell = Shell::new(shell_seat.viewer().await?);
        shell.remember("persistence").await?;
        let bytes = Bytes::start(bytes_seat.viewer().await?);
        Ok(Self {
            shell_seat,
            bytes_seat,
            shell,
            bytes,
        })
    }
}
