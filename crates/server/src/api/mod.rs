//! The HTTP API: what the command line, the console and programs use, and nothing else changes the group.
//!
//! Always true: who may do what is said once for each route ([`table`]) and checked once for each request ([`guard`]);
//! answers are JSON with stable names ([`bodies`]), errors are problem documents ([`problem`]); sizes and times of
//! requests are bounded. Start at [`table`].

mod adding;
mod advice;
mod api_tokens;
mod apps;
mod attention;
mod audit;
mod backup;
mod backups;
pub mod bodies;
mod caller;
mod certificates;
mod contents;
mod divergence;
mod events;
mod explain;
mod extract;
mod gateways;
mod group;
mod guard;
mod health;
pub mod hostile;
mod login;
mod metrics;
mod openapi;
mod pages;
mod pause;
pub mod problem;
mod profiles;
mod recovery;
mod reset;
mod retry;
mod secrets;
mod serve;
mod servers;
mod sessions;
mod settings;
mod show;
mod status;
mod table;
mod tokens;
mod trust;
mod users;

pub(crate) use caller::author_in_words;
pub(crate) use serve::all_answered;
pub use serve::{serve_connection, serve_local};

use crate::node::Node;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use problem::Problem;

/// All routes of the API for one server.
pub fn router(node: &Node) -> Router {
    table::guarded(node)
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(extract::BODY_LIMIT))
        .with_state(node.clone())
}

async fn no_route(uri: Uri) -> Response {
    Problem::no_route(uri.path()).into_response()
}

async fn no_method(method: Method) -> Response {
    Problem::no_method(method.as_str()).into_response()
}
