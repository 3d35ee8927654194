//! `/v1/servers`: members as hosts of sessions.

use super::bodies::{External, OfflineRequest, OnlineRequest, Server, ServerChange};
use super::caller::Caller;
use super::extract::{Asked, Body, IfMatch, MaybeBody, Named, tagged};
use super::group::{DryRun, id_of, shown as shown_plan};
use super::problem::Problem;
use super::show::{Moment, by_name, server_named};
use crate::node::Node;
use crate::submit::SubmitError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::server::Offline;
use model::{
    Application, Command, Drain, ExternalAddress, IpNet, Mode, Server as ServerRecord, ServerId,
    ServerName,
};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest reason, in characters.
pub(super) const REASON_LIMIT: usize = 500;
/// The longest time that a server can be taken offline for: ten years.
const SPAN_LIMIT: Duration = Duration::from_secs(10 * 366 * 86_400);
/// How long sessions in use may stay on a server that is being drained, unless it is said.
const WITHIN: Duration = Duration::from_secs(300);

/// Lists the servers.
#[utoipa::path(get, path = "/v1/servers", tag = "servers", responses((status = 200, body = Vec<Server>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<Server>> {
    let moment = Moment::new(&node);
    Json(
        by_name(&moment.directory)
            .into_iter()
            .map(|server| moment.whole_server(server))
            .collect(),
    )
}

/// Shows a server.
#[utoipa::path(get, path = "/v1/servers/{name}", tag = "servers", params(("name" = String, Path, description = "Which server")),
    responses((status = 200, body = Server), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(name): Named<ServerName>,
) -> Result<Response, Problem> {
    shown(&node, &name)
}

fn shown(node: &Node, name: &ServerName) -> Result<Response, Problem> {
    let moment = Moment::new(node);
    let server = server_named(&moment.directory, name.as_str())?;
    Ok(tagged(
        StatusCode::OK,
        server.version_number,
        &moment.whole_server(server),
    ))
}

/// Changes what is said of a server; what is absent stays as it is. Before it is reached elsewhere its members try whether they
/// reach it there; that can be planned first (`?dry_run=true`).
#[utoipa::path(patch, path = "/v1/servers/{name}", tag = "servers", params(("name" = String, Path, description = "Which server"), Reaching),
    request_body = ServerChange,
    responses((status = 200, body = Server, description = "Done; with dry_run the plan instead"), (status = 404, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn change(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    version: IfMatch,
    Asked(asked): Asked<Reaching>,
    Body(request): Body<ServerChange>,
) -> Result<Response, Problem> {
    let power = request.power.map(checked_power).transpose()?;
    let external = request.external.map(|external| {
        let read = external.into_iter().map(read_external);
        read.collect::<Result<Vec<_>, _>>()
    });
    let server = id_of(&node, name.as_str()).await?;
    let known = node.directory().server(server).map(|it| it.version_number);
    version.check("the server", known.unwrap_or_default())?;
    let external = external.transpose()?;
    let edited = power.is_some() || !request.labels.is_empty() || external.is_some();
    let addresses = (request.peer_address, request.client_address);
    if let Some(answer) = reach(&node, &caller, server, addresses, &asked).await? {
        return Ok(answer);
    }
    if edited {
        let command = Command::EditServer {
            server,
            power,
            labels: request.labels,
            external,
        };
        caller.change_next(&node, 1, command).await?;
    }
    shown(&node, &name)
}

/// How the addresses of a server are changed.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Reaching {
    /// Only say what would happen; only where addresses are to change.
    dry_run: bool,
    /// Although members do not reach it there.
    force: bool,
}

/// Has the members try where a server is to be reached, and changes it; gives the plan where that is asked.
async fn reach(
    node: &Node,
    caller: &Caller,
    server: ServerId,
    (peer, client): (Option<String>, Option<String>),
    asked: &Reaching,
) -> Result<Option<Response>, Problem> {
    if peer.is_none() && client.is_none() {
        let said = asked.dry_run || asked.force;
        let problem = "dry_run and force are for peer_address and client_address";
        return match said {
            true => Err(Problem::invalid(problem).remedy("say where it is to be reached")),
            false => Ok(None),
        };
    }
    for given in [&peer, &client].into_iter().flatten() {
        let read = given.parse::<peer::address::Address>();
        read.map_err(|error| Problem::invalid(error.to_string()))?;
    }
    let wish = policy::addresses::Wish {
        server,
        peer: peer.as_deref(),
        client: client.as_deref(),
        force: asked.force,
    };
    let plan = node.addresses_plan(wish).await;
    if asked.dry_run {
        return Ok(Some(Json(shown_plan(plan)).into_response()));
    }
    if node.leader().is_none() {
        let detail = node.missing();
        return Err(SubmitError::NoPrimary { detail }.into());
    }
    if !plan.is_possible() {
        return Err(Problem::refused(plan.refusals.join("; ")));
    }
    let command = Command::SetAddresses {
        server,
        peer_address: peer,
        client_address: client,
    };
    caller.change(node, command).await?;
    Ok(None)
}

/// A power rating in thousandths, if it is one.
fn checked_power(power: f64) -> Result<u32, Problem> {
    let (least, most) = (
        *ServerRecord::POWER_RANGE.start(),
        *ServerRecord::POWER_RANGE.end(),
    );
    let thousandths = (power * 1000.0).round();
    let fits = (f64::from(least)..=f64::from(most)).contains(&thousandths);
    if !fits {
        return Err(Problem::invalid(format!(
            "a power rating of {power} does not fit: it is from 0.1 to 1000"
        )));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a whole number in the range of power ratings"
    )]
    Ok(thousandths as u32)
}

