//! One story: a group comes together, clients write, things break and mend, and in the end everything must be as it should.
//!
//! Start at [`run`].

use crate::checks::{Broken, Invariant, Seen, broken, rightful};
use crate::fixture::{number_of, server_id};
use crate::network::Network;
use crate::outside::{Doors, write};
use crate::planted::Planted;
use crate::scene::Scene;
use crate::shape::Shapes;
use crate::world::{STEP, World};
use model::{Command, Directory, PauseChange, ServerId, Standing};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use replica::disk::Weather;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

/// How long the storm lasts when nothing else is said, in simulated time.
pub const STORM: Duration = Duration::from_secs(12);
/// How long everything may take to become as it should when nothing breaks any more.
const CALM: Duration = Duration::from_secs(120);
/// How long a group may take to come together: servers count after 10 s.
const BEGINNING: Duration = Duration::from_secs(40);
/// How many clients write at the same time.
const CLIENTS: u64 = 3;
/// Everything is looked at after so many steps.
const LOOKS: u32 = 2;

/// What a story is told with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plot {
    /// Every choice comes from it.
    pub seed: u64,
    /// How long the storm lasts, in simulated time.
    pub storm: Duration,
    /// A bug that is there on purpose.
    pub planted: Option<Planted>,
}

impl Plot {
    /// The ordinary story of a seed.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            storm: STORM,
            planted: None,
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
        let members = members(&mut chance);
        let settings = settings(&mut chance);
        let scene = Scene::new(plot.planted);
        let network = Network::new(chance.random());
        let weather = Weather {
            lies: scene.has(Planted::LyingDisk),
            ..Weather::default()
        };
        let world = World::found(network, scene, &members, &settings, weather);
        let world = world.map_err(|error| stopped(&error.to_string()))?;
        let mut story = Self {
            plot,
            chance,
            world,
            shapes: Shapes::new(size(&members)),
            doors: Doors::default(),
            standings: members.iter().copied().collect(),
            events: Vec::new(),
            steps: 0,
        };
        story.say(format!("a group of {} with {settings:?}", size(&members)));
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
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Broken> {
        let before = self.world.scene.with_seen(|seen| seen.primary);
        self.world.look()?;
        let (acting, primary) = self
            .world
            .scene
            .with_seen(|seen| (seen.acting, seen.primary));
        if primary != before
            && let Some((server, term)) = primary
        {
            self.say(format!("server {} acts in term {term}", number_of(server)));
        }
        self.shapes.look(acting, self.world.scene.now());
        Ok(())
    }

    /// Lets time pass until a condition holds.
    fn until(
        &mut self,
        what: &str,
        limit: Duration,
        invariant: Invariant,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), Broken> {
        let end = self.world.scene.now() + limit;
        while !holds(self) {
            if self.world.scene.now() > end {
                let states: Vec<_> = self
                    .world
                    .replicas()
                    .map(replica::Replica::status)
                    .collect();
                let group = self.directory(|directory| format!("{:?}", directory.group().backups));
                let seen = format!("not within {limit:?}: {what}: backups {group:?}: {states:#?}");
                return broken(invariant, seen);
            }
            self.pass(STEP * 10)?;
        }
        Ok(())
    }

