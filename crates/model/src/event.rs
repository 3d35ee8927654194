//! The journal: everything that matters, with its reasons.

use crate::fields::Fields;
use crate::id::ServerId;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something is not working.
    Error,
}

impl Severity {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What happened. The text form is part of the contract with scripts and triggers; entries are only ever added, at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The group was founded.
    GroupFounded,
    /// A server joined.
    ServerJoined,
    /// A server counts towards the quorum now.
    ServerVoting,
    /// A server was removed.
    ServerRemoved,
    /// A server was taken offline or online.
    ServerMode,
    /// A server's address, version or incarnation changed.
    ServerChanged,
    /// A server was not heard any more, or again.
    ServerReachability,
    /// The primary was lost and another took its place.
    Failover,
    /// The primary was changed as planned.
    Switchover,
    /// A setting was changed.
    SettingChanged,
    /// A user was added, changed or removed.
    UserChanged,
    /// An application was added, changed or removed.
    AppChanged,
    /// A session was made.
    SessionCreated,
    /// A session ended.
    SessionEnded,
    /// Sessions cannot be reached.
    SessionOrphaned,
    /// A host found sessions again.
    SessionRegistered,
    /// An invitation was made.
    InvitationMade,
    /// A join was refused.
    JoinRefused,
    /// An account was locked after too many failed logins.
    AccountLocked,
    /// A server's disk is full, or has room again.
    DiskSpace,
    /// Backup primaries were changed.
    BackupsChanged,
    /// The server that was primary before accepts changes again, after an interruption.
    PrimaryResumed,
    /// The group's authority was renewed.
    AuthorityChanged,
    /// Automatic failover was paused.
    GroupPaused,
    /// A pause of automatic failover ended.
    GroupResumed,
    /// The group is in quorum mode now, or in availability mode.
    ModeChanged,
    /// Servers went on in a formation of their own.
    FormationMade,
    /// A server left its formation for another.
    FormationEntered,
    /// Servers could not do without their primary, or formations without an administrator.
    FormationHeld,
    /// What a formation that gave way had changed was kept.
    DivergenceKept,
    /// Some of it was put in place of what the surviving formation had.
    DivergenceApplied,
    /// Some of it was thrown away.
    DivergenceDiscarded,
    /// A server forgot its group and became one of its own.
    GroupReset,
    /// Somebody chose among the sessions of a token.
    SessionSelected,
    /// The register of tokens was changed.
    TokenChanged,
    /// Nothing is left to be moved from a server that was being drained.
    ServerDrained,
    /// A gateway was added, changed or removed.
    GatewayChanged,
    /// A server has new certificates.
    CertificateRenewed,
    /// A certificate ends soon, or has ended.
    CertificateExpiring,
    /// The group secret rotates, or has rotated.
    SecretRotated,
    /// A backend that a host checks does not accept any more, or again.
    BackendReachability,
    /// The certificates of a server are refused from now on.
    CertificateRevoked,
    /// An operator's certificate was put in, exchanged or taken out.
    CertificateChanged,
    /// A stored credential was kept, changed or removed.
    StoredSecretChanged,
    /// A profile was made, changed or removed.
    ProfileChanged,
    /// A group was made of a backup.
    GroupRestored,
    /// The seal key changes, or has changed.
    SealKeyRotated,
    /// An invitation was taken back before anybody used it.
    InvitationWithdrawn,
    /// What checks passwords elsewhere does not answer a server any more, or again.
    AuthenticationReachability,
}

