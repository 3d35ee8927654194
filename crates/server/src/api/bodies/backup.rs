//! Backups.

use super::Password;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// What seals it, 8 bytes at least; without it nobody opens it again.
    pub passphrase: Password,
}
