//! `stead server`: the members as hosts of sessions.

use super::records::{Record, given};
use super::{Context, values};
use crate::door::{Door, Method, escape, with_query};
use crate::errors::{Exit, Failure};
use clap::Subcommand;
use model::ServerName;
use server::api::bodies::{
    Drain, External, OfflineRequest, OnlineRequest, Plan, Server as ServerView, ServerBackend,
    ServerChange,
};
use std::time::{Duration, Instant};

/// How often it is looked whether a drain has come to its end.
const LOOK: Duration = Duration::from_millis(200);

/// Lists servers, and takes them offline and online for load balancing
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Server {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Set(Set),
    Online(Online),
    Offline(Offline),
}

/// Lists the servers with load, sessions and mode
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead server list
  stead server list --json")]
struct List {}

/// Shows one server
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead server show boston")]
struct Show {
    /// Which server.
    name: ServerName,
}

/// Changes what load balancing and clients go by; what is not said stays
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead server set boston --power 2 --label rack=a
  stead server set boston --no-label rack
  stead server set boston --external 10.0.0.0/8=10.1.0.4:5443 --external 0.0.0.0/0=boston.example.org:443
  stead server set boston --no-external
  stead server set boston --peer boston.example.org:5427 --client boston.example.org:5443 --dry-run

With --peer and --client the members try first whether they reach the server there. Servers and clients that are connected stay so; whoever connects from then on goes there. What the server listens on does not change: if it is not its address, say it where the server starts (stead serve --listen-peer, --listen-client).

A client is told the first external address whose network it is in, and the server's own address where it is in none.")]
struct Set {
    /// Which server.
    name: ServerName,
    /// Power rating, 0.1 to 1000: a server with 2 gets twice as many sessions as one with 1.
    #[arg(long, value_name = "NUMBER")]
    power: Option<f64>,
    /// A label that applications choose hosts by; may be given several times.
    #[arg(long = "label", value_name = "LABEL=VALUE", value_parser = values::pair)]
    labels: Vec<(String, String)>,
    /// A label to take away; may be given several times.
    #[arg(long = "no-label", value_name = "LABEL")]
    no_labels: Vec<String>,
    /// Where clients of a network reach it, in place of all there were; may be given several times, the first that fits wins.
    #[arg(long = "external", value_name = "NETWORK=ADDRESS", value_parser = values::pair, conflicts_with = "no_external")]
    external: Vec<(String, String)>,
    /// Clients of all networks reach it at its own address.
    #[arg(long)]
    no_external: bool,
    /// Where other servers reach it, an IP address or a name; a name is looked up whenever somebody connects.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::peer_address)]
    peer: Option<String>,
    /// Where clients and administrators reach it.
    #[arg(long, value_name = "HOST:PORT", value_parser = values::client_address)]
    client: Option<String>,
    /// Change where it is reached although members do not reach it there.
    #[arg(long)]
    force: bool,
    /// Only say what changing where it is reached would do.
    #[arg(long)]
    dry_run: bool,
}

/// Gives servers new sessions again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead server online boston
  stead server online boston chicago")]
struct Online {
    /// Which servers; all of them or none.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ServerName>,
}

/// Gives servers no new sessions; those that they have go on, or elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead server offline boston --reason 'new disks' --for 4h
  stead server offline boston --drain --dry-run          what would become of its sessions, by name
  stead server offline boston chicago --drain --deadline 10m --wait --reason 'new disks'

With --drain sessions without a client end and start on another server at once; users of the others are asked to move, and at the deadline they are moved. Sessions of applications that are kept (stead app set NAME --on-drain keep) stay. `stead server online` ends it.")]
struct Offline {
    /// Which servers; all of them or none.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ServerName>,
    /// Why; shown wherever the servers are, and to whoever is asked to move.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// After what time they are online again by themselves, as in 30m or 4h.
    #[arg(long = "for", value_name = "TIME", value_parser = values::span)]
    span: Option<Duration>,
    /// Have their sessions go elsewhere, too.
    #[arg(long)]
    drain: bool,
    /// How long sessions in use may stay, 5m when nothing is said; 0s moves them at once.
    #[arg(long, value_name = "TIME", value_parser = values::span, requires = "drain")]
    deadline: Option<Duration>,
    /// Wait until nothing is left to be moved, and say how long it took.
    #[arg(long, requires = "drain", conflicts_with = "dry_run")]
    wait: bool,
    /// Only say what would happen, session by session.
    #[arg(long)]
    dry_run: bool,
}

