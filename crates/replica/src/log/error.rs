//! Why a log cannot be opened, with what to do about it.

use super::format::HeaderError;
use std::io;
use std::path::PathBuf;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The disk.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// There is no segment.
    #[error("there is no log in {}", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// A segment's header is not one.
    #[error("{}: {source}. {REMEDY}", path.display())]
    Header {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
    /// A segment of another formation or incarnation.
    #[error("{} belongs to another formation or incarnation than the segment before it. {REMEDY}", path.display())]
    Foreign {
        /// The segment.
        path: PathBuf,
    },
    /// A segment is missing.
    #[error("the segment before {} is missing (found: {after:?}). {REMEDY}", path.display())]
    Gap {
        /// The first segment after the gap.
        path: PathBuf,
        /// The number of the last one before it.
        after: Option<u64>,
    },
    /// A segment's file is shorter than it was made.
    #[error("{} was cut: it has {found} bytes, and was made with {size}. {REMEDY}", path.display())]
    Short {
        /// The segment.
        path: PathBuf,
        /// Bytes that are there.
        found: u64,
        /// Bytes that it was made with.
        size: u64,
    },
    /// A batch is damaged that was acknowledged, because a later one is whole.
    #[error("{} is damaged at offset {offset}: batch {missing} is not readable, but batch {later} is. {REMEDY}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the damaged batch begins, in bytes.
        offset: u64,
        /// The number of the damaged batch.
        missing: u64,
        /// The number of the later batch.
        later: u64,
    },
    /// Entries are missing between the last snapshot and the first entry.
    #[error("the log in {} begins at entry {first}, but its snapshot ends before {purged:?}. {REMEDY}", dir.display())]
    EntriesMissing {
        /// The folder.
        dir: PathBuf,
        /// The first entry that is there.
        first: u64,
        /// The last entry that the snapshot has.
        purged: Option<u64>,
    },
    /// A batch is whole, but what it says does not follow from what came before.
    #[error("{} contradicts itself at offset {offset}. {REMEDY}", path.display())]
    Contradiction {
        /// The segment.
        path: PathBuf,
        /// Where the batch begins, in bytes.
        offset: u64,
    },
    /// The writer's thread could not be started.
    #[error("no thread for the log's writer")]
    Thread(#[source] io::Error),
}

const REMEDY: &str = "Nothing was changed. This server cannot go on with this log without forgetting what it acknowledged: \
    move its formation's folder away and let it join the group again, which gives its log a new incarnation; \
    if it was the only server, restore a backup";
