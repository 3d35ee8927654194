//! One story: a group comes together, clients write, things break and mend, and in the end everything must be as it should.
//!
//! Start at [`run`].

use crate::breadth::{Breadth, More};
use crate::cast::Cast;
use crate::checks::{Broken, Invariant, broken};
use crate::fixture::{number_of, server_id};
use crate::network::Network;
use crate::outside::{Doors, ask_at, write};
use crate::planted::Planted;
use crate::scene::Scene;
use crate::shape::Shapes;
use crate::world::{STEP, World};
use model::{Directory, ResilienceMode, ServerId, Standing};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use replica::disk::Weather;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

/// How long the storm lasts when nothing else is said, in simulated time.
pub const STORM: Duration = Duration::from_secs(12);
/// How long a group may take to come together: servers count after 10 s.
const BEGINNING: Duration = Duration::from_secs(40);
/// How many clients write at the same time.
const CLIENTS: u64 = 3;
/// Everything is looked at after so many steps.
const LOOKS: u32 = 2;
/// Servers that were admitted are looked for after so many steps.
const ADMITTED: u32 = 25;

/// What a story is told with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plot {
    /// Every choice comes from it.
    pub seed: u64,
    /// How long the storm lasts, in simulated time.
    pub storm: Duration,
    /// A bug that is there on purpose.
    pub planted: Option<Planted>,
    /// How the group stays able to act; by chance where it is not said.
    pub mode: Option<ResilienceMode>,
    /// How much of what people do there is in it.
    pub breadth: Breadth,
}

impl Plot {
    /// The ordinary story of a seed.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            storm: STORM,
            planted: None,
            mode: None,
            breadth: Breadth::Whole,
        }
    }

    /// The story of a seed as stories were told at first.
    pub fn narrow(seed: u64) -> Self {
        Self {
            breadth: Breadth::Narrow,
            ..Self::of(seed)
        }
    }
}

/// What a story came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Changes that were acknowledged.
    pub acknowledged: usize,
    /// Changes whose outcome stayed unknown.
    pub unknown: usize,
    /// How often a server became primary.
    pub primaries: u64,
    /// The shapes of the failures in which a primary was lost.
    pub shapes: BTreeSet<String>,
    /// What happened, in order, each with its time.
    pub events: Vec<String>,
    /// The number of the last entry that all applied in the end.
    pub applied: u64,
    /// How much time passed in it.
    pub took: Duration,
}

/// A story in which a rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {broken}")]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// The rule, and how.
    #[source]
    pub broken: Broken,
    /// What happened before, in order.
    pub events: Vec<String>,
}

/// Tells a story.
///
/// # Errors
/// The first rule that was broken.
pub fn run(plot: Plot) -> Result<Report, Box<Failed>> {
    replica::runtime::seed_chance(plot.seed);
    let told = Story::tell(plot);
    replica::clock::use_real_time();
    replica::runtime::unseed_chance();
    told
}

/// A story while it is told.
pub(crate) struct Story {
    plot: Plot,
    pub(crate) chance: SmallRng,
    pub(crate) world: World,
    pub(crate) shapes: Shapes,
    pub(crate) doors: Doors,
    pub(crate) standings: BTreeMap<u8, Standing>,
    /// How the group began.
    mode: ResilienceMode,
    /// Whether somebody asked for another mode.
    pub(crate) mode_changed: bool,
    /// Servers that an administrator reset: they are groups of their own.
    pub(crate) reset: BTreeSet<u8>,
    /// What is in it beside what narrow stories have.
    pub(crate) more: Option<More>,
    /// The machine whose disk was emptied, until all is together again.
    pub(crate) emptied: Option<u8>,
    events: Vec<String>,
    steps: u32,
}

impl Story {
    fn tell(plot: Plot) -> Result<Report, Box<Failed>> {
        let failed = |broken, events| {
            let seed = plot.seed;
            Box::new(Failed {
                seed,
                broken,
                events,
            })
        };
        let mut story = match Self::begin(plot) {
            Ok(story) => story,
            Err(broken) => return Err(failed(broken, Vec::new())),
        };
        match story.go_on() {
            Ok(()) => Ok(story.report()),
            Err(broken) => Err(failed(broken, story.events)),
        }
    }

    fn begin(plot: Plot) -> Result<Self, Broken> {
        let mut chance = SmallRng::seed_from_u64(plot.seed);
        let mut cast = Cast::draw(plot.mode, &mut chance);
        let more = More::draw(plot.breadth, plot.seed, &mut cast);
        Self::set_up(plot, &cast, chance, more)
    }