impl EventKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 49] = [
        Self::GroupFounded,
        Self::ServerJoined,
        Self::ServerVoting,
        Self::ServerRemoved,
        Self::ServerMode,
        Self::ServerChanged,
        Self::ServerReachability,
        Self::Failover,
        Self::Switchover,
        Self::SettingChanged,
        Self::UserChanged,
        Self::AppChanged,
        Self::SessionCreated,
        Self::SessionEnded,
        Self::SessionOrphaned,
        Self::SessionRegistered,
        Self::InvitationMade,
        Self::JoinRefused,
        Self::AccountLocked,
        Self::DiskSpace,
        Self::BackupsChanged,
        Self::PrimaryResumed,
        Self::AuthorityChanged,
        Self::GroupPaused,
        Self::GroupResumed,
        Self::ModeChanged,
        Self::FormationMade,
        Self::FormationEntered,
        Self::FormationHeld,
        Self::DivergenceKept,
        Self::DivergenceApplied,
        Self::DivergenceDiscarded,
        Self::GroupReset,
        Self::SessionSelected,
        Self::TokenChanged,
        Self::ServerDrained,
        Self::GatewayChanged,
        Self::CertificateRenewed,
        Self::CertificateExpiring,
        Self::SecretRotated,
        Self::BackendReachability,
        Self::CertificateRevoked,
        Self::CertificateChanged,
        Self::StoredSecretChanged,
        Self::ProfileChanged,
        Self::GroupRestored,
        Self::SealKeyRotated,
        Self::InvitationWithdrawn,
        Self::AuthenticationReachability,
    ];

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GroupFounded => "group-founded",
            Self::ServerJoined => "server-joined",
            Self::ServerVoting => "server-voting",
            Self::ServerRemoved => "server-removed",
            Self::ServerMode => "server-mode",
            Self::ServerChanged => "server-changed",
            Self::ServerReachability => "server-reachability",
            Self::Failover => "failover",
            Self::Switchover => "switchover",
            Self::SettingChanged => "setting-changed",
            Self::UserChanged => "user-changed",
            Self::AppChanged => "app-changed",
            Self::SessionCreated => "session-created",
            Self::SessionEnded => "session-ended",
            Self::SessionOrphaned => "session-orphaned",
            Self::SessionRegistered => "session-registered",
            Self::SessionSelected => "session-selected",
            Self::InvitationMade => "invitation-made",
            Self::JoinRefused => "join-refused",
            Self::AccountLocked => "account-locked",
            Self::DiskSpace => "disk-space",
            Self::BackupsChanged => "backups-changed",
            Self::PrimaryResumed => "primary-resumed",
            Self::AuthorityChanged => "authority-changed",
            Self::GroupPaused => "group-paused",
            Self::GroupResumed => "group-resumed",
            Self::ModeChanged => "mode-changed",
            Self::FormationMade => "formation-made",
            Self::FormationEntered => "formation-entered",
            Self::FormationHeld => "formation-held",
            Self::DivergenceKept => "divergence-kept",
            Self::DivergenceApplied => "divergence-applied",
            Self::DivergenceDiscarded => "divergence-discarded",
            Self::GroupReset => "group-reset",
            Self::TokenChanged => "token-changed",
            Self::ServerDrained => "server-drained",
            Self::GatewayChanged => "gateway-changed",
            Self::CertificateRenewed => "certificate-renewed",
            Self::CertificateExpiring => "certificate-expiring",
            Self::SecretRotated => "secret-rotated",
            Self::BackendReachability => "backend-reachability",
            Self::CertificateRevoked => "certificate-revoked",
            Self::CertificateChanged => "certificate-changed",
            Self::StoredSecretChanged => "stored-secret-changed",
            Self::ProfileChanged => "profile-changed",
            Self::GroupRestored => "group-restored",
            Self::SealKeyRotated => "seal-key-rotated",
            Self::InvitationWithdrawn => "invitation-withdrawn",
            Self::AuthenticationReachability => "authentication-reachability",
        }
    }

    /// One sentence of help.
    pub fn help(self) -> &'static str {
        match self {
            Self::GroupFounded => "A group was founded.",
            Self::ServerJoined => "A server joined the group.",
            Self::ServerVoting => "A server counts towards the quorum now, or no longer does.",
            Self::ServerRemoved => "A server was removed from the group.",
            Self::ServerMode => "A server was taken offline or online.",
            Self::ServerChanged => "A server's address, version or incarnation changed.",
            Self::ServerReachability => "A server was not heard any more, or again.",
            Self::Failover => "The primary was lost and another server took its place.",
            Self::Switchover => "The primary was changed as planned.",
            Self::SettingChanged => "A setting was changed.",
            Self::UserChanged => "An account was added, changed or removed.",
            Self::AppChanged => "An application was added, changed or removed.",
            Self::SessionCreated => "A session was made.",
            Self::SessionEnded => "A session ended.",
            Self::SessionOrphaned => "Sessions cannot be reached.",
            Self::SessionRegistered => "A host found sessions again.",
            Self::SessionSelected => "Somebody chose among the sessions of a token.",
            Self::InvitationMade => "An invitation to join was made.",
            Self::JoinRefused => "A server was not allowed to join.",
            Self::AccountLocked => "An account was locked after too many failed logins.",
            Self::DiskSpace => "A server's disk is full, or has room again.",
            Self::BackupsChanged => "The order of the backup primaries was changed.",
            Self::PrimaryResumed => {
                "The primary accepts changes again after a pause, without another having taken its place."
            }
            Self::AuthorityChanged => "The group's authority rotates, or has rotated.",
            Self::GroupPaused => "Automatic failover was paused for maintenance.",
            Self::GroupResumed => "A pause of automatic failover ended, by hand or by itself.",
            Self::ModeChanged => "The group is in quorum mode now, or in availability mode.",
            Self::FormationMade => "Servers went on in a formation of their own.",
            Self::FormationEntered => "A server left its formation for another.",
            Self::FormationHeld => {
                "A side of a split did not go on by itself, or formations that meet wait for an administrator."
            }
            Self::DivergenceKept => {
                "A formation gave way to another one, and what only it had changed was kept for somebody to decide on."
            }
            Self::DivergenceApplied => {
                "What a formation that gave way had changed was put in place of what there was."
            }
            Self::DivergenceDiscarded => "What a formation that gave way had is thrown away.",
            Self::GroupReset => "A server forgot its group and became one of its own.",
            Self::TokenChanged => "A token was registered, changed or taken out of the register.",
            Self::ServerDrained => "Nothing is left to be moved from a server that was drained.",
            Self::GatewayChanged => "A gateway was added, changed or removed.",
            Self::CertificateRenewed => "A server has new certificates.",
            Self::SecretRotated => "The secret between servers rotates, or has rotated.",
            Self::CertificateExpiring => {
                "A certificate that should have been renewed, an operator's, or the group's authority, ends within 30, 7 or 1 days, or has ended."
            }
            Self::BackendReachability => "A backend that a host checks accepts no more, or again.",
            Self::CertificateRevoked => {
                "The certificates that a server had are refused from now on; it gets others."
            }
            Self::CertificateChanged => {
                "An operator's certificate for an external name was put in, exchanged or taken out."
            }
            Self::StoredSecretChanged => "A stored credential was kept, changed or removed.",
            Self::ProfileChanged => "A profile was made, changed or removed.",
            Self::GroupRestored => "A group was made of a backup.",
            Self::SealKeyRotated => "The seal key and the ticket key change, or have changed.",
            Self::InvitationWithdrawn => "An invitation was taken back before anybody used it.",
            Self::AuthenticationReachability => {
                "LDAP servers or PAM, which check the passwords of users, cannot be asked from a server any more, or can again."
            }
        }
    }
}

/// Why something was decided, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The rule, a stable word (`reachable`, `on-backup-list`, `caught-up`).
    pub rule: String,
    /// Whether it speaks for the subject.
    pub pass: bool,
    /// In words, with figures.
    pub detail: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the journal, from 1; zero until it has one.
    pub seq: u64,
    /// When.
    pub at: UnixMillis,
    /// The server that saw it; absent where the group as a whole did.
    pub server: Option<ServerId>,
    /// What happened.
    pub kind: EventKind,
    /// How much it matters.
    pub severity: Severity,
    /// What it happened to: a server's, user's or application's name, a session's id.
    pub subject: String,
    /// Details by name.
    pub fields: Fields,
    /// Why.
    pub reasons: Vec<Reason>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_json() {
        for kind in EventKind::ALL {
            assert_eq!(
                serde_json::to_string(&kind).unwrap(),
                format!("\"{}\"", kind.as_str())
            );
            assert!(kind.help().ends_with('.'));
        }
        for severity in [Severity::Info, Severity::Warning, Severity::Error] {
            assert_eq!(
                serde_json::to_string(&severity).unwrap(),
                format!("\"{}\"", severity.as_str())
            );
        }
    }
}
