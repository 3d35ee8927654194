//! etcd: three members in namespaces, and a client that speaks its gRPC API with as little overhead as possible.
//!
//! Facts from outside: paths and field numbers are those of etcd's `rpc.proto` (`etcdserverpb.KV`); a gRPC message is a
//! zero byte, its length in four bytes, and the message; its outcome is the header or trailer `grpc-status`.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use hyper::Request;
use rustls::ClientConfig;
use tempfile::TempDir;
use testkit::{Machine, Network, Process, eventually_some};

use crate::cluster::{Cluster, SERVERS, VIEWER};
use crate::http2::{Answer, Line};
use crate::load::Service;
use crate::peers::certificates::Certificates;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// A group that is whole again after a member returned says so within this.
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);

/// How members are started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// What the report calls it.
    pub(crate) name: &'static str,
    /// Options.
    pub(crate) options: &'static [&'static str],
}

/// As it comes: 100 ms heartbeat, elections after 1 to 2 s of silence.
pub(crate) const DEFAULT: Timing = Timing {
    name: "etcd, defaults",
    options: &[],
};
/// The same silence as Stead's default before an election, at the same heartbeat.
pub(crate) const TUNED: Timing = Timing {
    name: "etcd, 100 ms / 500 ms",
    options: &["--heartbeat-interval=100", "--election-timeout=500"],
};

/// Whether its traffic is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    /// It is not: etcd as it comes.
    None,
    /// TLS for clients, mutual TLS between members: what Stead always does.
    Tls,
}

/// Three members.
pub(crate) struct Etcd {
    timing: Timing,
    certificates: Option<Certificates>,
    members: Vec<Option<Process>>,
    folder: TempDir,
    network: Network,
}

impl Etcd {
    /// Starts three members and waits until they have a leader.
    ///
    /// # Errors
    /// When there is no folder for their data.
    pub(crate) fn start(machine: &Machine, timing: Timing, protection: Protection) -> Result<Self> {
        let names: Vec<&str> = SERVERS.into_iter().chain([VIEWER]).collect();
        let network = Network::new(machine, &names);
        let folder = tempfile::Builder::new().prefix("bench-etcd-").tempdir()?;
        let certificates = match protection {
            Protection::None => None,
            Protection::Tls => {
                let addresses = SERVERS.map(|name| network.node(name).address());
                Some(Certificates::make(folder.path(), &addresses)?)
            }
        };
        let mut etcd = Self {
            timing,
            certificates,
            members: Vec::new(),
            folder,
            network,
        };
        for index in 0..SERVERS.len() {
            let member = etcd.member(index)?;
            etcd.members.push(Some(member));
        }
        etcd.wait_for_leader();
        Ok(etcd)
    }

    /// The version, as the program prints it; `None` when it is not installed.
    pub(crate) fn version() -> Option<String> {
        let output = Command::new("etcd").arg("--version").output().ok()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed
            .lines()
            .next()?
            .strip_prefix("etcd Version: ")
            .map(str::to_owned)
    }

    fn member(&self, index: usize) -> Result<Process> {
        let name = SERVERS.get(index).context("a member")?;
        let node = self.network.node(name);
        let scheme = self.scheme();
        let url = |port| format!("{scheme}://{}:{port}", node.address());
        let all: Vec<String> = SERVERS
            .iter()
            .map(|name| {
                let address = self.network.node(name).address();
                format!("{name}={scheme}://{address}:{PEER_PORT}")
            })
            .collect();
        let mut command = node.command("etcd");
        command
            .arg("--name")
            .arg(name)
            .arg("--data-dir")
            .arg(self.folder.path().join(name));
        command.args(["--log-level", "error", "--initial-cluster-token", "bench"]);
        command.args(["--initial-cluster", &all.join(",")]);
        for option in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([option, &url(CLIENT_PORT)]);
        }
        for option in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.args([option, &url(PEER_PORT)]);
        }
        command.args(self.timing.options);
        if let Some(made) = &self.certificates {
            for kind in ["", "peer-"] {
                let (certificate, key) = (&made.certificate, &made.key);
                command.arg(format!("--{kind}cert-file")).arg(certificate);
                command.arg(format!("--{kind}key-file")).arg(key);
            }
            let authority = &made.authority;
            command.arg("--peer-trusted-ca-file").arg(authority);
            command.arg("--peer-client-cert-auth");
        }
        Ok(Process::start(&format!("etcd {name}"), &mut command))
    }

    fn scheme(&self) -> &'static str {
        match self.certificates {
            Some(_) => "https",
            None => "http",
        }
    }

    fn ask(&self, index: usize, question: &[&str]) -> Option<Vec<u8>> {
        let mut command = self.network.node(VIEWER).command("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--command-timeout=1s", "--write-out=json"]);
        let endpoint = format!("{}://{}", self.scheme(), self.address(index));
        command.args(["--endpoints", &endpoint]);
        if let Some(made) = &self.certificates {
            command.arg("--cacert").arg(&made.authority);
        }
        let output = command.args(question).output().ok()?;
        output.status.success().then_some(output.stdout)
    }

    /// What each member says: its place, its id, and whether it leads. Those that do not answer are missing.
    fn look(&self) -> Vec<(usize, u64, bool)> {
        let states = (0..SERVERS.len()).filter_map(|index| {
            let answer = self.ask(index, &["endpoint", "status"])?;
            let status: serde_json::Value = serde_json::from_slice(&answer).ok()?;
            let status = status.get(0)?.get("Status")?;
            let me = status.get("header")?.get("member_id")?.as_u64()?;
            let leader = status.get("leader")?;
            (leader != 0).then(|| (index, me, leader == me))
        });
        states.collect()
    }

    /// Puts of values of so many bytes, to one member.
    pub(crate) fn puts(&self, index: usize, bytes: usize) -> Puts {
        Puts {
            address: self.address(index),
            value: vec![b'x'; bytes],
            tls: self.certificates.as_ref().map(|made| made.client.clone()),
        }
    }

    /// Has the leader hand its role to another member.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn move_leader(&self, leader: usize) -> Result<Option<Duration>> {
        let members = self.look();
        let other = members.iter().find(|(index, ..)| *index != leader);
        let (_, id, _) = other.context("another member")?;
        self.ask(leader, &["move-leader", &format!("{id:x}")])
            .context("etcd did not move its leader")?;
        Ok(None)
    }
}

