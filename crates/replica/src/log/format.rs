//! The bytes of the log: segment headers, batches, records. Encoding and decoding only.
//!
//! A segment is a header of 512 bytes and then batches, each at a multiple of 8; what follows is zero. A batch is a
//! header with its sequence number and its records, each with a CRC-32 of its own:
//!
//! ```text
//! segment  "STEADLOG" version:u16 zero:6 formation:16 incarnation:16 number:u64 first-sequence:u64 size:u64 crc:u32 zero…
//! batch    "STBT" body:u32 sequence:u64 records:u32 crc:u32 zero:8, then the body, then zeroes up to a multiple of 8
//! record   length:u32 crc:u32 kind:u8 content
//! ```
//!
//! Always true: a batch's CRC covers the formation and incarnation too, so that bytes of another log, or of a change
//! that looks like a batch, are never taken for one. What is written as zero is zero when it is read: no byte can be
//! damaged without being noticed. Numbers are little-endian.

use crate::types::{Consensus, Entry, LogId, Membership, Proposal, Vote};
use bytes::Bytes;
use model::{FormationId, IncarnationId};
use openraft::EntryPayload;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where the first batch of a segment begins.
pub(crate) const SEGMENT_HEADER: usize = 512;
/// The length of a batch's header.
pub(crate) const BATCH_HEADER: usize = 32;
/// What a record takes beside its content.
pub(crate) const RECORD_HEADER: usize = 9;
/// The most that a record's log id takes, encoded.
pub(crate) const LOG_ID_SIZE: usize = 48;

const SEGMENT_MAGIC: &[u8; 8] = b"STEADLOG";
const BATCH_MAGIC: &[u8; 4] = b"STBT";
const VERSION: u16 = 1;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOwner {
    /// The formation that it belongs to.
    pub formation: FormationId,
    /// The life of this server's log.
    pub incarnation: IncarnationId,
}

/// The header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) owner: LogOwner,
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    /// Bytes in the segment's file, which is made whole before it is used: a shorter one was cut.
    pub(crate) size: u64,
}

/// Why bytes are not a segment's header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It does not begin as one.
    #[error("it is not a log segment")]
    Magic,
    /// It was written by a newer version.
    #[error("it has format version {0}, this server knows {VERSION}; update this server")]
    Version(u16),
    /// Its check sum is wrong.
    #[error("its header is damaged")]
    Crc,
}

/// One thing that the log says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// An entry was appended.
    Entry(Entry),
    /// A promise.
    Vote(Vote),
    /// Entries up to here are committed.
    Committed(LogId),
    /// Entries after this one do not count; absent: none does.
    Truncated(Option<LogId>),
    /// Entries up to here are in a snapshot.
    Purged(LogId),
}

const KIND_BLANK: u8 = 1;
const KIND_CHANGE: u8 = 2;
const KIND_MEMBERSHIP: u8 = 3;
const KIND_VOTE: u8 = 4;
const KIND_COMMITTED: u8 = 5;
const KIND_TRUNCATED: u8 = 6;
const KIND_PURGED: u8 = 7;

fn put(buffer: &mut Vec<u8>, value: &impl Serialize) {
    // Writing to a vector cannot fail, and these types hold nothing that postcard refuses.
    let taken = std::mem::take(buffer);
    *buffer = postcard::to_extend(value, taken).expect("invariant: consensus types can be encoded");
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(
        bytes.get(offset..offset + 8)?.try_into().ok()?,
    ))
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

