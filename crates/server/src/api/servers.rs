//! `/v1/servers`: members as hosts of sessions.

use super::bodies::{OfflineRequest, Server};
use super::caller::Caller;
use super::extract::{IfMatch, MaybeBody, Named, tagged};
use super::group::id_of;
use super::problem::Problem;
use super::show::{Moment, by_name, server_named};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::server::Offline;
use model::{Command, Mode, ServerName};
use std::time::Duration;

/// The longest reason, in characters.
pub(super) const REASON_LIMIT: usize = 500;
/// The longest time that a server can be taken offline for: ten years.
const SPAN_LIMIT: Duration = Duration::from_secs(10 * 366 * 86_400);

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

/// Gives a server new sessions again.
#[utoipa::path(post, path = "/v1/servers/{name}/online", tag = "servers", params(("name" = String, Path, description = "Which server")),
    responses((status = 200, body = Server), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn online(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    version: IfMatch,
) -> Result<Response, Problem> {
    set_mode(&node, &caller, &name, version, Mode::Online).await
}

/// Gives a server no new sessions; those that it has go on.
#[utoipa::path(post, path = "/v1/servers/{name}/offline", tag = "servers", params(("name" = String, Path, description = "Which server")),
    request_body = OfflineRequest,
    responses((status = 200, body = Server), (status = 404, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn offline(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    version: IfMatch,
    MaybeBody(request): MaybeBody<OfflineRequest>,
) -> Result<Response, Problem> {
    let reason = checked_reason(request.reason)?;
    let span = request.for_s.map(Duration::from_secs);
    if span.is_some_and(|span| span.is_zero() || span > SPAN_LIMIT) {
        return Err(Problem::invalid(format!(
            "for_s is 1 to {}",
            SPAN_LIMIT.as_secs()
        )));
    }
    let since = node.now();
    let until = span.map(|span| since.after(span));
    let mode = Mode::Offline(Offline {
        by: caller.words(&node),
        reason,
        since,
        until,
    });
    set_mode(&node, &caller, &name, version, mode).await
}

async fn set_mode(
    node: &Node,
    caller: &Caller,
    name: &ServerName,
    version: IfMatch,
    mode: Mode,
) -> Result<Response, Problem> {
    let server = id_of(node, name.as_str()).await?;
    let known = node.directory().server(server).map(|it| it.version_number);
    version.check("the server", known.unwrap_or_default())?;
    caller
        .change(node, Command::SetMode { server, mode })
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
