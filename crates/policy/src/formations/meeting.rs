//! Two formations of one group hear each other: which one stands.
//!
//! Always true: both find the same one to give way, or neither does. Start at [`meet`].

use crate::explanation::reason;
use model::settings::PrimaryReturn;
use model::{FormationRef, Reason, ResilienceMode, Side, common_change};

/// What becomes of two formations that hear each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// They have nothing to decide: the same formation, or of different groups.
    Strangers,
    /// The asked one stands.
    Stays(Reason),
    /// The asked one gives way.
    GivesWay(Reason),
    /// An administrator decides.
    Waits(Reason),
}

/// How a formation is meant, in words.
pub(super) fn named(step: FormationRef) -> String {
    format!("formation {} ({:.8})", step.number, step.id.to_string())
}

/// Two sides and what is known of both.
struct Both<'a> {
    own: &'a Side,
    other: &'a Side,
    mine: String,
    theirs: String,
    /// The last change that both have.
    fork: u64,
    changed: bool,
    other_changed: bool,
    i_descend: bool,
    they_descend: bool,
}

/// Decides between two formations of one group; both sides come to the same result. `several`: more than two are known.
pub fn meet(own: &Side, other: &Side, several: bool) -> Meeting {
    let (Some(mine), Some(theirs)) = (own.formation(), other.formation()) else {
        return Meeting::Strangers;
    };
    let Some(fork) = common_change(&own.lineage, &other.lineage).filter(|_| mine.id != theirs.id)
    else {
        return Meeting::Strangers;
    };
    let both = Both {
        own,
        other,
        mine: named(mine),
        theirs: named(theirs),
        fork,
        changed: own.last_user_change > fork,
        other_changed: other.last_user_change > fork,
        i_descend: own.descends_from(theirs.id),
        they_descend: other.descends_from(mine.id),
    };
    if let Some(before) = both.decided_before() {
        return before;
    }
    if both.stand_alone() {
        return Meeting::Strangers;
    }
    both.by_hand().unwrap_or_else(|| both.by_rule(several))
}

impl Both<'_> {
    /// One that gave way to the other before, or from which one went on that did, does not stand when somebody comes back who
    /// was not there.
    fn decided_before(&self) -> Option<Meeting> {
        let Self { mine, theirs, .. } = self;
        let why = |falls: &str, stands: &str| {
            let detail = format!("{falls} gave way to {stands} before");
            reason("gave-way", true, detail)
        };
        if self.other.gave_way_to(self.own) {
            return Some(Meeting::Stays(why(theirs, mine)));
        }
        let falls = self.own.gave_way_to(self.other);
        falls.then(|| Meeting::GivesWay(why(mine, theirs)))
    }

    /// With an empty backup list every server stands alone until the primary that they lost is there again, or an administrator
    /// promotes one.
    fn stand_alone(&self) -> bool {
        let unlisted = |side: &Side| side.rank == u32::MAX;
        let islands = !self.i_descend && !self.they_descend;
        islands && unlisted(self.own) && unlisted(self.other)
    }

    /// Nobody but an administrator makes a formation of one in which a majority must agree, unless that became so afterwards.
    fn by_hand(&self) -> Option<Meeting> {
        let (ancestor, ancestor_changed) = match (self.i_descend, self.they_descend) {
            (_, true) => (self.own, self.changed),
            (true, _) => (self.other, self.other_changed),
            _ => return None,
        };
        if ancestor.mode != ResilienceMode::Quorum {
            return None;
        }
        let Self {
            mine, theirs, fork, ..
        } = self;
        let why = |pass, detail| reason("goes-on", pass, detail);
        Some(
            match (
                ancestor_changed && ancestor.primary.is_some(),
                self.they_descend,
            ) {
                (true, _) => Meeting::Waits(why(
                    false,
                    format!(
                        "{mine} and {theirs} both act, and both changed something after change {fork}: say with `stead group recover --formation` which one stands"
                    ),
                )),
                (false, true) => Meeting::GivesWay(why(true, format!("{theirs} goes on from it"))),
                (false, false) => {
                    Meeting::Stays(why(true, format!("{mine} goes on from {theirs}")))
                }
            },
        )
    }

    /// What `resilience.primary-return` says, the more cautious of the two.
    fn by_rule(&self, several: bool) -> Meeting {
        let Self {
            mine, theirs, fork, ..
        } = self;
        let rule = self
            .own
            .primary_return
            .max_caution(self.other.primary_return);
        let wait = |detail: String| Meeting::Waits(reason("primary-return", false, detail));
        if rule == PrimaryReturn::Ignore {
            return wait(format!(
                "resilience.primary-return is ignore: {mine} and {theirs} stay apart until an administrator decides"
            ));
        }
        let unchanged = |which: &str, other: &str| {
            let detail = format!(
                "nothing was changed in {which} since change {fork}: it catches up with {other}"
            );
            reason("unchanged", true, detail)
        };
        let acts = |side: &Side| side.primary.is_some();
        match (self.changed, self.other_changed) {
            (false, true) => Meeting::GivesWay(unchanged(mine, theirs)),
            (true, false) => Meeting::Stays(unchanged(theirs, mine)),
            // A primary that comes back takes over when it has been healthy for a while, and not by being there.
            (false, false) if !acts(self.own) && acts(self.other) => {
                Meeting::GivesWay(unchanged(mine, theirs))
            }
            (false, false) if acts(self.own) && !acts(self.other) => {
                Meeting::Stays(unchanged(theirs, mine))
            }
            _ if rule == PrimaryReturn::AcceptSecondary && several => wait(
                "resilience.primary-return is accept-secondary, and there are more than two formations: an administrator decides"
                    .to_owned(),
            ),
            _ => self.by_age_or_rank(rule == PrimaryReturn::Accept),
        }
    }

    fn by_age_or_rank(&self, original_stands: bool) -> Meeting {
        let Self { mine, theirs, .. } = self;
        let (stays, rule) = match (self.i_descend, self.they_descend) {
            (false, true) => (original_stands, "primary-return"),
            (true, false) => (!original_stands, "primary-return"),
            _ => ((self.own.rank, mine) < (self.other.rank, theirs), "rank"),
        };
        let (stands, falls) = if stays {
            (mine, theirs)
        } else {
            (theirs, mine)
        };
        let detail = match (rule, original_stands) {
            ("rank", _) => format!("the primary of {stands} ranks higher than that of {falls}"),
            (_, true) => {
                format!("resilience.primary-return is accept: {stands}, which was before, stands")
            }
            (_, false) => format!(
                "resilience.primary-return is accept-secondary: {stands}, with the new primary, stands"
            ),
        };
        match stays {
            true => Meeting::Stays(reason(rule, true, detail)),
            false => Meeting::GivesWay(reason(rule, true, detail)),
        }
    }
}
