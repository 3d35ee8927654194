//! Whether this server acts as primary: the one predicate on which address, services, changes and reads hang.
//!
//! Always true: at most one server of a formation acts at a moment. Leader, handing nothing over, and now is before the
//! last acknowledgement of a quorum + lease − margin, on a clock that counts suspended time. The acknowledgement counts
//! from when the acknowledged message was *sent*, and a voter gives no vote for a lease after it *received* one. A sole
//! voter is its own quorum and has no lease, so that a leader that passed the only vote on acts no more; where a sole voter must
//! reach tie-breakers to act alone, it acts no longer than their last answer allows, nor while it passes the only vote on. Start at [`Replica::acting`].

use crate::clock::Moment;
use crate::core::Core;
use crate::log::Room;
use crate::replica::Replica;
use crate::types::Consensus;
use model::ServerId;
use openraft::async_runtime::watch::{WatchReceiver, WatchSender};
use openraft::{RaftMetrics, ServerState};
use std::collections::{BTreeMap, BTreeSet};

/// Whether this server acts as primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acting {
    /// It does.
    Yes {
        /// The term that it was elected for.
        term: u64,
        /// When it stops acting unless a quorum is heard meanwhile; none for a sole voter.
        until: Option<Moment>,
    },
    /// It does not.
    No(NotActing),
}

/// Why a server does not act as primary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotActing {
    /// It does not lead.
    #[error("it does not lead")]
    NotLeader {
        /// Who does, as far as it knows.
        primary: Option<ServerId>,
    },
    /// It leads, and is handing the office over.
    #[error("it is handing its office over")]
    HandingOver,
    /// It leads, but has not heard a quorum for too long.
    #[error("it has not heard a quorum of the voters within the grace period")]
    NoQuorum {
        /// The voters that it has not heard.
        missing: Vec<ServerId>,
    },
    /// It alone counts, and may not act alone: what it must reach for that has not answered.
    #[error(
        "it may not act alone: the tie-breakers do not answer, or have not been asked again yet"
    )]
    Alone,
    /// Consensus does not run here.
    #[error("consensus is not running on this server")]
    NotRunning,
}

impl Acting {
    /// Whether it does.
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Yes { .. })
    }
}

/// What a server is in its formation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows and counts.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows and does not count.
    Learner,
    /// Consensus does not run.
    Stopped,
}

/// How far another server is, as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The number of the last entry that it is known to have; none: not known yet.
    pub matched: Option<u64>,
    /// When the newest message that it acknowledged was sent; none: it never acknowledged one to this leader.
    pub heard: Option<Moment>,
}

/// What this server knows of its formation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This server.
    pub me: ServerId,
    /// Its role.
    pub role: Role,
    /// Who leads, as far as this server knows; it may have fallen since.
    pub leader: Option<ServerId>,
    /// The term.
    pub term: u64,
    /// Whether this server acts as primary.
    pub acting: Acting,
    /// When this server last heard from the leader that it follows; none: not since it started.
    pub last_heard: Option<Moment>,
    /// When its promise to that leader ends: it gives no vote and does not campaign before.
    pub lease_until: Option<Moment>,
    /// Until when it gives no vote because it was started.
    pub holds_until: Option<Moment>,
    /// The servers that count. While this server's log was begun anew and does not go far enough, without this server.
    pub voters: BTreeSet<ServerId>,
    /// The servers that follow and do not count.
    pub learners: BTreeSet<ServerId>,
    /// Whether a change of the voters is under way.
    pub members_changing: bool,
    /// In the middle of such a change those that count before and those that count afterwards: a majority of each has to agree.
    /// Empty at other times.
    pub joint: Vec<BTreeSet<ServerId>>,
    /// The number of the last entry in the log.
    pub last_entry: u64,
    /// The number of the last entry that a quorum has, as far as this server knows.
    pub committed: u64,
    /// The number of the last applied entry.
    pub applied: u64,
    /// The term of the last applied entry. Where it is that of the present leader, everything that was committed before it was
    /// elected is applied.
    pub applied_term: u64,
    /// The number of the last entry in the newest snapshot.
    pub snapshot: u64,
    /// How far the others are; known to the leader only.
    pub progress: BTreeMap<ServerId, Progress>,
    /// The followers without which no change is acknowledged now; known to the leader only.
    pub in_sync: BTreeSet<ServerId>,
    /// What the disk has for further changes.
    pub room: Room,
    /// Why consensus stopped by itself, in words: the disk failed, or a change could not be read.
    pub stopped: Option<String>,
}

/// The voters that the leader has not heard within its lease.
pub(crate) fn missing(
    metrics: &RaftMetrics<Consensus>,
    core: &Core,
    me: ServerId,
) -> Vec<ServerId> {
    let heard = metrics.heartbeat.as_ref();
    let silent = |id: &ServerId| {
        let last = heard.and_then(|heard| heard.get(id).copied().flatten());
        last.is_none_or(|at| at.into_inner().ago() + core.timing.margin() >= core.timing.lease())
    };
    let voters = metrics.membership_config.membership().voter_ids();
    voters.filter(|id| *id != me && silent(id)).collect()
}

