//! Divergences: what one side of a split changed and the side that survived does not have, kept until somebody decides.
//!
//! Always true: only what people edit is compared ([`Subject`] names it); sessions are registered again by their hosts and
//! need no review. A [`Content`] holds no other record, so decoding one never goes deeper than its bytes are long. Start at
//! [`three_way`]; `apply` keeps, applies and discards.

use crate::application::Application;
use crate::certificate::ExternalCertificate;
use crate::directory::Directory;
use crate::formation::{FormationRef, LINEAGE_LIMIT};
use crate::gateway::Gateway;
use crate::id::{FormationId, ServerId};
use crate::name::{AppName, ExternalName, GatewayName, SecretName, ServerName, Token, UserName};
use crate::pause::Pause;
use crate::profile::{Audience, Preferences, Profile};
use crate::secret::StoredSecret;
use crate::server::{Drain, ExternalAddress, Mode, Offline, Server, Standing};
use crate::time::UnixMillis;
use crate::token::RegisteredToken;
use crate::user::User;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The most divergences that have records left.
pub const DIVERGENCES: usize = 64;
/// The most records of all divergences together.
pub const RECORDS: usize = 100_000;

/// A formation that gave way to another one, and that had changed what people edit.
///
/// One whose last record is gone is remembered, so that a report that comes late does not bring it back; the newest
/// [`DIVERGENCES`] of those are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The formation that gave way.
    pub formation: FormationRef,
    /// Those that it went on from since the fork, newest first; they gave way with it. At most [`LINEAGE_LIMIT`].
    pub ancestors: Vec<FormationId>,
    /// The last change that both sides have in common.
    pub fork_point: u64,
    /// Whether what both sides had at the fork was still known; where not, everything that differs counts.
    pub fork_known: bool,
    /// Who was primary there.
    pub primary: Option<ServerId>,
    /// Who was a member there.
    pub members: Vec<ServerId>,
    /// The newest change there that is in the report; of several whole reports, in the one that went furthest.
    pub number: u64,
    /// Since when it is kept here. Said by `apply`.
    pub kept: UnixMillis,
    /// How many records are left to decide on. Counted by `apply`.
    pub records: u32,
    /// Whether a report is here as a whole. Said by `apply`.
    pub complete: bool,
}

impl Divergence {
    /// The divergence of a side that gives way, as one of its servers reports it.
    pub fn of(loser: &Directory, fork_point: u64, fork_known: bool) -> Self {
        let group = loser.group();
        // A formation that was made before the fork is one that both go on from.
        let since = group.formation.lineage();
        let since = since.take_while(|step| step.fork_point >= fork_point);
        Self {
            formation: group.formation.this,
            ancestors: since
                .skip(1)
                .take(LINEAGE_LIMIT)
                .map(|step| step.id)
                .collect(),
            fork_point,
            fork_known,
            primary: group.primary,
            members: loser.servers().map(|server| server.id).collect(),
            number: group.number,
            kept: group.clock,
            records: 0,
            complete: false,
        }
    }
}

/// One thing that diverged. What the winner has is in the directory itself: see [`Directory::content`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverged {
    /// The formation that gave way.
    pub formation: FormationId,
    /// What it is about.
    pub subject: Subject,
    /// As both sides had it at the fork; absent where there was none, or the fork is not known.
    pub fork: Option<Content>,
    /// As the side that gave way has it; absent where it has none.
    pub loser: Option<Content>,
    /// The newest change that the server which says so had.
    pub number: u64,
}

/// What people edit, named. Stored: entries are only ever added, at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A server that was removed.
    Removed(ServerId),
    /// Mode, power, labels and addresses of a server.
    Server(ServerId),
    /// A setting, and the server whose override it is.
    Setting(String, Option<ServerId>),
    /// An account.
    User(UserName),
    /// An application.
    Application(AppName),
    /// The list of backup primaries.
    Backups,
    /// The pause of automatic failover.
    Pause,
    /// A registered token.
    Token(Token),
    /// A gateway.
    Gateway(GatewayName),
    /// An operator's certificate, by its name.
    Certificate(ExternalName),
    /// A stored credential.
    Secret(SecretName),
    /// A profile.
    Profile(Audience),
    /// A user's preferences.
    Preferences(UserName),
}

