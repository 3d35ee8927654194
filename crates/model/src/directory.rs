//! The directory: one immutable value; cloning it is cheap, readers keep theirs while a newer one is made.
//!
//! Always true: at most one session per token and application is current, and every index agrees with its table.

use crate::application::{Application, OnDrain};
use crate::audit::Audited;
use crate::certificate::ExternalCertificate;
use crate::change::{Outcome, Refusal};
use crate::divergence::{Diverged, Divergence, Subject};
use crate::event::{Event, EventKind, Severity};
use crate::formation::ChangeName;
use crate::gateway::Gateway;
use crate::id::{ChangeId, FormationId, InvitationId, ServerId, SessionId};
use crate::name::{AppName, ExternalName, GatewayName, SecretName, Token, UserName};
use crate::profile::{Audience, Preferences, Profile};
use crate::record::Group;
use crate::secret::StoredSecret;
use crate::server::Server;
use crate::session::Session;
use crate::settings::Settings;
use crate::time::UnixMillis;
use crate::token::RegisteredToken;
use crate::trust::Invitation;
use crate::user::User;
pub use parts::LoadError;

use answers::Answers;
use by_mark::ByMark;
use imbl::ordmap::DiffItem;
use imbl::{OrdMap, OrdSet};
use std::ops::Bound;
use std::sync::Arc;

mod answers;
mod by_mark;
mod check;
mod divergences;
mod index;
mod parts;

/// The group's replicated state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub(crate) group: Arc<Group>,
    pub(crate) servers: OrdMap<ServerId, Arc<Server>>,
    pub(crate) removed: OrdMap<ServerId, UnixMillis>,
    pub(crate) settings: Settings,
    pub(crate) users: OrdMap<UserName, Arc<User>>,
    pub(crate) apps: OrdMap<AppName, Arc<Application>>,
    pub(crate) sessions: OrdMap<SessionId, Arc<Session>>,
    /// Sessions that are not ended, by the [`index::mark`] of their token. What is found is compared with the record, so two
    /// tokens with one mark do no harm; marks instead of names save a fifth of the memory.
    pub(crate) by_token: ByMark,
    /// Sessions that are not ended, by the mark of their user.
    pub(crate) by_user: OrdSet<(u64, SessionId)>,
    /// Sessions that are not ended; no entry for a host that has none.
    pub(crate) by_host: OrdMap<ServerId, OrdSet<SessionId>>,
    /// Sessions that are ended, oldest first.
    pub(crate) ended: OrdSet<(UnixMillis, SessionId)>,
    /// How many sessions that are not ended a host has of an application; no entry for none.
    pub(crate) per_host: OrdMap<(AppName, ServerId), u32>,
    pub(crate) invitations: OrdMap<InvitationId, Arc<Invitation>>,
    pub(crate) journal: OrdMap<u64, Arc<Event>>,
    pub(crate) reported: OrdMap<ServerId, u64>,
    /// The newest changes and their outcomes, by number: in the order in which they come and go, which keeps it cheap.
    pub(crate) answered: OrdMap<u64, (ChangeId, Result<Outcome, Refusal>)>,
    /// Their numbers, by key.
    pub(crate) answers: Answers,
    /// What formations that gave way had changed; those with no record left are remembered for a while.
    pub(crate) divergences: OrdMap<FormationId, Arc<Divergence>>,
    /// The records of them that nobody has decided on yet.
    pub(crate) diverged: OrdMap<(FormationId, Subject), Arc<Diverged>>,
    pub(crate) tokens: OrdMap<Token, Arc<RegisteredToken>>,
    /// The tokens of which these are other names.
    pub(crate) aliases: OrdMap<Token, Token>,
    pub(crate) gateways: OrdMap<GatewayName, Arc<Gateway>>,
    pub(crate) audit: OrdMap<u64, Arc<Audited>>,
    pub(crate) certificates: OrdMap<ExternalName, Arc<ExternalCertificate>>,
    pub(crate) secrets: OrdMap<SecretName, Arc<StoredSecret>>,
    pub(crate) profiles: OrdMap<Audience, Arc<Profile>>,
    pub(crate) preferences: OrdMap<UserName, Arc<Preferences>>,
}

