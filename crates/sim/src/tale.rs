//! A story whose misfortunes are told one by one, for tests that read like what people know of such groups.
//!
//! Every rule holds in it as in any other story. Start at [`Group`] and [`Tale::of`].

use crate::cast::Cast;
use crate::checks::{Broken, Invariant, broken};
use crate::fixture::{app, change_user, number_of, server_id};
use crate::network::Air;
use crate::story::{Failed, Plot, Report, Story};
use model::{Command, ResilienceMode, ServerId, Standing};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;

/// How long something that is told may take to come about, in simulated time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbers of changes that are told, apart from those of the clients.
const TOLD: u64 = 900_000_000;

/// Who a tale is about.
#[derive(Debug, Clone)]
pub struct Group(Cast);

impl Group {
    /// Voters, the first of whom is primary, who go on alone after 2 s; nothing else is set.
    pub fn availability(voters: u8) -> Self {
        let group = Self::new(ResilienceMode::Availability, voters);
        group.with("resilience.island-after", "2s")
    }

    /// Voters of whom a majority must agree.
    pub fn quorum(voters: u8) -> Self {
        Self::new(ResilienceMode::Quorum, voters)
    }

    fn new(mode: ResilienceMode, voters: u8) -> Self {
        let cast = Cast {
            mode,
            members: (1..=voters).map(|it| (it, Standing::Voter)).collect(),
            settings: Vec::new(),
            fence_fails: 0,
            chosen: true,
            hosts: false,
        };
        let group = Self(cast);
        // Office goes back soon, so that tales are short.
        group.with("resilience.return-delay", "1s")
    }

    /// And a witness, with the next number.
    #[must_use]
    pub fn and_a_witness(mut self) -> Self {
        let next = self.0.members.iter().map(|(number, _)| *number).max();
        self.0
            .members
            .push((next.unwrap_or(0) + 1, Standing::Witness));
        self
    }

    /// In a mode that nobody chose.
    #[must_use]
    pub fn unchosen(mut self) -> Self {
        self.0.chosen = false;
        self
    }

    /// With hosts on which something runs for sessions.
    #[must_use]
    pub fn and_hosts(mut self) -> Self {
        self.0.hosts = true;
        self
    }

    /// With a setting.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: &str) -> Self {
        self.0.settings.retain(|(other, _)| *other != key);
        self.0.settings.push((key, value.to_owned()));
        self
    }
}

/// A tale while it is told.
pub struct Tale {
    story: Story,
    told: u64,
    /// Ends the clients.
    stop: Option<watch::Sender<bool>>,
}

type Told<T> = Result<T, Box<Failed>>;

impl Drop for Tale {
    fn drop(&mut self) {
        replica::clock::use_real_time();
        replica::runtime::unseed_chance();
    }
}

impl Tale {
    /// The group comes together.
    ///
    /// # Errors
    /// The rule that was broken, as for all that follows.
    pub fn of(group: Group) -> Told<Self> {
        let plot = Plot::of(1);
        replica::runtime::seed_chance(plot.seed);
        let chance = SmallRng::seed_from_u64(plot.seed);
        let story = Story::set_up(plot, &group.0, chance, None);
        let failed = |broken| {
            Box::new(Failed {
                seed: plot.seed,
                broken,
                events: Vec::new(),
            })
        };
        let mut tale = Self {
            story: story.map_err(failed)?,
            told: TOLD,
            stop: None,
        };
        let together = tale.story.come_together();
        tale.so(together)?;
        Ok(tale)
    }

    fn so<T>(&self, result: Result<T, Broken>) -> Told<T> {
        result.map_err(|broken| self.story.failed(broken))
    }

    /// Clients write and start sessions from now on.
    pub fn clients_write(&mut self) {
        let (stop, stopped) = watch::channel(false);
        self.story.clients(&stopped);
        self.stop = Some(stop);
    }

    /// Clients stop.
    ///
    /// # Errors
    /// See [`Tale::of`].
    pub fn clients_stop(&mut self) -> Told<()> {
        // They end with their channel, or have ended.
        drop(self.stop.take());
        self.passes(2_000)
    }

    /// So many milliseconds pass.
    ///
    /// # Errors
    /// See [`Tale::of`].
    pub fn passes(&mut self, millis: u64) -> Told<()> {
        let passed = self.story.pass(Duration::from_millis(millis));
        self.so(passed)
    }

    /// A change is asked for at a server, and made. Gives its number.
    ///
    /// # Errors
    /// It is not acknowledged there; or see [`Tale::of`].
    pub fn changes_at(&mut self, number: u8) -> Told<u64> {
        self.told += 1;
        let this = self.told;
        self.story.ask_at(number, this, PATIENCE);
        self.until(&format!("server {number} acknowledges a change"), |story| {
            let seen = |seen: &mut crate::checks::Seen| seen.acknowledged.contains_key(&this);
            story.world.scene.with_seen(seen)
        })?;
        Ok(this)
    }

