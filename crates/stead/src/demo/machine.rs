//! One server of the demo: a folder, two addresses, and a process that can be killed.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::{Api, Call, Target};
use rustix::process::Signal;
use serde_json::Value;

use super::{eventually, failed, processes};
use crate::errors::Failure;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

pub(super) struct Machine {
    pub(super) name: &'static str,
    pub(super) data: PathBuf,
    pub(super) peer: String,
    pub(super) client: String,
    program: PathBuf,
    log: PathBuf,
    server: Option<Child>,
}

impl Machine {
    pub(super) fn new(
        name: &'static str,
        address: Ipv4Addr,
        folder: &Path,
        program: &Path,
    ) -> Self {
        Self {
            name,
            data: folder.join(name),
            peer: format!("{address}:5427"),
            client: format!("{address}:5443"),
            program: program.to_owned(),
            log: folder.join(format!("{name}.log")),
            server: None,
        }
    }

    /// Whether nobody else uses its addresses.
    pub(super) fn is_free(&self) -> bool {
        TcpListener::bind(&self.peer).is_ok() && TcpListener::bind(&self.client).is_ok()
    }

    /// Starts the server and waits until it answers.
    pub(super) async fn serve(&mut self) -> Result<(), Failure> {
        self.start()?;
        let api = self.api();
        eventually(START, &format!("server {}", self.name), async || {
            api.call(Call::reading("/v1/status"))
                .await
                .ok()
                .filter(|reply| reply.status == 200)
        })
        .await
        .map(drop)
    }

    fn start(&mut self) -> Result<(), Failure> {
        use std::os::unix::process::CommandExt;
        let what = format!("server {} was not started", self.name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|error| failed(&what, error))?;
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--data").arg(&self.data);
        for variable in ["STEAD_DATA", "STEAD_SERVER", "STEAD_CA", "STEAD_CONFIG"] {
            command.env_remove(variable);
        }
        // A group of its own: Ctrl-C is for the demo, which cleans up.
        let command = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.server = Some(command.spawn().map_err(|error| failed(&what, error))?);
        Ok(())
    }

    /// Its API, through its local socket.
    pub(super) fn api(&self) -> Api {
        Api::new(Target::Local {
            data: self.data.clone(),
        })
        .with_answer_time(Duration::from_secs(10))
    }

    /// What it says of the group.
    pub(super) async fn status(&self) -> Option<Value> {
        self.api().request(Call::reading("/v1/status")).await.ok()
    }

    /// Who is primary, as it sees it.
    pub(super) async fn primary(&self) -> Option<String> {
        Some(
            self.status()
                .await?
                .get("primary")?
                .get("name")?
                .as_str()?
                .to_owned(),
        )
    }

    /// Kills the server's process, and nothing else.
    pub(super) fn kill_server(&mut self) -> Result<u32, Failure> {
        let what = format!("server {} was not killed", self.name);
        let mut server = self
            .server
            .take()
            .ok_or_else(|| failed(&what, "it does not run"))?;
        let pid = server.id();
        server
            .kill()
            .and_then(|()| server.wait())
            .map_err(|error| failed(&what, error))?;
        Ok(pid)
    }

    /// Stops every process of the server, its keepers and sessions at once, as a machine does that hangs: nothing is said to anybody.
    pub(super) fn freeze(&self) -> usize {
        let processes = processes::of_folder(&self.data);
        processes::signal(&processes, Signal::STOP);
        processes.len()
    }

    /// Kills every process of the server, its keepers and sessions.
    pub(super) fn kill_everything(&mut self) {
        processes::signal(&processes::of_folder(&self.data), Signal::KILL);
        if let Some(mut server) = self.server.take() {
            // It is gone; this takes note of it.
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// The folders of the sessions that it hosts, or did when it was killed.
    pub(super) fn session_folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.data.join("sessions"));
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }

    /// Lets the server go on after the demo.
    pub(super) fn let_go(&mut self) {
        self.server = None;
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> Vec<String> {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<String> = log.lines().map(str::to_owned).collect();
        lines.into_iter().rev().take(5).rev().collect()
    }
}
