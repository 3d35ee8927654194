//! A client's connection from its first frame until it ends or becomes a pipe.
//!
//! The client says hello, then asks; each request gets one answer. After an attach or a resume that succeeded the connection
//! carries the tunnel's frames, to and from the session's keeper.
//!
//! Always true: until the client has proved itself (by a password, a ticket, or a keeper's word that a resume holds) it may send
//! [`UNPROVED_LIMIT`] bytes in all, ask in vain [`REFUSALS`] times, and take [`UNPROVED_TIME`] in all, the time in which the server
//! worked not counted. Everything that is wrong is answered before the connection is closed, as far as the client listens.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use wire::client::{Answer, ClientId, Hidden, PROTOCOL, Refused, Request, Resume};
use wire::frame::{CLIENT_LIMIT, FrameError, HEADER, UNPROVED_LIMIT};
use wire::keeper::{Opening, OpeningAnswer, OpeningRefusal};
use wire::{DecodeError, decode, frame_into, frame_length};

use model::SessionId;

use crate::admission::{Permit, TurningAway};
use crate::pipe::{Piped, pipe};
use crate::sessions::{ByteStream, OpenRequest, Sessions};
use crate::stop::Stop;

/// Time in all that a client has to prove itself.
pub const UNPROVED_TIME: Duration = Duration::from_secs(10);
/// How often a client may be refused before it has proved itself.
pub const REFUSALS: u32 = 5;
/// How long a client that has proved itself may say nothing.
pub const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take to read an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Visitor {
    /// The client's address.
    pub from: SocketAddr,
    /// What the TLS connection exports under `wire::client::EXPORTER_LABEL`.
    pub exporter: [u8; 32],
    /// When the connection was accepted: the time to prove oneself runs from here.
    pub since: Instant,
}

/// How a conversation ended.
#[derive(Debug)]
pub enum Ending {
    /// The client closed the connection.
    Closed,
    /// The client took too long, to prove itself or to ask again.
    TooSlow,
    /// The client sent what is no frame.
    BadFrame(FrameError),
    /// The client sent what is no request.
    BadRequest(DecodeError),
    /// The client's requests made no sense, or it was refused too often.
    Refused,
    /// The client was told to come back.
    ComeBack,
    /// This server stops.
    Stopped,
    /// The connection broke.
    Failed(io::Error),
    /// It became a pipe, which ended.
    Piped(Piped),
}

/// Serves a client until its connection ends. The permit is given back then.
pub async fn converse<IO: ByteStream>(
    io: IO,
    visitor: Visitor,
    permit: Permit,
    sessions: &dyn Sessions,
    stop: Stop,
) -> Ending {
    let mut conversation = Conversation {
        io,
        visitor,
        permit,
        sessions,
        stop: stop.clone(),
        greeted: false,
        refusals: 0,
        unproved_bytes: UNPROVED_LIMIT,
        deadline: visitor.since + UNPROVED_TIME,
    };
    let far = match conversation.talk().await {
        Ok(far) => far,
        Err(ending) => {
            // The connection may be broken already; it is closed all the same.
            let _ = timeout(ANSWER_TIME, conversation.io.shutdown()).await;
            return ending;
        }
    };
    let Conversation { io, permit, .. } = conversation;
    let piped = pipe(io, far, stop).await;
    debug!(
        from = %visitor.from, to_client = piped.to_client, to_far = piped.to_far, end = ?piped.end,
        "a client's path has ended"
    );
    drop(permit);
    Ending::Piped(piped)
}

/// Tells a client for which there is no room now when to come back, and closes the connection.
pub async fn turn_away<IO: ByteStream>(mut io: IO, after_ms: u64, permit: TurningAway) -> Ending {
    const PATIENCE: Duration = Duration::from_secs(5);
    let told = timeout(PATIENCE, async {
        // Whatever it asks is answered so; reading it first keeps the answer from being lost in a reset.
        read_frame(&mut io, UNPROVED_LIMIT).await?;
        write_answer(&mut io, &Answer::ComeBack { after_ms }).await?;
        io.shutdown().await.map_err(Ending::Failed)
    });
    let ending = match told.await {
        Ok(Ok(())) => Ending::ComeBack,
        Ok(Err(ending)) => ending,
        Err(_) => Ending::TooSlow,
    };
    drop(permit);
    ending
}

