//! One connection of a viewer and its stream: from the attach through all its paths to its end.

use std::sync::Arc;
use std::time::Duration;

use model::ServerId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tunnel::{Config, ResetCode};
use wire::client::Refused;

use super::carry::{Carry, Halt};
use super::path::{Attached, Claim, NoPath, Path, Resumed, attach, resume, resume_on};
use super::shared::{Shared, Signal, Standing};
use crate::conversation::{Conversation, Dialing};
use crate::servers::{Backoff, come_back_after};

/// Where a viewer's bytes come from and go to.
pub(crate) trait Viewer: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Viewer for T {}

/// How a stream came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Both directions are over.
    Finished {
        /// The session's end was the first to end.
        by_session: bool,
    },
    /// The viewer's connection failed.
    ViewerFailed,
    /// Another client has the session.
    TakenOver,
    /// The session's end says that the session is over.
    SessionEnded,
    /// The session was lost while the stream was in use.
    SessionLost,
    /// The session goes on, but this stream does not.
    StreamLost(Loss),
    /// No stream was to be had.
    Refused(Refused),
}

/// Why a stream does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The session's end gave it up.
    GivenUp(ResetCode),
    /// The session's end does not know it any more.
    Unknown,
    /// There was no path for too long.
    Expired,
    /// The session's end did what is not allowed.
    Violated,
}

/// Serves a viewer's connection. `one_ends_both` is for a viewer that never ends by itself, such as a terminal.
pub(crate) async fn serve<V: Viewer>(
    shared: Arc<Shared>,
    number: u64,
    viewer: V,
    one_ends_both: bool,
) -> Served {
    let mut standings = shared.standing.subscribe();
    let (standing, attached) = match first_path(&shared, number, &mut standings).await {
        Ok(first) => first,
        Err(refused) => return Served::Refused(refused),
    };
    let (mut via, mut claim) = (attached.via, attached.claim);
    tracing::debug!(%via, number, "a viewer is attached");
    let config = Config {
        dead_after: attached.dead_after,
        retain: attached.retain,
        ..Config::default()
    };
    let teller = (shared.clone(), standing.generation);
    let on_news = move || {
        teller.0.tell(Signal::News {
            generation: teller.1,
        })
    };
    let carry = Carry::new(viewer, attached.path, config, one_ends_both);
    let mut carry = carry.with_news(on_news);
    loop {
        let direct = tokio::select! {
            halt = carry.run() => match halt {
                Halt::PathLost => None,
                halt => return served(halt, &carry),
            },
            direct = shorter(&shared, standing, via) => Some(direct),
            () = left(&mut standings, standing) => return Served::SessionLost,
        };
        if let Some(conversation) = direct
            && change_path(&mut carry, &mut claim, conversation).await
        {
            via = standing.host;
            continue;
        }
        let (generation, heard) = (standing.generation, carry.heard());
        shared.tell(Signal::PathLost {
            stream: number,
            generation,
            heard,
        });
        let received = carry.received();
        let found = tokio::select! {
            // Without a path this serves the viewer, and ends when the stream does.
            halt = carry.run() => return served(halt, &carry),
            found = next_path(&shared, standing, &mut claim, received) => found,
            () = left(&mut standings, standing) => return Served::SessionLost,
        };
        let Some(resumed) = found else {
            return Served::StreamLost(Loss::Unknown);
        };
        if carry.go_on(resumed.path, resumed.received).is_err() {
            return Served::StreamLost(Loss::Violated);
        }
        via = resumed.via;
        shared.tell(Signal::Resumed {
            stream: number,
            via,
        });
    }
}

/// Leaves the path for one over this connection; whether that was to be. There is no path when it was not.
async fn change_path<V: Viewer>(
    carry: &mut Carry<V, Path>,
    claim: &mut Claim,
    conversation: Conversation,
) -> bool {
    // Nothing may be received or acknowledged between the claim and its answer.
    carry.leave_path();
    match resume_on(conversation, claim, carry.received()).await {
        Some(resumed) => carry.go_on(resumed.path, resumed.received).is_ok(),
        None => false,
    }
}

/// While the path leads through another server: waits until the host itself can be reached. Never ends when it does not.
async fn shorter(shared: &Shared, standing: Standing, via: ServerId) -> Conversation {
    if via == standing.host {
        return std::future::pending().await;
    }
    let mut waits = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    loop {
        let wait = waits.wait(&mut rand::rng());
        tokio::time::sleep(wait).await;
        let mut candidates = shared.paths_to(standing.host);
        candidates.retain(|candidate| candidate.server == Some(standing.host));
        if let Some(conversation) = Dialing::new(candidates, &shared.trust).next().await {
            return conversation;
        }
    }
}

