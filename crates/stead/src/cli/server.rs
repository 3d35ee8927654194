//! `stead server`: the members as hosts of sessions.

use super::{Context, values};
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use clap::Subcommand;
use model::ServerName;
use server::api::bodies::{OfflineRequest, Server as ServerView};
use std::time::Duration;

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

/// Gives a server new sessions again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead server online boston")]
struct Online {
    /// Which server.
    name: ServerName,
}

/// Gives a server no new sessions; those that it has go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead server offline boston --reason 'new disks' --for 4h")]
struct Offline {
    /// Which server.
    name: ServerName,
    /// Why; shown wherever the server is.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// After what time it is online again by itself, as in 30m or 4h.
    #[arg(long = "for", value_name = "TIME", value_parser = values::span)]
    span: Option<Duration>,
}

impl Server {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::List(_) => list(context, &door).await,
            Verb::Show(Show { name }) => show(context, &door, &name).await,
            Verb::Online(Online { name }) => {
                let what = format!("{name} was not taken online");
                let path = format!("/v1/servers/{}/online", escape(name.as_str()));
                let server: ServerView = door.send(&what, Method::Post, &path, &()).await?;
                context.output.done(
                    &server,
                    format!(
                        "{} is online: load balancing gives it new sessions.",
                        server.status.name
                    ),
                );
                Ok(())
            }
            Verb::Offline(verb) => verb.run(context, &door).await,
        }
    }
}

impl Offline {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let what = format!("{} was not taken offline", self.name);
        let path = format!("/v1/servers/{}/offline", escape(self.name.as_str()));
        let request = OfflineRequest {
            reason: self.reason,
            for_s: self.span.map(|span| span.as_secs().max(1)),
        };
        let server: ServerView = door.send(&what, Method::Post, &path, &request).await?;
        let until = server
            .offline
            .as_ref()
            .and_then(|offline| offline.until.clone());
        let until = until.map_or("somebody takes it online".to_owned(), |until| {
            format!("{until} or somebody takes it online")
        });
        let (name, sessions) = (&server.status.name, server.status.sessions);
        context.output.done(&server, format!("{name} is offline: it gets no new sessions until {until}. Its {sessions} sessions go on."));
        Ok(())
    }
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
    let path = format!("/v1/servers/{}", escape(name.as_str()));
    let server: ServerView = door.get(&format!("{name} was not shown"), &path).await?;
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
                format!(
                    "offline since {} by {} until {until}: {reason}",
                    offline.since, offline.by
                )
            }
        };
        let labels: Vec<String> = server
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
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
