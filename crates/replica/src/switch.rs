//! From one formation into another, while the server runs: whoever holds the replica goes on with the same handle.
//!
//! Always true: the formation in force changes by one rename, after the new one is whole; when anything fails before, this
//! server goes on in the old one. Readers keep the old directory until there is a new one. A formation that was left is gone back
//! to only while nothing of the next has come, so nothing was promised or acknowledged there. Start at [`Replica::fork`],
//! [`Replica::enter`] and [`Replica::go_back`].

use crate::clock::Moment;
use crate::core::{Core, Ground, StartError};
use crate::formation::{self, FormationError, Founder, keep_base, select};
use crate::inbound::Heard;
use crate::log::{Driver, Log, LogOwner};
use crate::replica::{OpenError, Replica, Stored, open_stored, stop};
use crate::state_machine::{ApplyError, State, apply_entry};
use crate::threshold::Threshold;
use crate::timing::Timing;
use model::{
    Cause, Directory, Formation, FormationId, FormationRef, IncarnationId, Left, ResilienceMode,
    ServerId, UnixMillis,
};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// Entries of the log that are read at a time, in bytes.
const STRETCH: usize = 4 << 20;

/// A formation that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Founding {
    /// Its id, never used before.
    pub id: FormationId,
    /// Why it is made.
    pub cause: Cause,
    /// When.
    pub made: UnixMillis,
}

