//! A session to which no viewer is connected: whether it is still there, so that its loss is known before a viewer comes.
//!
//! A stream hears its session's end by itself; without one the client asks the host, or a server that hears the host.

use std::sync::Arc;
use std::time::Duration;

use model::ServerId;
use tokio::time::{Instant, sleep, timeout};
use wire::client::{Answer, Refused, Request, SessionNews};

use super::engine::Later;
use super::fate::{Fate, Tried, judge};
use super::shared::{Shared, Standing};
use crate::conversation::{AskError, Conversation, Dialing, QUESTION_LIMIT};
use crate::servers::{Backoff, Candidate};

/// How often the session is asked for.
const EVERY: Duration = Duration::from_millis(500);
/// Silence after which the server that was asked counts as gone.
const SILENCE: Duration = Duration::from_secs(1);
/// How long after the loss another server's word that it hears the host is not yet believed: it says so for as long as its
/// grace period, whatever has happened.
const RUMOUR: Duration = Duration::from_secs(1);
/// The longest pause between attempts to reach the host again.
const SLOWEST: Duration = Duration::from_secs(2);

/// What was found of a session without viewers.
#[derive(Debug)]
pub(crate) enum Noticed {
    /// Nobody is known who reaches its host; it was last heard then.
    Unheard(Instant),
    /// Its host is reached again, through this server.
    Regained(ServerId),
    /// It does not go on.
    Fate(Fate),
    /// The ticket is not valid any more.
    Refused(Refused),
}

/// Watches a session while it has no viewers.
pub(super) enum Watch {
    /// A stream hears for itself, or the session is known to be over.
    Off,
    /// The session is reached.
    Reaching(Later<Noticed>),
    /// It is not.
    Regaining(Later<Noticed>),
}

impl Watch {
    /// Begins to watch, or goes on, or stops.
    pub(super) fn set(&mut self, wanted: bool, shared: &Arc<Shared>, standing: Standing) {
        match self {
            Self::Off | Self::Regaining(_) if wanted => {
                let shared = shared.clone();
                *self = Self::Reaching(Box::pin(async move { shared.watch(standing).await }));
            }
            Self::Reaching(_) if !wanted => *self = Self::Off,
            _ => {}
        }
    }

    /// Looks for somebody who reaches the session, whether viewers come meanwhile or not.
    pub(super) fn regain(&mut self, shared: &Arc<Shared>, standing: Standing) {
        let shared = shared.clone();
        *self = Self::Regaining(Box::pin(async move { shared.regain(standing).await }));
    }

    /// What is noticed next.
    pub(super) async fn next(&mut self) -> Noticed {
        let noticed = match self {
            Self::Off => std::future::pending().await,
            Self::Reaching(noticed) | Self::Regaining(noticed) => noticed.await,
        };
        *self = Self::Off;
        noticed
    }
}

impl Shared {
    /// Asks for the session again and again until there is something to notice.
    async fn watch(&self, standing: Standing) -> Noticed {
        let mut heard = Instant::now();
        // A session that was just opened may not have come to every server yet.
        let reaching = async {
            loop {
                let candidates = self.paths_to(standing.host);
                match self.first_who_reaches(standing, candidates).await {
                    Some(conversation) => break conversation,
                    None => sleep(EVERY / 5).await,
                }
            }
        };
        let mut conversation = match timeout(SILENCE, reaching).await {
            Ok((conversation, Fate::Goes)) => conversation,
            Ok((_, fate)) => return Noticed::Fate(fate),
            Err(_) => return Noticed::Unheard(heard),
        };
        loop {
            heard = Instant::now();
            sleep(EVERY).await;
            match self.news_from(&mut conversation, standing, SILENCE).await {
                Ok(news) => match judge(&news, Duration::ZERO, Tried::default()) {
                    Fate::Goes if news.host_heard => {}
                    Fate::Goes => return Noticed::Unheard(heard),
                    fate => return Noticed::Fate(fate),
                },
                Err(AskError::Refused(refused @ Refused::Ticket)) => {
                    return Noticed::Refused(refused);
                }
                Err(error) => {
                    tracing::debug!(%error, "the session's server is not heard");
                    return Noticed::Unheard(heard);
                }
            }
        }
    }

    /// Waits until somebody reaches the session's host again; who.
    async fn regain(&self, standing: Standing) -> Noticed {
        let began = Instant::now();
        let mut waits = Backoff::new(EVERY / 5, SLOWEST);
        let mut rounds = 0..;
        loop {
            let rumours = began.elapsed() >= RUMOUR;
            let (mut candidates, mut all) = (self.paths_to(standing.host), false);
            if rumours {
                let round = rounds.next().unwrap_or_default();
                (candidates, all) = self.paths_to_try(standing.host, round);
            } else {
                candidates.retain(|candidate| candidate.server == Some(standing.host));
            }
            let reached = self.first_who_reaches(standing, candidates).await;
            if let Some((found, Fate::Goes)) = reached {
                return Noticed::Regained(found.server());
            }
            if all {
                self.note_tried_all();
            }
            let wait = waits.wait(&mut rand::rng());
            sleep(wait).await;
        }
    }

    /// A connection to the host, or to a server among the candidates that hears it; or to one that knows that it is over.
    async fn first_who_reaches(
        &self,
        standing: Standing,
        candidates: Vec<Candidate>,
    ) -> Option<(Conversation, Fate)> {
        let mut dialing = Dialing::new(candidates, &self.trust);
        while let Some(mut conversation) = dialing.next().await {
            let news = self.news_from(&mut conversation, standing, QUESTION_LIMIT);
            match news.await {
                Ok(news) => match judge(&news, Duration::ZERO, Tried::default()) {
                    Fate::Goes if !news.host_heard => {}
                    fate => return Some((conversation, fate)),
                },
                Err(error) => {
                    tracing::debug!(server = %conversation.name(), %error, "no news of the session");
                }
            }
        }
        None
    }

    pub(super) async fn news_from(
        &self,
        conversation: &mut Conversation,
        standing: Standing,
        limit: Duration,
    ) -> Result<SessionNews, AskError> {
        let request = Request::Ask {
            session: standing.session,
            ticket: self.ticket(),
        };
        match conversation.ask(&request, limit).await? {
            Answer::State(news) if news.session == standing.session => {
                self.hear_of_ticket(news.renew);
                Ok(news)
            }
            _ => Err(AskError::Unexpected),
        }
    }
}
