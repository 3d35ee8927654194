//! `/v1/users`: accounts. Passwords come in and never go out.

use super::bodies::{Password, PasswordRequest, User, UserChange, UserCreation};
use super::caller::Caller;
use super::extract::{Body, IfMatch, Named, tagged};
use super::problem::Problem;
use super::retry::edit;
use super::show;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use model::settings::value::nearest;
use model::user::PasswordHash;
use model::{Command, Directory, Origin, Role, User as Account, UserName};
use wire::client::Hidden;

/// The step of a request that unlocks; the others are those of [`edit`].
const UNLOCKING: u32 = 1000;

/// Lists the accounts.
#[utoipa::path(get, path = "/v1/users", tag = "users", responses((status = 200, body = Vec<User>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<User>> {
    let directory = node.directory();
    let users = directory.users();
    Json(users.map(|user| show::user_of(&directory, user)).collect())
}

/// Shows an account.
#[utoipa::path(get, path = "/v1/users/{name}", tag = "users", params(("name" = String, Path, description = "Which account")),
    responses((status = 200, body = User), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(name): Named<UserName>,
) -> Result<Response, Problem> {
    shown(&node, StatusCode::OK, &name)
}

fn shown(node: &Node, status: StatusCode, name: &UserName) -> Result<Response, Problem> {
    let directory = node.directory();
    let user = account(&directory, name)?;
    Ok(tagged(
        status,
        user.version_number,
        &show::user_of(&directory, user),
    ))
}

pub(super) fn account<'a>(
    directory: &'a Directory,
    name: &UserName,
) -> Result<&'a Account, Problem> {
    directory.user(name).map(|user| &**user).ok_or_else(|| {
        let nearest = nearest(
            name.as_str(),
            directory.users().map(|user| user.name.as_str()),
        );
        Problem::not_found("user", name.as_str(), nearest)
    })
}

/// Whether a caller may change what an account logs in with: an administrator of any, everybody of his own, but not by a token
/// that allows less than the account may; it would get itself more.
pub(super) fn may_change_login(
    node: &Node,
    caller: &Caller,
    name: &UserName,
) -> Result<(), Problem> {
    if caller.role < Role::Admin && caller.account() != Some(name) {
        let why = "only an administrator changes what somebody else logs in with";
        return Err(Problem::not_allowed(why));
    }
    let directory = node.directory();
    let user = account(&directory, name)?;
    if caller.role < user.role {
        let why = "this token allows less than its user may: it changes nothing that the user logs in with";
        return Err(Problem::not_allowed(why));
    }
    Ok(())
}

pub(super) fn role(word: &str) -> Result<Role, Problem> {
    Role::ALL
        .into_iter()
        .find(|role| role.as_str() == word)
        .ok_or_else(|| {
            let words: Vec<&str> = Role::ALL.into_iter().map(Role::as_str).collect();
            let problem = Problem::invalid(format!(
                "{word:?} is no role: roles are {}",
                words.join(", ")
            ));
            match nearest(word, words) {
                Some(near) => problem.remedy(format!("the nearest is {near}")),
                None => problem,
            }
        })
}

async fn hash(node: &Node, password: &Password) -> Result<PasswordHash, Problem> {
    Ok(node.hash_password(Hidden(password.0.clone())).await?)
}

