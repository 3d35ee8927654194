//! Pauses of automatic failover.

use super::time::rfc3339;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Pauses automatic failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Why, in words; shown wherever the pause is.
    pub reason: String,
    /// After how many seconds it ends by itself, from 60 to 604800; an hour when absent.
    #[serde(default)]
    pub for_s: Option<u64>,
}

/// A pause of automatic failover that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// Who asked for it.
    pub by: String,
    /// Why, in their words.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// When it ends by itself.
    pub until: String,
}

/// Whether automatic failover is paused, and the pause that began or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupPause {
    /// Whether automatic failover is paused from now on.
    pub paused: bool,
    /// Who asked for the pause.
    pub by: Option<String>,
    /// Why, in their words.
    pub reason: Option<String>,
    /// Since when it was.
    pub since: Option<String>,
    /// When it ends, or would have ended, by itself.
    pub until: Option<String>,
}

impl From<&model::Pause> for Pause {
    fn from(pause: &model::Pause) -> Self {
        Self {
            by: pause.by.clone(),
            reason: pause.reason.clone(),
            since: rfc3339(pause.since),
            until: rfc3339(pause.until),
        }
    }
}

impl GroupPause {
    /// The pause that began or ended, where it is known.
    pub(crate) fn of(paused: bool, pause: Option<&model::Pause>) -> Self {
        let pause = pause.map(Pause::from);
        let text = |of: fn(&Pause) -> &String| pause.as_ref().map(of).cloned();
        Self {
            paused,
            by: text(|pause| &pause.by),
            reason: text(|pause| &pause.reason),
            since: text(|pause| &pause.since),
            until: text(|pause| &pause.until),
        }
    }
}
