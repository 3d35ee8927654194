//! The log of one formation on one server: promises, entries and marks, in zero-filled append-only segments.
//!
//! Always true: what was reported as written survives a crash, in the order in which it was given; entries have no
//! gaps. Reads come from memory, which holds every entry since the last purge. Start at [`Log`], then `writer`, then
//! `format` for the bytes.

mod error;
mod format;
pub(crate) mod recover;
mod reserve;
#[cfg(test)]
mod tests;
mod writer;

pub use error::OpenLogError;
pub use format::{HeaderError, LogOwner};
pub use reserve::Room;

pub(crate) use format::entry_size;

/// What an entry takes beside its change, in bytes, at most; a batch of its own included.
pub(crate) const ENTRY_OVERHEAD: usize = RECORD_HEADER + LOG_ID_SIZE + format::BATCH_HEADER + 8;
pub(crate) use writer::Done;

use crate::disk::SharedDisk;
use crate::types::{Entry, LogId, MAX_CHANGE, Vote};
use format::{BatchBuilder, LOG_ID_SIZE, RECORD_HEADER, Record, SEGMENT_HEADER, SegmentHeader};
use openraft::async_runtime::watch::{WatchReceiver, WatchSender};
use reserve::Reserve;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use writer::{Job, Segment, Shown, Writer};

/// How a log's writer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// On a thread of its own.
    Threads,
    /// As a task of the runtime that opens the log, with syncs that take this long: for a simulation.
    Tasks {
        /// How long a sync takes.
        sync: Duration,
    },
}

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// Bytes in a segment, at least 64 KiB; zero-filled ahead.
    pub segment_size: u64,
    /// How the writer runs.
    pub driver: Driver,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_size: 16 << 20,
            driver: Driver::Threads,
        }
    }
}

#[derive(Debug, Default)]
struct Index {
    entries: VecDeque<Entry>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

impl Index {
    fn last(&self) -> Option<LogId> {
        self.entries
            .back()
            .map(|entry| entry.log_id)
            .or(self.purged)
    }

    /// Where an entry is in memory.
    fn place(&self, index: u64) -> usize {
        let first = self
            .entries
            .front()
            .map_or(index, |entry| entry.log_id.index);
        usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX)
    }
}

/// A log. Clones are handles to the same one; the writer stops when the last is gone.
#[derive(Debug, Clone)]
pub struct Log {
    owner: LogOwner,
    segment_size: u64,
    index: Arc<Mutex<Index>>,
    jobs: mpsc::UnboundedSender<Job>,
    shown: Arc<Shown>,
    reserve: Arc<Reserve>,
    admission: Arc<Semaphore>,
    written: Arc<AtomicU64>,
}

impl Log {
    /// Makes the log of a formation, in a folder that exists and has none. Crash-safe: there is a log or there is none.
    ///
    /// `begin` is what it begins with: a promise, and the last entry of the snapshot that it follows, if it follows one.
    ///
    /// # Errors
    /// [`OpenLogError::Io`].
    pub(crate) fn create(
        disk: &SharedDisk,
        dir: &Path,
        owner: LogOwner,
        segment_size: u64,
        begin: Option<(Vote, Option<LogId>)>,
    ) -> Result<(), OpenLogError> {
        let make = || -> io::Result<()> {
            let temporary = dir.join(reserve::RESERVE);
            let mut file = disk.create(&temporary, segment_size)?;
            file.write_at(
                0,
                &SegmentHeader {
                    owner,
                    number: 1,
                    first_sequence: 1,
                    size: segment_size,
                }
                .encode(),
            )?;
            if let Some((vote, purged)) = begin {
                let mut batch = BatchBuilder::new(Vec::new());
                batch.push(&Record::Vote(vote));
                if let Some(purged) = purged {
                    batch.push(&Record::Purged(purged));
                }
                file.write_at(SEGMENT_HEADER as u64, &batch.finish(&owner, 1))?;
            }
            file.sync()?;
            disk.rename(&temporary, &dir.join(segment_name(1)))?;
            disk.sync_dir(dir)
        };
        make().map_err(|source| OpenLogError::Io {
            path: dir.to_path_buf(),
            source,
        })
    }

