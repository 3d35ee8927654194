//! The client port: one listener for clients, programs and the console, told apart by ALPN.
//!
//! Each kind has a gate of its own, so that a flood of one does not shut out the others; before ALPN has told them
//! apart they share the gate for handshakes.

use crate::api;
use crate::node::Node;
use crate::sessions::GroupSessions;
use relay::{Arrival, Entry, Gate, Limits, Stop, Visitor, converse, turn_away};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;
use wire::client::{ALPN, EXPORTER_LABEL};

/// What the client port speaks, best first.
pub const PROTOCOLS: [&[u8]; 3] = [ALPN, b"h2", b"http/1.1"];
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Connections of programs and the console.
const HTTP: Limits = Limits {
    total: 4_096,
    unproved: 4_096,
    unproved_per_address: 1_024,
    turned_away: 0,
    proofs_per_second: 400,
};

struct Port {
    node: Node,
    sessions: GroupSessions,
    clients: Gate,
    http: Gate,
    stop: Stop,
}

/// Serves the client port, where it listens on several addresses all of them, until the server stops.
pub async fn serve(node: Node, listeners: Vec<TcpListener>, stop: Stop) {
    let handshakes = Gate::new(Limits::HANDSHAKES);
    let port = Arc::new(Port {
        sessions: GroupSessions::new(node.clone()),
        node,
        clients: Gate::new(Limits::CLIENTS),
        http: Gate::new(HTTP),
        stop: stop.clone(),
    });
    let accepting = listeners.iter().map(|listener| {
        relay::accept(listener, &handshakes, stop.clone(), |arrival| {
            tokio::spawn(Arc::clone(&port).welcome(arrival));
        })
    });
    futures_util::future::join_all(accepting).await;
}

impl Port {
    async fn welcome(self: Arc<Self>, arrival: Arrival) {
        let Arrival { io, from, permit } = arrival;
        let since = Instant::now();
        let acceptor = TlsAcceptor::from(self.node.0.shown.client.config());
        let tls = match timeout(HANDSHAKE_TIME, acceptor.accept(io)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                debug!(%from, %error, "a TLS handshake failed on the client port");
                return;
            }
            Err(_) => {
                debug!(%from, "a TLS handshake on the client port took too long");
                return;
            }
        };
        drop(permit);
        if tls.get_ref().1.alpn_protocol() == Some(ALPN) {
            self.serve_client(tls, from, since).await;
        } else if let Entry::Admitted(permit) = self.http.enter(from.ip()) {
            api::serve_connection(tls, from, self.node.clone(), self.stop.clone()).await;
            drop(permit);
        }
    }

    async fn serve_client(
        &self,
        tls: TlsStream<TcpStream>,
        from: std::net::SocketAddr,
        since: Instant,
    ) {
        let exported = tls
            .get_ref()
            .1
            .export_keying_material([0u8; 32], EXPORTER_LABEL, None);
        let Ok(exporter) = exported else {
            debug!(%from, "a TLS connection gives nothing to bind proofs to");
            return;
        };
        match self.clients.enter(from.ip()) {
            Entry::Admitted(permit) => {
                let visitor = Visitor {
                    from,
                    exporter,
                    since,
                };
                let ending =
                    converse(tls, visitor, permit, &self.sessions, self.stop.clone()).await;
                debug!(%from, ?ending, "a client's connection has ended");
            }
            Entry::TurnedAway { after_ms, permit } => {
                turn_away(tls, after_ms, permit).await;
            }
            Entry::ShutOut => debug!(%from, "too many clients: a connection is closed"),
        }
    }
}
