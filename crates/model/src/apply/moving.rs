//! Sessions that go on elsewhere: another one starts in the place of each.
//!
//! Always true: the one that is left has ended by the same change that makes the other, so that a token never has two because
//! of it; what a user may start nowhere is not moved either.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::id::{ServerId, SessionId};
use crate::session::EndReason;

impl Applying<'_> {
    /// What people decide on single sessions.
    pub(super) fn by_hand(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::EndSession { session, by } => self.end_session(*session, by),
            Command::SelectSession { session, by } => self.select_session(*session, by),
            Command::MoveSession {
                session,
                new,
                to,
                by,
            } => self.move_session(*session, *new, *to, by),
            other => unreachable!("invariant: only such changes come here, not {other:?}"),
        }
    }

    pub(super) fn move_session(
        &mut self,
        id: SessionId,
        new: SessionId,
        to: ServerId,
        by: &str,
    ) -> Result<Outcome, Refusal> {
        bounds::line("by", by, bounds::REMARK)?;
        let found = self.directory.sessions.get(&id).cloned();
        let session = found.ok_or_else(|| Refusal::NotFound {
            kind: Kind::Session,
            name: id.to_string(),
        })?;
        let invalid = |why: &str| Refusal::Invalid {
            what: format!("session {id}"),
            why: why.to_owned(),
        };
        if !session.is_live() {
            return Err(invalid("it has ended"));
        }
        if session.host == to {
            return Err(invalid("it is there already"));
        }
        let application = self.allowed_app(&session.user, &session.app)?;
        self.check_host(&application, to)?;
        // One that nobody reaches does not count towards what its user may have.
        if !session.is_reachable() {
            self.check_user_limit(&application, &session.user)?;
        }
        self.check_server_limit(&application, to)?;
        self.check_new(new)?;
        let reason = EndReason::Moved {
            to: new,
            by: by.to_owned(),
        };
        self.end(&session, reason);
        let of = (&session.token, &session.user);
        Ok(self.start_session(new, of, &application, to, session.current))
    }
}
