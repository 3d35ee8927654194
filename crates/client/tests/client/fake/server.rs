//! One server of the group: its port, and the connections that it has.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aws_lc_rs::hmac;
use model::{ServerId, SessionId, StreamId, UnixMillis};
use rand::RngExt;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wire::client::{
    Answer, ClientId, Credential, EXPORTER_LABEL, Hidden, Opened, Refused, Request, Resume,
    ServerAddress, StreamSecret,
};

use super::group::{Fault, PASSWORD, State, StreamEnd, TICKET};
use super::keeper::{self, Ask};

type Tls = TlsStream<TcpStream>;
type Connections = Arc<Mutex<Vec<AbortHandle>>>;

pub(crate) struct Server {
    id: ServerId,
    name: String,
    address: SocketAddr,
    port: Arc<ServerConfig>,
    state: Arc<Mutex<State>>,
    connections: Connections,
    accepting: Option<AbortHandle>,
}

impl Server {
    pub(crate) async fn start(
        id: ServerId,
        name: String,
        port: Arc<ServerConfig>,
        state: Arc<Mutex<State>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::default();
        let mut server = Self {
            id,
            name,
            address,
            port,
            state,
            connections,
            accepting: None,
        };
        server.accept(listener);
        server
    }

    pub(crate) fn address(&self) -> ServerAddress {
        ServerAddress {
            server: self.id,
            name: self.name.parse().unwrap(),
            address: self.address.to_string(),
        }
    }

    /// Breaks its connections.
    pub(crate) fn cut(&self) {
        self.connections
            .lock()
            .unwrap()
            .drain(..)
            .for_each(|connection| connection.abort());
    }

    /// Breaks its connections and accepts no more.
    pub(crate) fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        self.cut();
    }

    /// Accepts again, at the same address.
    pub(crate) async fn restart(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                // The stopped task has not let go of it yet.
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.accept(listener);
    }

    fn accept(&mut self, listener: TcpListener) {
        let (acceptor, connections) = (
            TlsAcceptor::from(self.port.clone()),
            self.connections.clone(),
        );
        let (state, me) = (self.state.clone(), self.address());
        let accepting = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, state, me) = (acceptor.clone(), state.clone(), me.clone());
                let serving = tokio::spawn(async move {
                    tcp.set_nodelay(true).unwrap();
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        // A connection that breaks is what these tests are about.
                        let _ = serve(tls, state, me).await;
                    }
                });
                connections.lock().unwrap().push(serving.abort_handle());
            }
        });
        self.accepting = Some(accepting.abort_handle());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(mut tls: Tls, state: Arc<Mutex<State>>, me: ServerAddress) -> std::io::Result<()> {
    loop {
        let request = read(&mut tls).await?;
        let answer = match request {
            Request::Hello { protocol, .. } => match no_room(&state) {
                Some(after_ms) => return write(&mut tls, &Answer::ComeBack { after_ms }).await,
                None => Answer::Hello {
                    protocol,
                    server: me.server,
                    name: me.name.clone(),
                },
            },
            Request::Open {
                credential,
                attempt,
                ..
            } => open(&state, credential, attempt, &me),
            Request::Ask { session, .. } => news(&state, session),
            Request::Renew { .. } => Answer::Renewed {
                ticket: Hidden(TICKET.to_owned()),
                expires: UnixMillis(u64::MAX),
                servers: state.lock().unwrap().addresses.clone(),
            },
            Request::Attach {
                session, client, ..
            } => match attach(&state, session, client) {
                Ok((answer, asks, close_after)) => {
                    write(&mut tls, &answer).await?;
                    *state.lock().unwrap().carried.entry(me.server).or_default() += 1;
                    return pipe(tls, |path| {
                        tokio::spawn(keeper::run(path, asks, close_after));
                    })
                    .await;
                }
                Err(refused) => Answer::Refused(refused),
            },
            Request::Resume(resume) => match claim(&mut tls, &state, &resume).await {
                Ok((answer, path)) => {
                    let lost = state
                        .lock()
                        .unwrap()
                        .take_fault(|fault| *fault == Fault::LoseResumeAnswer)
                        .is_some();
                    if lost {
                        return Ok(());
                    }
                    write(&mut tls, &answer).await?;
                    *state.lock().unwrap().carried.entry(me.server).or_default() += 1;
                    return pipe(tls, |other| {
                        let _ = path.send(other);
                    })
                    .await;
                }
                Err(refused) => Answer::Refused(refused),
            },
            Request::Find { .. } => Answer::Refused(Refused::Malformed),
        };
        write(&mut tls, &answer).await?;
    }
}

/// When the client is to come back, for whom there is no room.
fn no_room(state: &Mutex<State>) -> Option<u64> {
    let mut state = state.lock().unwrap();
    let fault = state.take_fault(|fault| matches!(fault, Fault::NoRoom { .. }));
    let Some(Fault::NoRoom { after_ms }) = fault else {
        return None;
    };
    state.turned_away.push(Instant::now());
    Some(after_ms)
}

