//! `stead group promote SERVER`: every check, and the plan.

use crate::clocks::CLOCK_LIMIT_MS;
use crate::explanation::reason;
use crate::losses::{Assumed, assuming, of_votes, protection};
use crate::plan::{Check, Impact, Plan};
use crate::view::View;
use crate::{CAUGHT_UP_LAG, words};
use model::settings::PrimaryReturn;
use model::{Reason, ResilienceMode, Server, ServerId};
use std::time::Duration;

/// How long changes wait during a planned switchover that works.
const SWITCHOVER: Duration = Duration::from_millis(20);

/// Plans to make a server the primary for good. A server that is no member gives a plan that is refused.
pub fn promotion(view: &View<'_>, target: ServerId) -> Plan {
    planned(view, target, false)
}

/// Plans to make a server the primary until the original one takes over again.
pub fn temporary_promotion(view: &View<'_>, target: ServerId) -> Plan {
    planned(view, target, true)
}

fn planned(view: &View<'_>, target: ServerId, temporary: bool) -> Plan {
    let name = view.name(target);
    let checks = promotion_checks(view, target);
    let group = view.directory.group();
    let mut steps = Vec::new();
    if let Some(leader) = view.leader {
        let from = view.name(leader);
        steps.push(format!(
            "{from} lets changes wait and checks that {name} answers and has every change"
        ));
        steps.push(format!("{from} hands the role of primary to {name}"));
    } else if group.mode == ResilienceMode::Availability {
        steps.push(format!(
            "{name} goes on alone at once, in a formation of its own; the lost primary may go on too, and what both change may diverge"
        ));
    } else {
        steps.push(format!(
            "{name} campaigns at once, and a majority of the voters elects it"
        ));
    }
    steps.push(format!(
        "{name} records that it is primary and accepts the changes that waited"
    ));
    let head = group.backups.first().copied();
    if let Some(head) = head.filter(|head| *head != target && group.backups.contains(&target)) {
        steps.push(match temporary {
            true => stays_original(view, head),
            false => {
                format!("{name} goes to the head of the backup list, so that nothing fails back")
            }
        });
    }
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()),
        ..Impact::default()
    };
    let outage = match view.leader {
        Some(_) => SWITCHOVER,
        None => view.directory.settings().grace_period(),
    };
    let backups = match temporary {
        true => group.backups.clone(),
        false => backups_after(&group.backups, target),
    };
    let after = Assumed {
        leader: Some(target),
        backups: &backups,
        ..Assumed::now(view)
    };
    Plan::new(
        format!("promote {name}"),
        checks,
        steps,
        impact,
        assuming(view, &after),
    )
    .with_outage(outage)
}

fn stays_original(view: &View<'_>, head: ServerId) -> String {
    let name = view.name(head);
    format!("{name} stays the original primary, and {}", returns(view))
}

/// When an original primary that another stands in for takes over.
pub(crate) fn returns(view: &View<'_>) -> String {
    let settings = view.directory.settings();
    let healthy = format!(
        "has been healthy for {}",
        words::span(settings.return_delay())
    );
    let accepts = settings.primary_return() == PrimaryReturn::Accept;
    let pause = view.directory.group().pause_at(view.calendar);
    match (accepts, settings.failover(), pause) {
        (false, ..) => {
            "does not take over by itself: resilience.primary-return is not accept".to_owned()
        }
        (true, false, _) => "does not take over by itself: resilience.failover is off".to_owned(),
        (true, true, Some(pause)) => {
            format!("takes over once the pause is over and it {healthy}: {pause}")
        }
        (true, true, None) => format!("takes over once it {healthy}"),
    }
}

/// The backup list after a promotion for good: the new primary is the original one from then on, so that nothing fails back.
pub fn backups_after(backups: &[ServerId], target: ServerId) -> Vec<ServerId> {
    let others = backups.iter().copied().filter(|id| *id != target);
    std::iter::once(target).chain(others).collect()
}

/// Every check of a promotion, with what to do about each.
pub(crate) fn promotion_checks(view: &View<'_>, target: ServerId) -> Vec<Check> {
    let Some(server) = view.directory.server(target) else {
        return vec![Check {
            reason: reason(
                "member",
                false,
                format!("{target} is no member of the group"),
            ),
            remedy: "see `stead group list`",
        }];
    };
    let mut checks = vec![Check {
        reason: is_member(server),
        remedy: "wait until it has started",
    }];
    checks.extend([
        Check {
            reason: not_primary(view, server),
            remedy: "there is nothing to do",
        },
        Check {
            reason: is_voter(view, server),
            remedy: "invite it as a voter, or wait until it has caught up and been healthy for 10 s",
        },
        Check {
            reason: is_listed(view, server),
            remedy: "add it with `stead group backups add`",
        },
        Check {
            reason: is_reachable(view, server),
            remedy: "start it, or mend the network",
        },
        Check {
            reason: has_caught_up(view, server),
            remedy: "wait until it has",
        },
        Check {
            reason: clock_agrees(view, server),
            remedy: "set its clock",
        },
        Check {
            reason: is_new_enough(view, server),
            remedy: "upgrade it",
        },
    ]);
    if view.leader.is_none() {
        // An order needs no automatic failover.
        let votes = match view.directory.group().mode {
            ResilienceMode::Quorum => of_votes(view, &Assumed::now(view)),
            ResilienceMode::Availability => protection(view),
        };
        checks.push(Check {
            reason: reason("quorum", votes.has_quorum(), votes.sentence),
            remedy: "bring a majority of the voters back, or see `stead group recover`",
        });
    }
    checks
}

