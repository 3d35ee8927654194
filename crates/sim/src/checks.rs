//! What must be true at every moment, of every action, and at the end, whatever happened.
//!
//! The rules of actions are told here a second time, from the directory alone, and not taken from the code that they judge.
//! Start at [`Invariant`]; `Seen::look` is what is looked at every few milliseconds.

use crate::fixture::numbers;
use crate::machine::{Machine, Running};
use model::settings::PrimaryReturn;
use model::{AppName, Directory, Reason, ServerId, SessionId, Token};
use policy::campaign::Action;
use policy::failback::Return;
use policy::office::{Look, Taking};
use replica::{Acting, NotActing, Replica, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Directories are compared after every so many entries.
const COMPARED: u64 = 16;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one server acts as primary at a moment.
    OnePrimary,
    /// At most one server holds the office, and with it the address.
    OneAddress,
    /// Servers that applied equally much have equal directories.
    Agreement,
    /// A server's directory never goes back while it runs.
    Forward,
    /// What was acknowledged is there.
    NothingLost,
    /// What was refused is not there.
    NothingInvented,
    /// A change that was made is not made again, nor refused, when it is asked for again.
    Once,
    /// A token has at most one current session of an application, and it has not ended.
    OneSession,
    /// Nobody but the recorded primary steps forward while failover is off or paused, unless told to.
    Paused,
    /// Who is not on the list of backups does not stay primary.
    Listed,
    /// The office goes back only to the original primary, and only where the settings say so.
    Returns,
    /// The reasons that are given agree with what is so.
    Explained,
    /// When nothing breaks any more, the primary is whom the settings name.
    Converges,
    /// A group that can go on does go on.
    Progress,
    /// A server does not stop by itself.
    Alive,
}

/// A rule that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.seen)
    }
}

pub(crate) fn broken<T>(invariant: Invariant, seen: impl Into<String>) -> Result<T, Broken> {
    let seen = seen.into();
    Err(Broken { invariant, seen })
}

fn says(reasons: &[Reason], rule: &str) -> bool {
    reasons.iter().any(|reason| reason.rule == rule)
}

/// Whether a server may be primary for good.
fn may_stay(look: &Look<'_>, server: ServerId) -> bool {
    let group = look.directory.group();
    let record = look.directory.server(server);
    let fit = record.is_some_and(|record| record.standing.may_lead());
    fit && look.consensus.voters.contains(&server)
        && (group.primary == Some(server) || group.backups.contains(&server))
}

fn fails_over(look: &Look<'_>) -> bool {
    let paused = look.directory.group().pause_at(look.calendar).is_some();
    look.directory.settings().failover() && !paused
}

/// Judges a campaign or a hand-over.
pub(crate) fn action(look: &Look<'_>, action: &Action, now: Duration) -> Result<(), Broken> {
    match action {
        Action::Campaign { reasons, .. } => campaign(look, reasons, now),
        Action::TransferTo { server, reasons } => hand_over(look, *server, reasons),
    }
}

fn campaign(look: &Look<'_>, reasons: &[Reason], now: Duration) -> Result<(), Broken> {
    let me = look.me;
    let name = look.directory.name_of(me);
    let voters = &look.consensus.voters;
    if !voters.contains(&me) {
        return broken(
            Invariant::Listed,
            format!("{name} campaigns and is no voter"),
        );
    }
    if voters.len() == 1 {
        return Ok(());
    }
    let ordered = says(reasons, "ordered");
    let group = look.directory.group();
    let others = group.primary.filter(|primary| *primary != me);
    if let Some(primary) = others.filter(|_| !fails_over(look) && !ordered) {
        let primary = look.directory.name_of(primary);
        return broken(
            Invariant::Paused,
            format!("{name} campaigns while only {primary} may: {reasons:?}"),
        );
    }
    if let Some(primary) = others.filter(|primary| voters.contains(primary))
        && group.backups.is_empty()
        && !ordered
    {
        let primary = look.directory.name_of(primary);
        return broken(
            Invariant::Listed,
            format!("{name} campaigns with an empty list, and {primary} counts"),
        );
    }
    if !ordered && says(reasons, "caretaker") == may_stay(look, me) {
        let fit = may_stay(look, me);
        let seen = format!("{name} may stay primary: {fit}, and it says {reasons:?}");
        return broken(Invariant::Explained, seen);
    }
    let grace = look.directory.settings().grace_period();
    match look.heard {
        Some((leader, at)) if now.saturating_sub(at) < grace && !ordered => {
            let leader = look.directory.name_of(leader);
            let silent = now.saturating_sub(at);
            let seen = format!("{name} campaigns, and heard {leader} {silent:?} ago: {reasons:?}");
            broken(Invariant::Explained, seen)
        }
        _ => Ok(()),
    }
}

