//! Applications: what a session runs, how it is started and how it is reached.

use crate::name::AppName;
use crate::run_as::RunAs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Where the bytes of a session are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Backend {
    /// The terminal that `@pty` runs the command on.
    Pty,
    /// A unix socket; the path may contain `{socket}`, `{dir}` and the other placeholders of the command.
    Unix(String),
    /// A TCP address, `host:port`; the port may be `{port}`.
    Tcp(String),
}

/// Why a text is no backend address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no backend address: use unix:PATH or tcp:HOST:PORT")]
pub struct BackendError {
    /// What was given.
    pub given: String,
}

impl FromStr for Backend {
    type Err = BackendError;
    fn from_str(text: &str) -> Result<Self, BackendError> {
        let error = || BackendError {
            given: text.chars().take(200).collect(),
        };
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.to_owned()));
        }
        let address = text.strip_prefix("tcp:").ok_or_else(error)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(error)?;
        let port_fits = port == "{port}" || port.parse::<u16>().is_ok_and(|port| port > 0);
        if host.is_empty() || !port_fits {
            return Err(error());
        }
        Ok(Self::Tcp(address.to_owned()))
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pty => f.write_str("@pty"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Whether a session goes on without a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resumable {
    /// It goes on until something ends it.
    Always,
    /// It ends `detach-timeout` after the client has gone.
    Attached,
    /// It ends with its client.
    Never,
}

impl Resumable {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Attached => "attached",
            Self::Never => "never",
        }
    }
}

/// What a drain of its server does with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDrain {
    /// It ends, and another one starts elsewhere in its place.
    #[default]
    Move,
    /// It stays until it comes to its own end.
    Keep,
}

impl OnDrain {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Keep => "keep",
        }
    }
}

/// An application. Spans are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its name.
    pub name: AppName,
    /// The command of one session, with placeholders; absent where the backend is a running server.
    /// `@pty ` in front runs it on a terminal of its own.
    pub launch: Option<String>,
    /// Where its bytes are. Several are tried in order.
    pub backends: Vec<Backend>,
    /// How long the backend may take to accept, 100 ms to 10 min.
    pub ready_timeout_ms: u64,
    /// Whether a session goes on without a client.
    pub resumable: Resumable,
    /// How long after the client has gone an `attached` session ends.
    pub detach_timeout_ms: u64,
    /// When a session without a client ends; never when absent.
    pub suspended_timeout_ms: Option<u64>,
    /// When a session through which no byte passes ends, whether a client is attached or not; never when absent.
    #[serde(default)]
    pub idle_timeout_ms: Option<u64>,
    /// The most sessions of one user.
    pub max_per_user: Option<u32>,
    /// The most sessions on one server.
    pub max_per_server: Option<u32>,
    /// Labels that a server must have to host it; all servers when empty.
    pub hosts: BTreeMap<String, String>,
    /// Users and groups (`@group`) that may start it; all when empty.
    pub users: Vec<String>,
    /// Environment of the command.
    pub env: BTreeMap<String, String>,
    /// Working folder of the command; the session's own folder when absent.
    pub dir: Option<String>,
    /// The operating-system account of the command; the server's own when absent.
    #[serde(default)]
    pub run_as: Option<RunAs>,
    /// What a drain of its server does with a session.
    #[serde(default)]
    pub on_drain: OnDrain,
    /// Whether its backends expect a header of the PROXY protocol, version 2, that says who the client is.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The number of the change that made or last changed this record.
    pub version_number: u64,
}

impl Application {
    /// The longest time that a backend may be given to accept.
    pub const READY_TIMEOUT_LIMIT_MS: u64 = 600_000;
    /// The time that a backend is given when nothing else was said.
    pub const READY_TIMEOUT_DEFAULT_MS: u64 = 30_000;
    /// The shortest time without traffic after which a session ends.
    pub const IDLE_TIMEOUT_LEAST_MS: u64 = 1_000;
    /// The most characters of a command.
    pub const LAUNCH_LIMIT: usize = 4096;

    /// An application with the defaults and nothing to run or reach yet.
    pub fn named(name: AppName) -> Self {
        Self {
            name,
            launch: None,
            backends: Vec::new(),
            ready_timeout_ms: Self::READY_TIMEOUT_DEFAULT_MS,
            resumable: Resumable::Always,
            detach_timeout_ms: 60_000,
            suspended_timeout_ms: None,
            idle_timeout_ms: None,
            max_per_user: None,
            max_per_server: None,
            hosts: BTreeMap::new(),
            users: Vec::new(),
            env: BTreeMap::new(),
            dir: None,
            run_as: None,
            on_drain: OnDrain::Move,
            proxy_protocol: false,
            version_number: 0,
        }
    }

    /// The command without `@pty`, and whether it runs on a terminal.
    pub fn command(&self) -> Option<(&str, bool)> {
        let launch = self.launch.as_deref()?;
        Some(match launch.strip_prefix("@pty") {
            Some(rest) if rest.starts_with(char::is_whitespace) => (rest.trim_start(), true),
            _ => (launch, false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_as_text() {
        for text in [
            "unix:{socket}",
            "unix:/run/x",
            "tcp:127.0.0.1:3389",
            "tcp:[::1]:22",
            "tcp:127.0.0.1:{port}",
        ] {
            assert_eq!(text.parse::<Backend>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "unix:",
            "tcp:",
            "tcp:host",
            "tcp:host:0",
            "tcp:host:70000",
            "tcp::22",
            "udp:x:1",
            "@pty",
        ] {
            assert!(text.parse::<Backend>().is_err(), "{text:?} was accepted");
        }
    }
}
