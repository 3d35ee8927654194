//! `/v1/group/recover`: a group that cannot go on by itself. It can be planned first (`?dry_run=true`).

use super::bodies::{Recovered, RecoveryRequest};
use super::caller::Caller;
use super::extract::{Asked, MaybeBody};
use super::group::{DryRun, shown};
use super::problem::Problem;
use super::servers::checked_reason;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

/// Makes a formation of the servers that answer, or lets one of several stand.
#[utoipa::path(post, path = "/v1/group/recover", tag = "group", params(DryRun), request_body = RecoveryRequest,
    responses((status = 200, body = Recovered, description = "Done; with dry_run the plan instead"), (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn recover(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    MaybeBody(request): MaybeBody<RecoveryRequest>,
) -> Result<Response, Problem> {
    let reason = checked_reason(request.reason)?;
    let (plan, recovery) = node.recovery_plan(request.formation.as_deref()).await;
    if asked.dry_run {
        return Ok(Json(shown(plan)).into_response());
    }
    let (formation, primary) = node.recover(&plan, recovery, caller.author, reason).await?;
    let recovered = Recovered {
        number: formation.number,
        id: formation.id.to_string(),
        primary: node.directory().name_of(primary),
    };
    Ok(Json(recovered).into_response())
}
