//! The simulated machines: each has a disk and, while it runs, a replica that campaigns by rank.
//!
//! Always true: a crash takes effect at once: what the machine had not synced may be lost, nothing that it still does reaches
//! disk or network.

use crate::fixture::{directory, formation_id, server_id};
use crate::wires::Wires;
use model::{IncarnationId, ServerId};
use replica::disk::{MemoryDisk, SharedDisk};
use replica::formation::Founder;
use replica::{
    Driver, LogOptions, LogOwner, Moment, OpenError, Options, Replica, Role, SnapshotLimits,
    Timing, formation,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Small, so that segments roll.
const SEGMENT: u64 = 64 << 10;
const DATA: &str = "/data";
/// How much later each next candidate steps forward.
const RANK_DELAY: Duration = Duration::from_millis(150);

/// A machine that runs.
#[derive(Debug)]
struct Running {
    replica: Replica,
    campaigner: JoinHandle<()>,
}

/// A machine.
#[derive(Debug)]
struct Machine {
    disk: MemoryDisk,
    running: Option<Running>,
}

/// All machines.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) wires: Wires,
    pub(crate) timing: Timing,
    machines: BTreeMap<u8, Machine>,
}

fn options() -> Options {
    let sync = Duration::from_millis(2);
    Options {
        log: LogOptions {
            segment_size: SEGMENT,
            driver: Driver::Tasks { sync },
        },
        snapshots: SnapshotLimits {
            entries: 60,
            bytes: 1 << 20,
        },
        silent: false,
    }
}

impl World {
    /// A world with one machine, on which a group was founded and leads itself.
    pub(crate) async fn found(wires: Wires, timing: Timing) -> Result<Self, OpenError> {
        let mut world = Self {
            wires,
            timing,
            machines: BTreeMap::new(),
        };
        let disk = MemoryDisk::new();
        let shared: SharedDisk = Arc::new(disk.clone());
        let founder = Founder {
            server: server_id(1),
            incarnation: IncarnationId::from_bytes([1; 16]),
        };
        let id = formation::found(&shared, Path::new(DATA), founder, &directory(), SEGMENT)?;
        formation::select(&shared, Path::new(DATA), id)?;
        let running = None;
        world.machines.insert(1, Machine { disk, running });
        world.start(1).await?;
        Ok(world)
    }

    /// Adds a machine that joins the group, empty.
    pub(crate) async fn join(&mut self, number: u8) -> Result<(), OpenError> {
        let disk = MemoryDisk::new();
        let shared: SharedDisk = Arc::new(disk.clone());
        let owner = LogOwner {
            formation: formation_id(),
            incarnation: IncarnationId::from_bytes([number; 16]),
        };
        formation::join(&shared, Path::new(DATA), owner, SEGMENT)?;
        formation::select(&shared, Path::new(DATA), formation_id())?;
        let running = None;
        self.machines.insert(number, Machine { disk, running });
        self.start(number).await
    }

    /// The numbers of all machines.
    pub(crate) fn numbers(&self) -> Vec<u8> {
        self.machines.keys().copied().collect()
    }

    /// The replicas that run.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        let running = self
            .machines
            .values()
            .filter_map(|machine| machine.running.as_ref());
        running.map(|running| &running.replica)
    }

    /// Whether a machine runs.
    pub(crate) fn runs(&self, number: u8) -> bool {
        self.machines
            .get(&number)
            .is_some_and(|machine| machine.running.is_some())
    }

    /// The replica that acts as primary.
    pub(crate) fn primary(&self) -> Option<&Replica> {
        self.replicas().find(|replica| replica.acting().is_yes())
    }

    /// A machine starts on what its disk has.
    pub(crate) async fn start(&mut self, number: u8) -> Result<(), OpenError> {
        let Some(machine) = self.machines.get_mut(&number) else {
            return Ok(());
        };
        let me = server_id(number);
        let plug = self.wires.plug_in(me);
        let disk: SharedDisk = Arc::new(machine.disk.clone());
        let data = Path::new(DATA);
        let replica = Replica::open(disk, data, me, plug, self.timing, options()).await?;
        self.wires.answers(me, replica.clone());
        let rank = u32::from(number) - 1;
        let campaigner = tokio::spawn(campaign_by_rank(replica.clone(), rank));
        machine.running = Some(Running {
            replica,
            campaigner,
        });
        Ok(())
    }

    /// A machine loses its power.
    pub(crate) fn crash(&mut self, number: u8, seed: u64) {
        let Some(machine) = self.machines.get_mut(&number) else {
            return;
        };
        self.wires.unplug(server_id(number));
        machine.disk = machine.disk.crash(seed);
        if let Some(running) = machine.running.take() {
            running.campaigner.abort();
            // Its tasks end by themselves; nothing that they do is seen by anybody.
            tokio::spawn(async move { running.replica.shutdown().await });
        }
    }

    /// Cuts the ways between two sides, in both directions or from the first to the second only.
    pub(crate) fn cut(&self, side: &[u8], others: &[u8], both: bool) {
        for one in side {
            for other in others {
                self.wires.cut(server_id(*one), server_id(*other));
                if both {
                    self.wires.cut(server_id(*other), server_id(*one));
                }
            }
        }
    }
}

/// When a server may ask for votes: its primary was silent for a lease, and those before it in rank had their turn.
fn ready(replica: &Replica, rank: u32) -> Option<Moment> {
    let status = replica.status();
    let counts = status.voters.contains(&replica.me());
    if !counts || matches!(status.role, Role::Leader | Role::Stopped | Role::Learner) {
        return None;
    }
    let slack = Duration::from_millis(2);
    let since = status.lease_until.max(status.holds_until)?;
    Some(since + slack + RANK_DELAY * rank)
}

async fn campaign_by_rank(replica: Replica, rank: u32) {
    loop {
        let pause = match ready(&replica, rank) {
            Some(at) if Moment::now() >= at => {
                // Refused or begun: the status tells, next time.
                let _outcome: Result<(), replica::CampaignRefused> = replica.campaign().await;
                Duration::from_millis(30)
            }
            _ => Duration::from_millis(10),
        };
        tokio::time::sleep(pause).await;
    }
}

/// The number of a server.
pub(crate) fn number_of(server: ServerId) -> u8 {
    server.as_bytes().first().copied().unwrap_or(0)
}
