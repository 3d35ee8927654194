//! Sessions that go on elsewhere, in the most obvious form.

use super::{Answer, Plain, first_state, reachable};
use model::session::EndReason;
use model::*;

impl Plain {
    /// A session ends, and another starts elsewhere in its place.
    pub(super) fn move_on(
        &mut self,
        number: u64,
        id: SessionId,
        new: SessionId,
        to: ServerId,
        by: &str,
    ) -> Answer {
        let old = self.sessions.iter().find(|s| s.id == id).cloned();
        let old = old.ok_or("not found")?;
        if old.state == SessionState::Ended || old.host == to {
            return Err("invalid");
        }
        let application = self.app_for(&old.user, &old.app)?;
        // Whoever had it before has no more for it.
        let anybody = Application {
            max_per_user: application.max_per_user.filter(|_| !reachable(&old)),
            ..application.clone()
        };
        self.room_for(&anybody, &old.user, to)?;
        if self.sessions.iter().any(|s| s.id == new) {
            return Err("exists");
        }
        let by = by.to_owned();
        self.end(number, id, EndReason::Moved { to: new, by });
        self.sessions.push(Session {
            id: new,
            host: to,
            state: first_state(&application),
            created: self.clock,
            last_attached: None,
            client: None,
            heard_number: number,
            version_number: number,
            ..old
        });
        Ok(Outcome::Session {
            session: new,
            host: to,
            created: true,
        })
    }
}
