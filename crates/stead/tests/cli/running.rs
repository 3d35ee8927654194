//! The program as it is run, and a server of a group of one on loopback.

use assert_cmd::Command;
use serde_json::Value;
use std::borrow::BorrowMut;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::eventually;

/// The password of `admin`.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// The program, without anything of the machine's environment that would change what it does.
pub(crate) fn stead() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEAD_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("NO_COLOR")
        .env("COLUMNS", "110")
        .timeout(Duration::from_secs(60));
    command
}

/// What a run left: exit code, stdout, stderr.
pub(crate) fn run(mut command: impl BorrowMut<Command>) -> (i32, String, String) {
    let output = command.borrow_mut().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A server of a group of one on loopback, ended with the test.
pub(crate) struct Running {
    pub(crate) folder: TempDir,
    process: Child,
}

/// Founds a group there; beside it lies the password.
fn init(data: &Path) {
    let (code, out, err) = run(stead()
        .args([
            "init",
            "--name",
            "s1",
            "--group",
            "testers",
            "--peer",
            "127.0.0.1:0",
            "--client",
            "127.0.0.1:0",
            "--json",
        ])
        .arg("--data")
        .arg(data)
        .arg("--admin-password-file")
        .arg(data.with_file_name("password")));
    assert_eq!(code, 0, "{err}");
    let made: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(made["group"], "testers");
    assert!(
        made["ca_fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::of(init)
    }

    /// A server in whose data folder something made a group.
    pub(crate) fn of(make: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        let data = folder.path().join("data");
        make(&data);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = std::process::Command::new(env!("CARGO_BIN_EXE_stead"))
            .args(["serve", "--data"])
            .arg(&data)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Self { folder, process };
        eventually(
            Duration::from_secs(30),
            "the server to act as primary",
            || {
                let (code, out, _) = run(running.command(&["status", "--json"]));
                code == 0 && serde_json::from_str::<Value>(&out).unwrap()["acting"] == true
            },
        );
        running
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = stead();
        command
            .env("HOME", self.folder.path())
            .args(arguments)
            .arg("--data")
            .arg(self.data());
        command
    }

    /// Runs a command that must succeed and gives its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let (code, out, err) = run(self.command(arguments).arg("--json"));
        assert_eq!(code, 0, "stead {arguments:?}: {err}\n{}", self.log());
        assert_eq!(err, "", "stead {arguments:?}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out:?}"))
    }

    /// Runs a command that must fail with this exit code and gives what it says.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let (found, out, err) = run(self.command(arguments));
        assert_eq!(
            found,
            code,
            "stead {arguments:?}: {out}{err}\n{}",
            self.log()
        );
        assert_eq!(out, "", "stead {arguments:?}");
        assert!(
            err.starts_with("error: ") && err.contains("\n  why: "),
            "{err}"
        );
        err
    }

    fn log(&self) -> String {
        let mut text = String::new();
        let file = std::fs::File::open(self.path("log"));
        file.and_then(|mut file| file.read_to_string(&mut text))
            .unwrap();
        text
    }
}

impl Running {
    /// Their keepers would outlive the server.
    fn end_sessions(&self) {
        let list = self.command(&["session", "list", "--json"]);
        let (_, out, _) = run(list);
        let sessions: Value = serde_json::from_str(&out).unwrap_or_default();
        let ids = sessions.as_array().into_iter().flatten();
        for id in ids.filter_map(|one| one["id"].as_str()) {
            run(self.command(&["session", "end", id]));
        }
        let folder = self.data().join("sessions");
        let left = || std::fs::read_dir(&folder).is_ok_and(|mut left| left.next().is_some());
        let until = Instant::now() + Duration::from_secs(10);
        while left() && Instant::now() < until {
            // tidy: polls: a keeper removes its folder when it has ended
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end_sessions();
        // Already gone is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
