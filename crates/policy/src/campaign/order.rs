//! In which order servers step forward, and what that hangs on.
//!
//! Always true: every server with the same facts and the same lost leader finds the same order, in which each voter stands
//! once.

use model::settings::Settings;
use model::{Directory, Pause, ServerId, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long after a campaign that won nothing the next one starts.
pub const RETRY: Duration = Duration::from_millis(30);

/// The spans that campaigning keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The grace period, which is the lease of the consensus core that runs now.
    pub grace: Duration,
    /// How much later each next candidate steps forward.
    pub rank_delay: Duration,
    /// How long after a campaign that won nothing the next one starts: [`RETRY`], or longer than the slowest answer takes.
    pub retry: Duration,
}

impl Timing {
    /// The spans that the settings ask for.
    pub fn of(settings: &Settings) -> Self {
        Self {
            grace: settings.grace_period(),
            rank_delay: settings.rank_delay(),
            retry: RETRY,
        }
    }
}

/// A voter, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its name.
    pub name: String,
    /// Whether its standing lets it be primary: a witness never is.
    pub may_lead: bool,
}

/// What the order of candidates hangs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who counts, as consensus has it.
    pub voters: BTreeMap<ServerId, Voter>,
    /// The backup primaries, highest first.
    pub backups: Vec<ServerId>,
    /// The server that last said that it acts as primary.
    pub primary: Option<ServerId>,
    /// `resilience.failover`.
    pub failover: bool,
    /// The pause of automatic failover that holds now.
    pub paused: Option<Pause>,
    /// The spans to keep to.
    pub timing: Timing,
}

impl Facts {
    /// What a directory says at `now`, a time of the calendar, and who counts as consensus has it.
    ///
    /// A pause that has run out counts no more, whether its end was recorded or not: while the primary is lost nobody can.
    pub fn of(directory: &Directory, voters: &BTreeSet<ServerId>, now: UnixMillis) -> Self {
        let voter = |id: &ServerId| {
            let may_lead = directory
                .server(*id)
                .is_some_and(|server| server.standing.may_lead());
            (
                *id,
                Voter {
                    name: directory.name_of(*id),
                    may_lead,
                },
            )
        };
        Self {
            voters: voters.iter().map(voter).collect(),
            backups: directory.group().backups.clone(),
            primary: directory.group().primary,
            failover: directory.settings().failover(),
            paused: directory.group().pause_at(now).cloned(),
            timing: Timing::of(directory.settings()),
        }
    }

    /// Whether another server than the recorded primary may step forward by itself, as far as administrators say.
    pub fn fails_over(&self) -> bool {
        self.failover && self.paused.is_none()
    }

    /// The voters in the order in which they step forward after `lost` was heard no more, or after a start in which no
    /// leader was heard.
    ///
    /// First those of the backup list, then the others by id. A leader that was lost goes last of its kind; in a cold start
    /// the recorded primary goes first.
    pub fn order(&self, lost: Option<ServerId>) -> Vec<ServerId> {
        let fit = |id: &ServerId| self.voters.get(id).is_some_and(|voter| voter.may_lead);
        let mut listed: Vec<ServerId> = Vec::new();
        if lost.is_none() {
            listed.extend(self.primary.filter(fit));
        }
        for id in self.backups.iter().copied().filter(fit) {
            if !listed.contains(&id) {
                listed.push(id);
            }
        }
        let others = self.voters.keys().copied();
        let mut others: Vec<_> = others.filter(|id| !listed.contains(id)).collect();
        if let Some(lost) = lost {
            last(&mut listed, lost);
            last(&mut others, lost);
        }
        listed.extend(others);
        listed
    }

    /// Whether a server that leads may stay primary, instead of only passing the role on.
    pub fn may_stay(&self, server: ServerId) -> bool {
        let fit = self.voters.get(&server).is_some_and(|voter| voter.may_lead);
        // Whoever has the only vote has nobody to pass the role on to: with an empty list every server goes on alone, and an
        // administrator may have made a formation of one that is not on the list.
        let named = self.primary == Some(server) || self.backups.contains(&server);
        fit && (named || self.is_sole_voter(server))
    }

    pub(super) fn name(&self, server: ServerId) -> String {
        self.voters
            .get(&server)
            .map_or_else(|| server.to_string(), |voter| voter.name.clone())
    }

    pub(super) fn is_sole_voter(&self, server: ServerId) -> bool {
        self.voters.len() == 1 && self.voters.contains_key(&server)
    }
}

fn last(ids: &mut Vec<ServerId>, lost: ServerId) {
    if let Some(place) = ids.iter().position(|id| *id == lost) {
        let lost = ids.remove(place);
        ids.push(lost);
    }
}
