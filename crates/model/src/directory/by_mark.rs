//! Sessions by the mark of a name of which most have one session: found with one look into a tree.
//!
//! A set of pairs that is iterated from a mark on would do the same, but to begin such an iteration costs several looks, and
//! this is asked a few times for every change.

use crate::id::SessionId;
use imbl::{OrdMap, OrdSet};
use std::sync::Arc;

/// The sessions of a mark: there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Marked {
    One(SessionId),
    Several(Arc<OrdSet<SessionId>>),
}

impl Marked {
    fn and(self, id: SessionId) -> Self {
        match self {
            Self::One(first) if first == id => self,
            Self::One(first) => Self::Several(Arc::new([first, id].into_iter().collect())),
            Self::Several(mut ids) => {
                Arc::make_mut(&mut ids).insert(id);
                Self::Several(ids)
            }
        }
    }

    fn without(self, id: SessionId) -> Option<Self> {
        match self {
            Self::One(only) => Some(self).filter(|_| only != id),
            Self::Several(mut ids) => {
                Arc::make_mut(&mut ids).remove(&id);
                match ids.get_min() {
                    Some(last) if ids.len() == 1 => Some(Self::One(*last)),
                    _ => Some(Self::Several(ids)),
                }
            }
        }
    }
}

/// Sessions by mark. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ByMark {
    sessions: OrdMap<u64, Marked>,
}

impl ByMark {
    /// The sessions of a mark, in order.
    pub(crate) fn get(&self, mark: u64) -> impl Iterator<Item = SessionId> + '_ {
        let (one, several) = match self.sessions.get(&mark) {
            None => (None, None),
            Some(Marked::One(id)) => (Some(*id), None),
            Some(Marked::Several(ids)) => (None, Some(ids.iter().copied())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// Puts one in.
    pub(crate) fn insert(&mut self, mark: u64, id: SessionId) {
        // Most marks are new: their way into the tree is gone once.
        if let Some(others) = self.sessions.insert(mark, Marked::One(id)) {
            self.sessions.insert(mark, others.and(id));
        }
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, mark: u64, id: SessionId) {
        let found = self.sessions.remove(&mark);
        if let Some(others) = found.and_then(|marked| marked.without(id)) {
            self.sessions.insert(mark, others);
        }
    }

    /// All, in order of their marks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, SessionId)> + '_ {
        let marks = self.sessions.keys();
        marks.flat_map(|mark| self.get(*mark).map(|id| (*mark, id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Few marks and ids, so that they meet.
        #[test]
        fn it_is_a_set_of_pairs(
            steps in prop::collection::vec((any::<bool>(), 0u64..4, 0u8..5), 0..60),
        ) {
            let (mut index, mut plain) = (ByMark::default(), BTreeSet::new());
            for (put, mark, id) in steps {
                let id = SessionId::from_bytes([id; SessionId::LEN]);
                if put {
                    index.insert(mark, id);
                    plain.insert((mark, id));
                } else {
                    index.remove(mark, id);
                    plain.remove(&(mark, id));
                }
                prop_assert!(index.iter().eq(plain.iter().copied()));
                let of_mark = plain.range((mark, SessionId::default())..).take_while(|(found, _)| *found == mark);
                prop_assert!(index.get(mark).eq(of_mark.map(|(_, id)| *id)));
                // One that holds nothing takes no room.
                prop_assert_eq!(index.sessions.is_empty(), plain.is_empty());
                prop_assert!(index.sessions.values().all(|marked| !matches!(marked, Marked::Several(ids) if ids.len() < 2)));
            }
        }
    }
}
