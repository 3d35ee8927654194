//! Judges that formations part and meet: told from the design, and not taken from the code that is judged.
//!
//! Start at [`formation`] and [`gives_way`].

use super::{Broken, Invariant, broken};
use crate::fixture::tie_breaker;
use crate::server::Server;
use model::settings::PrimaryReturn;
use model::{Directory, FormationRef, ResilienceMode, ServerId, Side, UnixMillis};
use policy::formations::{Action, Look};
use std::time::Duration;

/// How long ago a tie-breaker may have been reached when a side has gone on: it was asked twice, and fencing takes its time.
const ASKED: Duration = Duration::from_millis(1_500);

fn fails_over(directory: &Directory, calendar: UnixMillis) -> bool {
    directory.settings().failover() && directory.group().pause_at(calendar).is_none()
}

/// Judges what a server does about formations.
pub(crate) fn formation(look: &Look<'_>, action: &Action, now: Duration) -> Result<(), Broken> {
    let name = look.directory.name_of(look.me);
    let returns = look.directory.settings().primary_return();
    if look.removed {
        let seen = format!("{name} was told that it was removed: {action:?}");
        return broken(Invariant::Removed, seen);
    }
    match action {
        Action::Make { .. } => makes(look, &name, now),
        Action::Wait { formation, reasons } => {
            // Its primary's, whose followers may not have heard yet what was changed there.
            let acts = |(id, side): &(&ServerId, &Side)| {
                side.formation() == Some(*formation) && side.primary == Some(**id)
            };
            let there = look.sides.iter().find(acts).map(|(_, side)| side);
            let both = [Some(returns), there.map(|side| side.primary_return)];
            let waits = |rule| both.contains(&Some(rule));
            let modes = [Some(look.own.mode), there.map(|side| side.mode)];
            let by_hand = modes.contains(&Some(ResilienceMode::Quorum));
            // With an empty list every server goes on alone.
            let unlisted = look.own.rank == u32::MAX;
            if unlisted
                || waits(PrimaryReturn::Ignore)
                || waits(PrimaryReturn::AcceptSecondary)
                || by_hand
            {
                return Ok(());
            }
            let seen = format!("{name} waits for an administrator, and {both:?}: {reasons:?}");
            broken(Invariant::Stands, seen)
        }
        Action::HandOver { .. } if returns != PrimaryReturn::AcceptSecondary => broken(
            Invariant::Returns,
            format!("{name} hands over, and {returns:?}"),
        ),
        Action::GoBack { .. } => goes_back(look, &name),
        Action::HandOver { .. } | Action::Enter { .. } | Action::GoOn => Ok(()),
    }
}

/// Nobody acts whom it hears, and it might make a formation.
fn goes_back(look: &Look<'_>, name: &str) -> Result<(), Broken> {
    if look.directory.group().mode != ResilienceMode::Availability {
        let seen = format!("{name} goes back, and a majority must agree");
        return broken(Invariant::Alone, seen);
    }
    if !look.ordered && !fails_over(look.directory, look.calendar) {
        let seen = format!("{name} goes back although failover is off or paused");
        return broken(Invariant::Paused, seen);
    }
    let acts = |(id, side): (&ServerId, &Side)| side.primary == Some(*id);
    if look.sides.iter().any(acts) {
        let seen = format!("{name} goes back, and somebody acts: {:?}", look.sides);
        return broken(Invariant::Alone, seen);
    }
    Ok(())
}

