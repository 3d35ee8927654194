//! A simulated server as a host: what runs for its sessions, and what it tells the group of it, as in the daemon.
//!
//! What is to be done `policy::hosting` decides. Keepers outlive their server's process and end with their machine's power. Start at
//! [`run`]; `placing` says where sessions go, `draining` moves them away.

mod draining;
mod placing;

pub(crate) use draining::run as drain;
pub(crate) use placing::Question;

use crate::planted::Planted;
use crate::server::Server;
use model::{Command, EndReason, SessionId, SessionState, UnixMillis};
use policy::hosting::{Action, Event, Hosting, Keeper, Phase};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How often is looked what is to be done.
const LOOK: Duration = Duration::from_millis(50);
/// As in the daemon: the pause before freshness is asked for again.
const FRESH_AGAIN: Duration = Duration::from_millis(100);

/// What runs for sessions on a machine, whether its server runs or not. Clones are handles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keepers(Arc<Mutex<BTreeMap<SessionId, Keeper>>>);

impl Keepers {
    fn inside(&self) -> MutexGuard<'_, BTreeMap<SessionId, Keeper>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine has lost its power: what ran is over, and the folders say whose it was.
    pub(crate) fn lose_power(&self) {
        for keeper in self.inside().values_mut() {
            if !matches!(keeper.phase, Phase::Ended(_)) {
                keeper.phase = Phase::Ended(EndReason::LostWithHost);
                keeper.client = None;
            }
        }
    }

    /// The machine's disk was emptied.
    pub(crate) fn clear(&self) {
        self.inside().clear();
    }

    /// The sessions that run.
    pub(crate) fn running(&self) -> BTreeSet<SessionId> {
        let inside = self.inside();
        let runs = |(_, keeper): &(&SessionId, &Keeper)| keeper.phase == Phase::Running;
        inside.iter().filter(runs).map(|(id, _)| *id).collect()
    }

    /// A client comes to a session, or goes.
    pub(crate) fn visit(&self, session: SessionId, comes: bool, at: UnixMillis) {
        if let Some(keeper) = self.inside().get_mut(&session)
            && keeper.phase == Phase::Running
        {
            keeper.client = comes.then(|| "192.0.2.100:5000".to_owned());
            keeper.last_attached = Some(at);
        }
    }

    fn end(&self, session: SessionId, reason: EndReason) {
        if let Some(keeper) = self.inside().get_mut(&session) {
            keeper.phase = Phase::Ended(reason);
            keeper.client = None;
        }
    }
}

struct Host {
    server: Arc<Server>,
    keepers: Keepers,
    policy: Hosting,
    happened: mpsc::UnboundedSender<Event>,
    primary_since: UnixMillis,
}

/// Hosts sessions as long as the server runs.
pub(crate) async fn run(server: Arc<Server>, keepers: Keepers) {
    let (happened, mut news) = mpsc::unbounded_channel();
    let mut host = Host {
        policy: Hosting::new(server.me),
        primary_since: UnixMillis(0),
        happened: happened.clone(),
        server: server.clone(),
        keepers,
    };
    let view = {
        let state = server.replica.state();
        server.directory(&state).group().number
    };
    let found = host.keepers.inside().clone();
    let keepers = found.into_iter().collect();
    host.policy.handle(Event::Found { keepers, view });
    tokio::spawn(async move {
        while !server.catch_up().await {
            sleep(FRESH_AGAIN).await;
        }
        // The host goes on as long as this machine does.
        drop(happened.send(Event::UpToDate));
    });
    loop {
        while let Ok(event) = news.try_recv() {
            host.policy.handle(event);
        }
        host.look();
        sleep(LOOK).await;
    }
}

impl Host {
    fn look(&mut self) {
        let state = self.server.replica.state();
        let directory = self.server.directory(&state);
        if directory.group().primary_since != self.primary_since {
            self.primary_since = directory.group().primary_since;
            self.policy.handle(Event::NewPrimary);
        }
        let now: Vec<(SessionId, Keeper)> = {
            let keepers = self.keepers.inside();
            let known = self.policy.keepers();
            let is_news = |(id, keeper): &(&SessionId, &Keeper)| known.get(id) != Some(*keeper);
            let news = keepers.iter().filter(is_news);
            news.map(|(id, keeper)| (*id, keeper.clone())).collect()
        };
        for (session, keeper) in now {
            self.policy.handle(Event::Keeper(session, Box::new(keeper)));
        }
        for action in self.policy.reconcile(directory, self.server.now()) {
            self.execute(action);
        }
    }

    fn execute(&mut self, action: Action) {
        let me = self.server.me;
        match action {
            Action::StartKeeper(session) => self.start(session),
            Action::EndKeeper { session, reason } => {
                if !self.server.scene.has(Planted::KeepersStay) {
                    self.keepers.end(session, reason);
                }
            }
            Action::ForgetKeeper(session) => {
                self.keepers.inside().remove(&session);
                self.policy.handle(Event::Forgotten(session));
            }
            Action::Observe(observations) => {
                let server = self.server.clone();
                let host = me;
                tokio::spawn(async move {
                    // What is not known yet is told again.
                    let command = Command::ObserveSessions { host, observations };
                    let _told = server.submit(command).await;
                });
            }
            Action::Register {
                sessions,
                complete_to,
            } => {
                let (server, happened) = (self.server.clone(), self.happened.clone());
                let command = Command::RegisterSessions {
                    host: me,
                    sessions,
                    complete_to,
                };
                tokio::spawn(async move {
                    if server.submit(command).await.is_ok() && complete_to.is_some() {
                        drop(happened.send(Event::Registered));
                    }
                });
            }
        }
    }

    /// A keeper takes its time to start, and now and then does not; its session's id says which, so that it is told again alike.
    fn start(&self, session: SessionId) {
        let state = self.server.replica.state();
        let known = self.server.directory(&state).session(session);
        let Some(known) = known.filter(|known| known.state == SessionState::Starting) else {
            return;
        };
        let keeper = Keeper {
            token: known.token.clone(),
            user: known.user.clone(),
            app: known.app.clone(),
            created: known.created,
            phase: Phase::Running,
            client: None,
            last_attached: None,
        };
        let chance = session.as_bytes().last().copied().unwrap_or(0);
        let (keepers, happened) = (self.keepers.clone(), self.happened.clone());
        tokio::spawn(async move {
            sleep(Duration::from_millis(10 + u64::from(chance))).await;
            if chance == 0 {
                let detail = "it does not start".to_owned();
                drop(happened.send(Event::NotStarted { session, detail }));
            } else {
                keepers.inside().entry(session).or_insert(keeper);
            }
        });
    }
}
