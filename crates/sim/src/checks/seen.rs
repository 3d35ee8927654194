//! What was seen of all servers so far, and what must be so of it at every moment and at the end.
//!
//! Start at [`Seen::look_at`] and [`Seen::settle`].

use super::{Broken, Invariant, broken, sessions};
use crate::fixture::{change_user, numbers};
use crate::machine::Running;
use model::divergence::Subject;
use model::{
    AppName, ChangeName, Directory, FormationId, FormationRef, ResilienceMode, ServerId, SessionId,
    Token,
};
use replica::{Acting, NotActing, Replica};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Directories are compared after every so many entries.
const COMPARED: u64 = 16;
/// How much longer than its guard lets it a server may act while it is looked at.
const SLACK: Duration = Duration::from_millis(200);
/// How long a server may act that was told that it was removed.
const TOLD: Duration = Duration::from_secs(1);

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    by_applied: BTreeMap<(FormationId, u64), Directory>,
    /// How far each server was in its formation.
    applied: BTreeMap<ServerId, (FormationId, u64)>,
    /// The servers that had left the formation of their directory when they were last looked at.
    left: BTreeSet<ServerId>,
    /// The newest directory that was seen of each server.
    newest: BTreeMap<ServerId, Directory>,
    /// The formations that were seen, each newest first with those it goes on from.
    lineages: BTreeMap<FormationId, Vec<FormationRef>>,
    /// Formations that a side made while each could go on alone, whatever the mode became in them.
    parted: BTreeSet<FormationId>,
    /// The formations in which somebody asked for something.
    asked: BTreeSet<FormationId>,
    /// Changes that were acknowledged, and as what.
    pub(crate) acknowledged: BTreeMap<u64, ChangeName>,
    /// Changes whose outcome is unknown.
    pub(crate) unknown: BTreeSet<u64>,
    /// How far each server was seen to have come in each formation.
    came_to: BTreeMap<(FormationId, ServerId), u64>,
    /// How far disks that were emptied had come in each formation.
    emptied_of: Vec<(FormationId, u64)>,
    /// Sessions whose making was acknowledged, and as what.
    pub(crate) sessions: BTreeMap<SessionId, ChangeName>,
    /// What only a disk had that was emptied.
    excused: (BTreeSet<u64>, BTreeSet<SessionId>),
    /// When each server could last reach the tie-breaker.
    pub(crate) reached: BTreeMap<ServerId, Duration>,
    /// Since when each server has been told that it was removed.
    told: BTreeMap<ServerId, Duration>,
    /// Since when each server that acts may not act alone.
    isolated: BTreeMap<ServerId, Duration>,
    /// How often a server was seen acting that did not act when last looked.
    pub(crate) primaries: u64,
    /// Who acted last in each formation, and in which term.
    primary: BTreeMap<FormationId, (ServerId, u64)>,
    /// Who acts that did not when this was last taken.
    pub(crate) news: Vec<Stand>,
    /// Who acts now.
    pub(crate) acting: Vec<ServerId>,
    /// The first rule that was broken where no error could be given back.
    pub(crate) broken: Option<Broken>,
}

impl Seen {
    /// A server starts again, from what its disk kept.
    pub(crate) fn restarted(&mut self, server: ServerId) {
        self.applied.remove(&server);
        self.told.remove(&server);
        self.left.remove(&server);
    }

    /// It has no more than this of a formation: followers apply what their own disk may not have yet, and nobody waits for those that
    /// do not follow closely.
    pub(crate) fn holds(&mut self, server: ServerId, formation: FormationId, last: u64) {
        if let Some(to) = self.came_to.get_mut(&(formation, server)) {
            *to = last.min(*to);
        }
    }

    /// A server acknowledged a change.
    pub(crate) fn acknowledge(&mut self, change: u64, name: ChangeName, by: ServerId) {
        self.acknowledged.insert(change, name);
        let to = self.came_to.entry((name.formation, by)).or_default();
        *to = name.number.max(*to);
    }

    /// Somebody asked for something in a formation.
    pub(crate) fn asked_in(&mut self, formation: FormationId) {
        self.asked.insert(formation);
    }

