//! What goes wrong where sides may go on by themselves: splits that last, and disks that are emptied.
//!
//! Start at [`Story::parting`].

use crate::checks::Broken;
use crate::fixture::server_id;
use crate::story::Story;
use model::ResilienceMode;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

impl Story {
    /// What sides that may go on by themselves part or meet by.
    pub(crate) fn parting(&mut self, numbers: Vec<u8>, one: u8) -> Result<(), Broken> {
        match self.chance.random_range(0..100) {
            0..25 => self.split(numbers),
            25..40 => self.split_in_three(numbers),
            40..75 => self.mend(),
            75..90 => self.start_all()?,
            90..95 => self.empty(one),
            _ => self.island_times(),
        }
        Ok(())
    }

    /// A machine's disk is emptied, one at a time, where the others have what it promised or alone knew.
    pub(crate) fn empty(&mut self, number: u8) {
        // Two that must agree cannot go on without either.
        let voters = self.directory(|directory| directory.voters().count());
        // While the mode changes, more than the primary may count.
        let alone = self.mode() == ResilienceMode::Availability && !self.mode_changed;
        let enough = voters.is_some_and(|voters| voters > 2) || alone;
        let mut numbers = self.world.numbers().into_iter();
        let all_run = numbers.all(|number| self.world.runs(number));
        if all_run && self.is_together() && self.arranged() {
            self.emptied = None;
        }
        // Somebody is to be left who may lead; narrow stories have nobody removed where one alone counts.
        let heirs = self.directory(|directory| {
            let others = directory.voters().filter(|it| it.id != server_id(number));
            others.filter(|it| it.standing.may_lead()).count()
        });
        let heirless = self.more.is_some() && heirs.is_none_or(|heirs| heirs == 0);
        let promised = self.arranged() || alone;
        if self.emptied.is_some() || heirless || !enough || !promised {
            return;
        }
        self.disk_lost(number);
    }

    /// A machine ends, and all that its disk had is gone.
    pub(crate) fn disk_lost(&mut self, number: u8) {
        self.emptied = Some(number);
        let event = format!("the disk of server {number} is emptied");
        self.note("emptied", Some(number), event);
        self.world.empty(number);
        self.refresh();
    }

    fn split_in_three(&mut self, mut numbers: Vec<u8>) {
        numbers.shuffle(&mut self.chance);
        let third = numbers.len().div_ceil(3).max(1);
        let sides: Vec<&[u8]> = numbers.chunks(third).collect();
        let event = format!("nothing gets from one of {sides:?} to another");
        for (place, side) in sides.iter().enumerate() {
            for other in sides.iter().skip(place + 1) {
                self.world.cut(side, other, true);
            }
        }
        self.shapes.lasts("split", true);
        self.note("three", None, event);
    }

    fn island_times(&mut self) {
        let guarded = self.directory(|directory| !directory.settings().tie_breakers().is_empty());
        if guarded != Some(false) {
            // A guard that was given holds as long as it was given for.
            return;
        }
        let values = ["2s", "3s", "4s", "5s"];
        let value = values.choose(&mut self.chance).copied().unwrap_or("2s");
        self.set("resilience.island-after", value);
    }
}
