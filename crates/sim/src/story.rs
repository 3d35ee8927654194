//! One story: a group grows, clients write, things break and mend, and in the end everything must be as it should.

use crate::checks::{Broken, Invariant, Seen};
use crate::fixture::{change, server_id};
use crate::wires::{Air, Wires};
use crate::world::{World, number_of};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use replica::{Applied, ProposeError, Replica, Timing};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long the storm lasts, in virtual time.
const STORM: Duration = Duration::from_secs(10);
/// How long everything may take to become as it should when nothing breaks any more.
const CALM: Duration = Duration::from_secs(30);
/// How many clients write at the same time.
const CLIENTS: u64 = 3;

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
    /// What broke, in order.
    pub events: Vec<String>,
    /// The number of the last entry that all applied in the end.
    pub applied: u64,
}

/// The seeds to run: `STEAD_SIM_SEED` names one; else `STEAD_SIM_SEEDS` says how many, `count` when it is not set.
///
/// # Errors
/// A variable is no number.
pub fn seeds(count: u64) -> Result<Vec<u64>, std::num::ParseIntError> {
    if let Ok(one) = std::env::var("STEAD_SIM_SEED") {
        return Ok(vec![one.parse()?]);
    }
    let count = match std::env::var("STEAD_SIM_SEEDS") {
        Ok(count) => count.parse()?,
        Err(_) => count,
    };
    Ok((0..count).collect())
}

/// Tells the story of a seed.
///
/// # Errors
/// The first rule that was broken.
pub fn run(seed: u64) -> Result<Report, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Broken {
            invariant: Invariant::Progress,
            seen: format!("no runtime: {error}"),
        })?;
    replica::runtime::seed_chance(seed);
    let told = runtime.block_on(async {
        replica::clock::use_virtual_time();
        Story::tell(seed).await
    });
    drop(runtime);
    replica::clock::use_real_time();
    replica::runtime::unseed_chance();
    told
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Seen>>);

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Story {
    seed: u64,
    chance: SmallRng,
    world: World,
    shared: Shared,
    events: Vec<String>,
    /// The replicas that clients may ask, by number; replaced when a machine starts or stops.
    asked: Arc<Mutex<Vec<Replica>>>,
}

impl Story {
    async fn tell(seed: u64) -> Result<Report, Broken> {
        let mut story = Self::begin(seed).await?;
        let count = if story.chance.random_bool(0.7) { 3 } else { 5 };
        story.grow(count).await?;
        let clients = story.clients();
        story.storm().await?;
        story.calm().await?;
        for client in clients {
            client.abort();
        }
        story.settle().await
    }

    async fn begin(seed: u64) -> Result<Self, Broken> {
        let mut chance = SmallRng::seed_from_u64(seed);
        let wires = Wires::new(chance.random(), quiet());
        let world = World::found(wires, Timing::default()).await;
        let world = world.map_err(|error| stopped(&error.to_string()))?;
        let mut story = Self {
            seed,
            chance,
            world,
            shared: Shared(Arc::default()),
            events: Vec::new(),
            asked: Arc::default(),
        };
        story.refresh();
        Ok(story)
    }

    fn refresh(&mut self) {
        let replicas: Vec<Replica> = self.world.replicas().cloned().collect();
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = replicas;
    }

