//! Changes: the only way in which the directory becomes another, and what comes of them.
//!
//! [`Command`] and [`Outcome`] are stored and sent: entries are only ever added, at the end.

use crate::application::Application;
use crate::backups::BackupEdit;
use crate::event::{Event, Reason};
use crate::formation::ChangeName;
use crate::id::{ChangeId, IncarnationId, InvitationId, ServerId, SessionId};
use crate::name::{AppName, ServerName, Token, UserName};
use crate::server::{Mode, Server};
use crate::session::{Observation, Registration};
use crate::settings::SettingError;
use crate::time::UnixMillis;
use crate::trust::Invitation;
use crate::user::User;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Author {
    /// An account, and the address that it came from.
    User {
        /// The account.
        name: UserName,
        /// Where it came from.
        from: String,
    },
    /// Somebody on the server itself, by the local socket.
    Local {
        /// The server.
        server: ServerId,
        /// The operating system's user id.
        uid: u32,
    },
    /// A server by itself.
    Server(ServerId),
}

/// A change as it is replicated: stamped by the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its idempotency key: applied once, and answered again with the same outcome.
    pub id: ChangeId,
    /// The primary's stamp. `apply` never lets it go back.
    pub at: UnixMillis,
    /// Who asked for it.
    pub author: Author,
    /// What to do.
    pub command: Command,
}

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A server joins, by an invitation that is used up. It does not count yet.
    AdmitServer {
        /// Its record; `voting` is false.
        server: Box<Server>,
        /// The invitation.
        invitation: InvitationId,
    },
    /// A server has caught up and counts from now on, or no longer does.
    SetVoting {
        /// Which.
        server: ServerId,
        /// Whether it counts.
        voting: bool,
    },
    /// A server leaves: its sessions end, its id is refused from now on.
    ///
    /// The quorum is changed first, so that a server that leaves can still confirm that it no longer counts.
    RemoveServer {
        /// Which.
        server: ServerId,
        /// Why, in words.
        reason: Option<String>,
    },
    /// A server is taken offline or online.
    SetMode {
        /// Which.
        server: ServerId,
        /// Its mode from now on.
        mode: Mode,
    },
    /// What a server says of itself when it starts.
    ReportServer {
        /// Which.
        server: ServerId,
        /// The version that it runs.
        version: String,
        /// The newest feature level that it can work at.
        feature_level: u32,
        /// The life of its log. Another than before: it no longer counts until it has caught up.
        incarnation: IncarnationId,
        /// When its peer certificate expires.
        certificate_expires: UnixMillis,
        /// Where other servers reach it now.
        peer_address: String,
        /// Where clients reach it now.
        client_address: String,
    },
    /// A server acts as primary from now on; the first change of a new primary.
    TakePrimary {
        /// Which.
        server: ServerId,
        /// Whether the change of primary was planned.
        planned: bool,
        /// How long changes were not accepted, in milliseconds, as far as the new primary can tell.
        outage_ms: u64,
        /// When each step was taken, in order: `last-heard`, `suspected`, `elected`, `accepting`.
        steps: Vec<(String, UnixMillis)>,
        /// Why this server.
        reasons: Vec<Reason>,
    },
    /// Sets the order of the backup primaries.
    SetBackups {
        /// The whole list, highest first.
        backups: Vec<ServerId>,
        /// Why, in the words of whoever asked for it.
        reason: Option<String>,
    },
    /// Sets a setting, for the group or one server.
    SetSetting {
        /// Its key.
        key: String,
        /// Its value as text; checked by the catalogue.
        value: String,
        /// The server whose override it is; the group's value when absent.
        on: Option<ServerId>,
    },
    /// Takes a setting back to its default, or an override away.
    UnsetSetting {
        /// Its key.
        key: String,
        /// The server whose override it is; the group's value when absent.
        on: Option<ServerId>,
    },
    /// Makes or changes an account.
    PutUser {
        /// The record.
        user: Box<User>,
        /// Absent: the account must not exist. Present: it must be at this version.
        expect: Option<u64>,
    },
    /// Removes an account. The last administrator cannot be removed.
    RemoveUser {
        /// Which.
        name: UserName,
    },
    /// Makes or changes an application.
    PutApp {
        /// The record.
        app: Box<Application>,
        /// Absent: it must not exist. Present: it must be at this version.
        expect: Option<u64>,
    },
    /// Removes an application that has no session.
    RemoveApp {
        /// Which.
        name: AppName,
    },
    /// Makes an invitation.
    Invite {
        /// The invitation.
        invitation: Box<Invitation>,
    },
    /// Makes the current session of a token and application, unless there is one that is not orphaned.
    CreateSession {
        /// Its id.
        session: SessionId,
        /// Whose it is.
        token: Token,
        /// Who logged in.
        user: UserName,
        /// What it runs.
        app: AppName,
        /// Where placement put it.
        host: ServerId,
    },
    /// What a host says of its sessions. Observations of sessions that are elsewhere or ended are passed over.
    ObserveSessions {
        /// The host.
        host: ServerId,
        /// What it saw, oldest first.
        observations: Vec<Observation>,
    },
    /// Sessions that a host found running when it came back, in one or several changes.
    ///
    /// The last of them says how far the host's view went: what the directory has there and the host has not is then ended,
    /// except sessions that are still `starting` (the host starts them now), and those that were made, or of which the host
    /// spoke, after that view. So a session made while the host was collecting is not ended.
    RegisterSessions {
        /// The host.
        host: ServerId,
        /// What it found, at most [`Command::REGISTRATION_LIMIT`].
        sessions: Vec<Registration>,
        /// Present in the last part: the number of the newest change that the host had applied before it began to look for
        /// its sessions.
        complete_to: Option<u64>,
    },
    /// A host cannot be reached: its sessions are orphaned.
    OrphanSessions {
        /// The host.
        host: ServerId,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// A session is to end; its host ends its processes when it learns of it.
    EndSession {
        /// Which.
        session: SessionId,
        /// Who wants it.
        by: String,
    },
    /// Events that no change causes, spooled where they happened.
    RecordEvents {
        /// The server that saw them.
        server: ServerId,
        /// The number of the first, counted by that server from 1; what is already recorded is passed over.
        first: u64,
        /// The events, in order.
        events: Vec<Event>,
    },
    /// The authority's key and the like were renewed or sealed anew.
    SetAuthority {
        /// The authority.
        authority: Box<crate::trust::Authority>,
    },
    /// Changes one place of the list of backup primaries.
    EditBackups {
        /// How.
        edit: BackupEdit,
        /// Why, in the words of whoever asked for it.
        reason: Option<String>,
    },
}

