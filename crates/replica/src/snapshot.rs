//! A directory in a file: versioned, compressed, checked, written and read as a stream.
//!
//! ```text
//! "STEADSNP" version:u16 zero:2 meta:u32 [meta, postcard] crc:u32 [zstd stream] blake3:32
//! ```
//!
//! The stream holds the directory's records, each as its length (u32) and postcard, and ends with a length of `u32::MAX`
//! and the number of records (u64). The hash covers everything before it.
//!
//! Always true: a file that has its name is whole; it was written under another, synced and renamed. A damaged file is
//! refused, never used in part. Start at [`write_snapshot`] and [`read_snapshot`].

use crate::disk::{Disk, DiskFile, sync_parent, temporary_name};
use crate::types::{LogId, SnapshotMeta, StoredMembership};
use model::directory::LoadError;
use model::{Directory, Record};
use serde::{Deserialize, Serialize};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"STEADSNP";
const VERSION: u16 = 1;
const FIXED: usize = 16;
const HASH: u64 = 32;
/// The largest description of a snapshot, in bytes.
const MAX_META: usize = 1 << 20;
/// The largest record of a directory, in bytes.
const MAX_RECORD: usize = 4 << 20;
/// Records are given to the compressor in pieces of about so many bytes: each call costs something.
const PIECE: usize = 1 << 17;
const END: u32 = u32::MAX;
/// Fast; a directory is read rarely and written often.
const LEVEL: i32 = 1;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk.
    #[error("{} cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("{} is not a snapshot", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error("{} has format version {version}, this server knows {VERSION}; update this server", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// Its check sum is wrong, or what it holds cannot be read.
    #[error(
        "{} is damaged ({part}). Nothing was changed. Move the formation's folder away and let this server join the group \
         again, which gives its log a new incarnation; if it was the only server, restore a backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part.
        part: &'static str,
    },
    /// Its records do not make a directory.
    #[error("{} holds records that do not make a directory", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
}

/// What a snapshot holds, in the form in which it is stored and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl From<&SnapshotMeta> for Meta {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        }
    }
}

impl From<Meta> for SnapshotMeta {
    fn from(meta: Meta) -> Self {
        Self {
            last_log_id: meta.last,
            last_membership: meta.membership,
        }
    }
}

/// Writes to a file from its beginning and hashes what it writes.
struct HashedWriter<'a> {
    file: &'a mut dyn DiskFile,
    offset: u64,
    hash: blake3::Hasher,
}

impl Write for HashedWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a snapshot under its name, durably. Returns its length in bytes.
///
/// # Errors
/// The disk's; there is no file of that name then, or the one that was there.
pub(crate) fn write_snapshot(
    disk: &dyn Disk,
    path: &Path,
    meta: &Meta,
    directory: &Directory,
) -> io::Result<u64> {
    let temporary = temporary_name(path);
    let written = write_file(disk, &temporary, meta, directory);
    let len = match written {
        Ok(len) => len,
        Err(error) => {
            if let Err(error) = disk.remove(&temporary) {
                tracing::debug!(%error, "the unfinished snapshot could not be removed");
            }
            return Err(error);
        }
    };
    disk.rename(&temporary, path)?;
    sync_parent(disk, path)?;
    Ok(len)
}

fn write_file(disk: &dyn Disk, path: &Path, meta: &Meta, directory: &Directory) -> io::Result<u64> {
    let mut file = disk.create(path, 0)?;
    let mut out = HashedWriter {
        file: &mut *file,
        offset: 0,
        hash: blake3::Hasher::new(),
    };
    let meta = postcard::to_stdvec(meta).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(FIXED + meta.len() + 4);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[0; 2]);
    head.extend_from_slice(
        &u32::try_from(meta.len())
            .map_err(io::Error::other)?
            .to_le_bytes(),
    );
    head.extend_from_slice(&meta);
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    out.write_all(&head)?;
    let buffered = BufWriter::with_capacity(1 << 18, out);
    let mut stream = zstd::stream::write::Encoder::new(buffered, LEVEL)?;
    let mut count = 0u64;
    let mut piece = Vec::with_capacity(PIECE + (PIECE >> 2));
    for record in directory.records() {
        let begin = piece.len();
        piece.extend_from_slice(&[0; 4]);
        piece = postcard::to_extend(&record, piece).map_err(io::Error::other)?;
        let length = u32::try_from(piece.len() - begin - 4).map_err(io::Error::other)?;
        if let Some(place) = piece.get_mut(begin..begin + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        count += 1;
        if piece.len() >= PIECE {
            stream.write_all(&piece)?;
            piece.clear();
        }
    }
    stream.write_all(&piece)?;
    stream.write_all(&END.to_le_bytes())?;
    stream.write_all(&count.to_le_bytes())?;
    let mut out = stream
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    let hash = out.hash.finalize();
    out.write_all(hash.as_bytes())?;
    let len = out.offset;
    file.sync()?;
    Ok(len)
}

