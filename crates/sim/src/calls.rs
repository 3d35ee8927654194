//! What members ask each other beside consensus, and changes carried to whoever is primary, as in the daemon.
//!
//! Always true: a change keeps its key over every repeat; it is answered once this server has it too. Start at
//! [`Server::submit`] and [`Server::requested`].

use crate::formations::{base_records, give_way, let_in, make_by_hand};
use crate::network::{Load, NoAnswer};
use crate::server::{ATTEMPT, Server};
use model::{Applied, Change, ChangeName, Command, ServerId};
use replica::ProposeError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use wire::control::{Answer, Failure, Request};

/// As in the daemon.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// A change was not made, or it is not known whether it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotMade;

/// A failure that says no more than that this server is not the one to ask.
pub(crate) fn not_primary() -> Failure {
    Failure::NotPrimary { primary: None }
}

/// A failure with its reason.
pub(crate) fn unfit(decision: impl Into<String>) -> Failure {
    Failure::Unfit {
        decision: decision.into(),
        candidates: Vec::new(),
    }
}

fn done(result: Result<(), Failure>) -> Answer {
    result.map_or_else(Answer::Failed, |()| Answer::Done)
}

impl Server {
    /// A member asks something.
    pub(crate) fn requested(
        self: &Arc<Self>,
        from: ServerId,
        request: Request,
        waits: oneshot::Sender<Result<Answer, NoAnswer>>,
    ) {
        let state = self.replica.state();
        let directory = self.directory(&state);
        if directory.removed(from).is_some() {
            if self.scene.is_whole() {
                let why = match self.is_sure_of(directory) {
                    true => NoAnswer::Removed,
                    false => NoAnswer::Doubted,
                };
                self.plug.tell(from, Load::Reply(Box::new(Err(why)), waits));
            }
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let answer = this.respond(from, request).await;
            this.reply(from, answer, waits);
        });
    }

    async fn respond(self: &Arc<Self>, from: ServerId, request: Request) -> Answer {
        match request {
            Request::Side => Answer::Side(Box::new(self.side())),
            Request::Enter {
                side,
                formation,
                gives_way,
                by_hand,
            } => {
                let how = (gives_way, by_hand);
                let room = let_in(self, from, &side, formation, how).await;
                room.map_or_else(Answer::Failed, |threshold| Answer::Room {
                    term: threshold.term,
                    number: threshold.number,
                })
            }
            Request::Base { formation, offset } => {
                Answer::Records(base_records(self, formation, offset).await)
            }
            Request::MakeFormation { from, .. } => done(make_by_hand(self, from).await),
            Request::GiveWay { to, primary, .. } => done(give_way(self, to, primary).await),
            Request::ReadIndex => match self.replica.read_index(LIMIT).await {
                Ok(name) => Answer::ReadIndex(name),
                Err(_) => Answer::Failed(not_primary()),
            },
            Request::Propose {
                id,
                author,
                command,
            } => {
                let at = self.scene.calendar(self.me);
                let change = Change {
                    id,
                    at,
                    author,
                    command,
                };
                self.proposed(&change).await
            }
            Request::OpenSession { .. } | Request::MoveSession { .. } => {
                self.serve(&request, false).await
            }
            _ => Answer::Failed(Failure::Invalid {
                why: "it is not asked here".to_owned(),
            }),
        }
    }

    pub(crate) async fn proposed(&self, change: &Change) -> Answer {
        match self.propose(change, ATTEMPT).await {
            Ok(replica::Applied { name, outcome }) => Answer::Applied(Box::new(Applied {
                name,
                outcome,
                events: Vec::new(),
            })),
            Err(ProposeError::OutcomeUnknown) => Answer::Failed(Failure::OutcomeUnknown),
            Err(_) => Answer::Failed(not_primary()),
        }
    }

    /// Has a change made, wherever the primary is, and waits until this server has it.
    pub(crate) async fn submit(&self, command: Command) -> Result<(), NotMade> {
        let change = self.change(command);
        let deadline = Instant::now() + LIMIT;
        while Instant::now() + PAUSE < deadline {
            let attempt = async {
                match self.leader_now() {
                    Some(leader) if leader == self.me => Some(self.proposed(&change).await),
                    Some(leader) => {
                        let request = Request::Propose {
                            id: change.id,
                            author: change.author.clone(),
                            command: change.command.clone(),
                        };
                        self.call(leader, request, ATTEMPT).await.ok()
                    }
                    None => None,
                }
            };
            if let Ok(Some(Answer::Applied(applied))) = timeout_at(deadline, attempt).await {
                let here = self.has(applied.name).await;
                let made = here && applied.outcome.is_ok();
                return made.then_some(()).ok_or(NotMade);
            }
            sleep(PAUSE).await;
        }
        Err(NotMade)
    }

    /// Waits until this server has everything that was acknowledged before.
    pub(crate) async fn catch_up(&self) -> bool {
        match self.newest().await {
            Some(name) => self.has(name).await,
            None => false,
        }
    }

    /// Waits until this server has a change. By looking: who waits for the replica is woken in random order.
    pub(crate) async fn has(&self, name: ChangeName) -> bool {
        let until = Instant::now() + LIMIT;
        loop {
            let state = self.replica.state();
            if let (true, Some(directory)) = (state.applied >= name.number, &state.directory) {
                return directory.group().formation.accepted(name.number) == name;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(PAUSE / 4).await;
        }
    }

    async fn newest(&self) -> Option<ChangeName> {
        let leader = self.leader_now()?;
        if leader == self.me {
            return self.replica.read_index(LIMIT).await.ok();
        }
        match self.call(leader, Request::ReadIndex, LIMIT).await {
            Ok(Answer::ReadIndex(name)) => Some(name),
            _ => None,
        }
    }
}
