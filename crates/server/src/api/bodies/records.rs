//! Records of the directory, and what changes them: servers, settings, users, applications, sessions.

use super::present;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// A member of the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// What `status` says of it.
    #[serde(flatten)]
    pub status: super::ServerStatus,
    /// Where other servers reach it.
    pub peer_address: String,
    /// Where clients and administrators reach it.
    pub client_address: String,
    /// Who took it offline, why and until when; absent while it is online.
    pub offline: Option<Offline>,
    /// Power rating for load balancing; 1 is an ordinary server.
    pub power: f64,
    /// What application host selectors choose by.
    pub labels: BTreeMap<String, String>,
    /// Where clients of some networks reach it; the first whose network a client is in.
    pub external: Vec<External>,
    /// The backends that it checks, of applications that have several, as it said last.
    #[serde(default)]
    pub backends: Vec<ServerBackend>,
    /// When it joined.
    pub joined: String,
    /// The number of the change that made or last changed the record.
    pub version_number: u64,
}

/// A backend as the server that checks it finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerBackend {
    /// Its address.
    pub backend: String,
    /// `up` or `down`.
    pub state: String,
    /// Since when.
    pub since: String,
    /// What the last check met, if it failed.
    pub error: Option<String>,
    /// Sessions of the server that have it.
    pub sessions: u32,
}

/// Where clients of a network reach a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// The clients' addresses, as `10.0.0.0/8` or `2001:db8::/32`.
    pub network: String,
    /// `host:port`.
    pub address: String,
}

/// Changes what is said of a server; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerChange {
    /// Power rating for load balancing, 0.1 to 1000; 1 is an ordinary server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<f64>,
    /// Labels that it gets; `null` takes one away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// All places where clients of some networks reach it, in the order in which they are tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<Vec<External>>,
    /// Where other servers reach it, `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// Where clients and administrators reach it, `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<String>,
}

/// Why a server gets no new sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Offline {
    /// Who took it offline.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
    /// Since when.
    pub since: String,
    /// When it ends by itself; absent when it does not.
    pub until: Option<String>,
    /// How its sessions go elsewhere; absent where they stay.
    pub drain: Option<Drain>,
}

/// How the sessions of a server go elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drain {
    /// When those in use are moved whether their users did so or not.
    pub deadline: String,
    /// When nothing was left to be moved; absent while something is.
    pub finished: Option<String>,
    /// How many are to be moved yet.
    pub left: u64,
}

/// Takes servers offline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OfflineRequest {
    /// Why, in words; at most 500 characters.
    pub reason: Option<String>,
    /// After how many seconds it ends by itself; absent: when somebody takes the server online.
    pub for_s: Option<u64>,
    /// Whether the sessions that are there go elsewhere: those without a client at once, those in use by the deadline. Sessions of
    /// applications that are kept (`on_drain`) stay.
    pub drain: bool,
    /// After how many seconds sessions in use are moved whether their users did so or not; 0: at once; absent: 300.
    pub deadline_s: Option<u64>,
    /// Other servers that are taken offline with this one, all of them or none.
    pub also: Vec<String>,
}

/// Takes servers online.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineRequest {
    /// Other servers that are taken online with this one, all of them or none.
    pub also: Vec<String>,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its key.
    pub name: String,
    /// The value in force: for the group, or for the server that was asked for.
    pub value: String,
    /// Where the value comes from: `default`, `group` or `server`.
    pub source: String,
    /// The value that holds while none is set.
    pub default: String,
    /// The kind of its values.
    #[serde(rename = "type")]
    pub kind: String,
    /// What values are allowed, in words.
    pub range: String,
    /// The unit of its values; empty where it has none.
    pub unit: String,
    /// One sentence of help.
    pub help: String,
    /// Whether a server can have a value of its own.
    pub per_server: bool,
    /// Servers that have a value of their own.
    pub overrides: Vec<Override>,
    /// What is not as it should be with the value that was set, as far as the server that was asked can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// One server's own value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Override {
    /// Which server.
    pub server: String,
    /// Its value.
    pub value: String,
}