impl Server {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::List(_) => list(context, &door).await,
            Verb::Show(Show { name }) => show(context, &door, &name).await,
            Verb::Set(verb) => verb.run(context, &door).await,
            Verb::Online(verb) => verb.run(context, &door).await,
            Verb::Offline(verb) => verb.run(context, &door).await,
        }
    }
}

impl Set {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let flag = |said: bool| said.then(|| "true".to_owned());
        let query = [("force", flag(self.force)), ("dry_run", flag(self.dry_run))];
        let path = format!("/v1/servers/{}", escape(self.name.as_str()));
        let record = Record {
            kind: "server",
            set: "stead server set",
            name: &self.name,
            path: with_query(&path, &query),
        };
        let gone = self.no_labels.into_iter().map(|key| (key, None));
        let labels = self
            .labels
            .into_iter()
            .map(|(key, value)| (key, Some(value)));
        let external = self.external.into_iter();
        let external = external.map(|(network, address)| External { network, address });
        let change = ServerChange {
            power: self.power,
            labels: gone.chain(labels).collect(),
            external: match self.no_external {
                true => Some(Vec::new()),
                false => given(external.collect()),
            },
            peer_address: self.peer,
            client_address: self.client,
        };
        if self.dry_run {
            let plan: Plan = record.change(door, &change).await?;
            return super::group::show_plan(context.output, &plan);
        }
        let server: ServerView = record.change(door, &change).await?;
        let words = format!("Server {} was changed.", server.status.name);
        context.output.done(&server, words);
        Ok(())
    }
}

impl Online {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let all: Vec<&str> = self.names.iter().map(ServerName::as_str).collect();
        let Some((first, also)) = all.split_first() else {
            return Ok(());
        };
        let what = format!("{} not taken online", were(&all));
        let path = format!("/v1/servers/{}/online", escape(first));
        let request = OnlineRequest {
            also: also.iter().map(|name| (*name).to_owned()).collect(),
        };
        let server: ServerView = door.send(&what, Method::Post, &path, &request).await?;
        let servers = with_others(door, server, also).await?;
        let words = match all.as_slice() {
            [name] => format!("{name} is online: load balancing gives it new sessions."),
            several => format!(
                "{} are online: load balancing gives them new sessions.",
                several.join(", ")
            ),
        };
        show_all(context, &servers, words);
        Ok(())
    }
}

/// The first server as it was answered, and the others as they are now.
async fn with_others(
    door: &Door,
    first: ServerView,
    also: &[&str],
) -> Result<Vec<ServerView>, Failure> {
    let mut servers = vec![first];
    for name in also {
        servers.push(shown(door, name).await?);
    }
    Ok(servers)
}

/// One server is shown as itself, several as a list.
fn show_all(context: &Context, servers: &[ServerView], words: String) {
    match servers {
        [one] => context.output.done(one, words),
        several => context.output.done(&several, words),
    }
}

impl Offline {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let all: Vec<&str> = self.names.iter().map(ServerName::as_str).collect();
        let Some((first, also)) = all.split_first() else {
            return Ok(());
        };
        let what = format!("{} not taken offline", were(&all));
        let path = format!("/v1/servers/{}/offline", escape(first));
        let request = OfflineRequest {
            reason: self.reason.clone(),
            for_s: self.span.map(|span| span.as_secs().max(1)),
            drain: self.drain,
            deadline_s: self.deadline.map(|span| span.as_secs()),
            also: also.iter().map(|name| (*name).to_owned()).collect(),
        };
        if self.dry_run {
            let path = format!("{path}?dry_run=true");
            let plan: Plan = door.send(&what, Method::Post, &path, &request).await?;
            return super::group::show_plan(context.output, &plan);
        }
        let began = Instant::now();
        let server: ServerView = door.send(&what, Method::Post, &path, &request).await?;
        let mut servers = with_others(door, server, also).await?;
        if self.wait {
            for server in &mut servers {
                wait_until_drained(door, server).await?;
            }
        }
        let words = match self.wait {
            true => {
                let took = began.elapsed().as_millis();
                format!("{} drained after {took} ms: {}", were(&all), left(&servers))
            }
            false => servers.iter().map(said).collect::<Vec<_>>().join("\n"),
        };
        show_all(context, &servers, words);
        Ok(())
    }
}

fn were(names: &[&str]) -> String {
    match names {
        [one] => format!("{one} was"),
        several => format!("{} were", several.join(", ")),
    }
}

