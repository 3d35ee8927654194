//! The end of a story: nothing breaks any more, and the group must come together, go on, and be as the settings say.
//!
//! Start at [`Story::calm`] and [`Story::settle`].

use crate::checks::{Broken, Invariant, Seen, rightful};
use crate::fixture::{number_of, server_id};
use crate::machine::{End, Running};
use crate::outside::recover;
use crate::story::Story;
use model::{Command, FormationId, PauseChange, ResilienceMode, ServerId};
use rand::RngExt;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long everything may take to become as it should when nothing breaks any more.
const CALM: Duration = Duration::from_secs(120);
/// How long an administrator lets formations wait, or a group be without a primary.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often an administrator looks.
const LOOK: Duration = Duration::from_millis(500);

impl Story {
    /// Whether consensus counts whom the directory names.
    pub(crate) fn arranged(&self) -> bool {
        let Some(primary) = self.world.primary() else {
            return false;
        };
        let status = primary.server.replica.status();
        let state = primary.server.replica.state();
        let Some(directory) = &state.directory else {
            return false;
        };
        let votes = || directory.servers().filter(|it| it.standing.votes());
        let named: BTreeSet<ServerId> = match directory.group().mode {
            ResilienceMode::Quorum => votes().map(|server| server.id).collect(),
            // There the primary alone counts.
            ResilienceMode::Availability => [primary.server.me].into(),
        };
        let all = votes().all(|server| server.voting);
        let takes_part =
            |server: &ServerId| status.voters.contains(server) || status.learners.contains(server);
        let all = all && directory.servers().all(|server| takes_part(&server.id));
        all && named == status.voters && !status.members_changing
    }

    /// Whether all members that run are in one formation, with nothing left behind, and one of them acts, not as a caretaker.
    pub(crate) fn is_together(&self) -> bool {
        let members = self.world.running();
        let members = members.filter(|running| self.world.is_member(running.server.me));
        let mut formations: BTreeSet<FormationId> = BTreeSet::new();
        let mut settled = true;
        for running in members {
            let replica = &running.server.replica;
            let state = replica.state();
            let directory = state.directory.as_ref();
            formations.insert(replica.formation());
            formations.extend(directory.map(|it| it.group().formation.this.id));
            let left = replica.left_behind();
            settled &= directory.is_some() && left.is_ok_and(|left| left.is_empty());
        }
        let acting = self.world.scene.with_seen(|seen| seen.acting.len());
        let accepts = |running: &Running| !running.server.inside().caretaker;
        let accepts = self.world.primary().is_some_and(accepts);
        settled && formations.len() == 1 && acting == 1 && accepts
    }

    /// Nothing breaks any more; the group must come together and go on, and go back to what the settings say.
    pub(crate) fn calm(&mut self) -> Result<(), Broken> {
        self.say("nothing breaks any more".into());
        self.mend();
        for number in self.world.numbers() {
            self.world.scene.set_offset(server_id(number), 0);
            self.world.set_weather(number, |_| {});
        }
        self.world.scene.set_fence(0, 0);
        self.start_all()?;
        self.looked_after()?;
        self.resume();
        let acknowledged = self.world.scene.with_seen(|seen| seen.acknowledged.len());
        let goes_on = move |story: &Self| {
            let scene = &story.world.scene;
            scene.with_seen(|seen| seen.acknowledged.len()) > acknowledged + 10
        };
        let what = "changes are accepted again";
        self.until(what, CALM, Invariant::Progress, goes_on)?;
        let what = "consensus counts whom the directory names";
        if self.more.is_some() {
            self.stays_together(Self::arranged)?;
        }
        self.until(what, CALM, Invariant::Converges, Self::arranged)?;
        self.gives_back()?;
        let what = "all are in one formation";
        self.until(what, CALM, Invariant::Converges, Self::is_together)
    }

    /// Whoever was frozen may have gone on alone when all others were together again: an administrator looks until a condition
    /// holds.
    fn stays_together(&mut self, holds: impl Fn(&Self) -> bool) -> Result<(), Broken> {
        let end = self.world.scene.now() + CALM;
        while self.world.scene.now() < end && !(holds(self) && self.is_together()) {
            self.looked_after()?;
            let mode = self.mode();
            for number in self.reset.clone() {
                let listed = self.directory(|it| it.server(server_id(number)).is_some());
                if listed == Some(true) {
                    self.remove(number, Some(mode));
                }
            }
            self.pass(LOOK)?;
        }
        Ok(())
    }

    fn resume(&mut self) {
        let change = PauseChange::End { reason: None };
        let resume = vec![Command::ChangePause { change }];
        self.ask("resume", "failover goes on", resume);
        self.set("resilience.failover", "true");
    }

    /// The primary becomes whom the settings name. What an administrator asked for before may be made late, and is undone again.
    fn gives_back(&mut self) -> Result<(), Broken> {
        let end = self.world.scene.now() + CALM;
        let mut waited = Duration::ZERO;
        while !self.is_rightful() && self.world.scene.now() < end {
            self.pass(LOOK)?;
            waited += LOOK;
            let on = self.directory(|it| it.settings().failover() && it.group().pause.is_none());
            if waited > PATIENCE && on == Some(false) {
                waited = Duration::ZERO;
                self.resume();
            }
        }
        let what = "the primary is whom the settings name";
        self.until(what, LOOK, Invariant::Converges, Self::is_rightful)
    }

