//! Formations that part and meet: when a side of a split goes on by itself, which formation stands when two hear each other
//! again, and when a server leaves its own for another.
//!
//! Always true: a side makes a formation only in availability mode, without its primary for `island-after`, and only by the
//! highest backup that is there; of two formations that meet, both sides find the same one to give way, or neither does; a
//! formation whose members must agree (quorum mode) gives way only to one that an administrator made of it, or to one that it
//! went on from itself, while each side could; where both sides changed something and `primary-return` leaves it to an
//! administrator, nobody gives way by itself; a server that was removed makes no formation. Start at [`Formations::handle`] and
//! [`meet`].

use crate::explanation::reason;
use crate::words;
use model::settings::PrimaryReturn;
use model::{
    Directory, FormationId, FormationRef, Reason, ResilienceMode, ServerId, Side, UnixMillis,
    common_change,
};
use std::collections::BTreeMap;
use std::time::Duration;

mod arriving;
mod island;
pub mod left;
mod meeting;
pub mod own;
pub mod room;

use meeting::named;
pub use meeting::{Meeting, meet};

/// How long a candidate waits for each one before it that is there and does nothing.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after an attempt that came to nothing.
pub const AGAIN: Duration = Duration::from_secs(1);

/// What a server sees at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// This server.
    pub me: ServerId,
    /// The newest directory that it has.
    pub directory: &'a Directory,
    /// The time on its calendar.
    pub calendar: UnixMillis,
    /// What it would say of its own formation.
    pub own: &'a Side,
    /// Whether it acts as primary.
    pub acting: bool,
    /// When the primary that it follows was last heard, on the steady clock; none: not since it started.
    pub heard: Option<Duration>,
    /// Whether it was in sync when it last heard of that; none: not known.
    pub in_sync: Option<bool>,
    /// The members that answer now, and what they say of theirs.
    pub sides: &'a BTreeMap<ServerId, Side>,
    /// The formation in force on its disk; the default one where it has lost its log, or was emptied, and is in none.
    pub formation: FormationId,
    /// Whether an administrator told this server to go on without the primary.
    pub ordered: bool,
    /// Whether a member said that this server was removed: [`own::is_removed`].
    pub removed: bool,
}