/// How many sessions are there yet, in words.
fn left(servers: &[ServerView]) -> String {
    let left: Vec<String> = servers
        .iter()
        .map(|server| {
            format!(
                "{} sessions stay on {}",
                server.status.sessions, server.status.name
            )
        })
        .collect();
    left.join(", ") + "."
}

/// What was done with one server.
fn said(server: &ServerView) -> String {
    let offline = server.offline.as_ref();
    let until = offline.and_then(|offline| offline.until.clone());
    let until = until.map_or("somebody takes it online".to_owned(), |until| {
        format!("{until} or somebody takes it online")
    });
    let (name, sessions) = (&server.status.name, server.status.sessions);
    let what = match offline.and_then(|offline| offline.drain.as_ref()) {
        None => format!("Its {sessions} sessions go on."),
        Some(drain) => format!(
            "{} of its {sessions} sessions are moved, those in use at the latest at {}.",
            drain.left, drain.deadline
        ),
    };
    format!("{name} is offline: it gets no new sessions until {until}. {what}")
}

async fn shown(door: &Door, name: &str) -> Result<ServerView, Failure> {
    let path = format!("/v1/servers/{}", escape(name));
    door.get(&format!("{name} was not shown"), &path).await
}

/// Waits until nothing is left to be moved from a server.
async fn wait_until_drained(door: &Door, server: &mut ServerView) -> Result<(), Failure> {
    let name = server.status.name.clone();
    loop {
        let Some(drain) = server.offline.as_ref().and_then(|it| it.drain.as_ref()) else {
            let why = "somebody took it online, or offline without a drain";
            return Err(Failure::failed(format!("{name} was not drained"), why));
        };
        if drain.finished.is_some() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
        match shown(door, &name).await {
            Ok(now) => *server = now,
            // A server that is stopped meanwhile, or a primary that is lost, does not end the drain.
            Err(failure) if failure.exit == Exit::Later => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// The backends that it checks, and how they are.
fn backends(server: &ServerView) -> String {
    let words = server.backends.iter().map(|one| {
        let ServerBackend {
            backend,
            state,
            since,
            sessions,
            ..
        } = one;
        let error = one.error.as_ref();
        let error = error.map_or_else(String::new, |error| format!(" ({error})"));
        format!("{backend} {state} since {since}{error}, sessions: {sessions}")
    });
    words.collect::<Vec<_>>().join("; ")
}

async fn list(context: &Context, door: &Door) -> Result<(), Failure> {
    let servers: Vec<ServerView> = door
        .list("the servers were not listed", "/v1/servers")
        .await?;
    context.output.show(&servers, |servers| {
        let rows: Vec<_> = servers.iter().map(|server| server.status.clone()).collect();
        super::status::servers(context.output, &rows)
    });
    Ok(())
}

async fn show(context: &Context, door: &Door, name: &ServerName) -> Result<(), Failure> {
    let server = shown(door, name.as_str()).await?;
    context.output.show(&server, |server| {
        let status = &server.status;
        let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
        let mode = match &server.offline {
            None => "online".to_owned(),
            Some(offline) => {
                let reason = offline.reason.as_deref().unwrap_or("no reason given");
                let until = offline
                    .until
                    .as_deref()
                    .unwrap_or("somebody takes it online");
                let drain = match &offline.drain {
                    None => String::new(),
                    Some(Drain {
                        finished: Some(at), ..
                    }) => format!("; drained at {at}"),
                    Some(drain) => format!(
                        "; being drained, {} sessions to be moved by {}",
                        drain.left, drain.deadline
                    ),
                };
                format!(
                    "offline since {} by {} until {until}: {reason}{drain}",
                    offline.since, offline.by
                )
            }
        };
        let labels: Vec<String> = server
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let external = server.external.iter();
        let external: Vec<String> = external
            .map(|it| format!("{}={}", it.network, it.address))
            .collect();
        let facts = [
            ("name", status.name.clone()),
            ("id", status.id.clone()),
            ("role", status.role.clone()),
            ("standing", status.standing.clone()),
            ("counts", yes(status.voter)),
            ("reached", yes(status.reachable)),
            ("mode", mode),
            ("sessions", status.sessions.to_string()),
            ("power", server.power.to_string()),
            ("labels", labels.join(" ")),
            ("external", external.join(" ")),
            ("backends", backends(server)),
            ("peers at", server.peer_address.clone()),
            ("clients at", server.client_address.clone()),
            ("version", status.version.clone()),
            (
                "certificate",
                format!("until {}", status.certificate_expires),
            ),
            ("joined", server.joined.clone()),
        ];
        super::facts(&facts)
    });
    Ok(())
}
