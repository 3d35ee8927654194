//! The consensus core: openraft on a thread and a runtime of its own, so that a flood of data never delays a heartbeat.
//!
//! Always true: everything that openraft spawns runs on the core's runtime; when the core is dropped its runtime goes
//! away with all tasks on it. A simulation runs the core inside the runtime that it controls. Start at [`Core::start`].

use crate::clock::Moment;
use crate::compaction;
use crate::formation::FormationError;
use crate::gather;
use crate::in_sync::{self, Acknowledged};
use crate::inbound::{Heard, Inbound};
use crate::log::Log;
use crate::network::{Links, PeerFactory};
use crate::proposals::{self, Proposals};
use crate::published::{Pen, Published, Superseded};
use crate::runtime::ConsensusRuntime;
use crate::snapshot_store::SnapshotStore;
use crate::state_machine::StateMachine;
use crate::storage::LogStorage;
use crate::threshold::Threshold;
use crate::timing::{Timing, millis};
use crate::types::{Consensus, LogId};
use crate::watch::{OrderedSender, OrderedWatch};
use model::{FormationId, ServerId};
use openraft::async_runtime::watch::{Watch, WatchReceiver};
use openraft::errors::Fatal;
use openraft::{AsyncRuntime, Config, RaftMetrics, ServerState, SnapshotPolicy};
use rand::Rng;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How urgent the core's thread is, where the system allows it; the default is 0, the most urgent −20.
const NICE: i32 = -10;
/// Entries that stay in the log although a snapshot holds them, so that a server that was away briefly needs none.
const KEPT_ENTRIES: u64 = 10_000;
/// The most entries in one message.
const MESSAGE_ENTRIES: u64 = 2048;

/// openraft, as it is used here.
pub(crate) type Raft = openraft::Raft<Consensus, StateMachine>;

/// What the core stands on; it outlives restarts of the core.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) me: ServerId,
    pub(crate) formation: FormationId,
    pub(crate) log: Log,
    pub(crate) snapshots: Arc<SnapshotStore>,
    /// Where the log begins to say who counts; none: from its first entry on.
    pub(crate) threshold: Option<Threshold>,
    /// The newest change of a user's in the log when it ended there.
    pub(crate) read_to_end: Arc<Mutex<Option<(LogId, u64)>>>,
    pub(crate) published: Arc<Published>,
    pub(crate) links: Arc<dyn Links>,
    pub(crate) heard: Arc<Heard>,
    pub(crate) role_changed: watch::Sender<u64>,
    pub(crate) compaction: compaction::Limits,
    pub(crate) threads: bool,
    /// Whether this server answers nobody, because it has not asked yet which formation is in force.
    pub(crate) silent: Arc<AtomicBool>,
    /// Whether it says nothing to the others, either.
    pub(crate) hushed: Arc<AtomicBool>,
    /// Servers that do not count, and without which no change is acknowledged while they follow closely.
    pub(crate) followers: watch::Sender<BTreeSet<ServerId>>,
    /// Until when a sole voter may act; no limit where there is none.
    pub(crate) guard: Arc<Mutex<Option<Moment>>>,
}