/// Makes an account.
#[utoipa::path(put, path = "/v1/users/{name}", tag = "users", params(("name" = String, Path, description = "Its name")),
    request_body = UserCreation,
    responses((status = 201, body = User), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn add(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<UserName>,
    Body(request): Body<UserCreation>,
) -> Result<Response, Problem> {
    let role = request.role.as_deref().map_or(Ok(Role::User), role)?;
    let password = hash(&node, &request.password).await?;
    let (groups, disabled) = (request.groups, request.disabled);
    let user = Account {
        name: name.clone(),
        password,
        role,
        groups,
        disabled,
        password_set: node.now(),
        version_number: 0,
        api_tokens: Vec::new(),
        lock: None,
        origin: Origin::Directory,
    };
    caller
        .change(
            &node,
            Command::PutUser {
                user: Box::new(user),
                expect: None,
            },
        )
        .await?;
    shown(&node, StatusCode::CREATED, &name)
}

/// Changes an account; what is absent stays as it is.
#[utoipa::path(patch, path = "/v1/users/{name}", tag = "users", params(("name" = String, Path, description = "Which account")),
    request_body = UserChange,
    responses((status = 200, body = User), (status = 404, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn change(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<UserName>,
    version: IfMatch,
    Body(request): Body<UserChange>,
) -> Result<Response, Problem> {
    let role = request.role.as_deref().map(role).transpose()?;
    let edits = role.is_some() || request.groups.is_some() || request.disabled.is_some();
    if request.unlock {
        if let Some(user) = node.directory().user(&name) {
            version.check("the account", user.version_number)?;
        }
        let (id, author) = (caller.change_id(UNLOCKING), caller.author.clone());
        let command = Command::UnlockUser { name: name.clone() };
        node.submit(id, author, command).await?;
    }
    if request.unlock && !edits {
        return shown(&node, StatusCode::OK, &name);
    }
    edit(&node, &caller, version, |directory| {
        let mut user = account(directory, &name)?.clone();
        let expect = user.version_number;
        user.role = role.unwrap_or(user.role);
        user.groups = request.groups.clone().unwrap_or(user.groups);
        user.disabled = request.disabled.unwrap_or(user.disabled);
        Ok((
            expect,
            Command::PutUser {
                user: Box::new(user),
                expect: Some(expect),
            },
        ))
    })
    .await?;
    shown(&node, StatusCode::OK, &name)
}

/// Sets the password of an account: one's own, or as administrator anybody's.
#[utoipa::path(put, path = "/v1/users/{name}/password", tag = "users", params(("name" = String, Path, description = "Which account")),
    request_body = PasswordRequest,
    responses((status = 200, body = User), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn set_password(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<UserName>,
    version: IfMatch,
    Body(request): Body<PasswordRequest>,
) -> Result<Response, Problem> {
    may_change_login(&node, &caller, &name)?;
    may_have_password(&node, &caller, &name)?;
    let password = hash(&node, &request.password).await?;
    edit(&node, &caller, version, |directory| {
        let mut user = account(directory, &name)?.clone();
        let expect = user.version_number;
        user.password = password.clone();
        user.password_set = node.now();
        Ok((
            expect,
            Command::PutUser {
                user: Box::new(user),
                expect: Some(expect),
            },
        ))
    })
    .await?;
    shown(&node, StatusCode::OK, &name)
}

/// Whether a password in the directory would be what the account logs in with. Who is checked elsewhere does not leave that by himself;
/// an administrator can have one who does more than use applications checked here from then on.
fn may_have_password(node: &Node, caller: &Caller, name: &UserName) -> Result<(), Problem> {
    let directory = node.directory();
    let user = account(&directory, name)?;
    let by = directory.authenticated_by(user);
    if by == Origin::Directory || (caller.role == Role::Admin && user.role > Role::User) {
        return Ok(());
    }
    let (by, what) = (by.as_str(), "users.authenticate");
    let why =
        format!("the password of {name} is not checked in the directory, but by {by} ({what})");
    let remedy = "change it there; `stead user set NAME --role` makes an administrator of somebody, who can then have one here";
    Err(Problem::refused(why).remedy(remedy))
}

/// Removes an account.
#[utoipa::path(delete, path = "/v1/users/{name}", tag = "users", params(("name" = String, Path, description = "Which account")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<UserName>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    if let Some(user) = node.directory().user(&name) {
        version.check("the account", user.version_number)?;
    }
    caller.change(&node, Command::RemoveUser { name }).await?;
    Ok(StatusCode::NO_CONTENT)
}
