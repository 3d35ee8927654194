//! What the suites in namespaces share: a group with a client beside it, and byte streams that are checked byte by byte at
//! both ends.

mod transfer;

use std::net::SocketAddr;
use testkit::{Group, GroupPlan, Machine, Network, Node, Process, seconds, text};

pub use transfer::Transfer;
use transfer::{BULK, serve_bulk};

/// Servers and a client `viewer`, with a user `ann`.
pub struct Stage {
    pub group: Group,
    pub network: Network,
    _machine: Machine,
}

pub const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];

impl Stage {
    /// Has `form` make a group of these servers, with application `bulk` served on every host.
    pub fn of(machine: Machine, servers: &[&str], form: impl FnOnce(GroupPlan) -> Group) -> Self {
        Self::beside(machine, servers, &[], form)
    }

    /// The same with other machines in the network, which nothing runs on.
    pub fn beside(
        machine: Machine,
        servers: &[&str],
        others: &[&str],
        form: impl FnOnce(GroupPlan) -> Group,
    ) -> Self {
        let names: Vec<&str> = [servers, &["viewer"], others].concat();
        let network = Network::new(&machine, &names);
        let group = form(Group::of(env!("CARGO_BIN_EXE_stead")).in_network(&network, servers));
        group.wait_for_voters();
        group.add_user(0, "ann");
        group.add_app(0, "bulk", &["--backend", &format!("tcp:{BULK}")]);
        for name in servers {
            serve_bulk(network.node(name));
        }
        Self {
            group,
            network,
            _machine: machine,
        }
    }

    pub fn viewer(&self) -> &Node {
        self.network.node("viewer")
    }

    /// A `stead connect` on the viewer, and where it listens.
    pub fn connect(&self, token: &str, app: &str) -> (Process, SocketAddr) {
        let connect = self.group.connect(Some(self.viewer()), "ann", token, app);
        let listen = testkit::listening(&connect, seconds(20));
        (connect, listen)
    }

    /// The index of the host that a `stead connect` was given.
    pub fn host_of(&self, connect: &Process) -> usize {
        let ready = testkit::event(connect, "ready", seconds(1));
        let host = text(&ready, "host");
        self.group
            .index_of(&host)
            .unwrap_or_else(|| panic!("no server {host}"))
    }
}
