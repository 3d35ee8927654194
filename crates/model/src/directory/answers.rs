//! Which keys were answered, and as which change: looked at for every change, and by nobody who only reads.
//!
//! Keys are random. In a persistent tree each would cost copies of several nodes, so they are in an ordinary table, which stays
//! with the directory that changes are applied to: a copy begins without, and makes its own if changes are applied to it.
//! Clients choose keys, so the table hashes them with a secret; nobody looks at their order, which is different every time.
//!
//! Always true of one that is not empty: it holds the keys of all answered changes, and no others.

#![expect(
    clippy::disallowed_types,
    reason = "its order is random, and nobody looks at it"
)]

use crate::change::{Outcome, Refusal};
use crate::id::ChangeId;
use imbl::OrdMap;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The numbers of answered changes by key. Copies are empty, and all are equal: it says nothing that the directory does not.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    numbers: HashMap<ChangeId, u64>,
}

impl Clone for Answers {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Answers {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Answers {}

impl Answers {
    /// Under which number a change was answered before, of which `answered` are all. One that was not is answered as
    /// `number` from now on: looking and noting are one way into the table.
    pub(crate) fn answered_before(
        &mut self,
        id: ChangeId,
        number: u64,
        answered: &OrdMap<u64, (ChangeId, Result<Outcome, Refusal>)>,
    ) -> Option<u64> {
        if self.numbers.len() != answered.len() {
            let keys = answered.iter().map(|(number, (id, _))| (*id, *number));
            self.numbers = keys.collect();
        }
        match self.numbers.entry(id) {
            Entry::Occupied(before) => Some(*before.get()),
            Entry::Vacant(place) => {
                place.insert(number);
                None
            }
        }
    }

    /// One less.
    pub(crate) fn remove(&mut self, id: ChangeId) {
        self.numbers.remove(&id);
    }

    /// Whether it is as [`Self`] says.
    pub(crate) fn agrees(
        &self,
        answered: &OrdMap<u64, (ChangeId, Result<Outcome, Refusal>)>,
    ) -> bool {
        let same = |(number, (id, _)): (&u64, &(ChangeId, _))| self.numbers.get(id) == Some(number);
        self.numbers.is_empty() || self.numbers.len() == answered.len() && answered.iter().all(same)
    }
}
