//! Stored credentials. No body has a value but the one that sets it.

use super::{Password, present};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is known of a stored credential; never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredSecret {
    /// Its name.
    pub name: String,
    /// What it is, in the words of whoever keeps it.
    pub description: Option<String>,
    /// When it was first kept.
    pub created: String,
    /// Since when it has its value.
    pub set: String,
    /// Who set its value.
    pub by: String,
    /// The applications that are given it, by name.
    pub apps: Vec<String>,
    /// Whether it has a value; it has none where a server left its group that could not open it.
    pub has_value: bool,
    /// Why the value should be changed; absent where it need not be.
    pub change_because: Option<String>,
    /// The number of the change that made or last changed the record.
    pub version_number: u64,
}

/// Keeps a stored credential, or changes it; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretChange {
    /// Its value in base64, 1 to 32768 bytes before that; needed for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Password>,
    /// What it is, one line; `null` takes it away.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
}
