//! OpenSSH: a server, and a client that forwards a port through it (`ssh -L`).

use testkit::{Node, Process, SshKeys};

const PORT: u16 = 2222;

/// A forwarded port.
pub(crate) struct Ssh {
    /// Ended before the server is.
    _client: Process,
    _server: Process,
    _keys: SshKeys,
}

impl Ssh {
    /// Forwards a loopback port of the viewer to an address at the server, with what both agree on by themselves.
    pub(crate) fn start(server: &Node, viewer: &Node, port: u16, to: &str) -> Self {
        let keys = SshKeys::new();
        let listening = keys.serve(server, PORT, true);
        let mut command = keys.client(viewer);
        command
            .args(["-N", "-o", "ConnectionAttempts=20", "-p", &PORT.to_string()])
            .args(["-o", "ExitOnForwardFailure=yes"])
            .args(["-L", &format!("127.0.0.1:{port}:{to}")])
            .arg(format!("root@{}", server.address()));
        Self {
            _client: Process::start("ssh", &mut command),
            _server: listening,
            _keys: keys,
        }
    }
}
