//! The group's authority and the invitations that are open.
//!
//! Keys are sealed: the directory holds them only encrypted under a key that servers that may lead hold on disk.

use crate::id::InvitationId;
use crate::server::Standing;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes that are encrypted, or a hash of a secret; not shown.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