fn news(state: &Mutex<State>, session: SessionId) -> Answer {
    let mut state = state.lock().unwrap();
    state.asked.push(Instant::now());
    match state.take_fault(|fault| matches!(fault, Fault::NoNews { .. })) {
        Some(Fault::NoNews { after_ms }) => Answer::ComeBack { after_ms },
        _ => Answer::State(state.news(session)),
    }
}

fn open(
    state: &Mutex<State>,
    credential: Credential,
    attempt: [u8; 16],
    me: &ServerAddress,
) -> Answer {
    let mut state = state.lock().unwrap();
    state
        .opens
        .push((Instant::now(), credential.clone(), attempt));
    if let Some(Fault::ComeBack { after_ms }) =
        state.take_fault(|fault| matches!(fault, Fault::ComeBack { .. }))
    {
        return Answer::ComeBack { after_ms };
    }
    match credential {
        Credential::Password { password, .. } if password.0 == PASSWORD => {}
        Credential::Password { .. } => return Answer::Refused(Refused::Login),
        Credential::Ticket(ticket) if ticket.0 == TICKET => {}
        Credential::Ticket(_) => return Answer::Refused(Refused::Ticket),
    }
    let (session, host, created) = state.open();
    let _ = me;
    Answer::Opened(Box::new(Opened {
        session,
        app: "shell".parse().unwrap(),
        created,
        host,
        ticket: Hidden(TICKET.to_owned()),
        expires: UnixMillis(u64::MAX),
        servers: state.addresses.clone(),
        said: Default::default(),
    }))
}

type Attached = (Answer, mpsc::UnboundedReceiver<Ask>, u64);

fn attach(state: &Mutex<State>, session: SessionId, client: ClientId) -> Result<Attached, Refused> {
    let mut state = state.lock().unwrap();
    let known = state.sessions.get(&session).ok_or(Refused::NoSession)?;
    if state.dead.contains(&known.host) {
        return Err(unreachable(known.host));
    }
    let close_after = known.close_after;
    let (asks, receiver) = mpsc::unbounded_channel();
    let stream = StreamId::from_bytes(rand::rng().random());
    let secret = StreamSecret(rand::rng().random());
    let answer = Answer::Attached {
        stream,
        secret: secret.clone(),
        dead_after_ms: 600,
        retain_ms: 20_000,
    };
    for other in state
        .streams
        .values()
        .filter(|other| other.client != client)
    {
        let _ = other.asks.send(Ask::Reset(tunnel::ResetCode::TAKEN_OVER));
    }
    state.streams.insert(
        stream,
        StreamEnd {
            session,
            client,
            secret,
            asks,
        },
    );
    Ok((answer, receiver, close_after))
}

fn unreachable(host: ServerId) -> Refused {
    Refused::HostUnreachable {
        host: host.to_string(),
        detail: "down".to_owned(),
    }
}

/// Checks a claim and takes it to the keeper's end.
async fn claim(
    tls: &mut Tls,
    state: &Mutex<State>,
    resume: &Resume,
) -> Result<(Answer, oneshot::Sender<Box<dyn keeper::Io>>), Refused> {
    let exporter = tls
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None)
        .unwrap();
    let (asks, secret) = {
        let state = state.lock().unwrap();
        let session = state
            .sessions
            .get(&resume.session)
            .ok_or(Refused::NoSession)?;
        if state.dead.contains(&session.host) {
            return Err(unreachable(session.host));
        }
        let end = state.streams.get(&resume.stream).ok_or(Refused::Resume)?;
        assert_eq!(end.session, resume.session);
        (end.asks.clone(), end.secret.clone())
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
    let (stream, epoch, received) = (resume.stream.as_bytes(), resume.epoch, resume.received);
    let input = tunnel::proof_input(&exporter, stream, epoch, received);
    hmac::verify(&key, &input, &resume.proof).map_err(|_| Refused::Resume)?;
    let (reply, replied) = oneshot::channel();
    let (path, other) = oneshot::channel();
    let ask = Ask::Resume {
        epoch,
        received,
        reply,
        path: other,
    };
    asks.send(ask).map_err(|_| Refused::Resume)?;
    let received = replied.await.ok().flatten().ok_or(Refused::Resume)?;
    Ok((Answer::Resumed { epoch, received }, path))
}

/// Passes bytes between the client and a keeper's end; both break when this task is aborted.
async fn pipe(mut tls: Tls, give: impl FnOnce(Box<dyn keeper::Io>)) -> std::io::Result<()> {
    let (mut here, there) = tokio::io::duplex(64 * 1024);
    give(Box::new(there));
    tokio::io::copy_bidirectional(&mut tls, &mut here).await?;
    Ok(())
}

async fn read(tls: &mut Tls) -> std::io::Result<Request> {
    let mut header = [0; 4];
    tls.read_exact(&mut header).await?;
    let mut body = vec![0; wire::frame_length(header, wire::frame::CLIENT_LIMIT).unwrap()];
    tls.read_exact(&mut body).await?;
    Ok(wire::decode(&body).unwrap())
}

async fn write(tls: &mut Tls, answer: &Answer) -> std::io::Result<()> {
    let mut frame = Vec::new();
    wire::frame_into(answer, &mut frame);
    tls.write_all(&frame).await?;
    tls.flush().await
}
