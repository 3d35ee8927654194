//! Changes: the only way in which the directory becomes another, and what comes of them.
//!
//! [`Command`] and [`Outcome`] are stored and sent: entries are only ever added, at the end.

use crate::application::Application;
use crate::backups::BackupEdit;
use crate::certificate::ExternalCertificate;
use crate::divergence::{Diverged, Divergence, Subject};
use crate::event::{Event, Reason};
use crate::gateway::Gateway;
use crate::id::{ChangeId, FormationId, IncarnationId, InvitationId, ServerId, SessionId};
use crate::name::{AppName, ExternalName, GatewayName, Token, UserName};
use crate::pause::PauseChange;
use crate::profile::ProfileChange;
use crate::secret::StoredSecretChange;
use crate::server::{ExternalAddress, Mode, Server};
use crate::session::{Observation, Registration};
use crate::time::UnixMillis;
use crate::token::RegisteredToken;
use crate::trust::{AuthorityChange, Invitation, KeyMark, SealChange, SecretChange};
use crate::user::User;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod outcome;
mod refusal;
mod sorts;

pub use outcome::{Applied, Outcome};
pub use refusal::{Kind, Refusal, SessionLimit};

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
    /// Servers are taken offline or online, all of them or none.
    SetMode {
        /// Which.
        servers: Vec<ServerId>,
        /// Their mode from now on.
        mode: Mode,
    },
    /// What people say of a server is changed; what is absent stays.
    EditServer {
        /// Which.
        server: ServerId,
        /// Its power rating, in thousandths.
        power: Option<u32>,
        /// Labels that it gets, and, without a value, those that it loses.
        labels: BTreeMap<String, Option<String>>,
        /// All its external addresses.
        external: Option<Vec<ExternalAddress>>,
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
        /// Where other servers reach it, as far as it knows; [`Command::SetAddresses`] says so.
        peer_address: String,
        /// Where clients reach it, as far as it knows.
        client_address: String,
        /// The key of its peer certificate.
        peer_key: KeyMark,
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
    /// The group's authority rotates: a step of it.
    ChangeAuthority {
        /// Which step.
        change: Box<AuthorityChange>,
    },
    /// Changes one place of the list of backup primaries.
    EditBackups {
        /// How.
        edit: BackupEdit,
        /// Why, in the words of whoever asked for it.
        reason: Option<String>,
    },
    /// Begins or ends a pause of automatic failover.
    ChangePause {
        /// How.
        change: PauseChange,
    },
    /// Keeps what a formation that gave way had changed, in one or several changes.
    ///
    /// Several servers of it may report. A record is replaced only by a report that goes further; one in which the
    /// directory agrees is left out; a report that goes no further than a whole one before is passed over.
    KeepDivergence {
        /// The formation that is to keep it. It is refused in any other: the pieces of one report belong together.
        within: FormationId,
        /// The formation that gave way.
        divergence: Box<Divergence>,
        /// What it had changed, at most [`Command::DIVERGED_LIMIT`].
        records: Vec<Diverged>,
        /// Whether the report is whole with these.
        last: bool,
    },
    /// Puts what a formation that gave way had changed in place of what there is, with the checks of an ordinary change.
    /// What cannot be put there stays, and the outcome says why.
    ApplyDiverged {
        /// The formation.
        formation: FormationId,
        /// Which, at most [`Command::DIVERGED_LIMIT`]; all that is left when empty.
        subjects: Vec<Subject>,
        /// Why, in the words of whoever asked for it.
        reason: Option<String>,
    },
    /// Throws away what a formation that gave way had changed.
    DiscardDiverged {
        /// The formation.
        formation: FormationId,
        /// Which, at most [`Command::DIVERGED_LIMIT`]; all that is left when empty.
        subjects: Vec<Subject>,
        /// Why, in the words of whoever asked for it.
        reason: Option<String>,
    },
    /// A user, or somebody for one, chooses among the sessions of a token and application: this one is current from then on.
    SelectSession {
        /// Which.
        session: SessionId,
        /// Who chose, in words.
        by: String,
    },
    /// A session is to go on elsewhere: it ends, and another one of its token and application starts in its place, current if
    /// that was. Clients that are attached go there.
    MoveSession {
        /// Which.
        session: SessionId,
        /// The id of the one in its place.
        new: SessionId,
        /// On which server.
        to: ServerId,
        /// Who wants it, in words.
        by: String,
    },
    /// Nothing is left to be moved from a server that is being drained.
    FinishDrain {
        /// Which.
        server: ServerId,
    },
    /// Registers a token, or changes what is registered of it.
    PutToken {
        /// The record.
        token: Box<RegisteredToken>,
        /// Absent: it must not be registered. Present: it must be at this version.
        expect: Option<u64>,
    },
    /// Takes a token out of the register; its sessions go on.
    RemoveToken {
        /// Which, not by an alias.
        token: Token,
    },
    /// Makes or changes a gateway.
    PutGateway {
        /// The record.
        gateway: Box<Gateway>,
        /// Absent: it must not exist. Present: it must be at this version.
        expect: Option<u64>,
    },
    /// Removes a gateway; its clients' sessions stay.
    RemoveGateway {
        /// Which.
        name: GatewayName,
    },
    /// Makes the current session of a token that a gateway's client claims, unless there is one that is not orphaned.
    BindToken {
        /// Its id.
        session: SessionId,
        /// What is claimed.
        token: Token,
        /// What it leads to: an application that launches nothing.
        app: AppName,
        /// Where placement put it.
        host: ServerId,
    },
    /// The group secret rotates, or has rotated.
    ChangeSecret {
        /// Which step.
        change: SecretChange,
    },
    /// The certificates that a server has now are refused; it gets others.
    RevokeCertificates {
        /// Whose.
        server: ServerId,
        /// The key of its peer certificate.
        key: KeyMark,
        /// Why, in words.
        reason: Option<String>,
    },
    /// Too many logins with an account failed: it is locked for `users.lockout-time`. While it is locked already, nothing is done.
    LockUser {
        /// Which.
        name: UserName,
        /// How many failed, from all addresses and on all servers.
        failures: u32,
    },
    /// Ends the lock of an account, also where only some addresses are locked out of it.
    UnlockUser {
        /// Which.
        name: UserName,
    },
    /// A server is reached elsewhere from now on; what is absent stays.
    SetAddresses {
        /// Which.
        server: ServerId,
        /// Where other servers reach it, `host:port`.
        peer_address: Option<String>,
        /// Where clients and administrators reach it, `host:port`.
        client_address: Option<String>,
    },
    /// Puts in an operator's certificate for an external name, in place of the one that it had.
    PutCertificate {
        /// The record.
        certificate: Box<ExternalCertificate>,
    },
    /// Takes an operator's certificate out.
    RemoveCertificate {
        /// For which name.
        name: ExternalName,
    },
    /// Keeps, changes or removes a stored credential.
    ChangeStoredSecret {
        /// How.
        change: StoredSecretChange,
    },
    /// Makes, changes or removes a profile or a user's preferences.
    ChangeProfile {
        /// How.
        change: ProfileChange,
    },
    /// The seal key changes, with the ticket key.
    ChangeSeal {
        /// Which step.
        change: Box<SealChange>,
    },
    /// Takes back an invitation that nobody has used.
    WithdrawInvitation {
        /// Which.
        invitation: InvitationId,
        /// Why, in words.
        reason: String,
    },
}

impl Change {
    /// The most bytes of an encoded change. Checked where changes are encoded, before they are proposed.
    pub const SIZE_LIMIT: usize = 1024 * 1024;

    /// Whether a person made it, or a program for one. Servers ask for people who join a server or open a session; what
    /// else they do by themselves, such as putting a server online again at the time that was said, is none.
    pub fn is_user_change(&self) -> bool {
        let by_itself = matches!(self.author, Author::Server(_))
            && !matches!(
                self.command,
                Command::AdmitServer { .. } | Command::CreateSession { .. }
            );
        !by_itself && self.command.is_user_change()
    }
}