impl SegmentHeader {
    /// The 512 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        bytes.extend_from_slice(SEGMENT_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(self.owner.formation.as_bytes());
        bytes.extend_from_slice(self.owner.incarnation.as_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(SEGMENT_HEADER, 0);
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.get(..8) != Some(SEGMENT_MAGIC) {
            return Err(HeaderError::Magic);
        }
        let version = u16::from_le_bytes(array_at(bytes, 8).ok_or(HeaderError::Magic)?);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        Self::fields(bytes).ok_or(HeaderError::Crc)
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.get(76..SEGMENT_HEADER)?;
        if crc32fast::hash(bytes.get(..72)?) != u32_at(bytes, 72)? || !is_zero(rest) {
            return None;
        }
        let owner = LogOwner {
            formation: FormationId::from_bytes(array_at(bytes, 16)?),
            incarnation: IncarnationId::from_bytes(array_at(bytes, 32)?),
        };
        Some(Self {
            owner,
            number: u64_at(bytes, 48)?,
            first_sequence: u64_at(bytes, 56)?,
            size: u64_at(bytes, 64)?,
        })
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn salt(owner: &LogOwner) -> crc32fast::Hasher {
    let mut crc = crc32fast::Hasher::new();
    crc.update(owner.formation.as_bytes());
    crc.update(owner.incarnation.as_bytes());
    crc
}

/// A batch while it is put together.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    bytes: Vec<u8>,
    records: u32,
}

impl BatchBuilder {
    /// An empty batch, in memory that was used before.
    pub(crate) fn new(mut reuse: Vec<u8>) -> Self {
        reuse.clear();
        reuse.resize(BATCH_HEADER, 0);
        Self {
            bytes: reuse,
            records: 0,
        }
    }

    /// Whether there is no record in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Its length on disk so far, without padding.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: &Record) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; RECORD_HEADER]);
        let kind = self.push_content(record);
        let Some(written) = self.bytes.get_mut(start..) else {
            return;
        };
        let Some((header, content)) = written.split_at_mut_checked(RECORD_HEADER) else {
            return;
        };
        let length =
            u32::try_from(content.len()).expect("invariant: a record is shorter than a segment");
        let mut crc = crc32fast::Hasher::new();
        crc.update(&[kind]);
        crc.update(content);
        let fields = length
            .to_le_bytes()
            .into_iter()
            .chain(crc.finalize().to_le_bytes())
            .chain([kind]);
        header
            .iter_mut()
            .zip(fields)
            .for_each(|(place, byte)| *place = byte);
        self.records += 1;
    }

    fn push_content(&mut self, record: &Record) -> u8 {
        match record {
            Record::Entry(entry) => {
                put(&mut self.bytes, &entry.log_id);
                match &entry.payload {
                    EntryPayload::Blank => KIND_BLANK,
                    EntryPayload::Normal(proposal) => {
                        self.bytes.extend_from_slice(proposal.bytes());
                        KIND_CHANGE
                    }
                    EntryPayload::Membership(membership) => {
                        put(&mut self.bytes, membership);
                        KIND_MEMBERSHIP
                    }
                }
            }
            Record::Vote(vote) => {
                put(&mut self.bytes, vote);
                KIND_VOTE
            }
            Record::Committed(id) => {
                put(&mut self.bytes, id);
                KIND_COMMITTED
            }
            Record::Truncated(id) => {
                put(&mut self.bytes, id);
                KIND_TRUNCATED
            }
            Record::Purged(id) => {
                put(&mut self.bytes, id);
                KIND_PURGED
            }
        }
    }

    /// The finished batch, padded.
    pub(crate) fn finish(mut self, owner: &LogOwner, sequence: u64) -> Vec<u8> {
        let body = u32::try_from(self.bytes.len() - BATCH_HEADER)
            .expect("invariant: a batch is shorter than a segment");
        let mut header = Vec::with_capacity(BATCH_HEADER);
        header.extend_from_slice(BATCH_MAGIC);
        header.extend_from_slice(&body.to_le_bytes());
        header.extend_from_slice(&sequence.to_le_bytes());
        header.extend_from_slice(&self.records.to_le_bytes());
        let mut crc = salt(owner);
        crc.update(&header);
        header.extend_from_slice(&crc.finalize().to_le_bytes());
        self.bytes
            .iter_mut()
            .zip(header)
            .for_each(|(place, byte)| *place = byte);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.bytes
    }
}

/// A batch as it was read.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) sequence: u64,
    pub(crate) records: Vec<Record>,
    /// Its length on disk, padding included.
    pub(crate) length: usize,
}

