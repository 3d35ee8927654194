//! Connections to what a session runs.
//!
//! Always true: an attempt to connect takes at most [`CONNECT`]; several backends are tried in order, but of running ones the one that
//! accepted last comes first: a session stays with it while it lives.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use model::Backend;
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};

use super::places::Places;
use super::terminal::Terminal;

/// The longest that one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The most addresses of one name that are tried.
const TRIED_ADDRESSES: usize = 8;
/// Pauses between attempts to connect to a backend that is starting.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A connection to a backend.
#[derive(Debug)]
pub enum Socket {
    /// A unix socket, or a terminal's.
    Unix(UnixStream),
    /// TCP, without delay of small writes.
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Unix(stream) => stream.ready(interest).await,
            Self::Tcp(stream) => stream.ready(interest).await,
        }
    }

    pub(crate) fn try_read_buf(
        &self,
        buffer: &mut bytes::buf::Limit<&mut BytesMut>,
    ) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read_buf(buffer),
            Self::Tcp(stream) => stream.try_read_buf(buffer),
        }
    }

    pub(crate) fn try_write_vectored(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write_vectored(pieces),
            Self::Tcp(stream) => stream.try_write_vectored(pieces),
        }
    }

    /// Tells the other side that nothing more comes.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        let how = rustix::net::Shutdown::Write;
        match self {
            Self::Unix(stream) => rustix::net::shutdown(stream, how)?,
            Self::Tcp(stream) => rustix::net::shutdown(stream, how)?,
        }
        Ok(())
    }

    /// Says to a backend that expects it whose connection this is, before anything else is said.
    pub(crate) fn introduce(&self, client: &str) -> io::Result<()> {
        let client: SocketAddr = client
            .parse()
            .map_err(|_| io::Error::other("the client has no address"))?;
        // Which address the client reached its server did not tell.
        let reached: IpAddr = match client.ip().to_canonical() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let header = wire::proxy::written(client, SocketAddr::new(reached, 0));
        // Nothing was written to it yet: there is room.
        match self.try_write_vectored(&[io::IoSlice::new(&header)])? {
            count if count == header.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Whether a reset by the other side may have taken bytes with it that it had sent. A unix socket gives them all first.
    pub(crate) fn reset_loses_bytes(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Whether the connection has ended already; what it may have sent stays unread.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [0; 1];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        let seen = match self {
            Self::Unix(stream) => rustix::net::recv(stream, &mut byte[..], flags),
            Self::Tcp(stream) => rustix::net::recv(stream, &mut byte[..], flags),
        };
        !matches!(seen, Ok((1.., _)) | Err(rustix::io::Errno::WOULDBLOCK))
    }
}

/// What no backend of a session accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct NoBackend {
    /// Each address and what trying it met.
    pub detail: String,
}

/// Connects to the first backend that accepts, the one that the session stays with before all others.
pub(crate) async fn connect(
    backends: &[Backend],
    places: &Places,
    terminal: Option<&Terminal>,
) -> Result<Socket, NoBackend> {
    let mut met = Vec::new();
    let mut order: Vec<(usize, &Backend)> = backends.iter().enumerate().collect();
    order.sort_by_key(|(place, _)| places.accepted() != Some(*place));
    for (place, backend) in order {
        let attempt = timeout(CONNECT, connect_one(backend, places, terminal)).await;
        match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(socket) => {
                places.note_accepted(place);
                return Ok(socket);
            }
            Err(error) => met.push(format!("{backend}: {error}")),
        }
    }
    if met.is_empty() {
        met.push("the application has no backend".to_owned());
    }
    Err(NoBackend {
        detail: met.join("; "),
    })
}

/// Connects as soon as a backend accepts, for at most `limit`.
pub(crate) async fn await_one(
    backends: &[Backend],
    places: &Places,
    terminal: Option<&Terminal>,
    limit: Duration,
) -> Result<Socket, NoBackend> {
    let until = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        match connect(backends, places, terminal).await {
            Ok(socket) => return Ok(socket),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(pause.min(until.saturating_duration_since(Instant::now()))).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Another account's command may put anything where its socket is expected, a link to a socket of the keeper's account, say: what it
/// could not connect to itself is not connected to for it.
fn check_owner(stream: &UnixStream, owner: Option<u32>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let listens = stream.peer_cred()?.uid();
    if listens == owner {
        return Ok(());
    }
    let why = format!("user id {listens} listens there, the command runs as {owner}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let name = path.file_name().and_then(|name| name.to_str());
    match (path.parent(), name) {
        (Some(folder), Some(name)) => crate::socket::connect(folder, name).await,
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no path of a socket",
        )),
    }
}

/// Connects to the first address of a name, which is looked up now, that accepts; each gets its share of the time, so that one that
/// is silent does not keep the others from being tried.
async fn connect_tcp(address: &str, limit: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + limit;
    let found = lookup_host(address).await?;
    first_that_accepts(&found.take(TRIED_ADDRESSES).collect::<Vec<_>>(), until).await
}

async fn first_that_accepts(addresses: &[SocketAddr], until: Instant) -> io::Result<TcpStream> {
    let mut last = Err(io::ErrorKind::NotFound.into());
    for (place, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let remaining = u32::try_from(addresses.len() - place).unwrap_or(1);
        let attempt = timeout(left / remaining, TcpStream::connect(address)).await;
        last = attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Whether a backend accepts a connection within `limit`; the connection ends at once. An address with placeholders accepts none.
///
/// # Errors
/// What trying it met.
pub async fn accepts(backend: &Backend, limit: Duration) -> io::Result<()> {
    let attempt = async {
        match backend {
            Backend::Pty => Err(io::ErrorKind::Unsupported.into()),
            Backend::Tcp(address) => connect_tcp(address, limit).await.map(drop),
            Backend::Unix(path) => connect_unix(Path::new(path)).await.map(drop),
        }
    };
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, format!("silent for {limit:?}"));
    timeout(limit, attempt).await.map_err(silent)?
}

async fn connect_one(
    backend: &Backend,
    places: &Places,
    terminal: Option<&Terminal>,
) -> io::Result<Socket> {
    match backend {
        Backend::Pty => match terminal {
            Some(terminal) => terminal.attach().await.map(Socket::Unix),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the session has no terminal",
            )),
        },
        Backend::Unix(path) => {
            let path = places.fill(path).map_err(io::Error::other)?;
            let stream = connect_unix(Path::new(&path)).await?;
            check_owner(&stream, places.owner())?;
            Ok(Socket::Unix(stream))
        }
        Backend::Tcp(address) => {
            let address = places.fill(address).map_err(io::Error::other)?;
            let stream = connect_tcp(&address, CONNECT).await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_next_address_of_a_name_is_tried() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = closed.local_addr().unwrap();
        drop(closed);
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = open.local_addr().unwrap();
        let until = Instant::now() + CONNECT;
        let found = first_that_accepts(&[nobody, nobody, there], until).await;
        assert_eq!(found.unwrap().peer_addr().unwrap(), there);
        let refused = first_that_accepts(&[nobody], until).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let none = first_that_accepts(&[], until).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
