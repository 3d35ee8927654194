//! `/v1/profiles` and `/v1/preferences`: how it is for whoever logs in. Administrators write profiles, users their own preferences.

use super::bodies::{EffectiveValue, PreferenceValue, Preferences, Profile, ProfileValue};
use super::caller::Caller;
use super::extract::{Asked, Body, IfMatch, Named, NamedIn};
use super::problem::Problem;
use super::retry::edit;
use super::show;
use crate::node::{Consistency, Node};
use crate::submit::SubmitError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::profile::{self, Audience, Preferable, ProfileChange, ProfileError};
use model::settings::value::nearest;
use model::{AppName, Command, Directory, Refusal, Role, Token, UserName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::str::FromStr;

/// The step of a request that makes a document, beside those that change one.
const MAKING: u32 = u32::MAX;
/// Who the caller is, in place of a name: no account has it.
const ME: &str = "@me";

/// For whom it is asked what holds.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ForWhom {
    /// The user.
    user: String,
    /// The client's token; the user's own when absent.
    token: Option<String>,
    /// The application.
    app: Option<String>,
}

/// Whose preferences are meant.
#[derive(Debug)]
pub(super) enum Whose {
    /// The caller's.
    Mine,
    /// An account's.
    Of(UserName),
}

impl FromStr for Whose {
    type Err = model::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            ME => Ok(Self::Mine),
            name => name.parse().map(Self::Of),
        }
    }
}

impl Whose {
    /// The account, if the caller may touch its preferences: his own, or with that role anybody's.
    fn account(self, caller: &Caller, least: Role) -> Result<UserName, Problem> {
        let own = caller.account();
        match self {
            Self::Mine => own.cloned().ok_or_else(|| {
                Problem::invalid("on a server itself nobody is logged in: say whose preferences")
            }),
            Self::Of(name) if own == Some(&name) || caller.role >= least => Ok(name),
            Self::Of(_) => Err(Problem::not_allowed(
                "these are somebody else's preferences",
            )),
        }
    }
}

/// Lists the profiles, the most general first.
#[utoipa::path(get, path = "/v1/profiles", tag = "profiles", responses((status = 200, body = Vec<Profile>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<Profile>> {
    Json(
        node.directory()
            .profiles()
            .map(|one| show::profile(one))
            .collect(),
    )
}

/// Shows a profile.
#[utoipa::path(get, path = "/v1/profiles/{name}", tag = "profiles", params(("name" = String, Path, description = "`group`, `app:NAME`, `user:NAME` or `token:TOKEN`")),
    responses((status = 200, body = Profile), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(audience): Named<Audience>,
) -> Result<Json<Profile>, Problem> {
    Ok(Json(show::profile(known(&node.directory(), &audience)?)))
}

fn known<'a>(
    directory: &'a Directory,
    audience: &Audience,
) -> Result<&'a profile::Profile, Problem> {
    directory
        .profile(audience)
        .map(|one| &**one)
        .ok_or_else(|| {
            let names: Vec<String> = directory
                .profiles()
                .map(|one| one.audience.to_string())
                .collect();
            let name = audience.to_string();
            let near = nearest(&name, names.iter().map(String::as_str));
            Problem::not_found("profile", &name, near)
        })
}

/// What holds for a user, from profiles and preferences, and where each value comes from.
#[utoipa::path(get, path = "/v1/profiles/effective", tag = "profiles", params(ForWhom), responses((status = 200, body = Vec<EffectiveValue>), (status = 422, body = Problem)))]
pub(super) async fn effective(
    State(node): State<Node>,
    Asked(whom): Asked<ForWhom>,
) -> Result<Json<Vec<EffectiveValue>>, Problem> {
    let invalid = |error: model::NameError| Problem::invalid(error.to_string());
    let user: UserName = whom.user.parse().map_err(invalid)?;
    let token = whom.token.unwrap_or_else(|| format!("user.{user}"));
    let token: Token = token.parse().map_err(invalid)?;
    let app: Option<AppName> = whom
        .app
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(invalid)?;
    let directory = node.directory();
    let token = directory.canonical(&token);
    let found = directory.effective(&user, token, app.as_ref());
    Ok(Json(
        found
            .iter()
            .map(|(key, said)| show::effective(key, said))
            .collect(),
    ))
}

