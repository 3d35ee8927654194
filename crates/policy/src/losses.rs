//! What the group can still lose, in figures and in words.
//!
//! Always true: `can_lose` is how many more servers, whichever they are, may fail while changes go on being accepted. In
//! availability mode that is all but one of those that follow closely, after [`model::Settings::island_after`] at most.

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
    /// How many of them can be reached now.
    pub reachable: u32,
    /// How many must be there for a change to be accepted.
    pub needed: u32,
    /// How many more of the reachable ones, whichever they are, may be lost.
    pub can_lose: u32,
    /// Voters that cannot be reached, by name.
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

/// What the group can lose now.
pub fn protection(view: &View<'_>) -> Protection {
    let mut protection = protection_after(view, view.voters, None);
    let spare = |voters: &BTreeSet<ServerId>| {
        let there = voters.iter().filter(|voter| view.reaches(**voter)).count();
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
    let missing = voters.iter().filter(|voter| !view.reaches(**voter));
    let mut missing: Vec<_> = missing.map(|voter| view.name(*voter)).collect();
    missing.sort();
    let more_to_come = view.directory.servers().any(|server| {
        let id = server.id;
        server.standing.votes() && !voters.contains(&id) && leaving != Some(id)
    });
    match view.directory.group().mode {
        ResilienceMode::Quorum => Protection::of(voters.len(), missing, more_to_come),
        ResilienceMode::Availability => Protection::of_each_alone(view, voters, missing),
    }
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

    /// In availability mode: each of `voters` may go on alone.
    fn of_each_alone(view: &View<'_>, voters: &BTreeSet<ServerId>, missing: Vec<String>) -> Self {
        let settings = view.directory.settings();
        let reachable = voters.len().saturating_sub(missing.len());
        let goes_on = settings.failover() && !view.directory.group().backups.is_empty();
        let can_lose = if goes_on {
            reachable.saturating_sub(1)
        } else {
            0
        };
        let after = words::span(settings.island_after());
        let tie_breakers = settings.tie_breakers();
        let guards: Vec<_> = [
            (!tie_breakers.is_empty()).then(|| words::list(&tie_breakers)),
            settings
                .fence_command()
                .map(|_| "the fence command".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let sentence = match (voters.len(), reachable, goes_on) {
            (0 | 1, _, _) => "a single server: its loss stops everything".to_owned(),
            (_, 0 | 1, _) => "the servers that are left of a split are alone: the loss of this one stops everything".to_owned(),
            (_, _, false) => "nobody takes over when the primary is lost: failover is off, or the backup list empty".to_owned(),
            (all, there, true) if all == there => format!("survives the loss of any {can_lose} of {all} servers, after {after} for the primary"),
            (_, there, true) => format!("survives the loss of any {can_lose} of the {there} servers that are left, after {after} for the primary"),
        };
        let mut warnings = Vec::new();
        if !missing.is_empty() {
            warnings.push(format!(
                "the group is weaker than it was made: {} cannot be reached",
                words::list(&missing)
            ));
        }
        if voters.len() > 1 {
            warnings.push(match guards.is_empty() {
                true => "availability mode without tie-breakers or a fence command: both sides of a split go on, and what they change may diverge; a third voter or a witness prevents that".to_owned(),
                false => format!("availability mode: a side of a split goes on only if {} allow it; a third voter or a witness would do without", words::list(&guards)),
            });
        }
        Self {
            voters: small(voters.len()),
            reachable: small(reachable),
            needed: 1,
            can_lose: small(can_lose),
            missing,
            sentence,
            warnings,
        }
    }

    /// Whether enough voters can be reached for a change to be accepted.
    pub fn has_quorum(&self) -> bool {
        self.reachable >= self.needed
    }
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
    let can_lose = reachable - needed;
    match (voters, missing.is_empty(), can_lose) {
        (1, _, _) => "a single server: its loss stops everything".to_owned(),
        (2, true, 0) => "can lose neither of its 2 voters".to_owned(),
        (_, true, _) => format!("survives the loss of any {can_lose} of {voters} servers"),
        (_, false, 0) => format!(
            "{missing_words} {is_are} missing: can lose none of the {reachable} voters that are left of {voters}"
        ),
        (_, false, _) => format!(
            "{missing_words} {is_are} missing: survives the loss of any {can_lose} of the {reachable} voters that are left of {voters}"
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
    } else if !missing.is_empty() {
        warnings.push(format!(
            "the group is weaker than it was made: {} cannot be reached",
            words::list(missing)
        ));
    }
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
