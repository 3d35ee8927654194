//! `stead app`: what sessions run.

use super::Context;
use super::records::{Record, given};
use super::values::{self, Limit};
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use clap::{Subcommand, ValueEnum};
use model::{AppName, RunAs, Weighted};
use server::api::bodies::{App as AppView, AppChange, BackendHere};
use std::collections::BTreeMap;
use std::time::Duration;

/// Adds, lists, shows, changes and removes applications
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct App {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    List(List),
    Show(Show),
    Set(Set),
    Remove(Remove),
}

/// Adds an application
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead app add shell --launch '@pty /bin/bash -l'
  stead app add desktop --launch 'Xtigervnc -rfbunixpath {socket} -SecurityTypes None' --backend unix:{socket}
  stead app add rdp --backend tcp:127.0.0.1:3389
  stead app add web --backend tcp:10.0.0.7:80,weight=3 --backend tcp:10.0.0.8:80
  stead app add home --launch '@pty /bin/bash -l' --run-as '{user}' --dir '/home/{user}'

Placeholders in commands, backends and the environment: {session} {user} {token} {socket} {port} {dir}.")]
struct Add {
    /// Its name.
    name: AppName,
    #[command(flatten)]
    fields: Fields,
}

/// Lists the applications
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead app list
  stead app list --json")]
struct List {}

/// Shows one application
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead app show desktop")]
struct Show {
    /// Which application.
    name: AppName,
}

/// Changes an application; sessions that run keep what they started with
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead app set desktop --max-per-user 2 --suspended-timeout 8h
  stead app set desktop --max-per-user any --suspended-timeout never")]
struct Set {
    /// Which application.
    name: AppName,
    #[command(flatten)]
    fields: Fields,
}

/// Removes an application that has no session
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead app remove desktop")]
struct Remove {
    /// Which application.
    name: AppName,
}

/// Whether a session goes on without a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Resumable {
    /// It goes on until something ends it.
    Always,
    /// It ends some time after its client has gone.
    Attached,
    /// It ends with its client.
    Never,
}

/// The word for the server's own account.
const OWN: &str = "own";

/// What a drain of its server does with a session
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnDrain {
    /// It ends, and another one starts elsewhere in its place.
    Move,
    /// It stays until it comes to its own end.
    Keep,
}

/// A header of the PROXY protocol
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProxyProtocol {
    /// Bytes are passed on as they are.
    None,
    /// Version 2.
    V2,
}

