//! Reading a log again after a stop or a crash.
//!
//! Always true: a damaged last batch is cut off, because nobody was told that it was on disk; damage that a whole later
//! batch follows is an error, because somebody was. Nothing is ever guessed. Start at [`read_log`].

use super::OpenLogError;
use super::format::{
    Batch, LogOwner, Record, SEGMENT_HEADER, SegmentHeader, find_batch, read_batch,
};
use super::segment_number;
use super::writer::{Marks, Segment};
use crate::disk::{Disk, read_all};
use crate::types::{Entry, LogId};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// The largest file that is taken for a segment.
const MAX_SEGMENT: u64 = 1 << 30;

/// What a log says when it is read from the beginning.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) owner: LogOwner,
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) marks: Marks,
    pub(crate) segments: VecDeque<Segment>,
    /// Where the next batch goes in the last segment.
    pub(crate) offset: u64,
    pub(crate) next_sequence: u64,
    pub(crate) segment_size: u64,
    begun: bool,
}

impl Content {
    fn new(owner: LogOwner, first_sequence: u64) -> Self {
        Self {
            owner,
            entries: VecDeque::new(),
            marks: Marks::default(),
            segments: VecDeque::new(),
            offset: SEGMENT_HEADER as u64,
            next_sequence: first_sequence,
            segment_size: 0,
            begun: false,
        }
    }

    /// The last entry's id, or that of the last purged one.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries
            .back()
            .map(|entry| entry.log_id)
            .or(self.marks.purged)
    }

    /// Takes one record in. False: it does not follow from those before.
    fn take(&mut self, record: Record) -> bool {
        match record {
            Record::Entry(entry) => {
                let index = entry.log_id.index;
                // The oldest segments may be gone, so the first entry may have any number; see `check_begin`.
                let first = !std::mem::replace(&mut self.begun, true)
                    && self.marks.purged.is_none_or(|id| id.index < index);
                let follows = first || self.last().is_none_or(|last| last.index + 1 == index);
                if !follows && self.marks.purged.is_none_or(|purged| index > purged.index) {
                    return false;
                }
                if let Some(segment) = self.segments.back_mut() {
                    segment.last_index = segment.last_index.max(Some(index));
                }
                if follows {
                    self.entries.push_back(entry);
                }
            }
            Record::Vote(vote) => self.marks.vote = Some(vote),
            Record::Committed(id) => self.marks.committed = Some(id),
            Record::Truncated(last) => {
                let keep = last.map(|id| id.index);
                while self
                    .entries
                    .pop_back_if(|entry| Some(entry.log_id.index) > keep)
                    .is_some()
                {}
            }
            Record::Purged(id) => {
                self.marks.purged = Some(id);
                while self
                    .entries
                    .pop_front_if(|entry| entry.log_id.index <= id.index)
                    .is_some()
                {}
            }
        }
        true
    }
}

/// Reads the log in a folder. A damaged last batch is overwritten with zeroes.
///
/// # Errors
/// [`OpenLogError`]; nothing was changed then.
pub(crate) fn read_log(disk: &dyn Disk, dir: &Path) -> Result<Content, OpenLogError> {
    let mut numbers: Vec<u64> = disk
        .list(dir)
        .map_err(|source| OpenLogError::Io {
            path: dir.to_path_buf(),
            source,
        })?
        .iter()
        .filter_map(|name| segment_number(name))
        .collect();
    numbers.sort_unstable();
    let mut content: Option<Content> = None;
    let mut rest = numbers.iter().copied().peekable();
    while let Some(number) = rest.next() {
        let path = dir.join(super::segment_name(number));
        let bytes: Bytes = read_all(disk, &path, MAX_SEGMENT)
            .map_err(|source| OpenLogError::Io {
                path: path.clone(),
                source,
            })?
            .into();
        let header = SegmentHeader::decode(&bytes).map_err(|source| OpenLogError::Header {
            path: path.clone(),
            source,
        })?;
        if (bytes.len() as u64) < header.size {
            return Err(OpenLogError::Short {
                path,
                found: bytes.len() as u64,
                size: header.size,
            });
        }
        let content =
            content.get_or_insert_with(|| Content::new(header.owner, header.first_sequence));
        check_header(content, &header, number, &path)?;
        content.segments.push_back(Segment {
            number,
            last_index: None,
        });
        content.segment_size = bytes.len() as u64;
        let end = read_batches(content, &bytes, &path)?;
        content.offset = end as u64;
        let next = rest.peek().map(|next| dir.join(super::segment_name(*next)));
        settle_end(disk, content, &bytes, end, &path, next.as_deref())?;
    }
    let content = content.ok_or_else(|| OpenLogError::Missing {
        dir: dir.to_path_buf(),
    })?;
    check_begin(&content, dir)?;
    Ok(content)
}

