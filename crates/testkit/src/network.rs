//! Machines that exist only as network namespaces, joined by one switch that is a namespace too.
//!
//! Each [`Node`] has one interface `eth0` with an address of its own in 10.77.0.0/24. Nothing is connected to the
//! machine's own network, so every network may use the same addresses. Cuts drop frames silently, as real ones do:
//!
//! - [`Node::unplug`] pulls the cable: the node hears nobody and nobody hears it;
//! - [`Network::cut`] takes one path away in both directions, [`Network::cut_one_way`] in one; all others stay.
//!
//! Accounts of people can differ from node to node ([`Node::add_account`]).
//!
//! A one-way cut gives the sender a wrong hardware address for the receiver, which needs no firewall in the kernel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::machine::{Machine, next_number, process_exists};
use crate::process::{Process, kill, run, try_run};

/// Every namespace made here is called `stead-PID-NUMBER-NAME`.
const PREFIX: &str = "stead-";
/// What `ip netns exec` shows programs in place of files of /etc lies here, by namespace (ip-netns(8)).
const ETC: &str = "/etc/netns";
/// Nobody has this hardware address.
const NOWHERE: &str = "02:00:00:00:00:00";

/// Namespaces on one switch; removed, with every process in them, when dropped.
#[derive(Debug)]
pub struct Network {
    switch: String,
    nodes: BTreeMap<String, Node>,
}

/// One namespace of a [`Network`].
#[derive(Debug, Clone)]
pub struct Node {
    name: String,
    namespace: String,
    switch: String,
    /// The switch's end of the cable.
    port: String,
    address: Ipv4Addr,
    hardware: String,
}

impl Network {
    /// Makes a namespace for each name, joined by a switch. The first has 10.77.0.1, the next 10.77.0.2, and so on.
    ///
    /// # Panics
    /// When the namespaces cannot be made: not root, or `ip` is missing. Says what `ip` said.
    #[track_caller]
    pub fn new(_machine: &Machine, names: &[&str]) -> Self {
        let stem = format!("{PREFIX}{}-{}", std::process::id(), next_number());
        let switch = format!("{stem}-switch");
        let mut network = Self {
            switch: switch.clone(),
            nodes: BTreeMap::new(),
        };
        run("ip", &["netns", "add", &switch]);
        inside(&switch, &["ip", "link", "add", "br0", "type", "bridge"]);
        inside(&switch, &["ip", "link", "set", "br0", "up"]);
        for (index, name) in names.iter().enumerate() {
            let last =
                u8::try_from(index + 1).expect("invariant: a network has fewer than 255 nodes");
            let node = Node {
                name: (*name).to_owned(),
                namespace: format!("{stem}-{name}"),
                switch: switch.clone(),
                port: format!("port{last}"),
                address: Ipv4Addr::new(10, 77, 0, last),
                hardware: format!("02:77:00:00:00:{last:02x}"),
            };
            // Known before it is complete, so that a failure half-way leaves nothing behind.
            network.nodes.insert(node.name.clone(), node.clone());
            node.make();
        }
        network
    }

    /// The node of that name.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .get(name)
            .unwrap_or_else(|| panic!("no node is called {name}"))
    }

    /// A network of these servers and a client `viewer`.
    pub fn with_viewer(machine: &Machine, servers: &[&str]) -> Self {
        Self::new(machine, &[servers, &["viewer"]].concat())
    }

    /// All nodes, in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Takes the path between two nodes away, in both directions.
    pub fn cut(&self, one: &str, other: &str) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Gives the path between two nodes back.
    pub fn mend(&self, one: &str, other: &str) {
        for (from, to) in [(one, other), (other, one)] {
            let (from, to) = (self.node(from), self.node(to));
            from.teach(to, &to.hardware);
        }
    }

    /// Nothing that `from` sends reaches `to` any more; the other direction stays.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.node(from).teach(self.node(to), NOWHERE);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in self.nodes.values() {
            remove(&node.namespace);
        }
        remove(&self.switch);
    }
}

