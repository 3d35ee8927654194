//! The peer port: lets members and joining servers in, keeps everybody else out.
//!
//! What must always be true: whoever has proved nothing yet costs little and never shuts out a member. Such
//! connections are bounded in number and time; when one more comes than there is room for, the oldest goes,
//! since an honest handshake takes milliseconds and a half-open one stays.

use crate::admit::{Admission, answer_joining};
use crate::dial::PeerStream;
use crate::hello::{Binding, Endpoint, HelloError, Met, answer_hello};
use crate::in_full::InFull;
use crate::socket::Socket;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use wire::hello::{ALPN_JOIN, ALPN_PEER};

/// What bounds connections that have proved nothing yet.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// How many there may be at a time, from 1.
    pub unproved: usize,
    /// How long each may take to prove itself.
    pub proof_time: Duration,
    /// How many proved servers may be joining at a time, from 1.
    pub joining: usize,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            unproved: 64,
            proof_time: Duration::from_secs(10),
            joining: 4,
        }
    }
}

/// A server that has proved itself.
#[derive(Debug)]
pub struct Arrival {
    /// Who it is and what the connection is for.
    pub met: Met,
    /// The connection.
    pub stream: PeerStream,
    /// Where it came from.
    pub from: SocketAddr,
}

impl Arrival {
    /// Moves the connection to the runtime that the caller runs in.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn move_here(&mut self) -> io::Result<()> {
        self.stream.get_mut().0.move_here()
    }
}

/// Takes connections that have proved themselves.
pub trait Reception: Send + Sync + 'static {
    /// Takes a connection; the future runs in a task of its own, as long as the listener does.
    fn arrived(&self, arrival: Arrival) -> impl Future<Output = ()> + Send;
}

/// Why a connection was not let in.
#[derive(Debug, thiserror::Error)]
enum TurnedAway {
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error(
        "it belongs to another group, or to none: its certificate authority is not this group's"
    )]
    Stranger(#[source] io::Error),
    #[error("the protocol that was agreed on is none of the peer port")]
    Protocol,
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("it did not prove itself in time")]
    TooSlow,
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

/// The peer port.
#[derive(Debug)]
pub struct Listener {
    port: TcpListener,
    limits: ListenerLimits,
}

impl Listener {
    /// Listens at `address` (`host:port`; a name is resolved now; port 0 takes any).
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn bind(address: &str, limits: ListenerLimits) -> io::Result<Self> {
        Ok(Self {
            port: TcpListener::bind(address).await?,
            limits,
        })
    }

    /// Listens on a port that is open already, and does not block.
    ///
    /// # Errors
    /// When the system refuses to watch it.
    pub fn over(port: std::net::TcpListener, limits: ListenerLimits) -> io::Result<Self> {
        Ok(Self {
            port: TcpListener::from_std(port)?,
            limits,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.port.local_addr()
    }

    /// Lets servers in until it is dropped; then everything that it drives ends too.
    pub async fn run<R: Reception + Admission>(self, endpoint: Endpoint, reception: Arc<R>) {
        let unproved = Unproved::new(self.limits.unproved);
        let joining = Arc::new(tokio::sync::Semaphore::new(self.limits.joining));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.port.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely; those that are open go on.
                    tracing::warn!(%error, "the peer port cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let entrance = Entrance {
                endpoint: endpoint.clone(),
                reception: Arc::clone(&reception),
                joining: Arc::clone(&joining),
                proof_time: self.limits.proof_time,
                from,
            };
            let place = unproved.place();
            let number = place.number;
            let task = tasks.spawn(async move {
                if let Err(reason) = entrance.enter(stream, place).await {
                    tracing::info!(%from, reason = %InFull(&reason), "connection turned away");
                }
            });
            unproved.seat(number, task);
        }
    }
}

/// One connection on its way in.
struct Entrance<R> {
    endpoint: Endpoint,
    reception: Arc<R>,
    joining: Arc<tokio::sync::Semaphore>,
    proof_time: Duration,
    from: SocketAddr,
}

enum Entered {
    Member(Met, PeerStream),
    Joining(PeerStream),
}

impl<R: Reception + Admission> Entrance<R> {
    async fn enter(self, stream: tokio::net::TcpStream, place: Place) -> Result<(), TurnedAway> {
        let deadline = tokio::time::Instant::now() + self.proof_time;
        let socket = Socket::new(stream).map_err(TurnedAway::Broken)?;
        let entering = timeout(self.proof_time, self.prove(socket));
        match entering.await.map_err(|_| TurnedAway::TooSlow)?? {
            Entered::Member(met, stream) => {
                drop(place);
                let from = self.from;
                self.reception.arrived(Arrival { met, stream, from }).await;
            }
            Entered::Joining(stream) => {
                let reception = self.reception.as_ref();
                answer_joining(stream, reception, self.from, deadline, place, &self.joining).await;
            }
        }
        Ok(())
    }

    async fn prove(&self, socket: Socket) -> Result<Entered, TurnedAway> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket)
            .await
            .map_err(TurnedAway::Tls)?;
        let tls = &self.endpoint.tls;
        let wants_to_join = start
            .client_hello()
            .alpn()
            .is_some_and(|mut offered| offered.any(|it| it == ALPN_JOIN));
        let config = if wants_to_join {
            tls.for_joining()
        } else {
            tls.for_members()
        };
        let stream: PeerStream = start
            .into_stream(config)
            .await
            .map_err(|error| match crate::dial::strange(&error) {
                true => TurnedAway::Stranger(error),
                false => TurnedAway::Tls(error),
            })?
            .into();
        let agreed = stream.get_ref().1.alpn_protocol();
        if wants_to_join && agreed == Some(ALPN_JOIN) {
            return Ok(Entered::Joining(stream));
        }
        if agreed != Some(ALPN_PEER) {
            return Err(TurnedAway::Protocol);
        }
        let mut stream = stream;
        let binding = Binding::of(&stream, tls)?;
        let outlook = self.endpoint.outlook.as_ref();
        let met = answer_hello(&mut stream, &binding, outlook, &tls.secrets()).await?;
        Ok(Entered::Member(met, stream))
    }
}

/// Places for connections that have proved nothing yet.
#[derive(Clone)]
pub(crate) struct Unproved {
    seats: Arc<Mutex<Seats>>,
}

struct Seats {
    most: usize,
    next: u64,
    /// Oldest first; absent between being given a place and having a task.
    taken: BTreeMap<u64, Option<AbortHandle>>,
}

/// A place; free again when dropped.
pub(crate) struct Place {
    seats: Arc<Mutex<Seats>>,
    pub(crate) number: u64,
}

impl Unproved {
    pub(crate) fn new(most: usize) -> Self {
        let seats = Seats {
            most: most.max(1),
            next: 0,
            taken: BTreeMap::new(),
        };
        Self {
            seats: Arc::new(Mutex::new(seats)),
        }
    }

    /// Gives a place, the oldest's if there is none left.
    pub(crate) fn place(&self) -> Place {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let number = seats.next;
        seats.next += 1;
        if seats.taken.len() >= seats.most
            && let Some((_, Some(oldest))) = seats.taken.pop_first()
        {
            oldest.abort();
        }
        seats.taken.insert(number, None);
        Place {
            seats: Arc::clone(&self.seats),
            number,
        }
    }

    /// Says which task has the place; it may have left it already.
    pub(crate) fn seat(&self, number: u64, task: AbortHandle) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seats.taken.get_mut(&number) {
            *seat = Some(task);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
