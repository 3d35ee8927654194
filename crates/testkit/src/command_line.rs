//! The command line of a group's servers and clients, run to its end or asked for its state.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::group::Group;
use crate::network::Node;
use crate::process::run_to_end;
use crate::wait::{eventually_some, seconds};

/// Settings of the caller's shell that must not reach the servers.
const NOT_INHERITED: [&str; 5] = [
    "STEAD_DATA",
    "STEAD_SERVER",
    "STEAD_CA",
    "STEAD_API_TOKEN",
    "STEAD_CONFIG",
];

/// A command that has not ended after this hangs: commands of the command line give up sooner by themselves.
const ENDS_WITHIN: Duration = seconds(90);

/// What a run of the command line gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl Outcome {
    /// Its standard output as JSON.
    ///
    /// # Panics
    /// When it did not exit with 0, or printed something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Outcome {
    /// What it says went wrong.
    ///
    /// # Panics
    /// When it exited with another code, or does not say in the usual form what went wrong and why.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        let told = self.errors.contains("error: ") && self.errors.contains("\n  why: ");
        assert!(told, "not as errors are told: {self:?}");
        self.errors
    }
}

impl Group {
    /// The bare binary at a server's place (in its namespace), with the group's environment.
    pub fn command(&self, index: usize) -> Command {
        self.command_at(self.server(index).node())
    }

    /// The bare binary on a node, or on the machine itself, with the group's environment.
    pub fn command_at(&self, node: Option<&Node>) -> Command {
        let binary = self.plan.binary.to_string_lossy();
        let mut command = match node {
            Some(node) => node.command(&binary),
            None => Command::new(&self.plan.binary),
        };
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command
            .env("TMPDIR", self.folder())
            .envs(self.plan.environment.iter().cloned());
        command
    }

    /// Runs `stead ARGUMENTS... --data DIR` at a server and waits for its end.
    #[track_caller]
    pub fn run(&self, index: usize, arguments: &[&str]) -> Outcome {
        let mut command = self.command(index);
        run(command
            .args(arguments)
            .arg("--data")
            .arg(self.server(index).data()))
    }

    /// As [`Group::run`] with `--json`, and returns what was printed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    #[track_caller]
    pub fn json(&self, index: usize, arguments: &[&str]) -> Value {
        let with_json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.run(index, &with_json).json()
    }

    /// Runs a command that must not succeed, and returns what it says.
    ///
    /// # Panics
    /// When it exits with another code, or does not say in the usual form what went wrong and why.
    #[track_caller]
    pub fn fails(&self, index: usize, code: i32, arguments: &[&str]) -> String {
        self.run(index, arguments).fails(code)
    }

    /// Runs `stead ARGUMENTS... --server ALL --ca FINGERPRINT` on a node (or on the machine itself) and waits for its end.
    #[track_caller]
    pub fn run_remote(&self, node: Option<&Node>, arguments: &[&str]) -> Outcome {
        let mut command = self.command_at(node);
        run(command.args(arguments).args(self.remote_arguments()))
    }

    /// `--server A,B,C --ca sha256:HEX`.
    pub fn remote_arguments(&self) -> [String; 4] {
        [
            "--server".to_owned(),
            self.client_addresses(),
            "--ca".to_owned(),
            self.ca().to_owned(),
        ]
    }

    /// Client addresses of all servers, separated by commas.
    pub fn client_addresses(&self) -> String {
        let addresses: Vec<String> = self
            .servers()
            .iter()
            .map(|server| server.client_address().to_string())
            .collect();
        addresses.join(",")
    }

    /// What `stead status` says at a server; `None` when it does not answer.
    pub fn status(&self, index: usize) -> Option<Value> {
        let outcome = self.run(index, &["status", "--json"]);
        (outcome.code == Some(0))
            .then(|| serde_json::from_str(&outcome.output).ok())
            .flatten()
    }

    /// The server that says of itself that it acts as primary.
    pub fn acting(&self) -> Option<usize> {
        self.running().find(|index| {
            self.status(*index)
                .and_then(|status| status.get("acting")?.as_bool())
                == Some(true)
        })
    }

    /// Waits until a server acts as primary, and returns it.
    ///
    /// # Panics
    /// When none does within `limit`.
    #[track_caller]
    pub fn wait_for_acting(&self, limit: Duration) -> usize {
        eventually_some(limit, "a server that acts as primary", || self.acting())
    }

    /// The server that another one takes for the primary.
    pub fn primary_seen_by(&self, index: usize) -> Option<usize> {
        let status = self.status(index)?;
        let name = status.get("primary")?.get("name")?.as_str()?;
        self.index_of(name)
    }

    /// The place in the plan of the server with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.servers()
            .iter()
            .position(|server| server.name() == name)
    }

    /// Adds a user with [`PASSWORD`](crate::PASSWORD).
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn add_user(&self, index: usize, name: &str) {
        let password = self.password_file();
        self.json(
            index,
            &[
                "user",
                "add",
                name,
                "--password-file",
                &password.to_string_lossy(),
            ],
        );
    }

    /// Runs `stead app add NAME OPTIONS...`.
    ///
    /// # Panics
    /// When the command fails.
    #[track_caller]
    pub fn add_app(&self, index: usize, name: &str, options: &[&str]) {
        let arguments: Vec<&str> = ["app", "add", name]
            .iter()
            .chain(options)
            .copied()
            .collect();
        self.json(index, &arguments);
    }
}

/// What a status says about the server with this name.
pub(crate) fn server_entry<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status
        .get("servers")?
        .as_array()?
        .iter()
        .find(|server| server.get("name").and_then(Value::as_str) == Some(name))
}

#[track_caller]
fn run(command: &mut Command) -> Outcome {
    let output = run_to_end(command, ENDS_WITHIN);
    Outcome {
        code: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
