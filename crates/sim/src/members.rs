//! Members come and go, and the mode changes, as administrators want it.
//!
//! Start at [`Story::members_change`], which is for whole stories.

use crate::breadth::More;
use crate::checks::Broken;
use crate::fixture::{invitation, number_of, server, server_id};
use crate::outside::{Doors, administer, admission, choose, remove};
use crate::scene::Scene;
use crate::story::{Story, stopped};
use model::{Command, ResilienceMode, Standing};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tokio::time::sleep;

/// The most servers of a group here.
const MOST: u8 = 7;
/// As in the daemon: how long a server that wants to join asks again.
const JOINING: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(500);

impl Story {
    /// One more change of who is there, or of how they stay able to act.
    pub(crate) fn members_change(&mut self, more: &mut More) {
        match more.chance.random_range(0..100) {
            0..35 => self.admit(more),
            35..65 => self.remove_any(more),
            _ => self.change_mode(more),
        }
    }

    /// A server that wants to join asks to be admitted; it starts when it is.
    fn admit(&mut self, more: &mut More) {
        let last = self.standings.keys().last().copied();
        let number = last.unwrap_or(0) + 1;
        if number > MOST {
            return;
        }
        let all = [
            Standing::Voter,
            Standing::Voter,
            Standing::Witness,
            Standing::NonVoter,
        ];
        let standing = all.choose(&mut more.chance).copied();
        let standing = standing.unwrap_or(Standing::Voter);
        self.admit_as(
            number,
            standing,
            SmallRng::seed_from_u64(more.chance.random()),
        );
    }

    /// The same, with a number and as what is known.
    pub(crate) fn admit_as(&mut self, number: u8, standing: Standing, chance: SmallRng) {
        self.standings.insert(number, standing);
        let event = format!("server {number} wants to join as {}", standing.as_str());
        self.note("join", None, event);
        let (doors, scene) = (self.doors.clone(), self.world.scene.clone());
        self.world
            .spawn(join(number, standing, chance, doors, scene));
    }

    /// Servers that were admitted start, in the formation that admitted them.
    pub(crate) fn admitted_start(&mut self) -> Result<(), Broken> {
        let numbers = self.world.numbers();
        if numbers.len() == self.standings.len() {
            return Ok(());
        }
        let asked = self.standings.keys().filter(|it| !numbers.contains(it));
        let asked: Vec<u8> = asked.copied().collect();
        for number in asked {
            let id = server_id(number);
            let formation = self.directory(|directory| {
                let formation = directory.group().formation.this.id;
                directory.server(id).map(|_| formation)
            });
            if let Some(formation) = formation.flatten() {
                self.say(format!("server {number} joins"));
                let joined = self.world.join(number, formation);
                joined
                    .map_err(|error| stopped(&format!("server {number} cannot join: {error}")))?;
                self.refresh();
            }
        }
        Ok(())
    }

    fn remove_any(&mut self, more: &mut More) {
        let members = self.directory(|directory| {
            let all = directory.servers().map(|server| number_of(server.id));
            all.collect::<Vec<u8>>()
        });
        let members = members.unwrap_or_default();
        // Somebody is to be left to tell of.
        if members.len() < 3 && !more.chance.random_bool(0.2) {
            return;
        }
        let modes = [ResilienceMode::Availability, ResilienceMode::Quorum];
        let mode = modes.choose(&mut more.chance).copied();
        let asked = mode.filter(|_| more.chance.random_bool(0.7));
        if let Some(number) = members.choose(&mut more.chance).copied() {
            self.remove(number, asked);
        }
    }

    /// An administrator removes a server, and says, if asked, what the group is to be.
    pub(crate) fn remove(&mut self, number: u8, mode: Option<ResilienceMode>) {
        let Some(primary) = self.world.primary() else {
            return;
        };
        let (server, handle) = (primary.server.clone(), primary.handle());
        handle.spawn(remove(server, number, mode));
        let event = format!("server {number} is to be removed");
        self.note("remove", Some(number), event);
    }

    fn change_mode(&mut self, more: &mut More) {
        let words = [Some("availability"), Some("quorum"), None];
        let word = words.choose(&mut more.chance).copied().flatten();
        match word {
            Some(word) => self.set("resilience.mode", word),
            None => self.unset("resilience.mode"),
        }
        self.mode_changed = true;
    }

    /// As narrow stories have it: where a majority must agree, by the one that acts, and with several left.
    pub(crate) fn remove_server(&mut self, number: u8) {
        let few = self.world.numbers().len() < 3;
        if self.mode() == ResilienceMode::Availability || few {
            return;
        }
        self.remove(number, None);
    }

    /// As narrow stories have it: where a majority must agree, and the server starts before it is admitted.
    pub(crate) fn join_server(&mut self) -> Result<(), Broken> {
        if self.mode() == ResilienceMode::Availability {
            return Ok(());
        }
        let number = self.standings.keys().last().copied().unwrap_or(0) + 1;
        if number > MOST {
            return Ok(());
        }
        let standing = [Standing::Voter, Standing::Witness, Standing::NonVoter];
        let standing = standing.choose(&mut self.chance).copied();
        let standing = standing.unwrap_or(Standing::Voter);
        if self.more.is_some() {
            let chance = SmallRng::seed_from_u64(self.chance.random());
            self.admit_as(number, standing, chance);
            return Ok(());
        }
        self.standings.insert(number, standing);
        let words = format!("server {number} joins as {}", standing.as_str());
        self.ask("join", &words, admission(number, standing));
        let joined = self.world.join(number, crate::fixture::formation_id());
        joined.map_err(|error| stopped(&format!("server {number} cannot join: {error}")))?;
        self.refresh();
        Ok(())
    }
}

/// A server asks members, one after the other, until one has admitted it, as in the daemon.
async fn join(number: u8, standing: Standing, mut chance: SmallRng, doors: Doors, scene: Scene) {
    let invitation = invitation(number, standing);
    let command = Command::AdmitServer {
        server: Box::new(server(number, standing)),
        invitation: invitation.id,
    };
    let invite = Command::Invite {
        invitation: Box::new(invitation),
    };
    let asks = SmallRng::seed_from_u64(chance.random());
    administer(vec![invite], asks, doors.clone(), scene.clone()).await;
    let end = scene.now() + JOINING;
    while scene.now() < end {
        if let Some((member, handle)) = choose(&mut chance, &doors, &scene) {
            let command = command.clone();
            let admitted = handle.spawn(async move {
                let state = member.replica.state();
                let directory = member.directory(&state);
                let busy = directory.servers().any(|other| !other.started);
                let known = directory.server(server_id(number)).is_some();
                let there = member.leader_now().is_some();
                drop(state);
                if known {
                    return true;
                }
                !busy && there && member.submit(command).await.is_ok()
            });
            if admitted.await.is_ok_and(|admitted| admitted) {
                return;
            }
        }
        sleep(AGAIN).await;
    }
}
