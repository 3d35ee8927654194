//! What goes wrong, and what administrators do meanwhile.
//!
//! Start at [`Story::misfortune`]: one line for each kind.

use crate::checks::Broken;
use crate::fixture::server_id;
use crate::machine::End;
use crate::network::Air;
use crate::outside::{administer, promote};
use crate::story::{Story, stopped};
use model::{BackupEdit, Command, PauseChange, ResilienceMode, ServerId};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use std::time::Duration;

fn millis(chance: &mut SmallRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(chance.random_range(range))
}

impl Story {
    /// One more thing happens.
    pub(crate) fn misfortune(&mut self) -> Result<(), Broken> {
        let numbers = self.world.numbers();
        let primary = self.world.primary_number();
        let any = numbers.choose(&mut self.chance).copied();
        let one = match primary {
            Some(primary) if self.chance.random_bool(0.35) => primary,
            _ => any.unwrap_or(1),
        };
        if self.mode() == ResilienceMode::Availability && self.chance.random_bool(0.35) {
            return self.parting(numbers, one);
        }
        match self.chance.random_range(0..100) {
            0..9 => self.end_or_start(one, true)?,
            9..15 => self.end_or_start(one, false)?,
            15..21 => self.reboot(one)?,
            21..26 => self.power_lost_at_a_write(one),
            26..33 => self.freeze(one),
            33..41 => self.split(numbers),
            41..45 => self.cut_off_from_primary(one),
            45..48 => self.flap(numbers)?,
            48..54 => self.mend(),
            54..59 => self.bad_air(),
            59..62 => self.fill_disk(one),
            62..65 => self.clock_jumps(one),
            65..69 => self.forgetful(numbers, one)?,
            69..74 => self.switchover(one),
            74..77 => self.pause(),
            77..80 => self.failover_setting(),
            80..85 => self.list(one),
            85..88 => self.times(),
            88..90 => self.remove_server(one),
            90..92 => self.join_server()?,
            92..93 => self.order(one),
            93..94 => self.empty(one),
            _ => self.start_all()?,
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, kind: &'static str, hit: Option<u8>, event: String) {
        let now = self.world.scene.now();
        let primary = self.world.primary_number();
        self.shapes
            .happened(kind, hit.is_some() && hit == primary, now);
        self.say(event);
    }

    fn end_or_start(&mut self, number: u8, power: bool) -> Result<(), Broken> {
        if !self.world.runs(number) {
            return self.start(number);
        }
        if power {
            self.power_off(number);
        } else {
            self.kill(number);
        }
        Ok(())
    }

    /// A machine loses its power.
    pub(crate) fn power_off(&mut self, number: u8) {
        let seed = self.chance.random();
        let event = format!("server {number} loses its power");
        self.note("power", Some(number), event);
        self.world.end(number, End::Power(seed));
        self.refresh();
    }

    /// A server is killed.
    pub(crate) fn kill(&mut self, number: u8) {
        self.note("kill", Some(number), format!("server {number} is killed"));
        self.world.end(number, End::Killed);
        self.refresh();
    }

    /// A machine's server starts.
    pub(crate) fn start(&mut self, number: u8) -> Result<(), Broken> {
        // Without a primary nobody can say who was removed: of two formations each may have removed the other's primary.
        let said = self.more.is_none() || self.world.primary().is_some();
        if said && self.removed(number) || self.reset.contains(&number) {
            return Ok(());
        }
        self.say(format!("server {number} starts"));
        let scene = self.world.scene.clone();
        scene.with_seen(|seen| seen.restarted(server_id(number)));
        let started = self.world.start(number);
        started.map_err(|error| stopped(&format!("server {number} does not start: {error}")))?;
        if let Some(running) = self.world.server(number) {
            let replica = &running.server.replica;
            let (me, formation, (_, last)) = (replica.me(), replica.formation(), replica.log_end());
            scene.with_seen(|seen| seen.holds(me, formation, last));
        }
        self.refresh();
        Ok(())
    }

    /// All machines whose server does not run start.
    pub(crate) fn start_all(&mut self) -> Result<(), Broken> {
        for number in self.world.numbers() {
            if !self.world.runs(number) {
                self.start(number)?;
            }
        }
        Ok(())
    }

    /// A machine loses its power, or its server is killed, and is back in no time.
    fn reboot(&mut self, number: u8) -> Result<(), Broken> {
        if !self.world.runs(number) {
            return self.start(number);
        }
        self.note(
            "reboot",
            Some(number),
            format!("server {number} is restarted"),
        );
        let power = self.chance.random_bool(0.5);
        let seed = self.chance.random();
        self.world
            .end(number, if power { End::Power(seed) } else { End::Killed });
        self.refresh();
        let span = millis(&mut self.chance, 5..80);
        self.pass(span)?;
        self.start(number)
    }

    fn power_lost_at_a_write(&mut self, number: u8) {
        let after = self.chance.random_range(0..40);
        let event = format!("server {number} loses its power after {after} more writes");
        self.note("write", Some(number), event);
        self.world
            .set_weather(number, |weather| weather.dies_after = Some(after));
    }

    /// A machine lost its power at a write.
    pub(crate) fn died(&mut self, number: u8) {
        let seed = self.chance.random();
        self.note(
            "write",
            Some(number),
            format!("server {number} lost its power at a write"),
        );
        self.world.end(number, End::Power(seed));
        self.refresh();
    }

    fn freeze(&mut self, number: u8) {
        if !self.world.runs(number) {
            return;
        }
        let longest = if self.chance.random_bool(0.5) {
            900
        } else {
            6000
        };
        let span = millis(&mut self.chance, 50..longest);
        self.note(
            "freeze",
            Some(number),
            format!("server {number} is frozen for {span:?}"),
        );
        self.world.freeze(number, span);
    }

    pub(crate) fn split(&mut self, mut numbers: Vec<u8>) {
        if self.mode() == ResilienceMode::Availability {
            // The tie-breaker is on one side too.
            numbers.push(0);
        }
        numbers.shuffle(&mut self.chance);
        let size = self.chance.random_range(1..numbers.len().max(2));
        let both = self.chance.random_bool(0.6);
        let (side, others) = numbers.split_at(size.min(numbers.len()));
        let (kind, way) = if both {
            ("split", "to or from")
        } else {
            ("one-way", "to")
        };
        self.shapes.lasts(kind, true);
        self.note(
            kind,
            None,
            format!("nothing gets from {side:?} {way} {others:?}"),
        );
        self.world.cut(side, others, both);
    }

    fn cut_off_from_primary(&mut self, number: u8) {
        let primary = self.world.primary_number();
        if let Some(primary) = primary.filter(|primary| *primary != number) {
            let event =
                format!("server {number} and the primary, {primary}, do not hear each other");
            self.shapes.lasts("cut", true);
            self.note("cut", None, event);
            self.world.cut(&[number], &[primary], true);
        }
    }

    fn flap(&mut self, mut numbers: Vec<u8>) -> Result<(), Broken> {
        numbers.shuffle(&mut self.chance);
        let (side, others) = numbers.split_at(1);
        self.note(
            "flap",
            side.first().copied(),
            format!("the link of {side:?} flaps"),
        );
        for _ in 0..self.chance.random_range(2..6) {
            self.world.cut(side, others, true);
            let span = millis(&mut self.chance, 50..600);
            self.pass(span)?;
            self.world.network.mend();
            let span = millis(&mut self.chance, 20..300);
            self.pass(span)?;
        }
        Ok(())
    }

    /// The network is as it should be again.
    pub(crate) fn mend(&mut self) {
        self.say("everything is connected again".into());
        for kind in ["split", "one-way", "cut", "slow"] {
            self.shapes.lasts(kind, false);
        }
        self.world.network.mend();
        self.world.network.set_air(Air::quiet());
    }

    fn bad_air(&mut self) {
        self.shapes.lasts("slow", true);
        let delay = millis(&mut self.chance, 1..80);
        let lost = self.chance.random_range(0..100);
        let event = format!("messages take up to {delay:?}, and {lost} of a thousand are lost");
        self.note("slow", None, event);
        self.world.network.set_air(Air { delay, lost });
    }

    fn fill_disk(&mut self, number: u8) {
        let full = self.chance.random_bool(0.6);
        let (kind, word) = if full {
            ("full", "full")
        } else {
            ("room", "no longer full")
        };
        self.note(
            kind,
            Some(number),
            format!("the disk of server {number} is {word}"),
        );
        let capacity = full.then_some(1);
        self.world
            .set_weather(number, |weather| weather.capacity = capacity);
    }

    fn clock_jumps(&mut self, number: u8) {
        let offset = self.chance.random_range(-90_000..90_000);
        let event = format!("the calendar of server {number} is {offset} ms off");
        self.note("clock", Some(number), event);
        self.world.scene.set_offset(server_id(number), offset);
    }

    /// A voter that forgot its promise would now help one that does not hear the primary to its office.
    fn forgetful(&mut self, numbers: Vec<u8>, one: u8) -> Result<(), Broken> {
        self.mend();
        self.cut_off_from_primary(one);
        let span = millis(&mut self.chance, 400..900);
        self.pass(span)?;
        for number in numbers {
            if number != one
                && Some(number) != self.world.primary_number()
                && self.world.runs(number)
            {
                self.reboot(number)?;
            }
        }
        Ok(())
    }

    fn switchover(&mut self, to: u8) {
        let temporary = self.chance.random_bool(0.5);
        self.promote(to, temporary);
    }

    /// An administrator promotes a server.
    pub(crate) fn promote(&mut self, to: u8, temporary: bool) {
        let Some(primary) = self.world.primary() else {
            return;
        };
        let (server, handle) = (primary.server.clone(), primary.handle());
        handle.spawn(promote(server, to, temporary));
        let how = if temporary { "lent" } else { "handed" };
        self.note(
            "switchover",
            None,
            format!("the office is to be {how} to {to}"),
        );
    }

    fn order(&mut self, number: u8) {
        let Some(running) = self.world.server(number) else {
            return;
        };
        running.within(|server| {
            let fit = |view: &policy::View<'_>| {
                view.leader.is_none() && policy::promotion::promotion(view, server.me).is_possible()
            };
            if server.with_view(fit) {
                server.order();
            }
        });
        self.note(
            "order",
            None,
            format!("server {number} is told to become primary"),
        );
    }

