//! One server's replica of the directory: opening, reading, and the door for the other servers.
//!
//! Always true: what a reader gets was agreed upon; it may be older than what others have, never different.
//! Start at [`Replica::open`]. Changes are in `propose`, acting as primary in `acting`, elections and hand-over in
//! `office`, members in `members`.

use crate::clock::Moment;
use crate::compaction::Limits;
use crate::core::{Core, Ground, StartError};
use crate::disk::SharedDisk;
use crate::formation::{FormationError, current, folder, settle_names};
use crate::inbound::Heard;
use crate::left_behind::shown_meanwhile;
use crate::log::{Driver, Log, LogOptions, OpenLogError, Room};
use crate::messages::{MessageError, Refused, Request, Response};
use crate::network::Links;
use crate::promise;
use crate::published::Published;
use crate::snapshot::{Meta, SnapshotError};
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::State;
use crate::threshold::{self, Threshold};
use crate::timing::Timing;
use crate::watch::{OrderedSender, OrderedWatch};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use model::{ChangeName, FormationId, IncarnationId, ServerId};
use openraft::async_runtime::watch::Watch;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Why a replica does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no formation in force.
    #[error("this server belongs to no group: no formation is in force")]
    NoFormation,
    /// The formation in force cannot be told.
    #[error(transparent)]
    Formation(#[from] FormationError),
    /// Its log.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// Its snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log belongs to another formation than the folder that it is in.
    #[error("the log of formation {found} lies in the folder of formation {expected}")]
    WrongFormation {
        /// The folder's formation.
        expected: FormationId,
        /// The log's.
        found: FormationId,
    },
    /// Consensus.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// How a replica is kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The log.
    pub log: LogOptions,
    /// When snapshots are written.
    pub snapshots: Limits,
    /// Whether it answers nobody before [`Replica::speak`]: it may have slept while the others made another formation. Where it
    /// alone counts it does not act either before [`Replica::set_guard`].
    pub silent: bool,
}

/// One server's replica. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Replica {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) disk: SharedDisk,
    pub(crate) data: PathBuf,
    pub(crate) options: Options,
    /// What the formation in force stands on; another one when the formation changes.
    pub(crate) ground: ArcSwap<Ground>,
    pub(crate) core: ArcSwapOption<Core>,
    /// Whether this server is handing its office over.
    pub(crate) handing_over: OrderedSender<bool>,
    /// Held while the core is restarted, the formation changes or the office is handed over.
    pub(crate) office: tokio::sync::Mutex<()>,
}

/// The replica was shut down, or its consensus is just being restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("consensus is not running on this server")]
pub struct NotRunning;

/// What is on disk of the formation in force.
pub(crate) struct Stored {
    pub(crate) log: Log,
    pub(crate) snapshots: SnapshotStore,
    /// Where the log begins to say who counts.
    pub(crate) threshold: Option<Threshold>,
    /// The newest snapshot, with the directory in it.
    pub(crate) state: Option<State>,
}

/// Opens what is on disk of the formation in force.
pub(crate) async fn open_stored(
    disk: &SharedDisk,
    data: &Path,
    options: Options,
) -> Result<Stored, OpenError> {
    let formation = current(disk, data)?.ok_or(OpenError::NoFormation)?;
    settle_names(disk, data, formation)?;
    let dir = folder(data, formation);
    let threads = options.log.driver == Driver::Threads;
    let (there, at) = (disk.clone(), dir.clone());
    let opening = move || SnapshotStore::open(&there, &at);
    let (snapshots, loaded) = crate::core::blocking(threads, opening)
        .await
        .map_err(StartError::Thread)??;
    let log = Log::open(disk, &dir, options.log)?;
    if log.owner().formation != formation {
        return Err(OpenError::WrongFormation {
            expected: formation,
            found: log.owner().formation,
        });
    }
    Ok(Stored {
        log,
        snapshots,
        threshold: threshold::stored(disk, &dir)?,
        state: loaded.map(stored_state),
    })
}

