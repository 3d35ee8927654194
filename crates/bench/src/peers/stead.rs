//! Stead: a group of three in namespaces, and clients that use its API over TLS as any program would.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use client::{Fingerprint, Trust};
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};
use testkit::{Group, Machine, Network, PASSWORD, eventually_some, stays_so_for};

use crate::cluster::{Cluster, SERVERS, VIEWER};
use crate::http2::Line;
use crate::load::Service;

/// The application that all sessions run: a binding to a backend that runs already.
pub(crate) const APP: &str = "desk";
/// The user whose sessions they are.
pub(crate) const USER: &str = "ann";

/// A group that is whole again after a server returned says so within this.
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);

/// A group of three.
pub(crate) struct Stead {
    /// Dropped first: its processes run in the network.
    group: Group,
    network: Network,
    /// How its times are called.
    times: &'static str,
}

impl Stead {
    /// Makes the group with the settings that it has by itself, and waits until all three count.
    pub(crate) fn start(machine: &Machine, binary: &Path) -> Self {
        let names: Vec<&str> = SERVERS.into_iter().chain([VIEWER]).collect();
        let network = Network::new(machine, &names);
        let group = Group::of(binary).in_network(&network, &SERVERS).start();
        Self {
            group,
            network,
            times: "defaults",
        }
    }

    /// The same with the shortest times that are recommended: heartbeats of 50 ms, a grace period of four.
    pub(crate) fn start_fast(machine: &Machine, binary: &Path) -> Self {
        let stead = Self::start(machine, binary);
        for (key, value) in [
            ("resilience.monitor-attempts", "4"),
            ("resilience.monitor-interval", "50ms"),
        ] {
            stead.group.json(0, &["config", "set", key, value]);
        }
        // Servers take new times up one after the other, within a few seconds, and no condition shows it from outside.
        stays_so_for(Duration::from_secs(8));
        Self {
            times: "50 ms × 4",
            ..stead
        }
    }

    /// The version, as the program prints it.
    pub(crate) fn version(binary: &Path) -> Option<String> {
        let output = Command::new(binary).arg("--version").output().ok()?;
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .strip_prefix("stead ")
            .map(str::to_owned)
    }

    /// The group itself.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Makes a server primary as planned, for good, so that nothing goes back by itself meanwhile; how long changes waited, as the
    /// servers say.
    ///
    /// # Errors
    /// When they do not say it.
    pub(crate) fn promote(&self, index: usize) -> Result<Option<Duration>> {
        let name = SERVERS.get(index).context("a server")?;
        let done = self.group.json(0, &["group", "promote", name]);
        let waited = done.get("outage_ms").and_then(Value::as_u64);
        let waited = waited.with_context(|| format!("no outage in {done}"))?;
        Ok(Some(Duration::from_millis(waited)))
    }

    /// Makes the user and the application that sessions need.
    pub(crate) fn make_ready_for_sessions(&self) {
        self.group.add_user(0, USER);
        self.group
            .add_app(0, APP, &["--backend", "tcp:127.0.0.1:9"]);
    }

    /// What a client needs to use the API of one server as `admin`.
    ///
    /// # Errors
    /// When the login fails.
    pub(crate) async fn access(&self, index: usize) -> Result<Access> {
        let trust = Trust::new(self.group.ca().parse::<Fingerprint>()?);
        let mut access = Access {
            address: self.address(index),
            trust,
            bearer: String::new(),
        };
        let line = Line::secure(access.address, &access.trust).await?;
        let login = access.request(
            Method::POST,
            "/v1/login",
            &json!({"user": "admin", "password": PASSWORD}),
        )?;
        let answer: Value = serde_json::from_slice(&line.ask(login).await?.succeeded()?.body)?;
        access.bearer = answer
            .get("token")
            .and_then(Value::as_str)
            .context("no token in the login")?
            .to_owned();
        Ok(access)
    }
}

impl Cluster for Stead {
    fn name(&self) -> String {
        format!("Stead, {}", self.times)
    }

    fn network(&self) -> &Network {
        &self.network
    }

    fn address(&self, index: usize) -> SocketAddr {
        self.group.server(index).client_address()
    }

    fn wait_for_leader(&self) -> usize {
        eventually_some(
            RECOVERS_WITHIN,
            "three servers of which one acts as primary",
            || {
                let acting = self.group.acting()?;
                let status = self.group.status(acting)?;
                let whole =
                    status.get("quorum")?.get("reachable")?.as_u64()? == SERVERS.len() as u64;
                let up_to_date = status.get("servers")?.as_array()?.iter().all(|server| {
                    server
                        .get("lag_changes")
                        .and_then(Value::as_u64)
                        .is_none_or(|lag| lag == 0)
                });
                (whole && up_to_date && self.group.running().count() == SERVERS.len())
                    .then_some(acting)
            },
        )
    }

    fn kill(&mut self, index: usize) {
        self.group.kill_host(index);
    }

    fn restart(&mut self, index: usize) -> Result<()> {
        self.group.serve(index);
        Ok(())
    }
}

/// One server's API, with an administrator's token.
#[derive(Clone)]
pub(crate) struct Access {
    address: SocketAddr,
    trust: Trust,
    bearer: String,
}

impl Access {
    /// The same for another server of the group.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self {
            address,
            ..self.clone()
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When the server does not answer or is not of the group.
    pub(crate) async fn line(&self) -> Result<Line> {
        Line::secure(self.address, &self.trust).await
    }

    /// A request with a body.
    ///
    /// # Errors
    /// When the path is none.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Request<Full<Bytes>>> {
        let body = if body.is_null() {
            Full::default()
        } else {
            Full::from(body.to_string())
        };
        Ok(Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.bearer))
            .header("content-type", "application/json")
            .body(body)?)
    }
}

/// Small changes of the directory: a setting with another value each time.
pub(crate) struct Settings {
    /// The server that is asked.
    pub(crate) access: Access,
}

impl Service for Settings {
    type Line = Line;

    async fn open(&self) -> Result<Line> {
        self.access.line().await
    }

    async fn ask(&self, line: &Line, number: u64) -> Result<()> {
        let value = (1000 + number % 1000).to_string();
        let request = self.access.request(
            Method::PUT,
            "/v1/settings/sessions.history",
            &json!({"value": value}),
        )?;
        line.ask(request).await?.succeeded().map(drop)
    }
}

/// Lookups of tokens through the API of one server, from its own copy.
pub(crate) struct Lookups {
    /// The server.
    pub(crate) access: Access,
    /// How many tokens have a session.
    pub(crate) tokens: u64,
}

impl Service for Lookups {
    type Line = Line;

    async fn open(&self) -> Result<Line> {
        self.access.line().await
    }

    async fn ask(&self, line: &Line, number: u64) -> Result<()> {
        let token = format!("card.{}", number % self.tokens);
        let path = format!("/v1/sessions?token={token}&app={APP}&limit=1");
        let request = self.access.request(Method::GET, &path, &Value::Null)?;
        let answer = line.ask(request).await?.succeeded()?;
        ensure!(
            answer
                .body
                .windows(token.len())
                .any(|window| window == token.as_bytes()),
            "{token} was not found"
        );
        Ok(())
    }
}
