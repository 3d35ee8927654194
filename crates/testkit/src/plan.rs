//! How a group is to be: which binary, how many servers, and where they lie.
//!
//! Start at [`Group::of`].

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use crate::group::{CLIENT_PORT, Group, PEER_PORT};
use crate::machine::next_number;
use crate::network::{Network, Node};

/// A group in the making.
#[derive(Debug)]
pub struct GroupPlan {
    pub(crate) binary: PathBuf,
    pub(crate) places: Vec<Place>,
    pub(crate) environment: Vec<(String, String)>,
}

/// Where a server lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) node: Option<Node>,
}

impl Group {
    /// Plans a group of servers that run this binary: `Group::of(env!("CARGO_BIN_EXE_stead"))`.
    pub fn of(binary: impl AsRef<Path>) -> GroupPlan {
        GroupPlan {
            binary: binary.as_ref().to_owned(),
            places: Vec::new(),
            environment: Vec::new(),
        }
    }
}

impl GroupPlan {
    /// That many servers on loopback addresses that nobody uses, called `s1`, `s2`, ...
    #[must_use]
    pub fn on_loopback(mut self, servers: u8) -> Self {
        self.places = free_loopback(servers);
        self
    }

    /// One server on each of these nodes, called like it.
    #[must_use]
    pub fn in_network(mut self, network: &Network, nodes: &[&str]) -> Self {
        let place = |name: &&str| {
            let node = network.node(name).clone();
            Place {
                name: node.name().to_owned(),
                address: node.address().into(),
                node: Some(node),
            }
        };
        self.places = nodes.iter().map(place).collect();
        self
    }

    /// Which names stand for which addresses on the nodes of its servers, from the start; see [`Node::set_hosts`].
    #[must_use]
    pub fn hosts(self, hosts: &[(&str, &str)]) -> Self {
        let nodes = self.places.iter().filter_map(|place| place.node.as_ref());
        nodes.for_each(|node| node.set_hosts(hosts));
        self
    }

    /// An environment variable for every program of this group.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the group, and waits until every server is a voter that counts.
    ///
    /// # Panics
    /// When anything refuses: says which command, and what it said.
    #[track_caller]
    pub fn start(self) -> Group {
        let mut group = self.start_first();
        for index in 1..group.servers().len() {
            group.join(index);
        }
        group.wait_for_voters();
        group
    }

    /// Makes the group with its first server only; the others join with [`Group::join`].
    ///
    /// # Panics
    /// As [`GroupPlan::start`].
    #[track_caller]
    pub fn start_first(self) -> Group {
        Group::with_first(self)
    }
}

/// Places 127.x.y.1, .2, ... where both ports are free; x and y differ between processes and between groups of one.
fn free_loopback(servers: u8) -> Vec<Place> {
    let first = std::process::id()
        .wrapping_mul(31)
        .wrapping_add(next_number());
    for attempt in 0..1000 {
        let [.., x, y] = first.wrapping_add(attempt).to_be_bytes();
        let place = |last: u8| Place {
            name: format!("s{last}"),
            address: Ipv4Addr::new(127, x.max(1), y, last).into(),
            node: None,
        };
        let places: Vec<Place> = (1..=servers).map(place).collect();
        let free = |place: &Place, port| TcpListener::bind((place.address, port)).is_ok();
        if places
            .iter()
            .all(|place| free(place, PEER_PORT) && free(place, CLIENT_PORT))
        {
            return places;
        }
    }
    panic!(
        "no free loopback addresses: is something listening on all addresses at port {PEER_PORT}?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_places_differ() {
        let (one, other) = (free_loopback(3), free_loopback(3));
        assert_eq!(one.len(), 3);
        assert!(one.iter().all(|place| place.address.is_loopback()));
        assert!(
            one.iter()
                .all(|place| other.iter().all(|other| other.address != place.address))
        );
    }
}
