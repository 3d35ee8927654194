//! What the group has one of: its pause, its secret.

use super::{Answer, Plain};
use model::*;

impl Plain {
    pub(super) fn change_pause(&mut self, change: &PauseChange) -> Answer {
        match change {
            PauseChange::Begin { reason, span_ms } => self.pause(reason, *span_ms),
            PauseChange::End { .. } => self.resume(),
            PauseChange::RunOut => self.end_pause(),
        }
    }

    pub(super) fn change_secret(&mut self, change: &SecretChange) -> Answer {
        match change {
            SecretChange::Begin { mark, .. } if *mark == self.secret.0 => Err("invalid"),
            SecretChange::Begin { mark, sealed, .. } => {
                self.fits(sealed)?;
                self.secret = (*mark, true);
                Ok(Outcome::Done)
            }
            SecretChange::Finish { mark, .. } if (*mark, true) == self.secret => {
                self.secret.1 = false;
                Ok(Outcome::Done)
            }
            SecretChange::Finish { .. } => Err("invalid"),
        }
    }

    pub(super) fn invite(&mut self, invitation: &Invitation) -> Answer {
        if self.invitations.iter().any(|one| one.id == invitation.id) {
            return Err("exists");
        }
        self.fits(&invitation.secret)?;
        if invitation.expires <= self.clock {
            return Err("invalid");
        }
        self.invitations.push(Invitation {
            made: self.clock,
            ..invitation.clone()
        });
        Ok(Outcome::Done)
    }

    pub(super) fn withdraw(&mut self, code: InvitationId) -> Answer {
        let place = self.invitations.iter().position(|one| one.id == code);
        let place = place.ok_or("not found")?;
        let open = &self.invitations[place];
        if open.used_by.is_some() {
            return Err("used");
        }
        if open.expires <= self.clock {
            return Err("expired");
        }
        self.invitations.remove(place);
        Ok(Outcome::Done)
    }

    /// All pauses of the random changes are ann's.
    fn pause(&mut self, reason: &str, span_ms: u64) -> Answer {
        if reason.is_empty() || !(60_000..=604_800_000).contains(&span_ms) {
            return Err("invalid");
        }
        self.pause = Some(Pause {
            by: "ann".to_owned(),
            reason: reason.to_owned(),
            since: self.clock,
            until: UnixMillis(self.clock.0 + span_ms),
        });
        Ok(Outcome::Done)
    }

    fn resume(&mut self) -> Answer {
        match &self.pause {
            Some(pause) if self.clock < pause.until => {
                self.pause = None;
                Ok(Outcome::Done)
            }
            _ => Err("not paused"),
        }
    }

    fn end_pause(&mut self) -> Answer {
        if matches!(&self.pause, Some(pause) if self.clock >= pause.until) {
            self.pause = None;
        }
        Ok(Outcome::Done)
    }
}
