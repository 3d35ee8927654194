//! `ssh` through `stead connect`, as people use it: one shell goes on while its host's server is killed, and the next reaches another host
//! when the host is lost.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use testkit::{
    Group, Machine, Network, Node, SshKeys, event, eventually, listening, seconds, text,
};

const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];
const PORT: u16 = 2222;

/// A shell's command that sends every line back.
struct Shell {
    ssh: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

fn ssh(keys: &SshKeys, viewer: &Node, local: SocketAddr, run: &str) -> Command {
    let mut command = keys.client(viewer);
    command.args(["-p", &local.port().to_string(), "root@127.0.0.1", run]);
    command
}

impl Shell {
    fn open(keys: &SshKeys, viewer: &Node, local: SocketAddr) -> Self {
        let mut command = ssh(keys, viewer, local, "cat");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut ssh = command.spawn().expect("ssh");
        let input = ssh.stdin.take().expect("its input");
        let output = BufReader::new(ssh.stdout.take().expect("its output"));
        Self { ssh, input, output }
    }

    /// Says a line and hears it again.
    fn says(&mut self, words: &str) {
        writeln!(self.input, "{words}").expect("ssh takes a line");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("ssh gives a line");
        assert_eq!(line.trim_end(), words);
    }
}

#[test]
fn a_shell_goes_on_while_servers_die_and_the_next_one_lands_elsewhere() {
    let machine = Machine::alone();
    let network = Network::with_viewer(&machine, &SERVERS);
    let viewer = network.node("viewer");
    let keys = SshKeys::new();
    let _servers = SERVERS.map(|name| keys.serve(network.node(name), PORT, false));
    let plan = Group::of(env!("CARGO_BIN_EXE_stead"));
    let mut group = plan.in_network(&network, &SERVERS).start();
    group.wait_for_voters();
    group.add_user(0, "ann");
    group.add_app(0, "ssh", &["--backend", &format!("tcp:127.0.0.1:{PORT}")]);
    let connect = group.connect(Some(viewer), "ann", "card.ssh", "ssh");
    let local = listening(&connect, seconds(20));
    let host = text(&event(&connect, "ready", seconds(1)), "host");
    let host = group.index_of(&host).expect("a server");

    let mut shell = Shell::open(&keys, viewer, local);
    shell.says("before");
    group.kill(host);
    // The words wait until there is a path again, and nothing is said twice.
    writeln!(shell.input, "meanwhile").expect("ssh takes a line");
    group.serve(host);
    let mut line = String::new();
    shell.output.read_line(&mut line).expect("a line");
    assert_eq!(line.trim_end(), "meanwhile");
    event(&connect, "resumed", seconds(20));
    shell.says("after");

    // The host is lost, and the shell with it; the port leads to another host.
    group.wait_until_answering(host);
    network.node(SERVERS[host]).unplug();
    group.kill_host(host);
    event(&connect, "moved", seconds(30));
    eventually(seconds(20), "the shell to end with its host", || {
        shell.ssh.try_wait().expect("ssh").is_some()
    });
    let done = ssh(&keys, viewer, local, "echo here").output();
    let done = done.expect("ssh");
    assert!(
        done.status.success() && done.stdout == b"here\n",
        "{done:?}"
    );
}
