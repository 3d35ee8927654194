//! `/v1/tokens`: the register of tokens. A token is found by an alias too.

use super::bodies::{self, TokenChange, TokenCreation};
use super::caller::Caller;
use super::extract::{Asked, Body, IfMatch, Named, tagged};
use super::pages;
use super::problem::Problem;
use super::retry::edit;
use super::show;
use crate::node::{Consistency, Node};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use model::settings::value::nearest;
use model::{Command, Directory, RegisteredToken, Token, UnixMillis, UserName};
use serde::Deserialize;
use std::str::FromStr;
use std::sync::Arc;

/// How many are looked at for a name that is nearly the one asked for.
const NEAR: usize = 10_000;

/// Which tokens are meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only this user's.
    #[param(value_type = Option<String>)]
    user: Option<UserName>,
    /// Only of this type: the part before the first full stop.
    r#type: Option<String>,
    /// How many at most, 1 to 1000.
    limit: Option<u32>,
    /// Where the page before ended; from its `Link` header.
    #[param(value_type = Option<String>)]
    cursor: Option<Token>,
}

impl Which {
    fn fits(&self, token: &RegisteredToken) -> bool {
        let of_user = self.user.as_ref().is_none_or(|user| token.user == *user);
        let kind = self.r#type.as_deref();
        of_user && kind.is_none_or(|kind| token.token.kind() == Some(kind))
    }
}

/// Lists the registered tokens.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(Which),
    responses((status = 200, body = Vec<bodies::Token>, headers(("Link" = String, description = "The address of the next page, rel=\"next\""))), (status = 422, body = Problem)))]
pub(super) async fn list(
    State(node): State<Node>,
    uri: Uri,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let directory = node.directory();
    let size = pages::size("limit", which.limit)?;
    let from = directory.tokens_from(which.cursor.as_ref());
    let (page, more) = pages::take(from.filter(|token| which.fits(token)), size);
    let last = page.last().filter(|_| more.is_some());
    let next = last.map(|last| ("cursor", last.token.to_string()));
    let tokens: Vec<bodies::Token> = page.into_iter().map(|token| show::token(token)).collect();
    Ok(pages::answer(tokens, &uri, next))
}

/// Shows a registered token, by its name or an alias.
#[utoipa::path(get, path = "/v1/tokens/{name}", tag = "tokens", params(("name" = String, Path, description = "Which token")),
    responses((status = 200, body = bodies::Token), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(name): Named<Token>,
) -> Result<Response, Problem> {
    shown(&node, StatusCode::OK, &name)
}

fn shown(node: &Node, status: StatusCode, name: &Token) -> Result<Response, Problem> {
    let directory = node.directory();
    let token = registered(&directory, name)?;
    Ok(tagged(status, token.version_number, &show::token(token)))
}

fn registered<'a>(
    directory: &'a Directory,
    name: &Token,
) -> Result<&'a Arc<RegisteredToken>, Problem> {
    directory.registered(name).ok_or_else(|| {
        let names = directory.tokens().take(NEAR);
        let near = nearest(name.as_str(), names.map(|token| token.token.as_str()));
        Problem::not_found("token", name.as_str(), near)
    })
}

fn parsed<T>(text: &str) -> Result<T, Problem>
where
    T: FromStr<Err = model::NameError>,
{
    let parsed = text.parse();
    parsed.map_err(|error: model::NameError| Problem::invalid(error.to_string()))
}

fn all<T>(texts: &[String]) -> Result<Vec<T>, Problem>
where
    T: FromStr<Err = model::NameError>,
{
    texts.iter().map(|text| parsed(text)).collect()
}

fn maybe<T>(text: Option<&String>) -> Result<Option<T>, Problem>
where
    T: FromStr<Err = model::NameError>,
{
    text.map(|text| parsed(text)).transpose()
}

/// Registers a token.
#[utoipa::path(put, path = "/v1/tokens/{name}", tag = "tokens", params(("name" = String, Path, description = "The token")),
    request_body = TokenCreation,
    responses((status = 201, body = bodies::Token), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn add(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<Token>,
    Body(request): Body<TokenCreation>,
) -> Result<Response, Problem> {
    let token = RegisteredToken {
        token: name.clone(),
        user: parsed(&request.user)?,
        app: maybe(request.app.as_ref())?,
        home: maybe(request.home.as_ref())?,
        enabled: request.enabled.unwrap_or(true),
        aliases: all(&request.aliases)?,
        created: UnixMillis::default(),
        version_number: 0,
    };
    let (token, expect) = (Box::new(token), None);
    let command = Command::PutToken { token, expect };
    caller.change(&node, command).await?;
    shown(&node, StatusCode::CREATED, &name)
}

/// Changes a registered token; what is absent stays as it is.
#[utoipa::path(patch, path = "/v1/tokens/{name}", tag = "tokens", params(("name" = String, Path, description = "Which token")),
    request_body = TokenChange,
    responses((status = 200, body = bodies::Token), (status = 404, body = Problem), (status = 409, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn change(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<Token>,
    version: IfMatch,
    Body(request): Body<TokenChange>,
) -> Result<Response, Problem> {
    let user = maybe(request.user.as_ref())?;
    let app = request.app.as_ref().map(|app| maybe(app.as_ref()));
    let home = request.home.as_ref().map(|home| maybe(home.as_ref()));
    let (app, home) = (app.transpose()?, home.transpose()?);
    let aliases = request.aliases.as_deref().map(all).transpose()?;
    edit(&node, &caller, version, |directory| {
        let mut token = (**registered(directory, &name)?).clone();
        let expect = token.version_number;
        token.user = user.clone().unwrap_or(token.user);
        token.app = app.clone().unwrap_or(token.app);
        token.home = home.clone().unwrap_or(token.home);
        token.aliases = aliases.clone().unwrap_or(token.aliases);
        token.enabled = request.enabled.unwrap_or(token.enabled);
        let (token, at) = (Box::new(token), Some(expect));
        Ok((expect, Command::PutToken { token, expect: at }))
    })
    .await?;
    shown(&node, StatusCode::OK, &name)
}

/// Takes a token out of the register; its sessions go on.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "tokens", params(("name" = String, Path, description = "Which token")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<Token>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    if node.directory().registered(&name).is_none() {
        // Others may have been told of it before this server was.
        node.catch_up(Consistency::Linearizable).await?;
    }
    let directory = node.directory();
    let known = registered(&directory, &name)?;
    version.check("the token", known.version_number)?;
    let token = known.token.clone();
    caller.change(&node, Command::RemoveToken { token }).await?;
    Ok(StatusCode::NO_CONTENT)
}