fn hand_over(look: &Look<'_>, to: ServerId, reasons: &[Reason]) -> Result<(), Broken> {
    let (me, group) = (look.me, look.directory.group());
    let (name, target) = (look.directory.name_of(me), look.directory.name_of(to));
    if may_stay(look, me) || !says(reasons, "caretaker") {
        let seen = format!("{name} hands over to {target} and is no caretaker: {reasons:?}");
        return broken(Invariant::Explained, seen);
    }
    let listed = group.backups.contains(&to);
    if !(listed || group.backups.is_empty() && group.primary == Some(to)) {
        let seen = format!("{name} hands over to {target}, who is not on the list: {reasons:?}");
        return broken(Invariant::Listed, seen);
    }
    Ok(())
}

/// Judges that a server says that it is primary.
pub(crate) fn taking(look: &Look<'_>, taking: &Taking) -> Result<(), Broken> {
    let name = look.directory.name_of(look.me);
    if !may_stay(look, look.me) {
        let seen = format!("{name} takes the office and is not on the list");
        return broken(Invariant::Listed, seen);
    }
    match taking.explanation.of(look.me) {
        Some(chosen) if !chosen.reasons.is_empty() => Ok(()),
        _ => {
            let seen = format!("{name} takes the office and does not say why");
            broken(Invariant::Explained, seen)
        }
    }
}

/// Judges that the office goes back by itself.
pub(crate) fn return_of(look: &Look<'_>, back: &Return) -> Result<(), Broken> {
    let group = look.directory.group();
    let accepts = look.directory.settings().primary_return() == PrimaryReturn::Accept;
    let head = group.backups.first() == Some(&back.server);
    let mine = group.primary == Some(look.me);
    let said = says(&back.reasons, "original-primary");
    if accepts && head && mine && said && fails_over(look) {
        return Ok(());
    }
    let (me, to) = (
        look.directory.name_of(look.me),
        look.directory.name_of(back.server),
    );
    let seen = format!(
        "{me} gives the office back to {to}: accepted {accepts}, head of the list {head}, primary {mine}, \
         fails over {}, {:?}",
        fails_over(look),
        back.reasons
    );
    broken(Invariant::Returns, seen)
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    by_applied: BTreeMap<u64, Directory>,
    applied: BTreeMap<ServerId, u64>,
    /// Changes that were acknowledged.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Changes whose outcome is unknown.
    pub(crate) unknown: BTreeSet<u64>,
    /// Sessions whose making was acknowledged.
    pub(crate) sessions: BTreeSet<SessionId>,
    /// How often a server was seen acting that did not act when last looked.
    pub(crate) primaries: u64,
    /// Who acted last, and in which term.
    pub(crate) primary: Option<(ServerId, u64)>,
    /// Who acts now.
    pub(crate) acting: Option<ServerId>,
    /// The first rule that was broken where no error could be given back.
    pub(crate) broken: Option<Broken>,
}

