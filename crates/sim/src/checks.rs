//! What must be true at every moment, of every action, and at the end, whatever happened.
//!
//! The rules of actions are told here a second time, from the directory alone, and not taken from the code that they judge.
//! Start at [`Invariant`]; `seen` is what is looked at every few milliseconds and at the end, `parting` judges formations that
//! part and meet again.

mod parting;
mod seen;
mod sessions;

pub(crate) use parting::{formation, gives_way, went_on_alone};
pub(crate) use seen::Seen;
pub(crate) use sessions::{answered, placed, to_move};

use crate::machine::{Machine, Running};
use model::settings::PrimaryReturn;
use model::{Directory, Reason, ResilienceMode, ServerId};
use policy::campaign::{Action, STAND_IN};
use policy::failback::Return;
use policy::office::{Look, Taking};
use replica::Status;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one server of a formation acts as primary at a moment; in quorum mode at most one of all formations but those that
    /// were made while each side could go on alone.
    OnePrimary,
    /// At most one server of a formation holds the office, and with it the address; in quorum mode at most one of the same.
    OneAddress,
    /// Servers that applied equally much of a formation have equal directories.
    Agreement,
    /// What is applied on a server is of its own formation.
    Mixed,
    /// A server's directory never goes back while it runs.
    Forward,
    /// What was acknowledged in the formation that stands, or in one that it goes on from, is there.
    NothingLost,
    /// What was acknowledged in a formation that gave way is there, or is kept as a divergence; one in which nobody asked for
    /// anything leaves none.
    Diverged,
    /// A side goes on without its primary only where it may, and one that may not act alone does not.
    Alone,
    /// A server that is told that it was removed makes no formation, and does not act for long.
    Removed,
    /// Of two formations that meet the one stands that `primary-return` names; who waits for an administrator has a reason.
    Stands,
    /// What was refused is not there.
    NothingInvented,
    /// A change that was made is not made again, nor refused, when it is asked for again.
    Once,
    /// A token, whichever of its names is used, has at most one current session of an application, and it has not ended; a new one
    /// takes its place only where nobody reaches it.
    OneSession,
    /// A session goes to a server that is reached and hosts, and to one that is offline only where no other is left, or by name.
    Placed,
    /// A session that is moved has one in its place on another server, current if it was.
    Moved,
    /// A drain comes to its end when nothing is left to be moved, and says what it moved and kept.
    Drained,
    /// What a server answers with it has itself.
    Answered,
    /// In the end what runs on a host is what the directory says.
    Hosted,
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
    // Whoever has the only vote has nobody to pass the role on to.
    let alone = look.consensus.voters.len() == 1;
    fit && look.consensus.voters.contains(&server)
        && (alone || group.primary == Some(server) || group.backups.contains(&server))
}

fn fails_over(look: &Look<'_>) -> bool {
    let paused = look.directory.group().pause_at(look.calendar).is_some();
    look.directory.settings().failover() && !paused
}

/// Whether nobody may lead but the recorded primary, unless an administrator says so.
fn alone_may_lead(look: &Look<'_>, primary: ServerId) -> bool {
    let counts = look.consensus.voters.contains(&primary);
    !fails_over(look) || (look.directory.group().backups.is_empty() && counts)
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
    let group = look.directory.group();
    let others = group.primary.filter(|primary| *primary != me);
    // Only so that the recorded primary, which alone may lead, can do so again.
    let stands_in = says(reasons, "stands-in");
    if stands_in
        && !(says(reasons, "caretaker") && others.is_some_and(|it| alone_may_lead(look, it)))
    {
        let seen = format!("{name} stands in for nobody who alone may lead: {reasons:?}");
        return broken(Invariant::Explained, seen);
    }
    let ordered = says(reasons, "ordered") || stands_in;
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
    let grace = grace + if stands_in { STAND_IN } else { Duration::ZERO };
    match look.heard {
        Some((leader, at)) if now.saturating_sub(at) < grace && (stands_in || !ordered) => {
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
    let stood_in = group.primary == Some(to) && alone_may_lead(look, to);
    if stood_in && says(reasons, "caretaker") {
        return Ok(());
    }
    if may_stay(look, me) || !says(reasons, "caretaker") {
        let seen = format!("{name} hands over to {target} and is no caretaker: {reasons:?}");
        return broken(Invariant::Explained, seen);
    }
    // The only vote was passed on before, and the role did not follow.
    let voters = &look.consensus.voters;
    let listed = group.backups.contains(&to) || !voters.contains(&me) && voters.contains(&to);
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
    let counts = |head: &ServerId| match group.mode {
        ResilienceMode::Quorum => status.voters.contains(head),
        ResilienceMode::Availability => directory.server(*head).is_some_and(|head| head.voting),
    };
    head.filter(|head| accepts && moved < most && counts(head))
}

/// The servers that go on, in the order of their machines.
pub(crate) fn going(machines: &BTreeMap<u8, Machine>) -> impl Iterator<Item = &Running> {
    let awake = machines
        .values()
        .filter(|machine| machine.frozen.is_none() && !machine.disk.is_dead());
    awake.filter_map(|machine| machine.running.as_ref())
}
