//! What must be true at every moment and at the end, whatever happened.

use crate::fixture::numbers;
use model::{Directory, ServerId};
use replica::{Acting, Replica};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Directories are compared after every so many entries.
const COMPARED: u64 = 32;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// At most one server acts as primary at a moment.
    OnePrimary,
    /// Servers that applied equally much have equal directories.
    Agreement,
    /// A server's directory never goes back while it runs.
    Forward,
    /// What was acknowledged is there.
    NothingLost,
    /// What was refused is not there.
    NothingInvented,
    /// A group that can go on does go on.
    Progress,
    /// A server does not stop by itself.
    Alive,
}

/// A rule that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.seen)
    }
}

fn broken<T>(invariant: Invariant, seen: String) -> Result<T, Broken> {
    Err(Broken { invariant, seen })
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    by_applied: BTreeMap<u64, Directory>,
    applied: BTreeMap<ServerId, u64>,
    /// Changes that were acknowledged.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Changes whose outcome is unknown.
    pub(crate) unknown: BTreeSet<u64>,
    /// How often a server was seen acting that did not act when last looked.
    pub(crate) primaries: u64,
    primary: Option<(ServerId, u64)>,
}

impl Seen {
    /// A server starts again, from what its disk kept.
    pub(crate) fn restarted(&mut self, server: ServerId) {
        self.applied.remove(&server);
    }

    /// Looks at all servers that run.
    pub(crate) fn look<'a>(
        &mut self,
        replicas: impl Iterator<Item = &'a Replica>,
    ) -> Result<(), Broken> {
        let mut acting = Vec::new();
        for replica in replicas {
            if let Acting::Yes { term, .. } = replica.acting() {
                acting.push((replica.me(), term));
            }
            self.look_at_state(replica)?;
            if let Some(stopped) = replica.status().stopped {
                return broken(Invariant::Alive, format!("{}: {stopped}", replica.me()));
            }
        }
        match acting.as_slice() {
            [] => {}
            [one] => {
                if self.primary != Some(*one) {
                    self.primary = Some(*one);
                    self.primaries += 1;
                }
            }
            several => return broken(Invariant::OnePrimary, format!("{several:?} act at once")),
        }
        Ok(())
    }

    fn look_at_state(&mut self, replica: &Replica) -> Result<(), Broken> {
        let state = replica.state();
        let Some(directory) = &state.directory else {
            return Ok(());
        };
        let before = self.applied.insert(replica.me(), state.applied);
        if before.is_some_and(|before| before > state.applied) {
            let seen = format!("{} went from {before:?} to {}", replica.me(), state.applied);
            return broken(Invariant::Forward, seen);
        }
        if before == Some(state.applied) {
            return Ok(());
        }
        // Comparing whole directories is slow, and those that differ once stay different.
        if !state.applied.is_multiple_of(COMPARED) {
            return Ok(());
        }
        let known = self
            .by_applied
            .entry(state.applied)
            .or_insert_with(|| directory.clone());
        if known != directory {
            let seen = format!(
                "{} has another directory at {} than was seen before: {:?} instead of {:?}",
                replica.me(),
                state.applied,
                numbers(directory),
                numbers(known)
            );
            return broken(Invariant::Agreement, seen);
        }
        Ok(())
    }

    /// Looks at all servers when they should be equal.
    pub(crate) fn look_for_difference<'a>(
        mut replicas: impl Iterator<Item = &'a Replica>,
    ) -> Result<(), Broken> {
        let Some(first) = replicas.next() else {
            return Ok(());
        };
        let state = first.state();
        for other in replicas {
            if other.state().directory != state.directory {
                let seen = format!("{} and {} differ in the end", first.me(), other.me());
                return broken(Invariant::Agreement, seen);
            }
        }
        Ok(())
    }

    /// Looks at a server that has everything, at the end.
    pub(crate) fn settle(&self, replica: &Replica) -> Result<(), Broken> {
        let state = replica.state();
        let found = state.directory.as_ref().map(numbers).unwrap_or_default();
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        if !lost.is_empty() {
            return broken(
                Invariant::NothingLost,
                format!("{} lacks {lost:?}", replica.me()),
            );
        }
        let allowed: BTreeSet<u64> = self.acknowledged.union(&self.unknown).copied().collect();
        let invented: Vec<_> = found.difference(&allowed).collect();
        if !invented.is_empty() {
            let seen = format!("{} has {invented:?}", replica.me());
            return broken(Invariant::NothingInvented, seen);
        }
        Ok(())
    }
}
