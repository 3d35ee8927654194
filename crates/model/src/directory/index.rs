//! The one place where the table of sessions is written, and its indexes with it.
//!
//! Always true afterwards: every index agrees with the table (`Directory::check` says where not).

use super::Directory;
use crate::id::SessionId;
use crate::session::Session;
use imbl::OrdMap;
use std::sync::Arc;

/// What of a session decides in which indexes it stands. The names in it never change.
#[derive(PartialEq, Eq)]
struct Place {
    current: bool,
    live: bool,
    reachable: bool,
}

impl Place {
    fn of(session: &Session) -> Self {
        Self {
            current: session.current,
            live: session.is_live(),
            reachable: session.is_reachable(),
        }
    }
}

impl Directory {
    /// Puts a session in, in place of the one of the same id.
    pub(crate) fn put_session(&mut self, mut session: Session) {
        match self.sessions.get(&session.id).cloned() {
            None => {
                self.share_names(&mut session);
                self.index(&session);
            }
            Some(old) if Place::of(&old) == Place::of(&session) => {}
            Some(old) => {
                self.unindex(&old);
                self.index(&session);
            }
        }
        self.sessions.insert(session.id, Arc::new(session));
    }

    /// Takes a session out.
    pub(crate) fn forget_session(&mut self, id: SessionId) {
        if let Some(old) = self.sessions.remove(&id) {
            self.unindex(&old);
        }
    }

    /// Lets the session use the names that are in memory already.
    fn share_names(&self, session: &mut Session) {
        if let Some((name, _)) = self.users.get_key_value(&session.user) {
            session.user = name.clone();
        }
        if let Some((name, _)) = self.apps.get_key_value(&session.app) {
            session.app = name.clone();
        }
    }

    fn index(&mut self, session: &Session) {
        if let Some(at) = session.ended {
            self.ended.insert((at, session.id));
            return;
        }
        if session.current {
            self.by_token
                .insert((session.token.clone(), session.app.clone()), session.id);
        } else {
            self.others
                .insert((session.token.clone(), session.app.clone(), session.id));
        }
        self.by_host.insert((session.host, session.id));
        *self
            .per_host
            .entry((session.app.clone(), session.host))
            .or_insert(0) += 1;
        if session.is_reachable() {
            *self
                .per_user
                .entry((session.user.clone(), session.app.clone()))
                .or_insert(0) += 1;
        }
    }

    fn unindex(&mut self, session: &Session) {
        if let Some(at) = session.ended {
            self.ended.remove(&(at, session.id));
            return;
        }
        if session.current {
            self.by_token
                .remove(&(session.token.clone(), session.app.clone()));
        } else {
            self.others
                .remove(&(session.token.clone(), session.app.clone(), session.id));
        }
        self.by_host.remove(&(session.host, session.id));
        take_one(&mut self.per_host, &(session.app.clone(), session.host));
        if session.is_reachable() {
            take_one(
                &mut self.per_user,
                &(session.user.clone(), session.app.clone()),
            );
        }
    }
}

/// One less; no entry is kept for none.
fn take_one<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: &K) {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => {
            counts.remove(key);
        }
    }
}
