//! The group's shape, trust and logging in.

use super::records::Password;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// A member, as the group's list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// `voter`, `non-voter` or `witness`: what it was asked to be.
    pub standing: String,
    /// Whether it counts towards the quorum now.
    pub voter: bool,
    /// Its place among the backup primaries, from 1; absent when it is not one.
    pub backup: Option<u32>,
    /// Whether the answering server hears it.
    pub reachable: bool,
    /// Where other servers reach it.
    pub peer_address: String,
    /// Where clients and administrators reach it.
    pub client_address: String,
    /// When it joined.
    pub joined: String,
}

/// Asks for an invitation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InvitationRequest {
    /// What the server will be: `voter` (when absent), `non-voter` or `witness`.
    pub standing: Option<String>,
}

/// An invitation. The code is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// What `stead join` takes on the new server. Whoever has it can join.
    pub code: String,
    /// When it stops being valid.
    pub expires: String,
    /// What the server will be.
    pub standing: String,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation")
            .field("expires", &self.expires)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// Makes a server the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromotionRequest {
    /// Which server.
    pub server: String,
    /// Why, in words; kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
    /// Whether the original primary stays the original one, and takes over again by itself.
    #[serde(default)]
    pub temporary: bool,
}

/// A backup primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    /// Which server.
    pub name: String,
    /// Its place on the list, from 1.
    pub place: u32,
    /// Whether it is the original primary: the first of the list.
    pub original: bool,
    /// Whether it is primary now.
    pub primary: bool,
    /// Whether it was heard within the grace period.
    pub reachable: bool,
    /// Whether it counts towards the quorum now.
    pub voter: bool,
}

/// Puts a server on the list of backup primaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupAddition {
    /// Which server.
    pub server: String,
    /// Where, from 1; last when absent.
    #[serde(default)]
    pub place: Option<u32>,
    /// Why, in words; kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Gives a server of the list another place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupMove {
    /// Where it stands afterwards, from 1.
    pub place: u32,
    /// Why, in words; kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What came of a planned change of primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Promotion {
    /// Who was primary.
    pub from: Option<String>,
    /// Who is now.
    pub to: String,
    /// How long changes waited; absent when nothing had to be done.
    pub outage_ms: Option<u64>,
}

/// What a change of the group's shape would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// What is planned, in words.
    pub what: String,
    /// Whether every check passes.
    pub allowed: bool,
    /// What would be done, step by step; empty where it would be refused.
    pub steps: Vec<String>,
    /// Everything that was checked.
    pub checks: Vec<PlanCheck>,
    /// The checks that refuse it, in words with what to do.
    pub refusals: Vec<String>,
    /// How many sessions go on where they are.
    pub sessions_kept: u64,
    /// How many move to another server.
    pub sessions_moved: u64,
    /// How many end.
    pub sessions_lost: u64,
    /// The first of those that move.
    pub moved: Vec<PlannedSession>,
    /// The first of those that end.
    pub lost: Vec<PlannedSession>,
    /// How long changes are expected to wait.
    pub outage_ms: u64,
    /// How many more servers, whichever they are, the group could lose afterwards.
    pub can_lose: u32,
    /// The same in words.
    pub afterwards: String,
    /// What should be changed then.
    pub warnings: Vec<String>,
}

/// A session that a plan does something to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedSession {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub token: String,
    /// Who logged in.
    pub user: String,
    /// What it runs.
    pub app: String,
    /// Where it is in its life.
    pub state: String,
}

/// Something that was checked for a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanCheck {
    /// The rule, a stable word.
    pub rule: String,
    /// Whether it allows the plan.
    pub pass: bool,
    /// In words, with figures.
    pub detail: String,
}

/// The group's authority and what it has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trust {
    /// The group's name.
    pub group: String,
    /// The group's id.
    pub group_id: String,
    /// `sha256:HEX` of the authority's certificate; what `--ca` takes.
    pub ca_fingerprint: String,
    /// When the authority's certificate expires.
    pub ca_expires: String,
    /// How far the authority's rotation is; absent where it does not rotate.
    pub rotation: Option<RotationState>,
    /// The secret that servers prove to each other.
    pub secret: SecretState,
    /// The servers' peer certificates.
    pub certificates: Vec<Certificate>,
    /// Invitations that can still be used.
    pub invitations: Vec<OpenInvitation>,
    /// The operator's certificates, by the names that clients ask for.
    #[serde(default)]
    pub external_certificates: Vec<super::ExternalCertificate>,
    /// The key that seals what the directory must not show.
    #[serde(default)]
    pub seal: SealState,
}