impl Directory {
    /// The directory of a group that was just founded by `first`, which is its primary and only voter.
    pub fn founded(mut group: Group, mut first: Server, administrator: User) -> Self {
        first.voting = true;
        first.started = true;
        group.backups = vec![first.id];
        group.primary = Some(first.id);
        group.feature_level = first.feature_level;
        group.last_event += 1;
        let founded = Event {
            seq: group.last_event,
            at: group.clock,
            server: None,
            kind: EventKind::GroupFounded,
            severity: Severity::Info,
            subject: group.name.to_string(),
            fields: [("server", first.name.as_str())].into_iter().collect(),
            reasons: Vec::new(),
        };
        let mut directory = Self::empty(Arc::new(group));
        directory.journal.insert(founded.seq, Arc::new(founded));
        directory.servers.insert(first.id, Arc::new(first));
        directory
            .users
            .insert(administrator.name.clone(), Arc::new(administrator));
        directory
    }

    fn empty(group: Arc<Group>) -> Self {
        Self {
            group,
            servers: OrdMap::new(),
            removed: OrdMap::new(),
            settings: Settings::default(),
            users: OrdMap::new(),
            apps: OrdMap::new(),
            sessions: OrdMap::new(),
            by_token: ByMark::default(),
            by_user: OrdSet::new(),
            by_host: OrdMap::new(),
            ended: OrdSet::new(),
            per_host: OrdMap::new(),
            invitations: OrdMap::new(),
            journal: OrdMap::new(),
            reported: OrdMap::new(),
            answered: OrdMap::new(),
            answers: Answers::default(),
            divergences: OrdMap::new(),
            diverged: OrdMap::new(),
            tokens: OrdMap::new(),
            aliases: OrdMap::new(),
            gateways: OrdMap::new(),
            audit: OrdMap::new(),
            certificates: OrdMap::new(),
            secrets: OrdMap::new(),
            profiles: OrdMap::new(),
            preferences: OrdMap::new(),
        }
    }

    /// What the group has only one of.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The name of the newest change.
    pub fn newest(&self) -> ChangeName {
        ChangeName {
            formation: self.group.formation.this.id,
            number: self.group.number,
        }
    }

