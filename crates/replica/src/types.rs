//! The types that consensus is made of here: a change travels and is stored as the bytes that its proposer encoded.
//!
//! Always true: the bytes of a [`Proposal`] begin with their version, and are never changed on the way, so that every
//! server applies the same.

use crate::runtime::ConsensusRuntime;
use bytes::Bytes;
use model::{Change, ChangeName, Outcome, Refusal, ServerId};
use serde::{Deserialize, Serialize};
use std::fmt;

openraft::declare_raft_types!(
    /// What openraft is told of our types.
    pub Consensus:
        D = Proposal,
        R = Reply,
        NodeId = ServerId,
        Node = openraft::EmptyNode,
        AsyncRuntime = ConsensusRuntime,
);

/// The term and server of a leader, as it is part of each log id.
pub(crate) type LeaderId = openraft::type_config::alias::CommittedLeaderIdOf<Consensus>;
/// The place of an entry: leader and number.
pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Consensus>;
/// An entry of the log.
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Consensus>;
/// What a server promised to whom.
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Consensus>;
/// Who counts, and which entry said so.
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Consensus>;
/// Who counts.
pub(crate) type Membership = openraft::Membership<ServerId, openraft::EmptyNode>;
/// What a snapshot is called and what it holds.
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Consensus>;

/// The largest change, encoded, in bytes.
pub const MAX_CHANGE: usize = 1 << 20;

/// The first byte of every encoded change.
const CHANGE_VERSION: u8 = 1;

/// Why bytes are not a change, or a change cannot become bytes.
#[derive(Debug, thiserror::Error)]
pub enum ChangeCodecError {
    /// It was written by a newer version of this software.
    #[error(
        "the change has version {0}, this server knows version {CHANGE_VERSION}; update this server"
    )]
    Version(u8),
    /// There is nothing.
    #[error("the change is empty")]
    Empty,
    /// It has more than [`MAX_CHANGE`] bytes.
    #[error("the change has {0} bytes, more than {MAX_CHANGE}")]
    TooLarge(usize),
    /// The rest is no change.
    #[error("the change cannot be read")]
    Postcard(#[from] postcard::Error),
}

/// An encoded change.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(Bytes);

impl Proposal {
    /// Encodes a change.
    ///
    /// # Errors
    /// [`ChangeCodecError::TooLarge`].
    pub fn encode(change: &Change) -> Result<Self, ChangeCodecError> {
        let bytes = postcard::to_extend(change, vec![CHANGE_VERSION])?;
        if bytes.len() > MAX_CHANGE {
            return Err(ChangeCodecError::TooLarge(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }

    /// Reads the change again.
    ///
    /// # Errors
    /// It is of another version, or damaged.
    pub fn decode(&self) -> Result<Change, ChangeCodecError> {
        match self.0.split_first() {
            None => Err(ChangeCodecError::Empty),
            Some((&CHANGE_VERSION, rest)) => Ok(postcard::from_bytes(rest)?),
            Some((version, _)) => Err(ChangeCodecError::Version(*version)),
        }
    }

    /// The length in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Takes bytes that [`Proposal::encode`] made elsewhere.
    pub(crate) fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "change of {} bytes", self.0.len())
    }
}

/// What applying an entry gives to whoever proposed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The entry held no change.
    Nothing,
    /// What came of the change.
    Outcome {
        /// Its name; that of the first time when it was proposed again.
        name: ChangeName,
        /// What came of it.
        outcome: Box<Result<Outcome, Refusal>>,
    },
}
