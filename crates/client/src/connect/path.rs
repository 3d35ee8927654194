//! Finding a path for a stream: straight to the host first, then through any other server of the group that reaches it.
//!
//! Connections are set up side by side, but the session's keeper is asked over one of them at a time: it takes the newest claim for
//! the right one, and two claims at once would only push each other out.
//!
//! Always true: every resume takes a new epoch, and its proof is bound to the TLS connection that it is asked on.

use std::collections::VecDeque;
use std::time::Duration;

use aws_lc_rs::hmac;
use model::{ServerId, SessionId, StreamId};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tunnel::{EpochCounter, proof_input};
use wire::client::{Answer, ClientId, Hidden, Refused, Request, Resume, StreamSecret};

use crate::conversation::{AskError, Conversation, Dialing};
use crate::servers::Candidate;
use crate::trust::Trust;

/// How long a server may take to bring a resume to the host.
const RESUME_LIMIT: Duration = Duration::from_millis(1500);
/// How long the host may take to connect a new stream to the backend.
const ATTACH_LIMIT: Duration = Duration::from_secs(5);
/// How long a server may take before others are dialed, in case that it does not answer: a crowd of clients that hold connections to
/// all servers would shut each other out.
const RESUME_PATIENCE: Duration = Duration::from_millis(250);
const ATTACH_PATIENCE: Duration = Duration::from_secs(2);

/// A connection that carries the frames of the tunnel.
pub(crate) type Path = TlsStream<TcpStream>;

/// What a stream is resumed with.
pub(crate) struct Claim {
    session: SessionId,
    stream: StreamId,
    secret: StreamSecret,
    epochs: EpochCounter,
}

/// A new stream.
pub(crate) struct Attached {
    /// Its first path.
    pub(crate) path: Path,
    /// The server that the path goes through.
    pub(crate) via: ServerId,
    /// What it is resumed with.
    pub(crate) claim: Claim,
    /// Silence after which a path is dead.
    pub(crate) dead_after: Duration,
    /// How long the stream is kept without a path.
    pub(crate) retain: Duration,
}

/// A stream that goes on.
pub(crate) struct Resumed {
    /// Its new path.
    pub(crate) path: Path,
    /// The server that the path goes through.
    pub(crate) via: ServerId,
    /// How much the session's end has received.
    pub(crate) received: u64,
}

/// What came of trying all servers once.
pub(crate) struct NoPath {
    /// What servers refused, and which.
    pub(crate) refusals: Vec<(ServerId, Refused)>,
    /// The soonest time that a busy server named.
    pub(crate) come_back: Option<Duration>,
}

impl NoPath {
    /// Whether the session's end does not know the stream any more, or does not accept the claim.
    pub(crate) fn stream_is_gone(&self) -> bool {
        self.refusals
            .iter()
            .any(|(_, refused)| *refused == Refused::Resume)
    }

    /// The first refusal that another server, or another time, would not change.
    pub(crate) fn final_refusal(&self) -> Option<&Refused> {
        self.refusals
            .iter()
            .map(|(_, refused)| refused)
            .find(|refused| {
                matches!(
                    refused,
                    Refused::Ticket
                        | Refused::NotAllowed { .. }
                        | Refused::FailedToStart { .. }
                        | Refused::Protocol { .. }
                        | Refused::Malformed
                )
            })
    }
}

/// Asks the servers in turn for a new stream to a session; `met` is told of each that answers at all.
pub(crate) async fn attach(
    candidates: Vec<Candidate>,
    trust: &Trust,
    session: SessionId,
    ticket: Hidden,
    client: ClientId,
    met: impl Fn(ServerId),
) -> Result<Attached, NoPath> {
    let request = Request::Attach {
        session,
        ticket,
        client,
    };
    let request = |_: &Conversation| request.clone();
    let times = (ATTACH_PATIENCE, ATTACH_LIMIT);
    let sought = seek(candidates, trust, times, met, request, is_attached);
    let (conversation, answer) = sought.await?;
    let Answer::Attached {
        stream,
        secret,
        dead_after_ms,
        retain_ms,
    } = answer
    else {
        unreachable!("`is_attached` lets no other answer through")
    };
    Ok(Attached {
        via: conversation.server(),
        path: conversation.into_path(),
        claim: Claim {
            session,
            stream,
            secret,
            epochs: EpochCounter::default(),
        },
        dead_after: Duration::from_millis(dead_after_ms.clamp(50, 600_000)),
        retain: Duration::from_millis(retain_ms.clamp(1_000, 86_400_000)),
    })
}

