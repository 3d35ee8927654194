//! Every route: method, address, who may use it, and its handler. What is not here does not exist.
//!
//! Always true: a route cannot be made without saying who may use it, and the OpenAPI document has the same routes (see
//! the tests).

use super::guard::{Gate, Need, guard};
use super::{
    adding, advice, api_tokens, apps, audit, backup, backups, certificates, divergence, events,
    explain, gateways, group, health, login, metrics, openapi, pause, profiles, recovery, reset,
    secrets, servers, sessions, settings, status, tokens, trust, users,
};
use crate::node::Node;
use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use model::Role;

const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const POST: Method = Method::POST;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

const NOBODY: Need = Need::Nothing;
const USER: Need = Need::Role(Role::User);
const VIEWER: Need = Need::Role(Role::Viewer);
const OPERATOR: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

/// One route.
pub(crate) struct Route {
    /// Its address.
    pub(crate) path: &'static str,
    /// Its method.
    pub(crate) method: Method,
    /// Who may use it.
    pub(crate) need: Need,
    handler: MethodRouter<Node>,
}

fn to<H, T>(path: &'static str, method: Method, need: Need, handler: H) -> Route
where
    H: Handler<T, Node>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone())
        .expect("invariant: the table names methods of the standard");
    let handler = on(filter, handler);
    Route {
        path,
        method,
        need,
        handler,
    }
}

/// Every route there is.
pub(crate) fn routes() -> Vec<Route> {
    [about_servers(), of_records(), of_documents(), of_group()]
        .into_iter()
        .flatten()
        .collect()
}

/// How a server and the group are.
fn about_servers() -> Vec<Route> {
    vec![
        to("/healthy", GET, NOBODY, health::healthy),
        to("/ready", GET, NOBODY, health::ready),
        to("/primary", GET, NOBODY, health::primary),
        to("/secondary", GET, NOBODY, health::secondary),
        to("/v1/login", POST, NOBODY, login::login),
        to("/v1/openapi.json", GET, NOBODY, openapi::document),
        to("/metrics", GET, VIEWER, metrics::metrics),
        to("/v1/status", GET, VIEWER, status::status),
        to("/v1/explain", GET, VIEWER, explain::explain),
        to("/v1/events", GET, VIEWER, events::list),
        to("/v1/events/kinds", GET, VIEWER, events::kinds),
        to("/v1/audit", GET, VIEWER, audit::list),
        to("/v1/trust", GET, VIEWER, trust::show),
        to("/v1/trust/secret", POST, ADMIN, trust::rotate_secret),
        to("/v1/trust/seal", POST, ADMIN, trust::rotate_seal),
        to("/v1/trust/authority", POST, ADMIN, trust::rotate_authority),
        to("/v1/servers/{name}/revoke", POST, ADMIN, trust::revoke),
        to("/v1/trust/certificates", GET, VIEWER, certificates::list),
        to(
            "/v1/trust/certificates/{name}",
            GET,
            VIEWER,
            certificates::show,
        ),
        to(
            "/v1/trust/certificates/{name}",
            PUT,
            ADMIN,
            certificates::put,
        ),
        to(
            "/v1/trust/certificates/{name}",
            DELETE,
            ADMIN,
            certificates::remove,
        ),
    ]
}

