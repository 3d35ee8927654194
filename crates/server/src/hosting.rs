//! This server as a host: starts keepers, finds them again, and tells the group how their sessions are.
//!
//! A session of an application that launches nothing is only a binding of its token to a running server: its keeper is
//! started by the first client that attaches, and until then it counts as running.
//!
//! What is to be done `policy::hosting` decides from the directory and the keepers; here it is carried out. Nothing of a
//! session is held that could not be read again from its keeper.

use crate::clock;
use crate::node::Node;
use host::{Commands, Found, Launched, Notices};
use model::{Command, Directory, EndReason, Outcome, Session, SessionId, SessionState};
use policy::hosting::{Action, Event, Hosting as Policy, Keeper, Phase};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use wire::keeper::{Command as Order, FILE_FORMAT, Notice, Phase as Seen, Spec, Status};

/// Changes are gathered this long before the sessions are looked at.
const GATHER: Duration = Duration::from_millis(10);
/// How many keepers are started at a time.
const LAUNCHES: usize = 16;
/// The pause before a keeper that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// The pause before freshness is asked for again.
const FRESH_AGAIN: Duration = Duration::from_millis(100);

/// What other parts of the server may know of hosting.
#[derive(Debug, Default)]
pub struct Hosting {
    warnings: Mutex<BTreeSet<String>>,
    failed: Mutex<BTreeMap<model::AppName, model::UnixMillis>>,
    wanted: OnceLock<mpsc::UnboundedSender<Happened>>,
}

impl Hosting {
    /// What somebody should know: keepers without a control group of their own, and the like.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// Applications that failed to start here, and when they last did.
    pub fn failed_starts(&self) -> Vec<(model::AppName, model::UnixMillis)> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().map(|(app, at)| (app.clone(), *at)).collect()
    }

    /// A client wants to attach to a session that has no keeper yet.
    pub(crate) fn want(&self, session: SessionId) {
        if let Some(wanted) = self.wanted.get() {
            let _ = wanted.send(Happened::Wanted(session));
        }
    }

    fn warn(&self, warning: Option<String>) {
        if let Some(warning) = warning {
            let fresh = self
                .warnings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(warning.clone());
            if fresh {
                tracing::warn!("{warning}");
            }
        }
    }

    fn note_start(&self, app: &model::AppName, failed: bool) {
        let mut table = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed {
            table.insert(app.clone(), clock::calendar());
        } else {
            table.remove(app);
        }
    }
}

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
    /// Something was told to the policy already.
    Reconsider,
}

struct Host {
    node: Node,
    policy: Policy,
    links: HashMap<SessionId, Commands>,
    /// Keepers that are being started.
    launching: HashSet<SessionId>,
    happened: mpsc::UnboundedSender<Happened>,
    launches: Arc<Semaphore>,
    primary_since: model::UnixMillis,
}