    /// The members, by id.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Server>> + '_ {
        self.servers.values()
    }

    /// A member.
    pub fn server(&self, id: ServerId) -> Option<&Arc<Server>> {
        self.servers.get(&id)
    }

    /// A member by its name, whatever its case.
    pub fn server_named(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers
            .values()
            .find(|server| server.name.as_str().eq_ignore_ascii_case(name))
    }

    /// When a server was removed, if it was.
    pub fn removed(&self, id: ServerId) -> Option<UnixMillis> {
        self.removed.get(&id).copied()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The accounts, by name.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> + '_ {
        self.users.values()
    }

    /// An account.
    pub fn user(&self, name: &UserName) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// The applications, by name.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<Application>> + '_ {
        self.apps.values()
    }

    /// An application.
    pub fn app(&self, name: &AppName) -> Option<&Arc<Application>> {
        self.apps.get(name)
    }

    /// All sessions, ended ones of the history included, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> + '_ {
        self.sessions.values()
    }

    /// The sessions behind `after` in the order of ids, ended ones of the history included; all of them when absent.
    pub fn sessions_from(
        &self,
        after: Option<SessionId>,
    ) -> impl Iterator<Item = &Arc<Session>> + '_ {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.sessions
            .range((start, Bound::Unbounded))
            .map(|(_, session)| session)
    }

    /// A session.
    pub fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(&id)
    }

    /// The session that a token gets when it asks for an application.
    pub fn current_session(&self, token: &Token, app: &AppName) -> Option<&Arc<Session>> {
        self.of_token(token)
            .find(|session| session.current && session.app == *app)
    }

    /// The session that a token gets when it asks for an application; and the one that a user may go on in when that one cannot
    /// be: a reachable one that is not current, the one used last. Both at once, because most tokens have neither, and looking
    /// for them is a good part of making a session.
    pub(crate) fn current_and_other(
        &self,
        token: &Token,
        app: &AppName,
        user: &UserName,
    ) -> (Option<&Arc<Session>>, Option<&Arc<Session>>) {
        let all: Vec<_> = self.of_token(token).collect();
        let current = all
            .iter()
            .find(|session| session.current && session.app == *app);
        let others = all.iter().filter(|session| {
            session.app == *app
                && !session.current
                && session.is_reachable()
                && session.user == *user
        });
        let last = others
            .max_by_key(|session| (session.last_attached.unwrap_or(session.created), session.id));
        (current.copied(), last.copied())
    }

    /// All sessions of a token that are not ended, by application, the current one of each before its others.
    pub fn sessions_of(&self, token: &Token) -> Vec<&Arc<Session>> {
        let mut found: Vec<_> = self.of_token(token).collect();
        found.sort_by_key(|session| (session.app.clone(), !session.current, session.id));
        found
    }

    fn of_token<'a, 't>(
        &'a self,
        token: &'t Token,
    ) -> impl Iterator<Item = &'a Arc<Session>> + use<'a, 't> {
        let marked = self.by_token.get(index::mark(token.as_str()));
        marked
            .filter_map(|id| self.sessions.get(&id))
            .filter(move |session| session.token == *token)
    }

    /// The sessions of a user that are not ended.
    pub fn sessions_of_user<'a, 'u>(
        &'a self,
        user: &'u UserName,
    ) -> impl Iterator<Item = &'a Arc<Session>> + use<'a, 'u> {
        let mark = index::mark(user.as_str());
        // Without an end: looking for one in the tree costs as much as the beginning.
        let first = (mark, SessionId::from_bytes([0; SessionId::LEN]));
        self.by_user
            .range(first..)
            .take_while(move |(found, _)| *found == mark)
            .filter_map(|(_, id)| self.sessions.get(id))
            .filter(move |session| session.user == *user)
    }

    /// The sessions of a host that are not ended.
    pub fn sessions_on(&self, host: ServerId) -> impl Iterator<Item = &Arc<Session>> + '_ {
        let ids = self.by_host.get(&host).into_iter().flatten();
        ids.filter_map(|id| self.sessions.get(id))
    }

    /// The sessions on a server that its drain is to move yet: those that were there when it began, can be reached, and are of
    /// applications that do not keep them. None where it is not being drained.
    pub fn to_drain<'a>(
        &'a self,
        server: &'a Server,
    ) -> impl Iterator<Item = &'a Arc<Session>> + 'a {
        let drained = server.mode.drain().map(|_| self.sessions_on(server.id));
        let sessions = drained.into_iter().flatten();
        sessions.filter(|session| self.is_to_drain(server, session))
    }

    /// The sessions on a server that its drain leaves there because their applications keep them: of those that were there when it
    /// began. None where it is not being drained.
    pub fn kept_from_drain<'a>(
        &'a self,
        server: &'a Server,
    ) -> impl Iterator<Item = &'a Arc<Session>> + 'a {
        let kept = |session: &&Arc<Session>| self.is_drained(server, session, OnDrain::Keep);
        self.sessions_on(server.id).filter(kept)
    }

    /// Whether a session is one of [`Self::to_drain`].
    pub fn is_to_drain(&self, server: &Server, session: &Session) -> bool {
        self.is_drained(server, session, OnDrain::Move) && session.is_reachable()
    }

    /// Whether a session was on a server when its drain began, and its application wants this of drains.
    fn is_drained(&self, server: &Server, session: &Session, wanted: OnDrain) -> bool {
        let drain = server.mode.drain();
        let app = self.apps.get(&session.app);
        drain.is_some_and(|(_, since)| session.created <= since)
            && session.host == server.id
            && app.is_some_and(|app| app.on_drain == wanted)
    }

    /// The sessions that have ended, newest end first.
    pub(crate) fn ended_back(&self) -> impl Iterator<Item = &Arc<Session>> + '_ {
        let ended = self.ended.iter().rev();
        ended.filter_map(|(_, id)| self.sessions.get(id))
    }

    /// The sessions whose records differ from those of an earlier directory, gone ones included. It looks at what changed
    /// only, when this directory was made from the earlier one.
    pub fn sessions_changed_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = &'a Arc<Session>> + 'a {
        self.session_changes_since(before)
            .filter_map(|(was, is)| is.or(was))
    }

    /// The same with what each was and is.
    pub fn session_changes_since<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<Session>>, Option<&'a Arc<Session>>)> + 'a {
        let differences = before.sessions.diff(&self.sessions);
        differences.map(|difference| match difference {
            DiffItem::Add(_, is) => (None, Some(is)),
            DiffItem::Update {
                old: (_, was),
                new: (_, is),
            } => (Some(was), Some(is)),
            DiffItem::Remove(_, was) => (Some(was), None),
        })
    }

    /// An invitation.
    pub fn invitation(&self, id: InvitationId) -> Option<&Arc<Invitation>> {
        self.invitations.get(&id)
    }

    /// The journal from an entry on, oldest first.
    pub fn events_from(&self, seq: u64) -> impl Iterator<Item = &Arc<Event>> + '_ {
        self.journal.range(seq..).map(|(_, event)| event)
    }

    /// The audit log from an entry on, oldest first.
    pub fn audited_from(&self, seq: u64) -> impl Iterator<Item = &Arc<Audited>> + '_ {
        self.audit.range(seq..).map(|(_, entry)| entry)
    }

    /// The audit log, newest first.
    pub fn audited_back(&self) -> impl Iterator<Item = &Arc<Audited>> + '_ {
        self.audit.iter().rev().map(|(_, entry)| entry)
    }

    /// The journal, newest first.
    pub fn events_back(&self) -> impl Iterator<Item = &Arc<Event>> + '_ {
        self.journal.iter().rev().map(|(_, event)| event)
    }

    /// The number of the newest event that a server reported; zero when it reported none.
    pub fn reported(&self, server: ServerId) -> u64 {
        self.reported.get(&server).copied().unwrap_or(0)
    }

    /// The oldest and the newest entry of the journal; none when it is empty.
    pub fn journal_span(&self) -> Option<(u64, u64)> {
        Some((self.journal.get_min()?.0, self.journal.get_max()?.0))
    }

    /// The invitations, used and expired ones included.
    pub fn invitations(&self) -> impl Iterator<Item = &Arc<Invitation>> + '_ {
        self.invitations.values()
    }

    /// How many reachable sessions a user has of an application.
    pub fn count_of_user(&self, user: &UserName, app: &AppName) -> usize {
        self.sessions_of_user(user)
            .filter(|session| session.app == *app && session.is_reachable())
            .count()
    }

    /// How many sessions that are not ended a host has of an application.
    pub fn count_on(&self, host: ServerId, app: &AppName) -> u32 {
        self.per_host
            .get(&(app.clone(), host))
            .copied()
            .unwrap_or(0)
    }

    /// How many sessions that are not ended an application has.
    pub fn count_of_app(&self, app: &AppName) -> u64 {
        let lowest = (app.clone(), ServerId::from_bytes([0; ServerId::LEN]));
        let counts = self
            .per_host
            .range(lowest..)
            .take_while(|((of, _), _)| of == app);
        counts.map(|(_, count)| u64::from(*count)).sum()
    }

    /// How many sessions are not ended.
    pub fn live_sessions(&self) -> usize {
        self.sessions.len() - self.ended.len()
    }

    /// The members that count towards the quorum now.
    pub fn voters(&self) -> impl Iterator<Item = &Arc<Server>> + '_ {
        self.servers.values().filter(|server| server.voting)
    }

    /// A server's name, or its id where it is no member any more.
    pub fn name_of(&self, id: ServerId) -> String {
        self.servers
            .get(&id)
            .map_or_else(|| id.to_string(), |server| server.name.to_string())
    }
}
