//! Changes asked for on any server: carried to the primary wherever it is, and answered once they are here too.
//!
//! A change keeps its idempotency key over every repeat, so that a lost answer never makes it twice.

use crate::clock;
use crate::node::Node;
use crate::random::{self, NoRandomness};
use model::{
    Applied, Author, Change, ChangeId, ChangeName, Command, Directory, Reason, Refusal, ServerId,
};
use policy::office::caretaker_makes;
use replica::ProposeError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use wire::control::{Answer, Failure, Request};

/// How long a change waits for a primary and its answer.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long one attempt waits before the primary may be another.
const ATTEMPT: Duration = Duration::from_secs(3);
/// The longest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// The first one; each is twice as long as the one before.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Why a change was not made, or not known to be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The directory refuses it.
    #[error(transparent)]
    Refused(Refusal),
    /// No server acts as primary.
    #[error("no server acts as primary now: {detail}")]
    NoPrimary {
        /// Who is missing, in words.
        detail: String,
    },
    /// Whether it was made is not known.
    #[error("it is not known whether the change was made: ask again with the same idempotency key")]
    OutcomeUnknown,
    /// The primary's disk is full.
    #[error("the primary's disk is full")]
    DiskFull,
    /// No server is fit.
    #[error("{decision}")]
    Unfit {
        /// What was decided, in words.
        decision: String,
        /// Why, candidate by candidate.
        candidates: Vec<(ServerId, Vec<Reason>)>,
    },
    /// It was made, but this server has not learnt of it in time.
    #[error("change {} was made, but this server is behind", name.number)]
    Behind {
        /// Its name.
        name: ChangeName,
    },
    /// It makes no sense.
    #[error("{why}")]
    Invalid {
        /// Why.
        why: String,
    },
    /// This server lacks the key for it.
    #[error("this server does not hold the seal key: ask one that may become primary")]
    NoSealKey,
    /// A value that is to be kept could not be sealed.
    #[error("the value could not be sealed: {why}")]
    NotSealed {
        /// Why, in words.
        why: String,
    },
    /// Randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// A key cannot be used.
    #[error("a key of the group cannot be used: {0}")]
    Keys(Arc<crate::keys::KeysError>),
}

/// What one attempt came to.
pub(crate) enum Attempt {
    /// An answer that stands.
    Settled(Result<Applied, SubmitError>),
    /// Another attempt may do it; whether this one was made is known or not.
    Again {
        /// Whether the change may have been made.
        unknown: bool,
    },
}

impl Node {
    /// Makes a change, wherever the primary is, and waits until this server has it.
    ///
    /// # Errors
    /// What the directory refuses, who is missing, or that the outcome is unknown.
    pub async fn submit(
        &self,
        key: Option<ChangeId>,
        author: Author,
        command: Command,
    ) -> Result<Applied, SubmitError> {
        let id = match key {
            Some(key) => key,
            None => ChangeId::from_bytes(random::bytes()?),
        };
        let request = Request::Propose {
            id,
            author: author.clone(),
            command: command.clone(),
        };
        let applied = self
            .carry(request, || {
                let change = Change {
                    id,
                    at: clock::calendar(),
                    author: author.clone(),
                    command: command.clone(),
                };
                self.propose_here(change)
            })
            .await?;
        self.settle(applied).await
    }

    /// Waits until this server has the change, and turns a refusal into an error.
    pub(crate) async fn settle(&self, applied: Applied) -> Result<Applied, SubmitError> {
        if !self.replica().wait_for(applied.name, LIMIT).await {
            return Err(SubmitError::Behind { name: applied.name });
        }
        match &applied.outcome {
            Ok(_) => Ok(applied),
            Err(refusal) => Err(SubmitError::Refused(refusal.clone())),
        }
    }