    /// A server has lost its power: what it had in memory only, nobody has been promised.
    pub(crate) fn lost_power(&mut self, server: ServerId, kept: Option<Directory>) {
        match kept {
            Some(kept) => self.newest.insert(server, kept),
            None => self.newest.remove(&server),
        };
    }

    /// A server's disk is emptied: what nobody else was seen to have may be lost.
    pub(crate) fn emptied(&mut self, server: ServerId) {
        self.restarted(server);
        self.newest.remove(&server);
        let gone = self.came_to.extract_if(.., |(_, of), _| *of == server);
        self.emptied_of
            .extend(gone.map(|((formation, _), to)| (formation, to)));
        let others = || self.newest.values();
        let has = |number: &u64| others().any(|other| other.user(&change_user(*number)).is_some());
        let alone = self.acknowledged.keys().filter(|number| !has(number));
        self.excused.0.extend(alone);
        let has = |id: &SessionId| others().any(|other| other.session(*id).is_some());
        let alone = self.sessions.keys().filter(|id| !has(id));
        self.excused.1.extend(alone);
    }

    /// Looks at a server that goes on.
    pub(crate) fn look_at(&mut self, running: &Running) -> Result<Stand, Broken> {
        running.within(|server| {
            self.look_at_state(&server.replica)?;
            let acting = server.replica.acting();
            let acts = server.acts(&acting);
            let term = match &acting {
                Acting::Yes { term, .. } => *term,
                Acting::No(NotActing::NotLeader { .. }) => 0,
                Acting::No(_) => {
                    let status = server.replica.status();
                    if let Some(stopped) = &status.stopped {
                        return broken(Invariant::Alive, format!("{}: {stopped}", server.me));
                    }
                    status.term
                }
            };
            let state = server.replica.state();
            let group = server.directory(&state).group();
            Ok(Stand {
                server: server.me,
                acts,
                holds: acts && server.holds(&acting, term),
                term,
                formation: server.replica.formation(),
                number: group.formation.this.number,
                mode: group.mode,
            })
        })
    }

    /// Looks at what servers stand for together.
    pub(crate) fn compare(&mut self, stands: &[Stand]) -> Result<(), Broken> {
        if let Some(broken) = self.broken.clone() {
            return Err(broken);
        }
        let acting: Vec<&Stand> = stands.iter().filter(|stand| stand.acts).collect();
        self.acting = acting.iter().map(|one| one.server).collect();
        for (place, one) in acting.iter().enumerate() {
            let together = |other: &&&Stand| {
                let both = [one, *other];
                let quorum = both.iter().all(|it| it.mode == ResilienceMode::Quorum);
                let parted = both.iter().any(|it| self.parted.contains(&it.formation));
                other.formation == one.formation || quorum && !parted
            };
            let mut others = acting.iter().skip(place + 1).filter(together);
            if let Some(other) = others.find(|other| other.holds && one.holds) {
                let seen = format!("{one:?} and {other:?} hold the address at once");
                return broken(Invariant::OneAddress, seen);
            }
            if let Some(other) = acting.iter().skip(place + 1).find(together) {
                let seen = format!("{one:?} and {other:?} act at once");
                return broken(Invariant::OnePrimary, seen);
            }
            let now = (one.server, one.term);
            if self.primary.insert(one.formation, now) != Some(now) {
                self.primaries += 1;
                self.news.push(**one);
            }
        }
        Ok(())
    }

    /// Looks at a server that acts and alone counts: whether it may, where there is a tie-breaker. `reaches` says whether it
    /// can reach that.
    pub(crate) fn look_at_guard(
        &mut self,
        running: &Running,
        reaches: bool,
        now: Duration,
    ) -> Result<(), Broken> {
        let server = &running.server;
        let state = server.replica.state();
        let directory = server.directory(&state);
        if running.within(|server| server.removed_by().is_empty()) {
            self.told.remove(&server.me);
        } else {
            let since = *self.told.entry(server.me).or_insert(now);
            if self.acting.contains(&server.me) && now.saturating_sub(since) > TOLD {
                let seen = format!(
                    "{} acts, and was told at {since:?} that it was removed",
                    server.me
                );
                return broken(Invariant::Removed, seen);
            }
        }
        let span = directory.settings().island_after() / 2;
        let guarded = directory.group().mode == ResilienceMode::Availability
            && !directory.settings().tie_breakers().is_empty();
        let alone = guarded && !reaches && self.acting.contains(&server.me);
        let mut others = directory.voters().filter(|other| other.id != server.me);
        if !alone || running.within(|server| others.all(|other| server.hears(other.id))) {
            self.isolated.remove(&server.me);
            return Ok(());
        }
        let since = *self.isolated.entry(server.me).or_insert(now);
        if now.saturating_sub(since) > span + SLACK {
            let seen = format!(
                "{} acts alone since {since:?} without the tie-breaker",
                server.me
            );
            return broken(Invariant::Alone, seen);
        }
        Ok(())
    }

