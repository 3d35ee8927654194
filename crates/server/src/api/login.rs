//! `/v1/login`: a password for a bearer token.

use super::bodies::{Login, LoginRequest, rfc3339};
use super::caller::Origin;
use super::extract::Body;
use super::problem::Problem;
use crate::node::Node;
use axum::Json;
use axum::extract::State;
use model::Role;
use wire::client::Hidden;

/// Logs an account in.
#[utoipa::path(post, path = "/v1/login", tag = "login", request_body = LoginRequest, security(()),
    responses((status = 200, body = Login), (status = 401, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn login(
    State(node): State<Node>,
    origin: Origin,
    Body(request): Body<LoginRequest>,
) -> Result<Json<Login>, Problem> {
    let password = Hidden(request.password.0.clone());
    let login = node
        .login(&request.user, &password, origin.address())
        .await?;
    Ok(Json(Login {
        user: login.user.to_string(),
        role: word(login.role),
        token: login.token.0,
        expires: rfc3339(login.expires),
    }))
}

fn word(role: Role) -> String {
    role.as_str().to_owned()
}
