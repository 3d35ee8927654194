//! One connection to a server: from its address to requests and answers, or to a path for a stream.
//!
//! Always true: nothing waits without a limit; the server was believed ([`crate::trust`]) before it is asked anything, and is the one
//! that its certificate names.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use model::{ServerId, ServerName};
use rustls::pki_types::ServerName as TlsName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::client::{Answer, EXPORTER_LABEL, PROTOCOL, Refused, Request};
use wire::frame::{CLIENT_LIMIT, HEADER};
use wire::{DecodeError, FrameError, decode, frame_into, frame_length};

use crate::servers::Candidate;
use crate::trust::{ServerIdentity, Trust, TrustError, distrust};

/// How long one address may take to accept.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How long TLS and the hello may take.
pub const HELLO_LIMIT: Duration = Duration::from_secs(3);
/// How long a question may take that the server can answer from its own memory.
pub const QUESTION_LIMIT: Duration = Duration::from_secs(3);
/// When to come back to a server that could not even say when.
const WORDLESS: Duration = Duration::from_millis(500);
/// Servers without room that are met before the others are spared.
const BUSY_ENOUGH: u32 = 2;
/// The next server is tried when the one before has not answered after this.
pub const STAGGER: Duration = Duration::from_millis(150);

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the address {address:?} cannot be resolved")]
    Resolve {
        /// What was given.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody accepts there.
    #[error("{address} does not accept connections")]
    Connect {
        /// Where it was tried.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} did not answer in time")]
    TimedOut {
        /// Where it was tried.
        address: String,
    },
    /// The server is not believed.
    #[error("{address} is not believed")]
    Distrusted {
        /// Where it was tried.
        address: String,
        /// Why not.
        #[source]
        source: TrustError,
    },
    /// TLS failed.
    #[error("no TLS connection to {address}")]
    Tls {
        /// Where it was tried.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server did not say hello as it should.
    #[error("{address} did not say hello")]
    Hello {
        /// Where it was tried.
        address: String,
        /// What happened.
        #[source]
        source: Box<AskError>,
    },
    /// No server is known.
    #[error("no server is known")]
    NoServers,
}

impl DialError {
    /// When to ask a server again that has no room now.
    pub fn come_back(&self) -> Option<Duration> {
        match self {
            Self::Hello { source, .. } => match **source {
                AskError::ComeBack { after_ms } => Some(Duration::from_millis(after_ms)),
                _ => None,
            },
            // It closed the connection without a word: nobody can be told at such times.
            Self::Tls { source, .. } => match source.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe => Some(WORDLESS),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// It took too long.
    #[error("no answer within {} ms", .limit.as_millis())]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// The server sent what is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The server sent what is no answer.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The server refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The server has no room now.
    #[error("the server is busy: come back in {after_ms} ms")]
    ComeBack {
        /// When to ask again, in milliseconds.
        after_ms: u64,
    },
    /// The answer does not fit the question, or not the server's certificate.
    #[error("the server's answer does not fit")]
    Unexpected,
}

/// A connection to a server that has said hello.
#[derive(Debug)]
pub struct Conversation {
    io: TlsStream<TcpStream>,
    server: ServerId,
    name: ServerName,
    exporter: [u8; 32],
}

impl Conversation {
    /// Connects to `host:port` and says hello.
    ///
    /// # Errors
    /// Why not; the error of the last address where there are several.
    pub async fn dial(address: &str, trust: &Trust) -> Result<Self, DialError> {
        let tcp = connect(address).await?;
        let late = || DialError::TimedOut {
            address: address.to_owned(),
        };
        timeout(HELLO_LIMIT, Self::greet(address, tcp, trust))
            .await
            .map_err(|_| late())?
    }

    async fn greet(address: &str, tcp: TcpStream, trust: &Trust) -> Result<Self, DialError> {
        let (io, identity) = secure(address, tcp, trust.for_sessions()).await?;
        let hello = |source: AskError| DialError::Hello {
            address: address.to_owned(),
            source: Box::new(source),
        };
        let exporter = io
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, None);
        let exporter = exporter.map_err(|error| hello(io::Error::other(error).into()))?;
        let name = "unknown"
            .parse()
            .expect("invariant: a plain word is a name");
        let mut conversation = Self {
            io,
            server: identity.server,
            name,
            exporter,
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let request = Request::Hello {
            protocol: PROTOCOL,
            version,
            authority: trust.pin().mark(),
        };
        match conversation
            .ask(&request, HELLO_LIMIT)
            .await
            .map_err(hello)?
        {
            Answer::Hello {
                protocol: PROTOCOL,
                server,
                name,
            } if server == identity.server => {
                conversation.name = name;
                Ok(conversation)
            }
            _ => Err(hello(AskError::Unexpected)),
        }
    }

    /// Who is at the other end.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// Its name.
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// What a proof on this connection is bound to.
    pub fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// Asks, and waits for the answer. A refusal and a request to come back are errors.
    ///
    /// # Errors
    /// After most of them the connection is of no more use; after a refusal it may be.
    pub async fn ask(&mut self, request: &Request, limit: Duration) -> Result<Answer, AskError> {
        let answer = timeout(limit, self.exchange(request)).await;
        match answer.map_err(|_| AskError::TimedOut { limit })?? {
            Answer::Refused(refused) => Err(refused.into()),
            Answer::ComeBack { after_ms } => Err(AskError::ComeBack { after_ms }),
            answer => Ok(answer),
        }
    }

    async fn exchange(&mut self, request: &Request) -> Result<Answer, AskError> {
        let mut frame = Vec::new();
        frame_into(request, &mut frame);
        self.io.write_all(&frame).await?;
        self.io.flush().await?;
        let mut header = [0; HEADER];
        self.io.read_exact(&mut header).await?;
        let mut body = vec![0; frame_length(header, CLIENT_LIMIT)?];
        self.io.read_exact(&mut body).await?;
        Ok(decode(&body)?)
    }

    /// The connection itself, after a stream was attached or resumed on it.
    pub fn into_path(self) -> TlsStream<TcpStream> {
        self.io
    }
}

/// Connects to the first of a name's addresses that accepts.
///
/// # Errors
/// The name cannot be resolved, or no address accepts.
pub async fn connect(address: &str) -> Result<TcpStream, DialError> {
    let late = || DialError::TimedOut {
        address: address.to_owned(),
    };
    let resolved = timeout(HELLO_LIMIT, lookup_host(address))
        .await
        .map_err(|_| late())?;
    let resolved = resolved.map_err(|source| DialError::Resolve {
        address: address.to_owned(),
        source,
    })?;
    let mut last = late();
    for socket in resolved {
        match connect_to(socket).await {
            Ok(tcp) => return Ok(tcp),
            Err(source) if source.kind() == io::ErrorKind::TimedOut => last = late(),
            Err(source) => {
                last = DialError::Connect {
                    address: address.to_owned(),
                    source,
                };
            }
        }
    }
    Err(last)
}

async fn connect_to(socket: SocketAddr) -> io::Result<TcpStream> {
    let tcp = timeout(CONNECT_LIMIT, TcpStream::connect(socket)).await??;
    tcp.set_nodelay(true)?;
    notice_silence(&tcp)?;
    Ok(tcp)
}

/// Has the system find out within a few seconds that a server is gone while a question waits for its answer.
fn notice_silence(tcp: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, Duration::from_secs(2))?;
    sockopt::set_tcp_keepintvl(tcp, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(tcp, 3)?;
    sockopt::set_tcp_user_timeout(tcp, 5_000)?;
    Ok(())
}

/// Sets TLS up with a server that is believed, and says which one it is.
///
/// # Errors
/// TLS failed, or the server is not believed.
pub async fn secure(
    address: &str,
    tcp: TcpStream,
    config: std::sync::Arc<rustls::ClientConfig>,
) -> Result<(TlsStream<TcpStream>, ServerIdentity), DialError> {
    // The name is not looked at, and an address is not sent.
    let name = TlsName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let io = TlsConnector::from(config)
        .connect(name, tcp)
        .await
        .map_err(|source| {
            let address = address.to_owned();
            match distrust(&source) {
                Some(source) => DialError::Distrusted { address, source },
                None => DialError::Tls { address, source },
            }
        })?;
    let leaf = io.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let identity = leaf
        .ok_or(TrustError::Nobody)
        .and_then(|leaf| ServerIdentity::read(leaf));
    let identity = identity.map_err(|source| DialError::Distrusted {
        address: address.to_owned(),
        source,
    })?;
    Ok((io, identity))
}

/// Dials one candidate after the other, the next when the one before has failed or not answered within [`STAGGER`], and gives
/// conversations in the order in which they come about. When servers have no room, the others are spared: whoever is turned away
/// everywhere would only keep all of them busy.
pub struct Dialing {
    waiting: std::vec::IntoIter<Candidate>,
    dials: JoinSet<Result<Conversation, DialError>>,
    trust: Trust,
    next_at: Instant,
    last_error: Option<DialError>,
    busy: u32,
    come_back: Option<Duration>,
}

impl Dialing {
    /// Begins with the first candidate.
    pub fn new(candidates: Vec<Candidate>, trust: &Trust) -> Self {
        let mut dialing = Self {
            waiting: candidates.into_iter(),
            dials: JoinSet::new(),
            trust: trust.clone(),
            next_at: Instant::now(),
            last_error: None,
            busy: 0,
            come_back: None,
        };
        dialing.start_next();
        dialing
    }

    /// The next conversation; `None` when all candidates were tried. Can be cancelled and called again.
    pub async fn next(&mut self) -> Option<Conversation> {
        loop {
            let more = !self.waiting.as_slice().is_empty();
            if self.dials.is_empty() && !more {
                return None;
            }
            tokio::select! {
                dialed = self.dials.join_next(), if !self.dials.is_empty() => match dialed {
                    Some(Ok(Ok(conversation))) => return Some(conversation),
                    Some(Ok(Err(error))) => {
                        tracing::debug!(%error, "a server was not reached");
                        self.note_busy(error.come_back());
                        self.last_error = Some(error);
                        self.start_next();
                    }
                    // A dial that panicked counts as one that failed.
                    Some(Err(_)) | None => self.start_next(),
                },
                () = tokio::time::sleep_until(self.next_at), if more => self.start_next(),
            }
        }
    }

    /// Why the last candidate that failed did.
    pub fn last_error(self) -> DialError {
        self.last_error.unwrap_or(DialError::NoServers)
    }

    /// The soonest time that servers without room have named.
    pub fn come_back(&self) -> Option<Duration> {
        self.come_back
    }

    fn note_busy(&mut self, after: Option<Duration>) {
        let Some(after) = after else { return };
        self.busy += 1;
        self.come_back = Some(self.come_back.map_or(after, |before| before.min(after)));
        if self.busy >= BUSY_ENOUGH {
            self.waiting = Vec::new().into_iter();
        }
    }

    fn start_next(&mut self) {
        self.next_at = Instant::now() + STAGGER;
        if let Some(candidate) = self.waiting.next() {
            let trust = self.trust.clone();
            self.dials
                .spawn(async move { Conversation::dial(&candidate.address, &trust).await });
        }
    }
}
