//! `stead group divergence`: what formations that gave way had changed, shown three ways and decided on record by record.

use super::Context;
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use crate::output::{Output, Tone, printable};
use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;
use server::api::bodies::{
    DivergedRecord, Divergence as Kept, DivergenceDecision, DivergenceRequest,
};
use std::collections::BTreeSet;

const PATH: &str = "/v1/group/divergences";
/// Fields that tell when something was changed, not what.
const PASSED_OVER: [&str; 2] = ["version_number", "password_set"];
/// How many digits of an id are enough to tell it in a list.
const ID_SHOWN: usize = 8;

/// Shows what a formation that gave way had changed; applies or discards it
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Where both sides of a split had changes, the changes of one stand when they become one group again.
What only the other side had is kept, record by record, until somebody applies or discards it:
at any time, on any server."
)]
pub(super) struct Divergence {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Apply(Apply),
    Discard(Discard),
}

/// Lists the formations that gave way and whose changes wait for a decision
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group divergence list
  stead group divergence list --json")]
struct List {}

/// Shows each record three ways: at the fork, as it is here, and as that formation had it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group divergence show 2
  stead group divergence show 2 --json")]
struct Show {
    #[command(flatten)]
    of: Of,
}

/// Which formation.
#[derive(Debug, clap::Args)]
struct Of {
    /// The number of the formation, its id, or the beginning of its id.
    #[arg(value_name = "FORMATION")]
    id: String,
}

/// Which records, and why.
#[derive(Debug, clap::Args)]
struct How {
    /// A record as `show` names it, such as setting:resilience.failover, user:anna or app:desktop; may be given several
    /// times.
    #[arg(
        long = "record",
        value_name = "RECORD",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    records: Vec<String>,
    /// All records that are left.
    #[arg(long)]
    all: bool,
    /// Why; kept in the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print what would come of it, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Puts what that formation had in place of what is here
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group divergence apply 2 --record user:anna --record setting:resilience.failover
  stead group divergence apply 2 --all --dry-run
  stead group divergence apply 2 --all --reason 'the branch worked on there'

A record is checked like an ordinary change. One that cannot be applied stays, and the reason is said.")]
struct Apply {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    how: How,
}

/// Throws away what that formation had: what is here stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group divergence discard 2 --record app:desktop
  stead group divergence discard 2 --all --reason 'looked through'")]
struct Discard {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    how: How,
}

/// A formation with its records.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    divergence: Kept,
    diverged: Vec<DivergedRecord>,
}

impl Divergence {
    /// Does what the verb says.
    pub(super) async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        match self.verb {
            Verb::List(_) => {
                let what = "the divergences were not listed";
                let list: Vec<Kept> = door.list(what, PATH).await?;
                show_list(context.output, &list);
                Ok(())
            }
            Verb::Show(Show { of: Of { id } }) => show(context.output, door, &id).await,
            Verb::Apply(Apply { of: Of { id }, how }) => {
                let verb = Words {
                    path: "apply",
                    done: "applied",
                };
                decide(context.output, door, &id, how, &verb).await
            }
            Verb::Discard(Discard { of: Of { id }, how }) => {
                let verb = Words {
                    path: "discard",
                    done: "discarded",
                };
                decide(context.output, door, &id, how, &verb).await
            }
        }
    }
}

async fn show(output: Output, door: &Door, id: &str) -> Result<(), Failure> {
    let what = "the divergence was not shown";
    let path = format!("{PATH}/{}", escape(id));
    let divergence: Kept = door.get(what, &path).await?;
    // The id that was found, so that both answers are about the same.
    let path = format!("{PATH}/{}/records", escape(&divergence.id));
    let whole = Whole {
        divergence,
        diverged: door.list(what, &path).await?,
    };
    output.show(&whole, |whole| whole_text(output, whole));
    Ok(())
}

/// What is done, in words.
struct Words {
    path: &'static str,
    done: &'static str,
}

async fn decide(
    output: Output,
    door: &Door,
    id: &str,
    how: How,
    verb: &Words,
) -> Result<(), Failure> {
    let done = verb.done;
    let what = format!("the records of formation {id} were not {done}");
    let query = if how.dry_run { "?dry_run=true" } else { "" };
    let path = format!("{PATH}/{}/{}{query}", escape(id), verb.path);
    let request = DivergenceRequest {
        records: how.records,
        all: how.all,
        reason: how.reason,
    };
    let decision: DivergenceDecision = door.send(&what, Method::Post, &path, &request).await?;
    let would = if how.dry_run { "would be " } else { "" };
    output.show(&decision, |decision| {
        let (count, left, number) = (decision.done, decision.left, decision.number);
        let mut text =
            format!("formation {number}: {would}{done}: {count}; {would}left: {left}.\n");
        for record in &decision.refused {
            text.push_str(&format!(
                "  {} {}: {}\n",
                output.tone("refused", Tone::Bad),
                printable(&record.name),
                printable(&record.reason)
            ));
        }
        text
    });
    match decision.refused.len() {
        0 => Ok(()),
        refused => Err(Failure::refused(
            format!(
                "not every record {}",
                if how.dry_run {
                    "would be applied"
                } else {
                    "was applied"
                }
            ),
            format!("{refused} cannot be applied as things are, and stay"),
        )
        .remedy("change what stands against them and apply them again, or discard them")),
    }
}