/// Which key seals, by its mark; never shown itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealState {
    /// What tells the one in force from others.
    pub key: String,
    /// Since when it is in force.
    pub since: String,
    /// `introduced`: servers that may lead fetch the next one. `sealing`: it is in force, and what the one before sealed is sealed anew.
    /// Absent where it does not change.
    pub phase: Option<String>,
    /// Members that may lead and do not have the next one, or the one in force, as far as the answering server knows.
    pub unconfirmed: Vec<String>,
    /// Until when tickets hold that the ticket key before signed; absent where they do not.
    pub former_tickets_until: Option<String>,
}

/// Has another key seal.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SealRotation {
    /// Why, in words.
    pub reason: Option<String>,
    /// Puts the one in force that was introduced, whoever has not fetched it.
    pub finish: bool,
}

/// How far the rotation of the group's authority is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotationState {
    /// `introduced`: members learn to accept the next authority. `issuing`: it is in force, and members get certificates of it.
    /// `pinned`: servers do not accept the one before any more, clients that know only its fingerprint still get in.
    /// `withdrawn`: it was taken back, and members get certificates of the one of before again.
    pub phase: String,
    /// Since when it is so far.
    pub since: String,
    /// `sha256:HEX` of the authority that is not in force: the next one while it is introduced, later the one before.
    pub other_fingerprint: String,
    /// Members that have not confirmed the phase, as far as the answering server knows.
    pub unconfirmed: Vec<String>,
    /// Until when clients get in that know only the fingerprint of before; absent until that is known.
    pub clients_until: Option<String>,
    /// Why it rotates, in words.
    pub reason: Option<String>,
    /// Clients and programs that came with a fingerprint of before lately.
    pub pinned: Vec<PinnedClient>,
}

/// A client or program that knows the group by the fingerprint of an authority of before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinnedClient {
    /// Who: an account, or a client's program.
    pub name: String,
    /// From where.
    pub from: String,
    /// To which server it came.
    pub server: String,
    /// When it last did.
    pub at: String,
    /// `sha256:` and the first half of the fingerprint that it knows.
    pub fingerprint: String,
}

/// Rotates the group's authority, or goes on with that, or takes it back.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthorityRotation {
    /// Why, in words.
    pub reason: Option<String>,
    /// For how long clients that know only the fingerprint of before get in, in seconds; `trust.client-overlap` when absent.
    pub clients_s: Option<u64>,
    /// Ends the phase that is under way instead, whoever has not confirmed it.
    pub finish: bool,
    /// Takes the rotation back instead.
    pub back: bool,
}

/// Has a server get other certificates, and refuses those that it has.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Revocation {
    /// Why, in words.
    pub reason: Option<String>,
}

/// The secret that servers prove to each other on top of their certificates; never shown itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretState {
    /// Since when the one in force is.
    pub since: String,
    /// Whether it rotates: the one before is accepted too, until all members have confirmed the one in force.
    pub rotating: bool,
    /// Members that have not confirmed the one in force, as far as the answering server knows.
    pub unconfirmed: Vec<String>,
}

/// Has the group prove another secret.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretRotation {
    /// Why, in words.
    pub reason: Option<String>,
    /// Ends the rotation that is under way instead, whoever has not confirmed the secret in force.
    pub finish: bool,
}

/// A server's peer certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Certificate {
    /// Whose.
    pub name: String,
    /// When it expires.
    pub expires: String,
    /// Whether it is refused until its server has another.
    pub revoked: bool,
}

/// An invitation that can still be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpenInvitation {
    /// Its id.
    pub id: String,
    /// What the server will be.
    pub standing: String,
    /// Who made it.
    pub by: String,
    /// When it stops being valid.
    pub expires: String,
}

/// Logs an administrator in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The account.
    pub user: String,
    /// Its password.
    pub password: Password,
}

/// A login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Login {
    /// Who.
    pub user: String,
    /// What the account may do.
    pub role: String,
    /// For `Authorization: Bearer`.
    pub token: String,
    /// When it stops being valid.
    pub expires: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("role", &self.role)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
