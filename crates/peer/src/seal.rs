//! Sealing: what the directory stores of the authority's key, the ticket key and stored credentials, readable only by servers
//! that hold the seal key.
//!
//! AES-256-GCM under a random nonce. What a sealed text is for is part of its authentication, so that one
//! cannot be put in another's place. Layout: version (1 byte, [`VERSION`]), mark of the key (16), nonce (12), ciphertext and tag.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use model::trust::Sealed;
use model::{GroupId, SealMark};
use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The version of the layout, the first byte of every sealed text.
pub const VERSION: u8 = Sealed::VERSION;

/// The most bytes that are sealed in one piece.
pub const SEALED_LIMIT: usize = 64 * 1024;

const TAG_LEN: usize = 16;
/// How many seal keys of before are kept: what a server says that was away may be sealed under them.
const FORMER_KEYS: usize = 4;
/// The most seal keys that a server has.
pub const KEYS_LIMIT: usize = 64;

/// What a sealed text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// The private key of the group's authority.
    AuthorityKey,
    /// The private key that tickets are signed with.
    TicketKey,
    /// The one-time secret of an invitation.
    Invitation,
    /// A stored credential, bound to its name ([`SealKey::seal_named`]).
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
    /// Sealed under a key that is not here.
    #[error("the {what} is sealed under seal key {mark}, which this server does not have")]
    OtherKey {
        /// What was to be opened.
        what: Sealing,
        /// The key.
        mark: SealMark,
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

    /// What tells it from others, and nothing about it.
    pub fn mark(&self) -> SealMark {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.0);
        let tag = hmac::sign(&key, b"stead seal key mark 1");
        let mark = tag.as_ref().first_chunk();
        SealMark(*mark.expect("invariant: SHA-256 has 32 bytes"))
    }

    /// Seals `secret` for `group`.
    ///
    /// # Errors
    /// When it is too long or the system has no randomness to give.
    pub fn seal(&self, what: Sealing, group: GroupId, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal_named(what, (group, ""), secret)
    }

    /// Seals `secret` for `group` under a name, without which it does not open: none of several can be put in another's place.
    ///
    /// # Errors
    /// When it is too long or the system has no randomness to give.
    pub fn seal_named(
        &self,
        what: Sealing,
        (group, name): (GroupId, &str),
        secret: &[u8],
    ) -> Result<Vec<u8>, SealError> {
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
            .seal_in_place_append_tag(Aad::from(associated(what, group, name)), &mut *text)
            .map_err(failed)?;
        let mut sealed = Vec::with_capacity(Sealed::HEADER + text.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.mark().0);
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
        self.open_named(what, (group, ""), sealed)
    }

    /// Opens what [`Self::seal_named`] made for the same purpose, group and name.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn open_named(
        &self,
        what: Sealing,
        (group, name): (GroupId, &str),
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let damaged = || SealError::Damaged { what };
        if sealed.len() > Sealed::HEADER + SEALED_LIMIT + TAG_LEN {
            return Err(SealError::TooLong {
                what,
                length: sealed.len(),
            });
        }
        let (&version, rest) = sealed.split_first().ok_or_else(damaged)?;
        if version != VERSION {
            return Err(SealError::Version { what, version });
        }
        let (mark, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let mark = SealMark(*mark);
        if mark != self.mark() {
            return Err(SealError::OtherKey { what, mark });
        }
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &*self.0).map_err(|_| damaged())?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = key
            .open_in_place(nonce, Aad::from(associated(what, group, name)), &mut text)
            .map_err(|_| damaged())?
            .len();
        if let Some(tail) = text.get_mut(length..) {
            tail.zeroize();
        }
        text.truncate(length);
        Ok(text)
    }
}

/// The seal keys that a server has: the newest first, each once.
#[derive(Debug, Clone, Default)]
pub struct SealKeys(Vec<SealKey>);

impl SealKeys {
    /// One key and no others.
    pub fn only(key: SealKey) -> Self {
        Self(vec![key])
    }

