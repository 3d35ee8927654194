//! Registered tokens.

use super::present;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A registered token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The token.
    pub name: String,
    /// What kind of credential it is: the part before its first full stop; `null` where it has none.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Whose it is.
    pub user: String,
    /// The application that a client with it gets when it names none.
    pub app: Option<String>,
    /// The region in which its sessions belong.
    pub home: Option<String>,
    /// Whether it may be used.
    pub enabled: bool,
    /// Other names under which clients may present it.
    pub aliases: Vec<String>,
    /// When it was registered.
    pub created: String,
    /// The number of the change that made or last changed the record.
    pub version_number: u64,
}

/// Registers a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreation {
    /// Whose it is.
    pub user: String,
    /// The application that a client with it gets when it names none.
    #[serde(default)]
    pub app: Option<String>,
    /// The region in which its sessions belong.
    #[serde(default)]
    pub home: Option<String>,
    /// Other names under which clients may present it, at most 16.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Whether it may be used; `true` when absent.
    #[serde(default)]
    pub enabled: Option<bool>,
}

/// Changes a registered token; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenChange {
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The application that a client with it gets when it names none; `null` for none.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub app: Option<Option<String>>,
    /// The region in which its sessions belong; `null` for none.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub home: Option<Option<String>>,
    /// All other names under which clients may present it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aliases: Option<Vec<String>>,
    /// Whether it may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}
