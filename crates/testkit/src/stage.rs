//! Servers that count and a client beside them, in namespaces: what most stories begin with.

use crate::{Group, Machine, Network, Node, Process, listening, seconds};
use std::net::SocketAddr;

/// Servers, and a client `viewer`, with a user `ann`.
pub struct Stage {
    /// The servers, as a group.
    pub group: Group,
    /// All machines.
    pub network: Network,
}

impl Stage {
    /// Servers of these names that run `binary`, when all of them count.
    pub fn set(machine: &Machine, binary: &str, servers: &[&str]) -> Self {
        let network = Network::with_viewer(machine, servers);
        let group = Group::of(binary).in_network(&network, servers).start();
        group.wait_for_voters();
        group.add_user(0, "ann");
        Self { group, network }
    }

    /// The client's machine.
    pub fn viewer(&self) -> &Node {
        self.network.node("viewer")
    }

    /// A `stead connect` on the viewer, and where it listens.
    pub fn connect(&self, token: &str, app: &str) -> (Process, SocketAddr) {
        let connect = self.group.connect(Some(self.viewer()), "ann", token, app);
        let listen = listening(&connect, seconds(20));
        (connect, listen)
    }
}