impl Ground {
    /// Until when a sole voter may act.
    pub(crate) fn guarded_until(&self) -> Option<Moment> {
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log goes far enough to say who counts.
    pub(crate) fn is_over_threshold(&self) -> bool {
        let last = self.log.ends().1;
        self.threshold
            .is_none_or(|threshold| threshold.is_reached(last))
    }

    /// Whether this server answers nobody yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }
}

/// Why the core does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its thread or runtime.
    #[error("the consensus thread cannot be started")]
    Thread(#[source] io::Error),
    /// openraft found the stored state unusable.
    #[error("consensus cannot go on from what is stored")]
    Stored(#[source] Box<Fatal<Consensus>>),
    /// openraft does not take the times. It is a mistake in this program.
    #[error("consensus does not take its configuration")]
    Config(#[source] openraft::ConfigError),
    /// The times that are promised by cannot be stored. Consensus goes on with those that it had.
    #[error("the new times were not stored")]
    Promise(#[source] Box<FormationError>),
    /// The thread ended while starting.
    #[error("the consensus thread ended while it started")]
    Ended,
}

/// Where the core's tasks run.
#[derive(Debug)]
enum Place {
    /// On a thread of its own, until the sender is dropped.
    Thread {
        handle: tokio::runtime::Handle,
        _stop: oneshot::Sender<()>,
    },
    /// Wherever the caller is: a simulation.
    Here,
}

impl Place {
    fn thread() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(StartError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!(%error, "the consensus thread keeps its ordinary priority");
            }
            // Either way the core was dropped.
            drop(runtime.block_on(stopped));
            runtime.shutdown_timeout(Duration::from_secs(1));
        };
        std::thread::Builder::new()
            .name("consensus".into())
            .spawn(run)
            .map_err(StartError::Thread)?;
        Ok(Self::Thread {
            handle,
            _stop: stop,
        })
    }

    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        match self {
            Self::Thread { handle, .. } => handle.spawn(task),
            Self::Here => tokio::spawn(task),
        }
    }
}

/// A running core.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) inbound: Arc<Inbound>,
    /// Proposals on their way in.
    pub(crate) proposals: Proposals<gather::Waiting>,
    /// How far changes are acknowledged, and by which followers.
    pub(crate) acknowledged: OrderedSender<Acknowledged>,
    pub(crate) timing: Timing,
    pub(crate) holds_until: Moment,
    /// Whether openraft ended, by itself or by a panic, which its metrics do not tell.
    pub(crate) ended: Arc<AtomicBool>,
    place: Place,
    helpers: Vec<tokio::task::AbortHandle>,
}

/// Starts the consensus library on what is stored.
async fn start_raft(
    ground: &Ground,
    pen: Pen,
    timing: Timing,
    place: &Place,
) -> Result<Raft, StartError> {
    let config = config(ground.formation, timing).map_err(StartError::Config)?;
    let machine = StateMachine::new(pen, ground.snapshots.clone(), ground.threads);
    let machine = machine.map_err(|Superseded| StartError::Ended)?;
    let peers = PeerFactory {
        me: ground.me,
        formation: ground.formation,
        links: ground.links.clone(),
        hushed: ground.hushed.clone(),
        snapshots: ground.snapshots.clone(),
        append_limit: timing.lease(),
        rows: Arc::new(AtomicU64::new(
            ConsensusRuntime::thread_rng().next_u64() >> 1,
        )),
    };
    let storage = LogStorage {
        log: ground.log.clone(),
        me: ground.me,
        published: ground.published.clone(),
    };
    let me = ground.me;
    let starting = place.spawn(async move { Raft::new(me, config, peers, storage, machine).await });
    let raft = starting
        .await
        .map_err(|_| StartError::Ended)?
        .map_err(|fatal| StartError::Stored(Box::new(fatal)))?;
    // One exchange with the core, so that its metrics say what is stored before anybody looks at them.
    raft.with_raft_state(|_| ())
        .await
        .map_err(|fatal| StartError::Stored(Box::new(fatal)))?;
    Ok(raft)
}

impl Drop for Core {
    fn drop(&mut self) {
        self.abort_helpers();
    }
}

