//! What settings lead to: `GET /v1/advice/resilience`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the settings of resilience lead to, and what else could be chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResilienceAdvice {
    /// The settings in force.
    pub in_force: AdvisedSettings,
    /// Settings that suit what was measured, the fastest first; empty before anything was.
    pub alternatives: Vec<AdvisedSettings>,
    /// Round trips between voters in the last minute, as each of them measured.
    pub round_trips: Vec<MeasuredTrip>,
    /// What speaks against the settings in force.
    pub warnings: Vec<String>,
}

/// Settings and the outage that they lead to when the primary dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdvisedSettings {
    /// What they are called: `in force`, `fast`, `balanced` or `calm`.
    pub name: String,
    /// What they are good for.
    pub why: String,
    /// `resilience.monitor-interval`.
    pub monitor_interval_ms: u64,
    /// `resilience.monitor-attempts`.
    pub monitor_attempts: u32,
    /// How long the primary must be silent before another takes over.
    pub grace_period_ms: u64,
    /// `resilience.rank-delay`.
    pub rank_delay_ms: u64,
    /// How long changes are not accepted as a rule; absent where nobody takes over by itself.
    pub expected_outage_ms: Option<u64>,
    /// The same at worst, with the first backup dead as well.
    pub worst_outage_ms: Option<u64>,
}

/// Round trips between two voters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredTrip {
    /// Both in words.
    pub name: String,
    /// Who measured.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Half of them took no longer.
    pub median_ms: f64,
    /// None of them took longer.
    pub worst_ms: f64,
    /// How many were measured.
    pub samples: u32,
}
