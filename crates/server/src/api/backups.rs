//! `/v1/group/backups`: who may become primary, highest first. What would change the list can be planned first (`?dry_run=true`).

use super::bodies::{Backup, BackupAddition, BackupMove};
use super::caller::Caller;
use super::extract::{Asked, Body, Named};
use super::group::{DryRun, Removal, id_of, shown};
use super::problem::Problem;
use super::servers::checked_reason;
use super::show::Moment;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use model::{BackupEdit, Command, ServerName};

/// Lists the backup primaries, highest first; the first is the original primary.
#[utoipa::path(get, path = "/v1/group/backups", tag = "group", responses((status = 200, body = Vec<Backup>)))]
pub(super) async fn list(State(node): State<Node>) -> Json<Vec<Backup>> {
    Json(listed(&node))
}

/// Puts a server on the list.
#[utoipa::path(post, path = "/v1/group/backups", tag = "group", params(DryRun), request_body = BackupAddition,
    responses((status = 200, body = Vec<Backup>, description = "Done; with dry_run the plan instead"), (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn add(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<BackupAddition>,
) -> Result<Response, Problem> {
    let server = id_of(&node, &request.server).await?;
    let place = request.place.map(checked_place).transpose()?;
    let edit = BackupEdit::Add { server, place };
    change(&node, &caller, edit, request.reason, asked.dry_run).await
}

/// Gives a server of the list another place.
#[utoipa::path(put, path = "/v1/group/backups/{name}", tag = "group",
    params(("name" = String, Path, description = "Which server"), DryRun), request_body = BackupMove,
    responses((status = 200, body = Vec<Backup>, description = "Done; with dry_run the plan instead"), (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn place(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<BackupMove>,
) -> Result<Response, Problem> {
    let server = id_of(&node, name.as_str()).await?;
    let place = checked_place(request.place)?;
    let edit = BackupEdit::Move { server, place };
    change(&node, &caller, edit, request.reason, asked.dry_run).await
}

/// Takes a server off the list.
#[utoipa::path(delete, path = "/v1/group/backups/{name}", tag = "group",
    params(("name" = String, Path, description = "Which server"), Removal),
    responses((status = 200, body = Vec<Backup>, description = "Done; with dry_run the plan instead"), (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    Asked(removal): Asked<Removal>,
) -> Result<Response, Problem> {
    let server = id_of(&node, name.as_str()).await?;
    let edit = BackupEdit::Remove { server };
    change(&node, &caller, edit, removal.reason, removal.dry_run).await
}

async fn change(
    node: &Node,
    caller: &Caller,
    edit: BackupEdit,
    reason: Option<String>,
    dry_run: bool,
) -> Result<Response, Problem> {
    if dry_run {
        return Ok(Json(shown(node.backups_plan(edit))).into_response());
    }
    let reason = checked_reason(reason)?;
    let command = Command::EditBackups { edit, reason };
    caller.change(node, command).await?;
    Ok(Json(listed(node)).into_response())
}

fn checked_place(place: u32) -> Result<u32, Problem> {
    match place {
        0 => Err(Problem::invalid("places are counted from 1").remedy("the nearest is 1")),
        place => Ok(place),
    }
}

fn listed(node: &Node) -> Vec<Backup> {
    let moment = Moment::new(node);
    let backups = (1..).zip(&moment.directory.group().backups);
    let shown = backups.filter_map(|(place, id)| {
        let server = moment.directory.server(*id)?;
        Some(Backup {
            name: server.name.to_string(),
            place,
            original: place == 1,
            primary: moment.primary == Some(server.id),
            reachable: moment.reaches(server.id),
            voter: server.voting,
        })
    });
    shown.collect()
}
