//! The divergences that nobody has decided on yet, read.

use super::Directory;
use crate::divergence::{Diverged, Divergence, Subject};
use crate::id::FormationId;
use std::ops::Bound;
use std::sync::Arc;

impl Directory {
    /// The divergences that have records left, by formation.
    pub fn divergences(&self) -> impl Iterator<Item = &Arc<Divergence>> + '_ {
        self.divergences
            .values()
            .filter(|divergence| divergence.records > 0)
    }

    /// All divergences that are remembered, those with no record left included.
    pub fn all_divergences(&self) -> impl Iterator<Item = &Arc<Divergence>> + '_ {
        self.divergences.values()
    }

    /// A divergence that has records left.
    pub fn divergence(&self, formation: FormationId) -> Option<&Arc<Divergence>> {
        let found = self.divergences.get(&formation);
        found.filter(|divergence| divergence.records > 0)
    }

    /// Its records, by subject.
    pub fn diverged(&self, formation: FormationId) -> impl Iterator<Item = &Arc<Diverged>> + '_ {
        // The subject that stands before all others.
        let first = Subject::Removed(crate::id::ServerId::from_bytes([0; 16]));
        self.diverged
            .range((Bound::Included((formation, first)), Bound::Unbounded))
            .take_while(move |((of, _), _)| *of == formation)
            .map(|(_, record)| record)
    }

    /// One of its records.
    pub fn diverged_record(
        &self,
        formation: FormationId,
        subject: &Subject,
    ) -> Option<&Arc<Diverged>> {
        self.diverged.get(&(formation, subject.clone()))
    }
}
