//! Formations: the set of servers now in force, where it came from, and how changes are named in it.

use crate::id::{FormationId, IncarnationId, ServerId};
use crate::mode::ResilienceMode;
use crate::settings::PrimaryReturn;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The name of a change: number 1005 of one formation is never taken for 1005 of another.
///
/// Numbers go on from the fork point in a new formation, and start at 1 in the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct ChangeName {
    /// The formation that accepted the change.
    pub formation: FormationId,
    /// Its place in the order of changes.
    pub number: u64,
}

/// A formation named briefly, as one step of a lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FormationRef {
    /// Its id.
    pub id: FormationId,
    /// Its number: one more than its parent's.
    pub number: u64,
    /// The last change that it has in common with its parent; zero for the first formation.
    pub fork_point: u64,
}

/// Why a formation was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// `stead init`.
    Founded,
    /// One side of a split went on by itself.
    Island,
    /// Formations that heard each other again became one.
    Recovered,
    /// An administrator made it of the servers that answered.
    ByHand,
    /// Made from a backup.
    Restored,
}

/// The formation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    /// Its id, number and fork point.
    pub this: FormationRef,
    /// The formations that it descends from, oldest first; empty for the first.
    pub ancestors: Vec<FormationRef>,
    /// Why it was made.
    pub cause: Cause,
    /// The formation that an administrator made, which this one is or stands in for.
    pub original: FormationId,
    /// The members of the original formation.
    pub original_members: Vec<ServerId>,
    /// When it was made.
    pub made: UnixMillis,
}

impl Formation {
    /// Whether this is the formation that an administrator made.
    pub fn is_original(&self) -> bool {
        self.this.id == self.original
    }

    /// This formation and all it descends from, newest first.
    pub fn lineage(&self) -> impl Iterator<Item = FormationRef> + '_ {
        std::iter::once(self.this).chain(self.ancestors.iter().rev().copied())
    }

    /// The formation that accepted the change of a number: this one, or the ancestor in which it was made.
    pub fn accepted(&self, number: u64) -> ChangeName {
        let step = self
            .lineage()
            .find(|step| number > step.fork_point)
            .unwrap_or(self.this);
        ChangeName {
            formation: step.id,
            number,
        }
    }

    /// Whether `other` is among the formations that this one descends from.
    pub fn descends_from(&self, other: FormationId) -> bool {
        self.ancestors.iter().any(|ancestor| ancestor.id == other)
    }
}

/// The last change that two lineages, each newest first, have in common: the largest number where they are of one formation,
/// none where they have nothing to do with each other.
pub fn common_change(one: &[FormationRef], other: &[FormationRef]) -> Option<u64> {
    let among = |lineage: &[FormationRef], id| lineage.iter().any(|step| step.id == id);
    let shared = one.iter().find(|step| among(other, step.id))?;
    let since = |lineage: &[FormationRef]| {
        let own = lineage.iter().take_while(|step| step.id != shared.id);
        own.last().map_or(u64::MAX, |branch| branch.fork_point)
    };
    Some(since(one).min(since(other)))
}

/// The most formations that a server names of those that its own descends from; the oldest are left out.
pub const LINEAGE_LIMIT: usize = 64;

/// What a server says of the formation that it is in. It belongs to no formation itself: servers of different formations tell it
/// to each other before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The formation, and those it descends from, newest first; at most [`LINEAGE_LIMIT`].
    pub lineage: Vec<FormationRef>,
    /// The life of the server's log.
    pub incarnation: IncarnationId,
    /// How the formation stays able to act.
    pub mode: ResilienceMode,
    /// `resilience.primary-return`, as it has it.
    pub primary_return: PrimaryReturn,
    /// Who acts as primary there, as far as it hears; itself where it does.
    pub primary: Option<ServerId>,
    /// Whether it may lead its formation without anybody else's vote.
    pub votes_alone: bool,
    /// The place of its primary, or else its own, in its list of backup primaries; the largest number where it is not on it.
    pub rank: u32,
    /// The newest change of a user's that it has; see [`crate::record::Group::last_user_change`].
    pub last_user_change: u64,
    /// The term and the number of the last entry of its log.
    pub log_end: (u64, u64),
    /// Whether it may not go on without its primary: a tie-breaker did not answer, say.
    pub held: bool,
    /// What it left for the formation in force, while nothing of that has come.
    pub left: Option<Left>,
    /// Formations that gave way to this one, the last ones first: what was changed there is kept here, as far as anybody reported it.
    /// At most [`LINEAGE_LIMIT`].
    pub gave_way: Vec<FormationId>,
    /// Those whom consensus counts, as its log has it; in the middle of a change those of before and those of afterwards. Empty
    /// where nothing of the formation has come.
    pub counts: Vec<BTreeSet<ServerId>>,
}

/// A formation that a server left for one of which nothing has come yet. It has it whole, and can go back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The formation.
    pub formation: FormationRef,
    /// The term and the number of the last entry that the server knows to be agreed upon in it.
    pub agreed: (u64, u64),
}

impl Side {
    /// The formation itself.
    pub fn formation(&self) -> Option<FormationRef> {
        self.lineage.first().copied()
    }

    /// Whether it descends from a formation.
    pub fn descends_from(&self, other: FormationId) -> bool {
        self.lineage.iter().skip(1).any(|step| step.id == other)
    }

    /// Whether this side's formation gave way to that of `to`. Where each says that the other did (followers without a primary
    /// went over with what they had, there and later back), nothing is decided.
    pub fn gave_way_to(&self, to: &Self) -> bool {
        let has = |winner: &Self, loser: &Self| {
            let loser = loser.formation();
            loser.is_some_and(|loser| winner.gave_way.contains(&loser.id))
        };
        has(to, self) && !has(self, to)
    }
}
