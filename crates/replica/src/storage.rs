//! The log as openraft wants to see it.
//!
//! Always true: openraft is told that something is written when it is on disk, not before ([`Log`] keeps the order); followers
//! of a server that alone counts are sent nothing that is not on its own disk.

use crate::log::{Done, Log};
use crate::published::Published;
use crate::types::{Consensus, Entry, LogId, Vote};
use model::ServerId;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// The most bytes of entries that one message to another server carries.
const MESSAGE_ENTRIES: usize = 4 << 20;

/// The log of a formation, for openraft. Clones are handles.
#[derive(Debug, Clone)]
pub(crate) struct LogStorage {
    pub(crate) log: Log,
    /// This server.
    pub(crate) me: ServerId,
    /// What it has applied, and with it who counts.
    pub(crate) published: Arc<Published>,
}

impl RaftLogReader<Consensus> for LogStorage {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self.log.entries(start, end, usize::MAX))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.vote())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        // Where this server alone counts, what is on its disk is what is agreed upon. Whoever goes on without it later must
        // not go on from more than that: after a loss of power this server would give the same numbers to other changes.
        if self.published.own().voters() == BTreeSet::from([self.me]) {
            self.log.until_on_disk(end.saturating_sub(1)).await?;
        }
        Ok(self.log.entries(start, end, MESSAGE_ENTRIES))
    }
}

impl RaftLogStorage<Consensus> for LogStorage {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Consensus>, io::Error> {
        let (last_purged_log_id, last_log_id) = self.log.ends();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.save_vote(*vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.save_committed(committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.committed())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<Consensus>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log
            .append(entries.into_iter().collect(), Done::Flushed(callback));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last_log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.log.purge(log_id);
        Ok(())
    }
}
