//! HAProxy in TCP mode, with the kernel passing the bytes (splice) where it can.

use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;
use testkit::{Node, Process};

/// One HAProxy.
pub(crate) struct Haproxy {
    _process: Process,
    _folder: TempDir,
}

impl Haproxy {
    /// Relays everything that comes to a port of a node to a backend there.
    ///
    /// # Errors
    /// When there is no folder for it.
    pub(crate) fn start(node: &Node, port: u16, backend: &str) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("bench-haproxy-")
            .tempdir()?;
        let file = folder.path().join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  \
             option splice-request\n  option splice-response\n\
             listen relay\n  bind 0.0.0.0:{port}\n  balance source\n  server one {backend}\n"
        );
        std::fs::write(&file, text).context("the configuration of haproxy")?;
        let mut command = node.command("haproxy");
        let process = Process::start("haproxy", command.args(["-db", "-f"]).arg(&file));
        Ok(Self {
            _process: process,
            _folder: folder,
        })
    }

    /// The version; `None` when it is not installed.
    pub(crate) fn version() -> Option<String> {
        let output = Command::new("haproxy").arg("-v").output().ok()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = printed.split_whitespace().nth(2)?;
        Some(version.split('-').next().unwrap_or(version).to_owned())
    }
}
