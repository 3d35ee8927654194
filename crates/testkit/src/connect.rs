//! `stead connect` as a test sees it: a process that prints one JSON object a line.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::group::Group;
use crate::network::Node;
use crate::process::Process;
use crate::wait::eventually_some;

impl Group {
    /// Starts `stead connect --json` on a node (or on the machine itself) for a user made by [`Group::add_user`], with a
    /// local port of its own choice; wait for it with [`listening`].
    #[track_caller]
    pub fn connect(&self, node: Option<&Node>, user: &str, token: &str, app: &str) -> Process {
        self.connect_by(&self.client_addresses(), node, user, token, app)
    }

    /// As [`Group::connect`], through the servers at these addresses, separated by commas.
    #[track_caller]
    pub fn connect_by(
        &self,
        addresses: &str,
        node: Option<&Node>,
        user: &str,
        token: &str,
        app: &str,
    ) -> Process {
        let mut command = self.command_at(node);
        command
            .args(["connect", "--server", addresses, "--ca", self.ca()])
            .args(["--token", token, "--app", app, "--user", user]);
        command.arg("--password-file").arg(self.password_file());
        command.args(["--listen", "127.0.0.1:0", "--json"]);
        Process::start(&format!("connect {token} {app}"), &mut command)
    }
}

/// The events that a `stead connect --json` has printed so far, with this name.
pub fn events(connect: &Process, name: &str) -> Vec<Value> {
    let parsed = connect
        .output()
        .into_iter()
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    parsed
        .filter(|event| event.get("event").and_then(Value::as_str) == Some(name))
        .collect()
}

/// Waits until a `stead connect --json` has printed an event with this name, and returns the first.
///
/// # Panics
/// When none came within `limit`.
#[track_caller]
pub fn event(connect: &Process, name: &str, limit: Duration) -> Value {
    let what = format!("`{name}` from {}", connect.label());
    eventually_some(limit, &what, || events(connect, name).into_iter().next())
}

/// Waits until a `stead connect --json` is ready, and returns where it listens.
///
/// # Panics
/// When it is not within `limit`.
#[track_caller]
pub fn listening(connect: &Process, limit: Duration) -> SocketAddr {
    let ready = event(connect, "ready", limit);
    let listen = ready
        .get("listen")
        .and_then(Value::as_str)
        .and_then(|listen| listen.parse().ok());
    listen.unwrap_or_else(|| panic!("no address in {ready}"))
}

/// A field of what `--json` printed, as text.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn text(object: &Value, field: &str) -> String {
    let found = object.get(field).and_then(Value::as_str);
    found
        .unwrap_or_else(|| panic!("no {field} in {object}"))
        .to_owned()
}

/// A field of what `--json` printed, as a number.
///
/// # Panics
/// When it has none.
#[track_caller]
pub fn number(object: &Value, field: &str) -> u64 {
    let found = object.get(field).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no {field} in {object}"))
}
