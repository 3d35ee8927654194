//! Adding a server that stands alone: what the member is told, and what the two servers say to each other.

use super::records::Password;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Asks whose server answers clients somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookRequest {
    /// Where: `host:port` of its port for clients.
    pub address: String,
}

/// Whose server answers there. Nothing was said to it, and nothing of it is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeenAuthority {
    /// Where it was looked.
    pub address: String,
    /// `sha256:HEX` of its authority, to be compared with what `stead trust show` prints there.
    pub ca_fingerprint: String,
}

/// Adds a server that stands alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdditionRequest {
    /// Where it answers clients, `host:port`.
    pub address: String,
    /// `sha256:HEX` of its authority, as its administrator sees it there.
    pub ca_fingerprint: String,
    /// One of its administrators.
    pub user: String,
    /// That administrator's password there. It goes to that server and nowhere else.
    pub password: Password,
    /// What the server will be: `voter` (when absent), `non-voter` or `witness`.
    #[serde(default)]
    pub standing: Option<String>,
    /// The name that it is to have; the one that it has when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether what people made there (users, applications, settings, ...) may be lost.
    #[serde(default)]
    pub discard: bool,
}

/// A server that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedServer {
    /// Its name.
    pub name: String,
    /// Its id as a member.
    pub id: String,
    /// `voter`, `non-voter` or `witness`.
    pub standing: String,
    /// Whether it was heard as a member already.
    pub started: bool,
}

/// So much of one kind that people made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldRecords {
    /// What: `user`, `application`, `setting` and so on.
    pub kind: String,
    /// How many.
    pub count: u64,
}

/// This server, as another group would add it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The name of its group.
    pub group: String,
    /// The other servers of its group, by name. Only a server without others can be added.
    pub others: Vec<String>,
    /// Where other servers reach it.
    pub peer_address: String,
    /// Where clients and administrators reach it.
    pub client_address: String,
    /// The version of its program.
    pub version: String,
    /// The newest feature level that it can work at.
    pub feature_level: u32,
    /// Its clock, in milliseconds since 1970 (UTC).
    pub clock_unix_ms: u64,
    /// How many live sessions it has.
    pub live_sessions: u64,
    /// What people made in its group, beside one administrator: it would be lost.
    pub holds: Vec<HeldRecords>,
    /// Whether it is joining another group just now.
    pub joining: bool,
}

/// Has this server, which stands alone, join another group.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnteringRequest {
    /// The join code that a member of that group made.
    pub code: String,
    /// The name that it is to have there; the one that it has when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether what people made here may be lost.
    #[serde(default)]
    pub discard: bool,
}

impl fmt::Debug for EnteringRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnteringRequest")
            .field("name", &self.name)
            .field("discard", &self.discard)
            .finish_non_exhaustive()
    }
}

impl Drop for EnteringRequest {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.code);
    }
}

/// A server that has joined another group: it closes its connections, and goes on there by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnteredGroup {
    /// Its name there.
    pub name: String,
    /// Its id there.
    pub id: String,
    /// The group.
    pub group: String,
    /// `sha256:HEX` of that group's authority.
    pub ca_fingerprint: String,
    /// `voter`, `non-voter` or `witness`.
    pub standing: String,
}