/// Candidates, in order, and what speaks for and against each.
pub type Judged = Vec<(ServerId, Vec<Reason>)>;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a formation of this side, after tie-breakers and the fence command allowed it.
    Make {
        /// Why, candidate by candidate.
        candidates: Judged,
        /// The primary that is lost.
        lost: Option<ServerId>,
    },
    /// Leave the present formation for another.
    Enter {
        /// Which.
        formation: FormationRef,
        /// Who acts as its primary.
        primary: ServerId,
        /// Whether this server does so for its whole formation, which gives way.
        gives_way: bool,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Go back to the formation that was left for the present one, of which nothing has come, after tie-breakers and the fence
    /// command allowed it.
    GoBack {
        /// Which.
        formation: FormationRef,
        /// The primary that is lost, where it is known.
        lost: Option<ServerId>,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Take what has come of the present formation for all that there is: whoever knew how much there was is lost.
    GoOn,
    /// Hand the office to the primary of a formation that gave way.
    HandOver {
        /// To whom.
        server: ServerId,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Two formations hear each other, and an administrator has to decide.
    Wait {
        /// The other one.
        formation: FormationRef,
        /// Why.
        reasons: Vec<Reason>,
    },
}

/// The state machine.
#[derive(Debug, Clone, Default)]
pub struct Formations {
    formation: Option<FormationId>,
    /// Since when this server has been without a primary.
    alone_since: Option<Duration>,
    /// When what was tried last may be tried again.
    not_before: Duration,
    /// To whom the office goes once it has caught up.
    successor: Option<ServerId>,
    /// Formations of which an administrator has to decide whether they stand.
    waiting: BTreeMap<FormationId, FormationRef>,
    /// The primary of the formation that was entered last.
    entered: Option<ServerId>,
}

/// Whether two sides come from one formation.
fn related(one: &Side, other: &Side) -> bool {
    common_change(&one.lineage, &other.lineage).is_some()
}

/// Those that act as primaries, and of what.
pub fn acting(
    sides: &BTreeMap<ServerId, Side>,
) -> impl Iterator<Item = (ServerId, FormationRef, &Side)> {
    let acting = sides.iter().filter(|(id, side)| side.primary == Some(**id));
    acting.filter_map(|(id, side)| Some((*id, side.formation()?, side)))
}

impl Formations {
    /// Looks at everything; call it when something changed, and every now and then.
    pub fn handle(&mut self, look: &Look<'_>, now: Duration) -> Option<Action> {
        if look.removed {
            // Of its removal it hears nothing but that the others refuse it: for a lost primary it must not take that.
            return None;
        }
        if look.formation == FormationId::default() {
            let why =
                "this server has lost its log: it begins anew, and counts when it has caught up";
            return self.come_back(look, now, reason("same-log", false, why));
        }
        let Some(own) = look.own.formation() else {
            self.waiting.clear();
            return arriving::move_on(self, look, now);
        };
        if self.formation != Some(own.id) {
            *self = Self {
                formation: Some(own.id),
                entered: self.entered,
                ..Self::default()
            };
        }
        match look.own.primary {
            Some(_) => self.alone_since = None,
            None => {
                // It may have been heard again between two looks.
                let heard = look.heard.map(|heard| heard.min(now));
                self.alone_since = self.alone_since.max(heard).or(Some(now));
            }
        }
        if now < self.not_before {
            return None;
        }
        let action = self
            .meetings(look)
            .or_else(|| self.follow(look, now))
            .or_else(|| self.island(look, now))
            .or_else(|| self.succeed(look));
        self.do_next(action, now)
    }

    /// What is done is not tried again at once.
    fn do_next(&mut self, action: Option<Action>, now: Duration) -> Option<Action> {
        if action.is_some() {
            self.not_before = now + AGAIN;
        }
        if let Some(Action::Enter { primary, .. }) = &action {
            self.entered = Some(*primary);
        }
        action
    }

    /// A server without a log enters the newest formation that acts.
    fn come_back(&mut self, look: &Look<'_>, now: Duration, why: Reason) -> Option<Action> {
        if now < self.not_before {
            return None;
        }
        let newest = acting(look.sides).max_by_key(|(_, formation, _)| formation.number);
        let (primary, formation, _) = newest?;
        let enter = Action::Enter {
            formation,
            primary,
            gives_way: false,
            reasons: vec![why],
        };
        self.do_next(Some(enter), now)
    }

    /// The primary of a formation that gives way to this one is to be primary here, where `primary-return` says so.
    pub fn note_successor(&mut self, server: ServerId) {
        self.successor = Some(server);
    }

    /// The formations that are heard and wait for an administrator, as this one does.
    pub fn waiting(&self) -> impl Iterator<Item = FormationRef> {
        self.waiting.values().copied()
    }

    /// What whoever may decide for this formation does about others that act. All know what waits; who decides says so, once.
    /// Whom this formation has removed is none of them: its members refuse that server, and could not follow.
    fn meetings(&mut self, look: &Look<'_>) -> Option<Action> {
        let decides = look.acting || look.own.votes_alone;
        let own = look.own.formation()?;
        let others = acting(look.sides)
            .filter(|(_, formation, side)| formation.id != own.id && related(look.own, side))
            .filter(|(primary, ..)| look.directory.server(*primary).is_some());
        let others: BTreeMap<FormationId, _> = others.map(|one| (one.1.id, one)).collect();
        self.waiting.retain(|id, _| others.contains_key(id));
        for (id, (primary, formation, side)) in &others {
            match meet(look.own, side, others.len() > 1) {
                Meeting::GivesWay(why) if decides => {
                    return Some(Action::Enter {
                        formation: *formation,
                        primary: *primary,
                        gives_way: true,
                        reasons: vec![why],
                    });
                }
                Meeting::Waits(why) => {
                    let is_new = self.waiting.insert(*id, *formation).is_none();
                    if is_new && decides {
                        return Some(Action::Wait {
                            formation: *formation,
                            reasons: vec![why],
                        });
                    }
                }
                _ => {
                    self.waiting.remove(id);
                }
            }
        }
        None
    }

    /// A server without a primary goes where its primary has gone, or where those went who found another.
    fn follow(&self, look: &Look<'_>, now: Duration) -> Option<Action> {
        let settings = look.directory.settings();
        let alone = now.saturating_sub(self.alone_since?);
        // With an empty list every server goes on alone, where it may.
        let group = look.directory.group();
        let automatic = settings.failover() && group.pause_at(look.calendar).is_none();
        let me = look.directory.server(look.me);
        let leads = me.is_some_and(|me| me.standing.may_lead());
        let may = group.mode == ResilienceMode::Availability;
        let goes_alone = automatic && leads && may && group.backups.is_empty();
        if look.acting || alone < settings.grace_period() || goes_alone {
            return None;
        }
        let own = look.own.formation()?;
        let before = look.directory.group().primary;
        let there = before.and_then(|before| look.sides.get(&before));
        let went_to = there.and_then(Side::formation).map(|its| its.id);
        let mut found: Vec<(bool, FormationRef, ServerId, String)> = Vec::new();
        for (id, formation, side) in acting(look.sides) {
            let gone = went_to == Some(formation.id);
            // Whoever decides for its formation has done so.
            let decided = look.own.votes_alone && !gone;
            let member = look.directory.server(id).is_some();
            if formation.id == own.id || !related(look.own, side) || decided || !member {
                continue;
            }
            let gave_way = look.own.gave_way_to(side);
            let descends = side.descends_from(own.id) || gave_way;
            let name = look.directory.name_of(id);
            let why = match (gone, descends) {
                (true, _) => format!("the primary of this formation went to {}", named(formation)),
                (false, true) if gave_way => format!(
                    "{name} is primary of {}, which this one gave way to",
                    named(formation)
                ),
                (false, true) => format!(
                    "{name} is primary of {}, which goes on from this one",
                    named(formation)
                ),
                // Its own primary may come back; it may have changed something of which nobody else knows.
                (false, false) if alone >= settings.island_after() => format!(
                    "{name} is primary of {}, and this one has had none for {}",
                    named(formation),
                    words::span(alone)
                ),
                _ => continue,
            };
            found.push((!gone && !descends, formation, id, why));
        }
        found.sort_by_key(|(last, formation, id, _)| (*last, u64::MAX - formation.number, *id));
        let (_, formation, primary, why) = found.into_iter().next()?;
        Some(Action::Enter {
            formation,
            primary,
            gives_way: false,
            reasons: vec![reason("formation", true, why)],
        })
    }

    fn island(&self, look: &Look<'_>, now: Duration) -> Option<Action> {
        island::island(look, now.saturating_sub(self.alone_since?))
    }

    /// Whether the primary of a formation that gave way takes the office now.
    fn succeed(&mut self, look: &Look<'_>) -> Option<Action> {
        let server = self.successor?;
        let settings = look.directory.settings();
        if !look.acting || settings.primary_return() != PrimaryReturn::AcceptSecondary {
            return None;
        }
        let own = look.own.formation()?;
        let there = look.sides.get(&server).and_then(Side::formation);
        let ready = there.is_some_and(|there| there.id == own.id)
            && look
                .directory
                .server(server)
                .is_some_and(|server| server.voting && server.standing.may_lead());
        if !ready {
            return None;
        }
        self.successor = None;
        let name = look.directory.name_of(server);
        let why = format!(
            "resilience.primary-return is accept-secondary, and {name} was primary of the formation that gave way"
        );
        Some(Action::HandOver {
            server,
            reasons: vec![reason("primary-return", true, why)],
        })
    }
}

/// Whether a server that starts may take part in its formation: those that it knows of none that goes on from it, or decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It may.
    Takes,
    /// Its formation stands, but others have gone on without it: it may when it has been healthy for
    /// `resilience.return-delay`, so that one that comes and goes does not drag the group along.
    Later,
    /// It may not: the others have gone on in a formation that stands.
    None,
}

/// What part a server that starts takes in its formation.
pub fn part(own: &Side, sides: &BTreeMap<ServerId, Side>) -> Part {
    let Some(formation) = own.formation() else {
        return Part::Takes;
    };
    if acting(sides).any(|(_, _, side)| own.gave_way_to(side)) {
        return Part::None;
    }
    let newer: Vec<&Side> = acting(sides)
        .filter(|(_, _, side)| side.descends_from(formation.id))
        .map(|(_, _, side)| side)
        .collect();
    let several = newer.len() > 1;
    let meetings: Vec<Meeting> = newer.iter().map(|side| meet(own, side, several)).collect();
    let stands = |meeting: &Meeting| matches!(meeting, Meeting::Stays(_) | Meeting::Waits(_));
    if newer.is_empty() {
        return Part::Takes;
    }
    if !own.votes_alone || !meetings.iter().all(stands) {
        return Part::None;
    }
    let waits = |meeting: &Meeting| matches!(meeting, Meeting::Waits(_));
    match meetings.iter().any(waits) {
        true => Part::Takes,
        false => Part::Later,
    }
}

/// Whether a server that takes no part may do so at once, whoever has not answered yet: its formation acts, and no formation that
/// is known to go on from it stands before it, or none does any more.
pub fn may_follow(own: &Side, sides: &BTreeMap<ServerId, Side>) -> bool {
    let this = own.formation().map(|formation| formation.id);
    let acts = acting(sides).any(|(_, formation, _)| Some(formation.id) == this);
    acts && part(own, sides) == Part::Takes
}
