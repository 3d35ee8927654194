//! A server that forgets its group.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes the server that is asked forget its group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// Why, in words; kept in the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A server that has forgotten its group, and the group of one that it is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupReset {
    /// The server.
    pub name: String,
    /// The new group's name, which is that of the old one.
    pub group: String,
    /// The new group's id.
    pub group_id: String,
    /// `sha256:HEX` of the new group's authority: what clients trust from now on. Everybody logs in again.
    pub ca_fingerprint: String,
    /// The servers that it no longer knows, by name.
    pub servers_forgotten: Vec<String>,
    /// How many of its sessions go on.
    pub sessions_kept: u64,
}
