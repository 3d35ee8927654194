//! A side that has lost its primary goes on by itself: whether, and by whom.
//!
//! Always true: only in availability mode; only by the highest backup that answers, unless those before it may not or do
//! nothing; never while somebody on this side hears a primary (with an empty list: the one of this formation). Start at [`island`].

use super::{Action, Judged, Look, PATIENCE, related};
use crate::explanation::reason;
use crate::words;
use model::{Reason, ResilienceMode, Side};
use std::time::Duration;

/// What this server does about having been without a primary for `alone`.
pub(super) fn island(look: &Look<'_>, alone: Duration) -> Option<Action> {
    let group = look.directory.group();
    let me = look.directory.server(look.me)?;
    let own = look.own.formation()?.id;
    let led = || {
        let mut sides = look.sides.values();
        // Whoever hears the primary, or found another, is the way to it. With an empty list another does not matter.
        let is_way = |side: &Side| match group.backups.is_empty() {
            true => side.formation().is_some_and(|its| its.id == own),
            false => related(look.own, side),
        };
        sides.any(|side| side.primary.is_some() && is_way(side))
    };
    if group.mode != ResilienceMode::Availability
        || look.acting
        || look.own.votes_alone
        || !me.standing.may_lead()
        || !is_due(look, alone)
        || led()
    {
        return None;
    }
    let lost = group.primary.filter(|lost| *lost != look.me);
    if group.backups.is_empty() {
        let detail = "the backup list is empty: every server goes on alone";
        let candidates = vec![(look.me, vec![reason("on-backup-list", true, detail)])];
        return Some(Action::Make { candidates, lost });
    }
    let (mut candidates, waits) = before_me(look)?;
    let due = look.directory.settings().island_after() + PATIENCE * waits;
    if !look.ordered && alone < due {
        return None;
    }
    candidates.push((look.me, why_me(look, alone, waits)));
    Some(Action::Make { candidates, lost })
}

/// Whether the time has come at all.
pub(super) fn is_due(look: &Look<'_>, alone: Duration) -> bool {
    let (group, settings) = (look.directory.group(), look.directory.settings());
    let automatic = settings.failover() && group.pause_at(look.calendar).is_none();
    look.ordered || (automatic && alone >= settings.island_after())
}

/// Those before this server on the backup list, and how many of them could do it.
fn before_me(look: &Look<'_>) -> Option<(Judged, u32)> {
    let backups = &look.directory.group().backups;
    let own = look.own.formation()?;
    let place = backups.iter().position(|backup| *backup == look.me)?;
    let mut waits = 0_u32;
    let judged = backups.iter().take(place).map(|backup| {
        let name = look.directory.name_of(*backup);
        let there = look.sides.get(backup);
        let there = there.filter(|side| side.formation().is_some_and(|its| its.id == own.id));
        let why = match there {
            None => reason("reachable", false, format!("{name} does not answer")),
            Some(side) if side.held => {
                let detail = format!("{name} may not go on without the primary");
                reason("may-act-alone", false, detail)
            }
            Some(_) => {
                waits += 1;
                reason("rank", true, format!("{name} comes first, and did nothing"))
            }
        };
        (*backup, vec![why])
    });
    let judged = judged.collect();
    Some((judged, waits))
}

fn why_me(look: &Look<'_>, alone: Duration, waits: u32) -> Vec<Reason> {
    let silence = format!("no primary was heard for {}", words::span(alone));
    let rank = match (look.ordered, waits) {
        (true, _) => "an administrator told it to",
        (false, 0) => "it is the first of the backup list that is there",
        (false, _) => "those before it on the backup list did nothing",
    };
    let mut reasons = vec![
        reason("primary", false, silence),
        reason("rank", true, rank),
    ];
    reasons.extend(look.in_sync.map(|in_sync| {
        let detail = match in_sync {
            true => "it was in sync: nothing that was acknowledged is missing",
            false => "it was not in sync: changes that were acknowledged may be missing here",
        };
        reason("in-sync", in_sync, detail)
    }));
    reasons
}