/// Settings, accounts, applications, sessions.
fn of_records() -> Vec<Route> {
    vec![
        to("/v1/advice/resilience", GET, VIEWER, advice::of_resilience),
        to("/v1/settings", GET, VIEWER, settings::list),
        to("/v1/settings/{key}", GET, VIEWER, settings::show),
        to("/v1/settings/{key}", PUT, ADMIN, settings::set),
        to("/v1/settings/{key}", DELETE, ADMIN, settings::unset),
        to("/v1/users", GET, VIEWER, users::list),
        to("/v1/users/{name}", GET, VIEWER, users::show),
        to("/v1/users/{name}", PUT, ADMIN, users::add),
        to("/v1/users/{name}", PATCH, ADMIN, users::change),
        to("/v1/users/{name}", DELETE, ADMIN, users::remove),
        // One's own, or as administrator anybody's: the handler looks at whose it is.
        to("/v1/users/{name}/password", PUT, USER, users::set_password),
        to("/v1/users/{name}/api-tokens", GET, VIEWER, api_tokens::list),
        // The same: the handler looks at whose they are.
        to(
            "/v1/users/{name}/api-tokens/{token}",
            PUT,
            USER,
            api_tokens::add,
        ),
        to(
            "/v1/users/{name}/api-tokens/{token}",
            DELETE,
            USER,
            api_tokens::remove,
        ),
        to("/v1/tokens", GET, VIEWER, tokens::list),
        to("/v1/tokens/{name}", GET, VIEWER, tokens::show),
        to("/v1/tokens/{name}", PUT, ADMIN, tokens::add),
        to("/v1/tokens/{name}", PATCH, ADMIN, tokens::change),
        to("/v1/tokens/{name}", DELETE, ADMIN, tokens::remove),
        to("/v1/gateways", GET, VIEWER, gateways::list),
        to("/v1/gateways/{name}", GET, VIEWER, gateways::show),
        to("/v1/gateways/{name}", PUT, ADMIN, gateways::add),
        to("/v1/gateways/{name}", DELETE, ADMIN, gateways::remove),
        to("/v1/apps", GET, VIEWER, apps::list),
        to("/v1/apps/{name}", GET, VIEWER, apps::show),
        to("/v1/apps/{name}", PUT, ADMIN, apps::add),
        to("/v1/apps/{name}", PATCH, ADMIN, apps::change),
        to("/v1/apps/{name}", DELETE, ADMIN, apps::remove),
        to("/v1/sessions", GET, VIEWER, sessions::list),
        to("/v1/sessions", POST, OPERATOR, sessions::open),
        to("/v1/sessions/{id}", GET, VIEWER, sessions::show),
        to("/v1/sessions/{id}", DELETE, OPERATOR, sessions::end),
        to("/v1/sessions/{id}/select", POST, OPERATOR, sessions::select),
        to("/v1/sessions/{id}/move", POST, OPERATOR, sessions::move_to),
    ]
}

/// Profiles, preferences and stored secrets.
fn of_documents() -> Vec<Route> {
    vec![
        to("/v1/backup", POST, ADMIN, backup::make),
        to("/v1/profiles", GET, VIEWER, profiles::list),
        to("/v1/profiles/effective", GET, VIEWER, profiles::effective),
        to("/v1/profiles/{name}", GET, VIEWER, profiles::show),
        to("/v1/profiles/{name}", DELETE, ADMIN, profiles::remove),
        to("/v1/profiles/{name}/{key}", PUT, ADMIN, profiles::set),
        to("/v1/profiles/{name}/{key}", DELETE, ADMIN, profiles::unset),
        to("/v1/preferences", GET, VIEWER, profiles::list_preferences),
        // One's own, or with a role anybody's: the handlers look at whose they are.
        to(
            "/v1/preferences/{name}",
            GET,
            USER,
            profiles::show_preferences,
        ),
        to("/v1/preferences/{name}/{key}", PUT, USER, profiles::prefer),
        to(
            "/v1/preferences/{name}/{key}",
            DELETE,
            USER,
            profiles::forget,
        ),
        to("/v1/secrets", GET, VIEWER, secrets::list),
        to("/v1/secrets/{name}", GET, VIEWER, secrets::show),
        to("/v1/secrets/{name}", PUT, ADMIN, secrets::set),
        to("/v1/secrets/{name}", DELETE, ADMIN, secrets::remove),
    ]
}

