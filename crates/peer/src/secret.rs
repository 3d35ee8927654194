//! The group secret and one-time secrets: proved, never sent, never shown.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use std::fmt;
use zeroize::Zeroizing;

/// 32 secret bytes; wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// Draws a new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn make() -> Result<Self, Unspecified> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// Wraps one that was stored or received.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, secret.
    pub fn as_bytes(&self) -> &Zeroizing<[u8; 32]> {
        &self.0
    }

    /// HMAC-SHA256 of these parts, in this order, each of fixed length.
    pub(crate) fn prove(&self, parts: &[&[u8]]) -> [u8; 32] {
        prove(&*self.0, parts)
    }

    /// Whether `proof` is what [`Self::prove`] gives, compared in constant time.
    pub(crate) fn proved(&self, parts: &[&[u8]], proof: &[u8; 32]) -> bool {
        proved(&*self.0, parts, proof)
    }
}

/// HMAC-SHA256 under a secret of these parts, in this order, each of fixed length.
pub(crate) fn prove(secret: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    parts.iter().for_each(|part| context.update(part));
    let mut proof = [0; 32];
    proof.copy_from_slice(context.sign().as_ref());
    proof
}

/// Whether `proof` is what [`prove`] gives, compared in constant time.
pub(crate) fn proved(secret: &[u8], parts: &[&[u8]], proof: &[u8; 32]) -> bool {
    verify_slices_are_equal(&prove(secret, parts), proof).is_ok()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

/// The group secret as a server knows it: the one in force and, while it rotates, the one before.
#[derive(Debug, Clone)]
pub struct GroupSecrets {
    /// The one that this server proves.
    pub current: Secret,
    /// The one that is still accepted while not every member has confirmed the current one.
    pub previous: Option<Secret>,
}

impl GroupSecrets {
    /// A secret without a predecessor.
    pub fn only(current: Secret) -> Self {
        Self {
            current,
            previous: None,
        }
    }
}