/// Sets a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingValue {
    /// The value as text.
    pub value: String,
}

/// An account. Its password is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its name.
    pub name: String,
    /// `user`, `viewer`, `operator` or `admin`.
    pub role: String,
    /// Groups of users that it belongs to.
    pub groups: Vec<String>,
    /// Whether it is disabled.
    pub disabled: bool,
    /// When its password was last set.
    pub password_set: String,
    /// What programs log in with on its behalf.
    pub api_tokens: Vec<ApiToken>,
    /// The number of the change that made or last changed the record; locks do not count.
    pub version_number: u64,
    /// Until when no password is accepted for it from addresses that it is not known at; absent when it is not locked.
    pub locked_until: Option<String>,
    /// How many logins had failed when it was locked; absent when it is not.
    pub failed_logins: Option<u32>,
    /// Where its password is checked: `directory`, `pam` or `ldap`; absent in what an account was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated_by: Option<String>,
    /// Where the account came from: `directory` where somebody made it, else who accepted its first login, `pam` or `ldap`.
    pub origin: String,
}

/// What programs log in with on a user's behalf. The token itself is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub user: String,
    /// What it allows, where the user is allowed as much.
    pub role: String,
    /// When it was made.
    pub created: String,
    /// When it stops being valid.
    pub expires: String,
}

/// A token for the API that is to be made.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiTokenRequest {
    /// What it allows, at most what the user may; the user's role when absent.
    pub role: Option<String>,
    /// How long it is valid, in seconds, from an hour to ten years; 90 days when absent.
    pub lifetime_s: Option<u64>,
}

/// A token for the API that was just made: what it is, and the token itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MadeApiToken {
    /// What it is.
    #[serde(flatten)]
    pub made: ApiToken,
    /// For `Authorization: Bearer`, or `STEAD_API_TOKEN`; not shown again.
    pub token: String,
}

impl fmt::Debug for MadeApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeApiToken")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

/// A password on its way in; never shown, never sent back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Password)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// Makes an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCreation {
    /// Its password, 1 to 1024 bytes.
    pub password: Password,
    /// `user` when absent.
    #[serde(default)]
    pub role: Option<String>,
    /// Groups of users that it belongs to.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Whether it starts disabled.
    #[serde(default)]
    pub disabled: bool,
}

/// Changes an account; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserChange {
    /// `user`, `viewer`, `operator` or `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// All groups of users that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Whether it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Ends its lock, and that of single addresses that are locked out of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unlock: bool,
}

/// Sets the password of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// The new password, 1 to 1024 bytes.
    pub password: Password,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct App {
    /// Its name.
    pub name: String,
    /// The command of one session; absent where the backend is a running server.
    pub launch: Option<String>,
    /// Where its bytes are: `unix:PATH`, `tcp:HOST:PORT`, or `@pty`; with `,weight=NUMBER` behind it where that is not 1.
    pub backends: Vec<String>,
    /// How its backends are on the server that answers; empty unless several run already, and where the record is of the past.
    pub here: Vec<BackendHere>,
    /// How long the backend may take to accept.
    pub ready_timeout_ms: u64,
    /// `always`, `attached` or `never`.
    pub resumable: String,
    /// How long after the client has gone an `attached` session ends.
    pub detach_timeout_ms: u64,
    /// When a session without a client ends; never when absent.
    pub suspended_timeout_ms: Option<u64>,
    /// When a session through which no byte passes ends, with a client or without; never when absent.
    pub idle_timeout_ms: Option<u64>,
    /// The most sessions of one user.
    pub max_per_user: Option<u32>,
    /// The most sessions on one server.
    pub max_per_server: Option<u32>,
    /// Labels that a server must have to host it.
    pub hosts: BTreeMap<String, String>,
    /// Users and groups (`@group`) that may start it; all when empty.
    pub users: Vec<String>,
    /// Environment of the command.
    pub env: BTreeMap<String, String>,
    /// Working folder of the command.
    pub dir: Option<String>,
    /// The operating-system account of the command: a name, or `{user}` for the one named like the session's user; the server's own
    /// when absent.
    pub run_as: Option<String>,
    /// What a drain of its server does with a session: `move` or `keep`.
    pub on_drain: String,
    /// The header of the PROXY protocol that its backends expect of each connection: `none` or `v2`.
    pub proxy_protocol: String,
    /// The number of the change that made or last changed the record.
    pub version_number: u64,
}

