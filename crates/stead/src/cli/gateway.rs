//! `stead gateway`: ports at which ordinary clients are relayed to the host of their token.

use super::Context;
use super::records::Record;
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use crate::output::Tone;
use clap::Subcommand;
use model::{AppName, GatewayName, TokenFrom};
use server::api::bodies::{Gateway as GatewayView, GatewayCreation};
use std::net::SocketAddr;

/// Adds, lists and removes gateways for clients that know nothing of Stead
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "A gateway accepts ordinary clients on every server and relays each to the host of its token's session, which is made where
there is none. What a client says is a claim and proves nothing: the application launches nothing, and its backend asks who is
there. A client that says nothing has the token of its address, addr.ADDRESS."
)]
pub(crate) struct Gateway {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Adds a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Where a token comes from:
  rdp-cookie      user.NAME of the cookie (mstshash) of RDP, or the routing token itself where it is written like a token
  sni             the server name that a TLS client asks for; TLS is passed on as it is
  proxy-protocol  what the header of a load balancer in front says: the server name that it saw, else the client's address
  source-address  addr.ADDRESS, the client's address

Examples:
  stead app add rdp --backend tcp:127.0.0.1:3389
  stead gateway add rdp --listen 0.0.0.0:3390 --app rdp --token-from rdp-cookie")]
struct Add {
    /// Its name.
    name: GatewayName,
    /// Where servers accept its clients; an address that a server does not have yet is waited for.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// What its clients get: an application that launches nothing.
    #[arg(long, value_name = "APP")]
    app: AppName,
    /// Where a client's token comes from: rdp-cookie, sni, proxy-protocol or source-address.
    #[arg(long, value_name = "SOURCE")]
    token_from: TokenFrom,
}

/// Lists the gateways, and how they are on the server that answers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead gateway list
  stead gateway list --json")]
struct List {}

/// Removes a gateway; clients that are connected stay until they go, and so do sessions
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead gateway remove rdp")]
struct Remove {
    /// Which gateway.
    name: GatewayName,
}

impl Gateway {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Add(verb) => verb.run(context, &door).await,
            Verb::List(List {}) => list(context, &door).await,
            Verb::Remove(Remove { name }) => {
                let words = format!("Gateway {name} was removed.");
                record(&name).remove(context, &door, words).await
            }
        }
    }
}

impl Add {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let body = GatewayCreation {
            listen: self.listen.to_string(),
            app: self.app.to_string(),
            token_from: self.token_from.to_string(),
        };
        let record = record(&self.name);
        let what = record.was_not("added");
        let gateway: GatewayView = door.send(&what, Method::Put, &record.path, &body).await?;
        let words = format!("Gateway {} was added at {}.", gateway.name, gateway.listen);
        context.output.done(&gateway, words);
        Ok(())
    }
}

async fn list(context: &Context, door: &Door) -> Result<(), Failure> {
    let what = "the gateways were not listed";
    let gateways: Vec<GatewayView> = door.list(what, "/v1/gateways").await?;
    context.output.show(&gateways, |gateways| {
        let head = [
            "GATEWAY",
            "LISTEN",
            "APPLICATION",
            "TOKEN FROM",
            "HERE",
            "CLIENTS",
        ];
        let mut table = context.output.table(&head);
        for gateway in gateways {
            let (state, clients) = match &gateway.here {
                Some(here) => (
                    match &here.error {
                        Some(error) => (error.clone(), Tone::Warning),
                        None => ("listening".to_owned(), Tone::Plain),
                    },
                    here.connections.to_string(),
                ),
                None => (("starting".to_owned(), Tone::Plain), String::new()),
            };
            table.row(vec![
                (gateway.name.clone(), Tone::Plain),
                (gateway.listen.clone(), Tone::Plain),
                (gateway.app.clone(), Tone::Plain),
                (gateway.token_from.clone(), Tone::Plain),
                state,
                (clients, Tone::Plain),
            ]);
        }
        table.text("There is no gateway.")
    });
    Ok(())
}

fn record(name: &GatewayName) -> Record<'_, GatewayName> {
    Record {
        kind: "gateway",
        set: "stead gateway add",
        name,
        path: format!("/v1/gateways/{}", escape(name.as_str())),
    }
}
