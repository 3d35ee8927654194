//! Dialling another server: name, TCP, TLS, hello, each anew and all within one time limit.

use crate::address::{Address, AddressError, Host};
use crate::hello::{Binding, Endpoint, HelloError, Met, Proved, dial_hello};
use crate::socket::Socket;
use crate::tls::TlsError;
use crate::verify::{CertificateRefusal, refusal_in};
use model::ServerId;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};
use wire::hello::{ALPN_JOIN, ALPN_PEER, HelloRefusal, Purpose};

/// An authenticated connection to another server.
pub type PeerStream = TlsStream<Socket>;

/// How long dialling may take when nothing else is said.
pub const DIAL_TIME: Duration = Duration::from_secs(5);

/// The most addresses of one name that are tried.
const TRIED_ADDRESSES: usize = 8;

/// Why another server could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is none.
    #[error("the address cannot be used")]
    Address(#[from] AddressError),
    /// Its name leads nowhere.
    #[error("{host} cannot be resolved")]
    Resolve {
        /// The name.
        host: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("{address} cannot be connected to")]
    Connect {
        /// Where the last attempt went.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nothing came of it in time.
    #[error("{address} did not answer in time (while {stage})")]
    TooSlow {
        /// Where.
        address: String,
        /// How far it had come.
        stage: Stage,
    },
    /// TLS could not be set up here.
    #[error("TLS cannot be set up")]
    Setup(#[from] TlsError),
    /// The server there is not the one that was meant.
    #[error("the server at {address} is not the one that was meant: {refusal}")]
    Certificate {
        /// Where.
        address: String,
        /// What is wrong with it.
        refusal: CertificateRefusal,
    },
    /// TLS failed.
    #[error("no secure connection to {address} came about")]
    Tls {
        /// Where.
        address: String,
        /// What was seen.
        #[source]
        source: io::Error,
    },
    /// The server there speaks TLS, but not between servers.
    #[error("{address} is not a port for servers")]
    OtherProtocol {
        /// Where.
        address: String,
    },
    /// The hello failed.
    #[error("the server at {address} and this one did not accept each other")]
    Hello {
        /// Where.
        address: String,
        /// What was seen.
        #[source]
        source: HelloError,
    },
}

impl DialError {
    /// What was refused, when the other server gave or got a refusal.
    pub fn refusal(&self) -> Option<&HelloRefusal> {
        match self {
            Self::Hello {
                source: HelloError::RefusedThere(refusal) | HelloError::RefusedHere(refusal),
                ..
            } => Some(refusal),
            _ => None,
        }
    }

    /// Whether somebody else answers there: another server, one of another group, or no server of Stead at all.
    pub fn is_stranger(&self) -> bool {
        match self {
            Self::Certificate { .. } | Self::OtherProtocol { .. } => true,
            Self::Tls { source, .. } => strange(source),
            _ => false,
        }
    }

    /// Whether the other server says that this one's certificate is revoked: it was removed.
    pub fn revoked(&self) -> bool {
        let source = match self {
            Self::Tls { source, .. } => source,
            Self::Hello {
                source: HelloError::Send(source),
                ..
            } => source,
            Self::Hello {
                source: HelloError::Receive(crate::message::ReceiveError::Broken(source)),
                ..
            } => source,
            _ => return false,
        };
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref());
        matches!(
            inner,
            Some(rustls::Error::AlertReceived(
                AlertDescription::CertificateRevoked
            ))
        )
    }
}

/// Whether TLS failed because one side's certificate is of an authority that the other does not know.
pub(crate) fn strange(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(
            rustls::Error::AlertReceived(AlertDescription::UnknownCA)
                | rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
        )
    )
}

/// How far a dial had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The name was being resolved.
    Resolving,
    /// TCP was being opened.
    Connecting,
    /// TLS was being negotiated.
    Securing,
    /// The hello was being exchanged.
    Greeting,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolving => "resolving its name",
            Self::Connecting => "connecting",
            Self::Securing => "negotiating TLS",
            Self::Greeting => "exchanging the hello",
        })
    }
}

