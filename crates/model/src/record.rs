//! Records: the directory taken apart, one entry at a time. Snapshots, backups and differences are sequences of them.
//!
//! Stored: entries are only ever added, at the end.

use crate::application::Application;
use crate::audit::Audited;
use crate::certificate::ExternalCertificate;
use crate::change::{Outcome, Refusal};
use crate::divergence::{Diverged, Divergence, Subject};
use crate::event::Event;
use crate::formation::Formation;
use crate::gateway::Gateway;
use crate::id::{ChangeId, FormationId, GroupId, InvitationId, ServerId, SessionId};
use crate::mode::ResilienceMode;
use crate::name::{AppName, ExternalName, GatewayName, GroupName, SecretName, Token, UserName};
use crate::pause::Pause;
use crate::profile::{Audience, Preferences, Profile};
use crate::secret::StoredSecret;
use crate::server::Server;
use crate::session::Session;
use crate::time::UnixMillis;
use crate::token::RegisteredToken;
use crate::trust::{Authority, GroupSecret, Invitation, SealRecord, Succession};
use crate::user::User;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One entry of one table. Taking a directory apart copies none of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// What there is only one of.
    Group(Arc<Group>),
    /// A server.
    Server(Arc<Server>),
    /// A server that was removed, and when.
    Removed(ServerId, UnixMillis),
    /// A setting: key, server whose override it is, value.
    Setting(String, Option<ServerId>, String),
    /// A user.
    User(Arc<User>),
    /// An application.
    Application(Arc<Application>),
    /// A session.
    Session(Arc<Session>),
    /// An invitation.
    Invitation(Arc<Invitation>),
    /// An entry of the journal.
    Event(Arc<Event>),
    /// The number of the newest event that a server reported.
    Reported(ServerId, u64),
    /// An answered change: its key, number and outcome.
    Answered(ChangeId, u64, Result<Outcome, Refusal>),
    /// What a formation that gave way had changed.
    Divergence(Arc<Divergence>),
    /// A record of it.
    Diverged(Arc<Diverged>),
    /// A registered token.
    Token(Arc<RegisteredToken>),
    /// A gateway.
    Gateway(Arc<Gateway>),
    /// An entry of the audit log.
    Audited(Arc<Audited>),
    /// An operator's certificate.
    Certificate(Arc<ExternalCertificate>),
    /// A stored credential.
    Secret(Arc<StoredSecret>),
    /// A profile.
    Profile(Arc<Profile>),
    /// A user's preferences.
    Preferences(Arc<Preferences>),
}

/// What tells a record from the others of all tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The group's own record.
    Group,
    /// A server.
    Server(ServerId),
    /// A server that was removed.
    Removed(ServerId),
    /// A setting, and the server whose override it is.
    Setting(String, Option<ServerId>),
    /// A user.
    User(UserName),
    /// An application.
    Application(AppName),
    /// A session.
    Session(SessionId),
    /// An invitation.
    Invitation(InvitationId),
    /// A place in the journal.
    Event(u64),
    /// A server that reported events.
    Reported(ServerId),
    /// An answered change.
    Answered(ChangeId),
    /// A formation that gave way.
    Divergence(FormationId),
    /// A record of it.
    Diverged(FormationId, Subject),
    /// A registered token.
    Token(Token),
    /// A gateway.
    Gateway(GatewayName),
    /// A place in the audit log.
    Audited(u64),
    /// An operator's certificate, by its name.
    Certificate(ExternalName),
    /// A stored credential.
    Secret(SecretName),
    /// A profile.
    Profile(Audience),
    /// A user's preferences.
    Preferences(UserName),
}

impl Record {
    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            Self::Group(_) => Key::Group,
            Self::Server(record) => Key::Server(record.id),
            Self::Removed(id, _) => Key::Removed(*id),
            Self::Setting(key, on, _) => Key::Setting(key.clone(), *on),
            Self::User(record) => Key::User(record.name.clone()),
            Self::Application(record) => Key::Application(record.name.clone()),
            Self::Session(record) => Key::Session(record.id),
            Self::Invitation(record) => Key::Invitation(record.id),
            Self::Event(record) => Key::Event(record.seq),
            Self::Reported(id, _) => Key::Reported(*id),
            Self::Answered(id, _, _) => Key::Answered(*id),
            Self::Divergence(record) => Key::Divergence(record.formation.id),
            Self::Diverged(record) => Key::Diverged(record.formation, record.subject.clone()),
            Self::Token(record) => Key::Token(record.token.clone()),
            Self::Gateway(record) => Key::Gateway(record.name.clone()),
            Self::Audited(record) => Key::Audited(record.seq),
            Self::Certificate(record) => Key::Certificate(record.name.clone()),
            Self::Secret(record) => Key::Secret(record.name.clone()),
            Self::Profile(record) => Key::Profile(record.audience.clone()),
            Self::Preferences(record) => Key::Preferences(record.user.clone()),
        }
    }
}

/// What a group has only one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id, for good.
    pub id: GroupId,
    /// Its name.
    pub name: GroupName,
    /// The formation in force.
    pub formation: Formation,
    /// The backup primaries, highest first; the original primary at the head.
    pub backups: Vec<ServerId>,
    /// The server that last said that it acts as primary.
    pub primary: Option<ServerId>,
    /// Since when it does.
    pub primary_since: UnixMillis,
    /// The newest change of primary that was a failover.
    pub last_failover: Option<Failover>,
    /// The group's authority.
    pub authority: Authority,
    /// The newest stamp; stamps never go back.
    pub clock: UnixMillis,
    /// The number of the newest change.
    pub number: u64,
    /// The place of the newest event in the journal.
    pub last_event: u64,
    /// The feature level that the group works at.
    pub feature_level: u32,
    /// A pause of automatic failover, until its end is recorded; see [`Group::pause_at`].
    pub pause: Option<Pause>,
    /// How it stays able to act.
    pub mode: ResilienceMode,
    /// The number of the newest change that a person made, or a program for one; see [`crate::Change::is_user_change`].
    pub last_user_change: u64,
    /// The group secret.
    pub secret: GroupSecret,
    /// The authorities besides the one in force. Shared: the group's record is copied with every change.
    pub succession: Arc<Succession>,
    /// The key that seals, and the ticket key before the one in force.
    pub seal: Arc<SealRecord>,
}

impl Group {
    /// Whether the group is as an administrator made it: in the original formation, or again under the original primary, the
    /// head of the backup list, in one that failover made. Otherwise it is a repaired formation.
    pub fn is_original(&self) -> bool {
        let head = self.backups.first();
        self.formation.is_original() || (head.is_some() && self.primary.as_ref() == head)
    }

    /// The pause of automatic failover that holds at `now`, a time of the calendar.
    pub fn pause_at(&self, now: UnixMillis) -> Option<&Pause> {
        self.pause.as_ref().filter(|pause| pause.holds(now))
    }
}

/// A change of primary that was not planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// When.
    pub at: UnixMillis,
    /// Who was primary.
    pub from: Option<ServerId>,
    /// Who is since.
    pub to: ServerId,
    /// How long changes were not accepted, in milliseconds.
    pub outage_ms: u64,
    /// Why, in words.
    pub reason: String,
}
