//! What a server asks for to be trusted further: certificates for new keys, the group secret, keys of operators' certificates.
//!
//! One request and one answer, on a connection with [`crate::hello::Purpose::Credentials`]. It is opened to a server that
//! holds the seal key, with a certificate that may have expired; nothing else can be had on it.

use model::ExternalName;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most bytes of a request or an answer.
pub const CREDENTIALS_LIMIT: usize = 64 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialsRequest {
    /// Both certificates of the server that asks, for these keys.
    Certificates {
        /// The request for the certificate between servers (PKCS#10).
        peer_request: Vec<u8>,
        /// The request for the certificate of the client port (PKCS#10).
        client_request: Vec<u8>,
    },
    /// The group secret that is in force.
    Secret,
    /// The authorities that are accepted.
    Authorities,
    /// The private key of an operator's certificate.
    ExternalKey {
        /// For which name it is.
        name: ExternalName,
        /// `sha256:HEX` of the certificate.
        fingerprint: String,
    },
}

/// What is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialsAnswer {
    /// Certificates (DER), signed by the authority that is in force.
    Certificates {
        /// For servers among themselves.
        peer: Vec<u8>,
        /// For the client port.
        client: Vec<u8>,
    },
    /// The group secret that is in force.
    Secret([u8; 32]),
    /// Nothing, and why.
    Refused(CredentialsRefusal),
    /// Authorities (DER).
    Authorities {
        /// Those that are accepted, the one in force first.
        accepted: Vec<Vec<u8>>,
        /// Those of before.
        former: Vec<Vec<u8>>,
        /// What leads from those of before to the one in force.
        links: Vec<Vec<u8>>,
    },
    /// The private key of an operator's certificate (DER).
    ExternalKey(Vec<u8>),
}

impl fmt::Debug for CredentialsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificates { .. } => f.write_str("Certificates"),
            Self::Secret(_) => f.write_str("Secret"),
            Self::Authorities { .. } => f.write_str("Authorities"),
            Self::ExternalKey(_) => f.write_str("ExternalKey"),
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
        }
    }
}

/// Why nothing is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CredentialsRefusal {
    /// The server that was asked cannot issue anything.
    #[error("that server does not hold the seal key")]
    NoSealKey,
    /// Its clock is wrong: what it issues would begin or end at a wrong time.
    #[error("that server's clock differs from those of most members")]
    Clock,
    /// It does not know who asks.
    #[error("that server does not know this one as a member")]
    Unknown,
    /// It has not heard yet which authority is in force.
    #[error("that server does not know yet which authority is in force")]
    Behind,
    /// The request cannot be granted.
    #[error("{why}")]
    Invalid {
        /// In words.
        why: String,
    },
}
