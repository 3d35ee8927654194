//! What the tasks of one `stead connect` share: whom to believe, the servers, the ticket, and which session it is now.
//!
//! Always true: generations rise by one with every session that takes the place of a lost one; a stream belongs to one generation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{AppName, ServerId, SessionId, Token};
use rand::RngExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use wire::client::{
    Answer, ClientId, Hidden, Leave, Opened, Refused, Request, ServerAddress, SessionNews,
};

use super::fate::{Fate, Tried, judge};
use crate::conversation::{AskError, Conversation, Dialing, QUESTION_LIMIT};
use crate::servers::{Backoff, Candidate, Servers, come_back_after};
use crate::trust::Trust;

/// Which session it is, and whether it can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) generation: u64,
    pub(crate) session: SessionId,
    pub(crate) host: ServerId,
    pub(crate) is_live: bool,
}

/// What a stream tells the engine while it lives.
#[derive(Debug)]
pub(crate) enum Signal {
    /// It cannot be attached for now.
    NotAttached { stream: u64, generation: u64 },
    /// It has its first path.
    Attached { stream: u64, via: ServerId },
    /// Its path is gone.
    PathLost {
        stream: u64,
        generation: u64,
        heard: Instant,
    },
    /// It has a new path.
    Resumed { stream: u64, via: ServerId },
    /// There is something to know about the session.
    News { generation: u64 },
}

/// A ticket and when it stops being valid, by this machine's monotonic clock.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    pub(crate) ticket: Hidden,
    pub(crate) received: Instant,
    pub(crate) lifetime: Duration,
}

/// See the module's text.
pub(crate) struct Shared {
    pub(crate) trust: Trust,
    pub(crate) token: Token,
    /// The application: the one that was asked for, or was given when none was.
    app: OnceLock<AppName>,
    pub(crate) client: ClientId,
    servers: Mutex<Servers>,
    ticket: watch::Sender<Ticket>,
    /// A server said that the ticket should be renewed now.
    renew: Notify,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) signals: mpsc::UnboundedSender<Signal>,
    /// How often all paths to the host were tried in vain.
    in_vain: AtomicU64,
    /// How often the host itself answered while a path was looked for.
    host_met: AtomicU64,
    /// The server that was asked last does not hear the host itself.
    host_unheard: AtomicBool,
}

/// Who is asked for news of a session first.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// Its host: it said that there is something to ask for, and the others may not have heard of that.
    Host,
    /// Anybody else: the host may be lost.
    Others,
}

/// While a server says that it does not hear the host, one round in so many tries every path, as the first two do, and the others the
/// host alone: what other servers answer is known, and a crowd that asks all of them again and again keeps them from all else.
const FULL_ROUND: u32 = 4;

impl Shared {
    /// Nothing is known yet but the servers to ask.
    pub(crate) fn new(
        trust: Trust,
        token: Token,
        app: Option<AppName>,
        servers: Vec<String>,
    ) -> (Self, mpsc::UnboundedReceiver<Signal>) {
        let (signals, receiver) = mpsc::unbounded_channel();
        let ticket = Ticket {
            ticket: Hidden(String::new()),
            received: Instant::now(),
            lifetime: Duration::ZERO,
        };
        let standing = Standing {
            generation: 0,
            session: SessionId::default(),
            host: ServerId::default(),
            is_live: false,
        };
        let shared = Self {
            trust,
            token,
            app: app.map_or_else(OnceLock::new, OnceLock::from),
            client: ClientId(rand::rng().random()),
            servers: Mutex::new(Servers::new(servers)),
            ticket: watch::Sender::new(ticket),
            renew: Notify::new(),
            standing: watch::Sender::new(standing),
            signals,
            in_vain: AtomicU64::new(0),
            host_met: AtomicU64::new(0),
            host_unheard: AtomicBool::new(false),
        };
        (shared, receiver)
    }

    /// Takes over what a server said of ticket and servers.
    pub(crate) fn learn(&self, opened: &Opened) {
        // A session that takes the place of a lost one is of the same application.
        self.app.get_or_init(|| opened.app.clone());
        self.servers().refresh(opened.servers.clone());
        self.keep_ticket(opened.ticket.clone(), opened.expires.0);
    }

    /// The application, as far as it is known.
    pub(crate) fn app(&self) -> Option<AppName> {
        self.app.get().cloned()
    }

    /// The ticket.
    pub(crate) fn ticket(&self) -> Hidden {
        self.ticket.borrow().ticket.clone()
    }

    /// All servers, the host first: the paths to a session.
    pub(crate) fn paths_to(&self, host: ServerId) -> Vec<Candidate> {
        self.servers().candidates(Some(host), &mut rand::rng())
    }

