//! A client's connection from its first frame until it ends or becomes a pipe.
//!
//! The client says hello, then asks; each request gets one answer. After an attach or a resume that succeeded the connection
//! carries the tunnel's frames, to and from the session's keeper.
//!
//! Always true: until the client has proved itself (by a password, a ticket, or a keeper's word that a resume holds) it may send
//! [`UNPROVED_LIMIT`] bytes in all, ask in vain [`REFUSALS`] times, and take [`UNPROVED_TIME`] in all, the time in which the server
//! worked not counted. Everything that is wrong is answered before the connection is closed, as far as the client listens. Answers come in
//! the order of the requests; those to requests that came together leave together.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use wire::DecodeError;
use wire::client::{Answer, ClientId, Hidden, PROTOCOL, Refused, Request, Resume};
use wire::frame::{CLIENT_LIMIT, FrameError, HEADER, UNPROVED_LIMIT};
use wire::keeper::{Opening, OpeningAnswer, OpeningRefusal};

use model::SessionId;

use crate::admission::{Permit, TurningAway};
use crate::frames::{Frames, NoRequest};
use crate::pipe::{PipeEnd, Piped, pipe};
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
        frames: Frames::new(io),
        visitor,
        permit,
        sessions,
        stop: stop.clone(),
        greeted: false,
        refusals: 0,
        unproved_bytes: UNPROVED_LIMIT,
        deadline: visitor.since + UNPROVED_TIME,
    };
    let mut far = match conversation.talk().await {
        Ok(far) => far,
        Err(ending) => {
            // The connection may be broken already; it is closed all the same.
            let _ = timeout(ANSWER_TIME, conversation.frames.close()).await;
            return ending;
        }
    };
    let Conversation { frames, permit, .. } = conversation;
    let (io, early) = frames.into_parts();
    if let Err(error) = far.write_all(&early).await {
        let end = PipeEnd::FarFailed(error);
        return Ending::Piped(Piped {
            to_client: 0,
            to_far: 0,
            end,
        });
    }
    let mut piped = pipe(io, far, stop).await;
    piped.to_far += early.len() as u64;
    debug!(
        from = %visitor.from, to_client = piped.to_client, to_far = piped.to_far, end = ?piped.end,
        "a client's path has ended"
    );
    drop(permit);
    Ending::Piped(piped)
}

/// Tells a client for which there is no room now when to come back, and closes the connection.
pub async fn turn_away<IO: ByteStream>(io: IO, after_ms: u64, permit: TurningAway) -> Ending {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut frames = Frames::new(io);
    let told = timeout(PATIENCE, async {
        // Whatever it asks is answered so; reading it first keeps the answer from being lost in a reset.
        frames.next(UNPROVED_LIMIT).await?;
        frames
            .put(&Answer::ComeBack { after_ms })
            .await
            .map_err(Ending::Failed)?;
        frames.close().await.map_err(Ending::Failed)
    });
    let ending = match told.await {
        Ok(Ok(())) => Ending::ComeBack,
        Ok(Err(ending)) => ending,
        Err(_) => Ending::TooSlow,
    };
    drop(permit);
    ending
}

impl From<NoRequest> for Ending {
    fn from(why: NoRequest) -> Self {
        match why {
            NoRequest::Closed => Self::Closed,
            NoRequest::Frame(error) => Self::BadFrame(error),
            NoRequest::Decode(error) => Self::BadRequest(error),
            NoRequest::Failed(error) => Self::Failed(error),
        }
    }
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
    frames: Frames<IO>,
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
                    self.send().await?;
                    return Ok(far);
                }
            }
        }
    }

    /// The next request, within the limits that hold for this client.
    async fn request(&mut self) -> Result<Request, Ending> {
        let proved = self.permit.is_proved();
        let limit = if proved {
            CLIENT_LIMIT
        } else {
            self.unproved_bytes.saturating_sub(HEADER)
        };
        let request = match self.frames.at_hand(limit) {
            Ok(Some(request)) => Ok(request),
            Err(why) => Err(why),
            Ok(None) => {
                self.send().await?;
                let deadline = if proved {
                    Instant::now() + IDLE
                } else {
                    self.deadline
                };
                tokio::select! {
                    next = timeout_at(deadline, self.frames.next(limit)) => {
                        next.map_err(|_| Ending::TooSlow)?
                    }
                    () = self.stop.given() => return Err(Ending::Stopped),
                }
            }
        };
        match request {
            Ok((request, length)) => {
                if !proved {
                    self.unproved_bytes = self.unproved_bytes.saturating_sub(length);
                }
                Ok(request)
            }
            Err(why) => {
                if matches!(why, NoRequest::Frame(_) | NoRequest::Decode(_)) {
                    self.answer(&Answer::Refused(Refused::Malformed)).await?;
                }
                Err(why.into())
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
        match timeout(ANSWER_TIME, self.frames.put(answer)).await {
            Ok(put) => put.map_err(Ending::Failed),
            Err(_) => Err(Ending::TooSlow),
        }
    }

    async fn send(&mut self) -> Result<(), Ending> {
        match timeout(ANSWER_TIME, self.frames.send()).await {
            Ok(sent) => sent.map_err(Ending::Failed),
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
