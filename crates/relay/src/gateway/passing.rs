//! Bytes on their way between a gateway's client and a backend: counted for the log, and told to whoever ends idle sessions.

use std::fmt;
use std::sync::Arc;

/// Whoever wants to know that bytes pass, in either direction; by default nobody does. A cheap clone.
#[derive(Clone, Default)]
pub struct Passing(Option<Arc<dyn Fn() + Send + Sync>>);

impl Passing {
    /// Has `note` called for each piece that has passed; it must not take long.
    pub fn told_to(note: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(note)))
    }

    /// A piece has passed.
    fn note(&self) {
        if let Some(note) = &self.0 {
            note();
        }
    }
}

impl fmt::Debug for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Passing").field(&self.0.is_some()).finish()
    }
}

/// The bytes of one direction.
#[derive(Debug)]
pub(super) struct Count<'a> {
    pub(super) bytes: u64,
    passing: &'a Passing,
}

impl<'a> Count<'a> {
    pub(super) fn new(passing: &'a Passing) -> Self {
        Self { bytes: 0, passing }
    }

    /// So many have passed.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.passing.note();
    }
}
