//! Gateways.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// Where servers accept its clients.
    pub listen: String,
    /// What its clients get.
    pub app: String,
    /// Where a client's token comes from: `rdp-cookie`, `sni`, `proxy-protocol` or `source-address`.
    pub token_from: String,
    /// How it is on the server that answers; absent where the record is of the past, or was made a moment ago.
    pub here: Option<GatewayHere>,
    /// The number of the change that made or last changed the record.
    pub version_number: u64,
}

/// How a gateway is on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayHere {
    /// Whether it accepts clients.
    pub listening: bool,
    /// Why it does not.
    pub error: Option<String>,
    /// Clients that are connected.
    pub connections: u64,
}

/// Makes a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayCreation {
    /// Where servers accept its clients, as ADDRESS:PORT; an address that a server does not have yet is waited for.
    pub listen: String,
    /// What its clients get: an application that launches nothing.
    pub app: String,
    /// Where a client's token comes from: `rdp-cookie`, `sni`, `proxy-protocol` or `source-address`.
    pub token_from: String,
}
