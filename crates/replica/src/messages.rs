//! What replicas say to each other, as bytes: a version, in requests the formation, then postcard. The floors above carry
//! the bytes and need not know what is in them.
//!
//! Always true: a message has at most [`MAX_MESSAGE`] bytes, and decoding hostile bytes gives an error, never a panic.

use crate::snapshot::Meta;
use crate::types::{Consensus, MAX_CHANGE, Vote};
use bytes::Bytes;
use model::FormationId;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = 8 << 20;
/// The most of a snapshot that one message carries, in bytes.
pub(crate) const PIECE: usize = 1 << 20;
const VERSION: u8 = 1;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// There is nothing.
    #[error("the message is empty")]
    Empty,
    /// It is too long.
    #[error("the message has {0} bytes, more than {MAX_MESSAGE}")]
    TooLong(usize),
    /// A change in it is too large.
    #[error("a change in the message has {0} bytes, more than {MAX_CHANGE}")]
    ChangeTooLarge(usize),
    /// It is of another version.
    #[error("the message has version {0}, this server knows {VERSION}")]
    Version(u8),
    /// The rest is no message.
    #[error("the message cannot be read")]
    Postcard(#[from] postcard::Error),
}

/// The place of a request with entries in a row of such requests. One that comes without those before it is refused:
/// openraft would take its conflict for a log that went back, and stop its leader for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The row; a number that its sender uses once.
    pub(crate) row: u64,
    /// The number within the row, from 0.
    pub(crate) number: u64,
}

/// What one replica asks another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Your vote.
    Vote(VoteRequest<Consensus>),
    /// Whether you would give it.
    PreVote(VoteRequest<Consensus>),
    /// Take these entries, after those of the requests before this one.
    Append {
        /// Its place.
        place: Place,
        /// The entries.
        request: AppendEntriesRequest<Consensus>,
    },
    /// I lead still. It has no entries, and need not wait for those that are on their way.
    Heartbeat(AppendEntriesRequest<Consensus>),
    /// Lead from now on.
    Transfer(TransferLeaderRequest<Consensus>),
    /// A snapshot follows.
    SnapshotBegin {
        /// What it holds.
        meta: Meta,
        /// Its length in bytes.
        len: u64,
        /// Its last 32 bytes, by which it is known.
        hash: [u8; 32],
    },
    /// A piece of it.
    SnapshotPiece {
        /// Which snapshot.
        hash: [u8; 32],
        /// Where the piece belongs.
        offset: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// Install it.
    SnapshotEnd {
        /// Which snapshot.
        hash: [u8; 32],
        /// The leader's promise.
        vote: Vote,
    },
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Response {
    /// To a vote or pre-vote.
    Vote(VoteResponse<Consensus>),
    /// To entries.
    Append(AppendEntriesResponse<Consensus>),
    /// To a transfer.
    Transfer(TransferLeaderResponse<Consensus>),
    /// To a snapshot's beginning or piece: how much of it is here.
    SnapshotHave(u64),
    /// To a snapshot's end.
    Installed(SnapshotResponse<Consensus>),
    /// To anything.
    Refused(Refused),
}

/// Why a replica does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    /// It started a moment ago, and may have promised to wait for its primary before.
    #[error("it started a moment ago and gives no vote for {0} ms yet")]
    Holding(u64),
    /// Its log was begun anew, and does not go as far yet as the formation did then.
    #[error("its log was begun anew and does not go far enough yet")]
    Empty,
    /// It has no room.
    #[error("its disk is full")]
    DiskFull,
    /// Too much waits there already, or the question is not one that it answers.
    #[error("it is busy")]
    Busy,
    /// Requests before this one in its row did not arrive.
    #[error("entries before these are missing")]
    OutOfRow,
    /// It is in another formation.
    #[error("it is in formation {0}")]
    OtherFormation(FormationId),
    /// It has started, and has not asked yet whether there is a newer formation.
    #[error("it has not asked the others yet which formation is in force")]
    Silent,
    /// Its consensus has stopped.
    #[error("its consensus has stopped: {0}")]
    Stopped(String),
    /// The snapshot is not the announced one, or cannot be kept.
    #[error("it cannot take the snapshot: {0}")]
    Snapshot(String),
}

