//! Joining: the code that an administrator carries over, and what the two servers then say to each other.

use crate::frame::{DecodeError, decode, encode};
use model::{
    ChangeName, FormationRef, GroupId, GroupName, IncarnationId, InvitationId, ServerId,
    ServerName, Standing, UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What every join code starts with.
pub const CODE_PREFIX: &str = "stead1-";
/// The most characters of a join code that are looked at.
pub const CODE_LIMIT: usize = 2048;
/// The label of the TLS exporter that the one-time secret is proved over.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-stead-join-1";

/// What `stead group invite` prints and `stead join` takes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinCode {
    /// Peer addresses of members that can admit, `host:port`.
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's certificate.
    pub authority: [u8; 32],
    /// Which invitation.
    pub invitation: InvitationId,
    /// The one-time secret.
    pub secret: [u8; 16],
    /// What the server will be.
    pub standing: Standing,
    /// When the code stops being valid.
    pub expires: UnixMillis,
}

impl fmt::Debug for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinCode")
            .field("addresses", &self.addresses)
            .field("invitation", &self.invitation)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

/// Why a text is no join code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It does not start like one.
    #[error("a join code starts with {CODE_PREFIX:?}")]
    Prefix,
    /// A character is wrong, missing or too many.
    #[error("the join code is damaged: copy all of it, from {CODE_PREFIX:?} to its end")]
    Damaged,
    /// Its content is not understood.
    #[error("the join code was made by a version that this one does not understand")]
    Content(#[from] DecodeError),
}

fn checksum(body: &[u8]) -> [u8; 4] {
    // FNV-1a: guards against slips of copying, not against malice; the secret does that.
    let sum = body.iter().fold(0x811c_9dc5_u32, |sum, byte| {
        (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    sum.to_be_bytes()
}

impl fmt::Display for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = encode(self);
        let sum = checksum(&body);
        body.extend_from_slice(&sum);
        let text = data_encoding::BASE32_NOPAD
            .encode(&body)
            .to_ascii_lowercase();
        write!(f, "{CODE_PREFIX}{text}")
    }
}

impl FromStr for JoinCode {
    type Err = CodeError;
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let text = text.trim();
        if text.len() > CODE_LIMIT {
            return Err(CodeError::Damaged);
        }
        let body = text.strip_prefix(CODE_PREFIX).ok_or(CodeError::Prefix)?;
        let bytes = data_encoding::BASE32_NOPAD
            .decode(body.to_ascii_uppercase().as_bytes())
            .map_err(|_| CodeError::Damaged)?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(CodeError::Damaged)?;
        if checksum(body) != *sum {
            return Err(CodeError::Damaged);
        }
        Ok(decode(body)?)
    }
}

/// The first message of a server that wants to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The protocol that it speaks.
    pub protocol: u16,
    /// Which invitation.
    pub invitation: InvitationId,
    /// HMAC-SHA256 of the TLS exporter under the one-time secret, for the joining role.
    pub proof: [u8; 32],
    /// The id that it made for itself.
    pub server: ServerId,
    /// The life of its (empty) log.
    pub incarnation: IncarnationId,
    /// Its name.
    pub name: ServerName,
    /// Where other servers will reach it, `host:port`.
    pub peer_address: String,
    /// Where clients will reach it, `host:port`.
    pub client_address: String,
    /// The version of its program.
    pub version: String,
    /// The newest feature level that it can work at.
    pub feature_level: u32,
    /// Its clock.
    pub clock: UnixMillis,
    /// Request for a peer certificate, DER (PKCS #10).
    pub peer_request: Vec<u8>,
    /// Request for a client-port certificate, DER (PKCS #10).
    pub client_request: Vec<u8>,
    /// Whether it is standalone: it is no member of a group with other servers.
    pub standalone: bool,
    /// How many sessions it hosts.
    pub live_sessions: u64,
    /// SHA-256 of the public key with which it answers on its peer address while it joins.
    pub probe_key: [u8; 32],
}

/// The answer to a server that wants to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// It is a member now.
    Granted(Box<JoinGrant>),
    /// No, why, and what to do.
    Refused(JoinRefusal),
    /// Not yet: say first whether these can be reached, with a [`ReachReport`].
    Reach {
        /// HMAC-SHA256 of the TLS exporter under the one-time secret, for the admitting role.
        proof: [u8; 32],
        /// Whom to try, itself included.
        members: Vec<Member>,
    },
}

/// What a server that wants to join answers to [`JoinAnswer::Reach`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachReport {
    /// Whom it could not reach; empty when it reached all.
    pub unreached: Vec<Unreached>,
}

/// A member that could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreached {
    /// Which.
    pub server: ServerId,
    /// What was seen.
    pub why: String,
}