    /// The beginning of a story with this group.
    pub(crate) fn set_up(
        plot: Plot,
        cast: &Cast,
        mut chance: SmallRng,
        more: Option<More>,
    ) -> Result<Self, Broken> {
        let scene = Scene::new(plot.planted, plot.breadth, cast.hosts);
        scene.set_fence(cast.fence_fails, chance.random());
        let network = Network::new(chance.random());
        let weather = Weather {
            lies: scene.has(Planted::LyingDisk),
            ..Weather::default()
        };
        let world = World::found(network, scene, cast, weather);
        let world = world.map_err(|error| stopped(&error.to_string()))?;
        let mut story = Self {
            plot,
            chance,
            world,
            shapes: Shapes::new(cast.size()),
            doors: Doors::default(),
            standings: cast.members.iter().copied().collect(),
            mode: cast.mode,
            mode_changed: false,
            reset: BTreeSet::new(),
            more,
            emptied: None,
            events: Vec::new(),
            steps: 0,
        };
        let mode = if cast.chosen {
            ""
        } else {
            ", in a mode that nobody chose"
        };
        let (size, settings) = (cast.size(), &cast.settings);
        story.say(format!("a group of {size} with {settings:?}{mode}"));
        story.refresh();
        Ok(story)
    }

    fn go_on(&mut self) -> Result<(), Broken> {
        self.come_together()?;
        let (stop, stopped) = watch::channel(false);
        self.clients(&stopped);
        self.storm()?;
        self.calm()?;
        // The clients end with their channel, or have ended.
        let _ended = stop.send(true);
        self.settle()
    }

    /// A rule was broken.
    pub(crate) fn failed(&self, broken: Broken) -> Box<Failed> {
        Box::new(Failed {
            seed: self.plot.seed,
            broken,
            events: self.events.clone(),
        })
    }

    /// What happened so far, a line each.
    pub(crate) fn transcript(&self) -> String {
        self.events.join("\n")
    }

    /// Somebody asks for a change of a number at a server, until it is made.
    pub(crate) fn ask_at(&self, number: u8, this: u64, patience: Duration) {
        let (doors, scene) = (self.doors.clone(), self.world.scene.clone());
        self.world
            .spawn(ask_at(server_id(number), this, patience, doors, scene));
    }

    /// The servers that run can be asked.
    pub(crate) fn refresh(&mut self) {
        let running = self.world.running();
        let doors = running.map(|running| (running.server.clone(), running.handle()));
        self.doors.replace(doors.collect());
    }

    /// Notes what happens.
    pub(crate) fn say(&mut self, event: String) {
        let now = self.world.scene.now().as_millis();
        self.events.push(format!("{now:>6} ms  {event}"));
    }