    /// Whether a folder holds a log.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn exists(disk: &SharedDisk, dir: &Path) -> io::Result<bool> {
        Ok(disk
            .list(dir)?
            .iter()
            .any(|name| segment_number(name).is_some()))
    }

    /// Opens the log in a folder.
    ///
    /// # Errors
    /// [`OpenLogError`]; a damaged log is never changed, except for an unfinished last batch.
    pub fn open(disk: &SharedDisk, dir: &Path, options: LogOptions) -> Result<Self, OpenLogError> {
        let mut content = recover::read_log(&**disk, dir)?;
        let io_error = |source| OpenLogError::Io {
            path: dir.to_path_buf(),
            source,
        };
        let current = content
            .segments
            .pop_back()
            .ok_or_else(|| OpenLogError::Missing {
                dir: dir.to_path_buf(),
            })?;
        let mut file = disk
            .open(&dir.join(segment_name(current.number)))
            .map_err(io_error)?;
        // A process that was killed may have written what it had not synced yet. It counts from now on: others are told that it is
        // here, and more is written behind it. So it has to be here after a power loss, too.
        file.sync()
            .and_then(|()| disk.sync_dir(dir))
            .map_err(io_error)?;
        let threads = options.driver == Driver::Threads;
        let reserve = Reserve::new(disk.clone(), dir, options.segment_size, threads);
        let shown = Arc::new(Shown::default());
        let last_index = content.last().map(|id| id.index);
        let (jobs, queue) = mpsc::unbounded_channel();
        let writer = Writer {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            owner: content.owner,
            segment_size: options.segment_size.min(content.segment_size),
            sync_delay: match options.driver {
                Driver::Threads => Duration::ZERO,
                Driver::Tasks { sync } => sync,
            },
            file,
            current: Segment {
                number: current.number,
                last_index: current.last_index,
            },
            offset: content.offset,
            next_sequence: content.next_sequence,
            older: content.segments,
            marks: content.marks,
            last_index,
            reserve: reserve.clone(),
            shown: shown.clone(),
        };
        *shown
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = content.marks.committed;
        writer.show_written();
        let index = Index {
            entries: content.entries,
            vote: content.marks.vote,
            committed: content.marks.committed,
            purged: content.marks.purged,
        };
        start(writer, queue, threads)?;
        Ok(Self {
            owner: content.owner,
            segment_size: options.segment_size,
            index: Arc::new(Mutex::new(index)),
            jobs,
            shown,
            reserve,
            admission: Arc::new(Semaphore::new(reserved(options.segment_size) as usize)),
            written: Arc::default(),
        })
    }

    /// Whose log it is.
    pub fn owner(&self) -> LogOwner {
        self.owner
    }

    /// What the disk has for further changes.
    pub fn room(&self) -> Room {
        self.reserve.room()
    }

    /// Waits until there is room for `size` more bytes of entries, and holds it until the answer is dropped. First come,
    /// first served.
    ///
    /// # Errors
    /// There is none, and will be none until the disk has room again.
    pub async fn admit(&self, size: usize) -> Result<Admitted, NoRoom> {
        let settled = self.reserve.settled().await;
        if settled != Room::Ready {
            return Err(NoRoom { room: settled });
        }
        let permits = u32::try_from(size as u64)
            .unwrap_or(u32::MAX)
            .min(reserved(self.segment_size));
        let permit = self
            .admission
            .clone()
            .acquire_many_owned(permits)
            .await
            .map_err(|_| NoRoom { room: Room::Full })?;
        match self.reserve.settled().await {
            Room::Ready => Ok(Admitted { _permit: permit }),
            room => Err(NoRoom { room }),
        }
    }

    /// The largest change that a segment of this log takes, in bytes.
    pub fn largest_change(&self) -> usize {
        let segment = usize::try_from(self.segment_size / 4).unwrap_or(MAX_CHANGE);
        segment
            .saturating_sub(RECORD_HEADER + LOG_ID_SIZE)
            .min(MAX_CHANGE)
    }

    /// Bytes of entries written since the log was opened.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, records: Vec<Record>, done: Done) {
        if let Err(mpsc::error::SendError(job)) = self.jobs.send(Job { records, done }) {
            // Only when the writer's runtime went away: a simulated machine stopped.
            job.done
                .tell(Err(io::Error::other("the log's writer has stopped")));
        }
    }

    async fn send_and_wait(&self, record: Record) -> io::Result<()> {
        let (answer, written) = oneshot::channel();
        self.send(vec![record], Done::Answer(answer));
        written
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the log's writer has stopped")))
    }

    /// The promise in force.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.index().vote
    }

    /// The last purged entry and the last entry.
    pub(crate) fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let index = self.index();
        (index.purged, index.last())
    }

    /// The last committed mark.
    pub(crate) fn committed(&self) -> Option<LogId> {
        self.index().committed
    }

    /// The entries from `start` up to, not including, `end`, as far as they are there and within `bytes`; at least one.
    pub(crate) fn entries(&self, start: u64, end: u64, bytes: usize) -> Vec<Entry> {
        let index = self.index();
        let Some(first) = index.entries.front().map(|entry| entry.log_id.index) else {
            return Vec::new();
        };
        let (from, to) = (index.place(start.max(first)), index.place(end.max(first)));
        let mut taken = 0;
        let to = to.min(index.entries.len());
        let range = index.entries.range(from.min(to)..to);
        let fits = |entry: &&Entry| {
            let before = taken;
            taken += entry_size(&entry.payload);
            before == 0 || taken <= bytes
        };
        // Counted first: a list of thousands that grows as it is filled takes fresh memory from the system at each step.
        let count = range.clone().take_while(fits).count();
        range.take(count).cloned().collect()
    }

    /// Waits until the entries up to a number, as far as there are any, are on disk.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) async fn until_on_disk(&self, number: u64) -> io::Result<()> {
        let last = self.ends().1.map_or(0, |id| id.index);
        let wanted = number.min(last);
        let mut on_disk = self.shown.on_disk.subscribe();
        let reached = on_disk.wait_until(|known| known.is_none_or(|known| known >= wanted));
        match reached.await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(io::Error::other("the log cannot be written")),
        }
    }

    /// Makes a promise; returns when it is on disk.
    pub(crate) async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        self.index().vote = Some(vote);
        self.send_and_wait(Record::Vote(vote)).await
    }

    /// Notes what is committed; it goes to disk with the next batch, or soon.
    pub(crate) fn save_committed(&self, committed: LogId) {
        self.index().committed = Some(committed);
        *self
            .shown
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(committed);
        if !self.shown.nudged.swap(true, Ordering::AcqRel) {
            self.send(Vec::new(), Done::Nobody);
        }
    }

    /// Appends entries that follow the last one; readable at once, on disk when `done` is told.
    pub(crate) fn append(&self, entries: Vec<Entry>, done: Done) {
        let size: usize = entries.iter().map(|entry| entry_size(&entry.payload)).sum();
        self.written.fetch_add(size as u64, Ordering::Relaxed);
        self.index().entries.extend(entries.iter().cloned());
        self.send(entries.into_iter().map(Record::Entry).collect(), done);
    }

    /// Drops the entries after `last`; returns when that is on disk.
    pub(crate) async fn truncate_after(&self, last: Option<LogId>) -> io::Result<()> {
        {
            let mut index = self.index();
            let keep = last.map(|id| id.index);
            while index
                .entries
                .pop_back_if(|entry| Some(entry.log_id.index) > keep)
                .is_some()
            {}
        }
        self.send_and_wait(Record::Truncated(last)).await
    }

    /// Forgets the entries up to `upto`, which a durable snapshot holds. On disk it takes effect in the order of jobs.
    pub(crate) fn purge(&self, upto: LogId) {
        {
            let mut index = self.index();
            while index
                .entries
                .pop_front_if(|entry| entry.log_id.index <= upto.index)
                .is_some()
            {}
            index.purged = Some(upto);
        }
        self.send(vec![Record::Purged(upto)], Done::Nobody);
    }

    /// Returns when all that was given so far is on disk.
    ///
    /// # Errors
    /// The disk's.
    pub async fn flush(&self) -> io::Result<()> {
        let (answer, written) = oneshot::channel();
        self.send(Vec::new(), Done::Answer(answer));
        written
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the log's writer has stopped")))
    }
}

/// There is no room for another change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk has no room for changes ({room:?})")]
pub struct NoRoom {
    /// What the disk has.
    pub room: Room,
}

/// Room that is held for entries on their way.
#[derive(Debug)]
pub struct Admitted {
    _permit: OwnedSemaphorePermit,
}

/// Bytes of entries that surely fit into a reserved segment, whatever their sizes and however they are batched.
fn reserved(segment_size: u64) -> u32 {
    let usable =
        segment_size.saturating_sub(SEGMENT_HEADER as u64 + writer::kept_back(segment_size));
    u32::try_from(usable / 2).unwrap_or(u32::MAX / 2)
}

fn start(
    writer: Writer,
    queue: mpsc::UnboundedReceiver<Job>,
    threads: bool,
) -> Result<(), OpenLogError> {
    if !threads {
        tokio::spawn(writer.run(queue));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(OpenLogError::Thread)?;
    std::thread::Builder::new()
        .name("log-writer".into())
        .spawn(move || runtime.block_on(writer.run(queue)))
        .map_err(OpenLogError::Thread)?;
    Ok(())
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// The number of a segment from its file name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}
