//! Accepting connections on the client port.
//!
//! [`accept`] takes connections until the server stops and hands each, with its place at the gate for handshakes, to the caller, who does
//! TLS and, once ALPN has told the kinds of visitors apart, has the next gate ask whether there is room for this one.
//!
//! Always true: nothing that a stranger does ends the loop; a connection beyond the limits is closed at once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::admission::{Entry, Gate, Permit};
use crate::stop::Stop;

/// How long the loop pauses when the system has no descriptors or memory left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A connection that was accepted.
#[derive(Debug)]
pub struct Arrival {
    /// The connection, without delay of small writes.
    pub io: TcpStream,
    /// Who is at its other end.
    pub from: SocketAddr,
    /// Its place among the handshakes; to be dropped when the handshake is over.
    pub permit: Permit,
}

/// Accepts until the server stops. `serve` is called for each connection and must not wait: it starts a task.
pub async fn accept(
    listener: &TcpListener,
    handshakes: &Gate,
    mut stop: Stop,
    mut serve: impl FnMut(Arrival),
) {
    // Connections inherit it.
    if let Err(error) = sockopt::set_tcp_nodelay(listener, true) {
        warn!(%error, "small writes of connections are delayed");
    }
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.given() => return,
        };
        let (io, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if concerns_one_connection(&error) => continue,
            Err(error) => {
                warn!(%error, "no connection can be accepted now");
                tokio::select! {
                    () = tokio::time::sleep(EXHAUSTED) => continue,
                    () = stop.given() => return,
                }
            }
        };
        let Entry::Admitted(permit) = handshakes.enter(from.ip()) else {
            debug!(%from, "too many connections that are not set up yet: this one is closed");
            continue;
        };
        serve(Arrival { io, from, permit });
    }
}

/// Whether only the connection that was to be accepted is broken.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Limits;
    use crate::stop::Stopper;
    use tokio::io::AsyncReadExt;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_and_the_stop_is_heeded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new(Limits {
            unproved: 2,
            ..Limits::HANDSHAKES
        });
        let (stopper, stop) = Stopper::new();
        let (sender, mut arrivals) = mpsc::unbounded_channel();
        let running = tokio::spawn({
            let gate = gate.clone();
            async move {
                accept(&listener, &gate, stop, |arrival| {
                    sender.send(arrival).unwrap()
                })
                .await
            }
        });
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let (first, second) = (
            arrivals.recv().await.unwrap(),
            arrivals.recv().await.unwrap(),
        );
        let mut third = TcpStream::connect(address).await.unwrap();
        // Closed, with or without a reset.
        assert!(matches!(third.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        drop(first);
        let _fourth = TcpStream::connect(address).await.unwrap();
        let fourth = arrivals.recv().await.unwrap();
        assert!(second.io.nodelay().unwrap() && fourth.io.nodelay().unwrap());
        assert_eq!(gate.inside(), (2, 2));
        stopper.stop();
        running.await.unwrap();
        drop((second, fourth));
        assert_eq!(gate.inside(), (0, 0));
    }
}
