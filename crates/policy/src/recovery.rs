//! `stead group recover`: what the servers that answer hold, which copy is the newest, and what becomes of it by hand.
//!
//! Always true: nothing is made while somebody acts as primary, or could be elected; of several formations that act an
//! administrator names the one that stands. Start at [`recovery`].

use crate::explanation::reason;
use crate::formations::acting;
use crate::losses::{Assumed, is_quorum, needed, of_votes, protection};
use crate::plan::{Check, Impact, Plan};
use crate::view::View;
use crate::words;
use model::{FormationId, FormationRef, ResilienceMode, ServerId, Side};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long the first change waits after a formation was made by hand.
const MAKING: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// A server goes on from what it holds, in a formation of its own, which the others enter.
    Make {
        /// Which server.
        on: ServerId,
        /// The formation that it is in now.
        from: FormationId,
    },
    /// Formations give way to another one.
    GiveWay {
        /// Their primaries.
        primaries: Vec<ServerId>,
        /// The formation that stands.
        to: FormationRef,
        /// Its primary.
        primary: ServerId,
    },
}

/// A formation that acts, and its primary.
type Acting = (FormationRef, ServerId);

/// Plans a recovery. `sides` is what every server that answers says, this one included; `wanted` names a formation by its
/// number or the beginning of its id.
pub fn recovery(
    view: &View<'_>,
    sides: &BTreeMap<ServerId, Side>,
    wanted: Option<&str>,
) -> (Plan, Option<Recovery>) {
    let acting: BTreeMap<FormationId, Acting> = acting(sides)
        .map(|(id, formation, _)| (formation.id, (formation, id)))
        .collect();
    let acting: Vec<Acting> = acting.into_values().collect();
    match (acting.as_slice(), wanted) {
        ([], _) => make(view, sides),
        ([(_, primary)], None) => {
            let detail = format!("{} acts as primary", view.name(*primary));
            let check = refusal(
                "no-primary",
                detail,
                "there is nothing to recover; servers that are elsewhere come by themselves",
            );
            (
                planned(view, "recover the group", vec![check], Vec::new()),
                None,
            )
        }
        (several, wanted) => choose(view, several, wanted.unwrap_or_default()),
    }
}

fn refusal(rule: &str, detail: String, remedy: &'static str) -> Check {
    Check {
        reason: reason(rule, false, detail),
        remedy,
    }
}

fn planned(view: &View<'_>, what: &str, checks: Vec<Check>, steps: Vec<String>) -> Plan {
    let impact = Impact {
        kept: words::len(view.directory.live_sessions()),
        ..Impact::default()
    };
    Plan::new(what.to_owned(), checks, steps, impact, protection(view))
}

/// One of several formations that act stands.
fn choose(view: &View<'_>, acting: &[Acting], wanted: &str) -> (Plan, Option<Recovery>) {
    let said = |(formation, primary): &Acting| {
        format!(
            "formation {} ({:.8}) with {} as primary",
            formation.number,
            formation.id.to_string(),
            view.name(*primary)
        )
    };
    let all: Vec<String> = acting.iter().map(said).collect();
    let is_wanted = |(formation, _): &&Acting| {
        let id = formation.id.to_string();
        !wanted.is_empty()
            && (wanted == formation.number.to_string()
                || (wanted.len() >= 4 && id.starts_with(wanted)))
    };
    let found: Vec<&Acting> = acting.iter().filter(is_wanted).collect();
    let [chosen] = found.as_slice() else {
        let detail = format!("these act: {}", words::list(&all));
        let check = refusal(
            "formation",
            detail,
            "say with --formation, by number or id, which one stands",
        );
        return (
            planned(view, "recover the group", vec![check], Vec::new()),
            None,
        );
    };
    let (to, primary) = **chosen;
    let others: Vec<&Acting> = acting
        .iter()
        .filter(|(formation, _)| formation.id != to.id)
        .collect();
    let check = Check {
        reason: reason(
            "formation",
            !others.is_empty(),
            format!("{} stands", said(chosen)),
        ),
        remedy: "no other formation acts: there is nothing to decide",
    };
    let steps = others.iter().map(|other| {
        format!(
            "{} gives way; what was changed there and not in the other is kept as a divergence",
            said(other)
        )
    });
    let plan = planned(
        view,
        "let one formation stand",
        vec![check],
        steps.collect(),
    );
    let recovery = plan.is_possible().then(|| Recovery::GiveWay {
        primaries: others.iter().map(|(_, primary)| *primary).collect(),
        to,
        primary,
    });
    (plan, recovery)
}