fn makes(look: &Look<'_>, name: &str, now: Duration) -> Result<(), Broken> {
    let (group, settings) = (look.directory.group(), look.directory.settings());
    if group.mode != ResilienceMode::Availability {
        let seen = format!("{name} makes a formation, and a majority must agree");
        return broken(Invariant::Alone, seen);
    }
    if !look.ordered && !fails_over(look.directory, look.calendar) {
        let seen = format!("{name} makes a formation although failover is off or paused");
        return broken(Invariant::Paused, seen);
    }
    if !group.backups.is_empty() && !group.backups.contains(&look.me) {
        let seen = format!("{name} makes a formation and is not on the list");
        return broken(Invariant::Listed, seen);
    }
    let silent = look.heard.map(|heard| now.saturating_sub(heard));
    if !look.ordered && silent.is_some_and(|silent| silent < settings.island_after()) {
        let seen = format!("{name} makes a formation, and heard its primary {silent:?} ago");
        return broken(Invariant::Alone, seen);
    }
    Ok(())
}

/// Judges that a server has gone on without its primary, which it began to do at `begun`: it reached the tie-breaker.
pub(crate) fn went_on_alone(server: &Server, begun: Duration) -> Result<(), Broken> {
    let state = server.replica.state();
    let asks = !server
        .directory(&state)
        .settings()
        .tie_breakers()
        .is_empty();
    let reached = server
        .scene
        .with_seen(|seen| seen.reached.get(&server.me).copied());
    let lately = reached.is_some_and(|reached| reached + ASKED >= begun);
    if asks && !lately && !server.plug.connects(tie_breaker()) {
        let seen = format!(
            "{} goes on alone, and reached the tie-breaker at {reached:?}",
            server.me
        );
        return broken(Invariant::Alone, seen);
    }
    Ok(())
}

/// The last change that two lineages have in common.
fn fork(one: &[FormationRef], other: &[FormationRef]) -> u64 {
    let (one, other): (Vec<_>, Vec<_>) = (one.iter().rev().collect(), other.iter().rev().collect());
    let same = one
        .iter()
        .zip(&other)
        .take_while(|(one, other)| one.id == other.id)
        .count();
    let next = [one.get(same), other.get(same)];
    next.into_iter()
        .flatten()
        .map(|step| step.fork_point)
        .min()
        .unwrap_or(u64::MAX)
}

/// Judges that a formation gives way to another one.
pub(crate) fn gives_way(coming: &Side, stays: &Side) -> Result<(), Broken> {
    let fork = fork(&coming.lineage, &stays.lineage);
    let changed = [coming, stays].map(|side| side.last_user_change > fork);
    let either = |rule| {
        [coming, stays]
            .iter()
            .any(|side| side.primary_return == rule)
    };
    let is_older = |one: &Side, than: &Side| {
        let this = one.formation().map(|its| its.id);
        than.lineage
            .iter()
            .skip(1)
            .any(|step| Some(step.id) == this)
    };
    let (older, newer) = (is_older(stays, coming), is_older(coming, stays));
    // What went on from one in which a majority must agree was made of it by hand. Elsewhere sides go on by themselves, whatever
    // they make of their mode afterwards.
    let made_of = match (older, newer) {
        (true, _) => Some(stays),
        (_, true) => Some(coming),
        _ => None,
    };
    let majority = made_of.is_some_and(|side| side.mode == ResilienceMode::Quorum);
    let [came_changed, stayed_changed] = changed;
    let before = |one: &Side, to: &Side| {
        let this = one.formation().map(|its| its.id);
        to.gave_way.iter().any(|gave_way| Some(*gave_way) == this)
    };
    let right = match () {
        () if before(coming, stays) != before(stays, coming) => before(coming, stays),
        // Made of it by hand.
        () if majority => newer && !(came_changed && coming.primary.is_some()),
        () if either(PrimaryReturn::Ignore) => false,
        () if came_changed != stayed_changed => stayed_changed,
        // A primary that comes back does not take over by being there.
        () if !came_changed && coming.primary.is_none() => stays.primary.is_some(),
        () if older || newer => newer == either(PrimaryReturn::AcceptSecondary),
        () => stays.rank <= coming.rank,
    };
    if right {
        return Ok(());
    }
    broken(
        Invariant::Stands,
        format!("{coming:?} gives way to {stays:?}"),
    )
}