/// Everything that a new member needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// The answering member's proof of the one-time secret.
    pub proof: [u8; 32],
    /// The group.
    pub group: GroupId,
    /// Its name.
    pub group_name: GroupName,
    /// Certificates of the authorities that are accepted (DER), the one in force first.
    pub authorities: Vec<Vec<u8>>,
    /// The new member's peer certificate, DER.
    pub peer_certificate: Vec<u8>,
    /// Its client-port certificate, DER.
    pub client_certificate: Vec<u8>,
    /// The group's secret.
    pub group_secret: [u8; 32],
    /// The seal key, for servers that may lead.
    pub seal_key: Option<[u8; 32]>,
    /// What it is.
    pub standing: Standing,
    /// The members, itself left out.
    pub members: Vec<Member>,
    /// The formation in force.
    pub formation: FormationRef,
    /// The change that made it a member.
    pub admitted: ChangeName,
}

impl fmt::Debug for JoinGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinGrant")
            .field("group", &self.group)
            .field("standing", &self.standing)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// A member and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub server: ServerId,
    /// Its name.
    pub name: ServerName,
    /// Where other servers reach it.
    pub peer_address: String,
}

/// Why a server may not join, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum JoinRefusal {
    /// The protocols do not fit.
    #[error(
        "the versions cannot work together: this group speaks protocol {spoken}, the new server {offered}; install the group's version there"
    )]
    Protocol {
        /// What the group speaks.
        spoken: u16,
        /// What was offered.
        offered: u16,
    },
    /// The code is of another group, or was never given out.
    #[error("the join code is not of this group: make one here with `stead group invite`")]
    UnknownCode,
    /// It was used.
    #[error("the join code was used already, by {by}: make a new one with `stead group invite`")]
    UsedCode {
        /// By whom.
        by: String,
    },
    /// It is too old.
    #[error("the join code has expired: make a new one with `stead group invite`")]
    ExpiredCode,
    /// The proof of the one-time secret does not hold.
    #[error("the join code does not prove itself: copy all of it, or make a new one")]
    Proof,
    /// It is a member of another group.
    #[error("the server is not standalone: run `stead group reset` there first")]
    NotStandalone,
    /// It hosts sessions.
    #[error("the server hosts {sessions} live sessions: end them first, they would be lost")]
    LiveSessions {
        /// How many.
        sessions: u64,
    },
    /// The clocks differ.
    #[error("the clocks differ by {offset_ms} ms, at most 60000 are allowed: set both by NTP")]
    Clock {
        /// By how much.
        offset_ms: u64,
    },
    /// Its feature level is too low.
    #[error(
        "the server's feature level {offered} is below the group's {needed}: install the group's version there"
    )]
    FeatureLevel {
        /// What it can work at.
        offered: u32,
        /// What the group works at.
        needed: u32,
    },
    /// A member cannot reach it.
    #[error(
        "{member} cannot reach the new server at {address}: {why}; open that port or correct --peer"
    )]
    Unreachable {
        /// Which member.
        member: String,
        /// Where it tried.
        address: String,
        /// What it saw.
        why: String,
    },
    /// It cannot reach a member.
    #[error("the new server cannot reach {member} at {address}: {why}")]
    CannotReach {
        /// Which member.
        member: String,
        /// Where it tried.
        address: String,
        /// What it saw.
        why: String,
    },
    /// The name is taken.
    #[error("there is already a server named {name}: choose another --name")]
    NameTaken {
        /// Which.
        name: ServerName,
    },
    /// The id is taken, as after cloning a disk.
    #[error(
        "server id {server} is already a member: this data folder is a copy; join with an empty one"
    )]
    IdTaken {
        /// Which.
        server: ServerId,
    },
    /// The address is taken.
    #[error("{address} is already the peer address of {by}: correct --peer")]
    AddressTaken {
        /// Which.
        address: String,
        /// Whose it is.
        by: ServerName,
    },
    /// Another join or removal has not finished.
    #[error("{server} is still joining or leaving: wait until it has finished")]
    Busy {
        /// Which.
        server: String,
    },
    /// Nobody can accept the change now.
    #[error("the group has no primary now ({why}): try again when it has one")]
    NoPrimary {
        /// Why.
        why: String,
    },
    /// The request itself makes no sense.
    #[error("the request is not valid: {why}")]
    Invalid {
        /// What is wrong.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> JoinCode {
        JoinCode {
            addresses: vec!["10.0.0.1:5427".into()],
            authority: [3; 32],
            invitation: InvitationId::from_bytes([1; 8]),
            secret: [9; 16],
            standing: Standing::Voter,
            expires: UnixMillis(1),
        }
    }

    #[test]
    fn code_as_text_and_back() {
        let text = code().to_string();
        assert!(
            text.len() < 200,
            "{} characters are too many to copy",
            text.len()
        );
        assert_eq!(text.parse(), Ok(code()));
        assert_eq!(
            format!(" {}\n", text.to_uppercase().replacen("STEAD1", "stead1", 1)).parse(),
            Ok(code())
        );
    }

    #[test]
    fn slips_are_noticed() {
        let text = code().to_string();
        assert_eq!("hello".parse::<JoinCode>(), Err(CodeError::Prefix));
        assert_eq!(
            text[..text.len() - 1].parse::<JoinCode>(),
            Err(CodeError::Damaged)
        );
        for at in CODE_PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                changed.parse::<JoinCode>().is_err(),
                "a slip at {at} went unnoticed"
            );
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        assert!(!format!("{:?}", code()).contains("9, 9"));
    }
}
