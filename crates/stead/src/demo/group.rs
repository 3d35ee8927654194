//! The demo's group: three servers in a folder of their own, made with the administrator's commands, removed at the end.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use client::Fingerprint;
use rustix::process::Signal;
use serde_json::Value;

use super::machine::Machine;
use super::seat::{Seat, Seats};
use super::stage::Stage;
use super::{eventually, failed, processes};
use crate::errors::Failure;

/// How long servers may take until all three count; each must have been healthy for 10 s.
const ALL_COUNT: Duration = Duration::from_secs(40);
/// How long a server may have to wait before it can join.
const JOIN: Duration = Duration::from_secs(20);
/// How long the sessions' processes may take to end.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// The account that uses the sessions.
const USER: &str = "ann";

pub(super) struct Group {
    folder: PathBuf,
    program: PathBuf,
    pub(super) machines: [Machine; 3],
    ca: Option<Fingerprint>,
    password: String,
    is_kept: bool,
}

impl Group {
    /// Makes the folder and finds free addresses. Nothing runs yet.
    pub(super) fn prepare() -> Result<Self, Failure> {
        let what = "the demo was not prepared";
        let program = std::env::current_exe().map_err(|error| failed(what, error))?;
        let password = random_word().map_err(|error| failed(what, error))?;
        let folder =
            std::env::temp_dir().join(format!("stead-demo-{}", password.get(..8).unwrap_or("x")));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(what, error))?;
        let first = u8::try_from(std::process::id() % 200).unwrap_or(0) + 1;
        let machines = (0..50_u8)
            .map(|step| {
                let part = first.wrapping_add(step);
                let machine = |name, last| {
                    Machine::new(name, Ipv4Addr::new(127, 77, part, last), &folder, &program)
                };
                [
                    machine("boston", 1),
                    machine("chicago", 2),
                    machine("denver", 3),
                ]
            })
            .find(|machines| machines.iter().all(Machine::is_free));
        let Some(machines) = machines else {
            // Nothing else is in it yet.
            let _ = fs::remove_dir(&folder);
            return Err(failed(
                what,
                "no free addresses were found in 127.77.0.0/16",
            ));
        };
        Ok(Self {
            folder,
            program,
            machines,
            ca: None,
            password,
            is_kept: false,
        })
    }

    /// Founds the group, and waits until its three servers count.
    pub(super) async fn found(&mut self, stage: &Stage) -> Result<(), Failure> {
        stage.heading("A group of three servers on this machine");
        stage.line(
            "folder",
            &format!("everything is in {}", self.folder.display()),
        );
        let password = self.write_secret("password", &self.password)?;
        let [boston, ..] = &self.machines;
        let boston_words = [
            "--name",
            boston.name,
            "--group",
            "demo",
            "--peer",
            &boston.peer,
            "--client",
            &boston.client,
        ];
        let mut words = vec!["init"];
        words.extend(boston_words);
        words.extend(["--admin-password-file", text(&password)]);
        let made = self.stead(0, &words).await?;
        let ca = made
            .get("ca_fingerprint")
            .and_then(Value::as_str)
            .unwrap_or_default();
        self.ca = Some(
            ca.parse()
                .map_err(|error| failed("the group was not founded", error))?,
        );
        self.machine(0).serve().await?;
        stage.line(
            "founded",
            &format!("boston has founded the group ({})", self.machine(0).client),
        );
        self.invite_others(stage).await?;
        self.add_accounts(&password).await?;
        stage.line(
            "waiting",
            "a server counts when it has been healthy for 10 s: waiting until all three do",
        );
        let [boston, ..] = &self.machines;
        eventually(ALL_COUNT, "all three servers to count", async || {
            let status = boston.status().await?;
            let quorum = status.get("quorum")?;
            (quorum.get("voters")?.as_u64()? == 3 && quorum.get("reachable")?.as_u64()? == 3)
                .then_some(())
        })
        .await?;
        stage.line(
            "ready",
            "boston is primary; the group survives the loss of any one server",
        );
        Ok(())
    }

    async fn invite_others(&mut self, stage: &Stage) -> Result<(), Failure> {
        for index in [1, 2] {
            let began = Instant::now();
            // A server is told to wait while the one before it is still arriving everywhere.
            while let Err(failure) = self.join(index).await {
                if began.elapsed() > JOIN {
                    return Err(failure);
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            let machine = self.machine(index);
            machine.serve().await?;
            let words = format!("{} has joined ({})", machine.name, machine.client);
            stage.line("joined", &words);
        }
        Ok(())
    }

    async fn join(&self, index: usize) -> Result<(), Failure> {
        let invitation = self.stead(0, &["group", "invite", "--voter"]).await?;
        let code = invitation.get("code").and_then(Value::as_str);
        let code = code.ok_or_else(|| failed("no server was invited", "there is no code"))?;
        let machine = self.machines.get(index);
        let Machine {
            name, peer, client, ..
        } = machine.ok_or_else(|| failed("no server joined", "there are three"))?;
        let words = [
            "join", code, "--name", name, "--peer", peer, "--client", client,
        ];
        self.stead(index, &words).await.map(drop)
    }

    /// The user, and the two applications.
    async fn add_accounts(&self, password: &Path) -> Result<(), Failure> {
        self.stead(0, &["user", "add", USER, "--password-file", text(password)])
            .await?;
        let echo = format!("{} demo --echo {{socket}}", self.program.display());
        self.stead(0, &["app", "add", "shell", "--launch", "@pty /bin/sh"])
            .await?;
        self.stead(
            0,
            &[
                "app",
                "add",
                "bytes",
                "--launch",
                &echo,
                "--backend",
                "unix:{socket}",
            ],
        )
        .await?;
        Ok(())
    }

    /// Opens both sessions, on the server that is last in line to become primary.
    pub(super) async fn seats(&mut self, stage: &Stage) -> Result<Seats, Failure> {
        stage.heading("Two sessions of a user, both on denver");
        for name in ["boston", "chicago"] {
            self.stead(
                0,
                &[
                    "server",
                    "offline",
                    name,
                    "--reason",
                    "the demo wants its sessions on denver",
                ],
            )
            .await?;
        }
        let servers: Vec<String> = self
            .machines
            .iter()
            .map(|machine| machine.client.clone())
            .collect();
        let ca = self
            .ca
            .ok_or_else(|| failed("no session was opened", "the group was not founded"))?;
        let seat = |app| Seat::take(servers.clone(), ca, app, USER, &self.password, stage);
        let (shell, bytes) = (seat("shell").await?, seat("bytes").await?);
        for name in ["boston", "chicago"] {
            self.stead(0, &["server", "online", name]).await?;
        }
        let seats = Seats::sit_down(shell, bytes).await?;
        stage.line(
            "sitting",
            "a shell that remembers a word, and a stream of bytes that is compared on its way back",
        );
        Ok(seats)
    }

    pub(super) fn machine(&mut self, index: usize) -> &mut Machine {
        let [boston, chicago, denver] = &mut self.machines;
        match index {
            0 => boston,
            1 => chicago,
            _ => denver,
        }
    }

    /// Runs an administrator's command at a server; its JSON answer.
    async fn stead(&self, index: usize, words: &[&str]) -> Result<Value, Failure> {
        let data = self
            .machines
            .get(index)
            .map(|machine| machine.data.clone())
            .unwrap_or_default();
        let is_word = |word: &&&str| word.len() < 10 && !word.starts_with('-');
        let shown: Vec<&str> = words.iter().take(2).take_while(is_word).copied().collect();
        let what = format!("`stead {} ...` did not succeed", shown.join(" "));
        let mut command = tokio::process::Command::new(&self.program);
        for variable in ["STEAD_SERVER", "STEAD_CA", "STEAD_CONFIG"] {
            command.env_remove(variable);
        }
        let command = command
            .args(words)
            .arg("--json")
            .env("STEAD_DATA", data)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = command
            .output()
            .await
            .map_err(|error| failed(&what, error))?;
        if !output.status.success() {
            return Err(failed(&what, String::from_utf8_lossy(&output.stderr)));
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    fn write_secret(&self, name: &str, secret: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let written = file.and_then(|mut file| file.write_all(secret.as_bytes()));
        written.map_err(|error| failed("the demo's password was not kept", error))?;
        Ok(path)
    }

    /// Shows the last lines of each server's log, after something went wrong.
    pub(super) fn tell_logs(&self, stage: &Stage) {
        for machine in &self.machines {
            for line in machine.last_words() {
                stage.line("log", &format!("{}: {line}", machine.name));
            }
        }
    }

    /// Waits until none of its processes is left, but not for long.
    fn wait_until_empty(&self, began: Instant) {
        while !processes::of_folder(&self.folder).is_empty() && began.elapsed() < LAST_BREATH {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Leaves the group running, all of it, and says how to use it.
    pub(super) async fn keep(&mut self, stage: &Stage) -> Result<(), Failure> {
        for index in 0..3 {
            if self.machine(index).status().await.is_none() {
                self.machine(index).serve().await?;
            }
        }
        self.machines.iter_mut().for_each(Machine::let_go);
        self.is_kept = true;
        let program = self.program.display();
        let folder = self.folder.display();
        let servers: Vec<&str> = self
            .machines
            .iter()
            .map(|machine| machine.client.as_str())
            .collect();
        let ca = self.ca.map(|ca| ca.to_string()).unwrap_or_default();
        stage.hints(&[
            ("The group is left running. Its state", format!("{program} status --data {folder}/boston")),
            (
                "A shell in a session",
                format!(
                    "{program} connect --server {} --ca {ca} --token card.you --app shell --user {USER} --password-file {folder}/password --stdio",
                    servers.join(",")
                ),
            ),
            ("A failure", format!("pkill -9 -f 'serve --data {folder}/denver'")),
            ("The server again", format!("{program} serve --data {folder}/denver")),
            ("To end it all", format!("pkill -9 -f {folder}; rm -r {folder}")),
        ]);
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // Servers first, so that nothing is started again; then keepers, which end their sessions when asked.
        for machine in &mut self.machines {
            // A keeper's own signal would wait while it is frozen.
            processes::signal(&processes::of_folder(&machine.data), Signal::CONT);
        }
        for machine in &mut self.machines {
            // One that was killed before is no failure.
            let _ = machine.kill_server();
        }
        let began = Instant::now();
        processes::signal(&processes::of_folder(&self.folder), Signal::TERM);
        self.wait_until_empty(began);
        processes::signal(&processes::of_folder(&self.folder), Signal::KILL);
        self.wait_until_empty(Instant::now());
        // Keepers that were killed leave the control groups that they lived in.
        for session in self.machines.iter().flat_map(Machine::session_folders) {
            if let Err(error) = remove_soon(&session) {
                tracing::warn!(%error, folder = %session.display(), "a session was not cleaned up");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the demo's folder was not removed");
        }
    }
}

/// Removes a session's folder and groups. A keeper that was killed may take a moment to let go of it.
fn remove_soon(session: &Path) -> std::io::Result<()> {
    let began = Instant::now();
    loop {
        match host::remove(session) {
            Err(error)
                if error.kind() == std::io::ErrorKind::ResourceBusy
                    && began.elapsed() < LAST_BREATH =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Thirty-two hexadecimal digits from the system's source of randomness.
fn random_word() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
