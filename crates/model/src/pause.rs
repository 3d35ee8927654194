//! A pause of automatic failover, for maintenance: whose it is, why, and when it ends.
//!
//! Always true: it ends. The primary records the end; where there is none that could, each server judges by its own clock
//! ([`Pause::holds`]).

use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A pause of automatic failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who asked for it.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Since when.
    pub since: UnixMillis,
    /// When it ends by itself.
    pub until: UnixMillis,
}

impl Pause {
    /// How long a pause may be: a minute to a week.
    pub const SPAN_RANGE: RangeInclusive<Duration> =
        Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);
    /// How long it is when nothing is said.
    pub const SPAN_DEFAULT: Duration = Duration::from_secs(3_600);

    /// Whether it has not run out at `now`, a time of the calendar.
    pub fn holds(&self, now: UnixMillis) -> bool {
        now < self.until
    }
}

/// How a pause begins or ends. Stored: entries are only ever added, at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PauseChange {
    /// One begins now, in place of the one that there may be.
    Begin {
        /// Why, in the words of whoever asks for it.
        reason: String,
        /// How long it lasts, in milliseconds from the change's stamp on; within [`Pause::SPAN_RANGE`].
        span_ms: u64,
    },
    /// It ends at once.
    End {
        /// Why, in the words of whoever asks for it.
        reason: Option<String>,
    },
    /// It has run out. Nothing happens where it has not: another took its place meanwhile.
    RunOut,
}

/// For people: that there is a pause, whose, how long and why.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            by, reason, until, ..
        } = self;
        write!(
            f,
            "automatic failover is paused by {by} until {until}: {reason}"
        )
    }
}