    fn look_at_state(&mut self, replica: &Replica) -> Result<(), Broken> {
        let state = replica.state();
        let Some(directory) = &state.directory else {
            return Ok(());
        };
        let formation = &directory.group().formation;
        let (me, this) = (replica.me(), formation.this.id);
        let before = self.applied.get(&me).copied();
        let advanced = before != Some((this, state.applied));
        let has_left = this != replica.formation();
        let had_left = match has_left {
            true => !self.left.insert(me),
            false => self.left.remove(&me),
        };
        if has_left && had_left && advanced && before.is_some() {
            let seen = format!("{me} is in {} and applied to {this}", replica.formation());
            return broken(Invariant::Mixed, seen);
        }
        self.applied.insert(me, (this, state.applied));
        if before.is_some_and(|before| before > (this, state.applied) && before.0 == this) {
            let seen = format!("{me} went from {before:?} to {}", state.applied);
            return broken(Invariant::Forward, seen);
        }
        if !advanced {
            return Ok(());
        }
        if let Some(before) = self.newest.insert(me, directory.clone()) {
            let next = before.group().number + 1 == directory.group().number;
            let same = before.group().formation.this.id == this;
            if next && same {
                sessions::one_change(&before, directory)?;
            }
        }
        let to = self.came_to.entry((this, me)).or_default();
        *to = state.applied.max(*to);
        if let Entry::Vacant(place) = self.lineages.entry(this) {
            place.insert(formation.lineage().collect());
            let alone = directory.group().mode == ResilienceMode::Availability;
            if alone && formation.this.number > 1 {
                self.parted.insert(this);
            }
        }
        // Comparing whole directories is slow, and those that differ once stay different.
        if !state.applied.is_multiple_of(COMPARED) {
            return Ok(());
        }
        let known = self.by_applied.entry((this, state.applied));
        let known = known.or_insert_with(|| directory.clone());
        if known != directory {
            let seen = format!(
                "{me} has another directory at {} than was seen before: {:?} instead of {:?}",
                state.applied,
                numbers(directory),
                numbers(known)
            );
            return broken(Invariant::Agreement, seen);
        }
        one_session(directory)
    }

