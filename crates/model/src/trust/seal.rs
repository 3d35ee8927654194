//! The key that seals what the directory must not show: which one is in force, and how far it is that another takes its place.

use super::Sealed;
use crate::id::ServerId;
use crate::sealed::SealedAt;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Tells one seal key from another: the first bytes of a hash of it. The default stands for one that is not known.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SealMark(pub [u8; SealMark::LEN]);

impl SealMark {
    /// Its length in bytes.
    pub const LEN: usize = 16;
}

impl fmt::Display for SealMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As many digits as tell a handful of keys apart.
        self.0
            .iter()
            .take(4)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Sealed {
    /// The version of the layout, its first byte; then come the mark of the key, a nonce and the ciphertext.
    pub const VERSION: u8 = 2;
    /// The bytes of a nonce.
    const NONCE: usize = 12;
    /// The bytes before the ciphertext.
    pub const HEADER: usize = 1 + SealMark::LEN + Self::NONCE;

    /// Under which key it is sealed; nothing where it is empty or of another layout.
    pub fn mark(&self) -> Option<SealMark> {
        let (version, rest) = self.0.split_first()?;
        let mark = rest.first_chunk::<{ SealMark::LEN }>()?;
        (*version == Self::VERSION).then_some(SealMark(*mark))
    }

    /// What no two sealed texts have in common, or all of a short one.
    pub fn header(&self) -> &[u8] {
        self.0.get(..Self::HEADER).unwrap_or(&self.0)
    }
}

/// Which key seals, and what was before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRecord {
    /// The key in force.
    pub mark: SealMark,
    /// Since when.
    pub since: UnixMillis,
    /// The change of it that is under way.
    pub rotation: Option<SealRotation>,
    /// The ticket key before the one in force, as long as its tickets hold.
    pub tickets: Option<FormerTickets>,
}

impl SealRecord {
    /// Whether something may be sealed under this key now. One that is in force no more is allowed as long as the change is under way:
    /// what is sealed under it is sealed anew before that ends.
    pub fn allows(&self, sealed: &Sealed) -> bool {
        let other = self.rotation.as_ref().map(|rotation| rotation.other);
        let marks = sealed.mark();
        self.mark == SealMark::default()
            || sealed.0.is_empty()
            || marks.is_some_and(|mark| mark == self.mark || Some(mark) == other)
    }

    /// The key of tickets before the one in force, where its tickets hold at that time.
    pub fn former_tickets(&self, now: UnixMillis) -> Option<&FormerTickets> {
        self.tickets.as_ref().filter(|former| now < former.until)
    }
}

/// How far a change of the seal key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SealPhase {
    /// The servers that may lead fetch the next one from each other.
    Introduced,
    /// It is in force, with a ticket key of its own; what the one before sealed is sealed anew.
    Sealing,
}

impl SealPhase {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Introduced => "introduced",
            Self::Sealing => "sealing",
        }
    }
}

/// A change of the seal key that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRotation {
    /// How far it is.
    pub phase: SealPhase,
    /// Since when it is so far.
    pub since: UnixMillis,
    /// The key that is not in force: the next one at first, then the one before.
    pub other: SealMark,
    /// Whether it waits for members that are away. It does not where somebody who left knows the key.
    pub waits: bool,
    /// Why, in words; absent where somebody just wanted it.
    pub reason: Option<String>,
}

/// The ticket key before the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerTickets {
    /// The public key, as in [`super::Authority::ticket_public`].
    pub public: Vec<u8>,
    /// Until when clients that show a ticket of it get one of the key in force.
    pub until: UnixMillis,
}

/// A ticket key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKeys {
    /// As in [`super::Authority::ticket_public`].
    pub public: Vec<u8>,
    /// As in [`super::Authority::ticket_key`].
    pub key: Sealed,
}

/// Something that is sealed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    /// Where it is.
    pub at: SealedAt,
    /// The [`Sealed::header`] of what it takes the place of: something else that came meanwhile stays.
    pub before: Vec<u8>,
    /// The same, sealed under the key in force.
    pub sealed: Sealed,
}

/// A step of a change of the seal key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealChange {
    /// Another one is introduced; also in place of one that was, and that nobody has.
    Begin {
        /// Its mark.
        next: SealMark,
        /// See [`SealRotation::waits`].
        waits: bool,
        /// Why, in words; absent where somebody just wanted it.
        reason: Option<String>,
    },
    /// The next one is in force.
    Seal {
        /// Its mark.
        next: SealMark,
        /// The ticket key that is in force with it.
        tickets: TicketKeys,
        /// For how long tickets of the one before hold, in milliseconds.
        overlap_ms: u64,
        /// The members that may lead and do not have it yet: those that are not waited for.
        unconfirmed: Vec<ServerId>,
    },
    /// What another key sealed is sealed under the one in force.
    Again {
        /// What, [`SealChange::AGAIN`] at most.
        values: Vec<Resealed>,
    },
    /// The change is over: whatever can be opened is sealed under the key in force.
    Finish {
        /// The key that was before.
        before: SealMark,
        /// How much is still sealed under keys that nobody has.
        lost: u32,
    },
}

impl SealChange {
    /// The most values of one step.
    pub const AGAIN: usize = 64;
}
