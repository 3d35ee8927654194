//! When bytes last passed between gateways' clients and sessions of this host that end when they are idle.
//!
//! The data path writes a time into a number that it shares with this table; nobody waits for anybody. What it says is looked at when
//! a session may be due, and every [`LOOK`].
//!
//! Always true: only sessions that somebody visits are here.

use crate::clock;
use model::SessionId;
use relay::gateway::Passing;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How often it is looked at: a fraction of the shortest time after which a session may be idle.
pub(super) const LOOK: Duration = Duration::from_millis(300);

/// The times, by session.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<HashMap<SessionId, Weak<AtomicU64>>>);

/// The time of one session, in milliseconds of the steady clock; clones are of the same session.
#[derive(Debug, Clone)]
pub(super) struct Last(Arc<AtomicU64>);

impl Traffic {
    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Weak<AtomicU64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of a session, which somebody visits as long as it is kept.
    pub(super) fn of(&self, session: SessionId) -> Last {
        let mut table = self.table();
        let known = table.get(&session).and_then(Weak::upgrade);
        let last = known.unwrap_or_else(|| {
            let fresh = Arc::new(AtomicU64::new(0));
            table.insert(session, Arc::downgrade(&fresh));
            fresh
        });
        Last(last)
    }

    /// When bytes last passed, for each session that is visited.
    pub(super) fn all(&self) -> Vec<(SessionId, Duration)> {
        let mut table = self.table();
        table.retain(|_, last| last.strong_count() > 0);
        let last = |last: &Weak<AtomicU64>| Some(Last(last.upgrade()?).at());
        let all = table.iter();
        all.filter_map(|(session, one)| Some((*session, last(one)?)))
            .collect()
    }

    /// Whether no such session is visited.
    pub(super) fn is_empty(&self) -> bool {
        self.table().is_empty()
    }
}

impl Last {
    /// When bytes last passed.
    pub(super) fn at(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// Writes the time down whenever something passes.
    pub(super) fn passing(&self) -> Passing {
        let last = self.clone();
        Passing::told_to(move || last.note(clock::steady()))
    }

    fn note(&self, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_max(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_as_long_as_somebody_visits() {
        let traffic = Traffic::default();
        let session = SessionId::from_bytes([1; 10]);
        let (one, other) = (traffic.of(session), traffic.of(session));
        one.note(Duration::from_millis(700));
        other.note(Duration::from_millis(500));
        assert_eq!(traffic.all(), [(session, Duration::from_millis(700))]);
        drop(one);
        assert_eq!(traffic.all().len(), 1);
        drop(other);
        assert!(traffic.all().is_empty() && traffic.is_empty());
    }
}
