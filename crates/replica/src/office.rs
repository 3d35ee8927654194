//! How the office of primary changes hands: campaigns when it is vacant, hand-over when it is not.
//!
//! Always true: a campaign begins with a pre-vote, so that it disturbs no primary that others hear; a hand-over is not
//! begun before the target answered and caught up, and does not last longer than [`HAND_OVER`] before the office is
//! taken back or left to whoever wins it. When to campaign is decided a floor above. Start at [`Replica::campaign`] and
//! [`Replica::transfer_to`].

use crate::clock::Moment;
use crate::core::{Core, Raft};
use crate::replica::Replica;
use crate::types::{Consensus, LogId, Vote};
use crate::watch::OrderedSender;
use model::ServerId;
use openraft::async_runtime::watch::{WatchReceiver, WatchSender};
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::VoteRequest;
use openraft::{ChangeMembers, RaftMetrics, ServerState};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a hand-over may take before this server steps down and campaigns itself.
pub const HAND_OVER: Duration = Duration::from_millis(100);
/// How many entries the target of a hand-over may still miss when it begins.
const CLOSE: u64 = 64;

/// Why a campaign is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CampaignRefused {
    /// It leads already.
    #[error("this server leads already")]
    Leading,
    /// It does not count.
    #[error("this server does not count towards the quorum")]
    NotAVoter,
    /// It started a moment ago.
    #[error("this server started a moment ago and holds still until {0:?}")]
    Holding(Moment),
    /// It has started, and has not asked yet which formation is in force.
    #[error("this server has not asked the others yet which formation is in force")]
    Silent,
    /// It heard its primary a moment ago.
    #[error("this server heard its primary and waits for it until {0:?}")]
    Lease(Moment),
    /// Consensus does not run here.
    #[error("consensus is not running on this server")]
    NotRunning,
}

/// Why the office was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This server does not lead.
    #[error("this server is not the primary")]
    NotPrimary {
        /// Who is, as far as it knows.
        primary: Option<ServerId>,
    },
    /// The target does not count.
    #[error("the target does not count towards the quorum")]
    NotAVoter,
    /// The target has not answered within two heartbeats.
    #[error("the target does not answer")]
    Silent,
    /// The target did not catch up within the time limit.
    #[error("the target is {0} changes behind")]
    Behind(u64),
    /// Another hand-over or a restart of consensus is under way.
    #[error("another hand-over is under way")]
    Busy,
    /// The target did not take the office; this server stepped down and campaigned.
    #[error("the target did not take the office in time; who is primary now is in the status")]
    Failed,
    /// Consensus does not run here.
    #[error("consensus is not running on this server")]
    NotRunning,
}

/// The mark that the office is being handed over, for as long as this value lives.
struct HandingOver<'a>(&'a OrderedSender<bool>);

impl<'a> HandingOver<'a> {
    fn begin(mark: &'a OrderedSender<bool>) -> Self {
        set(mark, true);
        Self(mark)
    }
}

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        set(self.0, false);
    }
}

fn set(mark: &OrderedSender<bool>, under_way: bool) {
    mark.send_if_modified(|before| std::mem::replace(before, under_way) != under_way);
}

/// Whether this server is the only voter.
fn counts_alone(core: &Core, me: ServerId) -> bool {
    let watched = core.raft.metrics();
    let metrics = watched.borrow_watched();
    let mut voters = metrics.membership_config.membership().voter_ids();
    voters.next() == Some(me) && voters.next().is_none()
}

fn leads(metrics: &RaftMetrics<Consensus>, me: ServerId) -> bool {
    metrics.state == ServerState::Leader && metrics.current_leader == Some(me)
}

impl Replica {
    /// Asks the others for their votes, after asking whether they would give them. Whether it leads then is in the status,
    /// within a few milliseconds; while others are refused by their own leases it may be tried again.
    ///
    /// # Errors
    /// [`CampaignRefused`]: it did not begin.
    pub async fn campaign(&self) -> Result<(), CampaignRefused> {
        let core = self.core().map_err(|_| CampaignRefused::NotRunning)?;
        self.may_campaign(&core)?;
        core.raft
            .trigger()
            .elect(true)
            .await
            .map_err(|_| CampaignRefused::NotRunning)
    }

    fn may_campaign(&self, core: &Core) -> Result<(), CampaignRefused> {
        let watched = core.raft.metrics();
        let metrics = watched.borrow_watched();
        if core.stopped(&metrics).is_some() {
            return Err(CampaignRefused::NotRunning);
        }
        if leads(&metrics, self.me()) {
            return Err(CampaignRefused::Leading);
        }
        if self.ground().is_silent() {
            return Err(CampaignRefused::Silent);
        }
        let voters: Vec<ServerId> = metrics.membership_config.membership().voter_ids().collect();
        if !voters.contains(&self.me()) || !self.ground().is_over_threshold() {
            return Err(CampaignRefused::NotAVoter);
        }
        if voters.len() == 1 {
            return Ok(());
        }
        let now = Moment::now();
        if now < core.holds_until {
            return Err(CampaignRefused::Holding(core.holds_until));
        }
        match self
            .ground()
            .heard
            .last()
            .map(|at| at + core.timing.lease())
        {
            Some(until) if now < until => Err(CampaignRefused::Lease(until)),
            _ => Ok(()),
        }
    }

