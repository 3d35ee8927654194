//! Who takes part in the formation: servers that follow, servers that count.
//!
//! Always true: a change of the voters goes through both majorities, so that no two primaries can come of it. Only the
//! primary makes such changes, one at a time.

use crate::replica::Replica;
use crate::types::Consensus;
use model::ServerId;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, EmptyNode};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Why the members were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// This server is not the primary, or cannot reach a quorum.
    #[error("this server is not the primary")]
    NotPrimary {
        /// Who is, as far as it knows.
        primary: Option<ServerId>,
    },
    /// Another change of the members is under way.
    #[error("another change of the members is under way")]
    Busy,
    /// A server that is to count does not follow yet.
    #[error("server {0} does not follow yet; it is added as one that does not count first")]
    NotFollowing(ServerId),
    /// Nobody would be left to count.
    #[error("no voter would be left")]
    Nobody,
    /// The change is not one that can be made.
    #[error("the members cannot be changed so: {0}")]
    Impossible(String),
    /// It was not agreed upon within the time limit, or the primary fell; it may still come. Look at the status.
    #[error("whether the members were changed is unknown")]
    OutcomeUnknown,
    /// Consensus does not run here.
    #[error("consensus is not running on this server")]
    NotRunning,
}

impl From<RaftError<Consensus, ClientWriteError<Consensus>>> for MembersError {
    fn from(error: RaftError<Consensus, ClientWriteError<Consensus>>) -> Self {
        match error {
            RaftError::Fatal(_) | RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
                Self::OutcomeUnknown
            }
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Self::NotPrimary {
                primary: forward.leader_id,
            },
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_) => Self::Busy,
                ChangeMembershipError::EmptyMembership(_) => Self::Nobody,
                ChangeMembershipError::LearnerNotFound(not_found) => {
                    Self::NotFollowing(not_found.node_id)
                }
                other => Self::Impossible(other.to_string()),
            },
            RaftError::APIError(other) => Self::Impossible(other.to_string()),
        }
    }
}

impl Replica {
    async fn change_members(
        &self,
        change: ChangeMembers<ServerId, EmptyNode>,
        keep_as_learners: bool,
        limit: Duration,
    ) -> Result<(), MembersError> {
        let core = self.core().map_err(|_| MembersError::NotRunning)?;
        let changing = core.raft.change_membership(change, keep_as_learners);
        match tokio::time::timeout(limit, changing).await {
            Err(_) => Err(MembersError::OutcomeUnknown),
            Ok(result) => Ok(result.map(|_| ())?),
        }
    }

    /// Lets a server follow without counting. It receives a snapshot or entries from now on.
    ///
    /// # Errors
    /// [`MembersError`].
    pub async fn add_learner(&self, server: ServerId, limit: Duration) -> Result<(), MembersError> {
        let nodes = BTreeMap::from([(server, EmptyNode::new())]);
        self.change_members(ChangeMembers::AddNodes(nodes), true, limit)
            .await
    }

    /// Sets which servers count; each must follow already. Those that no longer count go on following.
    ///
    /// # Errors
    /// [`MembersError`].
    pub async fn set_voters(
        &self,
        voters: BTreeSet<ServerId>,
        limit: Duration,
    ) -> Result<(), MembersError> {
        if voters.is_empty() {
            return Err(MembersError::Nobody);
        }
        self.change_members(ChangeMembers::ReplaceAllVoters(voters), true, limit)
            .await
    }

    /// Removes a server from the formation, whether it counts or not.
    ///
    /// # Errors
    /// [`MembersError`].
    pub async fn remove(&self, server: ServerId, limit: Duration) -> Result<(), MembersError> {
        let status = self.status();
        if status.voters.contains(&server) {
            let voters: BTreeSet<ServerId> = status
                .voters
                .into_iter()
                .filter(|voter| *voter != server)
                .collect();
            self.set_voters(voters, limit).await?;
        }
        self.change_members(
            ChangeMembers::RemoveNodes(BTreeSet::from([server])),
            false,
            limit,
        )
        .await
    }
}
