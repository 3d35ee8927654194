//! Who waits for a session's keeper, woken when there is one, or none will come.
//!
//! Always true: whoever registered before he looked does not miss what happens after; nothing is kept of sessions that nobody waits for.

use model::SessionId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Everybody who waits, by session.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<HashMap<SessionId, Arc<Notify>>>);

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Awaited<'a> {
    arrivals: &'a Arrivals,
    session: SessionId,
    /// What wakes him; present until he goes.
    notify: Arc<Notify>,
}

impl Arrivals {
    fn waiting(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a session's keeper.
    pub(crate) fn expect(&self, session: SessionId) -> Awaited<'_> {
        Awaited {
            arrivals: self,
            session,
            notify: self.waiting().entry(session).or_default().clone(),
        }
    }

    /// A session's keeper is there, or does not come.
    pub(crate) fn settle(&self, session: SessionId) {
        if let Some(notify) = self.waiting().get(&session) {
            notify.notify_waiters();
        }
    }
}

impl Awaited<'_> {
    /// What completes at the next news; it counts from now on, before it is polled.
    pub(crate) fn news(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut waiting = self.arrivals.waiting();
        // The table's and this one.
        if Arc::strong_count(&self.notify) == 2 {
            waiting.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_woken_and_nothing_is_left() {
        let arrivals = Arrivals::default();
        let (session, other) = (
            SessionId::from_bytes([1; 10]),
            SessionId::from_bytes([2; 10]),
        );
        let (one, two, elsewhere) = (
            arrivals.expect(session),
            arrivals.expect(session),
            arrivals.expect(other),
        );
        let (first, second) = (one.news(), two.news());
        arrivals.settle(session);
        tokio::join!(first, second);
        drop((one, two));
        assert_eq!(arrivals.waiting().len(), 1);
        // Nobody waits for it any more.
        arrivals.settle(session);
        drop(elsewhere);
        assert!(arrivals.waiting().is_empty());
    }
}
