//! This server as a host: starts keepers, finds them again, and tells the group how their sessions are.
//!
//! What is to be done `policy::hosting` decides from the directory and the keepers; here it is carried out. Nothing of a
//! session is held that could not be read again from its keeper. Start at [`run`]; `keepers` starts and finds keepers,
//! `binding` is about sessions that need none yet.

mod account;
mod arrivals;
mod binding;
mod keepers;
mod passing;

pub use account::{Hosting, Visit};
pub(crate) use binding::is_binding;

use crate::clock;
use crate::node::{Current, Node};
use host::Commands;
use model::{Command, EndReason, Outcome, SessionId, SessionState};
use policy::hosting::{Action, Event, Hosting as Policy, Phase};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use wire::keeper::Command as Order;

/// Changes are gathered this long before the sessions are looked at.
const GATHER: Duration = Duration::from_millis(10);
/// How many keepers are started at a time.
const LAUNCHES: usize = 16;
/// The pause before freshness is asked for again.
const FRESH_AGAIN: Duration = Duration::from_millis(100);

/// Everything that can happen here.
#[derive(Debug)]
enum Happened {
    Policy(Event),
    /// A keeper's control connection stands.
    Linked(SessionId, Commands),
    /// It broke; the keeper may live.
    Broke(SessionId),
    /// A client wants to attach.
    Wanted(SessionId),
    /// The backend of a session without a keeper accepts nobody.
    NotAccepted(SessionId, String),
    /// Something was told to the policy already.
    Reconsider,
}

struct Host {
    node: Node,
    policy: Policy,
    links: HashMap<SessionId, Commands>,
    /// Keepers that are being started.
    launching: HashSet<SessionId>,
    /// Bindings that run without a keeper.
    bare: HashSet<SessionId>,
    happened: mpsc::UnboundedSender<Happened>,
    launches: Arc<Semaphore>,
    primary_since: model::UnixMillis,
    /// The directory at the last look.
    looked_at: Option<Current>,
    /// The drain of this server of which clients were told to ask; when it began.
    told_of: Option<model::UnixMillis>,
    /// Until when clients were told that they may show tickets of a key that is replaced.
    told_of_tickets: Option<model::UnixMillis>,
    /// When it was last looked what passes at gateways.
    traffic_seen: Duration,
}

/// Hosts sessions as long as the server runs.
pub async fn run(node: Node) {
    let (happened, mut news) = mpsc::unbounded_channel();
    let mut host = Host {
        policy: Policy::new(node.me()),
        links: HashMap::new(),
        launching: HashSet::new(),
        bare: HashSet::new(),
        happened,
        launches: Arc::new(Semaphore::new(LAUNCHES)),
        primary_since: node.directory().group().primary_since,
        looked_at: None,
        told_of: None,
        told_of_tickets: None,
        traffic_seen: Duration::ZERO,
        node: node.clone(),
    };
    let first = node.0.hosting.wanted.set(host.happened.clone()).is_ok();
    debug_assert!(first, "a server hosts once");
    host.find_keepers().await;
    tokio::spawn(tell_when_fresh(node.clone(), host.happened.clone()));
    let mut directory = node.directory_changed();
    loop {
        let due = host
            .policy
            .poll_timeout()
            .map_or(Duration::from_secs(1), |due| {
                due.saturating_sub(clock::steady())
            });
        let due = match node.0.hosting.traffic.is_empty() {
            true => due,
            false => due.min(passing::LOOK),
        };
        tokio::select! {
            Some(first) = news.recv() => host.take_in(first).await,
            Ok(()) = directory.changed() => {}
            () = sleep(due) => {}
        }
        sleep(GATHER).await;
        drop(directory.borrow_and_update());
        while let Ok(next) = news.try_recv() {
            host.take_in(next).await;
        }
        host.take_in_traffic().await;
        host.reconcile().await;
    }
}

/// Says once that what this server has is not of the past.
async fn tell_when_fresh(node: Node, happened: mpsc::UnboundedSender<Happened>) {
    while node
        .catch_up(crate::node::Consistency::Linearizable)
        .await
        .is_err()
    {
        sleep(FRESH_AGAIN).await;
    }
    let _ = happened.send(Happened::Policy(Event::UpToDate));
}

impl Host {
    fn sessions(&self) -> PathBuf {
        self.node.data().join("sessions")
    }

    async fn take_in(&mut self, happened: Happened) {
        match happened {
            Happened::Policy(event) => {
                if let Event::Keeper(_, keeper) = &event
                    && let Phase::Ended(EndReason::FailedToStart { .. }) = keeper.phase
                {
                    self.node.0.hosting.note_start(&keeper.app, true);
                }
                if let Event::NotStarted { session, .. } = &event {
                    self.launching.remove(session);
                    self.node.0.hosting.arrivals.settle(*session);
                }
                self.policy.handle(event);
            }
            Happened::Linked(session, commands) => {
                self.launching.remove(&session);
                self.links.insert(session, commands);
                self.node.0.hosting.arrivals.settle(session);
                if self.told_of.is_some() || self.told_of_tickets.is_some() {
                    self.order(session, Order::News).await;
                }
            }
            Happened::Wanted(session) => self.wanted(session),
            Happened::NotAccepted(session, detail) => self.not_accepted(session, detail),
            Happened::Reconsider => {}
            Happened::Broke(session) => {
                self.links.remove(&session);
                let known = self.policy.keepers().get(&session);
                if known.is_some_and(|keeper| !matches!(keeper.phase, Phase::Ended(_))) {
                    self.look_at_once(session).await;
                }
            }
        }
    }

