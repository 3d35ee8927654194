//! `stead group pause` and `stead group resume`: every check, and the plans.

use crate::explanation::reason;
use crate::losses::{Assumed, assuming};
use crate::plan::{Check, Impact, Plan};
use crate::view::View;
use crate::words;
use model::{Directory, Pause, Reason, UnixMillis};

/// Plans to pause automatic failover from now until `until`, by the calendar.
pub fn pause(view: &View<'_>, until: UnixMillis) -> Plan {
    let mut checks = vec![primary_there(view)];
    if !view.directory.settings().failover() {
        checks.push(Check {
            reason: reason(
                "failover",
                true,
                "resilience.failover is off: no server is promoted without an administrator even so",
            ),
            remedy: "",
        });
    }
    let mut steps = Vec::new();
    if let Some(pause) = view.directory.group().pause_at(view.calendar) {
        steps.push(format!("it takes the place of another: {pause}"));
    }
    steps.push(format!(
        "no server but {} becomes primary by itself",
        primary(view)
    ));
    let group = view.directory.group();
    if let (Some(head), Some(primary)) = (group.backups.first(), group.primary)
        && *head != primary
    {
        steps.push(format!(
            "{}, the original primary, does not take over again by itself",
            view.name(*head)
        ));
    }
    steps.push(format!("at {until} the pause ends by itself"));
    let warning = format!(
        "the group does not fail over by itself until {until}: if {} is lost before, changes wait until it is back, \
         another is promoted, or the pause is over",
        primary(view)
    );
    let stopped = off(view.directory)
        .unwrap_or_else(|| format!("automatic failover is paused until {until}"));
    let change = ("pause automatic failover", Some(stopped));
    plan(change, view, checks, steps, warning)
}

/// Plans to end the pause of automatic failover that holds now.
pub fn resume(view: &View<'_>) -> Plan {
    let checks = vec![is_paused(view), primary_there(view)];
    let off = off(view.directory);
    let (step, warning) = match off.is_some() {
        true => (
            "the pause ends",
            "resilience.failover is off: no server is promoted without an administrator even so",
        ),
        false => (
            "the pause ends: a backup takes the place of a primary that is lost",
            "",
        ),
    };
    plan(
        ("resume automatic failover", off),
        view,
        checks,
        vec![step.to_owned()],
        warning.to_owned(),
    )
}

/// With what would keep the group from failing over by itself afterwards.
fn plan(
    (what, stopped): (&str, Option<String>),
    view: &View<'_>,
    checks: Vec<Check>,
    steps: Vec<String>,
    warning: String,
) -> Plan {
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()),
        ..Impact::default()
    };
    let assumed = Assumed {
        stopped,
        ..Assumed::now(view)
    };
    let after = assuming(view, &assumed);
    let mut plan = Plan::new(what.to_owned(), checks, steps, impact, after);
    if plan.is_possible() && !warning.is_empty() {
        plan.losses_after.warnings.push(warning);
    }
    plan
}

fn is_paused(view: &View<'_>) -> Check {
    let reason = match view.directory.group().pause_at(view.calendar) {
        Some(pause) => reason("paused", true, pause.to_string()),
        None => reason("paused", false, "automatic failover is not paused"),
    };
    Check {
        reason,
        remedy: "there is nothing to do",
    }
}

fn primary_there(view: &View<'_>) -> Check {
    let detail = match view.leader {
        Some(leader) => format!("{} is the primary now", view.name(leader)),
        None => "nobody is primary now".to_owned(),
    };
    Check {
        reason: reason("primary-there", view.leader.is_some(), detail),
        remedy: "only a primary can record it; wait for one",
    }
}

/// Who alone may become primary by itself during a pause.
fn primary(view: &View<'_>) -> String {
    let recorded = view.directory.group().primary;
    recorded.map_or_else(|| "the primary".to_owned(), |primary| view.name(primary))
}

/// Why a server does not step forward by itself, while nobody is primary; none where it may.
pub(crate) fn holds_back(view: &View<'_>, server: model::ServerId) -> Option<Reason> {
    let recorded = view.directory.group().primary?;
    if view.leader.is_some() || recorded == server {
        return None;
    }
    let name = view.name(recorded);
    let detail = stopped(view.directory, view.calendar)?;
    Some(reason(
        "failover",
        false,
        format!("{detail}; only {name} becomes primary by itself"),
    ))
}

/// What keeps the group from failing over by itself, as administrators wanted it; none where nothing does.
pub(crate) fn stopped(directory: &Directory, now: UnixMillis) -> Option<String> {
    let pause = || directory.group().pause_at(now).map(Pause::to_string);
    off(directory).or_else(pause)
}

fn off(directory: &Directory) -> Option<String> {
    let off = !directory.settings().failover();
    off.then(|| "resilience.failover is off".to_owned())
}
