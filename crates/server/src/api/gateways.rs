//! `/v1/gateways`: ports at which ordinary clients are relayed to the host of their token.

use super::bodies::{self, GatewayCreation};
use super::caller::Caller;
use super::extract::{Body, IfMatch, Named, tagged};
use super::problem::Problem;
use super::show;
use crate::node::{Consistency, Node};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::settings::value::nearest;
use model::{Command, Directory, Gateway, GatewayName, TokenFrom};
use std::sync::Arc;

/// Lists the gateways, and how they are on the server that answers.
#[utoipa::path(get, path = "/v1/gateways", tag = "gateways", responses((status = 200, body = Vec<bodies::Gateway>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<bodies::Gateway>> {
    let directory = node.directory();
    let all = directory.gateways().map(|gateway| shown_of(&node, gateway));
    Json(all.collect())
}

fn shown_of(node: &Node, gateway: &Gateway) -> bodies::Gateway {
    show::gateway(gateway, node.0.gateways.state(&gateway.name))
}

/// Shows a gateway.
#[utoipa::path(get, path = "/v1/gateways/{name}", tag = "gateways", params(("name" = String, Path, description = "Which gateway")),
    responses((status = 200, body = bodies::Gateway), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(name): Named<GatewayName>,
) -> Result<Response, Problem> {
    shown(&node, StatusCode::OK, &name)
}

fn shown(node: &Node, status: StatusCode, name: &GatewayName) -> Result<Response, Problem> {
    let directory = node.directory();
    let gateway = known(&directory, name)?;
    Ok(tagged(
        status,
        gateway.version_number,
        &shown_of(node, gateway),
    ))
}

fn known<'a>(directory: &'a Directory, name: &GatewayName) -> Result<&'a Arc<Gateway>, Problem> {
    directory.gateway(name).ok_or_else(|| {
        let names = directory.gateways();
        let near = nearest(name.as_str(), names.map(|gateway| gateway.name.as_str()));
        Problem::not_found("gateway", name.as_str(), near)
    })
}

/// Makes a gateway.
#[utoipa::path(put, path = "/v1/gateways/{name}", tag = "gateways", params(("name" = String, Path, description = "Its name")),
    request_body = GatewayCreation,
    responses((status = 201, body = bodies::Gateway), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn add(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<GatewayName>,
    Body(request): Body<GatewayCreation>,
) -> Result<Response, Problem> {
    let listen = request.listen.parse().map_err(|_| {
        let why = "is no address and port, such as 0.0.0.0:3389 or [::]:3389";
        Problem::invalid(format!("{:?} {why}", request.listen))
    })?;
    let app: Result<_, model::NameError> = request.app.parse();
    let token_from: TokenFrom = request
        .token_from
        .parse()
        .map_err(|error: model::gateway::TokenFromError| Problem::invalid(error.to_string()))?;
    let gateway = Gateway {
        name: name.clone(),
        listen,
        app: app.map_err(|error| Problem::invalid(error.to_string()))?,
        token_from,
        version_number: 0,
    };
    let command = Command::PutGateway {
        gateway: Box::new(gateway),
        expect: None,
    };
    caller.change(&node, command).await?;
    shown(&node, StatusCode::CREATED, &name)
}

/// Removes a gateway: servers accept no more clients for it; those that are connected stay until they go, and so do sessions.
#[utoipa::path(delete, path = "/v1/gateways/{name}", tag = "gateways", params(("name" = String, Path, description = "Which gateway")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<GatewayName>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    if node.directory().gateway(&name).is_none() {
        // Others may have been told of it before this server was.
        node.catch_up(Consistency::Linearizable).await?;
    }
    let directory = node.directory();
    version.check("the gateway", known(&directory, &name)?.version_number)?;
    caller
        .change(&node, Command::RemoveGateway { name })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
