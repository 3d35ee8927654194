//! Why a change was not accepted, in words with what it is about.
//!
//! Answers are remembered with their refusals: entries are only ever added, at the end.

use crate::id::ServerId;
use crate::name::{AppName, SecretName, ServerName, Token, UserName};
use crate::settings::SettingError;
use serde::{Deserialize, Serialize};

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
    /// There is nothing to resume.
    #[error("automatic failover is not paused")]
    NotPaused,
    /// Two voters that need each other would be left.
    #[error(
        "without {name} a group in quorum mode would have two voters, and lose everything with either: say with --mode whether it is to be `availability` or `quorum`"
    )]
    ModeNeeded {
        /// Whose removal it is.
        name: ServerName,
    },
    /// The token may not be used.
    #[error("token {token:?} is disabled")]
    TokenDisabled {
        /// Which, as it was presented.
        token: Token,
    },
    /// Whose it is is not said.
    #[error("token {token:?} belongs to another user")]
    TokenOfAnother {
        /// Which, as it was presented.
        token: Token,
    },
    /// Only registered tokens may be used.
    #[error("token {token:?} is not registered, and tokens.unregistered is refuse")]
    TokenUnknown {
        /// Which.
        token: Token,
    },
    /// What is to be an alias has sessions of its own, which nobody would find any more.
    #[error(
        "token {token:?} has {sessions} sessions of its own: end them before it becomes an alias"
    )]
    TokenInUse {
        /// Which.
        token: Token,
        /// How many.
        sessions: u64,
    },
    /// Applications are given it.
    #[error("secret {secret:?} is given to {apps}: change them first")]
    SecretInUse {
        /// Which.
        secret: SecretName,
        /// The applications, by name.
        apps: String,
    },
    /// A setting names it.
    #[error("secret {secret:?} is named by {key}: change or unset that first")]
    SecretInSetting {
        /// Which.
        secret: SecretName,
        /// The setting.
        key: String,
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
    /// A divergence.
    Divergence,
    /// A record of a divergence.
    Diverged,
    /// A registered token.
    Token,
    /// A gateway.
    Gateway,
    /// A token for the API.
    ApiToken,
    /// An operator's certificate.
    Certificate,
    /// A stored credential.
    Secret,
    /// A profile.
    Profile,
    /// A user's preferences.
    Preferences,
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
            Self::Divergence => "divergence",
            Self::Diverged => "diverged record",
            Self::Token => "token",
            Self::Gateway => "gateway",
            Self::ApiToken => "API token",
            Self::Certificate => "certificate",
            Self::Secret => "secret",
            Self::Profile => "profile",
            Self::Preferences => "preferences",
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
