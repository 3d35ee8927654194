//! OpenSSH as people use it: a server with keys of its own, and what a client needs to come in.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::network::Node;
use crate::process::Process;

const PROGRAM: &str = "/usr/sbin/sshd";

/// Keys for servers, all the same, and for the user who may come in: root, by key only.
#[derive(Debug)]
pub struct SshKeys {
    folder: TempDir,
}

impl SshKeys {
    /// Makes them.
    ///
    /// # Panics
    /// When `ssh-keygen` is missing or fails.
    #[track_caller]
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("stead-ssh-").tempdir();
        let keys = Self {
            folder: folder.expect("a folder for keys"),
        };
        for key in ["host", "user"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            let made = command.arg(keys.path(key)).status();
            assert!(made.is_ok_and(|status| status.success()), "no key {key}");
        }
        keys
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a server at a node's loopback address, or at all of its addresses.
    ///
    /// # Panics
    /// When its configuration cannot be written.
    #[track_caller]
    pub fn serve(&self, node: &Node, port: u16, everywhere: bool) -> Process {
        // It refuses to start without.
        fs::create_dir_all("/run/sshd").expect("/run/sshd");
        let address = if everywhere { "0.0.0.0" } else { "127.0.0.1" };
        let text = format!(
            "ListenAddress {address}:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n",
            self.path("host").display(),
            self.path("user.pub").display(),
        );
        let file = self.path(&format!("sshd_config-{}", node.name()));
        fs::write(&file, text).expect("a configuration");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("its mode");
        let mut command = node.command(PROGRAM);
        let label = format!("sshd on {}", node.name());
        Process::start(&label, command.args(["-D", "-e", "-f"]).arg(file))
    }

    /// `ssh` at a node, with the user's key, believing no server but these; add options, the port and the host.
    pub fn client(&self, node: &Node) -> Command {
        let host = fs::read_to_string(self.path("host.pub")).unwrap_or_default();
        let known = self.path("known");
        // Whatever port and address they are reached at.
        let written = fs::write(&known, format!("* {host}"));
        debug_assert!(written.is_ok(), "{written:?}");
        let mut command = node.command("ssh");
        command
            .args(["-F", "none", "-o", "BatchMode=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .args(["-o", "StrictHostKeyChecking=yes", "-i"])
            .arg(self.path("user"));
        command
    }

    /// The version of what is installed; `None` when the server is not.
    pub fn version() -> Option<String> {
        if !fs::exists(PROGRAM).ok()? {
            return None;
        }
        let output = Command::new("ssh").arg("-V").output().ok()?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        let version = printed.split([' ', ',']).next()?;
        Some(version.trim_start_matches("OpenSSH_").to_owned())
    }
}

impl Default for SshKeys {
    fn default() -> Self {
        Self::new()
    }
}