fn read_external(external: External) -> Result<ExternalAddress, Problem> {
    let External { network, address } = external;
    match network.parse::<IpNet>() {
        Ok(network) => Ok(ExternalAddress {
            network: network.trunc(),
            address,
        }),
        Err(_) => Err(Problem::invalid(format!(
            "{network:?} is no network, as 10.0.0.0/8 or 2001:db8::/32 is"
        ))),
    }
}

/// Gives servers new sessions again.
#[utoipa::path(post, path = "/v1/servers/{name}/online", tag = "servers", params(("name" = String, Path, description = "Which server")),
    request_body = OnlineRequest,
    responses((status = 200, body = Server), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn online(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    version: IfMatch,
    MaybeBody(request): MaybeBody<OnlineRequest>,
) -> Result<Response, Problem> {
    let (first, servers) = these(&node, &name, &request.also).await?;
    set_mode(
        &node,
        &caller,
        (&name, first),
        version,
        servers,
        Mode::Online,
    )
    .await
}

/// The server that a request names, and with it all that it names.
async fn these(
    node: &Node,
    name: &ServerName,
    also: &[String],
) -> Result<(ServerId, BTreeSet<ServerId>), Problem> {
    let first = id_of(node, name.as_str()).await?;
    let mut servers = BTreeSet::from([first]);
    for also in also {
        servers.insert(id_of(node, also).await?);
    }
    Ok((first, servers))
}

/// Gives servers no new sessions. Those that they have go on, or go elsewhere where it is asked. It can be planned first
/// (`?dry_run=true`).
#[utoipa::path(post, path = "/v1/servers/{name}/offline", tag = "servers", params(("name" = String, Path, description = "Which server"), DryRun),
    request_body = OfflineRequest,
    responses((status = 200, body = Server, description = "Done; with dry_run the plan instead"), (status = 404, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn offline(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    version: IfMatch,
    Asked(asked): Asked<DryRun>,
    MaybeBody(request): MaybeBody<OfflineRequest>,
) -> Result<Response, Problem> {
    let reason = checked_reason(request.reason)?;
    let span = checked_span("for_s", request.for_s)?;
    let within = match (request.drain, request.deadline_s) {
        (false, Some(_)) => {
            let problem = Problem::invalid("deadline_s is for a drain");
            return Err(problem.remedy("say drain too, or leave the deadline out"));
        }
        (false, None) => None,
        // At once, if that is said.
        (true, Some(0)) => Some(Duration::ZERO),
        (true, given) => Some(checked_span("deadline_s", given)?.unwrap_or(WITHIN)),
    };
    let (first, servers) = these(&node, &name, &request.also).await?;
    if asked.dry_run {
        let directory = node.directory();
        let wish = policy::draining::Wish {
            servers: &servers,
            within,
        };
        let elsewhere = |app: &Application| node.no_place_elsewhere(&directory, app, &servers);
        let plan = node.with_view(|view| policy::draining::drain(view, wish, elsewhere));
        return Ok(Json(shown_plan(plan)).into_response());
    }
    let since = node.now();
    let mode = Mode::Offline(Offline {
        by: caller.words(&node),
        reason,
        since,
        until: span.map(|span| since.after(span)),
        drain: within.map(|within| Drain {
            deadline: since.after(within),
            finished: None,
        }),
    });
    set_mode(&node, &caller, (&name, first), version, servers, mode).await
}

fn checked_span(name: &str, seconds: Option<u64>) -> Result<Option<Duration>, Problem> {
    let span = seconds.map(Duration::from_secs);
    match span.is_some_and(|span| span.is_zero() || span > SPAN_LIMIT) {
        true => Err(Problem::invalid(format!(
            "{name} is 1 to {}",
            SPAN_LIMIT.as_secs()
        ))),
        false => Ok(span),
    }
}

async fn set_mode(
    node: &Node,
    caller: &Caller,
    (name, server): (&ServerName, ServerId),
    version: IfMatch,
    servers: BTreeSet<ServerId>,
    mode: Mode,
) -> Result<Response, Problem> {
    let known = node.directory().server(server).map(|it| it.version_number);
    version.check("the server", known.unwrap_or_default())?;
    let servers = servers.into_iter().collect();
    caller
        .change(node, Command::SetMode { servers, mode })
        .await?;
    shown(node, name)
}

/// A reason in words, if it is not too long.
///
/// # Errors
/// It is.
pub(super) fn checked_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    let reason = reason
        .map(|reason| reason.trim().to_owned())
        .filter(|reason| !reason.is_empty());
    match &reason {
        Some(text) if text.chars().count() > REASON_LIMIT => Err(Problem::invalid(format!(
            "a reason has at most {REASON_LIMIT} characters"
        ))),
        _ => Ok(reason),
    }
}
