//! The hello with which servers open a connection: who is who, proofs of the group's secret, and lineage.
//!
//! It belongs to no formation: what comes after it does.

use model::{FormationRef, GroupId, IncarnationId, ServerId, UnixMillis};
use serde::{Deserialize, Serialize};

/// The protocol between servers that this version speaks.
pub const PROTOCOL: u16 = 1;
/// ALPN of connections between members.
pub const ALPN_PEER: &[u8] = b"stead-peer/1";
/// ALPN of connections of servers that want to join.
pub const ALPN_JOIN: &[u8] = b"stead-join/1";
/// The label of the TLS exporter that the proofs are bound to.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-stead-peer-1";

/// What a connection is for. Control and data are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// Consensus messages only.
    Consensus,
    /// Requests of [`crate::control`].
    Control,
    /// The bytes of one stream of a session, opened by [`crate::control::StreamOpening`].
    Stream,
    /// One request of [`crate::credentials`], also from a server whose certificate has expired.
    Credentials,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The newest protocol that it speaks.
    pub protocol: u16,
    /// Its group.
    pub group: GroupId,
    /// Who it is.
    pub server: ServerId,
    /// The life of its log.
    pub incarnation: IncarnationId,
    /// The formation that it is in; absent while it waits to be taken into one.
    pub formation: Option<FormationRef>,
    /// The formations that it descends from, newest first; at most 64.
    pub lineage: Vec<FormationRef>,
    /// The newest feature level that it can work at.
    pub feature_level: u32,
    /// The version of its program.
    pub version: String,
    /// Its clock.
    pub clock: UnixMillis,
}

/// The first message of the server that dials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who dials.
    pub from: Introduction,
    /// Whom it means to reach.
    pub to: ServerId,
    /// What the connection is for.
    pub purpose: Purpose,
    /// HMAC-SHA256 under the group's secret, bound to this TLS connection, roles and ids.
    pub proof: [u8; 32],
}

/// The answer of the server that was dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloAnswer {
    /// Come in.
    Welcome {
        /// Who answers.
        from: Introduction,
        /// Its proof.
        proof: [u8; 32],
    },
    /// No, and why.
    Refused(HelloRefusal),
}

/// Why a server is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HelloRefusal {
    /// The versions have no protocol in common.
    #[error("protocol {offered} is not spoken here: this server speaks {spoken}")]
    Protocol {
        /// What was offered.
        offered: u16,
        /// What is spoken.
        spoken: u16,
    },
    /// It belongs to another group.
    #[error("this is a server of another group")]
    OtherGroup,
    /// The proof does not hold.
    #[error("the proof of the group's secret does not hold")]
    Proof,
    /// It was removed.
    #[error("that server was removed from the group")]
    Removed,
    /// The connection was meant for another server.
    #[error("this is server {here}, not {meant}")]
    OtherServer {
        /// Who was meant.
        meant: ServerId,
        /// Who is here.
        here: ServerId,
    },
    /// Its feature level is below the group's.
    #[error("feature level {offered} is below the group's {needed}")]
    FeatureLevel {
        /// What it can work at.
        offered: u32,
        /// What the group works at.
        needed: u32,
    },
    /// An unknown id may bring replication only.
    #[error("this server does not know that id yet: only replication is accepted from it")]
    Unknown,
    /// Its certificate has expired: it may ask for another, and nothing else.
    #[error("the certificate has expired: nothing but another one is given for it")]
    Expired,
    /// The secret that it proves is not in force any more: it may fetch the current one, and nothing else.
    #[error(
        "the group secret has been rotated meanwhile: nothing but the current one is given for an old one"
    )]
    OldSecret,
    /// Too many connections.
    #[error("too many connections")]
    Busy,
    /// The certificate names another server than the hello.
    #[error("the certificate is another server's")]
    Certificate,
    /// The hello contradicts itself or names more formations than it may.
    #[error("the hello makes no sense")]
    Malformed,
    /// Its certificate was revoked: it may ask for another, and nothing else.
    #[error("the certificate was revoked: nothing but another one is given for it")]
    Revoked,
    /// The authority that issued its certificate is not accepted any more: it may ask for another, and nothing else.
    #[error(
        "the group has another authority by now: nothing but another certificate is given for one of before"
    )]
    FormerAuthority,
    /// The authority that issued its certificate is not accepted any more, and the key is not the one that the member had last.
    #[error(
        "the group has another authority by now, and that key is not known as the member's: remove the server from the group and let it join again"
    )]
    UnknownKey,
}
