//! Sessions of applications that launch nothing. Such a session is only a binding of its token to a running server: it
//! counts as running at once, and its keeper is started by the first client that attaches.

use super::Host;
use crate::clock;
use model::{Directory, Session, SessionId, SessionState};
use policy::hosting::{Event, Keeper, Phase};

/// Whether a session is only a binding of its token to a running server.
pub(crate) fn is_binding(directory: &Directory, session: &Session) -> bool {
    directory
        .app(&session.app)
        .is_some_and(|app| app.launch.is_none())
}

/// A binding, as its keeper would describe it.
fn described(session: &Session) -> Keeper {
    Keeper {
        token: session.token.clone(),
        user: session.user.clone(),
        app: session.app.clone(),
        created: session.created,
        phase: Phase::Running,
        client: None,
        last_attached: session.last_attached,
    }
}

impl Host {
    /// A binding runs from now on: without a keeper, unless its first client was so quick that one is being started.
    pub(super) fn bind(&mut self, session: &Session) {
        let has_keeper =
            self.launching.contains(&session.id) || self.links.contains_key(&session.id);
        let keeper = Box::new(described(session));
        if has_keeper {
            return self.policy.handle(Event::Keeper(session.id, keeper));
        }
        self.bare.insert(session.id);
        self.policy.handle(Event::Bound {
            session: session.id,
            keeper,
            since: clock::steady(),
        });
    }

    /// A gateway's client found no backend that accepts: if nobody uses the session, it goes on where one does.
    pub(super) fn not_accepted(&mut self, session: SessionId, detail: String) {
        let directory = self.node.directory();
        let known = directory.session(session);
        if !self.bare.contains(&session) || self.policy.has_visitors(session) {
            return;
        }
        if let Some(known) = known {
            self.node.0.hosting.note_start(&known.app, true);
        }
        self.end_bare(session, &model::EndReason::FailedToStart { detail });
    }

    /// Bindings run on without a keeper after a restart of the server; `before` is the directory at the last look.
    pub(super) fn adopt_bindings(&mut self, before: Option<&Directory>, directory: &Directory) {
        let me = self.node.me();
        let runs = |session: &Session| session.is_live() && session.state != SessionState::Starting;
        let mut adopt = |session: &Session| {
            let here = session.host == me && runs(session) && !self.policy.knows(session.id);
            if here && is_binding(directory, session) {
                self.bind(session);
            }
        };
        match before {
            Some(before) => directory
                .session_changes_since(before)
                .filter_map(|(_, is)| is)
                .for_each(|session| adopt(session)),
            None => directory.sessions_on(me).for_each(|session| adopt(session)),
        }
    }

    /// A client wants to attach to a session: a binding gets its keeper now.
    pub(super) fn wanted(&mut self, session: SessionId) {
        let directory = self.node.directory();
        let known = directory
            .session(session)
            .filter(|known| known.is_live() && is_binding(&directory, known));
        if let Some(known) = known
            && !self.links.contains_key(&session)
        {
            self.start(&directory, known);
        }
    }

    /// Ends a binding that no client ever attached to: there is no keeper that could be told. Says whether it was one.
    pub(super) fn end_bare(&mut self, session: SessionId, reason: &model::EndReason) -> bool {
        let was_bare = self.bare.remove(&session);
        if was_bare {
            self.policy.handle(Event::Lost {
                session,
                reason: reason.clone(),
            });
            let _ = self.happened.send(super::Happened::Reconsider);
        }
        was_bare
    }
}
