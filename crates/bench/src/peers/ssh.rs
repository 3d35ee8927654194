//! OpenSSH: a server of our own, and a client that forwards a port through it (`ssh -L`).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::{Node, Process};

const SERVER: &str = "/usr/sbin/sshd";
const PORT: u16 = 2222;

/// A forwarded port.
pub(crate) struct Ssh {
    /// Ended before the server is.
    _client: Process,
    _server: Process,
    _folder: TempDir,
}

impl Ssh {
    /// Forwards a loopback port of the viewer to an address at the server, with what both agree on by themselves.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub(crate) fn start(server: &Node, viewer: &Node, port: u16, to: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-ssh-").tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "user"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
            ensure!(command.status()?.success(), "ssh-keygen failed");
        }
        fs::copy(path("user.pub"), path("authorized"))?;
        fs::set_permissions(path("authorized"), Permissions::from_mode(0o600))?;
        // It refuses to start without.
        fs::create_dir_all("/run/sshd").context("/run/sshd")?;
        let text = format!(
            "Port {PORT}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n",
            path("host"),
            path("authorized"),
        );
        fs::write(path("sshd_config"), text)?;
        let mut command = server.command(SERVER);
        let server_process = Process::start(
            "sshd",
            command.args(["-D", "-e", "-f", &path("sshd_config")]),
        );
        let mut command = viewer.command("ssh");
        command
            .args([
                "-N",
                "-F",
                "none",
                "-i",
                &path("user"),
                "-p",
                &PORT.to_string(),
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "ConnectionAttempts=20",
            ])
            .args(["-o", &format!("UserKnownHostsFile={}", path("known"))])
            .args(["-o", "ExitOnForwardFailure=yes"])
            .args(["-L", &format!("127.0.0.1:{port}:{to}")])
            .arg(format!("root@{}", server.address()));
        Ok(Self {
            _client: Process::start("ssh", &mut command),
            _server: server_process,
            _folder: folder,
        })
    }

    /// The version; `None` when the server is not installed.
    pub(crate) fn version() -> Option<String> {
        if !fs::exists(SERVER).ok()? {
            return None;
        }
        let output = Command::new("ssh").arg("-V").output().ok()?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let version = printed.split([' ', ',']).next()?;
        Some(version.trim_start_matches("OpenSSH_").to_owned())
    }
}
