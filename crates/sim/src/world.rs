//! All machines, the network between them, and the time that passes for all of them alike.
//!
//! Always true: time passes in steps of [`STEP`], machine by machine in the order of their numbers, so that the same seed does
//! the same again. Start at [`World::step`].

use crate::cast::Cast;
use crate::checks::{self, Broken};
use crate::fixture::{directory, formation_id, incarnation, number_of, server_id, tie_breaker};
use crate::machine::{DATA, End, Machine, Running, SEGMENT, StartError, runtime};
use crate::network::Network;
use crate::scene::Scene;
use model::{FormationId, ServerId};
use replica::disk::{SharedDisk, Weather};
use replica::formation::{self, Founder};
use replica::{OpenError, Replica, Timing, clock};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// How far time goes at once.
pub(crate) const STEP: Duration = Duration::from_millis(2);

/// All machines.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) scene: Scene,
    pub(crate) machines: BTreeMap<u8, Machine>,
    /// Where clients and administrators are.
    outside: Runtime,
    start: Instant,
    weather: Weather,
}

/// Why there is no world to begin with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoundError {
    #[error(transparent)]
    Formation(#[from] formation::FormationError),
    #[error(transparent)]
    Join(#[from] OpenError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("no runtime")]
    Runtime(#[from] std::io::Error),
}

impl World {
    /// A group of these members: the first leads itself, the others are recorded and have nothing yet.
    pub(crate) fn found(
        network: Network,
        scene: Scene,
        cast: &Cast,
        weather: Weather,
    ) -> Result<Self, FoundError> {
        let outside = runtime()?;
        let start = {
            let _inside = outside.enter();
            Instant::now()
        };
        let mut world = Self {
            network,
            scene,
            machines: BTreeMap::new(),
            outside,
            start,
            weather,
        };
        for (number, _) in &cast.members {
            let mut machine = Machine::new(server_id(*number), incarnation(*number, 0));
            if world.machines.is_empty() {
                let shared: SharedDisk = Arc::new(machine.disk.clone());
                let founder = Founder {
                    server: machine.id,
                    incarnation: machine.incarnation,
                };
                let (data, first) = (Path::new(DATA), directory(cast));
                let id = formation::found(&shared, data, founder, &first, SEGMENT)?;
                formation::select(&shared, data, id)?;
            } else {
                machine.join(formation_id())?;
            }
            world.machines.insert(*number, machine);
            world.start(*number)?;
        }
        Ok(world)
    }

    /// A machine whose server joins the group later, with nothing.
    pub(crate) fn join(&mut self, number: u8, formation: FormationId) -> Result<(), FoundError> {
        let mut machine = Machine::new(server_id(number), incarnation(number, 0));
        machine.join(formation)?;
        self.machines.insert(number, machine);
        self.start(number)?;
        Ok(())
    }

    /// A machine's server starts.
    pub(crate) fn start(&mut self, number: u8) -> Result<(), StartError> {
        let known = self.machines.values().map(|machine| machine.id).collect();
        let Some(machine) = self.machines.get_mut(&number) else {
            return Ok(());
        };
        machine.disk.set_weather(self.weather);
        machine.start(&self.network, &self.scene, Timing::default(), known)
    }

    /// A machine's server ends.
    pub(crate) fn end(&mut self, number: u8, how: End) {
        if let Some(machine) = self.machines.get_mut(&number) {
            machine.end(&self.network, how);
            if matches!(how, End::Power(_)) {
                let kept = machine.kept();
                self.scene
                    .with_seen(|seen| seen.lost_power(machine.id, kept));
            }
        }
    }

    /// A machine's server ends, and its disk is emptied.
    pub(crate) fn empty(&mut self, number: u8) {
        self.end(number, End::Killed);
        if let Some(machine) = self.machines.get_mut(&number) {
            machine.empty();
            self.scene.with_seen(|seen| seen.emptied(machine.id));
        }
    }

    /// A machine's server is frozen for so long.
    pub(crate) fn freeze(&mut self, number: u8, span: Duration) {
        let until = self.scene.now() + span;
        if let Some(machine) = self.machines.get_mut(&number) {
            machine.frozen = Some(until);
        }
    }

    /// Changes what a machine's disk does; the rest stays as it is in this world.
    pub(crate) fn set_weather(&self, number: u8, change: impl FnOnce(&mut Weather)) {
        let mut weather = self.weather;
        change(&mut weather);
        if let Some(machine) = self.machines.get(&number) {
            machine.disk.set_weather(weather);
        }
    }

    /// Time goes on for a step. Returns the machines that lost their power on the way, at a write.
    pub(crate) fn step(&mut self) -> Vec<u8> {
        let now = self.scene.now() + STEP;
        self.scene.set_now(now);
        let mut dead = Vec::new();
        for (number, machine) in &mut self.machines {
            if !machine.tick(&self.network, now) {
                dead.push(*number);
            }
        }
        clock::use_virtual_time_since(self.start);
        let target = self.start + now;
        self.outside
            .block_on(async move { tokio::time::sleep_until(target).await });
        dead
    }

    /// Lets something run outside of all servers.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.outside.spawn(task);
    }

    /// The numbers of all machines.
    pub(crate) fn numbers(&self) -> Vec<u8> {
        self.machines.keys().copied().collect()
    }

    /// The servers that run, frozen ones too.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Running> {
        let machines = self.machines.values();
        machines.filter_map(|machine| machine.running.as_ref())
    }

    /// A machine's server, while it runs.
    pub(crate) fn server(&self, number: u8) -> Option<&Running> {
        self.machines.get(&number)?.running.as_ref()
    }

    /// The replicas that run.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.running().map(|running| &running.server.replica)
    }

    /// Whether a machine's server runs.
    pub(crate) fn runs(&self, number: u8) -> bool {
        self.server(number).is_some()
    }

    /// The server that acts as primary.
    pub(crate) fn primary(&self) -> Option<&Running> {
        self.primary_number().and_then(|number| self.server(number))
    }

    /// The number of the server that acts as primary; of several the first.
    pub(crate) fn primary_number(&self) -> Option<u8> {
        let first = self.scene.with_seen(|seen| seen.acting.first().copied());
        first.map(number_of)
    }

    /// Looks at everything.
    pub(crate) fn look(&self) -> Result<(), Broken> {
        let now = self.scene.now();
        self.scene.with_seen(|seen| {
            let looked = checks::going(&self.machines).map(|running| seen.look_at(running));
            let all = self.machines.values().map(|machine| machine.id);
            let reaching = all.filter(|id| self.network.connects(*id, tie_breaker()));
            let stands = looked.collect::<Result<Vec<_>, _>>()?;
            seen.compare(&stands)?;
            seen.reached.extend(reaching.map(|id| (id, now)));
            checks::going(&self.machines).try_for_each(|running| {
                let reaches = self.network.connects(running.server.me, tie_breaker());
                seen.look_at_guard(running, reaches, now)
            })
        })
    }

    /// Cuts the ways between two sides, in both directions or from the first to the second only.
    pub(crate) fn cut(&self, side: &[u8], others: &[u8], both: bool) {
        for one in side {
            for other in others {
                self.network.cut(server_id(*one), server_id(*other));
                if both {
                    self.network.cut(server_id(*other), server_id(*one));
                }
            }
        }
    }

    /// Whether a server is a member, as far as the primary knows.
    pub(crate) fn is_member(&self, server: ServerId) -> bool {
        let state = self.primary().map(|it| it.server.replica.state());
        let directory = state.as_ref().and_then(|state| state.directory.as_ref());
        directory.is_none_or(|directory| directory.server(server).is_some())
    }
}
