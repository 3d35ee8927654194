//! A simulated machine: a disk, and, while its server runs, a runtime with a clock of its own.
//!
//! Always true: nothing of a server goes on while it is frozen or after it lost its power, because all of it runs on the one
//! runtime that then is not driven, or gone; a server that goes on after it was frozen finds its clock ahead, as after
//! SIGCONT. What the machine had not synced may be lost with its power. Start at [`Machine::tick`].

use crate::fixture::{incarnation, number_of};
use crate::hosting::Keepers;
use crate::network::{Load, Network};
use crate::scene::Scene;
use crate::server::Server;
use model::{Directory, FormationId, IncarnationId, ServerId};
use replica::disk::{MemoryDisk, SharedDisk};
use replica::{
    Driver, LogOptions, LogOwner, OpenError, Options, Replica, SnapshotLimits, Timing, clock,
    formation,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Small, so that segments roll.
pub(crate) const SEGMENT: u64 = 64 << 10;
/// Where the data is.
pub(crate) const DATA: &str = "/data";

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Its machine loses its power.
    Power(u64),
    /// Its process is killed: what it wrote is kept, and the machine says that nobody listens.
    Killed,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) server: Arc<Server>,
    runtime: Runtime,
    /// When its clock began, on its own clock and on the world's.
    start: (Instant, Duration),
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: ServerId,
    pub(crate) incarnation: IncarnationId,
    pub(crate) disk: MemoryDisk,
    /// What runs for sessions, also while the server does not.
    pub(crate) keepers: Keepers,
    pub(crate) running: Option<Running>,
    /// Until when nothing of it goes on.
    pub(crate) frozen: Option<Duration>,
    /// Whether it is up without its server.
    refuses: bool,
    /// How often its log began anew.
    lives: u8,
}

