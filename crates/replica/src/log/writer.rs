//! The one writer of a log: takes what is queued, writes it as one batch, syncs once, then says so to all.
//!
//! Always true: a batch is written only after the one before it was synced; nobody is told before the sync; after an
//! error nothing more is written, and everybody is told so. Start at [`Writer::run`].

use super::format::{
    BATCH_HEADER, BatchBuilder, LogOwner, Record, SEGMENT_HEADER, SegmentHeader, entry_size,
};
use super::reserve::Reserve;
use super::segment_name;
use crate::disk::{DiskFile, SharedDisk};
use crate::types::{Consensus, LogId, Vote};
use crate::watch::{OrderedSender, OrderedWatch};
use openraft::async_runtime::watch::{Watch, WatchSender};
use openraft::storage::IOFlushed;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The most that one batch takes, unless segments are small.
const MAX_BATCH: usize = 8 << 20;
/// What a record other than an entry takes at most, in bytes.
const MARK_SIZE: usize = 128;
/// Room in a segment that entries leave to votes and marks, unless segments are small.
const KEPT_BACK: u64 = 64 << 10;
/// How long a committed mark may wait for a batch to go with, and between two tries for a reserve.
const IDLE: Duration = Duration::from_millis(200);

/// Who wants to know that a job is on disk.
pub(crate) enum Done {
    /// Nobody.
    Nobody,
    /// openraft.
    Flushed(IOFlushed<Consensus>),
    /// Somebody who waits.
    Answer(oneshot::Sender<io::Result<()>>),
}

impl Done {
    pub(super) fn tell(self, result: io::Result<()>) {
        match self {
            Self::Nobody => {}
            Self::Flushed(callback) => callback.io_completed(result),
            Self::Answer(answer) => {
                // Who asked may have gone.
                drop(answer.send(result));
            }
        }
    }
}

/// Something to write.
pub(crate) struct Job {
    pub(crate) records: Vec<Record>,
    pub(crate) done: Done,
}

/// What the writer shows to others.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Bytes left in the current segment, without what is kept back.
    pub(crate) left: AtomicU64,
    /// The newest committed mark that somebody wants kept.
    pub(crate) committed: Mutex<Option<LogId>>,
    /// Whether the writer looks for the mark by itself soon, or a job without records is on its way, to wake it for that.
    pub(crate) nudged: AtomicBool,
    /// The number of the last entry that is on disk; none: the disk failed.
    pub(crate) on_disk: OrderedSender<Option<u64>>,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            left: AtomicU64::default(),
            committed: Mutex::default(),
            nudged: AtomicBool::default(),
            on_disk: OrderedWatch::channel(Some(0)).0,
        }
    }
}

impl Shown {
    /// The newest committed mark that somebody wants kept.
    pub(crate) fn committed(&self) -> Option<LogId> {
        *self
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A segment that is no longer written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// The highest entry in it.
    pub(crate) last_index: Option<u64>,
}

/// What every new segment begins with, because older ones go away.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
}

enum Item {
    Record(Record),
    Done(Done),
}

/// The writer's state; everything up to `offset` in the current segment is synced.
pub(crate) struct Writer {
    pub(crate) disk: SharedDisk,
    pub(crate) dir: PathBuf,
    pub(crate) owner: LogOwner,
    pub(crate) segment_size: u64,
    pub(crate) sync_delay: Duration,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) current: Segment,
    pub(crate) offset: u64,
    pub(crate) next_sequence: u64,
    pub(crate) older: VecDeque<Segment>,
    pub(crate) marks: Marks,
    pub(crate) last_index: Option<u64>,
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) shown: Arc<Shown>,
}

impl Item {
    /// What it takes on disk, at most, and how much of the segment it may use.
    fn size(&self) -> usize {
        match self {
            Self::Done(_) => 0,
            Self::Record(Record::Entry(entry)) => entry_size(&entry.payload),
            Self::Record(_) => MARK_SIZE,
        }
    }
}