impl Node {
    fn make(&self) {
        let Self {
            namespace,
            switch,
            port,
            hardware,
            ..
        } = self;
        run("ip", &["netns", "add", namespace]);
        inside(
            switch,
            &[
                "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns",
                namespace,
            ],
        );
        inside(switch, &["ip", "link", "set", port, "master", "br0", "up"]);
        inside(namespace, &["ip", "link", "set", "lo", "up"]);
        inside(
            namespace,
            &["ip", "link", "set", "eth0", "address", hardware, "up"],
        );
        inside(
            namespace,
            &[
                "ip",
                "address",
                "add",
                &format!("{}/24", self.address),
                "dev",
                "eth0",
            ],
        );
    }

    /// What the test calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of its namespace, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its address on the switch.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives this machine an account of a person, whose home is /tmp and whose group has the same number. It is there for what is started
    /// by name from now on ([`Node::command`]).
    ///
    /// # Panics
    /// When the files of accounts cannot be read or written.
    #[track_caller]
    pub fn add_account(&self, name: &str, id: u32) {
        let folder = Path::new(ETC).join(&self.namespace);
        std::fs::create_dir_all(&folder).expect("invariant: tests run as root");
        for (file, line) in [
            ("passwd", format!("{name}:x:{id}:{id}::/tmp:/bin/sh\n")),
            ("group", format!("{name}:x:{id}:\n")),
        ] {
            let own = folder.join(file);
            let general = Path::new("/etc").join(file);
            let before =
                std::fs::read_to_string(&own).or_else(|_| std::fs::read_to_string(&general));
            let before =
                before.unwrap_or_else(|error| panic!("reading {}: {error}", general.display()));
            std::fs::write(&own, before + &line)
                .unwrap_or_else(|error| panic!("writing {}: {error}", own.display()));
        }
    }

    /// Says which names stand for which addresses here, in place of what was said before. Programs see it that are started inside
    /// after it was said for the first time; what is said later they see too.
    pub fn set_hosts(&self, hosts: &[(&str, &str)]) {
        let folder = Path::new(ETC).join(&self.namespace);
        std::fs::create_dir_all(&folder).expect("invariant: tests run as root");
        let lines = hosts
            .iter()
            .map(|(address, name)| format!("{address} {name}\n"));
        let text = "127.0.0.1 localhost\n".to_owned() + &lines.collect::<String>();
        let file = folder.join("hosts");
        // In place: programs hold on to the file as they found it.
        std::fs::write(&file, text)
            .unwrap_or_else(|error| panic!("writing {}: {error}", file.display()));
    }

    /// A command that will run inside; add arguments and start it. Its process id is that of the program.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Starts a program inside.
    #[track_caller]
    pub fn start(&self, label: &str, program: &str, arguments: &[&str]) -> Process {
        Process::start(
            &format!("{label} on {}", self.name),
            self.command(program).args(arguments),
        )
    }

    /// Pulls the cable: the node is cut off from everybody, without a word.
    pub fn unplug(&self) {
        inside(&self.switch, &["ip", "link", "set", &self.port, "down"]);
    }

    /// Puts the cable back.
    pub fn plug(&self) {
        inside(&self.switch, &["ip", "link", "set", &self.port, "up"]);
    }

    /// Does something in a thread that is inside: sockets opened there belong to this node, wherever they go later.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or `work` panics.
    #[track_caller]
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace);
        let entered = move || {
            let namespace =
                File::open(&path).unwrap_or_else(|error| panic!("opening {path}: {error}"));
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("entering {path}: {error}"));
            work()
        };
        std::thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Opens a TCP connection from inside.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    pub fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&address, limit))
    }

    /// Ids of the processes that run inside.
    pub fn processes(&self) -> Vec<u32> {
        pids(&self.namespace)
    }

    /// Tells this node which hardware address belongs to another.
    fn teach(&self, other: &Self, hardware: &str) {
        let address = other.address.to_string();
        inside(
            &self.namespace,
            &[
                "ip",
                "neighbour",
                "replace",
                &address,
                "lladdr",
                hardware,
                "nud",
                "permanent",
                "dev",
                "eth0",
            ],
        );
    }
}

/// Runs a command inside a namespace.
#[track_caller]
fn inside(namespace: &str, command: &[&str]) -> String {
    let arguments: Vec<&str> = ["netns", "exec", namespace]
        .iter()
        .chain(command)
        .copied()
        .collect();
    run("ip", &arguments)
}

