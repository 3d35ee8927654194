//! Sealing: what the directory stores of the authority's key and the ticket key, readable only by servers
//! that hold the seal key.
//!
//! AES-256-GCM under a random nonce. What a sealed text is for is part of its authentication, so that one
//! cannot be put in another's place. Layout: version (1 byte, [`VERSION`]), nonce (12), ciphertext and tag.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use model::GroupId;
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The version of the layout, the first byte of every sealed text.
pub const VERSION: u8 = 1;

/// The most bytes that are sealed in one piece.
pub const SEALED_LIMIT: usize = 64 * 1024;

const TAG_LEN: usize = 16;

/// What a sealed text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// The private key of the group's authority.
    AuthorityKey,
    /// The private key that tickets are signed with.
    TicketKey,
    /// The one-time secret of an invitation.
    Invitation,
    /// A stored credential.
    StoredSecret,
    /// The group secret.
    GroupSecret,
    /// The private key of an operator's certificate.
    ExternalKey,
}

impl Sealing {
    fn label(self) -> &'static str {
        match self {
            Self::AuthorityKey => "authority-key",
            Self::TicketKey => "ticket-key",
            Self::Invitation => "invitation",
            Self::StoredSecret => "stored-secret",
            Self::GroupSecret => "group-secret",
            Self::ExternalKey => "external-key",
        }
    }
}

impl fmt::Display for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The key that seals, 32 bytes; wiped when dropped, not shown.
#[derive(Clone)]
pub struct SealKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(not shown)")
    }
}

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The system gave no randomness, or the library refused.
    #[error("sealing of the {what} failed")]
    Seal {
        /// What was to be sealed.
        what: Sealing,
        /// From the library.
        #[source]
        source: Unspecified,
    },
    /// More than [`SEALED_LIMIT`] bytes.
    #[error("the {what} has {length} bytes, more than {SEALED_LIMIT}")]
    TooLong {
        /// What was to be sealed or opened.
        what: Sealing,
        /// Its length in bytes.
        length: usize,
    },
    /// A layout that this version does not know.
    #[error("the sealed {what} is of version {version}, which this version of stead does not know")]
    Version {
        /// What was to be opened.
        what: Sealing,
        /// The version found.
        version: u8,
    },
    /// Damaged, sealed under another key, for another group or for another purpose.
    #[error("the sealed {what} is damaged or was sealed under another key")]
    Damaged {
        /// What was to be opened.
        what: Sealing,
    },
}

impl SealKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn make() -> Result<Self, Unspecified> {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// Wraps a key that was stored or received.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The key itself, secret.
    pub fn as_bytes(&self) -> &Zeroizing<[u8; 32]> {
        &self.0
    }

    /// Seals `secret` for `group`.
    ///
    /// # Errors
    /// When it is too long or the system has no randomness to give.
    pub fn seal(&self, what: Sealing, group: GroupId, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        if secret.len() > SEALED_LIMIT {
            return Err(SealError::TooLong {
                what,
                length: secret.len(),
            });
        }
        let failed = |source| SealError::Seal { what, source };
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*self.0).map_err(failed)?;
        // Room for the tag from the start, so that no copy of the secret is left behind by growing.
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + TAG_LEN));
        text.extend_from_slice(secret);
        let nonce = key
            .seal_in_place_append_tag(Aad::from(associated(what, group)), &mut *text)
            .map_err(failed)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made for the same purpose and group.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn open(
        &self,
        what: Sealing,
        group: GroupId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let damaged = || SealError::Damaged { what };
        if sealed.len() > 1 + NONCE_LEN + SEALED_LIMIT + TAG_LEN {
            return Err(SealError::TooLong {
                what,
                length: sealed.len(),
            });
        }
        let (&version, rest) = sealed.split_first().ok_or_else(damaged)?;
        if version != VERSION {
            return Err(SealError::Version { what, version });
        }
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*self.0).map_err(|_| damaged())?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = key
            .open_in_place(nonce, Aad::from(associated(what, group)), &mut text)
            .map_err(|_| damaged())?
            .len();
        if let Some(tail) = text.get_mut(length..) {
            tail.zeroize();
        }
        text.truncate(length);
        Ok(text)
    }
}

fn associated(what: Sealing, group: GroupId) -> Vec<u8> {
    let mut bytes = format!("stead seal {VERSION} {} ", what.label()).into_bytes();
    bytes.extend_from_slice(group.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::from_bytes([3; 16]);

    #[test]
    fn what_was_sealed_is_opened_and_nothing_else() {
        let key = SealKey::make().unwrap();
        for length in [0, 1, 138, SEALED_LIMIT] {
            let secret = vec![0x5a; length];
            let sealed = key.seal(Sealing::AuthorityKey, GROUP, &secret).unwrap();
            assert_eq!(
                *key.open(Sealing::AuthorityKey, GROUP, &sealed).unwrap(),
                secret
            );
        }
        let sealed = key.seal(Sealing::AuthorityKey, GROUP, b"a secret").unwrap();
        assert!(!sealed.windows(8).any(|window| window == b"a secret"));
        assert_ne!(
            sealed,
            key.seal(Sealing::AuthorityKey, GROUP, b"a secret").unwrap()
        );
        let other_group = GroupId::from_bytes([4; 16]);
        assert!(key.open(Sealing::TicketKey, GROUP, &sealed).is_err());
        assert!(
            key.open(Sealing::AuthorityKey, other_group, &sealed)
                .is_err()
        );
        assert!(
            SealKey::make()
                .unwrap()
                .open(Sealing::AuthorityKey, GROUP, &sealed)
                .is_err()
        );
    }

    #[test]
    fn every_damage_is_noticed() {
        let key = SealKey::make().unwrap();
        let sealed = key.seal(Sealing::TicketKey, GROUP, b"a secret").unwrap();
        for position in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[position] ^= 1;
            assert!(
                key.open(Sealing::TicketKey, GROUP, &damaged).is_err(),
                "byte {position}"
            );
            assert!(
                key.open(Sealing::TicketKey, GROUP, &sealed[..position])
                    .is_err()
            );
        }
        let mut newer = sealed.clone();
        newer[0] = 2;
        assert!(matches!(
            key.open(Sealing::TicketKey, GROUP, &newer),
            Err(SealError::Version { version: 2, .. })
        ));
        assert!(matches!(
            key.seal(Sealing::TicketKey, GROUP, &vec![0; SEALED_LIMIT + 1]),
            Err(SealError::TooLong { .. })
        ));
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(
            format!("{:?}", SealKey::make().unwrap()),
            "SealKey(not shown)"
        );
    }
}