    /// Hands the office over to another voter, once it answers and has caught up, for which there is `limit`. Address and
    /// services are given up before. Changes wait meanwhile. When the target does not take the office within
    /// [`HAND_OVER`], this server steps down and campaigns.
    ///
    /// # Errors
    /// [`TransferError`]; except for [`TransferError::Failed`] this server leads as before.
    pub async fn transfer_to(
        &self,
        target: ServerId,
        limit: Duration,
    ) -> Result<(), TransferError> {
        let core = self.core().map_err(|_| TransferError::NotRunning)?;
        let _office = self
            .inner
            .office
            .try_lock()
            .map_err(|_| TransferError::Busy)?;
        if target == self.me() {
            return Ok(());
        }
        self.wait_until_close(&core, target, Instant::now() + limit)
            .await?;
        let _mark = HandingOver::begin(&self.inner.handing_over);
        if counts_alone(&core, self.me()) {
            return self.pass_the_vote_on(&core, target).await;
        }
        core.raft
            .trigger()
            .transfer_leader(target)
            .await
            .map_err(|_| TransferError::NotRunning)?;
        if self.wait_for_leader(&core, target, HAND_OVER).await {
            return Ok(());
        }
        tracing::warn!(%target, "the target did not take the office in time; stepping down and campaigning");
        self.step_down(&core, target).await;
        Err(TransferError::Failed)
    }

    /// Where this server alone counts, the target counts alone from now on, and leads. Both have to agree to that, so a target
    /// that falls silent in between leaves nobody who may lead: this server makes another formation then, in time.
    async fn pass_the_vote_on(&self, core: &Core, target: ServerId) -> Result<(), TransferError> {
        let deadline = Instant::now() + HAND_OVER;
        let voters = ChangeMembers::ReplaceAllVoters(BTreeSet::from([target]));
        let changing = core.raft.change_membership(voters, true);
        match tokio::time::timeout_at(deadline, changing).await {
            Ok(Ok(_)) => {}
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(_)))) => {
                return Err(TransferError::Busy);
            }
            // The target may have been faster than the answer.
            Ok(Err(_)) | Err(_) => {}
        }
        if core.raft.trigger().transfer_leader(target).await.is_err() {
            return Err(TransferError::NotRunning);
        }
        match self.wait_for_leader(core, target, HAND_OVER).await {
            true => Ok(()),
            false => Err(TransferError::Failed),
        }
    }

    async fn wait_until_close(
        &self,
        core: &Arc<Core>,
        target: ServerId,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        let mut watched = core.raft.metrics();
        loop {
            let behind = {
                let metrics = watched.borrow_and_update();
                self.distance(&metrics, core, target)?
            };
            if behind <= CLOSE {
                return Ok(());
            }
            let changed =
                tokio::time::timeout_at(deadline, WatchReceiver::changed(&mut watched)).await;
            match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(TransferError::NotRunning),
                Err(_) => return Err(TransferError::Behind(behind)),
            }
        }
    }

    /// How many entries the target misses.
    fn distance(
        &self,
        metrics: &RaftMetrics<Consensus>,
        core: &Core,
        target: ServerId,
    ) -> Result<u64, TransferError> {
        if core.stopped(metrics).is_some() {
            return Err(TransferError::NotRunning);
        }
        if !leads(metrics, self.me()) {
            return Err(TransferError::NotPrimary {
                primary: metrics.current_leader,
            });
        }
        let members = metrics.membership_config.membership();
        let alone = members.voter_ids().all(|id| id == self.me());
        let mut fit = members
            .voter_ids()
            .chain(members.learner_ids().filter(|_| alone));
        if !fit.any(|id| id == target) {
            return Err(TransferError::NotAVoter);
        }
        let heard = metrics
            .heartbeat
            .as_ref()
            .and_then(|heard| heard.get(&target).copied().flatten());
        let silence = heard.map_or(Duration::MAX, |at| at.into_inner().ago());
        if silence > core.timing.elect_limit() {
            return Err(TransferError::Silent);
        }
        let matched = metrics
            .replication
            .as_ref()
            .and_then(|matched| matched.get(&target).copied().flatten());
        let matched = matched.map_or(0, |id: LogId| id.index);
        Ok(metrics.last_log_index.unwrap_or(0).saturating_sub(matched))
    }

    async fn wait_for_leader(&self, core: &Core, leader: ServerId, limit: Duration) -> bool {
        let mut watched = core.raft.metrics();
        let leads = async {
            loop {
                if watched.borrow_and_update().current_leader == Some(leader) {
                    return true;
                }
                if WatchReceiver::changed(&mut watched).await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(limit, leads).await.unwrap_or(false)
    }

    /// Votes for the target in the next term, here only, which ends this server's leadership; then campaigns.
    async fn step_down(&self, core: &Core, target: ServerId) {
        let raft: Raft = core.raft.clone();
        let term = {
            let watched = raft.metrics();
            let metrics = watched.borrow_watched();
            if !leads(&metrics, self.me()) {
                return;
            }
            metrics.current_term
        };
        let last_log_id = self.ground().log.ends().1;
        let request = VoteRequest {
            vote: Vote::new(term + 1, target),
            last_log_id,
            leadership_transfer: true,
        };
        let stepping = core.spawn(async move {
            if let Err(error) = raft.vote(request).await {
                tracing::debug!(%error, "consensus stopped while stepping down");
            }
            if let Err(fatal) = raft.trigger().elect(true).await {
                tracing::debug!(%fatal, "consensus stopped while stepping down");
            }
        });
        if let Err(error) = stepping.await {
            tracing::debug!(%error, "the consensus thread ended while stepping down");
        }
    }
}
