//! Every route: method, address, who may use it, and its handler. What is not here does not exist.
//!
//! Always true: a route cannot be made without saying who may use it, and the OpenAPI document has the same routes (see
//! the tests).

use super::guard::{Gate, Need, guard};
use super::{
    apps, events, explain, group, health, login, metrics, openapi, servers, sessions, settings,
    status, trust, users,
};
use crate::node::Node;
use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use model::Role;

/// One route.
pub(crate) struct Route {
    /// Its method.
    pub(crate) method: Method,
    /// Its address.
    pub(crate) path: &'static str,
    /// Who may use it.
    pub(crate) need: Need,
    handler: MethodRouter<Node>,
}

fn route(method: Method, path: &'static str, need: Need, handler: MethodRouter<Node>) -> Route {
    Route {
        method,
        path,
        need,
        handler,
    }
}

/// Every route there is.
pub(crate) fn routes() -> Vec<Route> {
    let (nobody, user) = (Need::Nothing, Need::Role(Role::User));
    let (viewer, operator, admin) = (
        Need::Role(Role::Viewer),
        Need::Role(Role::Operator),
        Need::Role(Role::Admin),
    );
    vec![
        route(Method::GET, "/healthy", nobody, get(health::healthy)),
        route(Method::GET, "/ready", nobody, get(health::ready)),
        route(Method::GET, "/primary", nobody, get(health::primary)),
        route(Method::GET, "/secondary", nobody, get(health::secondary)),
        route(Method::POST, "/v1/login", nobody, post(login::login)),
        route(
            Method::GET,
            "/v1/openapi.json",
            nobody,
            get(openapi::document),
        ),
        route(Method::GET, "/metrics", viewer, get(metrics::metrics)),
        route(Method::GET, "/v1/status", viewer, get(status::status)),
        route(Method::GET, "/v1/explain", viewer, get(explain::explain)),
        route(Method::GET, "/v1/servers", viewer, get(servers::list)),
        route(
            Method::GET,
            "/v1/servers/{name}",
            viewer,
            get(servers::show),
        ),
        route(
            Method::POST,
            "/v1/servers/{name}/online",
            operator,
            post(servers::online),
        ),
        route(
            Method::POST,
            "/v1/servers/{name}/offline",
            operator,
            post(servers::offline),
        ),
        route(Method::GET, "/v1/settings", viewer, get(settings::list)),
        route(
            Method::GET,
            "/v1/settings/{key}",
            viewer,
            get(settings::show),
        ),
        route(Method::PUT, "/v1/settings/{key}", admin, put(settings::set)),
        route(
            Method::DELETE,
            "/v1/settings/{key}",
            admin,
            delete(settings::unset),
        ),
        route(Method::GET, "/v1/users", viewer, get(users::list)),
        route(Method::GET, "/v1/users/{name}", viewer, get(users::show)),
        route(Method::PUT, "/v1/users/{name}", admin, put(users::add)),
        route(
            Method::PATCH,
            "/v1/users/{name}",
            admin,
            patch(users::change),
        ),
        route(
            Method::DELETE,
            "/v1/users/{name}",
            admin,
            delete(users::remove),
        ),
        // One's own, or as administrator anybody's: the handler looks at whose it is.
        route(
            Method::PUT,
            "/v1/users/{name}/password",
            user,
            put(users::set_password),
        ),
        route(Method::GET, "/v1/apps", viewer, get(apps::list)),
        route(Method::GET, "/v1/apps/{name}", viewer, get(apps::show)),
        route(Method::PUT, "/v1/apps/{name}", admin, put(apps::add)),
        route(Method::PATCH, "/v1/apps/{name}", admin, patch(apps::change)),
        route(
            Method::DELETE,
            "/v1/apps/{name}",
            admin,
            delete(apps::remove),
        ),
        route(Method::GET, "/v1/sessions", viewer, get(sessions::list)),
        route(
            Method::GET,
            "/v1/sessions/{id}",
            viewer,
            get(sessions::show),
        ),
        route(
            Method::DELETE,
            "/v1/sessions/{id}",
            operator,
            delete(sessions::end),
        ),
        route(Method::GET, "/v1/events", viewer, get(events::list)),
        route(Method::GET, "/v1/events/kinds", viewer, get(events::kinds)),
        route(
            Method::GET,
            "/v1/group/members",
            viewer,
            get(group::members),
        ),
        route(
            Method::DELETE,
            "/v1/group/members/{name}",
            admin,
            delete(group::remove),
        ),
        route(
            Method::POST,
            "/v1/group/invitations",
            admin,
            post(group::invite),
        ),
        route(
            Method::POST,
            "/v1/group/promote",
            operator,
            post(group::promote),
        ),
        route(Method::GET, "/v1/trust", viewer, get(trust::show)),
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
            if route.method == Method::GET && !expected_open {
                assert_eq!(route.need, Need::Role(Role::Viewer), "{}", route.path);
            }
            if route.method != Method::GET && !expected_open && !route.path.ends_with("/password") {
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
