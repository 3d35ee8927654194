//! The connections of gateways' clients, by session: they end when their session is there no longer.

use model::{Directory, ServerId, SessionId, SessionState};
use relay::{Stop, Stopper};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All of them. A cheap clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitors(Arc<Mutex<HashMap<SessionId, Party>>>);

/// Those of one session.
#[derive(Debug)]
struct Party {
    host: ServerId,
    stopper: Arc<Stopper>,
    count: usize,
}

/// A visitor; goes when dropped.
#[derive(Debug)]
pub(crate) struct Visitor {
    visitors: Visitors,
    session: SessionId,
    stopper: Arc<Stopper>,
}

impl Visitors {
    fn parties(&self) -> MutexGuard<'_, HashMap<SessionId, Party>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client comes to a session on that host. What tells that the session is gone is told at once when it already is.
    pub(crate) fn enter(
        &self,
        session: SessionId,
        host: ServerId,
        directory: &Directory,
        me: ServerId,
    ) -> (Stop, Visitor) {
        let mut parties = self.parties();
        let party = parties.entry(session).or_insert_with(|| Party {
            host,
            stopper: Arc::new(Stopper::new().0),
            count: 0,
        });
        party.count += 1;
        if !is_there(directory, session, host, me) {
            party.stopper.stop();
        }
        let visitor = Visitor {
            visitors: self.clone(),
            session,
            stopper: party.stopper.clone(),
        };
        (party.stopper.listener(), visitor)
    }

    /// Ends connections whose sessions are gone; what changed since `before` is looked at.
    pub(super) fn look(&self, before: Option<&Directory>, directory: &Directory, me: ServerId) {
        let mut parties = self.parties();
        if parties.is_empty() {
            return;
        }
        let mut end = |session: SessionId| {
            let gone = parties
                .get(&session)
                .is_some_and(|party| !is_there(directory, session, party.host, me));
            if gone && let Some(party) = parties.remove(&session) {
                party.stopper.stop();
            }
        };
        let Some(before) = before else {
            return;
        };
        for (was, is) in directory.session_changes_since(before) {
            if let Some(session) = is.or(was) {
                end(session.id);
            }
        }
    }
}

/// Whether a session is on that host still, as far as this server can know. Who is the host knows of itself.
fn is_there(directory: &Directory, session: SessionId, host: ServerId, me: ServerId) -> bool {
    directory.session(session).is_some_and(|session| {
        session.host == host
            && session.is_live()
            && (host == me || session.state != SessionState::Orphaned)
    })
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut parties = self.visitors.parties();
        if let Some(party) = parties.get_mut(&self.session)
            && Arc::ptr_eq(&party.stopper, &self.stopper)
        {
            party.count -= 1;
            if party.count == 0 {
                parties.remove(&self.session);
            }
        }
    }
}
