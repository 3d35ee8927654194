//! The engine of `stead connect`: everything that can happen to a session ends up here, one thing after the other.
//!
//! [`Engine::wake`] waits for the next of a closed list of things, [`Engine::apply`] deals with it. Streams run by themselves and find
//! their own paths ([`super::stream`]); the engine asks what became of the session, moves on when it is lost, and tells the user.

mod ending;
mod leaving;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use model::{EndReason, ServerId};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use wire::client::{Credential, Leave, Opened, Refused};

use super::event::Event;
use super::fate::Fate;
use super::idle::{Noticed, Watch};
use super::opening::{OpenError, Patience, open};
use super::shared::{Shared, Signal, Standing};
use super::stream::{BoxedViewer, Served, serve};
use super::viewer::Doors;
use super::{ConnectError, End};
use leaving::Due;

/// Stands for a session without viewers among the streams that have no path.
const IDLE: u64 = u64::MAX;

/// Something that is waited for beside all else.
pub(super) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What can happen.
enum Wake {
    /// A viewer has come.
    Viewer(io::Result<BoxedViewer>),
    /// A stream says something.
    Signal(Signal),
    /// A stream is over.
    Served(u64, Served),
    /// Something happened to a session that no viewer uses.
    Noticed(Noticed),
    /// It is known what became of the session, or whether it has ended.
    Fate(Result<Fate, Refused>),
    /// The token has another session, or will not get one.
    Opened(Result<Opened, OpenError>),
    /// It is known what the session's host asks of its client.
    Asked(Option<Leave>, usize),
    /// The user is to be told again that the session is moved soon.
    Remind,
    /// The viewer program has exited.
    Exited(io::Result<std::process::ExitStatus>),
    /// Streams have had their time after the viewer program's end.
    LastBytes,
}

/// A session whose streams have no path.
struct Trouble {
    /// When something was last heard, over the path that was silent first.
    heard: Instant,
    /// The user was told.
    told: bool,
}

/// A session that is being left.
struct Leaving {
    from: ServerId,
    reason: String,
    heard: Instant,
}

/// See the module's text.
pub(super) struct Engine {
    shared: Arc<Shared>,
    signals: mpsc::UnboundedReceiver<Signal>,
    events: mpsc::UnboundedSender<Event>,
    doors: Doors,
    streams: JoinSet<(u64, Served)>,
    next_stream: u64,
    only_stream: bool,
    /// Streams without a path.
    pathless: BTreeSet<u64>,
    trouble: Option<Trouble>,
    fate: Option<Later<Result<Fate, Refused>>>,
    watch: Watch,
    leaving: Option<Leaving>,
    opening: Option<Later<Result<Opened, OpenError>>>,
    /// What the host asks for is being found out, and how often it was asked before.
    asking: Option<Later<(Option<Leave>, usize)>>,
    /// The session is to go elsewhere.
    due: Option<Due>,
    program: Option<Child>,
    /// The generation that the program was started for.
    program_generation: u64,
    exit_code: Option<i32>,
    last_bytes: Option<Instant>,
    renewal: AbortHandle,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

impl Engine {
    /// Starts with a session that was just opened.
    pub(super) fn new(
        shared: Shared,
        signals: mpsc::UnboundedReceiver<Signal>,
        events: mpsc::UnboundedSender<Event>,
        doors: Doors,
        opened: &Opened,
    ) -> Self {
        let shared = Arc::new(shared);
        let fresh = shared.clone();
        let renewal = tokio::spawn(async move { fresh.keep_fresh().await }).abort_handle();
        let standing = Standing {
            generation: 1,
            session: opened.session,
            host: opened.host,
            is_live: true,
        };
        shared.standing.send_replace(standing);
        Self {
            shared,
            signals,
            events,
            doors,
            streams: JoinSet::new(),
            next_stream: 0,
            only_stream: false,
            pathless: BTreeSet::new(),
            trouble: None,
            fate: None,
            watch: Watch::Off,
            leaving: None,
            opening: None,
            asking: None,
            due: None,
            program: None,
            program_generation: 0,
            exit_code: None,
            last_bytes: None,
            renewal,
        }
    }

    /// Runs until the end.
    pub(super) async fn run(mut self, only: Option<BoxedViewer>) -> Result<End, ConnectError> {
        let standing = self.standing();
        self.say(Event::Ready {
            listen: self.doors.listen.clone(),
            session: standing.session.to_string(),
            host: self.shared.name(standing.host),
        });
        self.start_program()?;
        if let Some(viewer) = only {
            self.only_stream = true;
            self.start_stream(viewer);
        }
        loop {
            let wake = self.wake().await;
            if let Some(end) = self.apply(wake)? {
                return Ok(end);
            }
        }
    }

