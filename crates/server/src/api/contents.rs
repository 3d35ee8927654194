//! What people edit, as people read it: shown where it diverged, and in the audit log.
//!
//! Always true: no hash of a password and no value of a secret goes out, and servers are called by their names.

use super::bodies::{self, rfc3339};
use super::show;
use model::divergence::EditedServer;
use model::{Content, Directory, Mode, ServerId, Subject};
use serde_json::{Value, json};

/// What people read of it. Accounts are shown as everywhere, without their passwords.
pub(super) fn value(directory: &Directory, content: &Content) -> Value {
    let json = |body: serde_json::Result<Value>| {
        body.expect("invariant: bodies have text keys and plain values")
    };
    match content {
        Content::Removed(at) => json!({ "removed": rfc3339(*at) }),
        Content::Server(server) => edited(server),
        Content::Setting(value) => json!(value),
        Content::User(user) => json(serde_json::to_value(show::user(user))),
        Content::Application(app) => json(serde_json::to_value(show::app(app))),
        Content::Token(token) => json(serde_json::to_value(show::token(token))),
        Content::Gateway(gateway) => json(serde_json::to_value(show::gateway(gateway, None))),
        Content::Certificate(one) => json(serde_json::to_value(show::certificate(one))),
        Content::Secret(secret) => json(serde_json::to_value(show::secret(directory, secret))),
        Content::Profile(one) => json(serde_json::to_value(show::profile(one))),
        Content::Preferences(one) => json(serde_json::to_value(show::preferences(one))),
        Content::Backups(list) => list.iter().map(|id| directory.name_of(*id)).collect(),
        Content::Pause(pause) => json(serde_json::to_value(bodies::Pause::from(pause))),
    }
}

fn edited(server: &EditedServer) -> Value {
    let offline = match &server.mode {
        Mode::Online => None,
        Mode::Offline(offline) => Some(show::offline(offline, 0)),
    };
    json!({
        "name": server.name,
        "standing": show::standing(server.standing),
        "mode": if offline.is_some() { "offline" } else { "online" },
        "offline": offline,
        "power": f64::from(server.power) / 1000.0,
        "labels": server.labels,
        "external": show::external(&server.external),
        "peer_address": server.peer_address,
        "client_address": server.client_address,
    })
}

/// A subject's name, with servers by the names that they have, or had in what is told of them.
pub(super) fn name<'a>(
    directory: &Directory,
    subject: &Subject,
    told: impl IntoIterator<Item = &'a Option<Content>>,
) -> String {
    let told = told
        .into_iter()
        .flatten()
        .find_map(|content| match content {
            Content::Server(server) => Some(server.name.to_string()),
            _ => None,
        });
    let name = |id: ServerId| told.clone().unwrap_or_else(|| directory.name_of(id));
    match subject {
        Subject::Removed(id) => format!("removed:{}", name(*id)),
        Subject::Server(id) => format!("server:{}", name(*id)),
        Subject::Setting(key, Some(on)) => format!("setting:{key}@{}", name(*on)),
        other => other.to_string(),
    }
}
