//! Redis: one server, and GET over its own protocol, pipelined as its users do.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::{Machine, Network, Process, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::cluster::VIEWER;
use crate::load::Service;

const PORT: u16 = 6379;
pub(crate) const SERVER: &str = "redis";
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// One server.
pub(crate) struct Redis {
    /// The server and the viewer.
    pub(crate) network: Network,
    _process: Process,
    _folder: TempDir,
}

impl Redis {
    /// Starts it, without persistence.
    ///
    /// # Errors
    /// When there is no folder for it.
    pub(crate) fn start(machine: &Machine) -> Result<Self> {
        let network = Network::new(machine, &[SERVER, VIEWER]);
        let folder = tempfile::Builder::new().prefix("bench-redis-").tempdir()?;
        let mut command = network.node(SERVER).command("redis-server");
        command.args([
            "--port",
            &PORT.to_string(),
            "--save",
            "",
            "--protected-mode",
            "no",
            "--dir",
        ]);
        let process = Process::start("redis", command.arg(folder.path()));
        let redis = Self {
            network,
            _process: process,
            _folder: folder,
        };
        let viewer = redis.network.node(VIEWER);
        eventually(STARTS_WITHIN, "redis to listen", || {
            viewer
                .connect(redis.address(), Duration::from_millis(200))
                .is_ok()
        });
        Ok(redis)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.network.node(SERVER).address().into(), PORT)
    }

    /// The version; `None` when it is not installed.
    pub(crate) fn version() -> Option<String> {
        let output = Command::new("redis-server")
            .arg("--version")
            .output()
            .ok()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed
            .split("v=")
            .nth(1)?
            .split_whitespace()
            .next()
            .map(str::to_owned)
    }
}

/// GET of keys that exist; [`Keys::fill`] makes them.
pub(crate) struct Keys {
    /// The server.
    pub(crate) address: SocketAddr,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// What they hold.
    pub(crate) value: Vec<u8>,
}

impl Keys {
    /// Sets all keys.
    ///
    /// # Errors
    /// When the server does not say `OK` to each.
    pub(crate) async fn fill(&self) -> Result<()> {
        let line = self.open().await?;
        let mut stream = line.lock().await;
        for number in 0..self.keys {
            let key = key(number);
            let head = format!(
                "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n",
                key.len(),
                self.value.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&self.value).await?;
            stream.write_all(b"\r\n").await?;
            stream.flush().await?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await?;
            ensure!(&answer == b"+OK\r\n", "SET was refused");
        }
        Ok(())
    }
}

fn key(number: u64) -> String {
    format!("token/card.{number}")
}

impl Service for Keys {
    /// One client at a time: Redis answers in order, and a connection costs it little.
    type Line = Arc<Mutex<BufStream<TcpStream>>>;

    async fn open(&self) -> Result<Self::Line> {
        let stream = TcpStream::connect(self.address)
            .await
            .context("connecting to redis")?;
        stream.set_nodelay(true)?;
        Ok(Arc::new(Mutex::new(BufStream::new(stream))))
    }

    async fn ask(&self, line: &Self::Line, number: u64) -> Result<()> {
        let key = key(number % self.keys);
        let mut stream = line.lock().await;
        stream
            .write_all(format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).as_bytes())
            .await?;
        stream.flush().await?;
        let mut answer = vec![0; format!("${}\r\n", self.value.len()).len() + self.value.len() + 2];
        stream.read_exact(&mut answer).await?;
        ensure!(
            answer.starts_with(b"$") && answer.ends_with(b"\r\n"),
            "GET was refused"
        );
        Ok(())
    }
}
