//! The directory as openraft's state machine.
//!
//! Always true: what is published is a state after whole changes, never one in between; whoever proposed a change is
//! answered after the state with it was published; readers never wait. Start at [`State`] and [`StateMachine`].

use crate::core::blocking;
use crate::snapshot::{Meta, SnapshotError};
use crate::snapshot_store::{SnapshotFile, SnapshotStore};
use crate::types::{
    ChangeCodecError, Consensus, Entry, LogId, Reply, SnapshotMeta, StoredMembership,
};
use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt};
use model::{ChangeName, Directory, Left, ServerId};
use openraft::storage::{
    ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot,
};
use openraft::{EntryPayload, OptionalSend};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

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

/// The published state: readers take it, one writer replaces it.
///
/// After this server entered another formation, readers keep the directory of the one before until it has caught up: what its
/// primary sends first may be a snapshot from long before, in which people who are logged in are not known yet.
#[derive(Debug)]
pub(crate) struct Published {
    shown: ArcSwap<State>,
    /// The newest state of the formation in force; what is shown, unless this server is catching up.
    own: ArcSwap<State>,
    applied: watch::Sender<u64>,
    catching_up: Mutex<Option<CatchingUp>>,
}

/// Another formation was entered.
#[derive(Debug, Default)]
struct CatchingUp {
    /// The number of the entry with which readers get what has come; none: nobody has said yet how much there is.
    until: Option<u64>,
    /// Whether its primary was heard, and said how much was agreed upon then.
    heard: bool,
}

impl Published {
    /// What is on disk of the formation in force; where nothing of it has come, readers get what was left for it.
    pub(crate) fn new(state: Option<State>, left: Option<State>) -> Self {
        let catching_up = state.is_none().then(CatchingUp::default);
        let own = Arc::new(state.unwrap_or_else(State::empty));
        let shown = match left {
            Some(left) if catching_up.is_some() => Arc::new(left),
            _ => own.clone(),
        };
        Self {
            applied: watch::channel(shown.applied).0,
            shown: ArcSwap::new(shown),
            own: ArcSwap::new(own),
            catching_up: Mutex::new(catching_up),
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.shown.load_full()
    }

    /// The state of the formation in force: empty while nothing of it has come.
    pub(crate) fn own(&self) -> Arc<State> {
        self.own.load_full()
    }

    /// Another formation is in force: its state, or none yet, in which case readers keep the last one of the old.
    pub(crate) fn enter(&self, state: Option<State>) {
        *self.catching_up() = match state {
            Some(_) => None,
            None => Some(CatchingUp::default()),
        };
        self.publish(state.unwrap_or_else(State::empty));
    }

    /// The formation before is in force again: readers keep what they had of it until all that is there once more.
    pub(crate) fn go_back(&self, state: State) {
        *self.catching_up() = Some(CatchingUp {
            until: Some(self.state().applied),
            heard: false,
        });
        self.publish(state);
    }

    /// The formation that was left, while nothing of the one in force has come.
    pub(crate) fn left(&self) -> Option<Left> {
        let (shown, own) = (self.state(), self.own());
        let last = shown.last.filter(|_| own.directory.is_none())?;
        let formation = shown.directory.as_ref()?.group().formation.this;
        Some(Left {
            formation,
            agreed: (last.leader_id.term, last.index),
        })
    }

    /// Nobody will say how much there is: readers get what has come, if anything has.
    pub(crate) fn show_what_came(&self) {
        let own = self.own();
        if own.directory.is_some() {
            *self.catching_up() = None;
            self.show_when_caught_up(self.catching_up(), own);
        }
    }

    /// The primary says how much is agreed upon.
    pub(crate) fn heard_of(&self, committed: u64) {
        let mut catching_up = self.catching_up();
        if let Some(CatchingUp { until, heard }) = catching_up.as_mut() {
            if !std::mem::replace(heard, true) {
                *until = Some(committed);
            }
            self.show_when_caught_up(catching_up, self.own());
        }
    }

    /// Follows the number of the last applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn publish(&self, state: State) {
        let state = Arc::new(state);
        self.own.store(state.clone());
        self.show_when_caught_up(self.catching_up(), state);
    }

    fn show_when_caught_up(
        &self,
        mut catching_up: MutexGuard<'_, Option<CatchingUp>>,
        state: Arc<State>,
    ) {
        if let Some(CatchingUp { until, .. }) = &*catching_up
            && (state.directory.is_none() || until.is_none_or(|until| state.applied < until))
        {
            return;
        }
        *catching_up = None;
        let applied = state.applied;
        self.shown.store(state);
        self.applied.send_replace(applied);
    }

    fn catching_up(&self) -> MutexGuard<'_, Option<CatchingUp>> {
        self.catching_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
    published: Arc<Published>,
    snapshots: Arc<SnapshotStore>,
    threads: bool,
}

impl StateMachine {
    pub(crate) fn new(
        published: Arc<Published>,
        snapshots: Arc<SnapshotStore>,
        threads: bool,
    ) -> Self {
        Self {
            working: (*published.own()).clone(),
            published,
            snapshots,
            threads,
        }
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
        self.published.publish(self.working.clone());
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
        self.published.publish(self.working.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::directory;

    fn at(applied: u64) -> State {
        State {
            applied,
            directory: Some(directory()),
            ..State::empty()
        }
    }

    #[test]
    fn what_is_older_than_what_was_agreed_upon_is_not_shown_after_another_formation_was_entered() {
        let published = Published::new(Some(at(90)), None);
        let shown = || (published.state().applied, published.own().applied);
        published.enter(None);
        assert_eq!(shown(), (90, 0));
        // A snapshot from long before, and then some entries.
        published.publish(at(4));
        assert_eq!(shown(), (90, 4));
        published.heard_of(120);
        published.publish(at(119));
        assert_eq!(shown(), (90, 119));
        published.heard_of(200);
        published.publish(at(120));
        assert_eq!(shown(), (120, 120));
        published.publish(at(121));
        assert_eq!(shown(), (121, 121));
    }

    #[test]
    fn what_came_before_the_primary_was_heard_is_shown_when_it_is() {
        let published = Published::new(Some(at(90)), None);
        published.enter(None);
        published.publish(at(50));
        published.heard_of(50);
        assert_eq!(published.state().applied, 50);
    }
}
