//! The state of the group as one server sees it: `GET /v1/status`.

use super::pause::Pause;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state of the group, as the answering server sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The whole state in one sentence.
    pub sentence: String,
    /// The group's name.
    pub group: String,
    /// The group's id.
    pub group_id: String,
    /// The server that answers.
    pub server: String,
    /// When it answered, by its own clock.
    pub at: String,
    /// The formation in force.
    pub formation: FormationSummary,
    /// Who accepts changes; absent while nobody does.
    pub primary: Option<Primary>,
    /// What the answering server is: `primary` or `secondary`.
    pub role: String,
    /// `quorum` or `availability`.
    pub mode: String,
    /// Whether the answering server acts as primary now.
    pub acting: bool,
    /// Voters and how many of them are needed.
    pub quorum: Quorum,
    /// How many more servers, whichever they are, the group can lose and still accept changes.
    pub can_lose: u32,
    /// The same in words.
    pub can_lose_words: String,
    /// The members, by name.
    pub servers: Vec<ServerStatus>,
    /// The backup primaries, highest first; the original primary at the head.
    pub backups: Vec<String>,
    /// The original primary, when it is about to take over again; only the primary knows.
    pub returning: Option<Returning>,
    /// The pause of automatic failover; absent while there is none.
    pub paused: Option<Pause>,
    /// HA addresses.
    pub addresses: Vec<String>,
    /// The newest change of primary that was not planned.
    pub last_failover: Option<Failover>,
    /// Sessions that are not ended.
    pub sessions: u64,
    /// What needs somebody, the most urgent first.
    pub attention: Vec<Attention>,
    /// The same as plain sentences.
    pub warnings: Vec<String>,
    /// How each server sees the group; only where they do not agree.
    pub views: Vec<View>,
    /// Where the answering server listens for other servers.
    pub peer_address: String,
    /// Where it listens for clients and administrators.
    pub client_address: String,
    /// Where it serves images; absent where it serves none.
    pub nbd_address: Option<String>,
    /// The newest change that the answering server has, `formation/number`.
    pub change: String,
    /// The version of the answering server's program.
    pub version: String,
    /// Since when the answering server runs.
    pub started: String,
}

/// The formation in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FormationSummary {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// Whether it is the one that an administrator made, or one that failover made and in which the original primary has taken
    /// over again; otherwise it is a repaired formation.
    pub original: bool,
    /// The members of the original formation that are members still.
    pub original_members: Vec<String>,
    /// When it was made.
    pub made: String,
}

/// Who accepts changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Primary {
    /// Its name.
    pub name: String,
    /// Since when.
    pub since: String,
}

/// The original primary, which is healthy again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Returning {
    /// Its name.
    pub name: String,
    /// When it takes over again, if it stays healthy, in milliseconds from now.
    pub in_ms: u64,
}

/// Voters and how many of them are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quorum {
    /// Servers that count.
    pub voters: u32,
    /// Those of them that the answering server hears, itself included.
    pub reachable: u32,
    /// How many must be there for a change to be accepted.
    pub needed: u32,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// `voter`, `non-voter` or `witness`: what it was asked to be.
    pub standing: String,
    /// Whether it counts towards the quorum now.
    pub voter: bool,
    /// Whether the answering server hears it.
    pub reachable: bool,
    /// `online` or `offline`.
    pub mode: String,
    /// How many changes it is behind; absent while that is not known.
    pub lag_changes: Option<u64>,
    /// In availability mode whether no change is acknowledged without it; absent for the primary, in quorum mode and while
    /// that is not known.
    pub in_sync: Option<bool>,
    /// Its sessions that are not ended.
    pub sessions: u64,
    /// Load of its processors, from 0 to 1; absent while that is not known.
    pub load: Option<f64>,
    /// Memory in use, from 0 to 1; absent while that is not known.
    pub memory: Option<f64>,
    /// The version of its program.
    pub version: String,
    /// How far its clock is ahead of the answering server's; absent while that is not known.
    pub clock_offset_ms: Option<i64>,
    /// When its peer certificate expires.
    pub certificate_expires: String,
    /// How long ago it was last heard; absent when it never was.
    pub last_seen_ms: Option<u64>,
}

/// A change of primary that was not planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failover {
    /// When.
    pub at: String,
    /// Who was primary.
    pub from: Option<String>,
    /// Who is since.
    pub to: String,
    /// How long changes were not accepted.
    pub outage_ms: u64,
    /// Why.
    pub reason: String,
}

/// Something that needs somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attention {
    /// `warning` or `error`.
    pub severity: String,
    /// The server that it concerns; absent where it is the group.
    pub server: Option<String>,
    /// What it is, with its reason.
    pub what: String,
    /// What would help.
    pub remedy: Option<String>,
}

/// How one server sees the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct View {
    /// Whose view.
    pub name: String,
    /// Who leads, as it sees it.
    pub primary: Option<String>,
    /// Whether it acts as primary itself.
    pub acting: bool,
    /// The formation that it is in, by id.
    pub formation: Option<String>,
    /// The voters, as it sees them.
    pub voters: Vec<String>,
    /// The servers that it hears.
    pub hears: Vec<String>,
    /// Why it could not be asked.
    pub error: Option<String>,
}
