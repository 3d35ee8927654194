//! Asking the group for the token's session: at the start with whatever the user proves himself with, later with the ticket.
//!
//! Always true: repeats of one request carry the same attempt, so that they make one session, however many servers hear of it.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use wire::client::{Answer, Credential, Opened, Refused, Request};

use super::shared::Shared;
use crate::conversation::{AskError, Conversation, DialError, Dialing};
use crate::servers::{Backoff, Candidate, come_back_after};

/// How long a server may take: the application may take its ready-timeout to start.
const OPEN_LIMIT: Duration = Duration::from_secs(90);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The group refuses.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No server could be reached.
    #[error("no server of the group could be reached")]
    NotReachable(#[source] DialError),
    /// Servers were reached, but none could answer.
    #[error("no server could open the session")]
    NoAnswer(#[source] AskError),
}

/// How long it is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// While servers cannot be reached, are busy, or have no primary.
    pub(crate) unavailable: Duration,
    /// While servers say that none of them can host the session, or that it failed to start.
    pub(crate) unwilling: Duration,
}

impl Patience {
    /// Somebody waits for an answer.
    pub(crate) fn of_user(unavailable: Duration) -> Self {
        Self {
            unavailable,
            unwilling: unavailable.min(Duration::from_secs(2)),
        }
    }

    /// Nothing else can be done.
    pub(crate) const ENDLESS: Self = Self {
        unavailable: Duration::MAX,
        unwilling: Duration::from_secs(300),
    };
}

/// What came of one server.
enum Tried {
    Opened(Box<Opened>),
    Later(AskError),
}

/// Opens the token's session; `candidates` gives the servers to try, anew for each round.
pub(crate) async fn open(
    shared: &Shared,
    credential: Credential,
    patience: Patience,
    candidates: impl Fn(&Shared) -> Vec<Candidate>,
) -> Result<Opened, OpenError> {
    let began = Instant::now();
    let mut attempt: [u8; 16] = rand::rng().random();
    let mut backoff = Backoff::new(Duration::from_millis(150), Duration::from_secs(3));
    loop {
        let (token, app) = (shared.token.clone(), shared.app());
        let request = Request::Open {
            token,
            app,
            credential: credential.clone(),
            attempt,
        };
        let mut come_back = None;
        let mut last = None;
        let mut dialing = Dialing::new(candidates(shared), &shared.trust);
        while let Some(conversation) = dialing.next().await {
            match ask(conversation, &request).await? {
                Tried::Opened(opened) => {
                    shared.learn(&opened);
                    return Ok(*opened);
                }
                Tried::Later(error) => {
                    if let AskError::ComeBack { after_ms } = error {
                        let after = Duration::from_millis(after_ms);
                        come_back =
                            Some(come_back.map_or(after, |before: Duration| before.min(after)));
                    }
                    last = Some(error);
                }
            }
        }
        let limit = match &last {
            Some(AskError::Refused(Refused::NoHost { .. } | Refused::FailedToStart { .. })) => {
                // The same attempt would be given the same answer again.
                attempt = rand::rng().random();
                patience.unwilling
            }
            _ => patience.unavailable,
        };
        if began.elapsed() >= limit {
            return Err(match last {
                Some(AskError::Refused(refused)) => OpenError::Refused(refused),
                Some(error) => OpenError::NoAnswer(error),
                None => OpenError::NotReachable(dialing.last_error()),
            });
        }
        let come_back = come_back.into_iter().chain(dialing.come_back()).min();
        // Nothing is held while it waits.
        drop(dialing);
        let wait = match come_back {
            Some(told) => come_back_after(told, &mut rand::rng()),
            None => backoff.wait(&mut rand::rng()),
        };
        tokio::time::sleep(wait).await;
    }
}

/// Asks one server. What no other server would answer differently is an error.
async fn ask(mut conversation: Conversation, request: &Request) -> Result<Tried, Refused> {
    match conversation.ask(request, OPEN_LIMIT).await {
        Ok(Answer::Opened(opened)) => Ok(Tried::Opened(opened)),
        Ok(_) => Ok(Tried::Later(AskError::Unexpected)),
        Err(AskError::Refused(refused)) => match refused {
            Refused::NoHost { .. }
            | Refused::NoPrimary { .. }
            | Refused::FailedToStart { .. }
            | Refused::HostUnreachable { .. }
            | Refused::NoSession => Ok(Tried::Later(refused.into())),
            refused => Err(refused),
        },
        Err(error) => {
            tracing::debug!(server = %conversation.name(), %error, "a server did not open the session");
            Ok(Tried::Later(error))
        }
    }
}
