//! Opening a backup. Its bytes may be anybody's: lengths are bounded before room is made, and nothing is decoded before the passphrase
//! has opened it.

use super::{
    BackupError, COSTS_LIMIT, Costs, END, FIXED, Keys, MAGIC, MAX_HEADER, MAX_RECORD, PIECE, TAG,
    VERSION, bound,
};
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use model::{Directory, Record};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Read};

/// What a backup says of itself to whoever has no passphrase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The group's name.
    pub group: String,
    /// Its id.
    pub group_id: String,
    /// When it was made, RFC 3339.
    pub made: String,
    /// The version that made it.
    pub version: String,
    /// What making the key costs.
    #[serde(flatten)]
    pub(crate) costs: Costs,
    /// The salt, in hexadecimal digits.
    pub(crate) salt: String,
    /// The check of the key.
    pub(crate) check: String,
}

/// Reads a backup: what it says of itself, what it holds, and what opens its stored secrets.
///
/// # Errors
/// [`BackupError`].
pub(crate) fn read(
    mut file: impl Read,
    passphrase: &[u8],
) -> Result<(Header, Directory, Keys), BackupError> {
    let (header, head) = read_header(&mut file)?;
    let fits = header.costs.memory_kib <= COSTS_LIMIT.memory_kib
        && header.costs.passes <= COSTS_LIMIT.passes
        && header.costs.lanes <= COSTS_LIMIT.lanes;
    let salt = HEXLOWER.decode(header.salt.as_bytes());
    let (true, Ok(salt)) = (fits, salt) else {
        return Err(BackupError::Damaged { part: "header" });
    };
    let keys = Keys::of(passphrase, &salt, header.costs)?;
    if keys.check != header.check {
        return Err(BackupError::Passphrase);
    }
    let mut pieces = Pieces {
        file,
        keys: &keys,
        head,
        piece: Vec::new(),
        read: 0,
        place: 0,
        last: false,
        failed: None,
    };
    let loaded = records(&mut pieces);
    // What stood in the way below says more than what came of it above.
    if let Some(failed) = pieces.failed.take() {
        return Err(failed);
    }
    let directory = loaded?;
    pieces.end()?;
    Ok((header, directory, keys))
}

/// What the pieces together hold, once they are opened.
///
/// # Errors
/// [`BackupError`].
pub fn records(pieces: impl Read) -> Result<Directory, BackupError> {
    let damaged = || BackupError::Damaged { part: "records" };
    let mut stream = zstd::stream::read::Decoder::new(pieces)?;
    let mut records = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == END {
            break;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_RECORD {
            return Err(damaged());
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes)?;
        records.push(wire::decode::<Record>(&bytes).map_err(|_| damaged())?);
    }
    let mut count = [0; 8];
    stream.read_exact(&mut count)?;
    if u64::from_le_bytes(count) != records.len() as u64 {
        return Err(damaged());
    }
    io::copy(&mut stream, &mut io::sink())?;
    Ok(Directory::from_records(records)?)
}

/// What a backup says of itself, once it was seen to be there to its end. Whether it is as it was written only the passphrase tells.
///
/// # Errors
/// [`BackupError`].
pub fn inspect(mut file: impl Read) -> Result<Header, BackupError> {
    let (header, _) = read_header(&mut file)?;
    let mut piece = Vec::new();
    while !next_piece(&mut file, &mut piece)? {}
    at_end(&mut file)?;
    Ok(header)
}

fn read_header(file: &mut impl Read) -> Result<(Header, Vec<u8>), BackupError> {
    let mut head = vec![0; FIXED];
    file.read_exact(&mut head)
        .map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => BackupError::NotABackup,
            _ => error.into(),
        })?;
    let Some((magic, &[low, high, _, _, a, b, c, d])) = head.split_first_chunk::<8>() else {
        return Err(BackupError::NotABackup);
    };
    if magic != MAGIC {
        return Err(BackupError::NotABackup);
    }
    let version = u16::from_le_bytes([low, high]);
    if version != VERSION {
        return Err(BackupError::Version { version });
    }
    let damaged = || BackupError::Damaged { part: "header" };
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(damaged());
    }
    head.resize(FIXED + length, 0);
    let (_, json) = head.split_at_mut_checked(FIXED).ok_or_else(damaged)?;
    file.read_exact(json).map_err(cut)?;
    let header = serde_json::from_slice(json);
    let mut hash = [0; 32];
    file.read_exact(&mut hash).map_err(cut)?;
    if digest::digest(&digest::SHA256, &head).as_ref() != hash {
        return Err(damaged());
    }
    Ok((header.map_err(|_| damaged())?, hash.to_vec()))
}

/// Reads the next piece; whether it is the last.
fn next_piece(file: &mut impl Read, piece: &mut Vec<u8>) -> Result<bool, BackupError> {
    let damaged = || BackupError::Damaged { part: "a length" };
    let mut head = [0; 5];
    file.read_exact(&mut head).map_err(cut)?;
    let [last, length @ ..] = head;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if last > 1 || !(TAG..=PIECE + TAG).contains(&length) {
        return Err(damaged());
    }
    piece.resize(length, 0);
    file.read_exact(piece).map_err(cut)?;
    Ok(last == 1)
}

fn at_end(file: &mut impl Read) -> Result<(), BackupError> {
    match file.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(BackupError::Damaged {
            part: "something follows its end",
        }),
    }
}

fn cut(error: io::Error) -> BackupError {
    match error.kind() {
        ErrorKind::UnexpectedEof => BackupError::Truncated,
        _ => error.into(),
    }
}

/// Opens piece by piece.
struct Pieces<'a, R> {
    file: R,
    keys: &'a Keys,
    head: Vec<u8>,
    piece: Vec<u8>,
    read: usize,
    place: u64,
    last: bool,
    failed: Option<BackupError>,
}

impl<R: Read> Pieces<'_, R> {
    fn open(&mut self) -> Result<(), BackupError> {
        self.last = next_piece(&mut self.file, &mut self.piece)?;
        let bound = bound(&self.head, self.last);
        self.keys.open_piece(self.place, &bound, &mut self.piece)?;
        self.place += 1;
        self.read = 0;
        Ok(())
    }

    fn end(mut self) -> Result<(), BackupError> {
        if !self.last {
            return Err(BackupError::Truncated);
        }
        at_end(&mut self.file)
    }
}

impl<R: Read> Read for Pieces<'_, R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() && !self.last {
            if let Err(error) = self.open() {
                self.failed = Some(error);
                return Err(ErrorKind::InvalidData.into());
            }
        }
        let left = self.piece.get(self.read..).unwrap_or_default();
        let count = left.len().min(room.len());
        if let (Some(room), Some(bytes)) = (room.get_mut(..count), left.get(..count)) {
            room.copy_from_slice(bytes);
        }
        self.read += count;
        Ok(count)
    }
}