/// Dials member `to` at `address` (`host:port`, resolved now) and proves the group secret both ways.
///
/// # Errors
/// When it cannot be reached in time, is somebody else, or either end refuses the other.
pub async fn dial(
    endpoint: &Endpoint,
    to: ServerId,
    address: &str,
    purpose: Purpose,
    limit: Duration,
) -> Result<(Met, PeerStream), DialError> {
    let deadline = Instant::now() + limit;
    let secrets = endpoint.tls.secrets();
    let first = dial_with(
        endpoint,
        to,
        address,
        purpose,
        (&secrets.current, Proved::Current),
        deadline,
    )
    .await;
    match (first, &secrets.previous) {
        // It has not heard of the current secret yet.
        (Err(error), Some(previous)) if error.refusal() == Some(&HelloRefusal::Proof) => {
            let secret = (previous, Proved::Previous);
            dial_with(endpoint, to, address, purpose, secret, deadline).await
        }
        (first, _) => first,
    }
}

async fn dial_with(
    endpoint: &Endpoint,
    to: ServerId,
    address: &str,
    purpose: Purpose,
    secret: (&crate::secret::Secret, Proved),
    deadline: Instant,
) -> Result<(Met, PeerStream), DialError> {
    let config = endpoint.tls.towards(to)?;
    let mut stream = dial_tls(config, ALPN_PEER, address, deadline).await?;
    let failed = |source| DialError::Hello {
        address: address.to_owned(),
        source,
    };
    let binding = Binding::of(&stream, &endpoint.tls).map_err(failed)?;
    let outlook = endpoint.outlook.as_ref();
    let greeting = dial_hello(&mut stream, &binding, outlook, secret, to, purpose);
    let met = in_time(address, Stage::Greeting, deadline, greeting)
        .await?
        .map_err(failed)?;
    Ok((met, stream))
}

/// Dials a server that wants to join, or a member as such a server.
pub(crate) async fn dial_joining(
    config: Arc<ClientConfig>,
    address: &str,
    limit: Duration,
) -> Result<PeerStream, DialError> {
    dial_tls(config, ALPN_JOIN, address, Instant::now() + limit).await
}

pub(crate) async fn dial_tls(
    config: Arc<ClientConfig>,
    alpn: &[u8],
    text: &str,
    deadline: Instant,
) -> Result<PeerStream, DialError> {
    let address: Address = text.parse()?;
    let socket = connect(&address, text, deadline).await?;
    let connecting = TlsConnector::from(config).connect(address.host.server_name(), socket);
    let stream = in_time(text, Stage::Securing, deadline, connecting)
        .await?
        .map_err(|source| match refusal_in(&source) {
            Some(refusal) => DialError::Certificate {
                address: text.to_owned(),
                refusal: refusal.clone(),
            },
            None => DialError::Tls {
                address: text.to_owned(),
                source,
            },
        })?;
    if stream.get_ref().1.alpn_protocol() != Some(alpn) {
        return Err(DialError::OtherProtocol {
            address: text.to_owned(),
        });
    }
    Ok(stream.into())
}

/// Opens TCP to the first address of the host that answers; each gets its share of the time.
async fn connect(address: &Address, text: &str, deadline: Instant) -> Result<Socket, DialError> {
    let candidates: Vec<SocketAddr> = match &address.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, address.port)],
        Host::Name(name) => {
            let lookup = tokio::net::lookup_host((name.as_str(), address.port));
            let failed = |source| DialError::Resolve {
                host: name.clone(),
                source,
            };
            let found = in_time(text, Stage::Resolving, deadline, lookup)
                .await?
                .map_err(failed)?;
            found.take(TRIED_ADDRESSES).collect()
        }
    };
    let mut result = Err(DialError::Resolve {
        host: address.host.to_string(),
        source: io::ErrorKind::NotFound.into(),
    });
    for (place, candidate) in candidates.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let remaining = u32::try_from(candidates.len() - place).unwrap_or(1);
        let share = Instant::now() + left / remaining;
        let attempt = in_time(
            text,
            Stage::Connecting,
            share,
            TcpStream::connect(candidate),
        )
        .await;
        result = attempt.and_then(|connected| {
            connected
                .and_then(Socket::new)
                .map_err(|source| DialError::Connect {
                    address: *candidate,
                    source,
                })
        });
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn in_time<F: Future>(
    address: &str,
    stage: Stage,
    deadline: Instant,
    step: F,
) -> Result<F::Output, DialError> {
    timeout_at(deadline, step)
        .await
        .map_err(|_| DialError::TooSlow {
            address: address.to_owned(),
            stage,
        })
}