/// How a backend is on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendHere {
    /// Its address.
    pub backend: String,
    /// Its part of the sessions, relative to the others' weights.
    pub weight: u16,
    /// `up`, `down`, or `unchecked` where it has placeholders or the server does not host the application.
    pub state: String,
    /// Since when.
    pub since: Option<String>,
    /// What the last check met, if it failed.
    pub error: Option<String>,
    /// Sessions of the server that have it.
    pub sessions: u32,
}

/// Makes or changes an application; what is absent has its default or stays as it is, what is `null` goes back to its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppChange {
    /// The command of one session; `null` for none.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub launch: Option<Option<String>>,
    /// All backends: `unix:PATH`, `tcp:HOST:PORT` or `@pty`, with `,weight=NUMBER` behind it, 0 to 256, where running servers share
    /// sessions unequally.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<String>>,
    /// How long the backend may take to accept, 100 ms to 10 min.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_timeout_ms: Option<u64>,
    /// `always`, `attached` or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumable: Option<String>,
    /// How long after the client has gone an `attached` session ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detach_timeout_ms: Option<u64>,
    /// When a session without a client ends; `null` for never.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub suspended_timeout_ms: Option<Option<u64>>,
    /// When a session through which no byte passes ends, with a client or without, at least 1 s; `null` for never.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub idle_timeout_ms: Option<Option<u64>>,
    /// The most sessions of one user; `null` for any number.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub max_per_user: Option<Option<u32>>,
    /// The most sessions on one server; `null` for any number.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub max_per_server: Option<Option<u32>>,
    /// All labels that a server must have to host it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<BTreeMap<String, String>>,
    /// All users and groups (`@group`) that may start it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<String>>,
    /// The whole environment of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Working folder of the command; `null` for the session's own.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub dir: Option<Option<String>>,
    /// The operating-system account of the command: a name, or `{user}` for the one named like the session's user; `null` for the
    /// server's own.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run_as: Option<Option<String>>,
    /// What a drain of its server does with a session: `move` or `keep`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_drain: Option<String>,
    /// The header of the PROXY protocol that its backends expect of each connection: `none` or `v2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<String>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub token: String,
    /// Who logged in for it.
    pub user: String,
    /// What it runs.
    pub app: String,
    /// Where it runs.
    pub host: String,
    /// `starting`, `active`, `suspended`, `orphaned` or `ended`.
    pub state: String,
    /// When it was made.
    pub created: String,
    /// The address of the client that is attached, or was last.
    pub client: Option<String>,
    /// When a client was last attached.
    pub last_attached: Option<String>,
    /// Whether its token gets it when it asks for the application.
    pub current: bool,
    /// When it ended.
    pub ended: Option<String>,
    /// Why it ended, in words.
    pub reason: Option<String>,
    /// The number of the change that made or last changed the record.
    pub version_number: u64,
}

/// Says where a session is to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionMove {
    /// The server that is to host it; the best other one when absent.
    #[serde(default)]
    pub to: Option<String>,
}

/// Asks for a token's session of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// Whose session.
    pub token: String,
    /// Who uses it.
    pub user: String,
    /// Which application.
    pub app: String,
    /// The server that is to host it; the best one when absent.
    #[serde(default)]
    pub host: Option<String>,
}
