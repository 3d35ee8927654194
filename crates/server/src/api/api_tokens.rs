//! `/v1/users/{name}/api-tokens`: what programs log in with. A token is shown once, when it is made.

use super::bodies::{ApiToken, ApiTokenRequest, MadeApiToken};
use super::caller::Caller;
use super::extract::{Body, IfMatch, Named, NamedIn};
use super::problem::Problem;
use super::retry::edit;
use super::show;
use super::users::{account, may_change_login, role};
use crate::api_tokens::{self, Made};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::change::Kind;
use model::settings::value::nearest;
use model::{ApiTokenName, Command, Refusal, User, UserName};
use std::ops::RangeInclusive;
use std::time::Duration;

const DAY_S: u64 = 24 * 60 * 60;
const LIFETIME_S: u64 = 90 * DAY_S;
const LIFETIMES_S: RangeInclusive<u64> = 3_600..=3_650 * DAY_S;

/// Lists a user's tokens for the API.
#[utoipa::path(get, path = "/v1/users/{name}/api-tokens", tag = "users", params(("name" = String, Path, description = "Whose")),
    responses((status = 200, body = Vec<ApiToken>), (status = 404, body = Problem)))]
pub(super) async fn list(
    State(node): State<Node>,
    Named(name): Named<UserName>,
) -> Result<Json<Vec<ApiToken>>, Problem> {
    let directory = node.directory();
    let user = account(&directory, &name)?;
    let tokens = user.api_tokens.iter();
    Ok(Json(
        tokens.map(|token| show::api_token(&name, token)).collect(),
    ))
}

/// Makes a token for the API, for oneself, or as administrator for anybody.
#[utoipa::path(put, path = "/v1/users/{name}/api-tokens/{token}", tag = "users",
    params(("name" = String, Path, description = "Whose"), ("token" = String, Path, description = "Its name")), request_body = ApiTokenRequest,
    responses((status = 201, body = MadeApiToken), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn add(
    State(node): State<Node>,
    caller: Caller,
    NamedIn(name, token): NamedIn<UserName, ApiTokenName>,
    Body(request): Body<ApiTokenRequest>,
) -> Result<(StatusCode, Json<MadeApiToken>), Problem> {
    may_change_login(&node, &caller, &name)?;
    let lifetime = request.lifetime_s.unwrap_or(LIFETIME_S);
    if !LIFETIMES_S.contains(&lifetime) {
        return Err(Problem::invalid(
            "a token is valid for an hour at least and ten years at most",
        ));
    }
    let wanted = request.role.as_deref().map(role).transpose()?;
    let allowed = account(&node.directory(), &name)?.role;
    let role = wanted.unwrap_or(allowed);
    if role > allowed {
        let (role, allowed) = (role.as_str(), allowed.as_str());
        return Err(Problem::invalid(format!(
            "a token for {role} needs a user who is one: {name} is {allowed}"
        )));
    }
    let lifetime = Duration::from_secs(lifetime);
    let Made { text, kept } = api_tokens::make(&name, token, role, node.now(), lifetime)
        .map_err(|error| Problem::internal(error.to_string()))?;
    // The answer to a repeated request could not be the same token: its key is not used, and the second finds the first.
    let once = Caller {
        key: None,
        ..caller
    };
    edit(&node, &once, IfMatch(None), |directory| {
        let user = account(directory, &name)?;
        if user.api_tokens.iter().any(|token| token.name == kept.name) {
            return Err(Problem::from(Refusal::Exists {
                kind: Kind::ApiToken,
                name: kept.name.to_string(),
            }));
        }
        let mut tokens = user.api_tokens.clone();
        tokens.push(kept.clone());
        tokens.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(with_tokens(user, tokens))
    })
    .await?;
    let made = show::api_token(&name, &kept);
    let token = text.0;
    Ok((StatusCode::CREATED, Json(MadeApiToken { made, token })))
}

/// Revokes a token for the API: one's own, or as administrator anybody's.
#[utoipa::path(delete, path = "/v1/users/{name}/api-tokens/{token}", tag = "users",
    params(("name" = String, Path, description = "Whose"), ("token" = String, Path, description = "Its name")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    NamedIn(name, token): NamedIn<UserName, ApiTokenName>,
) -> Result<StatusCode, Problem> {
    may_change_login(&node, &caller, &name)?;
    edit(&node, &caller, IfMatch(None), |directory| {
        let user = account(directory, &name)?;
        let mut tokens = user.api_tokens.clone();
        tokens.retain(|one| one.name != token);
        if tokens.len() == user.api_tokens.len() {
            let others = user.api_tokens.iter().map(|one| one.name.as_str());
            let nearest = nearest(token.as_str(), others);
            return Err(Problem::not_found("API token", token.as_str(), nearest));
        }
        Ok(with_tokens(user, tokens))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn with_tokens(user: &User, api_tokens: Vec<model::ApiToken>) -> (u64, Command) {
    let expect = user.version_number;
    let user = User {
        api_tokens,
        ..user.clone()
    };
    let command = Command::PutUser {
        user: Box::new(user),
        expect: Some(expect),
    };
    (expect, command)
}