#[derive(Debug, clap::Args)]
struct Fields {
    /// The command of one session; `@pty ` in front runs it on a terminal of its own. Without a command the backend is a running server.
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    launch: Option<String>,
    /// Where a session's bytes are: unix:PATH or tcp:HOST:PORT; may be given several times. Several of running servers share the
    /// sessions, by `,weight=NUMBER` behind each (1 when nothing is said, 0 for no new ones, 256 at most), as far as they accept
    /// connections; those of a launched command are tried in order.
    #[arg(long = "backend", value_name = "ADDRESS[,weight=NUMBER]")]
    backends: Vec<Weighted>,
    /// How long the backend may take to accept, 100 ms to 10 min.
    #[arg(long, value_name = "TIME", value_parser = values::span)]
    ready_timeout: Option<Duration>,
    /// Whether a session goes on without a client.
    #[arg(long, value_enum)]
    resumable: Option<Resumable>,
    /// How long after its client has gone a session ends, with `--resumable attached`.
    #[arg(long, value_name = "TIME", value_parser = values::span)]
    detach_timeout: Option<Duration>,
    /// When a session without a client ends, or `never`.
    #[arg(long, value_name = "TIME|never", value_parser = values::span_or_never)]
    suspended_timeout: Option<Limit<u64>>,
    /// When a session through which no byte passes ends, with a client or without, or `never`.
    #[arg(long, value_name = "TIME|never", value_parser = values::span_or_never)]
    idle_timeout: Option<Limit<u64>>,
    /// The most sessions of one user, or `any`.
    #[arg(long, value_name = "NUMBER|any", value_parser = values::number_or_any)]
    max_per_user: Option<Limit<u32>>,
    /// The most sessions on one server, or `any`.
    #[arg(long, value_name = "NUMBER|any", value_parser = values::number_or_any)]
    max_per_server: Option<Limit<u32>>,
    /// A label that a server must have to host it; may be given several times.
    #[arg(long = "hosts", value_name = "LABEL=VALUE", value_parser = values::pair)]
    hosts: Vec<(String, String)>,
    /// A user or @group that may start it (without any: all); may be given several times.
    #[arg(long = "user", value_name = "USER|@GROUP")]
    users: Vec<String>,
    /// Environment of the command; may be given several times.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = values::pair)]
    env: Vec<(String, String)>,
    /// Working folder of the command; the session's own when absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<String>,
    /// The operating-system account of the command: a name, or `{user}` for the one named like the session's user; `own` for the
    /// server's own, which it is when nothing is said. Servers must run as root for any other.
    #[arg(long, value_name = "ACCOUNT|{user}|own", value_parser = account)]
    run_as: Option<Account>,
    /// What a drain of its server does with a session (`stead server offline --drain`); `move` when nothing is said.
    #[arg(long, value_enum)]
    on_drain: Option<OnDrain>,
    /// The header that says who the client is, which its backends expect of each connection; `none` when nothing is said.
    #[arg(long, value_enum)]
    proxy_protocol: Option<ProxyProtocol>,
}

/// An account; none: the server's own.
#[derive(Debug, Clone)]
struct Account(Option<RunAs>);

/// Reads an account.
fn account(text: &str) -> Result<Account, model::run_as::RunAsError> {
    match text {
        OWN => Ok(Account(None)),
        _ => text.parse().map(|account| Account(Some(account))),
    }
}

impl Fields {
    fn change(self) -> AppChange {
        let pairs = |list: Vec<(String, String)>| {
            Some(list.into_iter().collect()).filter(|map: &BTreeMap<_, _>| !map.is_empty())
        };
        AppChange {
            launch: self
                .launch
                .map(|launch| Some(launch).filter(|launch| !launch.is_empty())),
            backends: given(self.backends.iter().map(ToString::to_string).collect()),
            ready_timeout_ms: self.ready_timeout.map(values::millis),
            resumable: self.resumable.map(|resumable| {
                match resumable {
                    Resumable::Always => "always",
                    Resumable::Attached => "attached",
                    Resumable::Never => "never",
                }
                .to_owned()
            }),
            detach_timeout_ms: self.detach_timeout.map(values::millis),
            suspended_timeout_ms: self.suspended_timeout.map(|limit| limit.0),
            idle_timeout_ms: self.idle_timeout.map(|limit| limit.0),
            max_per_user: self.max_per_user.map(|limit| limit.0),
            max_per_server: self.max_per_server.map(|limit| limit.0),
            hosts: pairs(self.hosts),
            users: given(self.users),
            env: pairs(self.env),
            dir: self.dir.map(|dir| Some(dir).filter(|dir| !dir.is_empty())),
            run_as: self
                .run_as
                .map(|account| account.0.map(|account| account.to_string())),
            on_drain: self.on_drain.map(|on_drain| {
                match on_drain {
                    OnDrain::Move => "move",
                    OnDrain::Keep => "keep",
                }
                .to_owned()
            }),
            proxy_protocol: self.proxy_protocol.map(|version| {
                match version {
                    ProxyProtocol::None => "none",
                    ProxyProtocol::V2 => "v2",
                }
                .to_owned()
            }),
        }
    }
}

