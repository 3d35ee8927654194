//! Changes and linearizable reads.
//!
//! Always true: a change that is reported as applied is on disk on a majority, at every follower in sync, and in this
//! server's directory; a change
//! whose error is not [`ProposeError::OutcomeUnknown`] was not and will not be applied. Start at [`Replica::propose`].

use crate::acting::missing;
use crate::core::Core;
use crate::gather::Waiting;
use crate::log::{NoRoom, Room};
use crate::replica::Replica;
use crate::types::{ChangeCodecError, Consensus, Proposal, Reply};
use model::{Change, ChangeName, Outcome, Refusal, ServerId};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::{WatchReceiver, WatchSender};
use openraft::errors::{
    ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A change that was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// Its name; that of the first time when it was proposed again.
    pub name: ChangeName,
    /// What came of it; the rules may have refused it.
    pub outcome: Result<Outcome, Refusal>,
}

/// Why a change was not applied, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// This server is not the primary.
    #[error("this server is not the primary")]
    NotPrimary {
        /// Who is, as far as it knows.
        primary: Option<ServerId>,
    },
    /// The office is being handed over, and was not within the time limit.
    #[error("the primary is handing its office over")]
    HandingOver,
    /// The primary has not heard a quorum for too long.
    #[error("no quorum of the voters answers")]
    NoQuorum {
        /// The voters that it has not heard.
        missing: Vec<ServerId>,
    },
    /// The change was not agreed upon within the time limit, or the primary fell; it may still come. Propose it again with
    /// the same idempotency key to learn what came of it.
    #[error("the outcome of the change is unknown; ask again with the same idempotency key")]
    OutcomeUnknown,
    /// The disk of the primary has no room.
    #[error("the primary's disk is full")]
    DiskFull,
    /// It has more bytes than a change may have.
    #[error("the change has {size} bytes, more than {limit}")]
    TooLarge {
        /// Its size, encoded.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It cannot be encoded. It is a mistake in this program.
    #[error("the change cannot be encoded")]
    Encode(#[source] ChangeCodecError),
    /// Consensus does not run here.
    #[error("consensus is not running on this server")]
    NotRunning,
}

/// Why a read cannot be linearizable here and now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This server is not the primary.
    #[error("this server is not the primary")]
    NotPrimary {
        /// Who is, as far as it knows.
        primary: Option<ServerId>,
    },
    /// No quorum answered within the time limit.
    #[error("no quorum of the voters answers")]
    NoQuorum {
        /// The voters that it has not heard.
        missing: Vec<ServerId>,
    },
    /// Consensus does not run here.
    #[error("consensus is not running on this server")]
    NotRunning,
}

/// What one try to propose gave.
enum Tried {
    Done(Result<Applied, ProposeError>),
    /// Refused without effect, because the office is being handed over.
    HandingOver,
}

/// Waits until every follower in sync has an entry. False: not in time, or this server no longer leads.
async fn acknowledged(core: &Core, number: u64, deadline: Instant) -> bool {
    let mut acknowledged = core.acknowledged.subscribe();
    let reached = acknowledged.wait_until(|seen| seen.upto >= number);
    matches!(tokio::time::timeout_at(deadline, reached).await, Ok(Ok(_)))
}

impl Replica {
    /// Proposes a change and waits until it is applied here, at most for `limit`. Many at once are agreed upon together.
    ///
    /// While the office is handed over it waits, and then goes on here or says who is primary now.
    ///
    /// # Errors
    /// [`ProposeError`]; all but [`ProposeError::OutcomeUnknown`] mean that the change was and will not be applied.
    pub async fn propose(&self, change: &Change, limit: Duration) -> Result<Applied, ProposeError> {
        let deadline = Instant::now() + limit;
        let proposal = Proposal::encode(change).map_err(|error| match error {
            ChangeCodecError::TooLarge(size) => ProposeError::TooLarge {
                size,
                limit: crate::types::MAX_CHANGE,
            },
            other => ProposeError::Encode(other),
        })?;
        let largest = self.ground().log.largest_change();
        if proposal.size() > largest {
            return Err(ProposeError::TooLarge {
                size: proposal.size(),
                limit: largest,
            });
        }
        loop {
            match self.try_propose(proposal.clone(), deadline).await {
                Tried::Done(result) => return result,
                Tried::HandingOver => {
                    if tokio::time::timeout_at(deadline, self.handed_over())
                        .await
                        .is_err()
                    {
                        return Err(ProposeError::HandingOver);
                    }
                }
            }
        }
    }