/// Reads a part of a file and hashes what it reads.
struct HashedReader<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    end: u64,
    hash: blake3::Hasher,
}

impl Read for HashedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..wanted) else {
            return Ok(0);
        };
        let read = self.file.read_at(self.offset, buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        self.offset += read as u64;
        Ok(read)
    }
}

/// Reads a snapshot and checks all of it.
///
/// # Errors
/// [`SnapshotError`].
pub(crate) fn read_snapshot(
    disk: &dyn Disk,
    path: &Path,
) -> Result<(Meta, Directory), SnapshotError> {
    let io_error = |source| SnapshotError::Io {
        path: path.to_path_buf(),
        source,
    };
    let damaged = |part| SnapshotError::Damaged {
        path: path.to_path_buf(),
        part,
    };
    let file = disk.open(path).map_err(io_error)?;
    let len = file.length().map_err(io_error)?;
    let end = len.checked_sub(HASH).ok_or_else(|| damaged("too short"))?;
    let mut input = HashedReader {
        file: &*file,
        offset: 0,
        end,
        hash: blake3::Hasher::new(),
    };
    let meta = read_head(&mut input, path)?;
    let mut stream = zstd::stream::read::Decoder::new(input).map_err(io_error)?;
    let mut records = Records {
        stream: &mut stream,
        count: 0,
        failed: None,
    };
    let loaded = Directory::from_records(&mut records);
    if let Some(part) = records.failed {
        return Err(damaged(part));
    }
    let directory = loaded.map_err(|source| SnapshotError::Load {
        path: path.to_path_buf(),
        source: Box::new(source),
    })?;
    let mut input = stream.finish();
    // What the decoder had no need to read counts as well.
    io::copy(&mut input, &mut io::sink()).map_err(io_error)?;
    let input = input.into_inner();
    let mut expected = [0; HASH as usize];
    let read = file.read_at(end, &mut expected).map_err(io_error)?;
    if read != expected.len() || input.hash.finalize().as_bytes() != &expected {
        return Err(damaged("its hash is wrong"));
    }
    Ok((meta, directory))
}

fn read_head(input: &mut HashedReader<'_>, path: &Path) -> Result<Meta, SnapshotError> {
    let damaged = |part| SnapshotError::Damaged {
        path: path.to_path_buf(),
        part,
    };
    let mut head = vec![0; FIXED];
    input
        .read_exact(&mut head)
        .map_err(|_| SnapshotError::Magic {
            path: path.to_path_buf(),
        })?;
    let Some((magic, rest)) = head.split_first_chunk::<8>() else {
        return Err(damaged("header"));
    };
    if magic != MAGIC {
        return Err(SnapshotError::Magic {
            path: path.to_path_buf(),
        });
    }
    let &[low, high, _, _, a, b, c, d] = rest else {
        return Err(damaged("header"));
    };
    let version = u16::from_le_bytes([low, high]);
    if version != VERSION {
        return Err(SnapshotError::Version {
            path: path.to_path_buf(),
            version,
        });
    }
    let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if length > MAX_META {
        return Err(damaged("length of its description"));
    }
    head.resize(FIXED + length, 0);
    let Some(place) = head.get_mut(FIXED..) else {
        return Err(damaged("header"));
    };
    input
        .read_exact(place)
        .map_err(|_| damaged("description"))?;
    let mut crc = [0; 4];
    input
        .read_exact(&mut crc)
        .map_err(|_| damaged("description"))?;
    if crc32fast::hash(&head) != u32::from_le_bytes(crc) {
        return Err(damaged("description"));
    }
    postcard::from_bytes(head.get(FIXED..).unwrap_or_default()).map_err(|_| damaged("description"))
}

/// The records of a stream; what is wrong with it is left in `failed`.
struct Records<'a, R> {
    stream: &'a mut R,
    count: u64,
    failed: Option<&'static str>,
}

impl<R: Read> Records<'_, R> {
    fn read(&mut self) -> Result<Option<Record>, &'static str> {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .map_err(|_| "its stream ends early")?;
        let length = u32::from_le_bytes(length);
        if length == END {
            let mut count = [0; 8];
            self.stream
                .read_exact(&mut count)
                .map_err(|_| "its stream ends early")?;
            return if u64::from_le_bytes(count) == self.count {
                Ok(None)
            } else {
                Err("records are missing")
            };
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_RECORD {
            return Err("the length of a record");
        }
        let mut bytes = vec![0; length];
        self.stream
            .read_exact(&mut bytes)
            .map_err(|_| "its stream ends early")?;
        self.count += 1;
        postcard::from_bytes(&bytes)
            .map(Some)
            .map_err(|_| "a record")
    }
}

impl<R: Read> Iterator for Records<'_, R> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.failed.is_some() {
            return None;
        }
        self.read().unwrap_or_else(|part| {
            self.failed = Some(part);
            None
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
