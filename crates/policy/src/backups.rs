//! The list of backup primaries: what a change of it would do, and what refuses it.

use crate::explanation::reason;
use crate::losses::{Assumed, assuming};
use crate::plan::{Check, Impact, Plan};
use crate::promotion::returns;
use crate::view::View;
use crate::words;
use model::{BackupEdit, Reason, ServerId};

/// Plans a change of one place of the list.
pub fn edit(view: &View<'_>, edit: BackupEdit) -> Plan {
    let name = view.name(edit.server());
    let group = view.directory.group();
    let what = match edit {
        BackupEdit::Add { .. } => format!("add {name} to the backup primaries"),
        BackupEdit::Move { .. } => format!("move {name} among the backup primaries"),
        BackupEdit::Remove { .. } => format!("take {name} off the backup primaries"),
    };
    let after = edit.applied_to(&group.backups);
    let listed = match &after {
        Ok(_) => reason("on-backup-list", true, standing_of(view, edit.server())),
        Err(error) => reason("on-backup-list", false, format!("{name}: {error}")),
    };
    let remedy = match edit {
        BackupEdit::Add { .. } => "move it with `stead group backups move`",
        BackupEdit::Move { .. } => "add it with `stead group backups add`",
        BackupEdit::Remove { .. } => "there is nothing to do",
    };
    let mut checks = vec![Check {
        reason: may_lead(view, edit.server()),
        remedy: "only full voters can be primary: invite it as a voter",
    }];
    checks.push(Check {
        reason: listed,
        remedy,
    });
    let after = after.unwrap_or_else(|_| group.backups.clone());
    let assumed = Assumed {
        backups: &after,
        ..Assumed::now(view)
    };
    let mut protection = assuming(view, &assumed);
    protection.warnings.extend(warnings(view, &after));
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()),
        ..Impact::default()
    };
    Plan::new(what, checks, steps(view, &after), impact, protection)
}

fn may_lead(view: &View<'_>, server: ServerId) -> Reason {
    let known = view.directory.server(server);
    let detail = match known {
        Some(known) => format!("{} is a {}", known.name, known.standing.as_str()),
        None => format!("{server} is no member of the group"),
    };
    let pass = known.is_some_and(|known| known.standing.may_lead());
    reason("voter", pass, detail)
}

fn standing_of(view: &View<'_>, server: ServerId) -> String {
    let name = view.name(server);
    let backups = &view.directory.group().backups;
    match backups.iter().position(|backup| *backup == server) {
        Some(place) => format!("{name} is number {} on the backup list", place + 1),
        None => format!("{name} is not on the backup list"),
    }
}

fn steps(view: &View<'_>, after: &[ServerId]) -> Vec<String> {
    let group = view.directory.group();
    let names: Vec<String> = after.iter().map(|id| view.name(*id)).collect();
    let mut steps = vec![match names.is_empty() {
        true => "the list becomes empty".to_owned(),
        false => format!("the list becomes {}", names.join(", ")),
    }];
    let head = after.first().copied();
    if let Some(head) = head.filter(|head| group.backups.first() != Some(head)) {
        let name = view.name(head);
        steps.push(match group.primary != Some(head) {
            true => format!(
                "{name} is the original primary from then on, and {}",
                returns(view)
            ),
            false => format!("{name} is the original primary from then on"),
        });
    }
    steps
}

fn warnings(view: &View<'_>, after: &[ServerId]) -> Vec<String> {
    let mut warnings = Vec::new();
    if after.is_empty() {
        warnings.push(
            "nobody takes over: when the primary is lost, the group is read-only until it is back"
                .to_owned(),
        );
    } else if let Some(primary) = view.directory.group().primary
        && !after.contains(&primary)
    {
        warnings.push(format!(
            "{} is primary now and stays it, but cannot become it again",
            view.name(primary)
        ));
    }
    warnings
}