    /// Lets time pass and looks at everything, every few milliseconds.
    pub(crate) fn pass(&mut self, span: Duration) -> Result<(), Broken> {
        let end = self.world.scene.now() + span;
        while self.world.scene.now() < end {
            for number in self.world.step() {
                self.died(number);
            }
            self.steps += 1;
            if self.steps.is_multiple_of(LOOKS) {
                self.look()?;
            }
            if self.steps.is_multiple_of(ADMITTED) {
                self.admitted_start()?;
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Broken> {
        let looked = self.world.look();
        let scene = self.world.scene.clone();
        for words in scene.told() {
            self.say(words);
        }
        for one in scene.with_seen(|seen| std::mem::take(&mut seen.news)) {
            let (server, term) = (number_of(one.server), one.term);
            self.say(match one.number {
                1 => format!("server {server} acts in term {term}"),
                number => format!("server {server} acts in term {term} of formation {number}"),
            });
        }
        looked?;
        let acting = scene.with_seen(|seen| seen.acting.first().copied());
        self.shapes.look(acting, scene.now());
        Ok(())
    }

    /// Lets time pass until a condition holds.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        invariant: Invariant,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), Broken> {
        let end = self.world.scene.now() + limit;
        while !holds(self) {
            if self.world.scene.now() > end {
                let seen = format!("not within {limit:?}: {what}: {}", self.state_words());
                return broken(invariant, seen);
            }
            self.pass(STEP * 10)?;
        }
        Ok(())
    }

    /// How all servers are, in words.
    fn state_words(&self) -> String {
        let each = self.world.running().map(|running| {
            running.within(|server| {
                let state = server.replica.state();
                let directory = server.directory(&state);
                let (group, settings) = (directory.group(), directory.settings());
                let inside = server.inside();
                let office = (inside.office, inside.caretaker, inside.outlook.clone());
                drop(inside);
                format!(
                    "\n{} backups {:?} primary {:?} failover {} pause {:?} left behind {:?} office {office:?}\n{:?}\n{:?}",
                    number_of(server.me),
                    group.backups,
                    group.primary,
                    settings.failover(),
                    group.pause,
                    server.replica.left_behind(),
                    server.side(),
                    server.replica.status()
                )
            })
        });
        each.collect()
    }

    /// Asks the directory of the primary, or of any server.
    pub(crate) fn directory<T>(&self, ask: impl FnOnce(&Directory) -> T) -> Option<T> {
        let any = || self.world.running().next();
        let running = self.world.primary().or_else(any)?;
        let state = running.server.replica.state();
        state.directory.as_ref().map(ask)
    }

    /// How the group stays able to act, as its primary has it.
    pub(crate) fn mode(&self) -> ResilienceMode {
        let mode = self.directory(|directory| directory.group().mode);
        mode.unwrap_or(self.mode)
    }

    /// Whether a server was removed from the group.
    pub(crate) fn removed(&self, number: u8) -> bool {
        let id = server_id(number);
        self.directory(|directory| directory.removed(id).is_some()) == Some(true)
    }

    /// Whether a server's standing lets it be primary.
    pub(crate) fn leads(&self, server: ServerId) -> bool {
        let standing = self.standings.get(&number_of(server));
        standing.is_some_and(|standing| standing.may_lead())
    }

    pub(crate) fn come_together(&mut self) -> Result<(), Broken> {
        let what = "the group comes together";
        let together = |story: &Self| {
            let mut replicas = story.world.replicas();
            story.arranged() && replicas.all(|replica| replica.state().directory.is_some())
        };
        self.until(what, BEGINNING, Invariant::Progress, together)
    }

    pub(crate) fn clients(&mut self, stopped: &watch::Receiver<bool>) {
        for number in 0..CLIENTS {
            let chance = SmallRng::seed_from_u64(self.chance.random());
            let mut stopped = stopped.clone();
            let writing = write(number, chance, self.doors.clone(), self.world.scene.clone());
            self.world.spawn(async move {
                tokio::select! {
                    biased;
                    _ = stopped.changed() => {}
                    () = writing => {}
                }
            });
        }
    }

    fn storm(&mut self) -> Result<(), Broken> {
        // Sides that part need their time.
        let members = self.more.as_ref().is_some_and(|more| more.members);
        let (times, slow) = match self.mode {
            // Servers count after 10 s.
            ResilienceMode::Quorum if members => (2, 1500),
            ResilienceMode::Quorum => (1, 1500),
            ResilienceMode::Availability => (2, 4000),
        };
        let end = self.world.scene.now() + self.plot.storm * times;
        while self.world.scene.now() < end {
            self.misfortune()?;
            self.more_happens();
            let longest = if self.chance.random_bool(0.5) {
                200
            } else {
                slow
            };
            let span = Duration::from_millis(self.chance.random_range(10..longest));
            self.pass(span)?;
        }
        Ok(())
    }

    /// What whole stories have beside misfortunes.
    fn more_happens(&mut self) {
        let Some(mut more) = self.more.take() else {
            return;
        };
        self.happens(&mut more);
        self.more = Some(more);
    }

    fn happens(&mut self, more: &mut More) {
        if more.members && more.chance.random_bool(0.15) {
            self.members_change(more);
        }
        if let Some(people) = &mut more.people {
            for _ in 0..people.random_range(0..3) {
                self.people_act(people);
            }
        }
    }

    pub(crate) fn report(&self) -> Report {
        let replicas = self.world.replicas();
        let applied = replicas.map(|replica| replica.state().applied).max();
        let took = self.world.scene.now();
        let shapes = self.shapes.found();
        self.world.scene.with_seen(|seen| Report {
            seed: self.plot.seed,
            acknowledged: seen.acknowledged.len(),
            unknown: seen.unknown.len(),
            primaries: seen.primaries,
            shapes,
            events: self.events.clone(),
            applied: applied.unwrap_or(0),
            took,
        })
    }
}

/// A server that stopped.
pub(crate) fn stopped(seen: &str) -> Broken {
    Broken {
        invariant: Invariant::Alive,
        seen: seen.into(),
    }
}