fn served<V: Viewer>(halt: Halt, carry: &Carry<V, Path>) -> Served {
    match halt {
        Halt::Finished => Served::Finished {
            by_session: carry.peer_ended_first(),
        },
        Halt::LocalFailed => Served::ViewerFailed,
        Halt::Reset(ResetCode::TAKEN_OVER) => Served::TakenOver,
        Halt::Reset(ResetCode::SESSION_ENDED) => Served::SessionEnded,
        Halt::Reset(code) => Served::StreamLost(Loss::GivenUp(code)),
        Halt::Violated => Served::StreamLost(Loss::Violated),
        Halt::Expired | Halt::PathLost => Served::StreamLost(Loss::Expired),
    }
}

/// Waits until the session that the stream belongs to is not the one any more.
async fn left(standings: &mut watch::Receiver<Standing>, mine: Standing) {
    // An error means that the engine is gone, and this task with it.
    let _ = standings
        .wait_for(|now| now.generation != mine.generation || !now.is_live)
        .await;
}

/// Attaches to the session, whichever it is by then.
async fn first_path(
    shared: &Shared,
    number: u64,
    standings: &mut watch::Receiver<Standing>,
) -> Result<(Standing, Attached), Refused> {
    let mut waits = waits();
    let mut rounds = 0..;
    loop {
        let began = Instant::now();
        let Ok(standing) = standings.wait_for(|now| now.is_live).await.map(|now| *now) else {
            return Err(Refused::NoSession);
        };
        let (session, ticket) = (standing.session, shared.ticket());
        let round = rounds.next().unwrap_or_default();
        let (candidates, all) = shared.paths_to_try(standing.host, round);
        let met = shared.noting(standing.host);
        let attached = tokio::select! {
            attached = attach(candidates, &shared.trust, session, ticket, shared.client, met) => attached,
            () = left(standings, standing) => continue,
        };
        let no_path = match attached {
            Ok(attached) => {
                let via = attached.via;
                shared.tell(Signal::Attached {
                    stream: number,
                    via,
                });
                return Ok((standing, attached));
            }
            Err(no_path) => no_path,
        };
        if all {
            shared.note_tried_all();
        }
        if let Some(refused) = no_path.final_refusal() {
            return Err(refused.clone());
        }
        shared.tell(Signal::NotAttached {
            stream: number,
            generation: standing.generation,
        });
        tokio::select! {
            () = pause(&no_path, began, &mut waits) => {}
            () = left(standings, standing) => {}
        }
    }
}

/// Tries all paths again and again; `None` when the stream is not known any more.
async fn next_path(
    shared: &Shared,
    standing: Standing,
    claim: &mut Claim,
    received: u64,
) -> Option<Resumed> {
    let mut waits = waits();
    let mut rounds = 0..;
    loop {
        let began = Instant::now();
        let round = rounds.next().unwrap_or_default();
        let (candidates, all) = shared.paths_to_try(standing.host, round);
        let met = shared.noting(standing.host);
        let no_path = match resume(candidates, &shared.trust, claim, received, met).await {
            Ok(resumed) => return Some(resumed),
            Err(no_path) => no_path,
        };
        if no_path.stream_is_gone() {
            return None;
        }
        if all {
            shared.note_tried_all();
        }
        pause(&no_path, began, &mut waits).await;
    }
}

/// The longest pause of a client that was not told to come back.
const SLOWEST: Duration = Duration::from_secs(2);

fn waits() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(1))
}

/// The pause after all paths were tried in vain, since `began`: what servers say, or a little more each time; where everything takes its
/// time there are many others.
async fn pause(no_path: &NoPath, began: Instant, waits: &mut Backoff) {
    let wait = {
        let mut random = rand::rng();
        match no_path.come_back {
            Some(told) => come_back_after(told, &mut random),
            None => waits.wait(&mut random).max(began.elapsed().min(SLOWEST)),
        }
    };
    tokio::time::sleep(wait).await;
}

impl Shared {
    fn tell(&self, signal: Signal) {
        // The engine ends its streams before itself; one that is about to end has nobody to tell.
        let _ = self.signals.send(signal);
    }
}

/// The path of a stream and its viewer, as the engine starts them.
pub(crate) type BoxedViewer = Box<dyn Viewer>;

const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Carry<BoxedViewer, Path>>();
};
