//! A session that its host's drain moves soon: what its user is told, and when.

use std::ops::Range;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;
use wire::client::Leave;

use super::{Engine, Event};

/// How long before the move the user is told again.
const REMINDERS: [Duration; 5] = [
    Duration::from_secs(600),
    Duration::from_secs(300),
    Duration::from_secs(60),
    Duration::from_secs(30),
    Duration::from_secs(10),
];

/// When the servers are asked after the host's keeper said that there is news. Many clients are told at the same moment, so they
/// spread; and a server that is asked may be behind the host, so it is asked again.
const ASKED_AFTER: [Range<u64>; 3] = [0..1_000, 1_500..2_500, 4_000..6_000];

/// What the session's host asked for.
#[derive(Debug)]
pub(super) struct Due {
    leave: Leave,
    /// When the session is moved, by this machine's steady clock.
    at: Instant,
    /// When the user is told again.
    pub(super) remind_at: Option<Instant>,
}

/// How long to wait for the next reminder of something that is due after `left`; none: there is none any more.
fn next_reminder(left: Duration) -> Option<Duration> {
    let next = REMINDERS.into_iter().find(|before| *before < left)?;
    Some(left - next)
}

impl Engine {
    /// Finds out what the session's host asks for, unless it was asked often enough.
    pub(super) fn ask_what_is_wanted(&mut self, before: usize) {
        let (shared, standing) = (self.shared.clone(), self.standing());
        let Some(after) = ASKED_AFTER.get(before).cloned() else {
            return;
        };
        if standing.is_live {
            self.asking = Some(Box::pin(async move {
                let wait = rand::rng().random_range(after);
                tokio::time::sleep(Duration::from_millis(wait)).await;
                (shared.leave(standing).await, before)
            }));
        }
    }

    /// It is known what the session's host asks for.
    pub(super) fn asked_to_leave(&mut self, leave: Option<Leave>) {
        let Some(leave) = leave else {
            if self.due.take().is_some() {
                let standing = self.standing();
                self.say(Event::MoveCancelled {
                    session: standing.session.to_string(),
                    host: self.shared.name(standing.host),
                });
            }
            return;
        };
        let at = Instant::now() + Duration::from_millis(leave.within_ms);
        // Asked again after a new path, it says the same.
        let same = self.due.as_ref().is_some_and(|due| {
            let apart = due.at.max(at) - due.at.min(at);
            apart < Duration::from_secs(2)
                && due.leave.by == leave.by
                && due.leave.reason == leave.reason
        });
        if same {
            return;
        }
        self.due = Some(Due {
            leave,
            at,
            remind_at: None,
        });
        self.remind();
    }

    /// Tells the user how long the session may stay.
    pub(super) fn remind(&mut self) {
        let standing = self.standing();
        let (session, host) = (
            standing.session.to_string(),
            self.shared.name(standing.host),
        );
        let Some(due) = &mut self.due else {
            return;
        };
        let left = due.at.saturating_duration_since(Instant::now());
        due.remind_at = next_reminder(left).map(|wait| Instant::now() + wait);
        let event = Event::MoveDue {
            session,
            host,
            within_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            by: due.leave.by.clone(),
            reason: due.leave.reason.clone().unwrap_or_default(),
        };
        self.say(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_come_closer_and_end() {
        let mut left = Duration::from_secs(900);
        let mut told = Vec::new();
        while let Some(wait) = next_reminder(left) {
            left -= wait;
            told.push(left.as_secs());
        }
        assert_eq!(told, [600, 300, 60, 30, 10]);
        assert_eq!(next_reminder(Duration::from_secs(10)), None);
    }
}
