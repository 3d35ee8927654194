//! A floor above that knows one user, one session and one keeper, and a client that says what it is told to.
//!
//! Time passes only in tests whose clock is paused: virtual time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{ServerId, ServerName, SessionId, SessionState, StreamId, Token, UnixMillis};
use relay::{
    AttachTarget, ByteStream, Ending, Entry, Gate, Limits, OpenRequest, OpenedStream, Pending,
    Sessions, Stop, Stopper, Visitor, converse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use wire::client::{
    Answer, ClientId, Credential, Hidden, Opened, Refused, Request, SessionNews, StreamSecret,
};
use wire::keeper::{Opening, OpeningAnswer, OpeningRefusal};

pub(crate) const TICKET: &str = "a ticket";
pub(crate) const SESSION: SessionId = SessionId::from_bytes([5; 10]);
pub(crate) const STREAM: StreamId = StreamId::from_bytes([6; 16]);
pub(crate) const EXPORTER: [u8; 32] = [8; 32];
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// What the floor above was asked, and how it answers.
#[derive(Default)]
pub(crate) struct House {
    pub(crate) openings: Mutex<Vec<Opening>>,
    /// The far ends of the streams that were given out.
    pub(crate) keepers: Mutex<Vec<DuplexStream>>,
    /// How long a session takes to start.
    pub(crate) start_time: Duration,
}

fn ticket_holds(ticket: &Hidden) -> Result<(), Refused> {
    if ticket.0 == TICKET {
        Ok(())
    } else {
        Err(Refused::Ticket)
    }
}

impl Sessions for House {
    fn me(&self) -> (ServerId, ServerName) {
        (ServerId::from_bytes([1; 16]), "boston".parse().unwrap())
    }

    fn open(&self, request: OpenRequest) -> Pending<'_, Answer> {
        Box::pin(async move {
            tokio::time::sleep(self.start_time).await;
            match request.credential {
                Credential::Password { password, .. } if password.0 == "right" => {}
                Credential::Ticket(ticket) if ticket.0 == TICKET => {}
                _ => return Answer::Refused(Refused::Login),
            }
            Answer::Opened(Box::new(Opened {
                session: SESSION,
                app: "shell".parse().unwrap(),
                created: true,
                host: self.me().0,
                ticket: Hidden(TICKET.to_owned()),
                expires: number_of(request.attempt),
                servers: Vec::new(),
                said: Default::default(),
            }))
        })
    }

    fn find(&self, _: &Token, _: &model::AppName, ticket: &Hidden) -> Answer {
        match ticket_holds(ticket) {
            Ok(()) => Answer::Found {
                session: None,
                age_ms: 0,
            },
            Err(refused) => Answer::Refused(refused),
        }
    }

    fn ask(&self, session: SessionId, ticket: &Hidden) -> Answer {
        match ticket_holds(ticket) {
            Ok(()) => Answer::State(SessionNews {
                session,
                state: Some(SessionState::Suspended),
                current: true,
                host: None,
                host_heard: true,
                reason: None,
                leave: None,
                renew: false,
            }),
            Err(refused) => Answer::Refused(refused),
        }
    }

    fn renew(&self, ticket: Hidden, _: SocketAddr) -> Pending<'_, Answer> {
        Box::pin(async move {
            match ticket_holds(&ticket) {
                Ok(()) => Answer::Renewed {
                    ticket,
                    expires: UnixMillis(2),
                    servers: Vec::new(),
                },
                Err(refused) => Answer::Refused(refused),
            }
        })
    }

    fn attach_target(
        &self,
        _: SessionId,
        ticket: Hidden,
    ) -> Pending<'_, Result<AttachTarget, Refused>> {
        Box::pin(async move {
            ticket_holds(&ticket)?;
            Ok(AttachTarget {
                dead_after_ms: 1000,
                retain_ms: 120_000,
            })
        })
    }

    fn open_stream(
        &self,
        session: SessionId,
        opening: Opening,
    ) -> Pending<'_, Result<OpenedStream, Refused>> {
        Box::pin(async move {
            if session != SESSION {
                return Err(Refused::NoSession);
            }
            self.openings.lock().unwrap().push(opening.clone());
            let answer = match opening {
                Opening::Attach { .. } => OpeningAnswer::Attached {
                    stream: STREAM,
                    secret: StreamSecret([9; 32]),
                },
                Opening::Resume { proof, epoch, .. } if proof == [1; 32] => {
                    OpeningAnswer::Resumed {
                        epoch,
                        received: 77,
                    }
                }
                _ => OpeningAnswer::Refused(OpeningRefusal::Resume),
            };
            let (near, far) = duplex(64 * 1024);
            self.keepers.lock().unwrap().push(far);
            let near: Box<dyn ByteStream> = Box::new(near);
            Ok((answer, near))
        })
    }
}