    /// Everything comes together; an administrator does what is left to one.
    fn looked_after(&mut self) -> Result<(), Broken> {
        let end = self.world.scene.now() + CALM;
        let mut alone = Duration::ZERO;
        let mut apart = Duration::ZERO;
        let mut waited = Duration::ZERO;
        while !self.is_together() {
            if self.world.scene.now() > end {
                let what = "all are in one formation, and one acts";
                return self.until(what, LOOK, Invariant::Converges, Self::is_together);
            }
            self.pass(LOOK)?;
            if self.more.is_some() {
                self.start_all()?;
            }
            apart += LOOK;
            if apart > PATIENCE && self.more.is_some() {
                apart = Duration::ZERO;
                self.reset_strangers();
            }
            let acts = self.world.primary().is_some();
            alone = if acts { Duration::ZERO } else { alone + LOOK };
            let waits = self.waits();
            waited = if waits { waited + LOOK } else { Duration::ZERO };
            // Whoever was the only one to count was emptied, and failover may be off.
            if self.emptied.is_some() && alone > PATIENCE || waited > PATIENCE {
                (alone, waited) = (Duration::ZERO, Duration::ZERO);
                self.recover();
            }
        }
        Ok(())
    }

    /// An administrator resets those that are no members any more, as they say themselves that it is to be done. Whoever was
    /// told that it was removed does not act, unless it has removed all who could tell it.
    fn reset_strangers(&mut self) {
        let directory_of = |running: &Running| {
            let state = running.server.replica.state();
            running.server.directory(&state).clone()
        };
        let acting = self.world.scene.with_seen(|seen| seen.acting.clone());
        let primaries = acting
            .iter()
            .filter_map(|id| self.world.server(number_of(*id)));
        let views: Vec<_> = primaries
            .map(|it| (it.server.me, directory_of(it)))
            .collect();
        let Some((first, here)) = views.first() else {
            return;
        };
        let is_stranger = |running: &&Running| {
            let me = running.server.me;
            let mut others = views.iter().filter(|(primary, _)| *primary != me);
            me != *first && others.all(|(_, view)| view.server(me).is_none())
        };
        let stands_down = |running: &&Running| {
            let (me, there) = (running.server.me, directory_of(running));
            let is_told = here.servers().any(|it| there.server(it.id).is_some());
            here.removed(me).is_none() || !is_told || !acting.contains(&me)
        };
        let strangers = self.world.running().filter(is_stranger).filter(stands_down);
        let strangers: Vec<u8> = strangers.map(|it| number_of(it.server.me)).collect();
        // Whoever was away while a server joined that is primary now has never heard of it.
        let is_lost = |running: &&Running| {
            let me = running.server.me;
            let member = here.server(me).is_some() && !acting.contains(&me);
            member && directory_of(running).server(*first).is_none()
        };
        let lost = self.world.running().filter(is_lost);
        let lost: Vec<u8> = lost.map(|it| number_of(it.server.me)).collect();
        let mode = here.group().mode;
        for number in &lost {
            self.remove(*number, Some(mode));
        }
        for number in strangers.into_iter().chain(lost) {
            self.say(format!("server {number} is reset: it stands alone"));
            self.world.end(number, End::Killed);
            self.reset.insert(number);
            self.refresh();
        }
    }

    /// Whether a formation waits for an administrator.
    pub(crate) fn waits(&self) -> bool {
        // With an empty list nobody says that it waits.
        let several = self.world.scene.with_seen(|seen| seen.acting.len()) > 1;
        let mut running = self.world.running();
        several || running.any(|it| it.server.inside().known.waiting)
    }

    /// An administrator lets one formation stand, or makes one.
    pub(crate) fn recover(&mut self) {
        let choice = self.chance.random();
        self.recover_with(choice);
    }

    /// The same; of several formations that act, by their ids, the one at this place stands.
    pub(crate) fn recover_with(&mut self, choice: u64) {
        let numbers = self.world.numbers();
        let states: Vec<_> = self.world.replicas().map(|it| it.state()).collect();
        let known = states.iter().filter_map(|state| state.directory.as_ref());
        let newest = known.max_by_key(|it| (it.group().formation.this.number, it.group().number));
        let fit = |number: &&u8| {
            let id = server_id(**number);
            // Whoever was removed while it was down has another view; others do not answer whom they have removed.
            let member = newest.is_none_or(|newest| newest.server(id).is_some());
            let refused = |running: &Running| running.server.was_removed();
            let refused = self.more.is_some() && self.world.server(**number).is_some_and(refused);
            let runs = self.world.runs(**number) && self.emptied != Some(**number);
            member && self.leads(id) && runs && !refused
        };
        let Some(number) = numbers.iter().find(fit).copied() else {
            return;
        };
        let Some(running) = self.world.server(number) else {
            return;
        };
        let (server, handle) = (running.server.clone(), running.handle());
        if self.mode() == ResilienceMode::Quorum {
            // Those that are left can elect one, and are not to by themselves.
            running.within(|server| server.order());
        }
        handle.spawn(recover(server, choice));
        self.say(format!(
            "an administrator recovers the group at server {number}"
        ));
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

    /// All have the same, and what was acknowledged is there.
    pub(crate) fn settle(&mut self) -> Result<(), Broken> {
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
        if self.world.scene.has_hosts() {
            let what = "drains have ended";
            self.until(what, CALM, Invariant::Drained, Self::drains_ended)?;
            let what = "hosts run what the directory says";
            self.until(what, CALM, Invariant::Hosted, Self::hosts_agree)?;
            self.until("all servers are equal", CALM, Invariant::Progress, equal)?;
        }
        let replicas = self.world.replicas();
        let members = replicas.filter(|replica| self.world.is_member(replica.me()));
        let members: Vec<_> = members.collect();
        Seen::look_for_difference(members.iter().copied())?;
        self.world.scene.with_seen(|seen| {
            let mut each = members.iter();
            each.try_for_each(|replica| seen.settle(replica))
        })
    }
}