/// The text form, with servers by their ids: `setting:KEY`, `setting:KEY@SERVER`, `user:NAME`, `app:NAME`, `server:SERVER`,
/// `removed:SERVER`, `backups`, `pause`, `token:TOKEN`, `gateway:NAME`, `certificate:NAME`, `secret:NAME`, `profile:AUDIENCE`,
/// `preferences:USER`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed(id) => write!(f, "removed:{id}"),
            Self::Server(id) => write!(f, "server:{id}"),
            Self::Setting(key, None) => write!(f, "setting:{key}"),
            Self::Setting(key, Some(on)) => write!(f, "setting:{key}@{on}"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Application(name) => write!(f, "app:{name}"),
            Self::Backups => f.write_str("backups"),
            Self::Pause => f.write_str("pause"),
            Self::Token(token) => write!(f, "token:{token}"),
            Self::Gateway(name) => write!(f, "gateway:{name}"),
            Self::Certificate(name) => write!(f, "certificate:{name}"),
            Self::Secret(name) => write!(f, "secret:{name}"),
            Self::Profile(audience) => write!(f, "profile:{audience}"),
            Self::Preferences(user) => write!(f, "preferences:{user}"),
        }
    }
}

/// What there is of a subject. Stored: entries are only ever added, at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// When the server was removed.
    Removed(UnixMillis),
    /// What people edit of a server.
    Server(EditedServer),
    /// The value, in canonical text.
    Setting(String),
    /// The account; its password's hash is never shown.
    User(Arc<User>),
    /// The application.
    Application(Arc<Application>),
    /// The list, highest first.
    Backups(Vec<ServerId>),
    /// The pause.
    Pause(Pause),
    /// What is registered of a token.
    Token(Arc<RegisteredToken>),
    /// The gateway.
    Gateway(Arc<Gateway>),
    /// The certificate; its key, which is sealed, is never shown.
    Certificate(Arc<ExternalCertificate>),
    /// The stored credential; its value is never shown.
    Secret(Arc<StoredSecret>),
    /// The profile.
    Profile(Arc<Profile>),
    /// The preferences.
    Preferences(Arc<Preferences>),
}

/// What people edit of a server's record, with what it takes to know it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditedServer {
    /// Its name.
    pub name: ServerName,
    /// What it was asked to be.
    pub standing: Standing,
    /// Online or offline.
    pub mode: Mode,
    /// Power rating, in thousandths.
    pub power: u32,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where clients of some networks reach it.
    pub external: Vec<ExternalAddress>,
    /// Where other servers reach it, `host:port`.
    pub peer_address: String,
    /// Where clients and administrators reach it, `host:port`.
    pub client_address: String,
}

impl From<&Server> for EditedServer {
    fn from(server: &Server) -> Self {
        Self {
            name: server.name.clone(),
            standing: server.standing,
            mode: unfinished(&server.mode),
            power: server.power,
            labels: server.labels.clone(),
            external: server.external.clone(),
            peer_address: server.peer_address.clone(),
            client_address: server.client_address.clone(),
        }
    }
}

/// How far a drain has come is nothing that people decided.
fn unfinished(mode: &Mode) -> Mode {
    match mode {
        Mode::Online => Mode::Online,
        Mode::Offline(offline) => Mode::Offline(Offline {
            drain: offline.drain.as_ref().map(|drain| Drain {
                deadline: drain.deadline,
                finished: None,
            }),
            ..offline.clone()
        }),
    }
}

impl Content {
    /// Whether it is of this subject.
    pub fn is_of(&self, subject: &Subject) -> bool {
        match (subject, self) {
            (Subject::Removed(_), Self::Removed(_))
            | (Subject::Server(_), Self::Server(_))
            | (Subject::Setting(..), Self::Setting(_))
            | (Subject::Backups, Self::Backups(_))
            | (Subject::Pause, Self::Pause(_)) => true,
            (Subject::User(name), Self::User(user)) => user.name == *name,
            (Subject::Application(name), Self::Application(app)) => app.name == *name,
            (Subject::Token(name), Self::Token(token)) => token.token == *name,
            (Subject::Gateway(name), Self::Gateway(gateway)) => gateway.name == *name,
            (Subject::Certificate(name), Self::Certificate(one)) => one.name == *name,
            (Subject::Secret(name), Self::Secret(secret)) => secret.name == *name,
            (Subject::Profile(audience), Self::Profile(one)) => one.audience == *audience,
            (Subject::Preferences(user), Self::Preferences(one)) => one.user == *user,
            _ => false,
        }
    }

