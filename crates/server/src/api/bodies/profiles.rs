//! Profiles and preferences.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What administrators say of everybody, or of whoever has an application, an account or a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// Whom it is for: `group`, `app:NAME`, `user:NAME` or `token:TOKEN`.
    pub name: String,
    /// What it says, by key.
    pub values: BTreeMap<String, ProfileValue>,
    /// When it was last changed.
    pub changed: String,
    /// The number of the change that made or last changed the record.
    pub version_number: u64,
}

/// What a profile says of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileValue {
    /// The value.
    pub value: String,
    /// Whether more special profiles and preferences cannot say otherwise.
    #[serde(default)]
    pub locked: bool,
}

/// What a user says of himself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Preferences {
    /// The user.
    pub name: String,
    /// What they say, by key.
    pub values: BTreeMap<String, String>,
    /// When they were last changed; absent where there are none.
    pub changed: Option<String>,
    /// The number of the change that made or last changed the record; 0 where there is none.
    pub version_number: u64,
}

/// What a user says of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferenceValue {
    /// The value.
    pub value: String,
}

/// What holds for a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveValue {
    /// The key.
    pub name: String,
    /// The value.
    pub value: String,
    /// Where it comes from: `group`, `app:NAME`, `user:NAME`, `token:TOKEN` or `preferences`.
    pub from: String,
    /// Whether a profile has locked it.
    pub locked: bool,
    /// Who says otherwise and is not followed.
    pub passed_over: Vec<String>,
}
