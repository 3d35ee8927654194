//! What the suites in namespaces share: a group of three with a client beside it, and byte streams that are checked byte
//! by byte at both ends.

mod transfer;

use std::net::SocketAddr;
use testkit::{Group, Machine, Network, Node, Process, seconds, text};

pub use transfer::Transfer;
use transfer::{BULK, serve_bulk};

/// Three servers `boston`, `newyork`, `detroit` and a client `viewer`, all voters, with a user `ann`.
pub struct Stage {
    pub group: Group,
    pub network: Network,
    _machine: Machine,
}

pub const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];

impl Stage {
    /// Forms the group, with application `bulk` served on every host.
    pub fn set() -> Self {
        let machine = Machine::alone();
        let network = Network::new(&machine, &["boston", "newyork", "detroit", "viewer"]);
        let group = Group::of(env!("CARGO_BIN_EXE_stead"))
            .in_network(&network, &SERVERS)
            .start();
        group.wait_for_voters();
        group.add_user(0, "ann");
        group.add_app(0, "bulk", &["--backend", &format!("tcp:{BULK}")]);
        for name in SERVERS {
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
