//! Bodies of `/v1/group/recover`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Goes on by hand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryRequest {
    /// The formation that is to stand where several act, by number or the beginning of its id.
    pub formation: Option<String>,
    /// Why, in words; kept in the history.
    pub reason: Option<String>,
}

/// The formation that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recovered {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// Its primary.
    pub primary: String,
}
