//! What the settings of resilience mean for the outage that clients see, and which values suit the network between the
//! servers.
//!
//! The formula is that of quorum mode: the primary is missed after the grace period, counted from when it was last heard,
//! which is just before it dies when changes are made; then come a pre-vote, a vote and the first change, each one round trip
//! and one write to disk.

use crate::{pause, words};
use model::{Directory, Settings, UnixMillis};
use serde::Serialize;
use std::time::Duration;

/// What a write to disk is taken to last: a few milliseconds on a busy disk.
const WRITE: Duration = Duration::from_millis(5);
/// Steps after the grace period, each a round trip and a write: pre-vote, vote, first change.
const STEPS: u32 = 3;
/// A grace period of fewer slowest round trips than this is likely to take a slow network for a dead server.
const SAFE_TRIPS: u32 = 8;

/// Round trips between two servers, as one of them measured them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    /// Who measured, by name.
    pub from: String,
    /// To whom, by name.
    pub to: String,
    /// Half of them took no longer.
    pub median: Duration,
    /// None of them took longer.
    pub worst: Duration,
    /// How many were measured.
    pub samples: u32,
}

/// An outage: how long changes are not accepted when the primary dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// As a rule.
    pub expected: Duration,
    /// At worst: the slowest round trips, the heartbeat just sent, and the first backup dead as well.
    pub worst: Duration,
}

/// The settings that an outage hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Values {
    /// `resilience.monitor-interval`.
    pub monitor_interval: Duration,
    /// `resilience.monitor-attempts`.
    pub monitor_attempts: u32,
    /// `resilience.rank-delay`.
    pub rank_delay: Duration,
}

/// A set of values to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// `fast`, `balanced` or `calm`.
    pub name: &'static str,
    /// What it is good for.
    pub why: &'static str,
    /// The values.
    pub values: Values,
    /// What they lead to.
    pub outage: Outage,
}

/// What the settings mean, and what else could be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The values in force.
    pub values: Values,
    /// What they lead to; none where nobody takes over by itself.
    pub outage: Option<Outage>,
    /// Values that suit the network, the fastest first; empty before anything was measured.
    pub alternatives: Vec<Alternative>,
    /// What speaks against the values in force.
    pub warnings: Vec<String>,
}

impl Values {
    /// Those in force.
    pub fn of(settings: &Settings) -> Self {
        Self {
            monitor_interval: settings.monitor_interval(),
            monitor_attempts: settings.monitor_attempts(),
            rank_delay: settings.rank_delay(),
        }
    }

    /// How long the primary must be silent.
    pub fn grace(&self) -> Duration {
        self.monitor_interval.saturating_mul(self.monitor_attempts)
    }

    fn outage(&self, median: Duration, worst: Duration) -> Outage {
        let expected = self.grace() + (median + WRITE) * STEPS;
        let longest = self.grace() + self.rank_delay + (worst + WRITE * 4) * STEPS;
        Outage {
            expected,
            worst: longest.max(expected),
        }
    }
}

/// Judges a group's settings at `now`, a time of the calendar, by the round trips that were measured.
pub fn resilience(directory: &Directory, now: UnixMillis, trips: &[Trip]) -> Advice {
    let values = Values::of(directory.settings());
    let takes_over = takes_over(directory, now);
    let median = trips.iter().map(|trip| trip.median).max();
    let slowest = trips.iter().max_by_key(|trip| trip.worst);
    let (median, worst) = (
        median.unwrap_or_default(),
        slowest.map(|trip| trip.worst).unwrap_or_default(),
    );
    let mut warnings = Vec::new();
    if !takes_over {
        warnings.push("nobody takes over by itself: failover is off or paused, or no other server is on the backup list".to_owned());
    }
    match slowest {
        None => warnings
            .push("no round trip was measured yet: the figures leave the network out".to_owned()),
        Some(trip) => warnings.extend(against(values, trip)),
    }
    Advice {
        values,
        outage: takes_over.then(|| values.outage(median, worst)),
        alternatives: slowest
            .map(|_| alternatives(median, worst))
            .unwrap_or_default(),
        warnings,
    }
}

/// Whether a backup takes over by itself when the primary is lost.
fn takes_over(directory: &Directory, now: UnixMillis) -> bool {
    let group = directory.group();
    let others = group.backups.iter().any(|id| group.primary != Some(*id));
    others && pause::stopped(directory, now).is_none()
}

fn against(values: Values, slowest: &Trip) -> Vec<String> {
    let Trip {
        from, to, worst, ..
    } = slowest;
    let took = words::span(*worst);
    let mut warnings = Vec::new();
    if values.grace() < *worst * SAFE_TRIPS {
        warnings.push(format!(
            "the grace period of {} is short for this network: a round trip from {from} to {to} took {took}; failovers without a failure are likely",
            words::span(values.grace())
        ));
    }
    if values.rank_delay < *worst * 2 {
        warnings.push(format!(
            "the rank delay of {} is short for this network: a round trip from {from} to {to} took {took}; two backups may step forward at once",
            words::span(values.rank_delay)
        ));
    }
    warnings
}

fn alternatives(median: Duration, worst: Duration) -> Vec<Alternative> {
    let sets = [
        (
            "fast",
            "short outages on a quiet network, with machines that are never overloaded",
            (50, 2),
            4,
            50,
        ),
        (
            "balanced",
            "for most groups: leaves room for machines that are busy at times",
            (100, 3),
            5,
            150,
        ),
        (
            "calm",
            "for networks and machines that stall for seconds at times",
            (200, 4),
            10,
            300,
        ),
    ];
    let sets = sets.into_iter();
    sets.map(|(name, why, (least, trips), monitor_attempts, rank)| {
        let values = Values {
            monitor_interval: in_tens(least, worst * trips),
            monitor_attempts,
            rank_delay: in_tens(rank, worst * 3),
        };
        Alternative {
            name,
            why,
            values,
            outage: values.outage(median, worst),
        }
    })
    .collect()
}

/// At least `least` milliseconds and `wanted`, in whole tens of milliseconds, and no more than the settings take.
fn in_tens(least: u64, wanted: Duration) -> Duration {
    let millis = u64::try_from(wanted.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.clamp(least, 10_000).div_ceil(10) * 10)
}
