//! `/v1/group`: the group's shape. What would change it can be planned first (`?dry_run=true`).

use super::bodies::{
    Invitation, InvitationRequest, Member, Plan, PlanCheck, PlannedSession, Promotion,
    PromotionRequest, rfc3339,
};
use super::caller::Caller;
use super::extract::{Asked, Body, MaybeBody, Named};
use super::problem::Problem;
use super::servers::checked_reason;
use super::show::{Moment, by_name, server_named, standing};
use crate::node::{Consistency, Node};
use crate::office::Promotion as Wish;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use model::settings::value::nearest;
use model::{Command, EventKind, ResilienceMode, ServerId, ServerName, Standing};
use serde::Deserialize;

/// Whether it is done or only planned.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct DryRun {
    /// Only say what would happen.
    pub(super) dry_run: bool,
}

/// How a server is removed.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Removal {
    /// Only say what would happen.
    pub(super) dry_run: bool,
    /// Why, in words; kept in the history.
    pub(super) reason: Option<String>,
    /// What the group is to be where two voters are left: `availability` or `quorum`.
    pub(super) mode: Option<String>,
}

/// Lists the members.
#[utoipa::path(get, path = "/v1/group/members", tag = "group", responses((status = 200, body = Vec<Member>)))]
pub(super) async fn members(State(node): State<Node>) -> Json<Vec<Member>> {
    let moment = Moment::new(&node);
    Json(
        by_name(&moment.directory)
            .into_iter()
            .map(|server| moment.member(server))
            .collect(),
    )
}

/// Makes an invitation; its code is shown once.
#[utoipa::path(post, path = "/v1/group/invitations", tag = "group", request_body = InvitationRequest,
    responses((status = 201, body = Invitation), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn invite(
    State(node): State<Node>,
    caller: Caller,
    MaybeBody(request): MaybeBody<InvitationRequest>,
) -> Result<Response, Problem> {
    let asked = request
        .standing
        .as_deref()
        .map_or(Ok(Standing::Voter), read_standing)?;
    let code = node.invite(asked, caller.author).await?;
    let invitation = Invitation {
        code: code.to_string(),
        expires: rfc3339(code.expires),
        standing: standing(code.standing).to_owned(),
    };
    Ok((StatusCode::CREATED, Json(invitation)).into_response())
}

pub(super) fn read_standing(word: &str) -> Result<Standing, Problem> {
    let all = [Standing::Voter, Standing::NonVoter, Standing::Witness];
    all.into_iter()
        .find(|candidate| standing(*candidate) == word)
        .ok_or_else(|| {
            let problem = Problem::invalid(format!(
                "{word:?} does not fit standing, which is voter, non-voter or witness"
            ));
            match nearest(word, all.map(standing)) {
                Some(near) => problem.remedy(format!("the nearest is {near}")),
                None => problem,
            }
        })
}

/// Makes a server the primary, as planned.
#[utoipa::path(post, path = "/v1/group/promote", tag = "group", params(DryRun), request_body = PromotionRequest,
    responses((status = 200, body = Promotion, description = "Done; with dry_run the plan instead"), (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn promote(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<PromotionRequest>,
) -> Result<Response, Problem> {
    let server = id_of(&node, &request.server).await?;
    let plan = node.promotion_plan(server, request.temporary);
    if asked.dry_run {
        return Ok(Json(shown(plan)).into_response());
    }
    let reason = checked_reason(request.reason)?;
    let before = Moment::new(&node).primary;
    node.promote(Wish {
        server,
        author: caller.author,
        reason,
        temporary: request.temporary,
    })
    .await?;
    let directory = node.directory();
    let promotion = Promotion {
        from: before
            .filter(|before| *before != server)
            .map(|before| directory.name_of(before)),
        to: directory.name_of(server),
        outage_ms: if before == Some(server) {
            None
        } else {
            measured_outage(&node, server)
        },
    };
    Ok(Json(promotion).into_response())
}

/// How long changes waited at the newest switchover to a server, as it said itself.
fn measured_outage(node: &Node, server: ServerId) -> Option<u64> {
    let directory = node.directory();
    let name = directory.name_of(server);
    let newest = directory
        .events_back()
        .find(|event| event.kind == EventKind::Switchover)?;
    (newest.fields.get("to")? == name).then_some(())?;
    newest.fields.get("outage_ms")?.parse().ok()
}

/// Removes a server from the group.
#[utoipa::path(delete, path = "/v1/group/members/{name}", tag = "group",
    params(("name" = String, Path, description = "Which server"), Removal),
    responses((status = 204, description = "Done"), (status = 200, body = Plan, description = "With dry_run"), (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn remove(
    State(node): State<Node>,
    caller: Caller,
    Named(name): Named<ServerName>,
    Asked(removal): Asked<Removal>,
) -> Result<Response, Problem> {
    let server = id_of(&node, name.as_str()).await?;
    let mode = removal.mode.as_deref().map(read_mode).transpose()?;
    let plan = node.removal_plan(server, mode);
    if removal.dry_run {
        return Ok(Json(shown(plan)).into_response());
    }
    let reason = checked_reason(removal.reason)?;
    if let Some(mode) = mode.filter(|_| plan.is_possible()) {
        let chosen = Command::SetSetting {
            key: "resilience.mode".to_owned(),
            value: mode.as_str().to_owned(),
            on: None,
        };
        caller.change(&node, chosen).await?;
    }
    node.remove_server(server, caller.author, reason).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn read_mode(word: &str) -> Result<ResilienceMode, Problem> {
    let all = [ResilienceMode::Availability, ResilienceMode::Quorum];
    all.into_iter()
        .find(|mode| mode.as_str() == word)
        .ok_or_else(|| {
            Problem::invalid(format!(
                "{word:?} does not fit mode, which is availability or quorum"
            ))
        })
}

/// The server of that name, also where another server was told of it before this one.
pub(super) async fn id_of(node: &Node, name: &str) -> Result<ServerId, Problem> {
    if let Ok(server) = server_named(&node.directory(), name) {
        return Ok(server.id);
    }
    // Without a primary nothing new was acknowledged anywhere, and what is here decides.
    if let Err(error) = node.catch_up(Consistency::Linearizable).await {
        tracing::debug!(%error, "the newest directory was not asked for");
    }
    Ok(server_named(&node.directory(), name)?.id)
}

/// A plan as the API shows it.
pub(super) fn shown(plan: policy::Plan) -> Plan {
    let sessions = |affected: &policy::plan::Affected| -> Vec<PlannedSession> {
        let named = affected.sessions.iter().map(|session| PlannedSession {
            id: session.id.clone(),
            token: session.token.clone(),
            user: session.user.clone(),
            app: session.app.clone(),
            state: session.state.clone(),
        });
        named.collect()
    };
    let check = |reason: model::Reason| PlanCheck {
        rule: reason.rule,
        pass: reason.pass,
        detail: reason.detail,
    };
    Plan {
        allowed: plan.is_possible(),
        sessions_kept: plan.impact.kept,
        sessions_moved: plan.impact.moved.count,
        sessions_lost: plan.impact.lost.count,
        moved: sessions(&plan.impact.moved),
        lost: sessions(&plan.impact.lost),
        what: plan.what,
        steps: plan.steps,
        checks: plan.checks.into_iter().map(check).collect(),
        refusals: plan.refusals,
        outage_ms: plan.expected_outage_ms,
        can_lose: plan.losses_after.can_lose,
        afterwards: plan.losses_after.sentence,
        warnings: plan.losses_after.warnings,
    }
}