impl Cluster for Etcd {
    fn name(&self) -> String {
        self.timing.name.to_owned()
    }

    fn network(&self) -> &Network {
        &self.network
    }

    fn address(&self, index: usize) -> SocketAddr {
        let node = self
            .network
            .node(SERVERS.get(index).copied().unwrap_or_default());
        SocketAddr::new(node.address().into(), CLIENT_PORT)
    }

    fn wait_for_leader(&self) -> usize {
        eventually_some(
            RECOVERS_WITHIN,
            "three members of etcd, one of them the leader",
            || {
                let members = self.look();
                let leader = members
                    .iter()
                    .find(|(.., leads)| *leads)
                    .map(|(index, ..)| *index);
                leader.filter(|_| members.len() == SERVERS.len())
            },
        )
    }

    fn kill(&mut self, index: usize) {
        if let Some(member) = self.members.get_mut(index) {
            *member = None;
        }
    }

    fn restart(&mut self, index: usize) -> Result<()> {
        let started = self.member(index)?;
        if let Some(member) = self.members.get_mut(index) {
            *member = Some(started);
        }
        Ok(())
    }
}

/// Puts to one member: each under a key of its own.
pub(crate) struct Puts {
    /// The member.
    pub(crate) address: SocketAddr,
    /// What is stored.
    pub(crate) value: Vec<u8>,
    /// Whom to believe, where it is protected.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Service for Puts {
    type Line = Line;

    async fn open(&self) -> Result<Line> {
        match &self.tls {
            Some(tls) => Line::encrypted(self.address, tls.clone()).await,
            None => Line::plain(self.address).await,
        }
    }

    async fn ask(&self, line: &Line, number: u64) -> Result<()> {
        let mut message = BytesMut::new();
        field(&mut message, 1, format!("token/card.{number}").as_bytes());
        field(&mut message, 2, &self.value);
        call(line, self.address, "Put", &message).await.map(drop)
    }
}

/// Serializable reads from one member: answered from its own copy.
pub(crate) struct Gets {
    /// The member.
    pub(crate) address: SocketAddr,
    /// How many keys there are.
    pub(crate) keys: u64,
}

impl Service for Gets {
    type Line = Line;

    async fn open(&self) -> Result<Line> {
        Line::plain(self.address).await
    }

    async fn ask(&self, line: &Line, number: u64) -> Result<()> {
        let mut message = BytesMut::new();
        let key = format!("token/card.{}", number % self.keys);
        field(&mut message, 1, key.as_bytes());
        // Field 7, `serializable`: true.
        message.put_slice(&[7 << 3, 1]);
        let answer = call(line, self.address, "Range", &message).await?;
        let found = answer
            .body
            .windows(key.len())
            .any(|window| window == key.as_bytes());
        ensure!(found, "{key} was not found");
        Ok(())
    }
}

/// A field of bytes.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.put_u8(u8::try_from(length & 0x7F).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.put_u8(u8::try_from(length).unwrap_or_default());
    message.put_slice(bytes);
}

async fn call(line: &Line, address: SocketAddr, method: &str, message: &[u8]) -> Result<Answer> {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).context("a message of 4 GiB")?);
    framed.put_slice(message);
    let request = Request::post(format!("http://{address}/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(framed)))?;
    let answer = line.ask(request).await?.succeeded()?;
    let header = |name: &str| {
        answer
            .trailers
            .get(name)
            .or_else(|| answer.headers.get(name))
    };
    let text = |name: &str| {
        header(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    ensure!(
        text("grpc-status") == "0",
        "etcd: {} {}",
        text("grpc-status"),
        text("grpc-message")
    );
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_protocol_buffers() {
        let mut message = BytesMut::new();
        field(&mut message, 1, b"key");
        field(&mut message, 2, &[7; 300]);
        assert_eq!(message.get(..5), Some(&[0x0A, 3, b'k', b'e', b'y'][..]));
        assert_eq!(message.get(5..9), Some(&[0x12, 0xAC, 0x02, 7][..]));
        assert_eq!(message.len(), 5 + 3 + 300);
    }
}
