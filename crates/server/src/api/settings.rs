//! `/v1/settings`: values for the group and for single servers.

use super::bodies::{Setting, SettingValue};
use super::caller::Caller;
use super::extract::{Asked, Body, Named};
use super::problem::Problem;
use super::show;
use crate::node::Node;
use crate::suites;
use axum::Json;
use axum::extract::State;
use model::settings::{CATALOGUE, Settings, Value};
use model::{Command, Directory, ServerId};
use policy::suites::SuitesRefusal;
use serde::Deserialize;

/// Settings that say where passwords are checked: whether it can be asked there is no reason to refuse them, but is told.
const ELSEWHERE: [&str; 3] = ["users.authenticate", "users.ldap-", "users.pam-"];

/// Whose value is meant.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// The server whose value is meant; the group's when absent.
    on: Option<String>,
}

impl Whose {
    fn server(&self, directory: &Directory) -> Result<Option<ServerId>, Problem> {
        self.on
            .as_deref()
            .map(|name| show::server_named(directory, name).map(|server| server.id))
            .transpose()
    }
}

/// Lists every setting with the value in force.
#[utoipa::path(get, path = "/v1/settings", tag = "settings", params(Whose), responses((status = 200, body = Vec<Setting>)))]
pub(super) async fn list(
    State(node): State<Node>,
    Asked(whose): Asked<Whose>,
) -> Result<Json<Vec<Setting>>, Problem> {
    let directory = node.directory();
    let on = whose.server(&directory)?;
    Ok(Json(
        CATALOGUE
            .iter()
            .map(|setting| show::setting(&directory, setting, on))
            .collect(),
    ))
}

/// Shows a setting.
#[utoipa::path(get, path = "/v1/settings/{key}", tag = "settings", params(("key" = String, Path, description = "Its key"), Whose),
    responses((status = 200, body = Setting), (status = 404, body = Problem)))]
pub(super) async fn show(
    State(node): State<Node>,
    Named(key): Named<String>,
    Asked(whose): Asked<Whose>,
) -> Result<Json<Setting>, Problem> {
    let directory = node.directory();
    shown(&directory, &key, whose.server(&directory)?)
}

fn shown(directory: &Directory, key: &str, on: Option<ServerId>) -> Result<Json<Setting>, Problem> {
    Ok(Json(show::setting(directory, Settings::describe(key)?, on)))
}

/// Sets a setting, for the group or one server.
#[utoipa::path(put, path = "/v1/settings/{key}", tag = "settings", params(("key" = String, Path, description = "Its key"), Whose),
    request_body = SettingValue,
    responses((status = 200, body = Setting), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn set(
    State(node): State<Node>,
    caller: Caller,
    Named(key): Named<String>,
    Asked(whose): Asked<Whose>,
    Body(value): Body<SettingValue>,
) -> Result<Json<Setting>, Problem> {
    let on = whose.server(&node.directory())?;
    // Refused here too, so that a slip needs no primary to be told.
    let (_, read) = Settings::parse(&key, &value.value)?;
    if let (suites::KEY, Value::List(wanted)) = (key.as_str(), &read) {
        check_suites(&node, wanted)?;
    }
    caller
        .change(
            &node,
            Command::SetSetting {
                key: key.clone(),
                value: value.value,
                on,
            },
        )
        .await?;
    let Json(mut setting) = shown(&node.directory(), &key, on)?;
    if ELSEWHERE.iter().any(|prefix| key.starts_with(prefix)) {
        setting.warning = node.look_elsewhere().await;
    }
    Ok(Json(setting))
}

/// Whether no member would be shut out by these cipher suites.
pub(super) fn check_suites(node: &Node, wanted: &[String]) -> Result<(), Problem> {
    node.check_suites(wanted).map_err(|refusal| {
        let remedy = match refusal {
            SuitesRefusal::Unsupported { .. } => {
                "leave that one out, or bring its program up to date"
            }
            SuitesRefusal::Away { .. } => "bring it back, or remove it from the group, first",
            SuitesRefusal::Unconfirmed { .. } => "try again in a moment",
            SuitesRefusal::Apart { .. } => "add the new ones first; then take the old ones away",
        };
        Problem::refused(refusal.to_string()).remedy(remedy)
    })
}

/// Takes a setting back to its default, or a server's own value away.
#[utoipa::path(delete, path = "/v1/settings/{key}", tag = "settings", params(("key" = String, Path, description = "Its key"), Whose),
    responses((status = 200, body = Setting), (status = 404, body = Problem)))]
pub(super) async fn unset(
    State(node): State<Node>,
    caller: Caller,
    Named(key): Named<String>,
    Asked(whose): Asked<Whose>,
) -> Result<Json<Setting>, Problem> {
    let on = whose.server(&node.directory())?;
    Settings::describe(&key)?;
    if key == suites::KEY {
        check_suites(&node, Settings::default().cipher_suites())?;
    }
    caller
        .change(
            &node,
            Command::UnsetSetting {
                key: key.clone(),
                on,
            },
        )
        .await?;
    shown(&node.directory(), &key, on)
}
