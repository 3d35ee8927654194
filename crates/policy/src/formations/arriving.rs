//! A server that has entered a formation of which nothing has come yet, or not all: what it does when that comes to nothing.
//!
//! Always true: it waits while the formation acts; it goes back to what it left only where it might go on without a primary, by
//! itself in availability mode only. Start at [`move_on`].

use super::island::is_due;
use super::{Action, Formations, Look, PATIENCE, acting};
use crate::explanation::reason;
use crate::words;
use model::{FormationId, Left, ResilienceMode, Side};
use std::time::Duration;

/// What this server does about having entered a formation that it has not caught up with.
pub(super) fn move_on(policy: &mut Formations, look: &Look<'_>, now: Duration) -> Option<Action> {
    let acts = acting(look.sides).any(|(_, formation, _)| formation.id == look.formation);
    if look.own.primary.is_some() || acts {
        policy.alone_since = None;
        return None;
    }
    let alone = now.saturating_sub(*policy.alone_since.get_or_insert(now));
    if alone < PATIENCE || now < policy.not_before {
        return None;
    }
    let why = "nothing of the formation that it was to enter has come, and another acts";
    let elsewhere = policy.come_back(look, now, reason("formation", true, why));
    if elsewhere.is_some() {
        return elsewhere;
    }
    let action = match look.own.left {
        Some(left) => go_back(policy, look, left, alone),
        None => go_on(look),
    };
    policy.do_next(action, now)
}

/// Its primary is lost before it has sent all: whoever has a part of it is as good a member of it as any.
fn go_on(look: &Look<'_>) -> Option<Action> {
    let shown = look.directory.group().formation.this.id;
    let came_in_part = shown != FormationId::default() && shown != look.formation;
    came_in_part.then_some(Action::GoOn)
}

fn go_back(policy: &Formations, look: &Look<'_>, left: Left, alone: Duration) -> Option<Action> {
    let group = look.directory.group();
    let has_it = |side: &&Side| side.formation().is_some_and(|its| its.id == look.formation);
    // Those who have received it go on from there, or hear its primary.
    let before_me: Vec<&Side> = look.sides.values().filter(has_it).collect();
    let waits = u32::try_from(before_me.len()).unwrap_or(u32::MAX);
    let due = look.directory.settings().island_after() + PATIENCE.saturating_mul(waits);
    if group.mode != ResilienceMode::Availability
        || before_me.iter().any(|side| side.primary.is_some())
        || !is_due(look, alone)
        || (!look.ordered && alone < due)
    {
        return None;
    }
    let silence = format!(
        "nothing of the formation that it entered has come for {}, and no primary of it is heard",
        words::span(alone)
    );
    let back = format!(
        "it has formation {} as it left it, and nothing was acknowledged to anybody in between",
        left.formation.number
    );
    Some(Action::GoBack {
        formation: left.formation,
        lost: policy
            .entered
            .or(group.primary.filter(|lost| *lost != look.me)),
        reasons: vec![
            reason("primary", false, silence),
            reason("formation", true, back),
        ],
    })
}