    /// Waits while the office is handed over.
    async fn handed_over(&self) {
        let mut handing_over = self.inner.handing_over.subscribe();
        let over = handing_over.wait_until(|under_way| !under_way).await;
        debug_assert!(over.is_ok(), "the sender lives as long as this replica");
        // Who leads now may be known a moment later; without it the next try would spin.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn try_propose(&self, proposal: Proposal, deadline: Instant) -> Tried {
        let Ok(core) = self.core() else {
            return Tried::Done(Err(ProposeError::NotRunning));
        };
        {
            let metrics = core.raft.metrics();
            let metrics = metrics.borrow_watched();
            if metrics.current_leader != Some(self.me()) {
                return Tried::Done(Err(ProposeError::NotPrimary {
                    primary: metrics.current_leader,
                }));
            }
        }
        if *self.inner.handing_over.borrow_watched() {
            return Tried::HandingOver;
        }
        let size = proposal.size() + crate::log::ENTRY_OVERHEAD;
        let admitted = match tokio::time::timeout_at(deadline, self.ground().log.admit(size)).await
        {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(NoRoom {
                room: Room::Full | Room::Failing(_) | Room::Making | Room::Ready,
            }))
            | Err(_) => {
                return Tried::Done(Err(ProposeError::DiskFull));
            }
        };
        let (answer, written) = oneshot::channel();
        let waiting = Waiting {
            proposal,
            _admitted: admitted,
            answer,
        };
        if core.proposals.put(waiting).is_err() {
            return Tried::Done(Err(ProposeError::NotRunning));
        }
        let Ok(Ok(written)) = tokio::time::timeout_at(deadline, written).await else {
            return Tried::Done(Err(ProposeError::OutcomeUnknown));
        };
        match written {
            Ok(reply) => Tried::Done(match reply {
                Reply::Outcome { name, outcome } => {
                    match acknowledged(&core, name.number, deadline).await {
                        true => Ok(Applied {
                            name,
                            outcome: *outcome,
                        }),
                        false => Err(ProposeError::OutcomeUnknown),
                    }
                }
                Reply::Nothing => Err(ProposeError::OutcomeUnknown),
            }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                self.refused(&core, forward)
            }
            // The entry was dropped on a change of primary, or consensus stopped; others may have it.
            Err(_) => Tried::Done(Err(ProposeError::OutcomeUnknown)),
        }
    }

    fn refused(&self, core: &Arc<Core>, forward: ForwardToLeader<Consensus>) -> Tried {
        match forward.reason {
            ForwardReason::NotLeader => Tried::Done(Err(ProposeError::NotPrimary {
                primary: forward.leader_id,
            })),
            ForwardReason::LeadershipTransfer => Tried::HandingOver,
            ForwardReason::LeaseExpired => {
                let missing = missing(&core.raft.metrics().borrow_watched(), core, self.me());
                Tried::Done(Err(ProposeError::NoQuorum { missing }))
            }
        }
    }

    /// The place in the order of changes that a read must not be before, to see everything that was acknowledged before it
    /// was asked for. The primary answers; wherever the read happens, [`Replica::wait_for`] it there. It is applied
    /// here when this returns.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_index(&self, limit: Duration) -> Result<ChangeName, ReadError> {
        let deadline = Instant::now() + limit;
        let core = self.core().map_err(|_| ReadError::NotRunning)?;
        let policy = if self.acting().is_yes() {
            ReadPolicy::LeaseRead
        } else {
            ReadPolicy::ReadIndex
        };
        let no_quorum = || ReadError::NoQuorum {
            missing: missing(&core.raft.metrics().borrow_watched(), &core, self.me()),
        };
        let ready = match tokio::time::timeout(limit, core.raft.ensure_linearizable(policy)).await {
            Err(_) => return Err(no_quorum()),
            Ok(ready) => ready,
        };
        match ready {
            Ok(_) => {
                let state = self.state();
                // What is not acknowledged yet may be lost with this server.
                if !acknowledged(&core, state.applied, deadline).await {
                    return Err(no_quorum());
                }
                state
                    .position()
                    .ok_or(ReadError::NotPrimary { primary: None })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadError::NotPrimary {
                    primary: forward.leader_id,
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(no_quorum()),
            Err(RaftError::Fatal(_)) => Err(ReadError::NotRunning),
        }
    }
}
