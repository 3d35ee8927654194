//! A client's connection from its first frame until it ends or becomes a pipe.
//!
//! The client says hello, then asks; each request gets one answer. After an attach or a resume that succeeded the connection
//! carries the tunnel's frames, to and from the session's keeper.
//!
//! Always true: until the client has proved itself (by a password, a ticket, or a keeper's word that a resume holds) it may send
//! [`UNPROVED_LIMIT`] bytes in all, ask in vain [`REFUSALS`] times, and take [`UNPROVED_TIME`] in all, the time in which the server
//! worked not counted. Everything that is wrong is answered before the connection is closed, as far as the client listens. Answers come in
//! the order of the requests; those that are ready together leave together. Questions of a client that has proved itself are worked on
//! side by side, [`AT_ONCE`] at most: a gateway asks for many clients on one connection. What ends or changes the conversation waits
//! until all before it are answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;
use wire::DecodeError;
use wire::client::{Answer, ClientId, Hidden, PROTOCOL, Refused, Request, Resume};
use wire::frame::{CLIENT_LIMIT, FrameError, HEADER, UNPROVED_LIMIT};
use wire::keeper::{Opening, OpeningAnswer, OpeningRefusal};

use model::SessionId;

use crate::admission::Permit;
use crate::frames::{Frames, NoRequest};
use crate::pipe::{PipeEnd, Piped, pipe};
use crate::sessions::{ByteStream, OpenRequest, Pending, Sessions};
use crate::stop::Stop;

/// Time in all that a client has to prove itself.
pub const UNPROVED_TIME: Duration = Duration::from_secs(10);
/// How often a client may be refused before it has proved itself.
pub const REFUSALS: u32 = 5;
/// How long a client that has proved itself may say nothing.
pub const IDLE: Duration = Duration::from_secs(60);
/// Questions of one connection that are worked on at once.
pub const AT_ONCE: usize = 64;
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

/// Questions that are worked on, in the order in which they are answered.
type Working<'a> = FuturesOrdered<Pending<'a, Answer>>;

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

impl<'a, IO: ByteStream> Conversation<'a, IO> {
    /// Answers requests until one of them asks for a stream and gets it.
    async fn talk(&mut self) -> Result<Box<dyn ByteStream>, Ending> {
        let mut working: Working<'a> = FuturesOrdered::new();
        // What waits until all before it are answered.
        let mut held = None;
        loop {
            while held.is_none() && working.len() < self.room() {
                held = match self.at_hand() {
                    Ok(None) => break,
                    Ok(Some(request)) => self.begin(request, &mut working).await?.map(Ok),
                    Err(why) => Some(Err(why)),
                };
            }
            if let Some(Some(answer)) = working.next().now_or_never() {
                self.answer(&answer).await?;
            } else if working.is_empty()
                && let Some(request) = held.take()
            {
                if let Some(far) = self.change(request).await? {
                    return Ok(far);
                }
            } else {
                let listen = held.is_none() && working.len() < self.room();
                if let Some(answer) = self.wait(&mut working, listen).await? {
                    self.answer(&answer).await?;
                }
            }
        }
    }

    /// How many questions may be worked on at once: one until the client has proved itself.
    fn room(&self) -> usize {
        if self.permit.is_proved() { AT_ONCE } else { 1 }
    }

    /// The next request that has arrived already, within the limits that hold for this client.
    fn at_hand(&mut self) -> Result<Option<Request>, NoRequest> {
        let proved = self.permit.is_proved();
        let limit = if proved {
            CLIENT_LIMIT
        } else {
            self.unproved_bytes.saturating_sub(HEADER)
        };
        let Some((request, length)) = self.frames.at_hand(limit)? else {
            return Ok(None);
        };
        if !proved {
            self.unproved_bytes = self.unproved_bytes.saturating_sub(length);
        }
        Ok(Some(request))
    }