    async fn reconcile(&mut self) {
        let directory = self.node.directory();
        if directory.group().primary_since != self.primary_since {
            self.primary_since = directory.group().primary_since;
            self.policy.handle(Event::NewPrimary);
        }
        let before = self.looked_at.take();
        self.adopt_bindings(before.as_deref(), &directory);
        for action in self.policy.reconcile(&directory, clock::steady()) {
            self.execute(action).await;
        }
        self.tell_of_drain(&directory).await;
        self.tell_of_tickets(&directory).await;
        self.looked_at = Some(directory);
    }

    /// What has passed at gateways is traffic of sessions, also of those that a keeper watches over.
    async fn take_in_traffic(&mut self) {
        let now = clock::steady();
        let is_due = self.policy.poll_timeout().is_some_and(|due| due <= now);
        if !is_due && now < self.traffic_seen + passing::LOOK {
            return;
        }
        let before = std::mem::replace(&mut self.traffic_seen, now);
        for (session, at) in self.node.0.hosting.traffic.all() {
            // A look before, and a little more: the clock goes on between the two.
            if at + passing::LOOK < before {
                continue;
            }
            self.policy.handle(Event::Passed { session, at });
            self.order(session, Order::Traffic).await;
        }
    }

    /// Has clients ask what is to become of their sessions when a drain of this server begins, is begun anew, or ends.
    async fn tell_of_drain(&mut self, directory: &model::Directory) {
        let server = directory.server(self.node.me());
        let drain = server.and_then(|server| server.mode.drain());
        let since = drain.map(|(_, since)| since);
        if self.told_of == since {
            return;
        }
        self.told_of = since;
        self.tell_all().await;
    }

    /// The same when another ticket key came into force: as long as tickets of the one before hold, clients get others for them.
    async fn tell_of_tickets(&mut self, directory: &model::Directory) {
        let former = directory.group().seal.former_tickets(clock::calendar());
        let until = former.map(|former| former.until);
        if self.told_of_tickets == until {
            return;
        }
        self.told_of_tickets = until;
        if until.is_some() {
            self.tell_all().await;
        }
    }

    async fn tell_all(&mut self) {
        let sessions: Vec<SessionId> = self.links.keys().copied().collect();
        for session in sessions {
            self.order(session, Order::News).await;
        }
    }

    async fn execute(&mut self, action: Action) {
        match action {
            Action::StartKeeper(session) => self.begin(session),
            Action::EndKeeper { session, reason } => {
                if !self.end_bare(session, &reason) {
                    self.order(session, Order::End { reason }).await;
                }
            }
            Action::ForgetKeeper(session) => {
                self.order(session, Order::Forget).await;
                self.links.remove(&session);
                let folder = self.node.session_folder(session);
                tokio::spawn(keepers::forget(session, folder, self.happened.clone()));
            }
            Action::Observe(observations) => {
                let command = Command::ObserveSessions {
                    host: self.node.me(),
                    observations,
                };
                let node = self.node.clone();
                tokio::spawn(async move {
                    if let Err(error) = node.submit(None, node.author(), command).await {
                        tracing::debug!(%error, "what was seen of sessions waits to be told again");
                    }
                });
            }
            Action::Register {
                sessions,
                complete_to,
            } => self.register(sessions, complete_to),
        }
    }

    /// A session is to run here: a binding does at once, for any other a keeper is started.
    fn begin(&mut self, session: SessionId) {
        let directory = self.node.directory();
        let known = directory
            .session(session)
            .filter(|known| known.state == SessionState::Starting);
        match known {
            Some(known) if is_binding(&directory, known) => {
                self.bind(known);
                let _ = self.happened.send(Happened::Reconsider);
            }
            Some(known) => self.start(&directory, known),
            None => {}
        }
    }

    async fn order(&mut self, session: SessionId, order: Order) {
        let Some(commands) = self.links.get_mut(&session) else {
            return;
        };
        if let Err(error) = commands.send(&order).await {
            tracing::debug!(%session, %error, "a keeper did not take an order; it is given again");
        }
    }

    fn register(&self, sessions: Vec<model::session::Registration>, complete_to: Option<u64>) {
        let (node, happened) = (self.node.clone(), self.happened.clone());
        let count = sessions.len();
        let command = Command::RegisterSessions {
            host: node.me(),
            sessions,
            complete_to,
        };
        tokio::spawn(async move {
            match node
                .submit(None, node.author(), command)
                .await
                .map(|applied| applied.outcome)
            {
                Ok(Ok(Outcome::Registered { end })) => {
                    tracing::info!(
                        count,
                        over = end.len(),
                        "sessions that run here are registered"
                    );
                    if complete_to.is_some() {
                        let _ = happened.send(Happened::Policy(Event::Registered));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "sessions that run here wait to be registered")
                }
            }
        });
    }
}
