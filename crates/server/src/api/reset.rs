//! `/v1/group/reset`: this server forgets the group. It can be planned first (`?dry_run=true`).

use super::bodies::{GroupReset, ResetRequest};
use super::caller::Caller;
use super::extract::{Asked, MaybeBody};
use super::group::{DryRun, shown};
use super::problem::Problem;
use super::servers::checked_reason;
use crate::node::Node;
use crate::reset::ResetError;
use crate::submit::SubmitError;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use peer::InFull;

/// Makes the server that is asked forget the group: it becomes a group of its own and starts anew. Needs no primary.
#[utoipa::path(post, path = "/v1/group/reset", tag = "group", params(DryRun), request_body = Option<ResetRequest>,
    responses((status = 200, body = GroupReset, description = "Done: this server closes its connections and starts anew; with dry_run the plan instead"), (status = 409, body = Problem), (status = 500, body = Problem)))]
pub(super) async fn reset(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    MaybeBody(request): MaybeBody<ResetRequest>,
) -> Result<Response, Problem> {
    if asked.dry_run {
        return Ok(Json(shown(node.reset_plan())).into_response());
    }
    let reason = checked_reason(request.reason)?;
    let done = node.reset(caller.words(&node), reason).await?;
    let answer = GroupReset {
        name: node.name().to_string(),
        group: done.group_name.to_string(),
        group_id: done.group.to_string(),
        ca_fingerprint: done.ca_fingerprint,
        servers_forgotten: done.forgotten,
        sessions_kept: u64::try_from(done.sessions).unwrap_or(u64::MAX),
    };
    Ok(Json(answer).into_response())
}

impl From<ResetError> for Problem {
    fn from(error: ResetError) -> Self {
        let decision = error.to_string();
        match error {
            ResetError::Refused { .. } | ResetError::UnderWay => SubmitError::Unfit {
                decision,
                candidates: Vec::new(),
            }
            .into(),
            failed => Self::internal(InFull(&failed).to_string()),
        }
    }
}
