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
            SecretChange::Begin { mark, .. } => {
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