    /// An administrator asks for something.
    pub(crate) fn ask(&mut self, kind: &'static str, words: &str, commands: Vec<Command>) {
        self.note(kind, None, format!("an administrator: {words}"));
        let chance = SmallRng::seed_from_u64(self.chance.random());
        let (doors, scene) = (self.doors.clone(), self.world.scene.clone());
        self.world.spawn(administer(commands, chance, doors, scene));
    }

    /// An administrator sets a setting.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let words = format!("{key} is to be {value}");
        let command = Command::SetSetting {
            key: key.into(),
            value: value.into(),
            on: None,
        };
        self.ask("setting", &words, vec![command]);
    }

    /// An administrator takes a setting back to its default.
    pub(crate) fn unset(&mut self, key: &str) {
        let words = format!("{key} is to be as usual");
        let command = Command::UnsetSetting {
            key: key.into(),
            on: None,
        };
        self.ask("setting", &words, vec![command]);
    }

    fn pause(&mut self) {
        let begin = self.chance.random_bool(0.6);
        let change = match begin {
            true => PauseChange::Begin {
                reason: "maintenance".into(),
                span_ms: 60_000,
            },
            false => PauseChange::End { reason: None },
        };
        self.shapes.lasts("paused", begin);
        let words = if begin {
            "failover pauses"
        } else {
            "failover goes on"
        };
        self.ask("pause", words, vec![Command::ChangePause { change }]);
    }

    fn failover_setting(&mut self) {
        let on = self.chance.random_bool(0.6);
        self.shapes.lasts("off", !on);
        self.set("resilience.failover", if on { "true" } else { "false" });
    }

    fn times(&mut self) {
        let (key, values) = [
            ("resilience.monitor-attempts", ["3", "5", "9", "16"]),
            (
                "resilience.monitor-interval",
                ["50ms", "80ms", "100ms", "150ms"],
            ),
            ("resilience.rank-delay", ["50ms", "150ms", "300ms", "10ms"]),
            ("resilience.return-delay", ["1s", "2s", "4s", "6s"]),
        ]
        .choose(&mut self.chance)
        .copied()
        .unwrap_or(("resilience.rank-delay", ["150ms"; 4]));
        let value = values.choose(&mut self.chance).copied().unwrap_or("150ms");
        self.set(key, value);
    }

    fn list(&mut self, one: u8) {
        let server = server_id(one);
        let command = match self.chance.random_range(0..5) {
            0 => Command::SetBackups {
                backups: Vec::new(),
                reason: None,
            },
            1 | 2 => edit(BackupEdit::Remove { server }),
            3 => edit(BackupEdit::Add {
                server,
                place: None,
            }),
            _ => {
                let mut backups: Vec<ServerId> =
                    self.world.numbers().into_iter().map(server_id).collect();
                backups.retain(|id| self.leads(*id));
                backups.shuffle(&mut self.chance);
                let reason = None;
                Command::SetBackups { backups, reason }
            }
        };
        let words = format!("{command:?}");
        self.ask("list", &words, vec![command]);
    }
}

fn edit(edit: BackupEdit) -> Command {
    Command::EditBackups { edit, reason: None }
}