/// A conversation with a client that the test plays.
pub(crate) struct Client {
    pub(crate) io: DuplexStream,
    pub(crate) serving: JoinHandle<Ending>,
}

pub(crate) struct Port {
    pub(crate) house: Arc<House>,
    pub(crate) gate: Gate,
    pub(crate) stopper: Stopper,
    stop: Stop,
}

impl Port {
    pub(crate) fn new(house: House) -> Self {
        let (stopper, stop) = Stopper::new();
        Self {
            house: Arc::new(house),
            gate: Gate::new(Limits::CLIENTS),
            stopper,
            stop,
        }
    }

    /// A client connects from this address.
    pub(crate) fn client(&self, from: SocketAddr) -> Client {
        let (io, served) = duplex(16 * 1024);
        let Entry::Admitted(permit) = self.gate.enter(from.ip()) else {
            panic!("the gate is closed")
        };
        let (house, stop) = (self.house.clone(), self.stop.clone());
        let visitor = Visitor {
            from,
            exporter: EXPORTER,
            since: Instant::now(),
        };
        let serving =
            tokio::spawn(async move { converse(served, visitor, permit, &*house, stop).await });
        Client { io, serving }
    }

    /// A client that has said hello.
    pub(crate) async fn greeted(&self) -> Client {
        let mut client = self.client(address());
        let hello = Request::Hello {
            protocol: 1,
            version: "1".to_owned(),
            authority: Default::default(),
        };
        assert!(matches!(
            client.ask(&hello).await,
            Answer::Hello { protocol: 1, .. }
        ));
        client
    }
}

pub(crate) fn address() -> SocketAddr {
    "192.0.2.7:999".parse().unwrap()
}

impl Client {
    pub(crate) async fn send(&mut self, request: &Request) {
        let mut frame = Vec::new();
        wire::frame_into(request, &mut frame);
        self.io.write_all(&frame).await.unwrap();
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let mut header = [0; 4];
        self.io.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        self.io.read_exact(&mut body).await.unwrap();
        wire::decode(&body).unwrap()
    }

    pub(crate) async fn ask(&mut self, request: &Request) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// Reads to the end without an error, and says how it ended.
    pub(crate) async fn end(mut self) -> (Vec<u8>, Ending) {
        let mut rest = Vec::new();
        timeout(LONG, self.io.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        (rest, timeout(LONG, self.serving).await.unwrap().unwrap())
    }
}

pub(crate) fn open(password: &str) -> Request {
    Request::Open {
        token: "card.1".parse().unwrap(),
        app: Some("shell".parse().unwrap()),
        credential: Credential::Password {
            user: Some("ann".parse().unwrap()),
            password: Hidden(password.to_owned()),
        },
        attempt: [2; 16],
    }
}

/// One of several requests, told apart by the answers to them.
pub(crate) fn open_number(number: u64) -> Request {
    match open("right") {
        Request::Open {
            token,
            app,
            credential,
            ..
        } => Request::Open {
            token,
            app,
            credential,
            attempt: u128::from(number).to_be_bytes(),
        },
        other => other,
    }
}

fn number_of(attempt: [u8; 16]) -> UnixMillis {
    UnixMillis(u128::from_be_bytes(attempt) as u64)
}

pub(crate) fn ask(ticket: &str) -> Request {
    Request::Ask {
        session: SESSION,
        ticket: Hidden(ticket.to_owned()),
    }
}

pub(crate) fn attach(ticket: &str) -> Request {
    let (ticket, client) = (Hidden(ticket.to_owned()), ClientId([4; 16]));
    Request::Attach {
        session: SESSION,
        ticket,
        client,
    }
}