fn pids(namespace: &str) -> Vec<u32> {
    let listed = try_run("ip", &["netns", "pids", namespace]).unwrap_or_default();
    listed
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

/// Kills what runs inside, then removes the namespace. What is gone already is no failure.
fn remove(namespace: &str) {
    for pid in pids(namespace) {
        kill(pid, Signal::KILL);
    }
    let _gone = try_run("ip", &["netns", "delete", namespace]);
    let _none = std::fs::remove_dir_all(Path::new(ETC).join(namespace));
}

/// Removes namespaces whose test process no longer exists.
pub(crate) fn remove_stale() {
    let listed = try_run("ip", &["netns", "list"]).unwrap_or_default();
    for name in listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse().ok());
        if owner.is_some_and(|pid| !process_exists(pid)) {
            remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::wait::{eventually, millis, seconds};

    fn answers(from: &Node, to: &Node) -> bool {
        let limit = millis(300);
        let address = SocketAddr::new(to.address().into(), 7000);
        let Ok(mut stream) = from.connect(address, limit) else {
            return false;
        };
        stream.set_read_timeout(Some(limit)).expect("a timeout");
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
    }

    /// Answers each byte with itself, in threads that end with the test process.
    fn echo(node: &Node) {
        let listener = node
            .within(|| TcpListener::bind("0.0.0.0:7000"))
            .expect("a free port");
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
    }

    #[test]
    fn links_are_cut_and_mended() {
        let machine = Machine::alone();
        let network = Network::new(&machine, &["a", "b", "c"]);
        let [a, b, c] = ["a", "b", "c"].map(|name| network.node(name));
        [a, b, c].into_iter().for_each(echo);
        eventually(seconds(5), "all reach all", || {
            answers(a, b) && answers(b, c) && answers(c, a)
        });

        network.cut("a", "b");
        assert!(!answers(a, b) && !answers(b, a));
        assert!(answers(a, c) && answers(c, b), "other paths stay");
        network.mend("a", "b");
        eventually(seconds(5), "the path is back", || {
            answers(a, b) && answers(b, a)
        });

        c.unplug();
        assert!(!answers(c, a) && !answers(b, c));
        assert!(answers(a, b));
        c.plug();
        eventually(seconds(5), "the cable is back", || {
            answers(c, a) && answers(b, c)
        });
    }

    #[test]
    fn a_one_way_cut_stops_an_open_connection_in_one_direction() {
        let machine = Machine::alone();
        let network = Network::new(&machine, &["a", "b"]);
        let (a, b) = (network.node("a"), network.node("b"));
        let listener = b
            .within(|| TcpListener::bind("0.0.0.0:7000"))
            .expect("a free port");
        let mut sender = a
            .connect(SocketAddr::new(b.address().into(), 7000), seconds(5))
            .expect("a path");
        let (mut receiver, _) = listener.accept().expect("a connection");
        network.cut_one_way("a", "b");
        receiver.write_all(b"down").expect("an open connection");
        let mut bytes = [0; 4];
        sender
            .read_exact(&mut bytes)
            .expect("the other direction stays");
        sender.write_all(b"up").expect("an open connection");
        receiver
            .set_read_timeout(Some(millis(300)))
            .expect("a timeout");
        assert!(receiver.read(&mut bytes).is_err(), "nothing comes through");
        network.mend("a", "b");
        receiver
            .set_read_timeout(Some(seconds(10)))
            .expect("a timeout");
        receiver
            .read_exact(bytes.get_mut(..2).expect("two"))
            .expect("what was sent comes after all");
    }

    #[test]
    fn nothing_is_left_behind() {
        let machine = Machine::alone();
        let network = Network::new(&machine, &["a"]);
        let namespace = network.node("a").namespace().to_owned();
        let mut process =
            network
                .node("a")
                .start("a reader", "sh", &["-c", "setsid sleep 1000 & read line"]);
        eventually(seconds(5), "both processes run", || {
            network.node("a").processes().len() >= 2
        });
        let pids = network.node("a").processes();
        drop(network);
        assert!(
            !try_run("ip", &["netns", "list"])
                .expect("a list")
                .contains(&namespace)
        );
        assert!(process.wait(seconds(5)).code().is_none(), "it was killed");
        drop(process);
        eventually(seconds(5), "all are gone", || {
            pids.iter().all(|pid| !process_exists(*pid))
        });
    }
}