fn show_list(output: Output, list: &Vec<Kept>) {
    output.show(list, |list| {
        let mut table = output.table(&["FORMATION>", "ID", "PRIMARY", "RECORDS>", "TOLD", "KEPT"]);
        for kept in list {
            let told = match kept.complete {
                true => ("all".to_owned(), Tone::Plain),
                false => ("in part".to_owned(), Tone::Warning),
            };
            let id: String = kept.id.chars().take(ID_SHOWN).collect();
            table.row(vec![
                (kept.number.to_string(), Tone::Plain),
                (id, Tone::Faint),
                (kept.primary.clone().unwrap_or_default(), Tone::Plain),
                (kept.records.to_string(), Tone::Warning),
                told,
                (kept.kept.clone(), Tone::Plain),
            ]);
        }
        table.text("Nothing diverged that nobody has decided on.")
    });
}

fn whole_text(output: Output, whole: &Whole) -> String {
    let kept = &whole.divergence;
    let number = kept.number;
    let fork = match kept.fork_known {
        true => format!("forked at change {}", kept.fork_point),
        false => "the fork is not known: everything that differs is listed".to_owned(),
    };
    let primary = kept.primary.as_deref().unwrap_or("nobody");
    let mut text = output.heading(&format!("formation {number} ({})", kept.id));
    text.push_str(&format!(
        "\nprimary {primary}, {fork}, kept since {}\n",
        kept.kept
    ));
    if !kept.complete {
        text.push_str("no server of it has told all yet: more may come\n");
    }
    for record in &whole.diverged {
        text.push_str(&format!("\n{}\n", output.heading(&printable(&record.name))));
        let sides = [&record.fork, &record.winner, &record.loser];
        let fields = differing(sides);
        let words = ["at the fork", "here", "there"];
        for (word, side) in words.into_iter().zip(sides) {
            if word == "at the fork" && !kept.fork_known {
                continue;
            }
            let value = side
                .as_ref()
                .map_or_else(|| "none".to_owned(), |value| in_words(value, &fields));
            text.push_str(&format!(
                "  {:<12} {}\n",
                format!("{word}:"),
                printable(&value)
            ));
        }
        if record.password_differs == Some(true) {
            text.push_str("  the passwords differ\n");
        }
    }
    text
}

/// The fields of records in which the sides that have one are not all the same.
fn differing(sides: [&Option<Value>; 3]) -> BTreeSet<String> {
    let records: Vec<_> = sides
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect();
    let names: BTreeSet<&String> = records.iter().flat_map(|record| record.keys()).collect();
    let differs = |name: &&String| {
        let mut values = records.iter().map(|record| record.get(*name));
        let first = values.next();
        records.len() < 2 || values.any(|value| Some(value) != first)
    };
    names
        .into_iter()
        .filter(|name| !PASSED_OVER.contains(&name.as_str()))
        .filter(differs)
        .cloned()
        .collect()
}

/// A value in one line: of a record the fields that are asked for.
fn in_words(value: &Value, fields: &BTreeSet<String>) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let words: Vec<String> = list.iter().map(|one| in_words(one, fields)).collect();
            words.join(", ")
        }
        Value::Object(record) => {
            let shown = record
                .iter()
                .filter(|(name, value)| fields.contains(*name) && !value.is_null())
                .map(|(name, value)| match value {
                    Value::String(text) => format!("{name}={text}"),
                    other => format!("{name}={other}"),
                });
            let shown: Vec<String> = shown.collect();
            match shown.is_empty() {
                true => "as elsewhere".to_owned(),
                false => shown.join(" "),
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(fork: Option<Value>, winner: Option<Value>, loser: Option<Value>) -> [String; 3] {
        let sides = [&fork, &winner, &loser];
        let fields = differing(sides);
        sides.map(|side| {
            side.as_ref()
                .map_or_else(|| "none".to_owned(), |value| in_words(value, &fields))
        })
    }

    #[test]
    fn only_what_differs_is_shown() {
        let user = |role: &str, version: u64| json!({ "name": "anna", "role": role, "groups": [], "version_number": version });
        assert_eq!(
            shown(
                Some(user("user", 1)),
                Some(user("user", 2)),
                Some(user("admin", 3))
            ),
            ["role=user", "role=user", "role=admin"]
        );
        assert_eq!(
            shown(None, None, Some(user("admin", 3))),
            ["none", "none", "groups=[] name=anna role=admin"]
        );
        assert_eq!(
            shown(Some(json!("true")), None, Some(json!("false"))),
            ["true", "none", "false"]
        );
        assert_eq!(
            shown(
                Some(json!(["boston", "newyork"])),
                Some(json!([])),
                Some(json!(["newyork"]))
            ),
            ["boston, newyork", "", "newyork"]
        );
    }
}