/// Has a profile say something; makes the profile where there is none.
#[utoipa::path(put, path = "/v1/profiles/{name}/{key}", tag = "profiles", params(("name" = String, Path, description = "`group`, `app:NAME`, `user:NAME` or `token:TOKEN`"), ("key" = String, Path, description = "What it says")),
    request_body = ProfileValue, responses((status = 200, body = Profile), (status = 404, body = Problem), (status = 412, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn set(
    State(node): State<Node>,
    caller: Caller,
    NamedIn(audience, key): NamedIn<Audience, String>,
    version: IfMatch,
    Body(request): Body<ProfileValue>,
) -> Result<Json<Profile>, Problem> {
    checked(&key, &request.value)?;
    let said = profile::ProfileValue {
        value: request.value,
        locked: request.locked,
    };
    let with = |mut values: BTreeMap<_, _>| {
        values.insert(key.clone(), said.clone());
        values
    };
    let fresh = put(&audience, with(BTreeMap::new()), None);
    if version.0.is_some() || !make(&node, &caller, fresh).await? {
        edit(&node, &caller, version, |directory| {
            let held = known(directory, &audience)?;
            let expect = held.version_number;
            Ok((
                expect,
                put(&audience, with(held.values.clone()), Some(expect)),
            ))
        })
        .await?;
    }
    Ok(Json(show::profile(known(&node.directory(), &audience)?)))
}

/// A profile says something no longer.
#[utoipa::path(delete, path = "/v1/profiles/{name}/{key}", tag = "profiles", params(("name" = String, Path, description = "`group`, `app:NAME`, `user:NAME` or `token:TOKEN`"), ("key" = String, Path, description = "What it says")),
    responses((status = 204), (status = 404, body = Problem), (status = 412, body = Problem)))]
