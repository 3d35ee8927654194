//! `/healthy`, `/ready`, `/primary`, `/secondary`: for load balancers and supervisors; 200 or 503 and one word of why.

use crate::node::Node;
use axum::extract::State;
use axum::http::StatusCode;
use std::time::Duration;

/// A server that has not heard from the primary for so long serves reads that are too old to be relied on.
const READY_AGE: Duration = Duration::from_secs(30);

type Answer = (StatusCode, &'static str);

fn yes_or_no(yes: bool, words: (&'static str, &'static str)) -> Answer {
    if yes {
        (StatusCode::OK, words.0)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, words.1)
    }
}

/// Whether the server answers at all.
#[utoipa::path(get, path = "/healthy", tag = "health", security(()), responses((status = 200, body = String)))]
pub(super) async fn healthy() -> Answer {
    (StatusCode::OK, "healthy\n")
}

/// Whether the server knows the group's state as of now, and can serve logins and sessions.
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses((status = 200, body = String), (status = 503, body = String)))]
pub(super) async fn ready(State(node): State<Node>) -> Answer {
    let fresh = node.age_ms() <= u64::try_from(READY_AGE.as_millis()).unwrap_or(u64::MAX);
    yes_or_no(fresh, ("ready\n", "not in touch with the group\n"))
}

/// Whether the server acts as primary now.
#[utoipa::path(get, path = "/primary", tag = "health", security(()), responses((status = 200, body = String), (status = 503, body = String)))]
pub(super) async fn primary(State(node): State<Node>) -> Answer {
    yes_or_no(node.acting(), ("primary\n", "not primary\n"))
}

/// Whether the server is a secondary that is in touch with a primary.
#[utoipa::path(get, path = "/secondary", tag = "health", security(()), responses((status = 200, body = String), (status = 503, body = String)))]
pub(super) async fn secondary(State(node): State<Node>) -> Answer {
    let follows = !node.acting() && node.leader().is_some_and(|leader| leader != node.me());
    yes_or_no(
        follows,
        ("secondary\n", "not a secondary in touch with a primary\n"),
    )
}