    /// Asks the directory of the primary, or of any server.
    pub(crate) fn directory<T>(&self, ask: impl FnOnce(&Directory) -> T) -> Option<T> {
        let any = || self.world.running().next();
        let running = self.world.primary().or_else(any)?;
        let state = running.server.replica.state();
        state.directory.as_ref().map(ask)
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

    /// Whether consensus counts whom the directory names.
    fn arranged(&self) -> bool {
        let Some(primary) = self.world.primary() else {
            return false;
        };
        let status = primary.server.replica.status();
        let state = primary.server.replica.state();
        let Some(directory) = &state.directory else {
            return false;
        };
        let counts = |server: &model::Server| server.standing.votes() && server.voting;
        let wanted = directory.servers().filter(|it| it.standing.votes());
        let named: BTreeSet<ServerId> = wanted.map(|server| server.id).collect();
        let all = directory
            .servers()
            .filter(|it| it.standing.votes())
            .all(|it| counts(it));
        all && named == status.voters && !status.members_changing
    }

    fn come_together(&mut self) -> Result<(), Broken> {
        let what = "the group comes together";
        self.until(what, BEGINNING, Invariant::Progress, Self::arranged)
    }

    fn clients(&mut self, stopped: &watch::Receiver<bool>) {
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
        let end = self.world.scene.now() + self.plot.storm;
        while self.world.scene.now() < end {
            self.misfortune()?;
            let longest = if self.chance.random_bool(0.5) {
                200
            } else {
                1500
            };
            let span = Duration::from_millis(self.chance.random_range(10..longest));
            self.pass(span)?;
        }
        Ok(())
    }

    /// Nothing breaks any more; the group must go on, and go back to what the settings say.
    fn calm(&mut self) -> Result<(), Broken> {
        self.say("nothing breaks any more".into());
        self.mend();
        for number in self.world.numbers() {
            self.world.scene.set_offset(server_id(number), 0);
            self.world.set_weather(number, |_| {});
        }
        self.start_all()?;
        let what = "somebody acts";
        let acts = |story: &Self| story.world.primary().is_some();
        let paused = self.directory(|it| it.group().pause.is_some() || !it.settings().failover());
        if paused == Some(true) {
            // While failover is off or paused only the recorded primary leads: it is there again.
            self.until(what, CALM, Invariant::Progress, acts)?;
        }
        let change = PauseChange::End { reason: None };
        let resume = vec![Command::ChangePause { change }];
        self.ask("resume", "failover goes on", resume);
        self.set("resilience.failover", "true");
        let acknowledged = self.world.scene.with_seen(|seen| seen.acknowledged.len());
        let goes_on = move |story: &Self| {
            let scene = &story.world.scene;
            scene.with_seen(|seen| seen.acknowledged.len()) > acknowledged + 10
        };
        let what = "changes are accepted again";
        self.until(what, CALM, Invariant::Progress, goes_on)?;
        let what = "consensus counts whom the directory names";
        self.until(what, CALM, Invariant::Converges, Self::arranged)?;
        let what = "the primary is whom the settings name";
        self.until(what, CALM, Invariant::Converges, Self::is_rightful)
    }

    /// Whether the one that holds the office is whom the settings name.
    fn is_rightful(&self) -> bool {
        let Some(primary) = self.world.primary() else {
            return false;
        };
        let (me, holds) = primary.within(|server| {
            let status = server.replica.status();
            (server.me, server.holds(&status.acting, status.term))
        });
        let status = primary.server.replica.status();
        let state = primary.server.replica.state();
        let directory = state.directory.as_ref();
        let named = directory.and_then(|directory| rightful(directory, &status));
        holds && named.is_none_or(|named| named == me)
    }

    fn settle(&mut self) -> Result<(), Broken> {
        let equal = |story: &Self| {
            let members = || {
                let replicas = story.world.replicas();
                replicas.filter(|replica| story.world.is_member(replica.me()))
            };
            let applied: BTreeSet<u64> = members().map(|it| it.state().applied).collect();
            let entries: BTreeSet<u64> = members().map(|it| it.status().last_entry).collect();
            applied.len() == 1 && applied == entries && story.world.primary().is_some()
        };
        let what = "all servers are equal";
        self.until(what, CALM, Invariant::Progress, equal)?;
        let replicas = self.world.replicas();
        let members = replicas.filter(|replica| self.world.is_member(replica.me()));
        let members: Vec<_> = members.collect();
        Seen::look_for_difference(members.iter().copied())?;
        self.world.scene.with_seen(|seen| {
            let mut each = members.iter();
            each.try_for_each(|replica| seen.settle(replica))
        })
    }

    fn report(self) -> Report {
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

/// Who the group begins with: two to five voters, sometimes a witness and one that does not count.
fn members(chance: &mut SmallRng) -> Vec<(u8, Standing)> {
    let voters = [3, 3, 3, 5, 4, 2].choose(chance).copied().unwrap_or(3);
    let mut members: Vec<_> = (1..=voters).map(|it| (it, Standing::Voter)).collect();
    if chance.random_bool(0.3) || voters == 2 {
        members.push((voters + 1, Standing::Witness));
    }
    if chance.random_bool(0.15) {
        let next = u8::try_from(members.len()).unwrap_or(voters) + 1;
        members.push((next, Standing::NonVoter));
    }
    if chance.random_bool(0.05) {
        members.truncate(2);
    }
    members
}

/// The size of a group, in letters.
fn size(members: &[(u8, Standing)]) -> String {
    let of = |standing| members.iter().filter(|(_, it)| *it == standing).count();
    let voters = of(Standing::Voter).to_string();
    let witness = "w".repeat(of(Standing::Witness));
    voters + &witness + &"n".repeat(of(Standing::NonVoter))
}

fn settings(chance: &mut SmallRng) -> Vec<(&'static str, String)> {
    let returns = ["accept", "accept", "accept", "accept-secondary", "ignore"];
    let returns = returns.choose(chance).copied().unwrap_or("accept");
    let moves = ["1000 in 10m", "1000 in 10m", "3 in 10m"];
    let moves = moves.choose(chance).copied().unwrap_or("3 in 10m");
    let delay = ["1s", "2s", "3s"].choose(chance).copied().unwrap_or("1s");
    vec![
        ("resilience.primary-return", returns.to_owned()),
        ("resilience.max-moves", moves.to_owned()),
        ("resilience.return-delay", delay.to_owned()),
    ]
}

/// A server that stopped.
pub(crate) fn stopped(seen: &str) -> Broken {
    Broken {
        invariant: Invariant::Alive,
        seen: seen.into(),
    }
}