impl Replica {
    /// Opens the formation in force in a data folder, and gives no vote for one lease. It runs by the times that it ran by last;
    /// by `timing` where there are none.
    ///
    /// # Errors
    /// [`OpenError`]; a damaged file is never changed.
    pub async fn open(
        disk: SharedDisk,
        data: &Path,
        me: ServerId,
        links: Arc<dyn Links>,
        timing: Timing,
        options: Options,
    ) -> Result<Self, OpenError> {
        let Stored {
            log,
            snapshots,
            threshold,
            state,
        } = open_stored(&disk, data, options).await?;
        let timing = promise::stored(&disk, data)?.unwrap_or(timing);
        let threads = options.log.driver == Driver::Threads;
        let left = match &state {
            Some(_) => None,
            None => {
                let (disk, data) = (disk.clone(), data.to_owned());
                let reading = move || shown_meanwhile(&disk, &data);
                let read = crate::core::blocking(threads, reading).await;
                read.map_err(StartError::Thread)?
            }
        };
        let ground = Ground {
            me,
            formation: log.owner().formation,
            log,
            snapshots: Arc::new(snapshots),
            threshold,
            read_to_end: Arc::default(),
            published: Arc::new(Published::new(state, left)),
            links,
            heard: Arc::new(Heard::default()),
            role_changed: watch::channel(0).0,
            compaction: options.snapshots,
            threads,
            silent: Arc::new(AtomicBool::new(options.silent)),
            hushed: Arc::default(),
            followers: watch::channel(BTreeSet::new()).0,
            // Whoever has just started may have to ask before it acts alone.
            guard: Arc::new(Mutex::new(options.silent.then(Moment::now))),
        };
        let core = Core::start(ground.clone(), timing, timing.lease()).await?;
        let inner = Inner {
            disk,
            data: data.to_owned(),
            options,
            ground: ArcSwap::from_pointee(ground),
            core: ArcSwapOption::from_pointee(core),
            handing_over: OrderedWatch::channel(false).0,
            office: tokio::sync::Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(crate) fn ground(&self) -> Arc<Ground> {
        self.inner.ground.load_full()
    }

    pub(crate) fn core(&self) -> Result<Arc<Core>, NotRunning> {
        self.inner.core.load_full().ok_or(NotRunning)
    }

    /// Answers the others from now on, where it was silent since it was opened.
    pub fn speak(&self) {
        self.ground().silent.store(false, Ordering::Release);
    }

    /// Whether it says anything in consensus by itself. One that leads and does not lets those that follow it lose it: they wait
    /// for whoever they hear, and it may never act again.
    pub fn hush(&self, hushed: bool) {
        self.ground().hushed.store(hushed, Ordering::Release);
    }

    /// This server.
    pub fn me(&self) -> ServerId {
        self.ground().me
    }

    /// The formation that this replica belongs to.
    pub fn formation(&self) -> FormationId {
        self.ground().formation
    }

    /// The life of this server's log.
    pub fn incarnation(&self) -> IncarnationId {
        self.ground().log.owner().incarnation
    }

    /// The times in force here; none while consensus is not running.
    pub fn timing(&self) -> Option<Timing> {
        self.core().ok().map(|core| core.timing)
    }

    /// The directory as far as this server has it; constant time, never waits.
    pub fn state(&self) -> Arc<State> {
        self.ground().published.state()
    }

    /// Follows the number of the last applied entry; look at [`Replica::state`] when it changes.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.ground().published.applied()
    }

    /// Changes whenever this server's role, the primary, the term or the members change, or consensus stops;
    /// look at [`Replica::status`] then.
    pub fn role_changed(&self) -> watch::Receiver<u64> {
        self.ground().role_changed.subscribe()
    }

    /// What the disk has for further changes.
    pub fn room(&self) -> Room {
        self.ground().log.room()
    }

    /// Waits until this server has a change. False: it has not within `limit`.
    ///
    /// A change of an earlier formation is there when this formation's beginning is not before it.
    pub async fn wait_for(&self, change: ChangeName, limit: Duration) -> bool {
        // Where the change was proposed, it is there already.
        if let Some(accepted) = self.has(change) {
            return accepted;
        }
        let mut applied = self.applied();
        let reached = async {
            loop {
                drop(applied.borrow_and_update());
                if let Some(accepted) = self.has(change) {
                    return accepted;
                }
                if applied.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit, reached).await.unwrap_or(false)
    }

    /// Whether the change of that number, once there is one here, is this one.
    fn has(&self, change: ChangeName) -> Option<bool> {
        let state = self.state();
        let directory = state.directory.as_ref();
        let directory = directory.filter(|_| state.applied >= change.number)?;
        Some(directory.group().formation.accepted(change.number) == change)
    }

    /// Waits until what this server applied before it stopped is applied again, which needs a primary. False: it is not within
    /// `limit`, and the directory may be older than what this server showed before.
    pub async fn recovered(&self, limit: Duration) -> bool {
        match self.core() {
            Ok(core) => core.raft.wait_for_recovery(Some(limit)).await.is_ok(),
            Err(NotRunning) => false,
        }
    }

    /// Answers a request of another server of this formation; the floor above checks who it is.
    ///
    /// To be called in the order in which requests arrive within a lane; the answers may be awaited at the same time. The
    /// answer is bytes for the other end's replica.
    pub fn handle(&self, request: &Bytes) -> BoxFuture<'static, Result<Bytes, MessageError>> {
        let (formation, request) = match Request::decode(request) {
            Ok(request) => request,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let ground = self.ground();
        let not_now = match formation == ground.formation {
            false => Some(Refused::OtherFormation(ground.formation)),
            true => ground.is_silent().then_some(Refused::Silent),
        };
        if let Some(refused) = not_now {
            return Box::pin(std::future::ready(Response::Refused(refused).encode()));
        }
        let refused = || Response::Refused(Refused::Stopped(NotRunning.to_string()));
        let Ok(core) = self.core() else {
            return Box::pin(std::future::ready(refused().encode()));
        };
        if let Request::Append { place, request } = request {
            let answer = core.inbound.enqueue(place, request);
            return Box::pin(async move { answer.await.unwrap_or_else(|_| refused()).encode() });
        }
        let inbound = core.inbound.clone();
        let answering = core.spawn(async move { inbound.answer(request).await.encode() });
        Box::pin(async move { answering.await.unwrap_or_else(|_| refused().encode()) })
    }

    /// Changes the times, which restarts consensus here in milliseconds; no vote is given for the longer of both leases.
    ///
    /// The caller keeps the safe order among servers, and hands over before if this server is primary.
    ///
    /// # Errors
    /// [`StartError`]; consensus does not run then.
    pub async fn set_timing(&self, timing: Timing) -> Result<(), StartError> {
        let _office = self.inner.office.lock().await;
        let owed = self.timing().map_or(Duration::ZERO, |now| now.lease());
        if timing.lease() >= owed {
            promise::store(&self.inner.disk, &self.inner.data, timing)
                .map_err(|error| StartError::Promise(Box::new(error)))?;
        } else {
            self.promise_less_after(owed, timing);
        }
        let before = self.inner.core.swap(None);
        let lease_before = before
            .as_ref()
            .map_or(timing.lease(), |core| core.timing.lease());
        if let Some(core) = &before {
            stop(core).await;
        }
        drop(before);
        let core = Core::start(
            (*self.ground()).clone(),
            timing,
            lease_before.max(timing.lease()),
        )
        .await?;
        self.inner.core.store(Some(Arc::new(core)));
        self.ground().role_changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Stores a shorter promise when the longer one has run out, unless the times have changed again.
    fn promise_less_after(&self, owed: Duration, timing: Timing) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(owed).await;
            let Some(inner) = inner.upgrade() else { return };
            let _office = inner.office.lock().await;
            let runs = inner.core.load().as_ref().map(|core| core.timing);
            if runs != Some(timing) {
                return;
            }
            if let Err(error) = promise::store(&inner.disk, &inner.data, timing) {
                tracing::warn!(%error, "a shorter lease was not stored: after a restart this server gives no vote for longer than it has to");
            }
        });
    }

    /// Stops consensus here and brings everything to disk. Reading goes on.
    pub async fn shutdown(&self) {
        let _office = self.inner.office.lock().await;
        if let Some(core) = self.inner.core.swap(None) {
            stop(&core).await;
        }
        if let Err(error) = self.ground().log.flush().await {
            tracing::warn!(%error, "the log was not brought to disk when this server stopped");
        }
        self.ground().role_changed.send_modify(|count| *count += 1);
    }
}

pub(crate) async fn stop(core: &Core) {
    core.abort_helpers();
    if let Err(error) = core.raft.shutdown().await {
        tracing::debug!(%error, "consensus had stopped already");
    }
}

pub(crate) fn stored_state((meta, directory): (Meta, model::Directory)) -> State {
    State {
        directory: Some(directory),
        applied: meta.last.map_or(0, |id| id.index),
        last: meta.last,
        membership: meta.membership,
    }
}
