//! The journal and explanations: `GET /v1/events` and `GET /v1/explain`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the journal, from 1.
    pub seq: u64,
    /// When.
    pub at: String,
    /// The server that saw it; absent where the group as a whole did.
    pub server: Option<String>,
    /// What happened.
    pub kind: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// What it happened to.
    pub subject: String,
    /// Details by name.
    pub fields: BTreeMap<String, String>,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Why something was decided, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// The rule, a stable word.
    pub rule: String,
    /// Whether it speaks for the candidate.
    pub pass: bool,
    /// In words, with figures.
    pub detail: String,
}

/// A kind of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventKindInfo {
    /// The word that events carry.
    pub name: String,
    /// One sentence of help.
    pub help: String,
}

/// A decision and why it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What was decided, in words.
    pub decision: String,
    /// When.
    pub at: String,
    /// Who was considered, and why each was or was not chosen.
    pub candidates: Vec<ExplainedCandidate>,
}

/// A server that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedCandidate {
    /// Its name.
    pub name: String,
    /// Whether it could be chosen.
    pub eligible: bool,
    /// Why, rule by rule.
    pub reasons: Vec<Reason>,
}