/// Why a machine's server does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Open(#[from] Box<OpenError>),
    #[error(transparent)]
    Formation(#[from] Box<formation::FormationError>),
    #[error("no runtime")]
    Runtime(#[from] std::io::Error),
}

fn options() -> Options {
    let sync = Duration::from_millis(2);
    Options {
        log: LogOptions {
            segment_size: SEGMENT,
            driver: Driver::Tasks { sync },
        },
        silent: true,
        snapshots: SnapshotLimits {
            entries: 120,
            bytes: 1 << 20,
        },
    }
}

/// A runtime on a clock that moves only when it is told to.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}

impl Machine {
    /// A machine with nothing on its disk.
    pub(crate) fn new(id: ServerId, incarnation: IncarnationId) -> Self {
        Self {
            id,
            incarnation,
            disk: MemoryDisk::new(),
            keepers: Keepers::default(),
            running: None,
            frozen: None,
            refuses: false,
            lives: 0,
        }
    }

    /// Its server joins the group, with an empty log.
    pub(crate) fn join(&mut self, id: FormationId) -> Result<(), OpenError> {
        let shared: SharedDisk = Arc::new(self.disk.clone());
        let owner = LogOwner {
            formation: id,
            incarnation: self.incarnation,
        };
        let data = Path::new(DATA);
        formation::join(&shared, data, owner, SEGMENT, None)?;
        formation::select(&shared, data, id)?;
        Ok(())
    }

    /// Its server starts on what the disk has.
    pub(crate) fn start(
        &mut self,
        network: &Network,
        scene: &Scene,
        timing: Timing,
        known: Vec<ServerId>,
    ) -> Result<(), StartError> {
        let runtime = runtime()?;
        let now = scene.now();
        let start = {
            let _inside = runtime.enter();
            (Instant::now(), now)
        };
        clock::use_virtual_time_since(start.0);
        let plug = network.plug_in(self.id, &self.disk, start);
        self.begin_anew_where_emptied()?;
        let disk: SharedDisk = Arc::new(self.disk.clone());
        let (links, me) = (plug.clone(), self.id);
        let opened = runtime.block_on(async move {
            let data = Path::new(DATA);
            Replica::open(disk, data, me, links, timing, options()).await
        });
        let replica = opened.map_err(Box::new)?;
        let server = Server::new(self.id, replica, plug, scene.clone(), start, known);
        let server = Arc::new(server);
        runtime.spawn(crate::duties::run(server.clone()));
        runtime.spawn(crate::formations::run(server.clone()));
        runtime.spawn(crate::reporting::report(server.clone()));
        if scene.has_hosts() {
            runtime.spawn(crate::hosting::run(server.clone(), self.keepers.clone()));
            runtime.spawn(crate::hosting::drain(server.clone()));
        }
        self.frozen = None;
        self.refuses = false;
        self.running = Some(Running {
            server,
            runtime,
            start,
        });
        Ok(())
    }

    /// As in the daemon: a server whose log is gone begins with an empty one under a new incarnation, in no formation.
    fn begin_anew_where_emptied(&mut self) -> Result<(), StartError> {
        let shared: SharedDisk = Arc::new(self.disk.clone());
        let data = Path::new(DATA);
        let there = formation::current(&shared, data).map_err(Box::new)?;
        let others = formation::others(&shared, data).map_err(Box::new)?;
        if there.is_some() || !others.is_empty() {
            return Ok(());
        }
        self.lives += 1;
        let owner = LogOwner {
            formation: FormationId::default(),
            incarnation: incarnation(number_of(self.id), self.lives),
        };
        let begun = formation::join(&shared, data, owner, SEGMENT, None);
        let begun = begun.and_then(|()| formation::select(&shared, data, owner.formation));
        Ok(begun.map_err(Box::new)?)
    }

    /// Its server has ended; everything on its disk is lost.
    pub(crate) fn empty(&mut self) {
        self.disk = MemoryDisk::new();
        self.keepers.clear();
    }

    /// Its server ends at once.
    pub(crate) fn end(&mut self, network: &Network, how: End) {
        network.unplug(self.id, &self.disk);
        if let End::Power(seed) = how {
            self.disk = self.disk.crash(seed);
            self.keepers.lose_power();
        }
        self.refuses = how == End::Killed;
        self.frozen = None;
        if let Some(running) = self.running.take() {
            clock::use_virtual_time_since(running.start.0);
            drop(running);
        }
    }

    /// The directory that its disk kept of what it had, while it does not run.
    pub(crate) fn kept(&self) -> Option<Directory> {
        let disk: SharedDisk = Arc::new(self.disk.clone());
        // What cannot be read is told when it starts.
        replica::on_disk(&disk, Path::new(DATA)).ok().flatten()
    }

    /// Lets the time of this machine pass until `now`. False: it lost its power on the way.
    pub(crate) fn tick(&mut self, network: &Network, now: Duration) -> bool {
        let Some(running) = &self.running else {
            if self.refuses {
                network.refuse(self.id, now);
            }
            return true;
        };
        if let Some(until) = self.frozen {
            if now < until {
                return true;
            }
            self.frozen = None;
            running.catch_up(now);
        }
        running.take_in(network.due(self.id, now));
        running.drive(now);
        !self.disk.is_dead()
    }
}

impl Running {
    fn target(&self, now: Duration) -> Instant {
        self.start.0 + now.saturating_sub(self.start.1)
    }

    fn drive(&self, now: Duration) {
        clock::use_virtual_time_since(self.start.0);
        let target = self.target(now);
        self.runtime
            .block_on(async move { tokio::time::sleep_until(target).await });
    }

    /// The clock jumps to where it would be had the server not been frozen, before anything else of it goes on.
    fn catch_up(&self, now: Duration) {
        clock::use_virtual_time_since(self.start.0);
        let target = self.target(now);
        self.runtime.block_on(async move {
            let missed = target.saturating_duration_since(Instant::now());
            tokio::time::advance(missed.saturating_sub(Duration::from_millis(1))).await;
        });
    }

    /// Does something as if inside the server.
    pub(crate) fn within<T>(&self, act: impl FnOnce(&Arc<Server>) -> T) -> T {
        clock::use_virtual_time_since(self.start.0);
        let _inside = self.runtime.enter();
        act(&self.server)
    }

    /// Lets something run on the server.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    fn take_in(&self, parcels: Vec<crate::network::Parcel>) {
        if parcels.is_empty() {
            return;
        }
        self.within(|server| {
            for parcel in parcels {
                match parcel.load {
                    Load::Question(bytes, waits) => server.asked(parcel.from, &bytes, waits),
                    // Who asked may have given up.
                    Load::Answer(answer, waits) => drop(waits.send(answer)),
                    Load::News(news) => server.heard(parcel.from, news),
                    Load::Wish(change) => server.wished(*change),
                    Load::Request(request, waits) => server.requested(parcel.from, *request, waits),
                    // Who asked may have given up.
                    Load::Reply(answer, waits) => drop(waits.send(*answer)),
                }
            }
        });
    }
}