    /// The paths to a session that are worth trying in a round, counted from 0, and whether these are all there are.
    pub(crate) fn paths_to_try(&self, host: ServerId, round: u32) -> (Vec<Candidate>, bool) {
        let mut paths = self.paths_to(host);
        let is_full = round < 2 || round.is_multiple_of(FULL_ROUND);
        let all = is_full || !self.host_unheard.load(Ordering::Relaxed);
        if !all {
            paths.retain(|candidate| candidate.server == Some(host));
        }
        (paths, all)
    }

    /// All servers in any order.
    pub(crate) fn anybody(&self) -> Vec<Candidate> {
        self.servers().candidates(None, &mut rand::rng())
    }

    /// All servers, this one last.
    pub(crate) fn anybody_but(&self, server: ServerId) -> Vec<Candidate> {
        self.servers().candidates_but(server, &mut rand::rng())
    }

    /// A server's name.
    pub(crate) fn name(&self, server: ServerId) -> String {
        self.servers().name(server)
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        // The list is whole at every point where a panic could leave it.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_ticket(&self, ticket: Hidden, expires_ms: u64) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        // The clocks of client and group may differ; a lifetime that makes no sense is taken for a short one.
        let lifetime = Duration::from_millis(expires_ms).saturating_sub(now);
        let lifetime = lifetime.clamp(Duration::from_secs(60), Duration::from_secs(86_400));
        self.ticket.send_replace(Ticket {
            ticket,
            received: Instant::now(),
            lifetime,
        });
    }

    /// A server says whether the ticket that it was shown should be renewed now.
    pub(crate) fn hear_of_ticket(&self, renew: bool) {
        if renew {
            self.renew.notify_one();
        }
    }

