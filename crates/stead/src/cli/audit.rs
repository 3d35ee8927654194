//! `stead audit`: who changed what.

use super::Context;
use crate::door::{Door, with_query};
use crate::errors::Failure;
use crate::output::printable;
use clap::Subcommand;
use serde_json::Value;
use server::api::bodies::AuditEntry;
use std::collections::BTreeMap;

/// Lists who changed what, from where, and what there was before and after
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
}

/// Lists the newest changes that people made
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Passwords and secrets are shown as set, never with their value.

Examples:
  stead audit list
  stead audit list --subject user:ann         what was done to one account
  stead audit list --subject setting          to all settings
  stead audit list --who admin --last 5
  stead audit list --since 1 --json           everything that is kept"
)]
struct List {
    /// Only what this account did; `root` for the command line on the servers themselves.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only what was done to this, such as `user:ann`, or to all of a kind, such as `user`.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// How many of the newest, 1 to 1000.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
    /// All from this place in the log on, instead.
    #[arg(long, value_name = "ID", conflicts_with = "last")]
    since: Option<u64>,
}

impl Audit {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Verb::List(verb) = self.verb;
        let mut query = vec![("who", verb.who), ("subject", verb.subject)];
        match verb.since {
            Some(id) => query.push(("from", Some(id.to_string()))),
            None => query.push(("last", Some(verb.last.to_string()))),
        }
        let path = with_query("/v1/audit", &query);
        let entries: Vec<AuditEntry> = Door::open(context)?
            .list("the audit log was not listed", &path)
            .await?;
        context.output.show(&entries, |entries| {
            if entries.is_empty() {
                return "There is no such entry.".to_owned();
            }
            entries.iter().map(text).collect::<Vec<_>>().join("\n")
        });
        Ok(())
    }
}

fn text(entry: &AuditEntry) -> String {
    let head = format!(
        "{:>6}  {}  {} ({})  {} {}",
        entry.id, entry.at, entry.who, entry.from, entry.action, entry.subject
    );
    let details = entry
        .details
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let changes = changes(entry.before.as_ref(), entry.after.as_ref());
    let lines = changes.into_iter().chain(details);
    let lines = lines.map(|line| format!("\n          {}", printable(&line)));
    printable(&head) + &lines.collect::<String>()
}

/// What differs, field by field: `NAME: BEFORE -> AFTER`.
fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let (before, after) = (facts(before), facts(after));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter_map(|name| {
        let (was, is) = (before.get(name), after.get(name));
        let called = if name.is_empty() {
            String::new()
        } else {
            format!("{name}: ")
        };
        match (was, is) {
            (was, is) if was == is => None,
            (Some(was), Some(is)) => Some(format!("{called}{was} -> {is}")),
            (None, Some(is)) => Some(format!("{called}{is}")),
            (Some(was), None) => Some(format!("{called}{was} -> (none)")),
            (None, None) => None,
        }
    });
    differing.collect()
}

/// Fields that say something; one without a name for what is no object.
fn facts(value: Option<&Value>) -> BTreeMap<String, String> {
    let plain = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(all) if all.is_empty() => None,
        Value::Object(all) if all.is_empty() => None,
        other => Some(other.to_string()),
    };
    match value {
        None => BTreeMap::new(),
        Some(Value::Object(fields)) => fields
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), plain(value)?)))
            .collect(),
        Some(other) => plain(other)
            .map(|text| (String::new(), text))
            .into_iter()
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_shown() {
        let before = json!({"role": "user", "disabled": false, "groups": []});
        let after = json!({"role": "admin", "disabled": false, "groups": ["night"]});
        let shown = changes(Some(&before), Some(&after));
        assert_eq!(shown, ["groups: [\"night\"]", "role: user -> admin"]);
        assert_eq!(changes(Some(&json!("1s")), None), ["1s -> (none)"]);
        assert_eq!(changes(None, Some(&json!("2s"))), ["2s"]);
        assert!(changes(None, None).is_empty());
    }
}
