//! Choices that no report shows yet, so that a burst between two reports spreads.

use model::ServerId;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many sessions were placed on each server since its last report but one, as the last may have been under way already.
#[derive(Debug, Clone, Default)]
pub struct Choices(BTreeMap<ServerId, Chosen>);

#[derive(Debug, Clone, Copy, Default)]
struct Chosen {
    before: u32,
    since: u32,
    reported: Option<Duration>,
}

impl Choices {
    /// Reports that follow each other faster count as one: choices under way may be in neither.
    pub const SETTLED: Duration = Duration::from_millis(500);

    /// A session was placed on a server.
    pub fn chose(&mut self, server: ServerId) {
        let chosen = self.0.entry(server).or_default();
        chosen.since = chosen.since.saturating_add(1);
    }

    /// A report of a server came in.
    pub fn reported(&mut self, server: ServerId, now: Duration) {
        let chosen = self.0.entry(server).or_default();
        if chosen
            .reported
            .is_some_and(|last| now.saturating_sub(last) < Self::SETTLED)
        {
            return;
        }
        *chosen = Chosen {
            before: chosen.since,
            since: 0,
            reported: Some(now),
        };
    }

    /// Forgets servers that are no members any more.
    pub fn keep(&mut self, is_member: impl Fn(ServerId) -> bool) {
        self.0.retain(|server, _| is_member(*server));
    }

    /// How many are not in a server's reported sessions yet, as far as can be told.
    pub fn count(&self, server: ServerId) -> u32 {
        let chosen = self.0.get(&server).copied().unwrap_or_default();
        chosen.before.saturating_add(chosen.since)
    }
}
