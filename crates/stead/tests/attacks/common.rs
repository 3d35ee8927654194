//! What an attacker has: the addresses, the authority's fingerprint, and whatever he got hold of.

use client::{Api, Call, Reply, Target};
use serde_json::{Value, json};
use testkit::{Group, PASSWORD};
use tokio::runtime::Runtime;

/// The API of one server, from elsewhere.
pub(crate) struct Door {
    runtime: Runtime,
    servers: Vec<String>,
    ca: String,
}

impl Door {
    /// At this server of the group.
    pub(crate) fn of(group: &Group, index: usize) -> Self {
        Self {
            runtime: Runtime::new().expect("a runtime"),
            servers: vec![group.server(index).client_address().to_string()],
            ca: group.ca().to_owned(),
        }
    }

    /// Sends a request, with this token if there is one.
    pub(crate) fn call(&self, bearer: Option<&str>, call: Call<'_>) -> Reply {
        let api = Api::new(Target::Remote {
            servers: self.servers.clone(),
            ca: self.ca.parse().expect("a fingerprint"),
            bearer: bearer.map(str::to_owned),
        });
        let path = call.path.to_owned();
        let answered = self.runtime.block_on(api.call(call));
        answered.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn get(&self, bearer: Option<&str>, path: &str) -> Reply {
        self.call(bearer, Call::reading(path))
    }

    /// Tries a password; the answer, whatever it is.
    pub(crate) fn try_password(&self, user: &str, password: &str) -> Reply {
        self.call(
            None,
            Call {
                method: "POST".parse().expect("a method"),
                path: "/v1/login",
                body: Some(json!({ "user": user, "password": password })),
                headers: Vec::new(),
            },
        )
    }

    /// Logs in with the password that all users here have; the token.
    #[track_caller]
    pub(crate) fn login(&self, user: &str) -> String {
        let reply = self.try_password(user, PASSWORD);
        assert_eq!(reply.status, 200, "{reply:?}");
        let login: Value = reply.json().expect("JSON");
        testkit::text(&login, "token")
    }
}

/// Adds a user with this role.
pub(crate) fn add_user(group: &Group, name: &str, role: &str) {
    let password = group.password_file().to_string_lossy().into_owned();
    let add = ["user", "add", name, "--role", role, "--password-file"];
    group.json(0, &[&add[..], &[&password]].concat());
}

/// A token for programs of this user.
pub(crate) fn api_token(group: &Group, user: &str, name: &str, role: &str) -> String {
    let made = group.json(0, &["user", "token", "add", user, name, "--role", role]);
    testkit::text(&made, "token")
}