    /// What is left of it at a time: what had an end before then has ended.
    pub fn at(self, now: UnixMillis) -> Option<Self> {
        match self {
            Self::Pause(pause) if !pause.holds(now) => None,
            Self::Server(server) => Some(Self::Server(EditedServer {
                mode: match server.mode {
                    Mode::Offline(offline) if offline.until.is_some_and(|end| end <= now) => {
                        Mode::Online
                    }
                    other => other,
                },
                ..server
            })),
            other => Some(other),
        }
    }

    /// Whether people would call both the same: when, and by which change, does not count.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Removed(_), Self::Removed(_)) => true,
            (Self::User(one), Self::User(other)) => {
                let one = User {
                    password_set: other.password_set,
                    version_number: other.version_number,
                    lock: other.lock,
                    ..(**one).clone()
                };
                one == **other
            }
            (Self::Application(one), Self::Application(other)) => {
                let one = Application {
                    version_number: other.version_number,
                    ..(**one).clone()
                };
                one == **other
            }
            (Self::Token(one), Self::Token(other)) => {
                let one = RegisteredToken {
                    created: other.created,
                    version_number: other.version_number,
                    ..(**one).clone()
                };
                one == **other
            }
            (Self::Gateway(one), Self::Gateway(other)) => {
                let one = Gateway {
                    version_number: other.version_number,
                    ..(**one).clone()
                };
                one == **other
            }
            (Self::Certificate(one), Self::Certificate(other)) => one.is_same(other),
            (Self::Secret(one), Self::Secret(other)) => {
                // One value may be sealed under two keys.
                let again = one.sealed.mark() != other.sealed.mark()
                    && (one.is_lost(), one.set, &one.by) == (other.is_lost(), other.set, &other.by);
                (again || one.sealed == other.sealed) && one.description == other.description
            }
            (Self::Profile(one), Self::Profile(other)) => one.values == other.values,
            (Self::Preferences(one), Self::Preferences(other)) => one.values == other.values,
            (one, other) => one == other,
        }
    }
}

/// Whether people would call both the same; see [`Content::is_same`].
pub fn same(one: Option<&Content>, other: Option<&Content>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_same(other),
        _ => false,
    }
}

impl Directory {
    /// What it has of a subject as of its newest stamp; what has run out is none any more.
    pub fn content(&self, subject: &Subject) -> Option<Content> {
        self.content_at(subject, self.group().clock)
    }

    pub(crate) fn content_at(&self, subject: &Subject, now: UnixMillis) -> Option<Content> {
        let found = match subject {
            Subject::Removed(id) => self.removed(*id).map(Content::Removed),
            Subject::Server(id) => self
                .server(*id)
                .map(|server| Content::Server((&**server).into())),
            Subject::Setting(key, on) => crate::settings::Setting::find(key)
                .and_then(|setting| self.settings().explicit(setting, *on))
                .map(|value| Content::Setting(value.to_string())),
            Subject::User(name) => self.user(name).cloned().map(Content::User),
            Subject::Application(name) => self.app(name).cloned().map(Content::Application),
            Subject::Backups => Some(Content::Backups(self.group().backups.clone())),
            Subject::Pause => self.group().pause.clone().map(Content::Pause),
            Subject::Token(token) => self.tokens.get(token).cloned().map(Content::Token),
            Subject::Gateway(name) => self.gateways.get(name).cloned().map(Content::Gateway),
            Subject::Certificate(name) => {
                let found = self.certificates.get(name).cloned();
                found.map(Content::Certificate)
            }
            Subject::Secret(name) => self.secrets.get(name).cloned().map(Content::Secret),
            Subject::Profile(of) => self.profiles.get(of).cloned().map(Content::Profile),
            Subject::Preferences(of) => self.preferences.get(of).cloned().map(Content::Preferences),
        };
        found.and_then(|content| content.at(now))
    }
}

