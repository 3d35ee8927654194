//! Room in a formation for servers that leave another one for it, as its primary decides.
//!
//! Always true: no room is made for a formation that, by the same rules, this one gives way to. Start at [`refusal`].

use super::{Meeting, acting, meet};
use crate::explanation::reason;
use model::settings::PrimaryReturn;
use model::{Directory, FormationId, FormationRef, Reason, ServerId, Side};
use std::collections::BTreeMap;

/// Why no room is made for a server whose whole formation gives way with it; none: it is. `sides` is what the others say.
pub fn refusal(own: &Side, sides: &BTreeMap<ServerId, Side>, coming: &Side) -> Option<Reason> {
    let (this, theirs) = (own.formation()?.id, coming.formation());
    // As whoever comes sees it: those that stay silent meet this one by themselves.
    let several = acting(sides)
        .any(|(_, its, _)| its.id != this && theirs.is_some_and(|theirs| theirs.id != its.id));
    match meet(own, coming, several) {
        Meeting::GivesWay(why) | Meeting::Waits(why) => Some(why),
        Meeting::Stays(_) | Meeting::Strangers => None,
    }
}

/// Why nobody of a formation goes to a primary, whoever wants it; none: they may. Whom it removed its members refuse, and could not
/// follow. Whoever followed that one is a member still, and comes with what was changed.
pub fn stranger(directory: &Directory, primary: ServerId) -> Option<Reason> {
    directory.removed(primary)?;
    let detail = format!(
        "{primary} was removed from this formation, whose members refuse it: those that followed it come by themselves, and what was changed with them is kept as a divergence"
    );
    Some(reason("member", false, detail))
}

/// Whether whoever comes for its whole formation is to be primary in this one: its own was the newer, and gave way because it
/// had changed nothing.
pub fn succeeds(this: FormationId, coming: &Side, rule: PrimaryReturn) -> bool {
    coming.descends_from(this) && rule == PrimaryReturn::AcceptSecondary
}

/// A formation that is heard and becomes one with this one: changes of the group's structure wait until it has.
pub fn taken_in(own: &Side, sides: &BTreeMap<ServerId, Side>) -> Option<(ServerId, FormationRef)> {
    let becomes_one = |side: &Side| {
        let meeting = meet(own, side, false);
        matches!(meeting, Meeting::Stays(_) | Meeting::GivesWay(_))
    };
    let found = acting(sides).find(|(_, _, side)| becomes_one(side));
    found.map(|(id, formation, _)| (id, formation))
}