    /// Renews the ticket at half its life or when a server asks for it, and learns which servers there are, for ever.
    pub(crate) async fn keep_fresh(&self) {
        let mut tickets = self.ticket.subscribe();
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(30));
        loop {
            let ticket = tickets.borrow_and_update().clone();
            let due = ticket.received + ticket.lifetime / 2;
            let is_asked_for = tokio::select! {
                () = tokio::time::sleep_until(due) => false,
                () = self.renew.notified() => true,
                // The sender is a part of `self`: this is never an error.
                _ = tickets.changed() => continue,
            };
            let renewed = match is_asked_for {
                true => self.renew_as_asked(ticket.ticket).await,
                false => self.renew(ticket.ticket, self.anybody()).await,
            };
            match renewed {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::debug!(%error, "the ticket was not renewed yet");
                    if is_asked_for {
                        self.renew.notify_one();
                    }
                    let wait = backoff.wait(&mut rand::rng());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Renews the ticket where a server said that it is signed with a key of before, at the host first, which heard of the other key;
    /// a server that did not, or that has left the group, signs with the same one again.
    async fn renew_as_asked(&self, ticket: Hidden) -> Result<(), AskError> {
        let standing = *self.standing.borrow();
        self.renew(ticket, self.paths_to(standing.host)).await?;
        match self.news(&mut None, standing, Who::Host).await {
            Ok(news) if news.renew => Err(AskError::Unexpected),
            Err(error @ AskError::Refused(Refused::Ticket)) => Err(error),
            // What nobody can be asked now is heard when somebody can.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn renew(&self, ticket: Hidden, candidates: Vec<Candidate>) -> Result<(), AskError> {
        let request = Request::Renew { ticket };
        let mut dialing = Dialing::new(candidates, &self.trust);
        let mut last = AskError::Unexpected;
        while let Some(mut conversation) = dialing.next().await {
            match conversation.ask(&request, QUESTION_LIMIT).await {
                Ok(Answer::Renewed {
                    ticket,
                    expires,
                    servers,
                }) => {
                    self.renewed(ticket, expires.0, servers);
                    return Ok(());
                }
                Ok(_) => last = AskError::Unexpected,
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn renewed(&self, ticket: Hidden, expires_ms: u64, servers: Vec<ServerAddress>) {
        self.servers().refresh(servers);
        self.keep_ticket(ticket, expires_ms);
    }

    /// All paths to the host were tried once more, in vain.
    pub(crate) fn note_tried_all(&self) {
        self.in_vain.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of each server that answers while a path to `host` is looked for.
    pub(crate) fn noting(&self, host: ServerId) -> impl Fn(ServerId) {
        move |server| {
            if server == host {
                self.host_met.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Asks until it is clear that the session does not go on, or `until`: then only whether it has ended, since nobody looked for
    /// its host in vain.
    ///
    /// # Errors
    /// The ticket is not valid any more.
    pub(crate) async fn fate(
        &self,
        standing: Standing,
        until: Option<Instant>,
    ) -> Result<Fate, Refused> {
        const OFTEN: u32 = 40;
        /// How many times as long as an answer took the next question waits at least.
        const UNHURRIED: u32 = 8;
        const SLOWEST: Duration = Duration::from_secs(2);
        let began = Instant::now();
        // A round that was under way when the trouble began may have tried the host before.
        let (in_vain, host_met) = (since_now(&self.in_vain), since_now(&self.host_met));
        self.host_unheard.store(false, Ordering::Relaxed);
        let mut conversation = None;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        let mut asked = 0;
        let tried = || Tried {
            all: in_vain(),
            host_answers: host_met(),
        };
        let troubled = || match until {
            Some(_) => Duration::ZERO,
            None => began.elapsed(),
        };
        loop {
            let asking = Instant::now();
            let news = self.news(&mut conversation, standing, Who::Others).await;
            let answered_after = asking.elapsed();
            let mut told = None;
            match news {
                Ok(news) => match judge(&news, troubled(), tried()) {
                    Fate::Goes => self.host_unheard.store(!news.host_heard, Ordering::Relaxed),
                    fate => return Ok(fate),
                },
                Err(AskError::Refused(refused @ Refused::Ticket)) => return Err(refused),
                Err(error) => {
                    tracing::debug!(%error, "what became of the session is not known yet");
                    told = come_back(&error);
                    conversation = None;
                }
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Fate::Goes);
            }
            asked += 1;
            let wait = if asked < OFTEN {
                Duration::from_millis(rand::rng().random_range(60..120))
            } else {
                backoff.wait(&mut rand::rng())
            };
            // A server that takes its time is asked by many others.
            let wait = wait.max((answered_after * UNHURRIED).min(SLOWEST));
            tokio::time::sleep(wait.max(told.unwrap_or_default())).await;
        }
    }

    /// Asks what the session's host wants of its client.
    pub(crate) async fn leave(&self, standing: Standing) -> Option<Leave> {
        let mut conversation = None;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        loop {
            let told;
            match self.news(&mut conversation, standing, Who::Host).await {
                Ok(news) => return news.leave,
                Err(AskError::Refused(_)) => return None,
                Err(error) => {
                    tracing::debug!(%error, "what the host wants is not known yet");
                    told = come_back(&error);
                    conversation = None;
                }
            }
            let wait = backoff.wait(&mut rand::rng());
            tokio::time::sleep(wait.max(told.unwrap_or_default())).await;
        }
    }

    async fn news(
        &self,
        kept: &mut Option<Conversation>,
        standing: Standing,
        who: Who,
    ) -> Result<SessionNews, AskError> {
        let conversation = match kept {
            Some(conversation) => conversation,
            None => {
                let candidates = match who {
                    Who::Host => self.paths_to(standing.host),
                    Who::Others => self.anybody_but(standing.host),
                };
                let mut dialing = Dialing::new(candidates, &self.trust);
                let nobody = |dialing: &Dialing| match dialing.come_back() {
                    Some(after) => AskError::ComeBack {
                        after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                    },
                    None => AskError::Unexpected,
                };
                let dialed = dialing.next().await;
                kept.insert(dialed.ok_or_else(|| nobody(&dialing))?)
            }
        };
        self.news_from(conversation, standing, QUESTION_LIMIT).await
    }
}

/// How long to wait where a server said when to come back.
fn come_back(error: &AskError) -> Option<Duration> {
    match error {
        AskError::ComeBack { after_ms } => {
            let told = Duration::from_millis(*after_ms);
            Some(come_back_after(told, &mut rand::rng()))
        }
        _ => None,
    }
}

/// Whether something happened again from now on.
fn since_now(count: &AtomicU64) -> impl Fn() -> bool {
    let before = count.load(Ordering::Relaxed);
    move || count.load(Ordering::Relaxed) > before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_nobody_hears_the_host_other_servers_are_tried_now_and_then() {
        let ca = format!("sha256:{}", "00".repeat(32));
        let trust = Trust::new(ca.parse().unwrap());
        let (shared, _signals) = Shared::new(trust, "card.1".parse().unwrap(), None, Vec::new());
        let host = ServerId::from_bytes([1; 16]);
        let address = |number: u8| ServerAddress {
            server: ServerId::from_bytes([number; 16]),
            name: format!("s{number}").parse().unwrap(),
            address: format!("192.0.2.{number}:5443"),
        };
        shared.servers().refresh((1..=3).map(address).collect());
        let tried = |rounds: std::ops::Range<u32>| -> Vec<(usize, bool)> {
            let rounds = rounds.map(|round| shared.paths_to_try(host, round));
            rounds.map(|(paths, all)| (paths.len(), all)).collect()
        };
        assert_eq!(tried(0..5), [(3, true); 5]);
        shared.host_unheard.store(true, Ordering::Relaxed);
        let (alone, full) = ((1, false), (3, true));
        assert_eq!(tried(0..6), [full, full, alone, alone, full, alone]);
        let (paths, _) = shared.paths_to_try(host, 2);
        assert_eq!(paths.first().unwrap().server, Some(host));
    }
}
