//! `stead group remove SERVER`: every check, and the plan.

use crate::explanation::reason;
use crate::losses::{is_quorum, needed, protection_after};
use crate::plan::{Affected, Check, Impact, Plan};
use crate::view::View;
use crate::words;
use model::settings::ModeChoice;
use model::{ResilienceMode, Server, ServerId};
use std::collections::BTreeSet;

/// Plans to remove a server; `mode` is what the administrator wants the group to be afterwards. A server that is no member gives a plan that is refused.
pub fn removal(view: &View<'_>, target: ServerId, mode: Option<ResilienceMode>) -> Plan {
    let name = view.name(target);
    let mut after: BTreeSet<_> = view.voters.clone();
    after.remove(&target);
    let checks = match view.directory.server(target) {
        Some(server) => checks(view, server, &after, mode),
        None => vec![Check {
            reason: reason(
                "member",
                false,
                format!("{target} is no member of the group"),
            ),
            remedy: "see `stead group list`",
        }],
    };
    let lost =
        Affected::from_sessions(view.directory.sessions_on(target).map(|session| &**session));
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()).saturating_sub(lost.count),
        moved: Affected::default(),
        lost,
    };
    let steps = steps(view, target, &impact);
    Plan::new(
        format!("remove {name}"),
        checks,
        steps,
        impact,
        protection_after(view, &after, Some(target)),
    )
}

fn checks(
    view: &View<'_>,
    server: &Server,
    after: &BTreeSet<ServerId>,
    mode: Option<ResilienceMode>,
) -> Vec<Check> {
    let name = &server.name;
    let group = view.directory.group();
    let is_primary = view.leader == Some(server.id) || group.primary == Some(server.id);
    let others = view
        .directory
        .servers()
        .filter(|other| other.id != server.id)
        .count();
    let votes = view.voters.contains(&server.id);
    let primary = match is_primary {
        true => format!("{name} is the primary"),
        false => format!("{name} is not the primary"),
    };
    let mut checks = vec![
        Check {
            reason: reason("last-server", others > 0, last_words(name.as_str(), others)),
            remedy: "a group has at least one server; `stead group reset` forgets the group",
        },
        Check {
            reason: reason("not-primary", !is_primary, primary),
            remedy: "promote another server first with `stead group promote`",
        },
        Check {
            reason: reason("primary-there", view.leader.is_some(), leader_words(view)),
            remedy: "only a primary can remove a server; wait for one",
        },
    ];
    let chosen = view.directory.settings().mode_choice() != ModeChoice::Auto;
    let in_quorum_mode = group.mode == ResilienceMode::Quorum;
    if votes && in_quorum_mode && after.len() == 2 && !chosen {
        let detail = match mode {
            Some(mode) => format!(
                "two voters would be left, in {} mode from then on",
                mode.as_str()
            ),
            None => "two voters would be left, and lose everything with either".to_owned(),
        };
        checks.push(Check {
            reason: reason("mode", mode.is_some(), detail),
            remedy: "say with --mode whether the group is to be `availability` or `quorum`",
        });
    }
    if votes && in_quorum_mode {
        checks.push(Check {
            reason: quorum_reason(view, view.voters, "now"),
            remedy: "bring the missing voters back first",
        });
        checks.push(Check {
            reason: quorum_reason(view, after, "afterwards"),
            remedy: "bring the missing voters back, or add another voter first",
        });
    }
    checks
}

fn last_words(name: &str, others: usize) -> String {
    match others {
        0 => format!("{name} is the only server"),
        _ => format!(
            "{} would be left",
            words::count(words::len(others), "server")
        ),
    }
}

fn leader_words(view: &View<'_>) -> String {
    match view.leader {
        Some(leader) => format!("{} is the primary now", view.name(leader)),
        None => "nobody is primary now".to_owned(),
    }
}

fn quorum_reason(view: &View<'_>, voters: &BTreeSet<ServerId>, when: &str) -> model::Reason {
    let there = voters.iter().filter(|voter| view.reaches(**voter)).count();
    let detail = format!(
        "{there} of {} can be reached {when}, and {} must be",
        words::count(words::len(voters.len()), "voter"),
        needed(voters.len())
    );
    reason(
        "quorum",
        is_quorum(voters, |voter| view.reaches(voter)),
        detail,
    )
}

fn steps(view: &View<'_>, target: ServerId, impact: &Impact) -> Vec<String> {
    let name = view.name(target);
    let mut steps = Vec::new();
    if view.voters.contains(&target) {
        steps.push(format!("{name} no longer counts towards the quorum"));
    }
    steps.push(format!("{name} no longer gets changes"));
    let sessions = words::count(impact.lost.count, "session");
    steps.push(match impact.lost.count {
        0 => format!("{name} leaves the directory; it has no sessions"),
        _ => format!("{name} leaves the directory with its {sessions}"),
    });
    if view.directory.group().backups.contains(&target) {
        steps.push(format!("{name} leaves the backup list"));
    }
    steps.push(format!(
        "{name}'s certificate and id are refused from then on"
    ));
    steps.push(match view.reaches(target) {
        true => format!(
            "{name} becomes a group of its own, with what people made and its own sessions"
        ),
        false => format!(
            "{name} is not reached: when it comes back, `stead group reset` on it makes it a group of its own"
        ),
    });
    steps
}
