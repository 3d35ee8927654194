//! What a formation that gave way had changed, and what is to become of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A formation that gave way to another one, and whose changes wait for a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Divergence {
    /// The formation's id.
    pub id: String,
    /// The formation's number.
    pub number: u64,
    /// The last change that both sides have in common.
    pub fork_point: u64,
    /// Whether what both sides had at the fork was still known; where not, everything that differs is listed.
    pub fork_known: bool,
    /// Who was primary there.
    pub primary: Option<String>,
    /// Who was a member there.
    pub members: Vec<String>,
    /// Since when it is kept here.
    pub kept: String,
    /// How many records are left to decide on.
    pub records: u32,
    /// Whether a server of that formation has told all; until then more may come.
    pub complete: bool,
}

/// One thing that diverged, three ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DivergedRecord {
    /// What it is about: `setting:KEY`, `setting:KEY@SERVER`, `user:NAME`, `app:NAME`, `server:NAME`, `removed:NAME`,
    /// `backups` or `pause`.
    pub name: String,
    /// As both sides had it at the fork; null where there was none, or the fork is not known.
    #[schema(value_type = Option<Object>)]
    pub fork: Option<Value>,
    /// As it is here now.
    #[schema(value_type = Option<Object>)]
    pub winner: Option<Value>,
    /// As the formation that gave way had it.
    #[schema(value_type = Option<Object>)]
    pub loser: Option<Value>,
    /// Whether the accounts' passwords differ, which are never shown; only for accounts that both have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_differs: Option<bool>,
}

/// Which records are applied or discarded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DivergenceRequest {
    /// Their names; at most 5000.
    pub records: Vec<String>,
    /// All that are left, in place of names.
    pub all: bool,
    /// Why, in words; kept in the history.
    pub reason: Option<String>,
}

/// What came of applying or discarding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DivergenceDecision {
    /// The formation's id.
    pub id: String,
    /// The formation's number.
    pub number: u64,
    /// How many records were applied or discarded, or would be.
    pub done: u32,
    /// How many are left, or would be.
    pub left: u32,
    /// Records that cannot be applied and stay, the first hundred or so of them.
    pub refused: Vec<RefusedRecord>,
}

/// A record that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedRecord {
    /// What it is about.
    pub name: String,
    /// Why not, in words.
    pub reason: String,
}
