//! The directory as openraft's state machine.
//!
//! Always true: what is published is a state after whole changes, never one in between; whoever proposed a change is
//! answered after the state with it was published. Start at [`State`] and [`StateMachine`].

use crate::core::blocking;
use crate::published::{Pen, Superseded};
use crate::snapshot::{Meta, SnapshotError};
use crate::snapshot_store::{SnapshotFile, SnapshotStore};
use crate::types::{
    ChangeCodecError, Consensus, Entry, LogId, Reply, SnapshotMeta, StoredMembership,
};
use futures_util::{Stream, StreamExt};
use model::{ChangeName, Directory, ServerId};
use openraft::storage::{
    ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot,
};
use openraft::{EntryPayload, OptionalSend};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// How many changes are applied before other work gets a turn.
const TURN: usize = 256;

/// The directory at one moment, and where in the order of changes that is.
#[derive(Debug, Clone)]
pub struct State {
    /// The directory; absent on a server that joins until it received the first snapshot.
    pub directory: Option<Directory>,
    /// The number of the last entry that was applied; entries without a change count too. Zero: none.
    pub applied: u64,
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl State {
    /// What a server has that has received nothing yet.
    pub(crate) fn empty() -> Self {
        Self {
            directory: None,
            applied: 0,
            last: None,
            membership: StoredMembership::default(),
        }
    }

    /// The name of the newest change in it.
    pub fn name(&self) -> Option<ChangeName> {
        self.directory.as_ref().map(Directory::newest)
    }

    /// The name of the last applied entry, whether it held a change or not.
    pub fn position(&self) -> Option<ChangeName> {
        let directory = self.directory.as_ref()?;
        Some(directory.group().formation.accepted(self.applied))
    }

    /// The servers that counted when the last entry was applied.
    pub fn voters(&self) -> BTreeSet<ServerId> {
        self.membership.membership().voter_ids().collect()
    }
}

/// Why an entry or a snapshot cannot become part of the directory. It stops this server's part in consensus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("change {number} cannot be read")]
    Change {
        number: u64,
        #[source]
        source: ChangeCodecError,
    },
    #[error("change {number} came before any directory")]
    NoDirectory { number: u64 },
    #[error("the snapshot cannot be used")]
    Snapshot(#[source] SnapshotError),
}

impl From<ApplyError> for io::Error {
    fn from(error: ApplyError) -> Self {
        Self::other(error)
    }
}

/// Applies entries to the directory.
#[derive(Debug)]
pub(crate) struct StateMachine {
    /// The newest state. It stays here, with what only whoever applies changes needs; readers get a copy.
    working: State,
    pen: Pen,
    snapshots: Arc<SnapshotStore>,
    threads: bool,
}

impl StateMachine {
    /// Goes on from what is published.
    pub(crate) fn new(
        pen: Pen,
        snapshots: Arc<SnapshotStore>,
        threads: bool,
    ) -> Result<Self, Superseded> {
        Ok(Self {
            working: (*pen.own()?).clone(),
            pen,
            snapshots,
            threads,
        })
    }
}

pub(crate) fn apply_entry(state: &mut State, entry: Entry) -> Result<Reply, ApplyError> {
    let number = entry.log_id.index;
    state.applied = number;
    state.last = Some(entry.log_id);
    match entry.payload {
        EntryPayload::Blank => Ok(Reply::Nothing),
        EntryPayload::Membership(membership) => {
            state.membership = StoredMembership::new(Some(entry.log_id), membership);
            Ok(Reply::Nothing)
        }
        EntryPayload::Normal(proposal) => {
            let change = proposal
                .decode()
                .map_err(|source| ApplyError::Change { number, source })?;
            let directory = state
                .directory
                .as_mut()
                .ok_or(ApplyError::NoDirectory { number })?;
            let applied = directory.apply(number, &change);
            Ok(Reply::Outcome {
                name: applied.name,
                outcome: Box::new(applied.outcome),
            })
        }
    }
}

impl RaftStateMachine<Consensus> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = FinishedSnapshot;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.working.last, self.working.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Consensus>, io::Error>> + Unpin + OptionalSend,
    {
        let mut answers: Vec<(ApplyResponder<Consensus>, Reply)> = Vec::new();
        let mut turn = 0;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let reply = apply_entry(&mut self.working, entry)?;
            answers.extend(responder.map(|responder| (responder, reply)));
            turn += 1;
            if turn % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.pen.publish(self.working.clone())?;
        for (responder, reply) in answers {
            responder.send(reply);
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<FinishedSnapshot> {
        // Snapshots are written beside openraft, which would take a full disk for a fatal error; see `compaction`.
        self.snapshots
            .take_finished()
            .map(|file| FinishedSnapshot(Some(file)))
    }

    async fn get_snapshot_builder(&mut self) -> FinishedSnapshot {
        FinishedSnapshot(
            self.snapshots
                .take_finished()
                .or_else(|| self.snapshots.current()),
        )
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let snapshots = self.snapshots.clone();
        let meta = Meta::from(meta);
        let installed = blocking(self.threads, move || snapshots.install(meta, &snapshot)).await?;
        let (meta, directory) = installed.map_err(ApplyError::Snapshot)?;
        let applied = meta.last.map_or(0, |id| id.index);
        self.working = State {
            directory: Some(directory),
            applied,
            last: meta.last,
            membership: meta.membership,
        };
        self.pen.publish(self.working.clone())?;
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::type_config::alias::SnapshotOf<Consensus, SnapshotFile>>, io::Error>
    {
        Ok(self.snapshots.current().map(|file| Snapshot {
            meta: file.meta().clone().into(),
            snapshot: file,
        }))
    }
}

/// A snapshot that was written already, and only has to be told to openraft.
#[derive(Debug)]
pub(crate) struct FinishedSnapshot(Option<SnapshotFile>);

impl RaftSnapshotBuilder<Consensus> for FinishedSnapshot {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::type_config::alias::SnapshotOf<Consensus, SnapshotFile>, io::Error> {
        let file = self
            .0
            .clone()
            .ok_or_else(|| io::Error::other("no snapshot was written"))?;
        Ok(Snapshot {
            meta: file.meta().clone().into(),
            snapshot: file,
        })
    }
}
