//! What happens to a session if nothing happens: it ends when it was alone, or idle, for too long; its keeper goes when nobody comes
//! for it any more.

use std::time::Duration;

use model::EndReason;
use tokio::time::Instant;

use super::super::patience::patience;
use super::{Life, STAY, Session};

impl Session {
    pub(super) fn handle_deadline(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.life {
            Life::Running if is_due(self.lonely_at()) => self.end(EndReason::TimedOut),
            // Bytes may have passed since the timer was set.
            Life::Running if is_due(self.idle_at()) => self.end(EndReason::Idle),
            _ => {}
        }
    }

    /// When something happens if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.life {
            Life::Starting(_) | Life::Ending(_) => None,
            Life::Ended { since, .. } => Some(
                self.leaving
                    .map_or(*since + STAY, |leave| leave.min(*since + STAY)),
            ),
            Life::Running => [self.lonely_at(), self.idle_at()]
                .into_iter()
                .flatten()
                .min(),
        }
    }

    /// When it has been without a client for too long.
    fn lonely_at(&self) -> Option<Instant> {
        if self.attached {
            return None;
        }
        let retain = Duration::from_millis(self.spec.retain_ms);
        let open = self.ever_attached.then(|| self.streams.open());
        let span = patience(&self.spec.app, retain, open)?;
        Some(self.alone + span)
    }

    /// When nothing has passed through it for too long.
    fn idle_at(&self) -> Option<Instant> {
        let span = self.spec.app.idle_timeout_ms.map(Duration::from_millis)?;
        Some(self.streams.traffic().last() + span)
    }
}
