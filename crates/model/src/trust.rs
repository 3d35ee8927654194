//! The group's authority and the invitations that are open.
//!
//! Keys are sealed: the directory holds them only encrypted under a key that servers that may lead hold on disk.

use crate::id::{InvitationId, ServerId};
use crate::server::Standing;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

mod seal;

pub use seal::{
    FormerTickets, Resealed, SealChange, SealMark, SealPhase, SealRecord, SealRotation, TicketKeys,
};

/// Bytes that are encrypted, or a hash of a secret; not shown.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// The group's certificate authority and ticket key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// `sha256:HEX` of the certificate.
    pub fingerprint: String,
    /// Its private key, sealed.
    pub key: Sealed,
    /// The Ed25519 public key that tickets are checked with, 32 bytes.
    pub ticket_public: Vec<u8>,
    /// The private key that tickets are signed with, sealed.
    pub ticket_key: Sealed,
    /// When the authority's certificate expires.
    pub expires: UnixMillis,
}

/// Tells one authority from another: the first bytes of the fingerprint of its certificate.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct AuthorityMark(pub [u8; 16]);

impl fmt::Display for AuthorityMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Tells one key of a server from another: SHA-256 of the public key. The default stands for one that is not known.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct KeyMark(pub [u8; 32]);

/// The authorities that are accepted besides the one in force, or were before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// A server left that could open what the seal key seals; ends when another authority is introduced for that reason.
    pub exposed: Option<Exposed>,
    /// The rotation that is under way.
    pub rotation: Option<AuthorityRotation>,
    /// Those that are accepted no more, the newest first, [`Self::FORMER_LIMIT`] at most: with a certificate of theirs a server that was
    /// away may ask for another one, and for nothing else.
    pub former: Vec<FormerAuthority>,
}

impl Succession {
    /// How many authorities of before are remembered.
    pub const FORMER_LIMIT: usize = 3;

    /// The authority that servers accept besides the one in force.
    pub fn accepted(&self) -> Option<&AuthorityRotation> {
        let rotation = self.rotation.as_ref();
        rotation.filter(|rotation| rotation.phase != RotationPhase::Pinned)
    }
}

/// A server that left knows the authority's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposed {
    /// Its name.
    pub by: String,
    /// When it left.
    pub at: UnixMillis,
    /// The seal key that it had.
    pub seal: SealMark,
}

/// How far the rotation of the authority is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RotationPhase {
    /// The members learn to accept the next authority; the present one still issues.
    Introduced,
    /// The next authority is in force, and the members get certificates of it; the one before is still accepted.
    Issuing,
    /// It was taken back: the authority of before is in force again, and the one that was to come is accepted until nobody has
    /// certificates of it.
    Withdrawn,
    /// Servers do not accept the one before any more; clients that know only its fingerprint still get in.
    Pinned,
}

impl RotationPhase {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Introduced => "introduced",
            Self::Issuing => "issuing",
            Self::Withdrawn => "withdrawn",
            Self::Pinned => "pinned",
        }
    }
}

/// A rotation of the authority that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRotation {
    /// How far it is.
    pub phase: RotationPhase,
    /// Since when it is so far.
    pub since: UnixMillis,
    /// The authority that is not in force: the next one at first, the one before later.
    pub other: OtherAuthority,
    /// The next authority's certificate as the one before signed it (DER): whoever trusts that one can trust the next. There is none in
    /// the other direction: with it, whatever the one before issues would be trusted as long as the next one is.
    pub bridge: Vec<u8>,
    /// For how long after the next one came into force clients that know only the fingerprint of before get in, in milliseconds.
    pub clients_ms: u64,
    /// Until when these get in, once that is known.
    pub clients_until: Option<UnixMillis>,
    /// Whether it waits for members that are away. It does not where somebody who left knows the key of the one before.
    pub waits: bool,
    /// Why, in words; absent where somebody just wanted it.
    pub reason: Option<String>,
}

/// An authority that is not in force now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherAuthority {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// `sha256:HEX` of the certificate.
    pub fingerprint: String,
    /// Its private key, sealed; nothing once it cannot come into force again.
    pub key: Sealed,
    /// When its certificate expires.
    pub expires: UnixMillis,
}

/// An authority that is not accepted any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerAuthority {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// What leads from it to the one that came after it (DER); nothing where it was taken back.
    pub bridge: Vec<u8>,
    /// Since when it is not accepted.
    pub ended: UnixMillis,
}

/// A step of a rotation of the authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthorityChange {
    /// Another one is introduced.
    Begin {
        /// The next one.
        next: OtherAuthority,
        /// See [`AuthorityRotation::bridge`].
        bridge: Vec<u8>,
        /// How long after it came into force clients that know only the fingerprint of before get in, in milliseconds.
        clients_ms: u64,
        /// See [`AuthorityRotation::waits`].
        waits: bool,
        /// Why, in words; absent where somebody just wanted it.
        reason: Option<String>,
    },
    /// It goes on with the next step: `introduced`, `issuing`, `pinned`, over; or `withdrawn`, over.
    Advance {
        /// The fingerprint of [`AuthorityRotation::other`].
        other: String,
        /// How far it is.
        phase: RotationPhase,
        /// The members that have not confirmed, where somebody decided not to wait for them.
        unconfirmed: Vec<ServerId>,
    },
    /// It is taken back; possible while the one before is still accepted.
    Withdraw {
        /// Why, in words.
        reason: Option<String>,
    },
}

/// The group secret: which one is in force, and whether the one before is still accepted. The default stands for one that
/// nobody has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSecret {
    /// What tells it from others, and nothing about it.
    pub mark: SecretMark,
    /// The secret, sealed.
    pub sealed: Sealed,
    /// Since when it is in force.
    pub since: UnixMillis,
    /// Whether it rotates: the one before is accepted too, until every member has confirmed this one.
    pub rotating: bool,
    /// Whether members that are away are not waited for: somebody who left knows the one before. They fetch this one with it.
    pub hurried: bool,
}

/// Tells one group secret from another: the first bytes of a hash of it.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SecretMark(pub [u8; 16]);

impl fmt::Display for SecretMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As many digits as tell a handful of secrets apart.
        self.0
            .iter()
            .take(4)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A step of a rotation of the group secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretChange {
    /// Another one is in force from now on; the one before is accepted too.
    Begin {
        /// Its mark.
        mark: SecretMark,
        /// It, sealed.
        sealed: Sealed,
        /// Why, in words; absent where somebody just wanted it.
        reason: Option<String>,
        /// See [`GroupSecret::hurried`].
        hurried: bool,
    },
    /// The one before is not accepted any more, except to fetch this one.
    Finish {
        /// The mark of the one that is in force.
        mark: SecretMark,
        /// The members that have not confirmed it, where somebody decided not to wait for them.
        unconfirmed: Vec<ServerId>,
    },
}

/// An invitation to join, usable once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its id, part of the join code.
    pub id: InvitationId,
    /// The one-time secret, sealed: whoever admits must prove that it knows it too.
    pub secret: Sealed,
    /// What the joining server will be.
    pub standing: Standing,
    /// When it was made.
    pub made: UnixMillis,
    /// When it stops being valid.
    pub expires: UnixMillis,
    /// Who made it.
    pub by: String,
    /// The name of the server that used it, once one has.
    pub used_by: Option<String>,
}
