//! `stead group reset`: every check, and the plan, for this server and for those that it leaves.

use crate::explanation::reason;
use crate::losses::{Protection, is_quorum, protection_after};
use crate::plan::{Affected, Check, Impact, Plan};
use crate::view::View;
use crate::words;
use model::{Reason, ResilienceMode, ServerId};
use std::collections::BTreeSet;

/// Plans that the server whose view it is forgets the group and stands alone. `removed`: the others said that they have
/// removed it. Neither a primary nor a quorum is needed.
///
/// What is told of losses afterwards is about the others; this server is alone then, and says so.
pub fn reset(view: &View<'_>, removed: bool) -> Plan {
    let others = others(view);
    let kept = view.directory.sessions_on(view.me).count();
    let all = view.directory.servers().map(|server| server.id);
    let elsewhere = all
        .filter(|server| *server != view.me)
        .flat_map(|server| view.directory.sessions_on(server))
        .map(|session| &**session);
    let impact = Impact {
        kept: words::len(kept),
        moved: Affected::default(),
        lost: Affected::from_sessions(elsewhere),
    };
    let steps = steps(view, removed, &others, &impact);
    let mut plan = Plan::new(
        format!("reset {}", view.name(view.me)),
        checks(view, removed, &others),
        steps,
        impact,
        of_others(view, removed),
    )
    // It starts anew, and waits one grace period before it counts its own vote.
    .with_outage(view.directory.settings().grace_period() * 2);
    if plan.is_possible() {
        plan.losses_after
            .warnings
            .extend(warnings(view, removed, &others));
    }
    plan
}

fn others(view: &View<'_>) -> Vec<String> {
    let others = view
        .directory
        .servers()
        .filter(|server| server.id != view.me);
    let mut names: Vec<String> = others.map(|server| server.name.to_string()).collect();
    names.sort();
    names
}

fn checks(view: &View<'_>, removed: bool, others: &[String]) -> Vec<Check> {
    let name = view.name(view.me);
    if view.directory.servers().next().is_none() {
        let detail = "this server has not received the group's directory yet";
        return vec![Check {
            reason: reason("directory", false, detail),
            remedy: "wait until it has, or begin anew in an empty data folder with `stead init`",
        }];
    }
    let detail = match others {
        [] => format!("{name} is a group of its own already"),
        _ => format!("{name} is in a group with {}", words::list(others)),
    };
    vec![
        Check {
            reason: reason("in-a-group", !others.is_empty(), detail),
            remedy: "there is nothing to forget",
        },
        Check {
            reason: standing(view, removed),
            remedy: "",
        },
    ]
}

/// What it is to the others: told, and no reason against it.
fn standing(view: &View<'_>, removed: bool) -> Reason {
    let name = view.name(view.me);
    let detail = match (removed, view.leader) {
        (true, _) => format!("{name} was removed from the group"),
        (false, Some(leader)) if leader == view.me => format!("{name} is the primary"),
        (false, Some(leader)) => {
            format!("{} is the primary, which is not asked", view.name(leader))
        }
        (false, None) => "nobody is primary now, and none is needed".to_owned(),
    };
    reason("standing", true, detail)
}

fn steps(view: &View<'_>, removed: bool, others: &[String], impact: &Impact) -> Vec<String> {
    let (name, group) = (view.name(view.me), &view.directory.group().name);
    let mut steps = Vec::new();
    if let (true, Some(next)) = (leads(view), successor(view)) {
        steps.push(format!(
            "{name} hands the role of primary to {}, if it answers in time",
            view.name(next)
        ));
    }
    steps.push(format!(
        "{name} becomes a group of its own, {group} by name: with a new id, authority, secret and certificates"
    ));
    steps.push(match impact.kept {
        0 => "it keeps users, applications and settings; it has no sessions".to_owned(),
        kept => format!(
            "it keeps users, applications, settings and its own sessions ({}), which run on",
            words::number(kept)
        ),
    });
    let forgotten = words::list(others);
    steps.push(match impact.lost.count {
        0 => format!("it forgets {forgotten}, and open invitations"),
        lost => format!(
            "it forgets {forgotten} with their sessions ({}), which do not end by this, and open invitations",
            words::number(lost)
        ),
    });
    steps.push(
        "connections to it are closed: everybody logs in again, with the new fingerprint"
            .to_owned(),
    );
    if !removed {
        let lists = if others.len() == 1 { "lists" } else { "list" };
        steps.push(format!(
            "{forgotten} {lists} {name} as unreachable until `stead group remove {name}`"
        ));
    }
    steps
}

fn leads(view: &View<'_>) -> bool {
    view.leader == Some(view.me)
}

/// Who takes the place of this server as primary, as far as it can be told.
fn successor(view: &View<'_>) -> Option<ServerId> {
    let backups = view.directory.group().backups.iter().copied();
    let mut fit =
        backups.filter(|id| *id != view.me && view.voters.contains(id) && view.reaches(*id));
    fit.next()
}

/// What the others can lose afterwards, as far as this server can tell.
fn of_others(view: &View<'_>, removed: bool) -> Protection {
    let me = view.name(view.me);
    let mut without: BTreeSet<ServerId> = view.voters.clone();
    let counted = without.remove(&view.me);
    let mut theirs = protection_after(view, &without, Some(view.me));
    if counted && !removed && view.directory.group().mode == ResilienceMode::Quorum {
        // They count it as missing until they remove it.
        theirs.missing.push(me.clone());
        theirs.missing.sort();
        theirs = Protection::of(view.voters.len(), theirs.missing, false);
    }
    theirs.sentence = match removed {
        true => format!(
            "{me} is a single server: its loss stops everything; the others do not count on it"
        ),
        false => format!(
            "{me} is a single server: its loss stops everything; the others, as it sees them: {}",
            theirs.sentence
        ),
    };
    theirs.warnings.clear();
    theirs
}

fn warnings(view: &View<'_>, removed: bool, others: &[String]) -> Vec<String> {
    let name = view.name(view.me);
    let mut warnings = Vec::new();
    let here = view.directory.sessions_on(view.me).count();
    if !removed && here > 0 {
        warnings.push(format!(
            "the others do not reach the sessions on {name} ({}) any more: whoever asks there gets a new one",
            words::number(words::len(here))
        ));
    }
    if removed || !view.voters.contains(&view.me) {
        return warnings;
    }
    let there = |voter| voter != view.me && view.reaches(voter);
    let enough = match view.directory.group().mode {
        ResilienceMode::Quorum => is_quorum(view.voters, there),
        ResilienceMode::Availability => true,
    };
    warnings.extend(match (leads(view), enough, successor(view)) {
        (true, true, Some(next)) => Some(format!(
            "{name} is the primary: the others lose it, and {} takes its place",
            view.name(next)
        )),
        (true, true, None) => Some(format!(
            "{name} is the primary: the others lose it, none of them may take its place, and they accept no changes"
        )),
        (true, false, _) => Some(format!(
            "{name} is the primary: the others lose it and are too few for a quorum: they accept no changes; live \
             sessions go on"
        )),
        (false, false, _) => Some(format!(
            "without {name} {} too few for a quorum: no changes are accepted there; live sessions go on",
            if others.len() == 1 { "the other server is" } else { "the others are" }
        )),
        (false, true, _) => None,
    });
    warnings
}
