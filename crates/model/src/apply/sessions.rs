//! Changes of sessions: making them, what their hosts saw, losing them, ending them.
//!
//! Always true: at most one session of a token and application is current, and it is not ended. Only an orphaned current
//! session gives way to another.

use super::{Applying, bounds};
use crate::application::Application;
use crate::change::{Command, Kind, Outcome, Refusal, SessionLimit};
use crate::event::{EventKind, Reason, Severity};
use crate::id::{ServerId, SessionId};
use crate::name::{AppName, Token, UserName};
use crate::session::{EndReason, Observation, Seen, Session, SessionState};
use crate::user::User;
use std::borrow::Cow;
use std::sync::Arc;

/// How many sessions that end at once get an event each: a host may take ten thousands with it.
const TOLD_ONE_BY_ONE: usize = 100;

impl Applying<'_> {
    /// What hosts say of their sessions, and what is said of theirs when they are lost.
    pub(super) fn of_hosts(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::ObserveSessions { host, observations } => {
                self.observe_sessions(*host, observations)
            }
            Command::RegisterSessions {
                host,
                sessions,
                complete_to,
            } => self.register_sessions(*host, sessions, *complete_to),
            Command::OrphanSessions { host, reasons } => self.orphan_sessions(*host, reasons),
            other => unreachable!("invariant: only what hosts say comes here, not {other:?}"),
        }
    }

    pub(super) fn create_session(
        &mut self,
        id: SessionId,
        token: &Token,
        user: &UserName,
        app: &AppName,
        host: ServerId,
    ) -> Result<Outcome, Refusal> {
        let application = self.allowed_app(user, app)?;
        let token = &self.directory.admitted(token, user)?;
        let (current, other) = self.directory.current_and_other(token, app, user);
        let (current, other) = (current.cloned(), other.cloned());
        if current.as_ref().is_some_and(|one| one.user.is_nobody()) {
            self.check_user_limit(&application, user)?;
        }
        if let Some(outcome) =
            self.go_on((token, user, app), current.as_deref(), other.as_deref())?
        {
            return Ok(outcome);
        }
        self.check_host(&application, host)?;
        self.check_user_limit(&application, user)?;
        self.check_server_limit(&application, host)?;
        self.check_new(id)?;
        self.demote(current.as_deref());
        self.register_if_new(token, user);
        Ok(self.start_session(id, (token, user), &application, host, true))
    }

    /// Refuses an id that is taken, and more sessions than the directory holds.
    pub(super) fn check_new(&self, id: SessionId) -> Result<(), Refusal> {
        if self.directory.sessions.contains_key(&id) {
            return Err(Refusal::Exists {
                kind: Kind::Session,
                name: id.to_string(),
            });
        }
        let held = self.directory.sessions.len();
        bounds::room(Kind::Session, held, bounds::SESSIONS)
    }

    /// Puts a session where its host finds it, and starts it.
    pub(super) fn start_session(
        &mut self,
        id: SessionId,
        (token, user): (&Token, &UserName),
        application: &Application,
        host: ServerId,
        current: bool,
    ) -> Outcome {
        let app = &application.name;
        let session = Session::to_start(id, (token, user, app), host, self.at, self.number);
        // A binding of the token to a server that runs already has nothing to start.
        let state = match application.launch {
            Some(_) => SessionState::Starting,
            None => SessionState::Suspended,
        };
        self.directory.put_session(Session {
            state,
            current,
            ..session
        });
        let fields = [
            ("token", Cow::from(token.as_str())),
            ("user", user.as_str().into()),
            ("app", app.as_str().into()),
            ("host", self.directory.name_of(host).into()),
        ];
        self.event(EventKind::SessionCreated, Severity::Info, id, fields);
        Outcome::Session {
            session: id,
            host,
            created: true,
        }
    }

    /// The session that the user goes on in instead of a new one: the current one, or where that one is orphaned or missing,
    /// another reachable one, which becomes current.
    fn go_on(
        &mut self,
        (token, user, app): (&Token, &UserName, &AppName),
        current: Option<&Session>,
        other: Option<&Session>,
    ) -> Result<Option<Outcome>, Refusal> {
        let found = |session: &Session| Outcome::Session {
            session: session.id,
            host: session.host,
            created: false,
        };
        if let Some(session) = current.filter(|session| session.is_reachable()) {
            if session.user.is_nobody() {
                // Who comes through a gateway claims; who has logged in is known.
                self.directory.put_session(Session {
                    user: user.clone(),
                    version_number: self.number,
                    ..session.clone()
                });
            } else if session.user != *user {
                return Err(Refusal::OtherUser {
                    token: token.clone(),
                    app: app.clone(),
                });
            }
            return Ok(Some(found(session)));
        }
        let Some(other) = other else {
            return Ok(None);
        };
        self.demote(current);
        self.directory.put_session(Session {
            current: true,
            version_number: self.number,
            ..other.clone()
        });
        Ok(Some(found(other)))
    }

    pub(super) fn check_host(&self, app: &Application, host: ServerId) -> Result<(), Refusal> {
        let server = self.directory.servers.get(&host);
        let server = server.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Server,
            name: host.to_string(),
        })?;
        if !server.standing.hosts() {
            return Err(Refusal::Unfit {
                name: server.name.clone(),
                what: "a host: it is a witness".to_owned(),
            });
        }
        if let Some((key, value)) = server.lacks_label(&app.hosts) {
            let what = format!("a host of {}: it lacks the label {key}={value}", app.name);
            return Err(Refusal::Unfit {
                name: server.name.clone(),
                what,
            });
        }
        Ok(())
    }

    pub(super) fn check_user_limit(
        &self,
        app: &Application,
        user: &UserName,
    ) -> Result<(), Refusal> {
        // Nobody is many.
        if user.is_nobody() {
            return Ok(());
        }
        let most = app
            .max_per_user
            .filter(|most| self.has_as_many(user, &app.name, *most));
        most.map_or(Ok(()), |allowed| {
            Err(Refusal::SessionLimit {
                limit: SessionLimit::PerUser,
                app: app.name.clone(),
                allowed,
                by: user.to_string(),
            })
        })
    }

    pub(super) fn check_server_limit(
        &self,
        app: &Application,
        host: ServerId,
    ) -> Result<(), Refusal> {
        let most = app
            .max_per_server
            .filter(|most| self.directory.count_on(host, &app.name) >= *most);
        most.map_or(Ok(()), |allowed| {
            Err(Refusal::SessionLimit {
                limit: SessionLimit::PerServer,
                app: app.name.clone(),
                allowed,
                by: self.directory.name_of(host),
            })
        })
    }

    /// The session that was current no longer is: another is about to be.
    pub(super) fn demote(&mut self, current: Option<&Session>) {
        if let Some(session) = current {
            self.directory.put_session(Session {
                current: false,
                version_number: self.number,
                ..session.clone()
            });
        }
    }

    pub(super) fn observe_sessions(
        &mut self,
        host: ServerId,
        observations: &[Observation],
    ) -> Result<Outcome, Refusal> {
        self.check_member(host)?;
        bounds::size(
            "observations",
            observations.len(),
            Command::OBSERVATION_LIMIT,
        )?;
        for observation in observations {
            let found = self.directory.sessions.get(&observation.session);
            let Some(session) = found
                .filter(|session| session.host == host && session.is_live())
                .cloned()
            else {
                continue;
            };
            let mut next = (*session).clone();
            let goes_on = !matches!(observation.seen, Seen::Ended { .. });
            // Whoever was lost registers when it is back: what it saw before may come late, and says nothing of now.
            if goes_on && session.state == SessionState::Orphaned {
                continue;
            }
            match &observation.seen {
                Seen::Active { client, at } => {
                    next.attach(client, (*at).min(self.at));
                    self.put_back(next);
                }
                Seen::Suspended => {
                    if next.state == SessionState::Active {
                        next.last_attached = Some(self.at);
                    }
                    next.state = SessionState::Suspended;
                    self.put_back(next);
                }
                Seen::Ended { reason } => self.end_heard(&session, reason),
            }
        }
        Ok(Outcome::Done)
    }

    /// The host says that a session of its own is over.
    fn end_heard(&mut self, session: &Session, reason: &EndReason) {
        let reason = match reason {
            EndReason::FailedToStart { detail } => EndReason::FailedToStart {
                detail: bounds::cut(detail, Session::DETAIL_LIMIT).to_owned(),
            },
            EndReason::ByHand { by } => EndReason::ByHand {
                by: bounds::cut(by, bounds::REMARK).to_owned(),
            },
            other => other.clone(),
        };
        self.end(session, reason);
    }

    pub(super) fn check_member(&self, host: ServerId) -> Result<(), Refusal> {
        if self.directory.servers.contains_key(&host) {
            return Ok(());
        }
        Err(Refusal::NotFound {
            kind: Kind::Server,
            name: host.to_string(),
        })
    }

    pub(super) fn orphan_sessions(
        &mut self,
        host: ServerId,
        reasons: &[Reason],
    ) -> Result<Outcome, Refusal> {
        self.check_member(host)?;
        bounds::reasons(reasons)?;
        let sessions: Vec<_> = self
            .directory
            .sessions_on(host)
            .filter(|session| session.is_reachable())
            .cloned()
            .collect();
        let count = sessions.len();
        for session in sessions {
            let state = SessionState::Orphaned;
            self.directory.put_session(Session {
                state,
                version_number: self.number,
                ..(*session).clone()
            });
        }
        if count > 0 {
            let fields = [("sessions", count.to_string())];
            let subject = self.directory.name_of(host);
            self.event_because(
                EventKind::SessionOrphaned,
                Severity::Warning,
                subject,
                fields,
                reasons,
            );
        }
        Ok(Outcome::Done)
    }

    pub(super) fn end_session(&mut self, id: SessionId, by: &str) -> Result<Outcome, Refusal> {
        bounds::line("by", by, bounds::REMARK)?;
        let found = self.directory.sessions.get(&id).cloned();
        let session = found.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Session,
            name: id.to_string(),
        })?;
        if session.is_live() {
            self.end(&session, EndReason::ByHand { by: by.to_owned() });
        }
        Ok(Outcome::Done)
    }

    /// Makes a session the token's current one. One whose host cannot be reached would strand the user.
    pub(super) fn select_session(&mut self, id: SessionId, by: &str) -> Result<Outcome, Refusal> {
        bounds::line("by", by, bounds::REMARK)?;
        let found = self.directory.sessions.get(&id).cloned();
        let session = found.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Session,
            name: id.to_string(),
        })?;
        if !session.is_reachable() {
            let why = match session.is_live() {
                true => "its host cannot be reached",
                false => "it has ended",
            };
            return Err(Refusal::Invalid {
                what: format!("session {id}"),
                why: why.to_owned(),
            });
        }
        let (token, app) = (&session.token, &session.app);
        let current = self.directory.current_session(token, app).cloned();
        if current.as_ref().is_some_and(|current| current.id == id) {
            return Ok(Outcome::Done);
        }
        self.demote(current.as_deref());
        let fields = [
            ("token", Cow::from(token.as_str())),
            ("app", app.as_str().into()),
            ("host", self.directory.name_of(session.host).into()),
            ("by", by.to_owned().into()),
        ];
        self.event(EventKind::SessionSelected, Severity::Info, id, fields);
        self.directory.put_session(Session {
            current: true,
            version_number: self.number,
            ..(*session).clone()
        });
        Ok(Outcome::Done)
    }

    /// Ends a session and says so.
    pub(super) fn end(&mut self, session: &Session, reason: EndReason) {
        let severity = match reason {
            EndReason::FailedToStart { .. } | EndReason::LostWithHost | EndReason::HostRemoved => {
                Severity::Warning
            }
            _ => Severity::Info,
        };
        let fields = [
            ("token", Cow::from(session.token.as_str())),
            ("user", session.user.as_str().into()),
            ("app", session.app.as_str().into()),
            ("host", self.directory.name_of(session.host).into()),
            ("reason", reason.to_string().into()),
        ];
        self.event(EventKind::SessionEnded, severity, session.id, fields);
        self.finish(session, reason);
    }

    /// Ends sessions that one thing ended. Each of the first is told; of all there is a count in the event of what ended them.
    pub(super) fn end_all(&mut self, sessions: &[Arc<Session>], reason: &EndReason) {
        for (place, session) in sessions.iter().enumerate() {
            if place < TOLD_ONE_BY_ONE {
                self.end(session, reason.clone());
            } else {
                self.finish(session, reason.clone());
            }
        }
    }

    fn finish(&mut self, session: &Session, reason: EndReason) {
        self.directory.put_session(Session {
            state: SessionState::Ended,
            current: false,
            ended: Some(self.at),
            reason: Some(Box::new(reason)),
            heard_number: self.number,
            version_number: self.number,
            ..session.clone()
        });
    }

    /// Keeps a session that its host just spoke of. It is the token's current one when there is no other. Of one that comes back
    /// and another the one used last is current; when the application allows the user no more, the other ends. Whether it was
    /// kept.
    pub(super) fn put_back(&mut self, mut session: Session) -> bool {
        session.heard_number = self.number;
        session.version_number = self.number;
        let known = self
            .directory
            .sessions
            .get(&session.id)
            .is_some_and(|old| old.is_reachable());
        let current = self
            .directory
            .current_session(&session.token, &session.app)
            .filter(|current| current.id != session.id)
            .cloned();
        match current {
            _ if session.current => {}
            None => session.current = true,
            Some(_) if known => {}
            Some(current) if session.was_used_after(&current) => {
                if self.is_one_too_many(&session) {
                    self.end(&current, EndReason::Superseded { by: session.id });
                } else {
                    self.demote(Some(&current));
                }
                session.current = true;
            }
            Some(current) if self.is_one_too_many(&session) => {
                self.end(&session, EndReason::Superseded { by: current.id });
                return false;
            }
            Some(_) => {}
        }
        self.directory.put_session(session);
        true
    }

    fn is_one_too_many(&self, session: &Session) -> bool {
        let app = self.directory.apps.get(&session.app);
        let most = app.and_then(|app| app.max_per_user);
        most.is_some_and(|most| self.has_as_many(&session.user, &session.app, most))
    }

    fn has_as_many(&self, user: &UserName, app: &AppName, most: u32) -> bool {
        usize::try_from(most).is_ok_and(|most| self.directory.count_of_user(user, app) >= most)
    }
}

impl Application {
    /// Whether an account may start it, by its name or one of its groups.
    pub fn admits(&self, user: &User) -> bool {
        let listed = |entry: &String| match entry.strip_prefix('@') {
            Some(group) => user.groups.iter().any(|of| of == group),
            None => entry == user.name.as_str(),
        };
        self.users.is_empty() || self.users.iter().any(listed)
    }
}

impl Session {
    /// Whether this session was used later than another: one that a client is attached to is in use, and being made is a use.
    fn was_used_after(&self, other: &Self) -> bool {
        let last = |it: &Self| it.last_attached.map_or(it.created, |at| at.max(it.created));
        let used = |it: &Self| (it.state == SessionState::Active, last(it));
        used(self) > used(other)
    }

    /// A client is attached since `at`.
    pub(super) fn attach(&mut self, client: &str, at: crate::time::UnixMillis) {
        self.state = SessionState::Active;
        self.client = Some(bounds::cut(client, Self::CLIENT_LIMIT).into());
        self.last_attached = Some(self.last_attached.map_or(at, |last| last.max(at)));
    }
}