    /// A session without viewers is watched; a stream hears for itself.
    fn watch_if_idle(&mut self) {
        let standing = self.standing();
        let has_viewers = self.only_stream || !self.streams.is_empty();
        let is_settled = standing.is_live && self.trouble.is_none() && self.fate.is_none();
        let wanted = is_settled && !has_viewers;
        self.watch.set(wanted, &self.shared, standing);
    }

    async fn wake(&mut self) -> Wake {
        self.watch_if_idle();
        let program = async {
            match &mut self.program {
                Some(program) => program.wait().await,
                None => std::future::pending().await,
            }
        };
        let last_bytes = async {
            match self.last_bytes {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let reminder = async {
            match self.due.as_ref().and_then(|due| due.remind_at) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(signal) = self.signals.recv() => Wake::Signal(signal),
            Some(joined) = self.streams.join_next(), if !self.streams.is_empty() => match joined {
                Ok((number, served)) => Wake::Served(number, served),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Streams are cancelled with the engine only.
                    Err(_) => Wake::LastBytes,
                },
            },
            noticed = self.watch.next() => Wake::Noticed(noticed),
            fate = due(&mut self.fate) => { self.fate = None; Wake::Fate(fate) }
            opened = due(&mut self.opening) => { self.opening = None; Wake::Opened(opened) }
            (leave, before) = due(&mut self.asking) => { self.asking = None; Wake::Asked(leave, before) }
            () = reminder => Wake::Remind,
            viewer = self.doors.next() => Wake::Viewer(viewer),
            exited = program => Wake::Exited(exited),
            () = last_bytes => Wake::LastBytes,
        }
    }

    fn apply(&mut self, wake: Wake) -> Result<Option<End>, ConnectError> {
        match wake {
            Wake::Viewer(Ok(viewer)) => {
                self.start_stream(viewer);
                Ok(None)
            }
            Wake::Viewer(Err(error)) => {
                tracing::warn!(%error, "a viewer's connection was not accepted");
                Ok(None)
            }
            Wake::Signal(signal) => {
                self.hear(signal);
                Ok(None)
            }
            Wake::Served(number, served) => self.served(number, served),
            Wake::Noticed(noticed) => self.noticed(noticed),
            Wake::Fate(fate) => self.decided(fate),
            Wake::Opened(opened) => self.opened(opened),
            Wake::Asked(leave, before) => {
                self.asked_to_leave(leave);
                self.ask_what_is_wanted(before + 1);
                Ok(None)
            }
            Wake::Remind => {
                self.remind();
                Ok(None)
            }
            Wake::Exited(status) => self.exited(status),
            Wake::LastBytes => {
                self.last_bytes = None;
                Ok(self.exit_code.map(End::ViewerExited))
            }
        }
    }

    fn standing(&self) -> Standing {
        *self.shared.standing.borrow()
    }

    fn say(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn start_stream(&mut self, viewer: BoxedViewer) {
        let number = self.next_stream;
        self.next_stream += 1;
        let (shared, one_ends_both) = (self.shared.clone(), self.only_stream);
        self.streams
            .spawn(async move { (number, serve(shared, number, viewer, one_ends_both).await) });
    }

    fn start_program(&mut self) -> Result<(), ConnectError> {
        self.program = self.doors.run()?;
        self.program_generation = self.standing().generation;
        Ok(())
    }

    fn hear(&mut self, signal: Signal) {
        match signal {
            Signal::NotAttached { stream, generation } => {
                self.lose(stream, generation, Instant::now(), false);
            }
            Signal::PathLost {
                stream,
                generation,
                heard,
            } => {
                self.lose(stream, generation, heard, true);
            }
            Signal::Attached { stream, via } | Signal::Resumed { stream, via } => {
                self.find(stream, Some(via))
            }
            Signal::News { generation } if generation == self.standing().generation => {
                self.ask_what_is_wanted(0);
            }
            Signal::News { .. } => {}
        }
    }

    /// A stream has no path.
    fn lose(&mut self, stream: u64, generation: u64, heard: Instant, was_in_use: bool) {
        let standing = self.standing();
        if generation != standing.generation || !standing.is_live {
            return;
        }
        self.pathless.insert(stream);
        let is_new = self.trouble.is_none();
        let trouble = self.trouble.get_or_insert(Trouble { heard, told: false });
        trouble.heard = trouble.heard.min(heard);
        let tell = was_in_use && !trouble.told;
        trouble.told |= was_in_use;
        if tell {
            self.say(Event::PathLost {
                session: standing.session.to_string(),
                host: self.shared.name(standing.host),
            });
        }
        if is_new {
            self.ask_for_fate(None);
        }
    }

    /// Something happened to the session while no viewer used it.
    fn noticed(&mut self, noticed: Noticed) -> Result<Option<End>, ConnectError> {
        match noticed {
            Noticed::Unheard(heard) => {
                let standing = self.standing();
                self.lose(IDLE, standing.generation, heard, true);
                self.watch.regain(&self.shared, standing);
                Ok(None)
            }
            Noticed::Regained(via) => {
                self.find(IDLE, Some(via));
                Ok(None)
            }
            Noticed::Fate(fate) => self.decided(Ok(fate)),
            Noticed::Refused(refused) => self.decided(Err(refused)),
        }
    }

    /// A stream has a path, or is over.
    fn find(&mut self, stream: u64, resumed: Option<ServerId>) {
        self.pathless.remove(&stream);
        if resumed.is_some() {
            self.pathless.remove(&IDLE);
        }
        if !self.pathless.is_empty() || self.leaving.is_some() {
            return;
        }
        if let Some(trouble) = self.trouble.take() {
            self.fate = None;
            if let Some(via) = resumed.filter(|_| trouble.told) {
                let via = self.shared.name(via);
                self.say(Event::Resumed {
                    outage_ms: since(trouble.heard),
                    via,
                });
            }
        }
    }

    fn ask_for_fate(&mut self, until: Option<Instant>) {
        let (shared, standing) = (self.shared.clone(), self.standing());
        self.fate = Some(Box::pin(async move { shared.fate(standing, until).await }));
    }

    fn decided(&mut self, fate: Result<Fate, Refused>) -> Result<Option<End>, ConnectError> {
        match fate {
            Ok(Fate::Goes) if self.only_stream && self.streams.is_empty() => Ok(Some(End::Closed)),
            Ok(Fate::Goes) if self.streams.is_empty() => Ok(self.exit_code.map(End::ViewerExited)),
            Ok(Fate::Goes) => Ok(None),
            Ok(Fate::Over(reason)) => {
                let end = self.end(reason);
                Ok(Some(self.exit_code.map_or(end, End::ViewerExited)))
            }
            Ok(Fate::Lost(reason)) => {
                self.say_lost(&reason);
                Ok(self.leave(reason))
            }
            Ok(Fate::Moved(reason)) => Ok(self.leave(reason)),
            Err(_) => Err(ConnectError::TicketExpired),
        }
    }

    fn end(&self, reason: EndReason) -> End {
        self.say(Event::Ended {
            reason: reason.to_string(),
        });
        End::Ended(reason)
    }

    fn say_lost(&self, reason: &str) {
        let standing = self.standing();
        self.say(Event::SessionLost {
            session: standing.session.to_string(),
            host: self.shared.name(standing.host),
            reason: reason.to_owned(),
        });
    }

    /// The session is lost, or was moved: its streams end, and the token's other one is opened. A single stream cannot go on there.
    fn leave(&mut self, reason: String) -> Option<End> {
        let standing = self.standing();
        let trouble = self.trouble.take();
        (self.asking, self.due) = (None, None);
        self.pathless.clear();
        let nothing_left = self.only_stream && self.streams.is_empty();
        let end = nothing_left.then(|| End::SessionLost {
            reason: reason.clone(),
        });
        let heard = trouble.map_or_else(Instant::now, |trouble| trouble.heard);
        self.leaving = Some(Leaving {
            from: standing.host,
            reason,
            heard,
        });
        self.shared.standing.send_replace(Standing {
            is_live: false,
            ..standing
        });
        let shared = self.shared.clone();
        self.opening = Some(Box::pin(async move {
            let ticket = Credential::Ticket(shared.ticket());
            let others = |shared: &Shared| shared.anybody_but(standing.host);
            open(&shared, ticket, Patience::ENDLESS, others).await
        }));
        end
    }

    fn opened(&mut self, opened: Result<Opened, OpenError>) -> Result<Option<End>, ConnectError> {
        let opened = match opened {
            Ok(opened) => opened,
            Err(OpenError::Refused(Refused::Ticket)) => return Err(ConnectError::TicketExpired),
            Err(error) => return Err(error.into()),
        };
        let Some(Leaving {
            from,
            reason,
            heard,
        }) = self.leaving.take()
        else {
            return Ok(None);
        };
        let generation = self.standing().generation + 1;
        let (session, host) = (opened.session, opened.host);
        self.shared.standing.send_replace(Standing {
            generation,
            session,
            host,
            is_live: true,
        });
        self.say(Event::Moved {
            from: self.shared.name(from),
            to: self.shared.name(host),
            outage_ms: since(heard),
            session: session.to_string(),
            reason,
        });
        if self.exit_code.take().is_some() {
            // The program ended because of the loss; it is shown the session that took the lost one's place.
            self.last_bytes = None;
            self.start_program()?;
        }
        Ok(None)
    }
}

/// Waits for what may be there.
async fn due<T>(later: &mut Option<Later<T>>) -> T {
    match later {
        Some(later) => later.await,
        None => std::future::pending().await,
    }
}

/// Milliseconds since then.
fn since(then: Instant) -> u64 {
    u64::try_from(then.elapsed().as_millis()).unwrap_or(u64::MAX)
}
