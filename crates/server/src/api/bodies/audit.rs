//! The audit log: `GET /v1/audit`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A change that somebody made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the log, from 1.
    pub id: u64,
    /// When.
    pub at: String,
    /// Who did it: an account, or `root on SERVER` for the command line on a server itself.
    pub who: String,
    /// From where: an address, or the local socket of a server.
    pub from: String,
    /// `added`, `changed`, `removed`, `ended`, `moved`, `applied` or `discarded`.
    pub action: String,
    /// What was changed: `user:NAME`, `app:NAME`, `setting:KEY`, `setting:KEY@SERVER`, `server:NAME`, `session:ID` and so on.
    pub subject: String,
    /// What there was; absent where there was nothing, or it is nothing with a record.
    pub before: Option<Value>,
    /// What there is; absent where there is nothing any more, or it is nothing with a record.
    pub after: Option<Value>,
    /// Details by name: a reason, that a password or the value of a secret was set.
    pub details: BTreeMap<String, String>,
}