/// The entries must begin right after what was purged, or at the very beginning.
fn check_begin(content: &Content, dir: &Path) -> Result<(), OpenLogError> {
    let Some(first) = content.entries.front().map(|entry| entry.log_id.index) else {
        return Ok(());
    };
    let purged = content.marks.purged.map(|id| id.index);
    if first <= purged.map_or(1, |index| index + 1) {
        return Ok(());
    }
    Err(OpenLogError::EntriesMissing {
        dir: dir.to_path_buf(),
        first,
        purged,
    })
}

fn check_header(
    content: &Content,
    header: &SegmentHeader,
    number: u64,
    path: &Path,
) -> Result<(), OpenLogError> {
    let previous = content.segments.back().map(|segment| segment.number);
    if header.owner != content.owner {
        return Err(OpenLogError::Foreign {
            path: path.to_path_buf(),
        });
    }
    if header.number != number || previous.is_some_and(|previous| previous + 1 != number) {
        return Err(OpenLogError::Gap {
            path: path.to_path_buf(),
            after: previous,
        });
    }
    if header.first_sequence != content.next_sequence {
        return Err(damaged(
            path,
            0,
            content.next_sequence,
            header.first_sequence,
        ));
    }
    Ok(())
}

fn damaged(path: &Path, offset: usize, missing: u64, later: u64) -> OpenLogError {
    OpenLogError::Damaged {
        path: path.to_path_buf(),
        offset: offset as u64,
        missing,
        later,
    }
}

/// Takes in batch after batch; returns where that ends.
fn read_batches(content: &mut Content, bytes: &Bytes, path: &Path) -> Result<usize, OpenLogError> {
    let mut offset = SEGMENT_HEADER;
    while offset < bytes.len() {
        let Some(Batch {
            sequence,
            records,
            length,
        }) = read_batch(&content.owner, &bytes.slice(offset..))
        else {
            break;
        };
        if sequence != content.next_sequence {
            return Err(damaged(path, offset, content.next_sequence, sequence));
        }
        for record in records {
            if !content.take(record) {
                return Err(OpenLogError::Contradiction {
                    path: path.to_path_buf(),
                    offset: offset as u64,
                });
            }
        }
        content.next_sequence += 1;
        offset += length;
    }
    Ok(offset)
}

/// What follows the last whole batch must be nothing, or one batch that was not finished.
fn settle_end(
    disk: &dyn Disk,
    content: &Content,
    bytes: &Bytes,
    end: usize,
    path: &Path,
    next: Option<&Path>,
) -> Result<(), OpenLogError> {
    let tail = bytes.get(end..).unwrap_or_default();
    let Some(last) = tail.iter().rposition(|byte| *byte != 0) else {
        return Ok(());
    };
    if let Some((_, later)) = find_batch(&content.owner, bytes, end, content.next_sequence) {
        return Err(damaged(path, end, content.next_sequence, later));
    }
    if let Some(next) = next {
        // The next segment exists, so that this one's last batch was synced; its header tells whether one is missing.
        tracing::debug!(path = %path.display(), next = %next.display(), "bytes after the last batch of a full segment");
        return Ok(());
    }
    tracing::warn!(
        path = %path.display(), offset = end, sequence = content.next_sequence, bytes = last + 1,
        "the last batch of the log was not finished when this server stopped; it was never acknowledged and is cut off"
    );
    let overwrite = |path: PathBuf| -> io::Result<()> {
        let mut file = disk.open(&path)?;
        file.write_at(end as u64, &vec![0; last + 1])?;
        file.sync()
    };
    overwrite(path.to_path_buf()).map_err(|source| OpenLogError::Io {
        path: path.to_path_buf(),
        source,
    })
}