/// What the losing side changed since the fork and the winner does not have so, by subject.
///
/// Where the fork is not known, everything counts in which the losing side differs from the winner; where the winner is not
/// known either, everything that the losing side has. Give the winner where it is at hand: what it has is left out again
/// when the difference is kept.
pub fn three_way(
    fork: Option<&Directory>,
    loser: &Directory,
    winner: Option<&Directory>,
) -> Vec<Diverged> {
    let now = [fork, Some(loser), winner].into_iter().flatten();
    let now = now.map(|one| one.group().clock).max().unwrap_or_default();
    let diverged = changed(fork.or(winner), loser)
        .into_iter()
        .filter_map(|subject| {
            let before = fork.and_then(|fork| fork.content_at(&subject, now));
            let after = loser.content_at(&subject, now);
            // A server that the losing side does not have was removed there, which is a subject of its own, or never came.
            if matches!(subject, Subject::Server(_) | Subject::Removed(_)) && after.is_none() {
                return None;
            }
            if fork.is_some() && same(before.as_ref(), after.as_ref()) {
                return None;
            }
            if let Some(winner) = winner
                && same(winner.content_at(&subject, now).as_ref(), after.as_ref())
            {
                return None;
            }
            (before.is_some() || after.is_some() || winner.is_some()).then(|| Diverged {
                formation: loser.group().formation.this.id,
                subject,
                fork: before,
                loser: after,
                number: loser.group().number,
            })
        });
    diverged.collect()
}

/// Every subject in whose tables the two differ at all.
pub(crate) fn changed(before: Option<&Directory>, after: &Directory) -> BTreeSet<Subject> {
    let mut found = BTreeSet::from([Subject::Backups, Subject::Pause]);
    let keys = keys(before.map(|one| &one.removed), &after.removed);
    found.extend(keys.into_iter().map(Subject::Removed));
    let keys = self::keys(before.map(|one| &one.servers), &after.servers);
    found.extend(keys.into_iter().map(Subject::Server));
    let keys = self::keys(before.map(|one| &one.users), &after.users);
    found.extend(keys.into_iter().map(Subject::User));
    let keys = self::keys(before.map(|one| &one.apps), &after.apps);
    found.extend(keys.into_iter().map(Subject::Application));
    let keys = self::keys(before.map(|one| &one.tokens), &after.tokens);
    found.extend(keys.into_iter().map(Subject::Token));
    let keys = self::keys(before.map(|one| &one.gateways), &after.gateways);
    found.extend(keys.into_iter().map(Subject::Gateway));
    let keys = self::keys(before.map(|one| &one.certificates), &after.certificates);
    found.extend(keys.into_iter().map(Subject::Certificate));
    let keys = self::keys(before.map(|one| &one.secrets), &after.secrets);
    found.extend(keys.into_iter().map(Subject::Secret));
    let keys = self::keys(before.map(|one| &one.profiles), &after.profiles);
    found.extend(keys.into_iter().map(Subject::Profile));
    let keys = self::keys(before.map(|one| &one.preferences), &after.preferences);
    found.extend(keys.into_iter().map(Subject::Preferences));
    // Settings are few: every one that is set on either side is looked at.
    let settings = before.into_iter().chain([after]);
    let settings = settings.flat_map(|one| one.settings.entries());
    found.extend(settings.map(|(key, on, _)| Subject::Setting(key.to_owned(), on)));
    found
}

/// The keys of what differs. Tables that descend from one another share most of their memory, which is not looked at.
fn keys<K: Ord + Clone, V: PartialEq>(
    before: Option<&OrdMap<K, V>>,
    after: &OrdMap<K, V>,
) -> Vec<K> {
    let Some(before) = before else {
        return after.keys().cloned().collect();
    };
    let differences = before.diff(after).map(|difference| match difference {
        DiffItem::Add(key, _)
        | DiffItem::Remove(key, _)
        | DiffItem::Update { new: (key, _), .. } => key.clone(),
    });
    differences.collect()
}
