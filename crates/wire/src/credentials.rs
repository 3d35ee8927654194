//! What a server asks for to be trusted further: certificates for new keys, the group secret, and what only holders of the seal key can
//! seal and open.
//!
//! One request and one answer, on a connection with [`crate::hello::Purpose::Credentials`]. It is opened to a server that
//! holds the seal key, with a certificate that may have expired; nothing else can be had on it.

use model::{ExternalName, SealMark, SecretName, SessionId};
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroize;

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
    /// A stored credential's value sealed for the directory, for a server without the seal key that somebody gave it to.
    Seal {
        /// Under which name it is kept.
        name: SecretName,
        /// The value.
        value: SecretBytes,
    },
    /// The value of a stored credential, for the host of a session whose application is given it.
    StoredSecret {
        /// The session.
        session: SessionId,
        /// Which secret.
        name: SecretName,
    },
    /// A seal key, for a server that may lead.
    SealKey {
        /// Which.
        mark: SealMark,
    },
    /// The value of the stored credential with which a member looks for users at LDAP servers; answered like
    /// [`CredentialsRequest::StoredSecret`].
    LoginSecret {
        /// Which secret.
        name: SecretName,
    },
}

/// Bytes that are not shown, and wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes(pub Vec<u8>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
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
    /// To [`CredentialsRequest::Seal`]: the value, sealed.
    Sealed(Vec<u8>),
    /// To [`CredentialsRequest::StoredSecret`]: the value.
    StoredSecret(SecretBytes),
    /// To [`CredentialsRequest::SealKey`]: the key.
    SealKey(SecretBytes),
}

impl fmt::Debug for CredentialsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificates { .. } => f.write_str("Certificates"),
            Self::Secret(_) => f.write_str("Secret"),
            Self::Authorities { .. } => f.write_str("Authorities"),
            Self::ExternalKey(_) => f.write_str("ExternalKey"),
            Self::Sealed(_) => f.write_str("Sealed"),
            Self::StoredSecret(_) => f.write_str("StoredSecret"),
            Self::SealKey(_) => f.write_str("SealKey"),
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
    /// The asking server hosts no such session, or its application is not given the secret; nor does a setting name it.
    #[error("that server knows of nothing here that is given the secret")]
    NotGiven,
    /// The secret has no value.
    #[error("the secret has no value any more: set it again with `stead secret set`")]
    Lost,
    /// Whoever asks has shown what is out of date: an expired or revoked certificate, one of a former authority or for a key that the
    /// directory does not know yet, or a secret of before.
    #[error("it wants a certificate and the group secret that are in force and known to the group")]
    OutOfDate,
    /// It does not have that seal key.
    #[error("that server does not have this seal key")]
    OtherSealKey,
    /// Seal keys are only for servers that may lead.
    #[error("only servers that may lead have seal keys")]
    MayNotLead,
}