/// Servers and the group's shape.
fn of_group() -> Vec<Route> {
    vec![
        to("/v1/servers", GET, VIEWER, servers::list),
        to("/v1/servers/{name}", GET, VIEWER, servers::show),
        to("/v1/servers/{name}", PATCH, ADMIN, servers::change),
        to("/v1/servers/{name}/online", POST, OPERATOR, servers::online),
        to(
            "/v1/servers/{name}/offline",
            POST,
            OPERATOR,
            servers::offline,
        ),
        to("/v1/group/members", GET, VIEWER, group::members),
        to("/v1/group/members", POST, ADMIN, adding::add),
        to("/v1/group/look", POST, ADMIN, adding::look),
        to("/v1/group/candidate", GET, VIEWER, adding::candidate),
        to("/v1/group/join", POST, ADMIN, adding::join),
        to("/v1/group/members/{name}", DELETE, ADMIN, group::remove),
        to("/v1/group/invitations", POST, ADMIN, group::invite),
        to("/v1/group/promote", POST, OPERATOR, group::promote),
        to("/v1/group/backups", GET, VIEWER, backups::list),
        to("/v1/group/backups", POST, ADMIN, backups::add),
        to("/v1/group/backups/{name}", PUT, ADMIN, backups::place),
        to("/v1/group/backups/{name}", DELETE, ADMIN, backups::remove),
        to("/v1/group/divergences", GET, VIEWER, divergence::list),
        to("/v1/group/divergences/{id}", GET, VIEWER, divergence::show),
        to(
            "/v1/group/divergences/{id}/records",
            GET,
            VIEWER,
            divergence::records,
        ),
        to(
            "/v1/group/divergences/{id}/apply",
            POST,
            ADMIN,
            divergence::apply,
        ),
        to(
            "/v1/group/divergences/{id}/discard",
            POST,
            ADMIN,
            divergence::discard,
        ),
        to("/v1/group/pause", POST, ADMIN, pause::pause),
        to("/v1/group/pause", DELETE, ADMIN, pause::resume),
        to("/v1/group/recover", POST, ADMIN, recovery::recover),
        to("/v1/group/reset", POST, ADMIN, reset::reset),
    ]
}

/// The routes, each behind its guard.
pub(crate) fn guarded(node: &Node) -> Router<Node> {
    routes().into_iter().fold(Router::new(), |router, route| {
        let gate = Gate {
            node: node.clone(),
            need: route.need,
        };
        router.route(
            route.path,
            route.handler.layer(from_fn_with_state(gate, guard)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_the_same_routes() {
        let document = serde_json::to_value(openapi::build()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let documented: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let served: BTreeSet<(String, String)> = routes()
            .iter()
            .map(|route| (route.path.to_owned(), route.method.to_string()))
            .collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn changes_need_a_role_and_reading_is_for_viewers() {
        for route in routes() {
            let open = [
                "/healthy",
                "/ready",
                "/primary",
                "/secondary",
                "/v1/login",
                "/v1/openapi.json",
            ];
            let expected_open = open.contains(&route.path);
            assert_eq!(
                route.need == Need::Nothing,
                expected_open,
                "{} {}",
                route.method,
                route.path
            );
            let preferences = route.path.starts_with("/v1/preferences/");
            if route.method == Method::GET && !expected_open && !preferences {
                assert_eq!(route.need, Need::Role(Role::Viewer), "{}", route.path);
            }
            // One's own password, tokens and preferences: the handlers look at whose they are.
            let login = route.path.ends_with("/password") || route.path.contains("/api-tokens/");
            let own = login || preferences;
            if own {
                assert_eq!(route.need, Need::Role(Role::User), "{}", route.path);
            } else if route.method != Method::GET && !expected_open {
                let changes = matches!(route.need, Need::Role(Role::Operator | Role::Admin));
                assert!(
                    changes,
                    "{} {} can be used with {:?}",
                    route.method, route.path, route.need
                );
            }
        }
    }

    #[test]
    fn the_document_says_what_needs_a_login() {
        let document = serde_json::to_value(openapi::build()).unwrap();
        for route in routes() {
            let operation = &document["paths"][route.path][route.method.as_str().to_lowercase()];
            assert_eq!(operation["x-stead-role"], route.need.word());
            let open = operation["security"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one.as_object().unwrap().is_empty()));
            assert_eq!(
                open,
                route.need == Need::Nothing,
                "{} {}",
                route.method,
                route.path
            );
        }
    }
}
