//! The group secret and one-time secrets: proved, never sent, never shown.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use model::SecretMark;
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

    /// What tells it from others.
    pub fn mark(&self) -> SecretMark {
        let proof = self.prove(&[b"stead secret mark 1"]);
        let mut mark = [0; 16];
        mark.copy_from_slice(&proof[..16]);
        SecretMark(mark)
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

/// How many secrets that were in force before a server remembers.
pub const OLD_SECRETS: usize = 8;

/// The group secret as a server knows it: the one in force, while it rotates the one before, and older ones.
#[derive(Debug, Clone)]
pub struct GroupSecrets {
    /// The one that this server proves.
    pub current: Secret,
    /// The one that is still accepted while not every member has confirmed the current one.
    pub previous: Option<Secret>,
    /// Older ones, the newest first, [`OLD_SECRETS`] at most: whoever proves one may fetch the current one, and nothing else.
    pub old: Vec<Secret>,
}

impl GroupSecrets {
    /// A secret without a predecessor.
    pub fn only(current: Secret) -> Self {
        Self {
            current,
            previous: None,
            old: Vec::new(),
        }
    }

    /// Takes another one into use; the one that was in force is still accepted.
    pub fn adopt(&mut self, current: Secret) {
        if self.current.mark() == current.mark() {
            return;
        }
        let before = std::mem::replace(&mut self.current, current);
        if let Some(older) = self.previous.replace(before) {
            self.retire(older);
        }
        self.forget_current();
    }

    /// The one before is not accepted any more. Says whether there was one.
    pub fn settle(&mut self) -> bool {
        let before = self.previous.take();
        let was = before.is_some();
        before.into_iter().for_each(|before| self.retire(before));
        self.forget_current();
        was
    }

    fn retire(&mut self, secret: Secret) {
        self.old.retain(|old| old.mark() != secret.mark());
        self.old.insert(0, secret);
        self.old.truncate(OLD_SECRETS);
    }

    /// One that was in force before may be again.
    fn forget_current(&mut self) {
        let current = self.current.mark();
        self.old.retain(|old| old.mark() != current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(bytes: impl IntoIterator<Item = u8>) -> Vec<Secret> {
        let secret = |byte| Secret::from_bytes(Zeroizing::new([byte; 32]));
        bytes.into_iter().map(secret).collect()
    }

    fn marks<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Vec<SecretMark> {
        secrets.into_iter().map(Secret::mark).collect()
    }

    #[test]
    fn the_one_before_is_accepted_until_it_is_settled() {
        let all = secrets(0..20);
        let mut known = GroupSecrets::only(all[0].clone());
        assert!(!known.settle());
        known.adopt(all[0].clone());
        assert!(known.previous.is_none(), "it was in force already");
        known.adopt(all[1].clone());
        assert_eq!(marks(&known.previous), marks(&all[..1]));
        assert!(known.old.is_empty());
        // Another one before all had the last.
        known.adopt(all[2].clone());
        assert_eq!(marks(&known.previous), marks(&all[1..2]));
        assert_eq!(marks(&known.old), marks(&all[..1]));
        assert!(known.settle());
        assert_eq!(marks(&known.old), marks([&all[1], &all[0]]));
        // Back to an old one.
        known.adopt(all[0].clone());
        assert_eq!(marks([&known.current]), marks(&all[..1]));
        assert_eq!(marks(&known.old), marks(&all[1..2]));
        for next in &all[3..] {
            known.adopt(next.clone());
        }
        assert_eq!(known.old.len(), OLD_SECRETS);
        assert!(!format!("{known:?}").contains("18"), "{known:?}");
    }
}