    /// A change is asked for at a server, and not made for as long as it is waited for.
    ///
    /// # Errors
    /// It is acknowledged; or see [`Tale::of`].
    pub fn refuses_at(&mut self, number: u8) -> Told<()> {
        self.told += 1;
        let this = self.told;
        self.story.ask_at(number, this, Duration::from_secs(1));
        self.passes(3_000)?;
        let seen = |seen: &mut crate::checks::Seen| seen.acknowledged.contains_key(&this);
        let made = self.story.world.scene.with_seen(seen);
        let words = format!("server {number} acknowledged a change");
        let result = if made {
            broken(Invariant::Alone, words)
        } else {
            Ok(())
        };
        self.so(result)
    }

    /// Nothing gets from one of these sides to another.
    pub fn split(&mut self, sides: &[&[u8]]) {
        self.story.say(format!("the network splits into {sides:?}"));
        for (place, side) in sides.iter().enumerate() {
            for other in sides.iter().skip(place + 1) {
                self.story.world.cut(side, other, true);
            }
        }
    }

    /// Messages take their time, until the network is whole again.
    pub fn messages_take_up_to(&mut self, millis: u64) {
        let delay = Duration::from_millis(millis);
        self.story.say(format!("messages take up to {delay:?}"));
        self.story.world.network.set_air(Air { delay, lost: 0 });
    }

    /// The network is whole again.
    pub fn heals(&mut self) {
        self.story.mend();
    }

    /// A server is killed; its machine says that nobody listens.
    pub fn killed(&mut self, number: u8) {
        self.story.kill(number);
    }

    /// A machine loses its power.
    pub fn loses_power(&mut self, number: u8) {
        self.story.power_off(number);
    }

    /// A machine ends, and its disk is emptied.
    pub fn emptied(&mut self, number: u8) {
        self.story.disk_lost(number);
    }

    /// A server starts.
    ///
    /// # Errors
    /// See [`Tale::of`].
    pub fn starts(&mut self, number: u8) -> Told<()> {
        let started = self.story.start(number);
        self.so(started)
    }

    /// An administrator sets a setting at the primary.
    ///
    /// # Errors
    /// See [`Tale::of`].
    pub fn set(&mut self, key: &str, value: &str) -> Told<()> {
        self.story.set(key, value);
        self.passes(500)
    }

    /// An administrator empties the list of backups.
    ///
    /// # Errors
    /// See [`Tale::of`].
    pub fn empties_the_list(&mut self) -> Told<()> {
        let command = Command::SetBackups {
            backups: Vec::new(),
            reason: None,
        };
        self.story
            .ask("list", "the list of backups is empty", vec![command]);
        self.passes(500)
    }

    /// A server wants to join as a voter, with the next number.
    pub fn admits(&mut self, number: u8) {
        let chance = SmallRng::seed_from_u64(number.into());
        self.story.admit_as(number, Standing::Voter, chance);
    }

    /// An administrator removes a server, and says, if asked, what the group is to be.
    ///
    /// # Errors
    /// It stays a member; or see [`Tale::of`].
    pub fn removes(&mut self, number: u8, mode: Option<ResilienceMode>) -> Told<()> {
        self.story.remove(number, mode);
        let what = format!("server {number} is removed");
        self.until(&what, |story| story.removed(number))
    }

    /// Waits until a majority must agree, or no longer.
    ///
    /// # Errors
    /// It does not come about; or see [`Tale::of`].
    pub fn until_mode(&mut self, mode: ResilienceMode) -> Told<()> {
        let what = format!("the mode is {}", mode.as_str());
        self.until(&what, |story| story.mode() == mode)
    }

    /// Clients of one token ask these servers for one session, all at once.
    pub fn crowd_at(&mut self, numbers: &[u8]) {
        self.story.crowd_at(numbers, &app());
    }

    /// An administrator takes a server offline, and drains it within so many milliseconds.
    pub fn drains(&mut self, number: u8, within_millis: u64) {
        let within = Duration::from_millis(within_millis);
        self.story.take_offline(server_id(number), Some(within));
    }

    /// A client comes to every session that a server's machine runs.
    pub fn clients_attach_at(&mut self, number: u8) {
        self.story.attach_at(number);
    }

    /// How many sessions that are live each of these servers has.
    pub fn sessions_on(&self, numbers: &[u8]) -> Vec<usize> {
        numbers
            .iter()
            .map(|it| self.story.sessions_on(*it))
            .collect()
    }

