//! Applications: what a session runs, how it is started and how it is reached.

use crate::name::AppName;
use crate::run_as::RunAs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The greatest weight of a backend.
pub const WEIGHT_LIMIT: u16 = 256;
/// What stands between an address and its weight.
const WEIGHT: &str = ",weight=";

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
#[error(
    "{given:?} is no backend address: use unix:PATH or tcp:HOST:PORT, with \",weight=NUMBER\" behind it from 0 to {WEIGHT_LIMIT} where one of several is to get more sessions than another, or none"
)]
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

/// A backend and its weight, as people write them: `tcp:HOST:PORT,weight=3`; 1 is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted {
    /// Where the bytes are.
    pub backend: Backend,
    /// Its part of the sessions, relative to the others' weights: 0 (no new ones) to [`WEIGHT_LIMIT`].
    pub weight: u16,
}

impl FromStr for Weighted {
    type Err = BackendError;
    fn from_str(text: &str) -> Result<Self, BackendError> {
        let Some((address, weight)) = text.rsplit_once(WEIGHT) else {
            let backend = text.parse()?;
            return Ok(Self { backend, weight: 1 });
        };
        let error = || BackendError {
            given: text.chars().take(200).collect(),
        };
        let weight = weight.parse().map_err(|_| error())?;
        if weight > WEIGHT_LIMIT {
            return Err(error());
        }
        let backend = address.parse().map_err(|_| error())?;
        Ok(Self { backend, weight })
    }
}

impl fmt::Display for Weighted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            1 => self.backend.fmt(f),
            weight => write!(f, "{}{WEIGHT}{weight}", self.backend),
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
    /// Where its bytes are. Of a launched command's several are tried in order; of running servers' each session gets one.
    pub backends: Vec<Backend>,
    /// The weight of each backend, in their order, up to [`WEIGHT_LIMIT`]; all weigh the same when empty.
    #[serde(default)]
    pub weights: Vec<u16>,
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
            weights: Vec::new(),
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

    /// Its backends with their weights.
    pub fn weighted(&self) -> impl Iterator<Item = Weighted> + '_ {
        let weights = self.weights.iter().copied().chain(std::iter::repeat(1));
        let both = self.backends.iter().cloned().zip(weights);
        both.map(|(backend, weight)| Weighted { backend, weight })
    }

    /// Says what its backends are.
    pub fn set_backends(&mut self, backends: Vec<Weighted>) {
        self.weights = match backends.iter().all(|one| one.weight == 1) {
            true => Vec::new(),
            false => backends.iter().map(|one| one.weight).collect(),
        };
        self.backends = backends.into_iter().map(|one| one.backend).collect();
    }

    /// Whether its sessions are shared among several servers that run already.
    pub fn is_balanced(&self) -> bool {
        self.launch.is_none() && self.backends.len() > 1
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
    fn weights_as_text() {
        for text in ["tcp:a:1", "tcp:a:1,weight=0", "unix:/run/x,weight=256"] {
            assert_eq!(text.parse::<Weighted>().unwrap().to_string(), text);
        }
        let plain: Weighted = "tcp:a:1,weight=1".parse().unwrap();
        assert_eq!((plain.weight, plain.to_string().as_str()), (1, "tcp:a:1"));
        for text in [
            "tcp:a:1,weight=257",
            "tcp:a:1,weight=-1",
            "tcp:a:1,weight=",
            "tcp:a:1,wight=2",
            ",weight=2",
            "tcp:a:1,weight=2,weight=3",
        ] {
            assert!(text.parse::<Weighted>().is_err(), "{text:?} was accepted");
        }
        let mut app = Application::named("a".parse().unwrap());
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        app.set_backends(read(&["tcp:a:1", "tcp:b:1,weight=3"]));
        assert_eq!(app.weights, [1, 3]);
        let texts: Vec<String> = app.weighted().map(|one| one.to_string()).collect();
        assert_eq!(texts, ["tcp:a:1", "tcp:b:1,weight=3"]);
        assert!(app.is_balanced());
        app.set_backends(read(&["tcp:a:1"]));
        assert!(app.weights.is_empty() && !app.is_balanced());
    }

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