impl Core {
    /// Starts consensus on what is stored. No vote is given for `hold`.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) async fn start(
        ground: Ground,
        timing: Timing,
        hold: Duration,
    ) -> Result<Self, StartError> {
        let place = if ground.threads {
            Place::thread()?
        } else {
            Place::Here
        };
        let pen = ground.published.take_pen();
        let raft = start_raft(&ground, pen.clone(), timing, &place).await?;
        let holds_until = Moment::now() + hold;
        let (inbound, queue) = Inbound::new(raft.clone(), ground.clone(), pen.clone(), holds_until);
        let ended = Arc::new(AtomicBool::new(false));
        let compacting = place.spawn(compaction::run(raft.clone(), ground.clone(), pen));
        let watching = place.spawn(follow_role(
            raft.clone(),
            ground.role_changed.clone(),
            ended.clone(),
        ));
        let taking = place.spawn(inbound.clone().take_entries(queue));
        let acknowledged = OrderedWatch::channel(Acknowledged::default()).0;
        let following = place.spawn(in_sync::run(
            raft.clone(),
            ground.clone(),
            timing.lease(),
            acknowledged.clone(),
        ));
        let (proposals, gathered) = proposals::queue();
        let gathering = place.spawn(gather::run(raft.clone(), gathered));
        let helpers = [compacting, watching, taking, following, gathering]
            .iter()
            .map(|task| task.abort_handle())
            .collect();
        Ok(Self {
            raft,
            inbound,
            proposals,
            acknowledged,
            timing,
            holds_until,
            ended,
            place,
            helpers,
        })
    }

    /// Whoever still holds the core holds nothing that goes on by itself.
    pub(crate) fn abort_helpers(&self) {
        self.helpers
            .iter()
            .for_each(tokio::task::AbortHandle::abort);
    }

    /// Why consensus does not go on, where it does not, in words.
    pub(crate) fn stopped(&self, metrics: &RaftMetrics<Consensus>) -> Option<String> {
        let ended = || self.ended.load(Ordering::Acquire);
        match &metrics.running_state {
            Err(fatal) => Some(fatal.to_string()),
            Ok(()) => ended().then(|| {
                "consensus ended unexpectedly; the log of this program has the reason".into()
            }),
        }
    }

    /// Runs a task on the core's runtime.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.place.spawn(task)
    }
}

/// Counts changes of role, primary, term and members, for those who want to look at them then.
/// Counts changes of the role, and a new leader's first answer from a quorum: only then may it act.
async fn follow_role(raft: Raft, changed: watch::Sender<u64>, ended: Arc<AtomicBool>) {
    let mut role = raft.server_metrics();
    let mut all = raft.metrics();
    let waits = |metrics: &RaftMetrics<Consensus>| {
        metrics.state == ServerState::Leader && metrics.last_quorum_acked.is_none()
    };
    let mut waiting = false;
    loop {
        tokio::select! {
            biased;
            known = WatchReceiver::changed(&mut role) => {
                if known.is_err() {
                    break;
                }
                let leads = role.borrow_and_update().state == ServerState::Leader;
                // The leader's own view may come a moment later than its role.
                waiting = leads;
            }
            known = WatchReceiver::changed(&mut all), if waiting => {
                if known.is_err() {
                    break;
                }
                waiting = waits(&all.borrow_and_update());
                if waiting {
                    continue;
                }
            }
        }
        changed.send_modify(|count| *count += 1);
    }
    ended.store(true, Ordering::Release);
    changed.send_modify(|count| *count += 1);
}

fn config(formation: FormationId, timing: Timing) -> Result<Arc<Config>, openraft::ConfigError> {
    let config = Config {
        cluster_name: formation.to_string(),
        heartbeat_interval: millis(timing.heartbeat()),
        election_timeout_min: millis(timing.elect_limit()),
        election_timeout_max: millis(timing.lease()),
        enable_elect: false,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        allow_log_reversion: None,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        purge_batch_size: 256,
        max_payload_entries: MESSAGE_ENTRIES,
        backoff: "50ms 100ms 100ms 100ms".into(),
        ..Config::default()
    };
    Ok(Arc::new(config.validate()?))
}

/// Does work that takes long: beside the runtime where threads are wanted, else in place.
///
/// # Errors
/// The work panicked, or the runtime is going away.
pub(crate) async fn blocking<T: Send + 'static>(
    threads: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if threads {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)
    } else {
        Ok(work())
    }
}