    /// Begins to work on a question; one that needs no waiting is answered at once when it is its turn. Gives back what is no
    /// question.
    async fn begin(
        &mut self,
        request: Request,
        working: &mut Working<'a>,
    ) -> Result<Option<Request>, Ending> {
        let sessions = self.sessions;
        let answer = match request {
            request if !self.greeted => return Ok(Some(request)),
            Request::Find { token, app, ticket } => sessions.find(&token, &app, &ticket),
            Request::Ask { session, ticket } => sessions.ask(session, &ticket),
            Request::Renew { ticket } => {
                working.push_back(sessions.renew(ticket, self.visitor.from));
                return Ok(None);
            }
            Request::Open {
                token,
                app,
                credential,
                attempt,
            } => {
                working.push_back(sessions.open(OpenRequest {
                    token,
                    app,
                    credential,
                    attempt,
                    from: self.visitor.from,
                }));
                return Ok(None);
            }
            other => return Ok(Some(other)),
        };
        if working.is_empty() {
            self.answer(&answer).await?;
        } else {
            working.push_back(Box::pin(std::future::ready(answer)));
        }
        Ok(None)
    }

    /// Sends what is answered, and waits for the next answer or, where it listens, for more from the client.
    async fn wait(
        &mut self,
        working: &mut Working<'a>,
        listen: bool,
    ) -> Result<Option<Answer>, Ending> {
        let began = Instant::now();
        let idle = working.is_empty();
        if !idle {
            // Changes that were agreed upon together are answered together.
            tokio::task::yield_now().await;
            if let Some(Some(answer)) = working.next().now_or_never() {
                return Ok(Some(answer));
            }
        }
        self.send().await?;
        let deadline = if self.permit.is_proved() {
            Instant::now() + IDLE
        } else {
            self.deadline
        };
        let outcome = tokio::select! {
            Some(answer) = working.next(), if !idle => Ok(Some(answer)),
            read = self.frames.fill(), if listen => match read {
                Ok(0) => Err(Ending::Closed),
                Ok(_) => Ok(None),
                Err(error) => Err(Ending::Failed(error)),
            },
            () = sleep_until(deadline), if idle => Err(Ending::TooSlow),
            () = self.stop.given() => Err(Ending::Stopped),
        };
        if !idle {
            // The server's own time does not count.
            self.deadline += began.elapsed();
        }
        outcome
    }

    /// Does what ends or changes the conversation; gives the stream that it becomes.
    async fn change(
        &mut self,
        request: Result<Request, NoRequest>,
    ) -> Result<Option<Box<dyn ByteStream>>, Ending> {
        let request = match request {
            Ok(request) => request,
            Err(why) => {
                if matches!(why, NoRequest::Frame(_) | NoRequest::Decode(_)) {
                    self.put(&Answer::Refused(Refused::Malformed)).await?;
                }
                return Err(why.into());
            }
        };
        let began = Instant::now();
        let mut stop = self.stop.clone();
        let next = tokio::select! {
            next = self.consider(request) => next,
            () = stop.given() => return Err(Ending::Stopped),
        };
        self.deadline += began.elapsed();
        match next {
            Next::Answer(answer) => {
                self.answer(&answer).await?;
                Ok(None)
            }
            Next::Last(answer, ending) => {
                self.put(&answer).await?;
                Err(ending)
            }
            Next::Pipe(answer, far) => {
                self.permit.prove();
                self.put(&answer).await?;
                self.send().await?;
                Ok(Some(far))
            }
        }
    }

    async fn consider(&mut self, request: Request) -> Next {
        match request {
            Request::Hello {
                protocol,
                version,
                authority,
            } => {
                let from = self.visitor.from;
                self.sessions.came_with(authority, &version, from);
                self.hello(protocol)
            }
            Request::Attach {
                session,
                ticket,
                client,
            } if self.greeted => self
                .attach(session, ticket, client)
                .await
                .unwrap_or_else(Next::from),
            Request::Resume(resume) if self.greeted => {
                self.resume(resume).await.unwrap_or_else(Next::from)
            }
            // It has not said hello.
            _ => Next::Last(Answer::Refused(Refused::Malformed), Ending::Refused),
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

    /// Gives an answer, and draws from it what it says about the client.
    async fn answer(&mut self, answer: &Answer) -> Result<(), Ending> {
        self.put(answer).await?;
        self.judge(answer)
    }

    async fn put(&mut self, answer: &Answer) -> Result<(), Ending> {
        if self.frames.put(answer) {
            return Ok(());
        }
        self.send().await
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