/// Why this server did not get into another formation.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It could not be made; the one before goes on.
    #[error("the formation cannot be made")]
    Make(#[from] FormationError),
    /// What is in the log cannot be read; the formation before goes on.
    #[error("the log cannot be read to its end")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No side goes on by itself: the log has it that a majority must agree from now on, though nobody said yet that it was agreed upon.
    #[error("a majority must agree, as the end of this server's log has it")]
    Majority,
    /// It was made, and consensus does not start in it.
    #[error("the formation in force cannot be opened")]
    Open(#[from] OpenError),
}

impl From<ApplyError> for SwitchError {
    fn from(error: ApplyError) -> Self {
        Self::Log(Box::new(error))
    }
}

/// The state with all that is in the log, agreed upon or not: a change that was acknowledged may be known to be agreed upon
/// only to the primary that is lost.
fn with_log(log: &Log, mut state: State) -> Result<State, ApplyError> {
    loop {
        let stretch = log.entries(state.applied + 1, u64::MAX, STRETCH);
        let before = state.applied;
        for entry in stretch {
            if entry.log_id.index == state.applied + 1 {
                apply_entry(&mut state, entry)?;
            }
        }
        if state.applied == before {
            return Ok(state);
        }
    }
}

/// Whether it is a formation's directory that readers have.
fn is_shown(ground: &Ground, formation: FormationId) -> bool {
    let shown = ground.published.state();
    let shown = shown.directory.as_ref();
    shown.is_some_and(|shown| shown.group().formation.this.id == formation)
}

fn directory_of(state: &State) -> Result<&Directory, FormationError> {
    state.directory.as_ref().ok_or(FormationError::NoDirectory)
}

/// The record of a formation that goes on from a state.
fn descendant(directory: &Directory, applied: u64, founding: Founding) -> Formation {
    let parent = &directory.group().formation;
    let mut ancestors = parent.ancestors.clone();
    ancestors.push(parent.this);
    Formation {
        this: FormationRef {
            id: founding.id,
            number: parent.this.number + 1,
            fork_point: applied,
        },
        ancestors,
        cause: founding.cause,
        original: parent.original,
        original_members: parent.original_members.clone(),
        made: founding.made,
    }
}

impl Replica {
    /// Makes a formation that goes on from all that this server has, its log to the end; this server is its only voter.
    ///
    /// # Errors
    /// [`SwitchError`]; except for [`SwitchError::Open`] the formation before is in force.
    pub async fn fork(&self, founding: Founding) -> Result<FormationRef, SwitchError> {
        let _office = self.inner.office.lock().await;
        let timing = self.put_down().await;
        let made = self.make(founding).await;
        self.take_up(timing).await?;
        made
    }

    async fn make(&self, founding: Founding) -> Result<FormationRef, SwitchError> {
        let ground = self.ground();
        let state = with_log(&ground.log, (*ground.published.own()).clone())?;
        let directory = directory_of(&state)?;
        let majority = directory.group().mode == ResilienceMode::Quorum;
        if majority && founding.cause == Cause::Island {
            return Err(SwitchError::Majority);
        }
        let formation = descendant(directory, state.applied, founding);
        let base = self.first_base(&state).await?;
        let (disk, data) = (self.inner.disk.clone(), self.inner.data.clone());
        let founder = Founder {
            server: ground.me,
            incarnation: ground.log.owner().incarnation,
        };
        let size = self.inner.options.log.segment_size;
        let making = move || {
            let voters = BTreeSet::from([founder.server]);
            let made = formation::fork(&disk, &data, founder, &state, &formation, &voters, size)?;
            keep_base(
                &disk,
                &data,
                made,
                base.as_ref().unwrap_or(directory_of(&state)?),
            )?;
            select(&disk, &data, made)?;
            Ok(formation.this)
        };
        self.beside(making).await
    }

    /// What the present formation began with, where it is an island that has met no other yet: what follows from it began there
    /// too.
    async fn first_base(&self, state: &State) -> Result<Option<Directory>, SwitchError> {
        let fork_point = state
            .directory
            .as_ref()
            .map_or(0, |directory| directory.group().formation.this.fork_point);
        let base = self.base().await.map_err(OpenError::from)?;
        Ok(base.filter(|base| base.group().number <= fork_point))
    }

    /// Leaves the present formation for another, with an empty log: its primary sends what is in it. The state that this
    /// server leaves behind is kept as the base of the new one, and it counts itself there from `threshold` on.
    ///
    /// # Errors
    /// [`SwitchError`]; except for [`SwitchError::Open`] the formation before is in force.
    pub async fn enter(
        &self,
        formation: FormationId,
        incarnation: IncarnationId,
        threshold: Threshold,
    ) -> Result<(), SwitchError> {
        let _office = self.inner.office.lock().await;
        let timing = self.put_down().await;
        let made = self.join(formation, incarnation, threshold).await;
        self.take_up(timing).await?;
        made
    }

    async fn join(
        &self,
        formation: FormationId,
        incarnation: IncarnationId,
        threshold: Threshold,
    ) -> Result<(), SwitchError> {
        let ground = self.ground();
        let state = with_log(&ground.log, (*ground.published.own()).clone())?;
        let base = self.first_base(&state).await?;
        // Where the present one has come only in part, the one before it stays the one to go back to.
        let arrived = is_shown(&ground, ground.formation);
        let (disk, data) = (self.inner.disk.clone(), self.inner.data.clone());
        let owner = LogOwner {
            formation,
            incarnation,
        };
        let size = self.inner.options.log.segment_size;
        let making = move || {
            formation::join(&disk, &data, owner, size, Some(threshold))?;
            if arrived {
                formation::remember(&disk, &data)?;
            }
            if let Some(base) = base.as_ref().or(state.directory.as_ref()) {
                keep_base(&disk, &data, formation, base)?;
            }
            select(&disk, &data, formation)
        };
        self.beside(making).await
    }

    /// Goes back to the formation that was left last, because nothing of the one in force has come.
    ///
    /// # Errors
    /// [`SwitchError`]; except for [`SwitchError::Open`] the formation before is in force.
    pub async fn go_back(&self) -> Result<FormationRef, SwitchError> {
        let _office = self.inner.office.lock().await;
        let timing = self.put_down().await;
        let gone_back = self.select_left().await;
        self.take_up(timing).await?;
        gone_back
    }

    async fn select_left(&self) -> Result<FormationRef, SwitchError> {
        let nowhere = FormationError::NothingLeft;
        let formation = self.left().ok_or(nowhere)?.formation;
        let (disk, data) = (self.inner.disk.clone(), self.inner.data.clone());
        let selecting = move || match formation::left(&disk, &data)? {
            Some(left) if left == formation.id => select(&disk, &data, left),
            _ => Err(FormationError::NothingLeft),
        };
        self.beside(selecting).await?;
        Ok(formation)
    }

    /// The formation that this server left and can go back to: nothing of the one in force has come yet.
    pub fn left(&self) -> Option<Left> {
        self.ground().published.left()
    }

    /// Takes what has come of the formation in force for all that there is: whoever knows how much there was is lost.
    pub fn show_what_came(&self) {
        self.ground().published.show_what_came();
    }

    async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FormationError> + Send + 'static,
    ) -> Result<T, SwitchError> {
        let done = crate::core::blocking(self.ground().threads, work).await;
        let done = done.map_err(|error| OpenError::Start(StartError::Thread(error)))?;
        Ok(done?)
    }

    /// What this server had when the formation in force began for it.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub async fn base(&self) -> Result<Option<Directory>, crate::SnapshotError> {
        let (disk, data) = (self.inner.disk.clone(), self.inner.data.clone());
        let formation = self.formation();
        let reading = move || formation::base(&disk, &data, formation);
        match crate::core::blocking(self.ground().threads, reading).await {
            Ok(base) => base,
            Err(source) => Err(crate::SnapshotError::Io {
                path: self.inner.data.clone(),
                source,
            }),
        }
    }

    /// Stops consensus, and gives the times that it ran with. All that it took in is on disk, or is not acknowledged.
    async fn put_down(&self) -> Timing {
        let before = self.inner.core.swap(None);
        let timing = before
            .as_ref()
            .map_or_else(Timing::default, |core| core.timing);
        if let Some(core) = &before {
            stop(core).await;
        }
        if let Err(error) = self.ground().log.flush().await {
            tracing::warn!(%error, "the log was not brought to disk before the formation changed");
        }
        timing
    }

    /// Starts consensus in the formation that is in force on disk.
    async fn take_up(&self, timing: Timing) -> Result<(), OpenError> {
        let before = self.ground();
        let selected = formation::current(&self.inner.disk, &self.inner.data)?;
        let ground = if selected == Some(before.formation) {
            (*before).clone()
        } else {
            let Stored {
                log,
                snapshots,
                threshold,
                state,
            } = open_stored(&self.inner.disk, &self.inner.data, self.inner.options).await?;
            match state {
                Some(state) if is_shown(&before, log.owner().formation) => {
                    before.published.go_back(state);
                }
                state => before.published.enter(state),
            }
            Ground {
                formation: log.owner().formation,
                log,
                snapshots: Arc::new(snapshots),
                threshold,
                read_to_end: Arc::default(),
                heard: Arc::new(Heard::default()),
                threads: self.inner.options.log.driver == Driver::Threads,
                ..(*before).clone()
            }
        };
        self.inner.ground.store(Arc::new(ground.clone()));
        let core = Core::start(ground.clone(), timing, timing.lease()).await?;
        self.inner.core.store(Some(Arc::new(core)));
        ground.role_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Removes a formation that this server was in before.
    ///
    /// # Errors
    /// The disk's; or it is in force again.
    pub async fn forget_left_behind(&self, left: FormationId) -> Result<(), SwitchError> {
        let _office = self.inner.office.lock().await;
        let (disk, data) = (self.inner.disk.clone(), self.inner.data.clone());
        self.beside(move || formation::forget(&disk, &data, left))
            .await
    }

    /// Lets this server, where it alone counts, act until then only; without a limit where there is none.
    pub fn set_guard(&self, until: Option<Moment>) {
        let ground = self.ground();
        *ground.guard.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// The term and the number of the last entry in this server's log.
    pub fn log_end(&self) -> (u64, u64) {
        let ground = self.ground();
        let last = ground.log.ends().1.or(ground.published.own().last);
        last.map_or((0, 0), |id| (id.leader_id.term, id.index))
    }

    /// The newest change of a user's in this server's log, agreed upon or not: what it would go on from where nobody leads. After
    /// a start, the directory does not have all of it until a primary is heard.
    pub fn last_user_change(&self) -> u64 {
        let ground = self.ground();
        let (own, end) = (ground.published.own(), ground.log.ends().1);
        let newest = |state: &State| {
            let directory = state.directory.as_ref();
            directory.map_or(0, |directory| directory.group().last_user_change)
        };
        let Some(end) = end.filter(|end| end.index > own.applied) else {
            return newest(&own);
        };
        let mut read = ground
            .read_to_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((to, known)) = *read
            && to == end
        {
            return known;
        }
        // What cannot be read stops consensus, which says so.
        let known =
            with_log(&ground.log, (*own).clone()).map_or(newest(&own), |state| newest(&state));
        *read = Some((end, known));
        known
    }

    /// Servers that do not count and without which no change is acknowledged, as long as they follow closely.
    pub fn set_followers(&self, followers: BTreeSet<ServerId>) {
        self.ground().followers.send_if_modified(|known| {
            let changed = *known != followers;
            *known = followers;
            changed
        });
    }
}
