//! The group's authority and the invitations that are open.
//!
//! Keys are sealed: the directory holds them only encrypted under a key that servers that may lead hold on disk.

use crate::id::{InvitationId, ServerId};
use crate::server::Standing;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

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