pub(crate) fn acting(
    metrics: &RaftMetrics<Consensus>,
    core: &Core,
    me: ServerId,
    handing_over: bool,
    guarded_until: Option<Moment>,
) -> Acting {
    if core.stopped(metrics).is_some() {
        return Acting::No(NotActing::NotRunning);
    }
    if metrics.state != ServerState::Leader || metrics.current_leader != Some(me) {
        let primary = metrics.current_leader.filter(|leader| *leader != me);
        return Acting::No(NotActing::NotLeader { primary });
    }
    if handing_over {
        return Acting::No(NotActing::HandingOver);
    }
    let term = metrics.current_term;
    let members = metrics.membership_config.membership();
    let mut voters = members.voter_ids();
    let first = voters.next();
    if first != Some(me) && !voters.any(|voter| voter == me) {
        // The only vote was passed on: whoever has it waits for no lease.
        return Acting::No(NotActing::HandingOver);
    }
    if first == Some(me) && voters.next().is_none() {
        return match guarded_until {
            Some(until) if Moment::now() >= until => Acting::No(NotActing::Alone),
            until => Acting::Yes { term, until },
        };
    }
    let until = metrics
        .last_quorum_acked
        .map(|sent| sent.into_inner() + core.timing.lease() - core.timing.margin());
    // On the way from one sole voter to the next both count, and both are on one side.
    let passing_on = members.get_joint_config().len() > 1;
    let guard = guarded_until.filter(|_| passing_on);
    match (until, guard) {
        (_, Some(guard)) if Moment::now() >= guard => Acting::No(NotActing::Alone),
        (Some(until), guard) if Moment::now() < until => Acting::Yes {
            term,
            until: Some(guard.map_or(until, |guard| guard.min(until))),
        },
        _ => Acting::No(NotActing::NoQuorum {
            missing: missing(metrics, core, me),
        }),
    }
}

fn role(metrics: &RaftMetrics<Consensus>) -> Role {
    match metrics.state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}

fn progress(metrics: &RaftMetrics<Consensus>, me: ServerId) -> BTreeMap<ServerId, Progress> {
    let Some(matched) = &metrics.replication else {
        return BTreeMap::new();
    };
    let heard = |id| {
        metrics
            .heartbeat
            .as_ref()
            .and_then(|heard| heard.get(id).copied().flatten())
    };
    let others = matched.iter().filter(|(id, _)| **id != me);
    others
        .map(|(id, matched)| {
            let heard = heard(id).map(|at| at.into_inner());
            (
                *id,
                Progress {
                    matched: matched.map(|id| id.index),
                    heard,
                },
            )
        })
        .collect()
}

impl Replica {
    /// Whether this server acts as primary at this moment. Constant time; to be asked again for each use.
    pub fn acting(&self) -> Acting {
        match self.core() {
            Ok(core) => {
                let metrics = core.raft.metrics();
                let handing_over = *self.inner.handing_over.borrow_watched();
                let guard = self.ground().guarded_until();
                acting(
                    &metrics.borrow_watched(),
                    &core,
                    self.me(),
                    handing_over,
                    guard,
                )
            }
            Err(_) => Acting::No(NotActing::NotRunning),
        }
    }

    /// Who leads, as far as this server knows; it may have fallen since. Constant time, for every request.
    pub fn leader(&self) -> Option<ServerId> {
        let core = self.core().ok()?;
        core.raft.metrics().borrow_watched().current_leader
    }

    /// When this server last heard from the leader that it follows; none: not since it started. Constant time.
    pub fn last_heard(&self) -> Option<Moment> {
        self.ground().heard.last()
    }

    /// When a leader last asked this server to take the office over: from then on that leader accepted nothing more; none: not
    /// since this server started. Constant time.
    pub fn last_offer(&self) -> Option<Moment> {
        self.ground().heard.last_offer()
    }

    /// What this server knows of its formation at this moment.
    pub fn status(&self) -> Status {
        let ground = self.ground();
        let state = ground.published.own();
        let last_heard = ground.heard.last();
        let mut status = Status {
            me: self.me(),
            role: Role::Stopped,
            leader: None,
            term: 0,
            acting: self.acting(),
            last_heard,
            lease_until: None,
            holds_until: None,
            voters: state.voters(),
            learners: BTreeSet::new(),
            members_changing: false,
            joint: Vec::new(),
            last_entry: ground.log.ends().1.map_or(0, |id| id.index),
            committed: state.applied,
            applied: state.applied,
            applied_term: state.last.map_or(0, |id| id.leader_id.term),
            snapshot: ground
                .snapshots
                .current()
                .and_then(|file| file.meta().last)
                .map_or(0, |id| id.index),
            progress: BTreeMap::new(),
            in_sync: BTreeSet::new(),
            room: self.room(),
            stopped: None,
        };
        let Ok(core) = self.core() else { return status };
        let watched = core.raft.metrics();
        let metrics = watched.borrow_watched();
        let members = metrics.membership_config.membership();
        status.stopped = core.stopped(&metrics);
        status.role = match status.stopped {
            Some(_) => Role::Stopped,
            None => role(&metrics),
        };
        status.leader = metrics.current_leader;
        status.term = metrics.current_term;
        status.lease_until = last_heard.map(|at| at + core.timing.lease());
        status.holds_until = Some(core.holds_until);
        status.voters = members.voter_ids().collect();
        if !ground.is_over_threshold() {
            status.voters.remove(&self.me());
        }
        status.learners = members.learner_ids().collect();
        status.joint = match members.get_joint_config().as_slice() {
            joint @ [_, _, ..] => joint.to_vec(),
            _ => Vec::new(),
        };
        status.members_changing = !status.joint.is_empty()
            || metrics.membership_config != metrics.committed_membership_config;
        status.committed = metrics
            .cluster_committed
            .or(metrics.local_committed)
            .map_or(status.committed, |id| id.index);
        status.progress = progress(&metrics, self.me());
        status.in_sync = core.acknowledged.borrow_watched().by.clone();
        status
    }
}