impl App {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Add(Add { name, fields }) => {
                let record = record(&name);
                let (what, body) = (record.was_not("added"), fields.change());
                let app: AppView = door.send(&what, Method::Put, &record.path, &body).await?;
                let words = format!("Application {} was added.", app.name);
                context.output.done(&app, words);
            }
            Verb::List(_) => list(context, &door).await?,
            Verb::Show(Show { name }) => record(&name).show(context, &door, facts).await?,
            Verb::Set(Set { name, fields }) => {
                let app: AppView = record(&name).change(&door, &fields.change()).await?;
                let words = format!("Application {} was changed.", app.name);
                context.output.done(&app, words);
            }
            Verb::Remove(Remove { name }) => {
                let words = format!("Application {name} was removed.");
                record(&name).remove(context, &door, words).await?;
            }
        }
        Ok(())
    }
}

fn record(name: &AppName) -> Record<'_, AppName> {
    Record {
        kind: "application",
        set: "stead app set",
        name,
        path: format!("/v1/apps/{}", escape(name.as_str())),
    }
}

fn facts(app: &AppView) -> String {
    let pairs = |map: &BTreeMap<String, String>| {
        map.iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let limit =
        |limit: Option<u32>| limit.map_or("any number".to_owned(), |limit| limit.to_string());
    let span = |span: Option<u64>| span.map_or("never".to_owned(), |span| format!("{span} ms"));
    let users = if app.users.is_empty() {
        "all".to_owned()
    } else {
        app.users.join(" ")
    };
    let hosts = if app.hosts.is_empty() {
        "all servers".to_owned()
    } else {
        pairs(&app.hosts)
    };
    super::facts(&[
        ("name", app.name.clone()),
        (
            "launch",
            app.launch
                .clone()
                .unwrap_or_else(|| "nothing: the backend is a running server".to_owned()),
        ),
        ("backends", backends(app)),
        ("ready timeout", format!("{} ms", app.ready_timeout_ms)),
        ("resumable", app.resumable.clone()),
        ("detach timeout", format!("{} ms", app.detach_timeout_ms)),
        ("suspended timeout", span(app.suspended_timeout_ms)),
        ("idle timeout", span(app.idle_timeout_ms)),
        ("per user", limit(app.max_per_user)),
        ("per server", limit(app.max_per_server)),
        ("hosts", hosts),
        ("users", users),
        ("environment", pairs(&app.env)),
        (
            "folder",
            app.dir
                .clone()
                .unwrap_or_else(|| "the session's own".to_owned()),
        ),
        (
            "runs as",
            app.run_as
                .clone()
                .unwrap_or_else(|| "the server's own account".to_owned()),
        ),
        ("on drain", app.on_drain.clone()),
        ("PROXY protocol", app.proxy_protocol.clone()),
    ])
}

/// Backends, and how they are on the server that answers.
fn backends(app: &AppView) -> String {
    if app.here.is_empty() {
        return app.backends.join(" ");
    }
    let words = app.here.iter().map(|one| {
        let error = one.error.as_ref();
        let error = error.map_or_else(String::new, |error| format!(" ({error})"));
        let BackendHere {
            backend,
            weight,
            state,
            sessions,
            ..
        } = one;
        format!("{backend} weight {weight}, {state}{error}, sessions here: {sessions}")
    });
    words.collect::<Vec<_>>().join("; ")
}

async fn list(context: &Context, door: &Door) -> Result<(), Failure> {
    let apps: Vec<AppView> = door
        .list("the applications were not listed", "/v1/apps")
        .await?;
    context.output.show(&apps, |apps| {
        let mut table =
            context
                .output
                .table(&["APPLICATION", "LAUNCH", "BACKENDS", "RESUMABLE", "USERS"]);
        for app in apps {
            let users = if app.users.is_empty() {
                "all".to_owned()
            } else {
                app.users.join(" ")
            };
            let launch = app.launch.clone().unwrap_or_default();
            table.plain([
                app.name.clone(),
                launch,
                app.backends.join(" "),
                app.resumable.clone(),
                users,
            ]);
        }
        table.text("There is no application. Add one with `stead app add`.")
    });
    Ok(())
}