/// Hosts sessions as long as the server runs.
pub async fn run(node: Node) {
    let (happened, mut news) = mpsc::unbounded_channel();
    let mut host = Host {
        policy: Policy::new(node.me()),
        links: HashMap::new(),
        launching: HashSet::new(),
        happened,
        launches: Arc::new(Semaphore::new(LAUNCHES)),
        primary_since: node.directory().group().primary_since,
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

    async fn find_keepers(&mut self) {
        let view = self.node.directory().group().number;
        let mut keepers = BTreeMap::new();
        let found = host::discover(&self.sessions()).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the folder of the sessions cannot be read: sessions there are not found again");
            Vec::new()
        });
        for found in found {
            if let Some((session, keeper)) = self.take_found(found) {
                keepers.insert(session, keeper);
            }
        }
        self.policy.handle(Event::Found { keepers, view });
    }

    fn take_found(&mut self, found: Found) -> Option<(SessionId, Keeper)> {
        match found {
            Found::Live(live) => {
                let session = live.spec.session;
                let keeper = keeper_of(&live.status);
                self.node.0.hosting.warn(live.warning);
                self.follow(session, live.commands, live.notices);
                Some((session, keeper))
            }
            Found::Silent { spec, error, .. } => {
                tracing::warn!(session = %spec.session, %error, "a keeper lives but does not answer; it is asked again");
                let session = spec.session;
                self.look_again(session);
                Some((session, keeper_from(&spec, Phase::Running)))
            }
            Found::Ended { spec, record, .. } => Some((
                spec.session,
                keeper_from(&spec, Phase::Ended(record.reason)),
            )),
            Found::Lost { spec, .. } => Some((
                spec.session,
                keeper_from(&spec, Phase::Ended(EndReason::LostWithHost)),
            )),
            Found::Unreadable { dir, error } => {
                tracing::warn!(dir = %dir.display(), %error, "a session's folder cannot be read");
                None
            }
        }
    }

    fn follow(&mut self, session: SessionId, commands: Commands, notices: Notices) {
        self.links.insert(session, commands);
        tokio::spawn(listen(session, notices, self.happened.clone()));
    }

    /// Looks once more at a keeper that lives but was not heard.
    fn look_again(&self, session: SessionId) {
        let (dir, happened) = (self.node.session_folder(session), self.happened.clone());
        let node = self.node.clone();
        tokio::spawn(async move {
            loop {
                sleep(AGAIN).await;
                let event = match host::discover::look(dir.clone()).await {
                    Found::Live(live) => {
                        let keeper = keeper_of(&live.status);
                        node.0.hosting.warn(live.warning);
                        let _ = happened.send(Happened::Linked(session, live.commands));
                        tokio::spawn(listen(session, live.notices, happened.clone()));
                        Event::Keeper(session, Box::new(keeper))
                    }
                    Found::Silent { .. } => continue,
                    Found::Ended { record, .. } => Event::Lost {
                        session,
                        reason: record.reason,
                    },
                    Found::Lost { .. } | Found::Unreadable { .. } => Event::Lost {
                        session,
                        reason: EndReason::LostWithHost,
                    },
                };
                let _ = happened.send(Happened::Policy(event));
                return;
            }
        });
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
                }
                self.policy.handle(event);
            }
            Happened::Linked(session, commands) => {
                self.launching.remove(&session);
                self.links.insert(session, commands);
            }
            Happened::Wanted(session) if self.links.contains_key(&session) => {}
            Happened::Wanted(session) => {
                let directory = self.node.directory();
                if directory
                    .session(session)
                    .is_some_and(|known| is_binding(&directory, known))
                {
                    self.start(session);
                }
            }
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

    /// A control connection broke: the keeper ended, or dropped a server that was too slow.
    async fn look_at_once(&mut self, session: SessionId) {
        let found = host::discover::look(self.node.session_folder(session)).await;
        if let Some((session, keeper)) = self.take_found(found) {
            self.policy.handle(Event::Keeper(session, Box::new(keeper)));
        } else {
            self.policy.handle(Event::Lost {
                session,
                reason: EndReason::LostWithHost,
            });
        }
    }

    async fn reconcile(&mut self) {
        let directory = self.node.directory();
        if directory.group().primary_since != self.primary_since {
            self.primary_since = directory.group().primary_since;
            self.policy.handle(Event::NewPrimary);
        }
        self.adopt_bindings(&directory);
        for action in self.policy.reconcile(&directory, clock::steady()) {
            self.execute(action).await;
        }
    }

    /// Sessions that are only bindings run without a keeper, also after a restart.
    fn adopt_bindings(&mut self, directory: &Directory) {
        let runs = |session: &Session| session.is_live() && session.state != SessionState::Starting;
        for session in directory
            .sessions_on(self.node.me())
            .filter(|session| runs(session))
        {
            if !self.policy.keepers().contains_key(&session.id) && is_binding(directory, session) {
                self.policy
                    .handle(Event::Keeper(session.id, Box::new(binding(session))));
            }
        }
    }

    async fn execute(&mut self, action: Action) {
        match action {
            Action::StartKeeper(session) => self.begin(session),
            // A binding without a keeper: there is nothing to wait for.
            Action::EndKeeper { session, reason } if !self.links.contains_key(&session) => {
                if !self.launching.contains(&session) {
                    self.policy.handle(Event::Lost { session, reason });
                }
            }
            Action::EndKeeper { session, reason } => {
                self.order(session, Order::End { reason }).await
            }
            Action::ForgetKeeper(session) => {
                self.order(session, Order::Forget).await;
                self.links.remove(&session);
                if let Err(error) = host::remove(&self.node.session_folder(session)) {
                    tracing::warn!(%session, %error, "the folder of a session that is over stays");
                }
                self.policy.handle(Event::Forgotten(session));
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
        match directory.session(session) {
            Some(known) if is_binding(&directory, known) => {
                self.policy
                    .handle(Event::Keeper(session, Box::new(binding(known))));
                let _ = self.happened.send(Happened::Reconsider);
            }
            _ => self.start(session),
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

    fn start(&self, session: SessionId) {
        let directory = self.node.directory();
        let known = directory
            .session(session)
            .filter(|known| known.state == SessionState::Starting);
        let Some(known) = known.cloned() else { return };
        let Some(app) = directory.app(&known.app).cloned() else {
            let detail = format!("application {:?} was removed meanwhile", known.app);
            let _ = self
                .happened
                .send(Happened::Policy(Event::NotStarted { session, detail }));
            return;
        };
        let spec = Spec {
            format: FILE_FORMAT,
            session,
            token: known.token.clone(),
            user: known.user.clone(),
            created: known.created,
            app: (*app).clone(),
            dead_after_ms: millis(directory.settings().dead_after()),
            retain_ms: millis(directory.settings().retain(Some(self.node.me()))),
        };
        tokio::spawn(launch(
            self.node.clone(),
            self.sessions(),
            spec,
            self.launches.clone(),
            self.happened.clone(),
        ));
    }
}

/// Whether a session is only a binding of its token to a running server.
pub(crate) fn is_binding(directory: &Directory, session: &Session) -> bool {
    directory
        .app(&session.app)
        .is_some_and(|app| app.launch.is_none())
}

/// A binding, as its keeper would describe it.
fn binding(session: &Session) -> Keeper {
    Keeper {
        token: session.token.clone(),
        user: session.user.clone(),
        app: session.app.clone(),
        created: session.created,
        phase: Phase::Running,
        client: None,
        last_attached: session.last_attached,
    }
}

async fn launch(
    node: Node,
    sessions: PathBuf,
    spec: Spec,
    launches: Arc<Semaphore>,
    happened: mpsc::UnboundedSender<Happened>,
) {
    let _place = launches.acquire_owned().await;
    let session = spec.session;
    match host::launch(&node.0.executable, &sessions, &spec).await {
        Ok(Launched {
            status,
            commands,
            notices,
            warning,
            ..
        }) => {
            node.0.hosting.warn(warning);
            node.0.hosting.note_start(&spec.app.name, false);
            let _ = happened.send(Happened::Linked(session, commands));
            let _ = happened.send(Happened::Policy(Event::Keeper(
                session,
                Box::new(keeper_of(&status)),
            )));
            listen(session, notices, happened).await;
        }
        Err(error) => {
            let detail = in_full(&error);
            tracing::warn!(%session, %detail, "a session could not be started");
            node.0.hosting.note_start(&spec.app.name, true);
            let _ = happened.send(Happened::Policy(Event::NotStarted { session, detail }));
        }
    }
}

async fn listen(
    session: SessionId,
    mut notices: Notices,
    happened: mpsc::UnboundedSender<Happened>,
) {
    while let Ok(Notice::Status(status)) = notices.next().await {
        let event = Event::Keeper(session, Box::new(keeper_of(&status)));
        if happened.send(Happened::Policy(event)).is_err() {
            return;
        }
    }
    let _ = happened.send(Happened::Broke(session));
}

fn keeper_of(status: &Status) -> Keeper {
    Keeper {
        token: status.token.clone(),
        user: status.user.clone(),
        app: status.app.clone(),
        created: status.created,
        phase: match &status.phase {
            Seen::Starting => Phase::Starting,
            Seen::Running => Phase::Running,
            Seen::Ended { reason, .. } => Phase::Ended(reason.clone()),
        },
        client: status.client.clone(),
        last_attached: status.last_attached,
    }
}

fn keeper_from(spec: &Spec, phase: Phase) -> Keeper {
    Keeper {
        token: spec.token.clone(),
        user: spec.user.clone(),
        app: spec.app.name.clone(),
        created: spec.created,
        phase,
        client: None,
        last_attached: None,
    }
}

/// An error with all that it was caused by, on one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
