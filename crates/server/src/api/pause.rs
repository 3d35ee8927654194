//! `/v1/group/pause`: automatic failover stopped for maintenance, and let go on. Both can be planned first
//! (`?dry_run=true`).

use super::bodies::{GroupPause, PauseRequest};
use super::caller::Caller;
use super::extract::{Asked, Body};
use super::group::{DryRun, shown};
use super::problem::Problem;
use super::servers::checked_reason;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use model::settings::value::duration_text;
use model::{Command, Pause, PauseChange};
use serde::Deserialize;
use std::time::Duration;

/// How a pause ends.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Resumption {
    /// Only say what would happen.
    dry_run: bool,
    /// Why, in words; kept in the history.
    reason: Option<String>,
}

/// Pauses automatic failover, in place of the pause that there may be.
#[utoipa::path(post, path = "/v1/group/pause", tag = "group", params(DryRun), request_body = PauseRequest,
    responses((status = 200, body = GroupPause, description = "Done; with dry_run the plan instead"), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn pause(
    State(node): State<Node>,
    caller: Caller,
    Asked(asked): Asked<DryRun>,
    Body(request): Body<PauseRequest>,
) -> Result<Response, Problem> {
    let reason = checked_reason(Some(request.reason))?.ok_or_else(|| {
        Problem::invalid("a pause has a reason").remedy("say why: it is shown to everybody")
    })?;
    let span = checked_span(request.for_s.map(Duration::from_secs))?;
    if asked.dry_run {
        let plan = node.with_view(|view| policy::pause::pause(view, view.calendar.after(span)));
        return Ok(Json(shown(plan)).into_response());
    }
    let span_ms = millis(span);
    let change = PauseChange::Begin { reason, span_ms };
    caller
        .change(&node, Command::ChangePause { change })
        .await?;
    let directory = node.directory();
    let begun = directory.group().pause.as_ref();
    Ok(Json(GroupPause::of(begun.is_some(), begun)).into_response())
}

/// Ends the pause of automatic failover at once.
#[utoipa::path(delete, path = "/v1/group/pause", tag = "group", params(Resumption),
    responses((status = 200, body = GroupPause, description = "Done, with the pause that ended; with dry_run the plan instead"), (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn resume(
    State(node): State<Node>,
    caller: Caller,
    Asked(resumption): Asked<Resumption>,
) -> Result<Response, Problem> {
    let reason = checked_reason(resumption.reason)?;
    if resumption.dry_run {
        let plan = node.with_view(policy::pause::resume);
        return Ok(Json(shown(plan)).into_response());
    }
    let before = node.directory().group().pause.clone();
    let change = PauseChange::End { reason };
    caller
        .change(&node, Command::ChangePause { change })
        .await?;
    Ok(Json(GroupPause::of(false, before.as_ref())).into_response())
}

/// How long a pause is to be, if it may be that long.
fn checked_span(asked: Option<Duration>) -> Result<Duration, Problem> {
    let span = asked.unwrap_or(Pause::SPAN_DEFAULT);
    let (least, most) = (*Pause::SPAN_RANGE.start(), *Pause::SPAN_RANGE.end());
    let near = span.clamp(least, most);
    if span == near {
        return Ok(span);
    }
    let text = |span| duration_text(millis(span));
    let (asked, least, most) = (text(span), text(least), text(most));
    let detail = format!("a pause of {asked} does not fit: it lasts from {least} to {most}");
    Err(Problem::invalid(detail).remedy(format!("the nearest is {}", text(near))))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_do_not_fit_name_the_nearest() {
        let seconds = |count| checked_span(Some(Duration::from_secs(count)));
        assert_eq!(checked_span(None).unwrap(), Duration::from_secs(3_600));
        for fits in [60, 7_200, 604_800] {
            assert_eq!(seconds(fits).unwrap(), Duration::from_secs(fits));
        }
        let short = seconds(59).unwrap_err();
        assert_eq!(
            short.detail,
            "a pause of 59s does not fit: it lasts from 1m to 7d"
        );
        assert_eq!(
            (short.remedy.as_deref(), short.exit),
            (Some("the nearest is 1m"), 4)
        );
        for long in [604_801, u64::MAX] {
            let remedy = seconds(long).unwrap_err().remedy;
            assert_eq!(remedy.as_deref(), Some("the nearest is 7d"));
        }
    }
}
