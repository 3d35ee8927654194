//! The last that was heard of each server: soft state, never in the log.
//!
//! Every server keeps the last it was told of all, so that a new primary places sessions well in its first second.

use model::{ServerId, UnixMillis};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::control::Report;

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
    /// How far the sender's clock was ahead of this server's when the report came straight from it.
    pub offset_ms: Option<i64>,
}

/// The last report of each server.
#[derive(Debug, Default)]
pub struct Reports(Mutex<BTreeMap<ServerId, Arc<Known>>>);

impl Reports {
    /// Takes in what a server says of itself.
    pub fn take(&self, report: Report, calendar: UnixMillis, now: Duration) {
        let offset =
            i64::try_from(report.at.0).unwrap_or(i64::MAX) - i64::try_from(calendar.0).unwrap_or(0);
        self.put(Known {
            report,
            learnt: now,
            offset_ms: Some(offset),
        });
    }

    /// Takes in what the primary says of others; older news than known are passed over.
    pub fn take_relayed(&self, reports: Vec<Report>, me: ServerId, now: Duration) {
        for report in reports
            .into_iter()
            .filter(|report| report.server != me)
            .take(LIMIT)
        {
            let offset_ms = self.of(report.server).and_then(|known| known.offset_ms);
            self.put(Known {
                report,
                learnt: now,
                offset_ms,
            });
        }
    }

    fn put(&self, known: Known) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = all
            .get(&known.report.server)
            .is_none_or(|old| old.report.at < known.report.at);
        if newer && (all.len() < LIMIT || all.contains_key(&known.report.server)) {
            all.insert(known.report.server, Arc::new(known));
        }
    }

    /// The last report of a server.
    pub fn of(&self, server: ServerId) -> Option<Arc<Known>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&server)
            .cloned()
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