impl Writer {
    /// Writes until the queue is closed.
    pub(crate) async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        self.show();
        self.reserve.make();
        let mut waiting = VecDeque::new();
        let mut memory = Vec::new();
        while self.collect(&mut jobs, &mut waiting).await {
            // A mark goes with what there is to write; a batch of its own it gets when nothing came for a while.
            let mut due = !waiting.is_empty() || self.mark_waits();
            while due {
                match self.step(&mut waiting, std::mem::take(&mut memory)).await {
                    Ok(used) => memory = used,
                    Err(error) => {
                        tracing::error!(dir = %self.dir.display(), %error, "the log cannot be written; this server stops taking part");
                        return refuse(waiting, jobs, &error).await;
                    }
                }
                due = !waiting.is_empty();
            }
        }
    }

    /// Waits for something to do and takes all that is queued. False: the queue is closed and empty.
    async fn collect(
        &mut self,
        jobs: &mut mpsc::UnboundedReceiver<Job>,
        waiting: &mut VecDeque<Item>,
    ) -> bool {
        let mut deadline = None;
        loop {
            let mark_may_come = self.mark_may_come();
            if self.reserve.failed() || mark_may_come {
                deadline.get_or_insert_with(|| tokio::time::Instant::now() + IDLE);
            }
            self.shown.nudged.store(mark_may_come, Ordering::Release);
            let waits_since = deadline.is_some();
            let until = deadline.unwrap_or_else(tokio::time::Instant::now);
            let job = tokio::select! {
                biased;
                job = jobs.recv() => job,
                () = tokio::time::sleep_until(until), if waits_since => {
                    if self.reserve.failed() {
                        self.reserve.make();
                    }
                    return true;
                }
                () = self.reserve.until_failed(), if !waits_since => continue,
            };
            let Some(job) = job else {
                return self.mark_waits();
            };
            if take(job, waiting) {
                while let Ok(job) = jobs.try_recv() {
                    take(job, waiting);
                }
                return true;
            }
        }
    }

    /// Whether a committed mark is newer than the one on disk.
    fn mark_waits(&self) -> bool {
        self.shown
            .committed()
            .is_some_and(|mark| self.may_mark(mark))
    }

    /// Whether entries are on disk that are not marked as committed: a mark for them is waited for, so that nobody needs to
    /// wake the writer for it.
    fn mark_may_come(&self) -> bool {
        self.last_index > self.marks.committed.map(|mark| mark.index)
    }

    fn may_mark(&self, mark: LogId) -> bool {
        Some(mark) > self.marks.committed && Some(mark.index) <= self.last_index
    }

    /// Writes one batch, syncs it and tells everybody whose records are in it.
    async fn step(&mut self, waiting: &mut VecDeque<Item>, memory: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut done = Vec::new();
        // It looks for the mark afterwards.
        self.shown.nudged.store(true, Ordering::Release);
        let result = self.write_and_sync(waiting, &mut done, memory).await;
        self.show();
        let told = result.as_ref().err().map(copy_error);
        for who in done {
            who.tell(told.as_ref().map_or(Ok(()), |error| Err(copy_error(error))));
        }
        let (rolled, memory) = match result {
            Ok(written) => written,
            Err(error) => {
                self.shown
                    .on_disk
                    .send_if_modified(|known| known.take().is_some());
                return Err(error);
            }
        };
        self.show_written();
        if rolled {
            self.reserve.make();
        }
        self.remove_purged();
        Ok(memory)
    }

    /// Everything up to the last entry is on disk.
    pub(crate) fn show_written(&self) {
        let last = self.last_index.unwrap_or(0);
        self.shown.on_disk.send_if_modified(|known| {
            let changed = *known != Some(last);
            *known = Some(last);
            changed
        });
    }

    async fn write_and_sync(
        &mut self,
        waiting: &mut VecDeque<Item>,
        done: &mut Vec<Done>,
        memory: Vec<u8>,
    ) -> io::Result<(bool, Vec<u8>)> {
        let mut batch = BatchBuilder::new(memory);
        let rolls = waiting
            .front()
            .is_some_and(|item| !self.fits(item, BATCH_HEADER));
        if rolls {
            self.roll(&mut batch).await?;
        }
        self.fill(&mut batch, waiting, done);
        if batch.is_empty() {
            return Ok((false, Vec::new()));
        }
        let bytes = batch.finish(&self.owner, self.next_sequence);
        self.file.write_at(self.offset, &bytes)?;
        if !self.sync_delay.is_zero() {
            tokio::time::sleep(self.sync_delay).await;
        }
        self.file.sync()?;
        if rolls {
            self.disk.rename(
                self.reserve.path(),
                &self.dir.join(segment_name(self.current.number)),
            )?;
            self.disk.sync_dir(&self.dir)?;
        }
        self.next_sequence += 1;
        self.offset += bytes.len() as u64;
        Ok((rolls, bytes))
    }

    /// Whether an item can be added to a batch of this length in the current segment.
    fn fits(&self, item: &Item, batch: usize) -> bool {
        let kept_back = match item {
            Item::Record(Record::Entry(_)) => kept_back(self.segment_size),
            _ => 0,
        };
        let end = self.offset + (batch + item.size() + MARK_SIZE).next_multiple_of(8) as u64;
        end + kept_back <= self.segment_size
    }

    /// Begins the next segment, in the reserve; it gets its name when its first batch was synced.
    async fn roll(&mut self, batch: &mut BatchBuilder) -> io::Result<()> {
        self.file = self.reserve.take().await?;
        self.older.push_back(self.current);
        self.current = Segment {
            number: self.current.number + 1,
            last_index: None,
        };
        self.offset = SEGMENT_HEADER as u64;
        let header = SegmentHeader {
            owner: self.owner,
            number: self.current.number,
            first_sequence: self.next_sequence,
            size: self.file.length()?,
        };
        self.file.write_at(0, &header.encode())?;
        let Marks {
            vote,
            committed,
            purged,
        } = self.marks;
        let marks = [
            vote.map(Record::Vote),
            purged.map(Record::Purged),
            committed.map(Record::Committed),
        ];
        marks.iter().flatten().for_each(|mark| batch.push(mark));
        Ok(())
    }

    /// Moves into the batch what fits, and the committed mark last, because it may only follow what it names.
    fn fill(
        &mut self,
        batch: &mut BatchBuilder,
        waiting: &mut VecDeque<Item>,
        done: &mut Vec<Done>,
    ) {
        while let Some(item) = waiting.pop_front_if(|item| {
            item.size() == 0 || (batch.len() < MAX_BATCH && self.fits(item, batch.len()))
        }) {
            match item {
                Item::Done(who) => done.push(who),
                Item::Record(record) => {
                    self.note(&record);
                    batch.push(&record);
                }
            }
        }
        if let Some(mark) = self.shown.committed().filter(|mark| self.may_mark(*mark)) {
            self.marks.committed = Some(mark);
            batch.push(&Record::Committed(mark));
        }
    }

    fn note(&mut self, record: &Record) {
        match record {
            Record::Entry(entry) => {
                self.last_index = Some(entry.log_id.index);
                self.current.last_index = self.current.last_index.max(self.last_index);
            }
            Record::Vote(vote) => self.marks.vote = Some(*vote),
            Record::Committed(id) => self.marks.committed = Some(*id),
            Record::Truncated(last) => self.last_index = last.map(|id| id.index),
            Record::Purged(id) => {
                self.marks.purged = Some(*id);
                self.last_index = self.last_index.max(Some(id.index));
            }
        }
    }

    /// Removes the oldest segments whose entries are all in a snapshot. One that cannot be removed does no harm; it is
    /// tried again after the next start.
    fn remove_purged(&mut self) {
        let purged = self.marks.purged.map(|id| id.index);
        while let Some(segment) = self
            .older
            .pop_front_if(|segment| segment.last_index <= purged)
        {
            let path = self.dir.join(segment_name(segment.number));
            let removed = self
                .disk
                .remove(&path)
                .and_then(|()| self.disk.sync_dir(&self.dir));
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "an old log segment could not be removed");
            }
        }
    }

    fn show(&self) {
        let used = self.offset + kept_back(self.segment_size);
        self.shown
            .left
            .store(self.segment_size.saturating_sub(used), Ordering::Release);
    }
}

/// Room in a segment that entries leave to votes and marks, in bytes.
pub(crate) fn kept_back(segment_size: u64) -> u64 {
    KEPT_BACK.min(segment_size / 8)
}

/// Queues a job's parts. False: it only wakes the writer up.
fn take(job: Job, waiting: &mut VecDeque<Item>) -> bool {
    let nudge = job.records.is_empty() && matches!(job.done, Done::Nobody);
    waiting.extend(job.records.into_iter().map(Item::Record));
    if !matches!(job.done, Done::Nobody) {
        waiting.push_back(Item::Done(job.done));
    }
    !nudge
}

/// The same error once more, for the next who has to be told.
fn copy_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Tells everybody that nothing is written any more.
async fn refuse(
    waiting: VecDeque<Item>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    error: &io::Error,
) {
    for item in waiting {
        if let Item::Done(who) = item {
            who.tell(Err(copy_error(error)));
        }
    }
    while let Some(job) = jobs.recv().await {
        job.done.tell(Err(copy_error(error)));
    }
}
