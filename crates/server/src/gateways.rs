//! Gateways on this server: a listener for each that the directory has, and the way of each client to its session's backend.
//!
//! Always true: what does not work (a port that is taken, say) is tried again every [`AGAIN`] and is in the status; a gateway that
//! is removed accepts nobody from then on, and those whom it has relayed stay until they go. Start at [`run`].

mod pace;
mod visitors;
mod way;

pub(crate) use visitors::Visitors;

use crate::node::{Current, Node};
use model::{Gateway, GatewayName};
use pace::Pace;
use relay::gateway::Pipes;
use relay::{Arrival, Gate, Limits, Stop, Stopper};
use rustix::net::sockopt;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{sleep, timeout};

/// How often it is tried again to listen.
const AGAIN: Duration = Duration::from_secs(1);
/// Changes are gathered this long before they are looked at.
const GATHER: Duration = Duration::from_millis(10);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;
/// Pipes of all gateways together; the busy directions beyond are copied. All full, they hold 350 MiB.
const PIPES: usize = 1_024;

/// For the clients of one gateway.
const LIMITS: Limits = Limits {
    total: 20_000,
    unproved: 2_048,
    unproved_per_address: 512,
    turned_away: 0,
    proofs_per_second: 400,
};

/// What other parts of the server may know of the gateways here.
#[derive(Debug)]
pub struct Gateways {
    here: Mutex<BTreeMap<GatewayName, Here>>,
    pub(crate) visitors: Visitors,
    pace: Pace,
    pipes: Pipes,
}

/// A gateway on this server.
#[derive(Debug)]
struct Here {
    gateway: Arc<Gateway>,
    gate: Gate,
    /// Stops the listener when it is dropped; or why there is none.
    listening: Result<Stopper, String>,
}

/// How a gateway is on this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayState {
    /// Why it does not accept clients here; none: it does.
    pub error: Option<String>,
    /// Clients that are connected here.
    pub connections: usize,
}

impl Default for Gateways {
    fn default() -> Self {
        Self {
            here: Mutex::default(),
            visitors: Visitors::default(),
            pace: Pace::default(),
            pipes: Pipes::new(PIPES),
        }
    }
}

impl Gateways {
    /// How a gateway is here; none: it was made a moment ago.
    pub fn state(&self, name: &GatewayName) -> Option<GatewayState> {
        let here = self.here();
        let here = here.get(name)?;
        Some(GatewayState {
            error: here.listening.as_ref().err().cloned(),
            connections: here.gate.inside().0,
        })
    }

    /// What does not work here, in words.
    pub fn troubles(&self) -> Vec<String> {
        let here = self.here();
        let troubles = here.values().filter_map(|here| {
            let error = here.listening.as_ref().err()?;
            let Gateway { name, listen, .. } = &*here.gateway;
            Some(format!("gateway {name} cannot listen at {listen}: {error}"))
        });
        troubles.collect()
    }

    fn here(&self) -> MutexGuard<'_, BTreeMap<GatewayName, Here>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps gateways as the directory has them until the server stops.
pub(crate) async fn run(node: Node) {
    let mut stop = node.stop();
    let mut changed = node.directory_changed();
    let mut before: Option<Current> = None;
    loop {
        changed.borrow_and_update();
        let directory = node.directory();
        let gateways = &node.0.gateways;
        let failing = gateways.here().values().any(|here| here.listening.is_err());
        let same = before
            .as_ref()
            .is_some_and(|before| directory.has_gateways_of(before));
        if failing || !same {
            reconcile(&node, &directory);
        }
        let visitors = &gateways.visitors;
        visitors.look(before.as_deref(), &directory, node.me());
        before = Some(directory);
        let next = async {
            // A server that stops ends this otherwise.
            let _ = timeout(AGAIN, changed.changed()).await;
            sleep(GATHER).await;
        };
        tokio::select! {
            () = next => {}
            () = stop.given() => break,
        }
    }
    node.0.gateways.here().clear();
}

/// Makes listeners that are missing, and ends those that are not wanted any more.
fn reconcile(node: &Node, directory: &Current) {
    let mut here = node.0.gateways.here();
    here.retain(|name, here| {
        let wanted = directory.gateway(name);
        wanted.is_some_and(|wanted| wanted.listen == here.gateway.listen)
    });
    for gateway in directory.gateways() {
        let old = here.get(&gateway.name);
        if old.is_some_and(|old| old.listening.is_ok() && old.gateway == *gateway) {
            continue;
        }
        let gate = old.map_or_else(|| Gate::new(LIMITS), |old| old.gate.clone());
        let was_failing = old.is_some_and(|old| old.listening.is_err());
        // The old listener goes first: the new one has its address.
        here.remove(&gateway.name);
        let listening = match listen(gateway.listen) {
            Ok(listener) => {
                let (stopper, stop) = Stopper::new();
                tokio::spawn(accept(
                    node.clone(),
                    gateway.clone(),
                    listener,
                    gate.clone(),
                    stop,
                ));
                tracing::info!(gateway = %gateway.name, listen = %gateway.listen, "a gateway accepts clients");
                Ok(stopper)
            }
            Err(error) => {
                if !was_failing {
                    tracing::warn!(gateway = %gateway.name, listen = %gateway.listen, %error, "a gateway cannot listen; it is tried again");
                }
                Err(error.to_string())
            }
        };
        let entry = Here {
            gateway: gateway.clone(),
            gate,
            listening,
        };
        here.insert(gateway.name.clone(), entry);
    }
}

/// Listens at an address, which this machine may get later: one that moves with the primary, say.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_freebind(&socket, true)?,
        SocketAddr::V6(_) => sockopt::set_ipv6_freebind(&socket, true)?,
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(node: Node, gateway: Arc<Gateway>, listener: TcpListener, gate: Gate, stop: Stop) {
    relay::accept(&listener, &gate, stop, |arrival| {
        tokio::spawn(welcome(node.clone(), gateway.clone(), arrival));
    })
    .await;
}

async fn welcome(node: Node, gateway: Arc<Gateway>, arrival: Arrival) {
    let Arrival { io, from, permit } = arrival;
    let guide = way::Guide {
        node: &node,
        gateway: &gateway,
    };
    let (pipes, stop) = (&node.0.gateways.pipes, node.stop());
    let farewell =
        relay::gateway::visit(io, from, gateway.token_from, &guide, pipes, permit, stop).await;
    tracing::debug!(gateway = %gateway.name, %from, ?farewell, "a gateway's client has gone");
}
