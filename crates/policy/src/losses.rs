//! What the group can still lose, in figures and in words.
//!
//! Always true: `can_lose` is how many more servers, whichever they are, may fail while changes go on being accepted without an
//! administrator. In availability mode that is all but one of those that follow closely, after [`model::Settings::island_after`] at
//! most. Where nobody takes the place of a primary by itself (failover is off or paused, no other backup is there), it is none, for
//! one of them is the primary. Start at [`protection`].

use crate::pause;
use crate::view::View;
use crate::words;
use model::{ResilienceMode, ServerId};
use serde::Serialize;
use std::collections::BTreeSet;

/// What the group can still lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// How many servers count.
    pub voters: u32,
    /// How many of them can be reached now, in this formation.
    pub reachable: u32,
    /// How many must be there for a change to be accepted.
    pub needed: u32,
    /// How many more of the reachable ones, whichever they are, may be lost.
    pub can_lose: u32,
    /// Voters that cannot be reached or are in another formation, by name.
    pub missing: Vec<String>,
    /// The same in one sentence.
    pub sentence: String,
    /// What should be changed.
    pub warnings: Vec<String>,
}

/// How many of `voters` must be there: more than half.
pub fn needed(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether those of `voters` for whom `there` holds are a quorum. No voters have no quorum.
pub fn is_quorum(voters: &BTreeSet<ServerId>, there: impl Fn(ServerId) -> bool) -> bool {
    !voters.is_empty()
        && voters.iter().filter(|voter| there(**voter)).count() >= needed(voters.len())
}

/// A group as it is, or as it would be after a change.
#[derive(Debug, Clone)]
pub(crate) struct Assumed<'a> {
    /// Who counts.
    pub(crate) voters: &'a BTreeSet<ServerId>,
    /// Who has left.
    pub(crate) leaving: Option<ServerId>,
    /// Who leads.
    pub(crate) leader: Option<ServerId>,
    /// Who may be primary.
    pub(crate) backups: &'a [ServerId],
    /// What keeps the group from failing over by itself; none where nothing does.
    pub(crate) stopped: Option<String>,
}

impl<'a> Assumed<'a> {
    /// As it is.
    pub(crate) fn now(view: &View<'a>) -> Self {
        Self {
            voters: view.voters,
            leaving: None,
            leader: view.leader,
            backups: &view.directory.group().backups,
            stopped: pause::stopped(view.directory, view.calendar),
        }
    }
}

/// What the group can lose now.
pub fn protection(view: &View<'_>) -> Protection {
    assuming(view, &Assumed::now(view))
}

/// What the group could lose if it were so, with the voters that it has.
pub(crate) fn assuming(view: &View<'_>, assumed: &Assumed<'_>) -> Protection {
    let mut protection = of(view, assumed);
    let spare = |voters: &BTreeSet<ServerId>| {
        let there = voters.iter().filter(|voter| view.has_here(**voter)).count();
        small(there.saturating_sub(needed(voters.len())))
    };
    if let Some(least) = view.joint.iter().map(spare).min()
        && least < protection.can_lose
    {
        protection.can_lose = least;
        protection.sentence = format!(
            "survives the loss of {} while the voters are being changed: a majority of those of before and one of those of afterwards have to agree",
            match least {
                0 => "no server".to_owned(),
                _ => format!("any {}", words::count(u64::from(least), "server")),
            }
        );
    }
    protection
}

/// What the group could lose if these were the voters, and `leaving` had left.
pub fn protection_after(
    view: &View<'_>,
    voters: &BTreeSet<ServerId>,
    leaving: Option<ServerId>,
) -> Protection {
    let assumed = Assumed {
        voters,
        leaving,
        ..Assumed::now(view)
    };
    of(view, &assumed)
}

fn of(view: &View<'_>, assumed: &Assumed<'_>) -> Protection {
    let mut protection = match view.directory.group().mode {
        ResilienceMode::Quorum => of_votes(view, assumed),
        ResilienceMode::Availability => Protection::of_each_alone(view, assumed),
    };
    protection.bound(view, assumed);
    protection
}

