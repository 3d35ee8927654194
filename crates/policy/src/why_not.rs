//! Why a server is not primary now.

use crate::explanation::{Candidate, Explanation, reason};
use crate::losses::protection;
use crate::pause;
use crate::promotion::{
    clock_agrees, has_caught_up, is_listed, is_new_enough, is_reachable, is_voter,
};
use crate::view::View;
use crate::words;
use model::{Reason, Server, ServerId};

/// Why a server is not primary now, or that it is.
pub fn why_not(view: &View<'_>, target: ServerId) -> Explanation {
    let Some(server) = view.directory.server(target) else {
        let detail = match view.directory.removed(target) {
            Some(_) => format!("{target} was removed from the group"),
            None => format!("{target} is no member of the group"),
        };
        let reasons = vec![reason("member", false, detail.clone())];
        return Explanation {
            decision: detail,
            at: view.calendar,
            candidates: vec![Candidate::judged(target, target.to_string(), reasons)],
        };
    };
    let reasons = reasons(view, server);
    Explanation {
        decision: decision(view, server, &reasons),
        at: view.calendar,
        candidates: vec![Candidate::judged(target, server.name.to_string(), reasons)],
    }
}

/// Every member beside who is primary now, in the order of the backup list and then by name.
pub fn who_is_primary(view: &View<'_>) -> Explanation {
    let backups = &view.directory.group().backups;
    let mut servers: Vec<_> = view.directory.servers().collect();
    servers.sort_by_key(|server| {
        let place = backups.iter().position(|backup| *backup == server.id);
        (place.unwrap_or(usize::MAX), server.name.clone())
    });
    let candidates = servers.into_iter().map(|server| {
        let reasons = reasons(view, server);
        Candidate::judged(server.id, server.name.to_string(), reasons)
    });
    Explanation {
        decision: primary_words(view),
        at: view.calendar,
        candidates: candidates.collect(),
    }
}

fn reasons(view: &View<'_>, server: &Server) -> Vec<Reason> {
    let mut reasons = vec![
        is_voter(view, server),
        is_listed(view, server),
        is_reachable(view, server),
        has_caught_up(view, server),
        clock_agrees(view, server),
        is_new_enough(view, server),
    ];
    if view.directory.group().primary == Some(server.id) {
        // The primary stays primary when it is taken off the list: only becoming it needs the list.
        for reason in reasons
            .iter_mut()
            .filter(|reason| reason.rule == "on-backup-list")
        {
            reason.pass = true;
        }
    }
    let protection = protection(view);
    if !protection.has_quorum() {
        reasons.push(reason("quorum", false, protection.sentence));
    }
    reasons.extend(pause::holds_back(view, server.id));
    reasons
}

fn primary_words(view: &View<'_>) -> String {
    let recorded = view.directory.group().primary;
    match (view.leader, recorded) {
        (Some(leader), Some(recorded)) if leader == recorded => {
            format!("{} is primary", view.name(leader))
        }
        (Some(leader), _) if may_stay(view, leader) => format!(
            "{} was elected and is about to act as primary",
            view.name(leader)
        ),
        (Some(leader), _) => format!(
            "nobody is primary: {} leads as caretaker, until a backup can",
            view.name(leader)
        ),
        (None, Some(recorded)) => {
            let name = view.name(recorded);
            match pause::stopped(view.directory, view.calendar) {
                Some(why) => format!("nobody is primary now; {name} was the last; {why}"),
                None => format!("nobody is primary now; {name} was the last"),
            }
        }
        (None, None) => "nobody is primary now".to_owned(),
    }
}

fn may_stay(view: &View<'_>, leader: ServerId) -> bool {
    let listed = view.directory.group().backups.contains(&leader);
    listed
        && view
            .directory
            .server(leader)
            .is_some_and(|server| server.standing.may_lead())
}

fn decision(view: &View<'_>, server: &Server, reasons: &[Reason]) -> String {
    let name = &server.name;
    if view.leader == Some(server.id) && view.directory.group().primary == Some(server.id) {
        return match server.id == view.me && !view.acting {
            true => format!(
                "{name} is primary, and does not act: it has not heard from a quorum within the grace period"
            ),
            false => format!("{name} is primary"),
        };
    }
    let against: Vec<_> = reasons
        .iter()
        .filter(|reason| !reason.pass)
        .map(|reason| reason.detail.clone())
        .collect();
    if against.is_empty() {
        return format!(
            "{name} could be primary, and is not because {}",
            primary_words(view)
        );
    }
    format!(
        "{name} is not primary and cannot be: {}",
        words::list(&against)
    )
}