    /// Lets virtual time pass and looks at everything, every few milliseconds.
    async fn pass(&mut self, span: Duration) -> Result<(), Broken> {
        let end = tokio::time::Instant::now() + span;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.look()?;
        }
        Ok(())
    }

    fn look(&self) -> Result<(), Broken> {
        self.shared.seen().look(self.world.replicas())
    }

    /// Lets time pass until a condition holds.
    async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&World) -> bool,
    ) -> Result<(), Broken> {
        let end = tokio::time::Instant::now() + limit;
        while !holds(&self.world) {
            if tokio::time::Instant::now() > end {
                let states: Vec<_> = self.world.replicas().map(Replica::status).collect();
                return Err(Broken {
                    invariant: Invariant::Progress,
                    seen: format!("not within {limit:?}: {what}: {states:#?}"),
                });
            }
            self.pass(Duration::from_millis(20)).await?;
        }
        Ok(())
    }

    async fn grow(&mut self, count: u8) -> Result<(), Broken> {
        self.until("a first primary", CALM, |world| world.primary().is_some())
            .await?;
        for number in 2..=count {
            let joined = self.world.join(number).await;
            joined.map_err(|error| stopped(&error.to_string()))?;
            self.refresh();
            let Some(primary) = self.world.primary().cloned() else {
                return Err(stopped("the primary was lost while nothing broke"));
            };
            let voters: BTreeSet<_> = (1..=number).map(server_id).collect();
            let adding = async {
                primary.add_learner(server_id(number), CALM).await?;
                primary.set_voters(voters, CALM).await
            };
            let added = adding.await;
            added.map_err(|error| {
                stopped(&format!("server {number} did not become a voter: {error}"))
            })?;
        }
        Ok(())
    }

    fn clients(&mut self) -> Vec<JoinHandle<()>> {
        let client = |number: u64, chance| {
            tokio::spawn(write(
                number,
                chance,
                self.asked.clone(),
                self.shared.clone(),
            ))
        };
        let seeds: Vec<u64> = (0..CLIENTS).map(|_| self.chance.random()).collect();
        let numbered = (0..).zip(seeds);
        numbered
            .map(|(number, seed)| client(number, SmallRng::seed_from_u64(seed)))
            .collect()
    }

    async fn storm(&mut self) -> Result<(), Broken> {
        let end = tokio::time::Instant::now() + STORM;
        while tokio::time::Instant::now() < end {
            self.misfortune().await?;
            let span = Duration::from_millis(self.chance.random_range(10..900));
            self.pass(span).await?;
        }
        Ok(())
    }

    async fn misfortune(&mut self) -> Result<(), Broken> {
        let numbers = self.world.numbers();
        let Some(one) = numbers.choose(&mut self.chance).copied() else {
            return Ok(());
        };
        match self.chance.random_range(0..13) {
            0..3 => self.crash_or_start(one).await?,
            10 => self.reboot(one).await?,
            11 => self.cut_off_from_primary(one),
            12 => {
                // A voter that forgot its promise would now help one that does not hear the primary to its office.
                self.world.wires.mend();
                self.cut_off_from_primary(one);
                self.pass(Duration::from_millis(700)).await?;
                for number in numbers {
                    let primary = self.world.primary().map(|replica| number_of(replica.me()));
                    if number != one && Some(number) != primary && self.world.runs(number) {
                        self.reboot(number).await?;
                    }
                }
            }
            3 => {
                if let Some(primary) = self.world.primary().map(|replica| number_of(replica.me())) {
                    self.crash_or_start(primary).await?;
                }
            }
            4..6 => self.split(numbers),
            6 => {
                self.note("everything is connected again".into());
                self.world.wires.mend();
                self.world.wires.set_air(quiet());
            }
            7 => {
                self.note("the network is slow and loses messages".into());
                let delay = Duration::from_millis(self.chance.random_range(1..80));
                let lost = self.chance.random_range(0..100);
                self.world.wires.set_air(Air { delay, lost });
            }
            8 => self.hand_over(one),
            _ => {
                for number in numbers {
                    if !self.world.runs(number) {
                        self.crash_or_start(number).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, event: String) {
        self.events.push(event);
    }

    async fn crash_or_start(&mut self, number: u8) -> Result<(), Broken> {
        if self.world.runs(number) {
            self.note(format!("server {number} loses its power"));
            let seed = self.chance.random();
            self.world.crash(number, seed);
        } else {
            self.note(format!("server {number} starts"));
            self.shared.seen().restarted(server_id(number));
            let started = self.world.start(number).await;
            started
                .map_err(|error| stopped(&format!("server {number} does not start: {error}")))?;
        }
        self.refresh();
        Ok(())
    }

    /// A machine loses its power and is back in no time.
    async fn reboot(&mut self, number: u8) -> Result<(), Broken> {
        self.crash_or_start(number).await?;
        let span = Duration::from_millis(self.chance.random_range(5..80));
        self.pass(span).await?;
        self.crash_or_start(number).await
    }

    fn cut_off_from_primary(&mut self, number: u8) {
        let primary = self.world.primary().map(|replica| number_of(replica.me()));
        if let Some(primary) = primary.filter(|primary| *primary != number) {
            self.note(format!(
                "server {number} and the primary, {primary}, do not hear each other"
            ));
            self.world.cut(&[number], &[primary], true);
        }
    }

    fn split(&mut self, mut numbers: Vec<u8>) {
        numbers.shuffle(&mut self.chance);
        let size = self.chance.random_range(1..numbers.len().max(2));
        let both = self.chance.random_bool(0.6);
        let (side, others) = numbers.split_at(size.min(numbers.len()));
        let way = if both { "to or from" } else { "to" };
        self.note(format!("nothing gets from {side:?} {way} {others:?}"));
        self.world.cut(side, others, both);
    }

    fn hand_over(&mut self, to: u8) {
        let Some(primary) = self.world.primary().cloned() else {
            return;
        };
        self.note(format!("the office is handed to {to}"));
        let limit = Duration::from_millis(500);
        tokio::spawn(async move { primary.transfer_to(server_id(to), limit).await });
    }

    /// Nothing breaks any more; all must become equal.
    async fn calm(&mut self) -> Result<(), Broken> {
        self.world.wires.mend();
        self.world.wires.set_air(quiet());
        for number in self.world.numbers() {
            if !self.world.runs(number) {
                self.crash_or_start(number).await?;
            }
        }
        let acknowledged = self.shared.seen().acknowledged.len();
        let shared = self.shared.clone();
        self.until("changes are accepted again", CALM, |_| {
            shared.seen().acknowledged.len() > acknowledged + 10
        })
        .await
    }

    async fn settle(mut self) -> Result<Report, Broken> {
        let equal = |world: &World| {
            let applied: BTreeSet<u64> = world
                .replicas()
                .map(|replica| replica.state().applied)
                .collect();
            let entries: BTreeSet<u64> = world
                .replicas()
                .map(|replica| replica.status().last_entry)
                .collect();
            applied.len() == 1 && applied == entries && world.primary().is_some()
        };
        self.until("all servers are equal", CALM, equal).await?;
        Seen::look_for_difference(self.world.replicas())?;
        for replica in self.world.replicas() {
            self.shared.seen().settle(replica)?;
        }
        let applied = self
            .world
            .replicas()
            .map(|replica| replica.state().applied)
            .max();
        let seen = self.shared.seen();
        Ok(Report {
            seed: self.seed,
            acknowledged: seen.acknowledged.len(),
            unknown: seen.unknown.len(),
            primaries: seen.primaries,
            events: self.events.clone(),
            applied: applied.unwrap_or(0),
        })
    }
}

/// A network without trouble.
fn quiet() -> Air {
    Air {
        delay: Duration::from_millis(2),
        lost: 0,
    }
}

fn stopped(seen: &str) -> Broken {
    Broken {
        invariant: Invariant::Alive,
        seen: seen.into(),
    }
}

/// A client: proposes one change after the other, each until it knows what became of it or gives up.
async fn write(number: u64, mut chance: SmallRng, asked: Arc<Mutex<Vec<Replica>>>, shared: Shared) {
    for step in 0.. {
        let this = number * 1_000_000 + step;
        for attempt in 0.. {
            let replica = {
                let replicas = asked.lock().unwrap_or_else(PoisonError::into_inner);
                let acting = replicas.iter().find(|replica| replica.acting().is_yes());
                acting.or_else(|| replicas.choose(&mut chance)).cloned()
            };
            let limit = Duration::from_millis(chance.random_range(50..1500));
            let result = match replica {
                // Counted as unknown as soon as it is asked for, because this client may be stopped while it waits.
                Some(replica) => {
                    shared.seen().unknown.insert(this);
                    replica.propose(&change(this), limit).await
                }
                None => Err(ProposeError::NotRunning),
            };
            match result {
                Ok(Applied { outcome, .. }) => {
                    let mut seen = shared.seen();
                    seen.unknown.remove(&this);
                    if outcome.is_ok() {
                        seen.acknowledged.insert(this);
                    }
                    break;
                }
                Err(ProposeError::OutcomeUnknown) if attempt > 3 => break,
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(chance.random_range(1..30))).await;
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..20))).await;
    }
}