/// What follows a request.
enum Next {
    /// This answer, and the next request.
    Answer(Answer),
    /// This answer, and then the end.
    Last(Answer, Ending),
    /// This answer, and then the tunnel's frames.
    Pipe(Answer, Box<dyn ByteStream>),
}

impl From<Refused> for Next {
    fn from(refused: Refused) -> Self {
        Self::Answer(Answer::Refused(refused))
    }
}

struct Conversation<'a, IO> {
    io: IO,
    visitor: Visitor,
    permit: Permit,
    sessions: &'a dyn Sessions,
    stop: Stop,
    greeted: bool,
    refusals: u32,
    /// Bytes that may still come before the client has proved itself.
    unproved_bytes: usize,
    /// When the client must have proved itself.
    deadline: Instant,
}

impl<IO: ByteStream> Conversation<'_, IO> {
    /// Answers requests until one of them asks for a stream and gets it.
    async fn talk(&mut self) -> Result<Box<dyn ByteStream>, Ending> {
        loop {
            let request = self.request().await?;
            let began = Instant::now();
            let mut stop = self.stop.clone();
            let next = tokio::select! {
                next = self.consider(request) => next,
                () = stop.given() => return Err(Ending::Stopped),
            };
            // The server's own time does not count.
            self.deadline += began.elapsed();
            match next {
                Next::Answer(answer) => {
                    self.answer(&answer).await?;
                    self.judge(&answer)?;
                }
                Next::Last(answer, ending) => {
                    self.answer(&answer).await?;
                    return Err(ending);
                }
                Next::Pipe(answer, far) => {
                    self.permit.prove();
                    self.answer(&answer).await?;
                    return Ok(far);
                }
            }
        }
    }

    /// The next request, within the limits that hold for this client.
    async fn request(&mut self) -> Result<Request, Ending> {
        let proved = self.permit.is_proved();
        let (limit, deadline) = if proved {
            (CLIENT_LIMIT, Instant::now() + IDLE)
        } else {
            (self.unproved_bytes.saturating_sub(HEADER), self.deadline)
        };
        let frame = tokio::select! {
            frame = timeout_at(deadline, read_frame(&mut self.io, limit)) => frame,
            () = self.stop.given() => return Err(Ending::Stopped),
        };
        let frame = match frame {
            Ok(Ok(frame)) => frame,
            Ok(Err(ending)) => {
                if matches!(ending, Ending::BadFrame(_)) {
                    self.answer(&Answer::Refused(Refused::Malformed)).await?;
                }
                return Err(ending);
            }
            Err(_) => return Err(Ending::TooSlow),
        };
        if !proved {
            self.unproved_bytes = self.unproved_bytes.saturating_sub(HEADER + frame.len());
        }
        match decode(&frame) {
            Ok(request) => Ok(request),
            Err(error) => {
                self.answer(&Answer::Refused(Refused::Malformed)).await?;
                Err(Ending::BadRequest(error))
            }
        }
    }

    async fn consider(&mut self, request: Request) -> Next {
        let sessions = self.sessions;
        match request {
            Request::Hello { protocol, .. } => self.hello(protocol),
            _ if !self.greeted => Next::Last(Answer::Refused(Refused::Malformed), Ending::Refused),
            Request::Open {
                token,
                app,
                credential,
                attempt,
            } => {
                let from = self.visitor.from;
                let request = OpenRequest {
                    token,
                    app,
                    credential,
                    attempt,
                    from,
                };
                Next::Answer(sessions.open(request).await)
            }
            Request::Find { token, app, ticket } => {
                Next::Answer(sessions.find(token, app, ticket).await)
            }
            Request::Ask { session, ticket } => Next::Answer(sessions.ask(session, ticket).await),
            Request::Renew { ticket } => Next::Answer(sessions.renew(ticket).await),
            Request::Attach {
                session,
                ticket,
                client,
            } => self
                .attach(session, ticket, client)
                .await
                .unwrap_or_else(Next::from),
            Request::Resume(resume) => self.resume(resume).await.unwrap_or_else(Next::from),
        }
    }

    fn hello(&mut self, offered: u16) -> Next {
        if offered == 0 {
            let refused = Refused::Protocol {
                offered,
                spoken: PROTOCOL,
            };
            return Next::Last(Answer::Refused(refused), Ending::Refused);
        }
        self.greeted = true;
        let (server, name) = self.sessions.me();
        // A newer client is told what is spoken here and goes by that.
        Next::Answer(Answer::Hello {
            protocol: PROTOCOL.min(offered),
            server,
            name,
        })
    }

    async fn attach(
        &self,
        session: SessionId,
        ticket: Hidden,
        client: ClientId,
    ) -> Result<Next, Refused> {
        let target = self.sessions.attach_target(session, ticket).await?;
        let opening = Opening::Attach {
            client,
            address: self.visitor.from.to_string(),
        };
        let (answer, far) = self.sessions.open_stream(session, opening).await?;
        match answer {
            OpeningAnswer::Attached { stream, secret } => {
                let answer = Answer::Attached {
                    stream,
                    secret,
                    dead_after_ms: target.dead_after_ms,
                    retain_ms: target.retain_ms,
                };
                Ok(Next::Pipe(answer, far))
            }
            OpeningAnswer::Refused(refusal) => Err(refused_by_keeper(refusal)),
            OpeningAnswer::Control(_) | OpeningAnswer::Resumed { .. } => Err(nonsense()),
        }
    }

    async fn resume(&self, resume: Resume) -> Result<Next, Refused> {
        let opening = Opening::Resume {
            stream: resume.stream,
            epoch: resume.epoch,
            received: resume.received,
            proof: resume.proof,
            exporter: self.visitor.exporter,
            address: self.visitor.from.to_string(),
        };
        let (answer, far) = self.sessions.open_stream(resume.session, opening).await?;
        match answer {
            OpeningAnswer::Resumed { epoch, received } => {
                Ok(Next::Pipe(Answer::Resumed { epoch, received }, far))
            }
            OpeningAnswer::Refused(refusal) => Err(refused_by_keeper(refusal)),
            OpeningAnswer::Control(_) | OpeningAnswer::Attached { .. } => Err(nonsense()),
        }
    }

    async fn answer(&mut self, answer: &Answer) -> Result<(), Ending> {
        match timeout(ANSWER_TIME, write_answer(&mut self.io, answer)).await {
            Ok(written) => written,
            Err(_) => Err(Ending::TooSlow),
        }
    }

    /// What an answer says about the client that got it.
    fn judge(&mut self, answer: &Answer) -> Result<(), Ending> {
        match answer {
            Answer::Opened(_)
            | Answer::Found { .. }
            | Answer::State(_)
            | Answer::Renewed { .. } => {
                self.permit.prove();
            }
            Answer::Refused(_) if !self.permit.is_proved() => {
                self.refusals += 1;
                if self.refusals >= REFUSALS {
                    return Err(Ending::Refused);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn refused_by_keeper(refusal: OpeningRefusal) -> Refused {
    match refusal {
        OpeningRefusal::Ended(_) => Refused::NoSession,
        OpeningRefusal::Resume => Refused::Resume,
        OpeningRefusal::Backend { detail } => Refused::FailedToStart { detail },
        OpeningRefusal::TooManyStreams { .. } => Refused::NotAllowed {
            detail: refusal.to_string(),
        },
        OpeningRefusal::Protocol { .. } => unreachable_keeper(refusal.to_string()),
    }
}

fn nonsense() -> Refused {
    unreachable_keeper("the session's keeper answered something else than it was asked".to_owned())
}

fn unreachable_keeper(detail: String) -> Refused {
    Refused::HostUnreachable {
        host: "of the session".to_owned(),
        detail,
    }
}

/// Reads a frame's body of at most `limit` bytes.
async fn read_frame<IO: AsyncRead + Unpin>(io: &mut IO, limit: usize) -> Result<Vec<u8>, Ending> {
    let mut header = [0; HEADER];
    read_exact(io, &mut header).await?;
    let length = frame_length(header, limit).map_err(Ending::BadFrame)?;
    let mut body = vec![0; length];
    read_exact(io, &mut body).await?;
    Ok(body)
}

async fn read_exact<IO: AsyncRead + Unpin>(io: &mut IO, bytes: &mut [u8]) -> Result<(), Ending> {
    match io.read_exact(bytes).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Ending::Closed),
        Err(error) => Err(Ending::Failed(error)),
    }
}

async fn write_answer<IO: AsyncWrite + Unpin>(io: &mut IO, answer: &Answer) -> Result<(), Ending> {
    let mut frame = Vec::new();
    frame_into(answer, &mut frame);
    io.write_all(&frame).await.map_err(Ending::Failed)?;
    io.flush().await.map_err(Ending::Failed)
}