    /// As they were stored, the newest first.
    pub fn from_keys(keys: impl IntoIterator<Item = SealKey>) -> Self {
        let mut found = Self::default();
        for key in keys {
            if found.get(key.mark()).is_none() {
                found.0.push(key);
            }
        }
        found
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &SealKey> {
        self.0.iter()
    }

    /// What tells them from others.
    pub fn marks(&self) -> Vec<SealMark> {
        self.iter().map(SealKey::mark).collect()
    }

    /// The one with that mark.
    pub fn get(&self, mark: SealMark) -> Option<&SealKey> {
        self.iter().find(|key| key.mark() == mark)
    }

    /// The one in force; the newest where it is not known which that is.
    pub fn in_force(&self, mark: SealMark) -> Option<&SealKey> {
        match mark == SealMark::default() {
            true => self.0.first(),
            false => self.get(mark),
        }
    }

    /// Another key. Of those that are not `needed`, a few are kept.
    pub fn add(&mut self, key: SealKey, needed: &[SealMark]) {
        let mark = key.mark();
        self.0.retain(|other| other.mark() != mark);
        self.0.insert(0, key);
        let mut spare = 0;
        self.0.retain(|other| {
            let mark_of = other.mark();
            let needed = mark_of == mark || needed.contains(&mark_of);
            spare += usize::from(!needed);
            needed || spare <= FORMER_KEYS
        });
        self.0.truncate(KEYS_LIMIT);
    }

    /// Opens what one of them sealed for the same purpose and group.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn open(
        &self,
        what: Sealing,
        group: GroupId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.open_named(what, (group, ""), sealed)
    }

    /// Opens what one of them sealed for the same purpose, group and name.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn open_named(
        &self,
        what: Sealing,
        of: (GroupId, &str),
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mark = sealed
            .get(1..=SealMark::LEN)
            .and_then(|it| it.try_into().ok());
        let mark = SealMark(mark.ok_or(SealError::Damaged { what })?);
        match (self.get(mark), sealed.first()) {
            (Some(key), _) => key.open_named(what, of, sealed),
            (None, Some(&version)) if version != VERSION => {
                Err(SealError::Version { what, version })
            }
            (None, _) => Err(SealError::OtherKey { what, mark }),
        }
    }
}

fn associated(what: Sealing, group: GroupId, name: &str) -> Vec<u8> {
    let mut bytes = format!("stead seal {VERSION} {} ", what.label()).into_bytes();
    bytes.extend_from_slice(group.as_bytes());
    // The last part, so that no other name gives the same bytes.
    bytes.extend_from_slice(name.as_bytes());
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
    fn one_named_thing_does_not_open_in_the_place_of_another() {
        let key = SealKey::make().unwrap();
        let what = Sealing::StoredSecret;
        let sealed = key.seal_named(what, (GROUP, "mail"), b"a secret").unwrap();
        let open = |name| key.open_named(what, (GROUP, name), &sealed);
        assert_eq!(**open("mail").unwrap(), b"a secret"[..]);
        assert!(open("mai").is_err() && open("").is_err() && open("mails").is_err());
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
        newer[0] = VERSION + 1;
        assert!(matches!(
            key.open(Sealing::TicketKey, GROUP, &newer),
            Err(SealError::Version { version, .. }) if version == VERSION + 1
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

    #[test]
    fn whichever_key_sealed_opens() {
        let keys: Vec<_> = (0..3).map(|_| SealKey::make().unwrap()).collect();
        let mut held = SealKeys::only(keys[0].clone());
        held.add(keys[1].clone(), &[]);
        let of = |key: &SealKey| key.seal(Sealing::TicketKey, GROUP, b"a secret").unwrap();
        for key in &keys[..2] {
            let sealed = of(key);
            assert_eq!(Sealed(sealed.clone()).mark(), Some(key.mark()));
            let opened = held.open(Sealing::TicketKey, GROUP, &sealed).unwrap();
            assert_eq!(**opened, b"a secret"[..]);
            assert!(held.open(Sealing::Invitation, GROUP, &sealed).is_err());
        }
        let error = held.open(Sealing::TicketKey, GROUP, &of(&keys[2]));
        let mark = keys[2].mark();
        assert!(matches!(error, Err(SealError::OtherKey { mark: of, .. }) if of == mark));
        for bytes in [&[][..], &[VERSION; 16], &[VERSION; 17], &[1; 40]] {
            assert!(held.open(Sealing::TicketKey, GROUP, bytes).is_err());
        }
    }

    #[test]
    fn keys_that_something_needs_are_kept_and_a_few_others() {
        let keys: Vec<_> = (0..9).map(|_| SealKey::make().unwrap()).collect();
        let mut held = SealKeys::only(keys[0].clone());
        for key in &keys[1..] {
            held.add(key.clone(), &[keys[0].mark()]);
        }
        let kept = [8, 7, 6, 5, 4, 0].map(|place: usize| keys[place].mark());
        assert_eq!(held.marks(), kept);
        held.add(keys[5].clone(), &[]);
        assert_eq!(held.marks()[0], keys[5].mark());
        assert!(held.in_force(keys[0].mark()).is_none(), "nothing needs it");
        let newest = held.in_force(SealMark::default()).unwrap();
        assert_eq!(newest.mark(), keys[5].mark());
    }
}
