//! The keepers of this host: found after a restart, started, listened to, and looked for again when they fall silent.

use super::{Happened, Host};
use crate::node::Node;
use crate::profiles;
use host::{Commands, Found, Launched, Notices};
use model::{Directory, EndReason, Session, SessionId};
use peer::InFull;
use policy::hosting::{Event, Keeper, Phase};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use wire::keeper::{FILE_FORMAT, Notice, Phase as Seen, Spec, Status};

/// The pause before a keeper that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon a keeper that was told to forget its session is gone, usually.
const GOES_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether it is.
const GOES_LOOK: Duration = Duration::from_millis(20);

impl Host {
    pub(super) async fn find_keepers(&mut self) {
        let view = self.node.directory().group().number;
        self.node.0.halls.sweep().await;
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
                self.note_backend(&live.spec);
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

    /// Which backend a session has that outlived the last run: the first that its keeper was given.
    fn note_backend(&self, spec: &Spec) {
        if let (true, Some(first)) = (spec.app.is_balanced(), spec.app.backends.first()) {
            self.node.0.backends.hold(spec.session, first);
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

    /// A control connection broke: the keeper ended, or dropped a server that was too slow.
    pub(super) async fn look_at_once(&mut self, session: SessionId) {
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

    /// No backend is up for a session: it cannot start here.
    fn not_balanced(&mut self, session: SessionId, app: &model::AppName, detail: String) {
        tracing::warn!(%session, %detail, "a session could not be started");
        self.node.0.hosting.note_start(app, true);
        self.bare.remove(&session);
        let event = Event::NotStarted { session, detail };
        let _ = self.happened.send(Happened::Policy(event));
    }

    /// Starts the keeper of a session, unless it is being started.
    pub(super) fn start(&mut self, directory: &Directory, session: &Session) {
        let id = session.id;
        let Some(app) = directory.app(&session.app).cloned() else {
            let detail = format!("application {:?} was removed meanwhile", session.app);
            let event = Event::NotStarted {
                session: id,
                detail,
            };
            let _ = self.happened.send(Happened::Policy(event));
            return;
        };
        if self.launching.contains(&id) {
            return;
        }
        let app = match self.node.balanced(id, &app) {
            Ok(app) => profiles::for_session(directory, session, app),
            Err(error) => return self.not_balanced(id, &app.name, error.to_string()),
        };
        self.launching.insert(id);
        self.bare.remove(&id);
        let spec = Spec {
            format: FILE_FORMAT,
            session: id,
            token: session.token.clone(),
            user: session.user.clone(),
            created: session.created,
            server: directory.name_of(self.node.me()),
            app,
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

/// Removes what is left of a session that is over, once its keeper is gone. What cannot be removed is tried again when the
/// policy asks for it again.
pub(super) async fn forget(
    session: SessionId,
    folder: PathBuf,
    happened: mpsc::UnboundedSender<Happened>,
) {
    let mut patience = GOES_WITHIN;
    let removed = loop {
        match host::remove(&folder) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !patience.is_zero() => {
                sleep(GOES_LOOK).await;
                patience = patience.saturating_sub(GOES_LOOK);
            }
            done => break done,
        }
    };
    match removed {
        Ok(()) => {
            let _ = happened.send(Happened::Policy(Event::Forgotten(session)));
        }
        Err(error) => {
            tracing::debug!(%session, %error, "the folder of a session that is over stays; it is tried again")
        }
    }
}

async fn launch(
    node: Node,
    sessions: PathBuf,
    spec: Spec,
    launches: Arc<Semaphore>,
    happened: mpsc::UnboundedSender<Happened>,
) {
    let place = launches.acquire_owned().await;
    let session = spec.session;
    let (app, user) = (spec.app.name.clone(), spec.user.clone());
    if let Some(detail) = lacks_account(&spec).await {
        tracing::warn!(%session, %detail, "a session could not be started");
        // Other users' sessions may start here.
        node.0.hosting.note_account(&app, &user, true);
        let _ = happened.send(Happened::Policy(Event::NotStarted { session, detail }));
        return;
    }
    node.0.hosting.note_account(&app, &user, false);
    let handed = match node.secrets_for(session, &spec.app).await {
        Ok(handed) => handed,
        Err(error) => {
            let detail = InFull(&error).to_string();
            tracing::warn!(%session, %detail, "a session could not be started");
            node.0.hosting.note_start(&app, true);
            let _ = happened.send(Happened::Policy(Event::NotStarted { session, detail }));
            return;
        }
    };
    let launched = match spec.app.launch {
        Some(_) => host::launch(&node.0.executable, &sessions, &spec, &handed).await,
        None => node.0.halls.keep(&spec).await,
    };
    drop(handed);
    // A place is for the start only, not for the session's life.
    drop(place);
    match launched {
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
            let detail = InFull(&error).to_string();
            tracing::warn!(%session, %detail, "a session could not be started");
            node.0.hosting.note_start(&spec.app.name, true);
            let _ = happened.send(Happened::Policy(Event::NotStarted { session, detail }));
        }
    }
}

/// Why a session has no account to run as here, and its user alone is who cannot start any.
async fn lacks_account(spec: &Spec) -> Option<String> {
    spec.app.run_as.as_ref()?;
    let spec = spec.clone();
    let asked = tokio::task::spawn_blocking(move || host::lacks_account(&spec)).await;
    // Where it could not be found out, the keeper will say so.
    asked.unwrap_or_default()
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

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
