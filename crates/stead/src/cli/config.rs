//! `stead config`: settings of the group, and of single servers.

mod advise;

use super::Context;
use crate::door::{Door, Method, escape, with_query};
use crate::errors::Failure;
use crate::output::{Tone, printable};
use clap::Subcommand;
use model::ServerName;
use server::api::bodies::{Setting, SettingValue};

/// Shows and changes settings
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Get(Get),
    Set(Set),
    Unset(Unset),
    Describe(Describe),
    Advise(advise::Advise),
}

/// Lists every setting with its value
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead config list
  stead config list --on boston --json")]
struct List {
    /// The values in force on this server.
    #[arg(long, value_name = "SERVER")]
    on: Option<ServerName>,
}

/// Prints the value of a setting
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead config get tunnel.dead-after")]
struct Get {
    /// Its key.
    key: String,
    /// The value in force on this server.
    #[arg(long, value_name = "SERVER")]
    on: Option<ServerName>,
}

/// Sets a setting, for the group or one server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead config set resilience.monitor-interval 50ms
  stead config set tunnel.retain 5m --on boston")]
struct Set {
    /// Its key.
    key: String,
    /// Its value, with its unit where it has one.
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Only on this server.
    #[arg(long, value_name = "SERVER")]
    on: Option<ServerName>,
}

/// Takes a setting back to its default, or a server's own value away
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead config unset resilience.monitor-interval
  stead config unset tunnel.retain --on boston")]
struct Unset {
    /// Its key.
    key: String,
    /// Only on this server.
    #[arg(long, value_name = "SERVER")]
    on: Option<ServerName>,
}

/// Explains a setting: type, default, range, unit and what it is for
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead config describe balance.method")]
struct Describe {
    /// Its key.
    key: String,
}

impl Config {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Advise(verb) => verb.run(context, &door).await,
            Verb::List(verb) => list(context, &door, verb.on).await,
            Verb::Get(verb) => {
                let what = format!("{} was not shown", verb.key);
                let setting: Setting = door.get(&what, &path(&verb.key, verb.on.as_ref())).await?;
                context
                    .output
                    .show(&setting, |setting| printable(&setting.value));
                Ok(())
            }
            Verb::Set(verb) => {
                let what = format!("{} was not set", verb.key);
                let body = SettingValue { value: verb.value };
                let setting: Setting = door
                    .send(
                        &what,
                        Method::Put,
                        &path(&verb.key, verb.on.as_ref()),
                        &body,
                    )
                    .await?;
                let place = verb
                    .on
                    .map_or("the group".to_owned(), |server| server.to_string());
                let mut words = format!("{} is {} for {place}.", setting.name, setting.value);
                if let Some(warning) = &setting.warning {
                    words.push_str(&format!("\nWarning: {}", printable(warning)));
                }
                context.output.done(&setting, words);
                Ok(())
            }
            Verb::Unset(verb) => {
                let what = format!("{} was not unset", verb.key);
                let setting: Setting = door
                    .send(
                        &what,
                        Method::Delete,
                        &path(&verb.key, verb.on.as_ref()),
                        &(),
                    )
                    .await?;
                context.output.done(
                    &setting,
                    format!(
                        "{} is {} ({}).",
                        setting.name, setting.value, setting.source
                    ),
                );
                Ok(())
            }
            Verb::Describe(verb) => {
                let what = format!("{} was not described", verb.key);
                let setting: Setting = door.get(&what, &path(&verb.key, None)).await?;
                context.output.show(&setting, describe);
                Ok(())
            }
        }
    }
}

fn path(key: &str, on: Option<&ServerName>) -> String {
    with_query(
        &format!("/v1/settings/{}", escape(key)),
        &[("on", on.map(ToString::to_string))],
    )
}

async fn list(context: &Context, door: &Door, on: Option<ServerName>) -> Result<(), Failure> {
    let path = with_query("/v1/settings", &[("on", on.map(|name| name.to_string()))]);
    let settings: Vec<Setting> = door.list("the settings were not listed", &path).await?;
    context.output.show(&settings, |settings| {
        let mut table = context
            .output
            .table(&["SETTING", "VALUE", "FROM", "DEFAULT", "HELP"]);
        for setting in settings {
            let tone = if setting.source == "default" {
                Tone::Faint
            } else {
                Tone::Plain
            };
            table.row(vec![
                (setting.name.clone(), Tone::Plain),
                (setting.value.clone(), tone),
                (setting.source.clone(), tone),
                (setting.default.clone(), Tone::Faint),
                (setting.help.clone(), Tone::Plain),
            ]);
        }
        table.text("There is no setting.")
    });
    Ok(())
}

fn describe(setting: &Setting) -> String {
    let mut facts = vec![
        ("setting", setting.name.clone()),
        ("help", setting.help.clone()),
        ("type", setting.kind.clone()),
        ("range", setting.range.clone()),
        ("default", setting.default.clone()),
        ("value", format!("{} ({})", setting.value, setting.source)),
    ];
    if !setting.unit.is_empty() {
        facts.insert(4, ("unit", setting.unit.clone()));
    }
    let own = if setting.per_server {
        "a server can have a value of its own"
    } else {
        "the same for the whole group"
    };
    facts.push(("per server", own.to_owned()));
    for entry in &setting.overrides {
        facts.push(("on a server", format!("{}: {}", entry.server, entry.value)));
    }
    super::facts(&facts)
}