impl Command {
    /// The most sessions that one change registers.
    pub const REGISTRATION_LIMIT: usize = 5_000;
    /// The most observations that one change carries.
    pub const OBSERVATION_LIMIT: usize = 5_000;
    /// The most spooled events that one change carries.
    pub const EVENT_LIMIT: usize = 1_000;
}

impl Change {
    /// The most bytes of an encoded change. Checked where changes are encoded, before they are proposed.
    pub const SIZE_LIMIT: usize = 1024 * 1024;
}

/// What came of an accepted change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The session that the token has now.
    Session {
        /// Its id.
        session: SessionId,
        /// Its host.
        host: ServerId,
        /// Whether this change made it.
        created: bool,
    },
    /// What a host must do with the sessions that it registered.
    Registered {
        /// Sessions that are over as far as the group is concerned: their keepers are to end.
        end: Vec<SessionId>,
    },
}

/// Why a change was not accepted. The directory is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Nothing of that name.
    #[error("there is no {kind} {name:?}")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// Its name or id.
        name: String,
    },
    /// The name or id is taken.
    #[error("there is already a {kind} {name:?}")]
    Exists {
        /// What it is.
        kind: Kind,
        /// Its name or id.
        name: String,
    },
    /// Somebody else changed it in between.
    #[error(
        "{kind} {name:?} was changed meanwhile: it is at version {found}, the change was made for version {expected}"
    )]
    Version {
        /// What it is.
        kind: Kind,
        /// Its name or id.
        name: String,
        /// The version that was expected.
        expected: u64,
        /// The version that was found.
        found: u64,
    },
    /// A setting that does not exist or does not fit.
    #[error(transparent)]
    Setting(SettingError),
    /// A limit on sessions was hit.
    #[error("{limit} of application {app:?} is {allowed}, and {by} has as many sessions")]
    SessionLimit {
        /// Which limit: `max-per-user` or `max-per-server`.
        limit: SessionLimit,
        /// The application.
        app: AppName,
        /// How many are allowed.
        allowed: u32,
        /// The user or server that has them.
        by: String,
    },
    /// A table holds as much as it may.
    #[error("the table of {kind}s is full: it holds {limit}")]
    Full {
        /// Which table.
        kind: Kind,
        /// How many it may hold.
        limit: u64,
    },
    /// A document or list in the change is too large.
    #[error("{what} is too large: {size}, at most {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// Its size.
        size: u64,
        /// The most it may be.
        limit: u64,
    },
    /// The last administrator must stay.
    #[error("{name:?} is the last administrator: add another one first")]
    LastAdministrator {
        /// Who.
        name: UserName,
    },
    /// It has sessions.
    #[error(
        "application {app:?} is in use: {sessions} of its sessions have not ended, end them first"
    )]
    InUse {
        /// The application.
        app: AppName,
        /// How many.
        sessions: u64,
    },
    /// The primary cannot be removed.
    #[error("{name} is the primary: promote another server first")]
    IsPrimary {
        /// Which.
        name: ServerName,
    },
    /// The invitation was used.
    #[error("the join code was used already, by {by}")]
    InvitationUsed {
        /// By which server.
        by: String,
    },
    /// The invitation is too old.
    #[error("the join code has expired: make a new one with `stead group invite`")]
    InvitationExpired,
    /// A join or removal has not finished.
    #[error("{server} is still joining or leaving: wait until it has finished")]
    StructureBusy {
        /// Which server.
        server: ServerName,
    },
    /// A server that was removed, or an id that a clone brought along.
    #[error("server id {server} was removed from this group: join with a fresh data folder")]
    ServerRemoved {
        /// Which.
        server: ServerId,
    },
    /// Something that this server may not be: a witness as backup, a host that is a witness.
    #[error("{name} cannot be {what}")]
    Unfit {
        /// Which server.
        name: ServerName,
        /// What it cannot be.
        what: String,
    },
    /// The user may not start the application, or is disabled.
    #[error("{user} may not use application {app:?}")]
    NotAllowed {
        /// Who.
        user: UserName,
        /// What.
        app: AppName,
    },
    /// The record does not make sense.
    #[error("{what}: {why}")]
    Invalid {
        /// Which field.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Without it nobody would count.
    #[error("{name} is the last voter: add another one first")]
    LastVoter {
        /// Which.
        name: ServerName,
    },
    /// The group works at a feature level that the server does not know.
    #[error(
        "{name} works at feature level {level} at most, and the group works at {group}: upgrade it first"
    )]
    TooOld {
        /// Which.
        name: ServerName,
        /// The newest level that it can work at.
        level: u32,
        /// The group's.
        group: u32,
    },
    /// The token has a session of somebody else.
    #[error(
        "token {token:?} has a session of application {app:?} that belongs to another user: end it first, or use another token"
    )]
    OtherUser {
        /// The token.
        token: Token,
        /// The application.
        app: AppName,
    },
}

/// Kinds of records, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A server.
    Server,
    /// A setting.
    Setting,
    /// A user.
    User,
    /// An application.
    Application,
    /// A session.
    Session,
    /// An invitation.
    Invitation,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Setting => "setting",
            Self::User => "user",
            Self::Application => "application",
            Self::Session => "session",
            Self::Invitation => "invitation",
        })
    }
}

/// Which limit on sessions was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionLimit {
    /// `max-per-user`.
    PerUser,
    /// `max-per-server`.
    PerServer,
}

impl std::fmt::Display for SessionLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PerUser => "max-per-user",
            Self::PerServer => "max-per-server",
        })
    }
}

/// What applying a change gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The change's name: for a change that was answered before, the name under which it was.
    pub name: ChangeName,
    /// What came of it.
    pub outcome: Result<Outcome, Refusal>,
    /// The events that it made, for the server that applied it: they are in the journal, and are not sent.
    #[serde(skip)]
    pub events: Vec<Arc<Event>>,
}