fn is_member(server: &Server) -> Reason {
    let detail = match server.started {
        true => format!("{} is a member", server.name),
        false => format!("{} is still joining", server.name),
    };
    reason("member", server.started, detail)
}

fn not_primary(view: &View<'_>, server: &Server) -> Reason {
    let leads = view.leader == Some(server.id) && view.directory.group().primary == Some(server.id);
    let detail = match (leads, view.leader) {
        (true, _) => format!("{} is the primary already", server.name),
        (false, Some(leader)) => format!("{} is the primary now", view.name(leader)),
        (false, None) => "nobody is primary now".to_owned(),
    };
    reason("not-primary", !leads, detail)
}

pub(crate) fn is_voter(view: &View<'_>, server: &Server) -> Reason {
    let name = &server.name;
    let votes = view.voters.contains(&server.id);
    let detail = match (server.standing.may_lead(), votes) {
        (false, _) => format!("{name} is a {}", server.standing.as_str()),
        (true, true) => format!("{name} is a voter"),
        (true, false) => format!("{name} does not count yet"),
    };
    reason("voter", server.standing.may_lead() && votes, detail)
}

pub(crate) fn is_listed(view: &View<'_>, server: &Server) -> Reason {
    let backups = &view.directory.group().backups;
    let place = backups.iter().position(|backup| *backup == server.id);
    let detail = match place {
        Some(place) => format!("{} is number {} on the backup list", server.name, place + 1),
        None if backups.is_empty() => "the backup list is empty".to_owned(),
        None => format!("{} is not on the backup list", server.name),
    };
    reason("on-backup-list", place.is_some(), detail)
}

pub(crate) fn is_reachable(view: &View<'_>, server: &Server) -> Reason {
    let peer = view.peer(server.id);
    let name = &server.name;
    let detail = match (peer.reachable, peer.silent_for) {
        _ if server.id == view.me => format!("{name} is the server that answers"),
        (true, _) => format!("{name} can be reached"),
        (false, Some(silent)) => format!("{name} has been unreachable for {}", words::span(silent)),
        (false, None) => format!("{name} was not heard since {} started", view.name(view.me)),
    };
    reason("reachable", peer.reachable, detail)
}

pub(crate) fn has_caught_up(view: &View<'_>, server: &Server) -> Reason {
    let name = &server.name;
    let peer = view.peer(server.id);
    if peer.elsewhere {
        return reason(
            "caught-up",
            false,
            format!("{name} is in another formation"),
        );
    }
    let quorum = view.directory.group().mode == ResilienceMode::Quorum;
    match peer.lag {
        Some(0) => reason("caught-up", true, format!("{name} has every change")),
        Some(lag) => {
            let behind = words::count(lag, "change");
            reason(
                "caught-up",
                lag <= CAUGHT_UP_LAG,
                format!("{name} is {behind} behind"),
            )
        }
        // Where a majority elects it, whoever asks need not know.
        None if view.leader.is_none() && (server.id == view.me || (quorum && peer.reachable)) => {
            reason(
                "caught-up",
                true,
                format!("{name} has what it holds; the voters that elect it compare"),
            )
        }
        None => reason(
            "caught-up",
            false,
            format!("it is not known how far {name} is"),
        ),
    }
}

pub(crate) fn clock_agrees(view: &View<'_>, server: &Server) -> Reason {
    let name = &server.name;
    match view.peer(server.id).clock_offset_ms {
        Some(offset) => {
            let off = Duration::from_millis(offset.unsigned_abs());
            let detail = match offset {
                0 => format!("{name}'s clock agrees"),
                1.. => format!("{name}'s clock is {} ahead", words::span(off)),
                _ => format!("{name}'s clock is {} behind", words::span(off)),
            };
            reason("clock", offset.unsigned_abs() <= CLOCK_LIMIT_MS, detail)
        }
        None => reason(
            "clock",
            true,
            format!("{name}'s clock is not known to differ"),
        ),
    }
}

pub(crate) fn is_new_enough(view: &View<'_>, server: &Server) -> Reason {
    let (level, group) = (server.feature_level, view.directory.group().feature_level);
    let detail = format!(
        "{} works at feature level {level}, the group at {group}",
        server.name
    );
    reason("feature-level", level >= group, detail)
}