    /// Looks at all servers when they should be equal.
    pub(crate) fn look_for_difference<'a>(
        mut replicas: impl Iterator<Item = &'a Replica>,
    ) -> Result<(), Broken> {
        let Some(first) = replicas.next() else {
            return Ok(());
        };
        let state = first.state();
        for other in replicas {
            if other.state().directory != state.directory {
                let seen = format!("{} and {} differ in the end", first.me(), other.me());
                return broken(Invariant::Agreement, seen);
            }
        }
        Ok(())
    }

    /// Looks at a server that has everything, at the end.
    pub(crate) fn settle(&self, replica: &Replica) -> Result<(), Broken> {
        let state = replica.state();
        let Some(directory) = &state.directory else {
            return broken(Invariant::NothingLost, "a server without a directory");
        };
        let (found, me) = (numbers(directory), replica.me());
        for (number, name) in &self.acknowledged {
            if found.contains(number) || self.excused.0.contains(number) {
                continue;
            }
            if stands(directory, *name) {
                return broken(Invariant::NothingLost, format!("{me} lacks {number}"));
            }
            if !is_kept(directory, *number) && !self.went_with_strangers(directory, *name) {
                let seen = format!(
                    "{me} has {number}, {name:?}, neither itself nor as a divergence; {:?} had it",
                    self.had(*name)
                );
                return broken(Invariant::Diverged, seen);
            }
        }
        for (id, name) in &self.sessions {
            let gone = directory.session(*id).is_none() && !self.excused.1.contains(id);
            if gone && stands(directory, *name) {
                return broken(Invariant::NothingLost, format!("{me} lacks session {id}"));
            }
        }
        self.look_at_divergences(directory)?;
        let known = self.acknowledged.keys().chain(&self.unknown);
        let allowed: BTreeSet<u64> = known.copied().collect();
        let invented: Vec<_> = found.difference(&allowed).collect();
        if !invented.is_empty() {
            return broken(Invariant::NothingInvented, format!("{me} has {invented:?}"));
        }
        one_session(directory)
    }

    /// The servers that were seen to have come as far as a change in its formation, but for those whose disk was emptied since.
    fn had(&self, name: ChangeName) -> BTreeSet<ServerId> {
        let had = |((formation, server), to): (&(FormationId, ServerId), &u64)| {
            (*formation == name.formation && *to >= name.number).then_some(*server)
        };
        self.came_to.iter().filter_map(had).collect()
    }

    /// Whether none but servers that are no members any more had a change: whoever removes them, unreached, is told what they
    /// may have, and they keep it.
    fn went_with_strangers(&self, directory: &Directory, name: ChangeName) -> bool {
        let is_member = |server: &ServerId| directory.server(*server).is_some();
        let had = self.had(name);
        let strangers = self.came_to.keys().any(|(_, server)| !is_member(server));
        let once = self
            .emptied_of
            .iter()
            .any(|(formation, to)| *formation == name.formation && *to >= name.number);
        strangers && (once || !had.is_empty()) && !had.iter().any(is_member)
    }

    /// A formation in which nobody asked for anything leaves no divergence.
    fn look_at_divergences(&self, directory: &Directory) -> Result<(), Broken> {
        let stands = |id: FormationId| {
            let mut lineage = directory.group().formation.lineage();
            lineage.any(|step| step.id == id)
        };
        for divergence in directory.divergences() {
            let id = divergence.formation.id;
            let lineage = self
                .lineages
                .get(&id)
                .map(Vec::as_slice)
                .unwrap_or_default();
            // Of a formation that both go on from, what came after the other one forked off is here only.
            let ends = [u64::MAX].into_iter();
            let ends = ends.chain(lineage.iter().map(|step| step.fork_point));
            let own = lineage
                .iter()
                .zip(ends)
                .filter(|(step, end)| !stands(step.id) || *end > divergence.fork_point)
                .map(|(step, _)| step.id);
            if !own.chain([id]).any(|step| self.asked.contains(&step)) {
                let records: Vec<_> = directory.diverged(id).collect();
                let seen = format!("nobody asked for anything in {id}: {divergence:?} {records:?}");
                return broken(Invariant::Diverged, seen);
            }
        }
        Ok(())
    }
}

/// Whether a change is of the formation that stands, or of one that it goes on from.
fn stands(directory: &Directory, name: ChangeName) -> bool {
    directory.group().formation.accepted(name.number) == name
}

/// Whether a change that did not survive is kept.
fn is_kept(directory: &Directory, number: u64) -> bool {
    let subject = Subject::User(change_user(number));
    let mut all = directory.divergences();
    all.any(|one| {
        let record = directory.diverged_record(one.formation.id, &subject);
        record.is_some_and(|record| record.loser.is_some())
    })
}

/// What a server stands for at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    pub(crate) server: ServerId,
    acts: bool,
    holds: bool,
    pub(crate) term: u64,
    formation: FormationId,
    /// The formation's number.
    pub(crate) number: u64,
    mode: ResilienceMode,
}

fn one_session(directory: &Directory) -> Result<(), Broken> {
    let mut current: BTreeMap<(&Token, &AppName), SessionId> = BTreeMap::new();
    for session in directory.sessions().filter(|session| session.current) {
        let token = directory.canonical(&session.token);
        let other = current.insert((token, &session.app), session.id);
        if let Some(other) = other {
            let seen = format!("{} and {other} are both current", session.id);
            return broken(Invariant::OneSession, seen);
        }
        if !session.is_live() {
            return broken(
                Invariant::OneSession,
                format!("{} is current and has ended", session.id),
            );
        }
    }
    Ok(())
}