/// What the votes alone allow in quorum mode, whoever may be primary.
pub(crate) fn of_votes(view: &View<'_>, assumed: &Assumed<'_>) -> Protection {
    let Assumed {
        voters, leaving, ..
    } = assumed;
    let more_to_come = view.directory.servers().any(|server| {
        let id = server.id;
        server.standing.votes() && !voters.contains(&id) && *leaving != Some(id)
    });
    Protection::of(voters.len(), missing(view, voters), more_to_come)
}

/// Voters that cannot be reached or are in another formation, by name.
fn missing(view: &View<'_>, voters: &BTreeSet<ServerId>) -> Vec<String> {
    let missing = voters.iter().filter(|voter| !view.has_here(**voter));
    let mut missing: Vec<_> = missing.map(|voter| view.name(*voter)).collect();
    missing.sort();
    missing
}

impl Protection {
    /// From how many count, the names of those that are missing, and whether more servers are on their way to count.
    pub fn of(voters: usize, missing: Vec<String>, more_to_come: bool) -> Self {
        let reachable = voters.saturating_sub(missing.len());
        let needed = needed(voters);
        let can_lose = reachable.saturating_sub(needed);
        let sentence = sentence(voters, reachable, needed, &missing);
        let warnings = warnings(voters, reachable, needed, &missing, more_to_come);
        Self {
            voters: small(voters),
            reachable: small(reachable),
            needed: small(needed),
            can_lose: small(can_lose),
            missing,
            sentence,
            warnings,
        }
    }

    /// Somebody must be left who may be primary: whoever is, or a backup that takes its place by itself.
    fn bound(&mut self, view: &View<'_>, assumed: &Assumed<'_>) {
        if !self.has_quorum() || assumed.voters.len() < 2 {
            return;
        }
        let Assumed {
            voters, backups, ..
        } = assumed;
        let recorded = view.directory.group().primary;
        let mut heirs: Vec<ServerId> = backups.to_vec();
        heirs.retain(|id| voters.contains(id) && view.has_here(*id));
        if assumed.stopped.is_some() {
            heirs.clear();
        }
        let leads = assumed.leader;
        let primary = leads.filter(|leader| backups.contains(leader) || recorded == Some(*leader));
        let why = || match (&assumed.stopped, backups) {
            (Some(why), _) => why.clone(),
            (None, []) => "the backup list is empty".to_owned(),
            (None, _) => "no other backup primary can be reached".to_owned(),
        };
        let Some(first) = primary.or(heirs.first().copied()) else {
            self.can_lose = 0;
            let apart = assumed.stopped.is_none() && backups.is_empty();
            self.sentence = match view.directory.group().mode {
                ResilienceMode::Availability if apart => {
                    format!("every server goes on alone: {}", why())
                }
                _ => waits_for(view, &why()),
            };
            return;
        };
        let others = small(heirs.iter().filter(|heir| **heir != first).count());
        if self.can_lose <= others {
            return;
        }
        self.sentence = match others {
            0 => format!(
                "{} but {}, the primary: {}",
                self.survives(view, self.can_lose),
                view.name(first),
                why()
            ),
            _ => format!(
                "{}: no more than {} of them may be primary",
                self.survives(view, others),
                others + 1
            ),
        };
        self.can_lose = others;
    }

    /// That so many may be lost.
    fn survives(&self, view: &View<'_>, can_lose: u32) -> String {
        let Self {
            voters,
            reachable,
            missing,
            ..
        } = self;
        match (view.directory.group().mode, missing.is_empty()) {
            (ResilienceMode::Quorum, _) => survives(*voters, *reachable, can_lose, missing),
            (ResilienceMode::Availability, true) => {
                format!("survives the loss of any {can_lose} of {voters} servers")
            }
            (ResilienceMode::Availability, false) => {
                format!(
                    "survives the loss of any {can_lose} of the {reachable} servers that are left"
                )
            }
        }
    }

    /// In availability mode: each of the voters may go on alone.
    fn of_each_alone(view: &View<'_>, assumed: &Assumed<'_>) -> Self {
        let voters = assumed.voters.len();
        let missing = missing(view, assumed.voters);
        let reachable = voters.saturating_sub(missing.len());
        let mut protection = Self {
            voters: small(voters),
            reachable: small(reachable),
            needed: 1,
            can_lose: small(reachable.saturating_sub(1)),
            warnings: warnings_of_each_alone(view, voters, &missing),
            missing,
            sentence: String::new(),
        };
        protection.sentence = match (voters, protection.can_lose) {
            (0 | 1, _) => "a single server: its loss stops everything".to_owned(),
            (_, 0) => "the servers that are left of a split are alone: the loss of this one stops everything".to_owned(),
            (_, can_lose) => format!(
                "{}, after {} for the primary",
                protection.survives(view, can_lose),
                words::span(view.directory.settings().island_after())
            ),
        };
        protection
    }