fn is_attached(answer: &Answer) -> bool {
    matches!(answer, Answer::Attached { .. })
}

/// Asks the servers in turn to go on with a stream of which `received` is here; `met` is told of each that answers at all.
pub(crate) async fn resume(
    candidates: Vec<Candidate>,
    trust: &Trust,
    claim: &mut Claim,
    received: u64,
    met: impl Fn(ServerId),
) -> Result<Resumed, NoPath> {
    let request = |conversation: &Conversation| claim.request(conversation, received);
    let times = (RESUME_PATIENCE, RESUME_LIMIT);
    let sought = seek(candidates, trust, times, met, request, is_resumed);
    let (conversation, answer) = sought.await?;
    Ok(resumed(conversation, &answer))
}

/// Asks on this connection to go on with a stream of which `received` is here; `None` when that was not to be.
pub(crate) async fn resume_on(
    mut conversation: Conversation,
    claim: &mut Claim,
    received: u64,
) -> Option<Resumed> {
    let request = claim.request(&conversation, received);
    let answer = conversation.ask(&request, RESUME_LIMIT).await.ok()?;
    is_resumed(&answer).then(|| resumed(conversation, &answer))
}

fn is_resumed(answer: &Answer) -> bool {
    matches!(answer, Answer::Resumed { .. })
}

fn resumed(conversation: Conversation, answer: &Answer) -> Resumed {
    let Answer::Resumed { received, .. } = *answer else {
        unreachable!("`is_resumed` lets no other answer through")
    };
    Resumed {
        via: conversation.server(),
        path: conversation.into_path(),
        received,
    }
}

impl Claim {
    fn request(&mut self, conversation: &Conversation, received: u64) -> Request {
        let epoch = self.epochs.next();
        let proof = self.proof(conversation.exporter(), epoch, received);
        let (session, stream) = (self.session, self.stream);
        Request::Resume(Resume {
            session,
            stream,
            epoch,
            received,
            proof,
        })
    }

    fn proof(&self, exporter: &[u8; 32], epoch: u64, received: u64) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret.0);
        let input = proof_input(exporter, self.stream.as_bytes(), epoch, received);
        let mut proof = [0; 32];
        proof.copy_from_slice(hmac::sign(&key, &input).as_ref());
        proof
    }
}

/// Tries the candidates until one gives a fitting answer; the times are how long one may take before others are dialed, and at all.
async fn seek(
    candidates: Vec<Candidate>,
    trust: &Trust,
    (patience, limit): (Duration, Duration),
    met: impl Fn(ServerId),
    mut request: impl FnMut(&Conversation) -> Request,
    fits: impl Fn(&Answer) -> bool,
) -> Result<(Conversation, Answer), NoPath> {
    let mut dialing = Dialing::new(candidates, trust);
    let mut ready = VecDeque::new();
    let mut no_path = NoPath {
        refusals: Vec::new(),
        come_back: None,
    };
    loop {
        let next = match ready.pop_front() {
            Some(conversation) => Some(conversation),
            None => dialing.next().await,
        };
        let Some(mut conversation) = next else {
            let told = no_path.come_back.into_iter();
            no_path.come_back = told.chain(dialing.come_back()).min();
            return Err(no_path);
        };
        met(conversation.server());
        let request = request(&conversation);
        let answer = {
            let mut asking = std::pin::pin!(conversation.ask(&request, limit));
            let mut late = std::pin::pin!(tokio::time::sleep(patience));
            let (mut is_late, mut all_dialed) = (false, false);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut asking => break answer,
                    () = &mut late, if !is_late => is_late = true,
                    // Others are set up meanwhile.
                    dialed = dialing.next(), if is_late && !all_dialed => match dialed {
                        Some(other) => ready.push_back(other),
                        None => all_dialed = true,
                    },
                }
            }
        };
        match answer {
            Ok(answer) if fits(&answer) => return Ok((conversation, answer)),
            Ok(_) => {
                tracing::warn!(server = %conversation.name(), "a server's answer does not fit")
            }
            Err(AskError::Refused(refused)) => {
                tracing::debug!(server = %conversation.name(), %refused, "a server refused a path");
                let gone = refused == Refused::Resume;
                no_path.refusals.push((conversation.server(), refused));
                if gone {
                    return Err(no_path);
                }
            }
            Err(AskError::ComeBack { after_ms }) => {
                let after = Duration::from_millis(after_ms);
                no_path.come_back =
                    Some(no_path.come_back.map_or(after, |before| before.min(after)));
            }
            Err(error) => {
                tracing::debug!(server = %conversation.name(), %error, "a server gave no path");
            }
        }
    }
}