impl Seen {
    /// A server starts again, from what its disk kept.
    pub(crate) fn restarted(&mut self, server: ServerId) {
        self.applied.remove(&server);
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
            Ok(Stand {
                server: server.me,
                acts,
                holds: acts && server.holds(&acting, term),
                term,
            })
        })
    }

    /// Looks at what servers stand for together.
    pub(crate) fn compare(&mut self, stands: &[Stand]) -> Result<(), Broken> {
        if let Some(broken) = self.broken.clone() {
            return Err(broken);
        }
        let acting: Vec<&Stand> = stands.iter().filter(|stand| stand.acts).collect();
        if stands.iter().filter(|stand| stand.holds).count() > 1 {
            return broken(
                Invariant::OneAddress,
                format!("{acting:?} hold the address at once"),
            );
        }
        self.acting = acting.first().map(|one| one.server);
        match acting.as_slice() {
            [] => Ok(()),
            [one] => {
                if self.primary != Some((one.server, one.term)) {
                    self.primary = Some((one.server, one.term));
                    self.primaries += 1;
                }
                Ok(())
            }
            several => broken(Invariant::OnePrimary, format!("{several:?} act at once")),
        }
    }

    fn look_at_state(&mut self, replica: &Replica) -> Result<(), Broken> {
        let state = replica.state();
        let Some(directory) = &state.directory else {
            return Ok(());
        };
        let before = self.applied.insert(replica.me(), state.applied);
        if before.is_some_and(|before| before > state.applied) {
            let seen = format!("{} went from {before:?} to {}", replica.me(), state.applied);
            return broken(Invariant::Forward, seen);
        }
        // Comparing whole directories is slow, and those that differ once stay different.
        if before == Some(state.applied) || !state.applied.is_multiple_of(COMPARED) {
            return Ok(());
        }
        let known = self.by_applied.entry(state.applied);
        let known = known.or_insert_with(|| directory.clone());
        if known != directory {
            let seen = format!(
                "{} has another directory at {} than was seen before: {:?} instead of {:?}",
                replica.me(),
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
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        if !lost.is_empty() {
            return broken(Invariant::NothingLost, format!("{me} lacks {lost:?}"));
        }
        let gone = |id: &&SessionId| directory.session(**id).is_none();
        let gone: Vec<_> = self.sessions.iter().filter(gone).collect();
        if !gone.is_empty() {
            return broken(
                Invariant::NothingLost,
                format!("{me} lacks sessions {gone:?}"),
            );
        }
        let allowed: BTreeSet<u64> = self.acknowledged.union(&self.unknown).copied().collect();
        let invented: Vec<_> = found.difference(&allowed).collect();
        if !invented.is_empty() {
            return broken(Invariant::NothingInvented, format!("{me} has {invented:?}"));
        }
        one_session(directory)
    }
}

/// What a server stands for at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stand {
    server: ServerId,
    acts: bool,
    holds: bool,
    term: u64,
}

fn one_session(directory: &Directory) -> Result<(), Broken> {
    let mut current: BTreeMap<(&Token, &AppName), SessionId> = BTreeMap::new();
    for session in directory.sessions().filter(|session| session.current) {
        let other = current.insert((&session.token, &session.app), session.id);
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

/// Whom the settings name as primary, once nothing has broken for a while; none: whoever is.
pub(crate) fn rightful(directory: &Directory, status: &Status) -> Option<ServerId> {
    let group = directory.group();
    let head = group.backups.first().copied();
    let accepts = directory.settings().primary_return() == PrimaryReturn::Accept;
    let (most, _) = directory.settings().max_moves();
    let moved = directory
        .events_back()
        .filter(|event| event.kind == model::EventKind::Switchover)
        .count();
    head.filter(|head| accepts && moved < most && status.voters.contains(head))
}

/// The servers that go on, in the order of their machines.
pub(crate) fn going(machines: &BTreeMap<u8, Machine>) -> impl Iterator<Item = &Running> {
    let awake = machines
        .values()
        .filter(|machine| machine.frozen.is_none() && !machine.disk.is_dead());
    awake.filter_map(|machine| machine.running.as_ref())
}