    /// Waits until every member runs what the directory has on it.
    ///
    /// # Errors
    /// It does not come about; or see [`Tale::of`].
    pub fn until_hosts_agree(&mut self) -> Told<()> {
        self.until("hosts run what the directory says", Story::hosts_agree)
    }

    /// Waits until all drains have ended.
    ///
    /// # Errors
    /// It does not come about; or see [`Tale::of`].
    pub fn until_drained(&mut self) -> Told<()> {
        self.until("drains have ended", Story::drains_ended)
    }

    /// An administrator promotes a server.
    pub fn promote(&mut self, number: u8, temporary: bool) {
        self.story.promote(number, temporary);
    }

    /// An administrator recovers the group: one of the formations stands.
    pub fn recover(&mut self) {
        self.story.recover();
    }

    /// The same; of two formations the one stands that the group began with.
    pub fn recover_to_the_first(&mut self) {
        // Ids of those that are made later are smaller.
        self.story.recover_with(1);
    }

    /// Waits until these act as primaries, and no others.
    ///
    /// # Errors
    /// It does not come about; or see [`Tale::of`].
    pub fn until_primaries(&mut self, numbers: &[u8]) -> Told<()> {
        let wanted: BTreeSet<ServerId> = numbers.iter().copied().map(server_id).collect();
        self.until(&format!("{numbers:?} act as primaries"), |story| {
            let holds = story.world.running().filter(|running| {
                running.within(|server| {
                    let status = server.replica.status();
                    server.holds(&status.acting, status.term)
                })
            });
            let holds: BTreeSet<ServerId> = holds.map(|running| running.server.me).collect();
            holds == wanted
        })
    }

    /// Waits until all that run are in one formation, and nothing is left of others.
    ///
    /// # Errors
    /// It does not come about; or see [`Tale::of`].
    pub fn until_together(&mut self) -> Told<()> {
        self.until("all are in one formation", Story::is_together)
    }

    /// Waits until something of its formation, if only the beginning, has come to a server.
    ///
    /// # Errors
    /// It does not come about; or see [`Tale::of`].
    pub fn until_something_came(&mut self, number: u8) -> Told<()> {
        let id = server_id(number);
        self.until(&format!("something has come to server {number}"), |story| {
            let mut running = story.world.running();
            running.any(|one| one.server.me == id && one.server.replica.log_end() != (0, 0))
        })
    }

    /// Waits until consensus counts whom the directory names.
    ///
    /// # Errors
    /// It does not come about; or see [`Tale::of`].
    pub fn until_arranged(&mut self) -> Told<()> {
        self.until("everybody counts again", Story::arranged)
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Story) -> bool) -> Told<()> {
        let until = self
            .story
            .until(what, PATIENCE, Invariant::Converges, holds);
        self.so(until)
    }

    /// The number of the server that acts as primary; of several the first.
    pub fn primary(&self) -> Option<u8> {
        self.story.world.primary_number()
    }

    /// All that act as primaries.
    pub fn primaries(&self) -> Vec<u8> {
        let acting = self.story.world.scene.with_seen(|seen| seen.acting.clone());
        acting.into_iter().map(number_of).collect()
    }

    /// Whether the primary's directory has a change.
    pub fn has(&self, change: u64) -> bool {
        let user = change_user(change);
        let has = self
            .story
            .directory(|directory| directory.user(&user).is_some());
        has == Some(true)
    }

    /// The changes that the primary's directory keeps as divergences, of those that were told.
    pub fn diverged(&self) -> usize {
        let count = self.story.directory(|directory| {
            let all = directory.divergences();
            all.map(|one| directory.diverged(one.formation.id).count())
                .sum()
        });
        count.unwrap_or(0)
    }

    /// The number of the formation of the primary.
    pub fn formation(&self) -> u64 {
        let number = |directory: &model::Directory| directory.group().formation.this.number;
        self.story.directory(number).unwrap_or(0)
    }

    /// How often a server has become primary so far.
    pub fn changes_of_primary(&self) -> u64 {
        self.story.world.scene.with_seen(|seen| seen.primaries)
    }

    /// What happened so far, in order.
    pub fn transcript(&self) -> String {
        self.story.transcript()
    }

    /// Nothing breaks any more; everything must be as the settings say, and nothing lost.
    ///
    /// # Errors
    /// See [`Tale::of`].
    pub fn ends(mut self) -> Told<Report> {
        if self.stop.is_none() {
            self.clients_write();
        }
        let calm = self.story.calm();
        self.so(calm)?;
        drop(self.stop.take());
        let settled = self.story.settle();
        self.so(settled)?;
        Ok(self.story.report())
    }
}
