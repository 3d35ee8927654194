//! When sessions are to be looked at again though nothing happens to them: one time for each.

use model::SessionId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The times, by session and in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    of: BTreeMap<SessionId, Duration>,
    in_order: BTreeSet<(Duration, SessionId)>,
}

impl Timers {
    /// A session is to be looked at then, and not at the time that was said before.
    pub(super) fn set(&mut self, session: SessionId, at: Duration) {
        self.clear(session);
        self.of.insert(session, at);
        self.in_order.insert((at, session));
    }

    pub(super) fn clear(&mut self, session: SessionId) {
        if let Some(at) = self.of.remove(&session) {
            self.in_order.remove(&(at, session));
        }
    }

    /// The first time.
    pub(super) fn first(&self) -> Option<Duration> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// Takes the sessions whose time has come.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<SessionId> {
        let mut due = Vec::new();
        while let Some((_, session)) = self.in_order.first().copied().filter(|(at, _)| *at <= now) {
            self.clear(session);
            due.push(session);
        }
        due
    }
}
