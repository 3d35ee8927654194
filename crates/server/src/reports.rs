//! The last that was heard of each server: soft state, never in the log.
//!
//! Every server keeps the last it was told of all, so that a new primary places sessions well in its first second.

use model::{ServerId, UnixMillis};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::control::{Relayed, Report};

/// How often servers report.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// More servers than a group may have are never remembered.
const LIMIT: usize = 256;

/// A report and when it was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The report.
    pub report: Report,
    /// When this server learnt of it, on the steady clock.
    pub learnt: Duration,
    /// How far the sender's calendar was ahead of this server's steady clock, in milliseconds. So a jump of this server's own
    /// calendar is not taken for one of the sender's.
    ahead_of_steady_ms: Option<i64>,
}

impl Known {
    /// How far the sender's clock is ahead of this server's, which shows `calendar` at `now`.
    pub fn ahead_ms(&self, calendar: UnixMillis, now: Duration) -> Option<i64> {
        Some(
            self.ahead_of_steady_ms?
                .saturating_sub(ahead_of_steady(calendar, now)),
        )
    }
}

fn ahead_of_steady(calendar: UnixMillis, now: Duration) -> i64 {
    let calendar = i64::try_from(calendar.0).unwrap_or(i64::MAX);
    calendar.saturating_sub(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// The last report of each server.
#[derive(Debug, Default)]
pub struct Reports(Mutex<BTreeMap<ServerId, Arc<Known>>>);

impl Reports {
    /// Takes in what a server says of itself.
    pub fn take(&self, report: Report, now: Duration) {
        let ahead = ahead_of_steady(report.at, now);
        // It is the newest that its sender said, also when its clock was set back.
        self.put(
            Known {
                report,
                learnt: now,
                ahead_of_steady_ms: Some(ahead),
            },
            |_, _| true,
        );
    }

    /// Takes in what the primary says of others; older news than known are passed over. What it says of `me` tells how its clock
    /// differs from this server's, which shows `calendar` at `now`.
    pub fn take_relayed(
        &self,
        relayed: Vec<Relayed>,
        me: ServerId,
        calendar: UnixMillis,
        now: Duration,
    ) {
        let own = relayed.iter().find(|one| one.report.server == me);
        let mine = own.and_then(|own| own.ahead_ms);
        let here = ahead_of_steady(calendar, now);
        for Relayed { report, ahead_ms } in relayed.into_iter().take(LIMIT) {
            if report.server == me {
                continue;
            }
            let ahead = ahead_ms
                .zip(mine)
                .map(|(its, mine)| here.saturating_add(its).saturating_sub(mine));
            let known = Known {
                report,
                learnt: now,
                ahead_of_steady_ms: ahead,
            };
            self.put(known, |old, new| old.at != new.at);
        }
    }

    fn put(&self, known: Known, newer: impl FnOnce(&Report, &Report) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = all.get(&known.report.server);
        let takes = old.is_none_or(|old| newer(&old.report, &known.report));
        if takes && (all.len() < LIMIT || all.contains_key(&known.report.server)) {
            all.insert(known.report.server, Arc::new(known));
        }
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<ServerId, Arc<Known>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets servers that are no members any more.
    pub fn keep(&self, members: impl Fn(ServerId) -> bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|server, _| members(*server));
    }
}
