//! `/v1/explain`: why the group decided as it did, or would.

use super::bodies::{ExplainedCandidate, Explanation, rfc3339};
use super::extract::Asked;
use super::problem::Problem;
use super::show::{reason, server_named};
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use model::settings::value::nearest;
use model::{AppName, UserName};
use serde::Deserialize;

/// What is to be explained; the last decision about the primary when nothing is said.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct What {
    /// Why this server is not primary now.
    why_not: Option<String>,
    /// Where a new session would be placed now.
    placement: bool,
    /// The application of that session.
    #[param(value_type = Option<String>)]
    app: Option<AppName>,
    /// Whose session.
    #[param(value_type = Option<String>)]
    user: Option<UserName>,
}

/// Explains a decision.
#[utoipa::path(get, path = "/v1/explain", tag = "status", params(What),
    responses((status = 200, body = Explanation), (status = 404, body = Problem)))]
pub(super) async fn explain(
    State(node): State<Node>,
    Asked(what): Asked<What>,
) -> Result<Json<Explanation>, Problem> {
    let explanation = match (&what.why_not, what.placement) {
        (Some(_), true) => {
            return Err(Problem::invalid(
                "why_not and placement cannot be asked at once",
            ));
        }
        (Some(name), false) => {
            let server = server_named(&node.directory(), name)?.id;
            node.why_not(server)
        }
        (None, true) => {
            known_app(&node, what.app.as_ref())?;
            node.placement(what.app.as_ref(), what.user.as_ref())
        }
        (None, false) => node.explain(),
    };
    Ok(Json(Explanation {
        decision: explanation.decision,
        at: rfc3339(explanation.at),
        candidates: explanation
            .candidates
            .into_iter()
            .map(|candidate| ExplainedCandidate {
                name: candidate.name,
                eligible: candidate.eligible,
                reasons: candidate.reasons.iter().map(reason).collect(),
            })
            .collect(),
    }))
}

fn known_app(node: &Node, app: Option<&AppName>) -> Result<(), Problem> {
    let directory = node.directory();
    match app {
        Some(name) if directory.app(name).is_none() => {
            let near = nearest(name.as_str(), directory.apps().map(|app| app.name.as_str()));
            Err(Problem::not_found("application", name.as_str(), near))
        }
        _ => Ok(()),
    }
}