fn encode(message: &impl Serialize) -> Result<Bytes, MessageError> {
    let bytes = postcard::to_extend(message, vec![VERSION])?;
    if bytes.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong(bytes.len()));
    }
    Ok(bytes.into())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong(bytes.len()));
    }
    match bytes.split_first() {
        None => Err(MessageError::Empty),
        Some((&VERSION, rest)) => Ok(postcard::from_bytes(rest)?),
        Some((version, _)) => Err(MessageError::Version(*version)),
    }
}

impl Request {
    pub(crate) fn encode(&self, formation: FormationId) -> Result<Bytes, MessageError> {
        encode(&(formation, self))
    }

    /// The request, and the formation that it is meant for.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(FormationId, Self), MessageError> {
        let (formation, request): (FormationId, Self) = decode(bytes)?;
        if let Self::Append {
            request: append, ..
        }
        | Self::Heartbeat(append) = &request
        {
            for entry in &append.entries {
                if let EntryPayload::Normal(proposal) = &entry.payload
                    && proposal.size() > MAX_CHANGE
                {
                    return Err(MessageError::ChangeTooLarge(proposal.size()));
                }
            }
        }
        Ok((formation, request))
    }
}

impl Response {
    pub(crate) fn encode(&self) -> Result<Bytes, MessageError> {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, LeaderId, LogId, Proposal};
    use model::ServerId;
    use openraft::vote::RaftLeaderId;
    use rand::rngs::SmallRng;
    use rand::{Rng, RngExt, SeedableRng};

    fn formation() -> FormationId {
        FormationId::from_bytes([5; 16])
    }

    fn log_id(index: u64) -> LogId {
        LogId::new(LeaderId::new(4, ServerId::from_bytes([2; 16])), index)
    }

    fn append(size: usize) -> Request {
        let payload = EntryPayload::Normal(Proposal::from_bytes(vec![1; size].into()));
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(4, ServerId::from_bytes([2; 16])),
            prev_log_id: Some(log_id(7)),
            entries: vec![Entry {
                log_id: log_id(8),
                payload,
            }],
            leader_commit: Some(log_id(6)),
        };
        let place = Place { row: 1, number: 2 };
        Request::Append { place, request }
    }

    #[test]
    fn there_and_back() {
        let bytes = append(100).encode(formation()).expect("encoded");
        let again = Request::decode(&bytes).expect("decoded");
        assert_eq!(
            format!("{again:?}"),
            format!("{:?}", (formation(), append(100)))
        );
    }

    #[test]
    fn bounds_are_kept() {
        let too_large = append(MAX_CHANGE + 1).encode(formation()).expect("encoded");
        let error = Request::decode(&too_large).expect_err("refused");
        assert!(matches!(error, MessageError::ChangeTooLarge(_)), "{error}");
        assert!(append(MAX_MESSAGE).encode(formation()).is_err());
        let long = vec![VERSION; MAX_MESSAGE + 1];
        assert!(matches!(
            Request::decode(&long),
            Err(MessageError::TooLong(_))
        ));
        assert!(matches!(
            Request::decode(&[9, 1]),
            Err(MessageError::Version(9))
        ));
        assert!(matches!(Request::decode(&[]), Err(MessageError::Empty)));
    }

    #[test]
    fn hostile_bytes_give_errors_and_no_panics() {
        let seed: u64 = 11;
        let mut chance = SmallRng::seed_from_u64(seed);
        let whole = append(50).encode(formation()).expect("encoded");
        for _ in 0..50_000 {
            let mut bytes = if chance.random_bool(0.5) {
                whole.to_vec()
            } else {
                let mut bytes = vec![0; chance.random_range(0..200)];
                chance.fill_bytes(&mut bytes);
                bytes
            };
            for _ in 0..chance.random_range(0..4) {
                let length = bytes.len();
                if let Some(byte) = bytes.get_mut(chance.random_range(0..length.max(1))) {
                    *byte = chance.random();
                }
            }
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            // Only a panic, or memory without bound, would be wrong.
            let _either = Request::decode(&bytes).is_ok() | Response::decode(&bytes).is_ok();
        }
    }
}