/// Reads the batch that begins at the start of `bytes`; none when it is not whole.
pub(crate) fn read_batch(owner: &LogOwner, bytes: &Bytes) -> Option<Batch> {
    let header = bytes.get(..BATCH_HEADER)?;
    if header.get(..4) != Some(BATCH_MAGIC) {
        return None;
    }
    let mut crc = salt(owner);
    crc.update(header.get(..20)?);
    if crc.finalize() != u32_at(header, 20)? || !is_zero(header.get(24..)?) {
        return None;
    }
    let body = usize::try_from(u32_at(header, 4)?).ok()?;
    let end = BATCH_HEADER.checked_add(body)?;
    let length = end.checked_next_multiple_of(8)?;
    if !is_zero(bytes.get(end..length)?) {
        return None;
    }
    let count = usize::try_from(u32_at(header, 16)?).ok()?;
    let mut records = Vec::with_capacity(count.min(body / RECORD_HEADER));
    let mut rest = bytes.slice(BATCH_HEADER..end);
    for _ in 0..count {
        let (record, length) = read_record(&rest)?;
        records.push(record);
        rest = rest.slice(length..);
    }
    if !rest.is_empty() {
        return None;
    }
    Some(Batch {
        sequence: u64_at(header, 8)?,
        records,
        length,
    })
}

/// The first offset, at a multiple of 8, at which a whole batch begins whose number is `sequence` or a later one.
pub(crate) fn find_batch(
    owner: &LogOwner,
    bytes: &Bytes,
    from: usize,
    sequence: u64,
) -> Option<(usize, u64)> {
    (from.next_multiple_of(8)..bytes.len())
        .step_by(8)
        .find_map(|offset| {
            if bytes.get(offset..offset + 4)? != BATCH_MAGIC {
                return None;
            }
            let batch = read_batch(owner, &bytes.slice(offset..))?;
            (batch.sequence >= sequence).then_some((offset, batch.sequence))
        })
}

fn read_record(bytes: &Bytes) -> Option<(Record, usize)> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let expected = u32_at(bytes, 4)?;
    let end = RECORD_HEADER.checked_add(length)?;
    if crc32fast::hash(bytes.get(8..end)?) != expected {
        return None;
    }
    let kind = *bytes.get(8)?;
    let content = bytes.slice(RECORD_HEADER..end);
    Some((decode_record(kind, &content)?, end))
}

fn whole<T: DeserializeOwned>(content: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(content).ok()?;
    rest.is_empty().then_some(value)
}

fn decode_record(kind: u8, content: &Bytes) -> Option<Record> {
    Some(match kind {
        KIND_BLANK => Record::Entry(Entry {
            log_id: whole(content)?,
            payload: EntryPayload::Blank,
        }),
        KIND_CHANGE => {
            let (log_id, rest): (LogId, &[u8]) = postcard::take_from_bytes(content).ok()?;
            let proposal = Proposal::from_bytes(content.slice_ref(rest));
            Record::Entry(Entry {
                log_id,
                payload: EntryPayload::Normal(proposal),
            })
        }
        KIND_MEMBERSHIP => {
            let (log_id, membership): (LogId, Membership) = whole(content)?;
            Record::Entry(Entry {
                log_id,
                payload: EntryPayload::Membership(membership),
            })
        }
        KIND_VOTE => Record::Vote(whole(content)?),
        KIND_COMMITTED => Record::Committed(whole(content)?),
        KIND_TRUNCATED => Record::Truncated(whole(content)?),
        KIND_PURGED => Record::Purged(whole(content)?),
        _ => return None,
    })
}

/// What an entry takes on disk, at most.
pub(crate) fn entry_size(payload: &openraft::type_config::alias::PayloadOf<Consensus>) -> usize {
    let content = match payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(proposal) => proposal.size(),
        // Each member takes its id and a few bytes in each of at most two sets.
        EntryPayload::Membership(membership) => 64 + 64 * membership.nodes().count(),
    };
    RECORD_HEADER + LOG_ID_SIZE + content
}
