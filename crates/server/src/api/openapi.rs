//! `/v1/openapi.json`: the description of the API, made from the code. Each operation says the least role that may use it.

use super::table::routes;
use super::{
    adding, advice, api_tokens, apps, audit, backup, backups, bodies, certificates, divergence,
    events, explain, gateways, group, health, login, metrics, pause, problem, profiles, recovery,
    reset, secrets, servers, sessions, settings, status, tokens, trust, users,
};
use axum::Json;
use axum::http::Method;
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// The field of an operation that says the least role: `nobody`, `user`, `viewer`, `operator` or `admin`.
const ROLE: &str = "x-stead-role";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Stead",
        description = "Administers a group of servers. Any server answers; changes go to the primary by themselves. \
            Answers name the newest change that they contain (Stead-Change) and how old they may be (Stead-Age-Ms); a request \
            with Stead-Change is answered once the server has that change, one with ?consistency=linearizable with everything \
            that was acknowledged before it. Changes take an Idempotency-Key: the same key is done once. Errors are problem \
            documents (RFC 9457)."
    ),
    paths(
        health::healthy, health::ready, health::primary, health::secondary, metrics::metrics,
        login::login, document, status::status, explain::explain,
        servers::list, servers::show, servers::change, servers::online, servers::offline,
        advice::of_resilience,
        settings::list, settings::show, settings::set, settings::unset,
        users::list, users::show, users::add, users::change, users::remove, users::set_password,
        api_tokens::list, api_tokens::add, api_tokens::remove,
        tokens::list, tokens::show, tokens::add, tokens::change, tokens::remove,
        gateways::list, gateways::show, gateways::add, gateways::remove,
        backup::make,
        profiles::list, profiles::effective, profiles::show, profiles::remove, profiles::set, profiles::unset,
        profiles::list_preferences, profiles::show_preferences, profiles::prefer, profiles::forget,
        secrets::list, secrets::show, secrets::set, secrets::remove,
        apps::list, apps::show, apps::add, apps::change, apps::remove,
        sessions::list, sessions::open, sessions::show, sessions::end, sessions::select, sessions::move_to,
        events::list, events::kinds, audit::list,
        adding::look, adding::add, adding::candidate, adding::join,
        group::members, group::remove, group::invite, group::promote,
        backups::list, backups::add, backups::place, backups::remove,
        divergence::list, divergence::show, divergence::records, divergence::apply, divergence::discard,
        pause::pause, pause::resume, recovery::recover, reset::reset,
        trust::show, trust::rotate_secret, trust::rotate_seal, trust::rotate_authority, trust::revoke,
        certificates::list, certificates::show, certificates::put, certificates::remove
    ),
    components(schemas(problem::Problem, bodies::Plan)),
    modifiers(&Bearer)
)]
struct Api;

/// Says that everything needs a bearer token but what says otherwise.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("From /v1/login."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
        document.security = Some(vec![SecurityRequirement::new(
            "bearer",
            Vec::<String>::new(),
        )]);
    }
}

/// The description of the API.
pub(crate) fn build() -> Document {
    let mut document = Api::openapi();
    crate::found::VERSION.clone_into(&mut document.info.version);
    for route in routes() {
        let item = document.paths.paths.get_mut(route.path);
        let operation = item.and_then(|item| operation_of(item, &route.method));
        if let Some(operation) = operation {
            let role = Extensions::builder().add(ROLE, route.need.word()).build();
            operation.extensions.get_or_insert_default().merge(role);
        }
    }
    document
}

fn operation_of<'a>(item: &'a mut PathItem, method: &Method) -> Option<&'a mut Operation> {
    let operation = match *method {
        Method::GET => &mut item.get,
        Method::PUT => &mut item.put,
        Method::POST => &mut item.post,
        Method::PATCH => &mut item.patch,
        Method::DELETE => &mut item.delete,
        _ => return None,
    };
    operation.as_mut()
}

/// Describes this API (OpenAPI).
#[utoipa::path(get, path = "/v1/openapi.json", tag = "status", security(()), responses((status = 200, description = "This document")))]
pub(super) async fn document() -> Json<Document> {
    Json(build())
}