    /// Whether enough voters can be reached for a change to be accepted.
    pub fn has_quorum(&self) -> bool {
        self.reachable >= self.needed
    }
}

/// Nobody leads, and nobody steps forward but whoever was primary.
fn waits_for(view: &View<'_>, why: &str) -> String {
    match view.directory.group().primary {
        Some(last) => format!(
            "changes wait for {}, the last primary: {why}",
            view.name(last)
        ),
        None => format!("changes wait for a primary: {why}"),
    }
}

fn warnings_of_each_alone(view: &View<'_>, voters: usize, missing: &[String]) -> Vec<String> {
    let settings = view.directory.settings();
    let mut warnings = Vec::new();
    warnings.extend(weaker(missing));
    let mut guards = Vec::new();
    let tie_breakers = settings.tie_breakers();
    if !tie_breakers.is_empty() {
        guards.push(words::list(&tie_breakers));
    }
    if settings.fence_command().is_some() {
        guards.push("the fence command".to_owned());
    }
    if voters > 1 {
        warnings.push(match guards.is_empty() {
            true => "availability mode without tie-breakers or a fence command: both sides of a split go on, and what they change may diverge; a third voter or a witness prevents that".to_owned(),
            false => format!("availability mode: a side of a split goes on only if {} allow it; a third voter or a witness would do without", words::list(&guards)),
        });
    }
    warnings
}

fn weaker(missing: &[String]) -> Option<String> {
    let names = words::list(missing);
    let is_are = if missing.len() == 1 { "is" } else { "are" };
    let words = format!("the group is weaker than it was made: {names} {is_are} missing");
    (!missing.is_empty()).then_some(words)
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn sentence(voters: usize, reachable: usize, needed: usize, missing: &[String]) -> String {
    let missing_words = words::list(missing);
    let is_are = if missing.len() == 1 { "is" } else { "are" };
    if reachable < needed {
        return match voters {
            0 => "no server counts towards a quorum".to_owned(),
            _ => format!(
                "read-only: {missing_words} {is_are} missing, and {needed} of {voters} voters must be there"
            ),
        };
    }
    match (voters, missing.is_empty(), reachable - needed) {
        (1, _, _) => "a single server: its loss stops everything".to_owned(),
        (2, true, 0) => "can lose neither of its 2 voters".to_owned(),
        (_, false, 0) => format!(
            "{missing_words} {is_are} missing: can lose none of the {reachable} voters that are left of {voters}"
        ),
        (_, _, can_lose) => survives(small(voters), small(reachable), small(can_lose), missing),
    }
}

/// That so many may be lost where a majority must agree.
fn survives(voters: u32, reachable: u32, can_lose: u32, missing: &[String]) -> String {
    let is_are = if missing.len() == 1 { "is" } else { "are" };
    match missing {
        [] => format!("survives the loss of any {can_lose} of {voters} servers"),
        _ => format!(
            "{} {is_are} missing: survives the loss of any {can_lose} of the {reachable} voters that are left of {voters}",
            words::list(missing)
        ),
    }
}

fn warnings(
    voters: usize,
    reachable: usize,
    needed: usize,
    missing: &[String],
    more_to_come: bool,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if reachable < needed {
        let short = needed - reachable;
        let servers = if short == 1 {
            "one more voter is"
        } else {
            "more voters are"
        };
        warnings.push(format!(
            "no quorum: {servers} needed before changes are accepted ({reachable} of {voters} there, {needed} needed; missing: {})",
            words::list(missing)
        ));
    }
    warnings.extend(weaker(missing).filter(|_| reachable >= needed));
    if voters > 0 && voters.is_multiple_of(2) && !more_to_come {
        let less = voters - 1;
        warnings.push(if voters == 2 {
            "an even number of voters: 2 can lose no more than 1 alone; add a third server or a witness".to_owned()
        } else {
            format!(
                "an even number of voters: {voters} can lose no more than {less} could; add another server or a witness"
            )
        });
    }
    warnings
}