    /// Carries a request to whoever is primary until it is answered or the time is over.
    pub(crate) async fn carry<F>(
        &self,
        request: Request,
        here: impl Fn() -> F,
    ) -> Result<Applied, SubmitError>
    where
        F: Future<Output = Attempt>,
    {
        let deadline = Instant::now() + LIMIT;
        let mut unknown = false;
        // A planned change of primary takes a few milliseconds, an election hundreds.
        let mut pause = SHORTEST_PAUSE;
        let mut roles = self.replica().role_changed();
        loop {
            roles.mark_unchanged();
            let attempt = match self.leader() {
                Some(leader) if leader == self.me() => timeout_at(deadline, here()).await,
                Some(leader) => {
                    timeout_at(deadline, self.ask_while_primary(leader, &request)).await
                }
                None => Ok(Attempt::Again { unknown: false }),
            };
            match attempt {
                Ok(Attempt::Settled(result)) => return result,
                Ok(Attempt::Again { unknown: also }) => unknown |= also,
                Err(_) => unknown = true,
            }
            if Instant::now() + pause >= deadline {
                break;
            }
            // Who is primary now is asked at once, and a moment later again where it does not act yet.
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(PAUSE),
                Ok(()) = roles.changed() => pause = SHORTEST_PAUSE,
            }
        }
        if unknown {
            Err(SubmitError::OutcomeUnknown)
        } else {
            Err(SubmitError::NoPrimary {
                detail: self.missing(),
            })
        }
    }

    /// Proposes a change on this server.
    pub(crate) async fn propose_here(&self, change: Change) -> Attempt {
        let caretaker = self.0.caretaker.load(Ordering::Acquire);
        if !self.acting() || (caretaker && !caretaker_makes(&change.command)) {
            return Attempt::Again { unknown: false };
        }
        if let Some(decision) = self.structure_waits(&change) {
            return Attempt::Settled(Err(SubmitError::Unfit {
                decision,
                candidates: Vec::new(),
            }));
        }
        match self.replica().propose(&change, ATTEMPT).await {
            Ok(replica::Applied { name, outcome }) => Attempt::Settled(Ok(Applied {
                name,
                outcome,
                events: Vec::new(),
            })),
            Err(error) => outcome_of(error),
        }
    }

    /// Asks the primary, but waits no longer than it is the primary: a lost one never answers.
    async fn ask_while_primary(&self, leader: ServerId, request: &Request) -> Attempt {
        let mut roles = self.replica().role_changed();
        let replaced = async {
            while self.replica().leader().is_none_or(|now| now == leader) {
                if roles.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            attempt = self.ask_primary(leader, request) => attempt,
            () = replaced => Attempt::Again { unknown: true },
        }
    }

    async fn ask_primary(&self, leader: ServerId, request: &Request) -> Attempt {
        match self.call(leader, request, ATTEMPT).await {
            Ok(Answer::Applied(applied)) => Attempt::Settled(Ok(*applied)),
            Ok(Answer::Failed(failure)) => outcome_of_failure(failure, self),
            Ok(_) => Attempt::Settled(Err(SubmitError::Invalid {
                why: "the primary's answer makes no sense: its version may not fit this server's"
                    .to_owned(),
            })),
            Err(error) => Attempt::Again {
                unknown: error.outcome_unknown(),
            },
        }
    }

    /// Who is missing for a quorum, in words.
    pub(crate) fn missing(&self) -> String {
        let directory = self.directory();
        let heard = self.heard();
        let silent =
            |id: ServerId| id != self.me() && heard.get(&id).is_none_or(|heard| !heard.reachable);
        let names: Vec<String> = voters(&directory)
            .filter(|(id, _)| silent(*id))
            .map(|(_, name)| name)
            .collect();
        if names.is_empty() {
            "an election is under way".to_owned()
        } else {
            format!("{} not heard", names.join(", "))
        }
    }
}

fn voters(directory: &Directory) -> impl Iterator<Item = (ServerId, String)> + '_ {
    directory
        .servers()
        .filter(|server| server.voting)
        .map(|server| (server.id, server.name.to_string()))
}

fn outcome_of(error: ProposeError) -> Attempt {
    match error {
        ProposeError::NotPrimary { .. } | ProposeError::HandingOver => {
            Attempt::Again { unknown: false }
        }
        ProposeError::NoQuorum { .. } => Attempt::Again { unknown: false },
        ProposeError::OutcomeUnknown => Attempt::Again { unknown: true },
        ProposeError::DiskFull => Attempt::Settled(Err(SubmitError::DiskFull)),
        other => Attempt::Settled(Err(SubmitError::Invalid {
            why: other.to_string(),
        })),
    }
}

fn outcome_of_failure(failure: Failure, node: &Node) -> Attempt {
    match failure {
        Failure::NotPrimary { .. } | Failure::NoQuorum { .. } => Attempt::Again { unknown: false },
        Failure::OutcomeUnknown => Attempt::Again { unknown: true },
        settled => Attempt::Settled(Err(SubmitError::of_failure(settled, node))),
    }
}

impl SubmitError {
    /// What another member answered, as an error here.
    pub(crate) fn of_failure(failure: Failure, node: &Node) -> Self {
        match failure {
            Failure::NotPrimary { .. } | Failure::NoQuorum { .. } => Self::NoPrimary {
                detail: node.missing(),
            },
            Failure::OutcomeUnknown => Self::OutcomeUnknown,
            Failure::DiskFull => Self::DiskFull,
            Failure::Unfit {
                decision,
                candidates,
            } => Self::Unfit {
                decision,
                candidates,
            },
            Failure::NoSealKey => Self::NoSealKey,
            other => Self::Invalid {
                why: other.to_string(),
            },
        }
    }
}

/// Why a member did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no connection, or no answer in time.
    #[error(transparent)]
    Call(#[from] peer::pool::AskError),
    /// Its answer is malformed.
    #[error(transparent)]
    Decode(#[from] wire::DecodeError),
}

impl AskError {
    /// Whether the other server may have acted on the request.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::Call(error) => error.outcome_unknown(),
            Self::Decode(_) => true,
        }
    }
}