/// A server's copy of the directory.
#[derive(Debug, Clone, Copy)]
struct Copy {
    on: ServerId,
    formation: FormationRef,
    /// The term and the number of the last entry of its log.
    end: (u64, u64),
    /// Whether its server has left it for a formation of which nothing has come.
    left: bool,
    /// Whether its server may be primary.
    leads: bool,
}

impl Copy {
    /// The larger, the newer.
    fn age(&self) -> (u64, (u64, u64)) {
        (self.formation.number, self.end)
    }
}

/// The copies of those that answer, newest first; of equal ones those whose servers may be primary come first.
fn copies(view: &View<'_>, sides: &BTreeMap<ServerId, Side>) -> Vec<Copy> {
    let copy = |(id, side): (&ServerId, &Side)| {
        let in_force = side.formation().map(|its| (its, side.log_end));
        let left = side.left.map(|left| (left.formation, left.agreed));
        let (formation, end) = in_force.or(left)?;
        Some(Copy {
            on: *id,
            formation,
            end,
            left: in_force.is_none(),
            leads: view.directory.server(*id)?.standing.may_lead(),
        })
    };
    let mut copies: Vec<Copy> = sides.iter().filter_map(copy).collect();
    copies.sort_by_key(|copy| (Reverse(copy.age()), Reverse(copy.leads)));
    copies
}

/// Nobody acts: a formation is made of those that answer, from the newest copy.
fn make(view: &View<'_>, sides: &BTreeMap<ServerId, Side>) -> (Plan, Option<Recovery>) {
    let copies = copies(view, sides);
    let Some(chosen) = copies.iter().find(|copy| copy.leads) else {
        let detail = "no server that could be primary holds the directory".to_owned();
        let check = refusal("copy", detail, "start one that does");
        let plan = planned(view, "recover the group", vec![check], Vec::new());
        return (plan, None);
    };
    let checks = vec![elects_itself(view, sides, chosen.formation)];
    let plan = planned(
        view,
        "make a formation of the servers that answer",
        checks,
        steps(view, sides, &copies, chosen),
    )
    .with_outage(MAKING);
    let made = Recovery::Make {
        on: chosen.on,
        from: chosen.formation.id,
    };
    let possible = plan.is_possible();
    (plan, possible.then_some(made))
}

/// What everybody holds, and what is done with it.
fn steps(
    view: &View<'_>,
    sides: &BTreeMap<ServerId, Side>,
    copies: &[Copy],
    chosen: &Copy,
) -> Vec<String> {
    let holds = |copy: &Copy| {
        let left = match copy.left {
            true => ", which it left for one of which nothing has come",
            false => "",
        };
        format!(
            "{} holds formation {} up to entry {} of term {}{left}",
            view.name(copy.on),
            copy.formation.number,
            copy.end.1,
            copy.end.0
        )
    };
    let mut steps: Vec<String> = copies.iter().map(holds).collect();
    steps.push(format!(
        "{} makes formation {} of it, and is primary",
        view.name(chosen.on),
        chosen.formation.number + 1
    ));
    if let Some(newest) = copies.first().filter(|copy| copy.age() > chosen.age()) {
        // Nobody is left who could be elected and fetch it.
        let more = newest.end.1.saturating_sub(chosen.end.1);
        let (on, than) = (view.name(newest.on), view.name(chosen.on));
        let what = match newest.formation.id == chosen.formation.id {
            true => format!("{more} entries more than {than}"),
            false => format!(
                "formation {}, which {than} has not",
                newest.formation.number
            ),
        };
        steps.push(format!(
            "{on} cannot be primary and holds {what}: what people changed there is kept as a divergence"
        ));
    }
    if copies.len() > 1 {
        steps.push(
            "the others that answer leave what they have, and receive it from there".to_owned(),
        );
    }
    let voters = view.directory.voters().map(|server| server.id);
    let silent = voters.filter(|id| !sides.contains_key(id));
    let silent: Vec<String> = silent.map(|id| view.name(id)).collect();
    if !silent.is_empty() {
        steps.push(format!(
            "what only {} may have will be a divergence when it comes back, and is lost if it never does",
            words::list(&silent)
        ));
    }
    steps
}