pub(super) async fn unset(
    State(node): State<Node>,
    caller: Caller,
    NamedIn(audience, key): NamedIn<Audience, String>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    edit(&node, &caller, version, |directory| {
        let held = known(directory, &audience)?;
        let mut values = held.values.clone();
        if values.remove(&key).is_none() {
            return Err(not_said(&key, held.values.keys()));
        }
        let expect = held.version_number;
        Ok((expect, put(&audience, values, Some(expect))))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a profile.
#[utoipa::path(delete, path = "/v1/profiles/{name}", tag = "profiles", params(("name" = String, Path, description = "`group`, `app:NAME`, `user:NAME` or `token:TOKEN`")),
    responses((status = 204), (status = 404, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(audience): Named<Audience>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    if node.directory().profile(&audience).is_none() {
        node.catch_up(Consistency::Linearizable).await?;
    }
    version.check(
        "the profile",
        known(&node.directory(), &audience)?.version_number,
    )?;
    let change = ProfileChange::Remove { audience };
    caller
        .change(&node, Command::ChangeProfile { change })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the preferences of all users.
#[utoipa::path(get, path = "/v1/preferences", tag = "profiles", responses((status = 200, body = Vec<Preferences>)))]
pub(super) async fn list_preferences(State(node): State<Node>) -> Json<Vec<Preferences>> {
    let directory = node.directory();
    Json(
        directory
            .all_preferences()
            .map(|one| show::preferences(one))
            .collect(),
    )
}

/// Shows a user's preferences: one's own, or as viewer anybody's.
#[utoipa::path(get, path = "/v1/preferences/{name}", tag = "profiles", params(("name" = String, Path, description = "Whose; `@me` for one's own")),
    responses((status = 200, body = Preferences), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn show_preferences(
    State(node): State<Node>,
    caller: Caller,
    Named(whose): Named<Whose>,
) -> Result<Json<Preferences>, Problem> {
    let user = whose.account(&caller, Role::Viewer)?;
    shown(&node, &user)
}

fn shown(node: &Node, user: &UserName) -> Result<Json<Preferences>, Problem> {
    let directory = node.directory();
    super::users::account(&directory, user)?;
    let held = directory.preferences(user);
    let body = held.map_or_else(
        || show::no_preferences(user),
        |held| show::preferences(held),
    );
    Ok(Json(body))
}

/// Has a user's preferences say something: one's own, or as administrator anybody's.
#[utoipa::path(put, path = "/v1/preferences/{name}/{key}", tag = "profiles", params(("name" = String, Path, description = "Whose; `@me` for one's own"), ("key" = String, Path, description = "What they say")),
    request_body = PreferenceValue, responses((status = 200, body = Preferences), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn prefer(
    State(node): State<Node>,
    caller: Caller,
    NamedIn(whose, key): NamedIn<Whose, String>,
    version: IfMatch,
    Body(request): Body<PreferenceValue>,
) -> Result<Json<Preferences>, Problem> {
    let user = whose.account(&caller, Role::Admin)?;
    if checked(&key, &request.value)?.preference == Preferable::Never {
        return Err(ProfileError::NotPreferable { key }.into());
    }
    let with = |mut values: BTreeMap<_, _>| {
        values.insert(key.clone(), request.value.clone());
        values
    };
    let fresh = said_by(&user, with(BTreeMap::new()), None);
    if version.0.is_some() || !make(&node, &caller, fresh).await? {
        edit(&node, &caller, version, |directory| {
            let held = preferred(directory, &user)?;
            let expect = held.version_number;
            Ok((
                expect,
                said_by(&user, with(held.values.clone()), Some(expect)),
            ))
        })
        .await?;
    }
    shown(&node, &user)
}

/// A user's preferences say something no longer: one's own, or as administrator anybody's.
#[utoipa::path(delete, path = "/v1/preferences/{name}/{key}", tag = "profiles", params(("name" = String, Path, description = "Whose; `@me` for one's own"), ("key" = String, Path, description = "What they say")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub(super) async fn forget(
    State(node): State<Node>,
    caller: Caller,
    NamedIn(whose, key): NamedIn<Whose, String>,
    version: IfMatch,
) -> Result<StatusCode, Problem> {
    let user = whose.account(&caller, Role::Admin)?;
    edit(&node, &caller, version, |directory| {
        let held = preferred(directory, &user)?;
        let mut values = held.values.clone();
        if values.remove(&key).is_none() {
            return Err(not_said(&key, held.values.keys()));
        }
        let expect = held.version_number;
        Ok((expect, said_by(&user, values, Some(expect))))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn preferred<'a>(
    directory: &'a Directory,
    user: &UserName,
) -> Result<&'a profile::Preferences, Problem> {
    let held = directory.preferences(user).map(|held| &**held);
    held.ok_or_else(|| Problem::not_found("preferences of", user.as_str(), None))
}

fn checked(key: &str, value: &str) -> Result<&'static profile::ProfileKey, Problem> {
    Ok(profile::check(key, value)?)
}

fn not_said<'a>(key: &str, said: impl Iterator<Item = &'a String>) -> Problem {
    Problem::not_found("value of", key, nearest(key, said.map(String::as_str)))
}

/// Makes a document, unless there is one: then it says no.
async fn make(node: &Node, caller: &Caller, command: Command) -> Result<bool, Problem> {
    let (id, author) = (caller.change_id(MAKING), caller.author.clone());
    match node.submit(id, author, command).await {
        Ok(_) => Ok(true),
        Err(SubmitError::Refused(Refusal::Exists { .. })) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn put(
    audience: &Audience,
    values: BTreeMap<String, profile::ProfileValue>,
    expect: Option<u64>,
) -> Command {
    let profile = Box::new(profile::Profile {
        audience: audience.clone(),
        values,
        changed: Default::default(),
        version_number: 0,
    });
    let change = ProfileChange::Put { profile, expect };
    Command::ChangeProfile { change }
}

fn said_by(user: &UserName, values: BTreeMap<String, String>, expect: Option<u64>) -> Command {
    let preferences = Box::new(profile::Preferences {
        user: user.clone(),
        values,
        changed: Default::default(),
        version_number: 0,
    });
    let change = ProfileChange::Prefer {
        preferences,
        expect,
    };
    Command::ChangeProfile { change }
}
