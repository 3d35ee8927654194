//! The one place where the table of sessions is written, and its indexes with it.
//!
//! Always true afterwards: every index agrees with the table (`Directory::check` says where not).

use super::Directory;
use crate::id::SessionId;
use crate::session::Session;
use imbl::OrdMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Stands for a name in an index, in 8 bytes. Different names can have one mark, though nobody can make many that do.
///
/// It is made anew whenever a directory is loaded, and is neither stored nor sent.
pub(crate) fn mark(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl Directory {
    /// Puts a session in, in place of the one of the same id. Its token, application and host are those of that one.
    pub(crate) fn put_session(&mut self, mut session: Session) {
        match self.sessions.get(&session.id).cloned() {
            None => {
                self.share_names(&mut session);
                self.index(&session);
            }
            Some(old) if old.ended == session.ended && old.user == session.user => {}
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
        self.by_token
            .insert(mark(session.token.as_str()), session.id);
        self.by_user
            .insert((mark(session.user.as_str()), session.id));
        self.by_host
            .entry(session.host)
            .or_default()
            .insert(session.id);
        *self
            .per_host
            .entry((session.app.clone(), session.host))
            .or_insert(0) += 1;
    }

    fn unindex(&mut self, session: &Session) {
        if let Some(at) = session.ended {
            self.ended.remove(&(at, session.id));
            return;
        }
        self.by_token
            .remove(mark(session.token.as_str()), session.id);
        self.by_user
            .remove(&(mark(session.user.as_str()), session.id));
        if let Some(on_host) = self.by_host.get_mut(&session.host) {
            on_host.remove(&session.id);
            if on_host.is_empty() {
                self.by_host.remove(&session.host);
            }
        }
        take_one(&mut self.per_host, &(session.app.clone(), session.host));
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