/// Who of those in a formation has more of it than this server, where anybody has: who counts may have changed since.
fn newer<'a>(
    view: &View<'_>,
    sides: &'a BTreeMap<ServerId, Side>,
    there: impl Fn(ServerId) -> bool,
) -> Option<(ServerId, &'a Side)> {
    let here = sides.get(&view.me).filter(|_| there(view.me))?;
    let others = sides.iter().filter(|(id, _)| there(**id));
    let (newer, side) = others.max_by_key(|(_, side)| side.log_end)?;
    let knows = side.log_end > here.log_end && !side.counts.is_empty();
    knows.then_some((*newer, side))
}

/// Whether those that answer could elect a primary among themselves, as somebody has it who holds more than this server.
fn elects_there(
    view: &View<'_>,
    name: &str,
    side: &Side,
    there: impl Fn(ServerId) -> bool,
) -> Check {
    let answers = |voters: &BTreeSet<ServerId>| is_quorum(voters, &there);
    let quorum = side.mode == ResilienceMode::Quorum && side.counts.iter().all(answers);
    let each = side.counts.iter().map(|voters| {
        let mut names: Vec<String> = voters.iter().map(|id| view.name(*id)).collect();
        names.sort();
        match side.mode {
            ResilienceMode::Quorum => {
                format!("{} of {}", needed(voters.len()), words::list(&names))
            }
            ResilienceMode::Availability => words::list(&names),
        }
    });
    let each: Vec<String> = each.collect();
    let detail = format!(
        "{name} holds more than this server, and has it that {} must answer",
        words::list(&each)
    );
    Check {
        reason: reason("no-quorum", !quorum, detail),
        remedy: "a majority answers: wait for its election, or see `stead explain`",
    }
}

/// Whether those that answer could elect a primary among themselves.
fn elects_itself(
    view: &View<'_>,
    sides: &BTreeMap<ServerId, Side>,
    formation: FormationRef,
) -> Check {
    let there = |id: ServerId| {
        let its = sides.get(&id).and_then(Side::formation);
        its.is_some_and(|its| its.id == formation.id)
    };
    if let Some((newer, side)) = newer(view, sides, there) {
        return elects_there(view, &view.name(newer), side, there);
    }
    let voters = view.voters;
    if voters.is_empty() {
        let detail = "nothing has come of the formation that this server is in";
        return Check {
            reason: reason("no-quorum", true, detail),
            remedy: "wait until its primary sends it",
        };
    }
    let all = match view.joint {
        [] => is_quorum(voters, there),
        each => each.iter().all(|voters| is_quorum(voters, there)),
    };
    let quorum = view.directory.group().mode == ResilienceMode::Quorum && all;
    let answering = voters.iter().filter(|id| there(**id)).count();
    let votes = of_votes(view, &Assumed::now(view));
    let must = match view.joint {
        [] => needed(voters.len()).to_string(),
        each => {
            let names = |voters: &BTreeSet<ServerId>| {
                let mut names: Vec<String> = voters.iter().map(|id| view.name(*id)).collect();
                names.sort();
                words::list(&names)
            };
            let each: Vec<String> = each
                .iter()
                .map(|voters| format!("{} of {}", needed(voters.len()), names(voters)))
                .collect();
            format!("as the voters are being changed, {}", words::list(&each))
        }
    };
    let detail = format!(
        "{answering} of {} answer, and {must} must: {}",
        words::count(words::len(voters.len()), "voter"),
        votes.sentence
    );
    Check {
        reason: reason("no-quorum", !quorum, detail),
        remedy: "a majority answers: wait for its election, or see `stead explain`",
    }
}
