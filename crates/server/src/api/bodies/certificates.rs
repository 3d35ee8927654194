//! The operator's certificates.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// An operator's certificate for a name under which clients reach the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExternalCertificate {
    /// The name.
    pub name: String,
    /// `sha256:HEX` of the certificate.
    pub fingerprint: String,
    /// Who signed it.
    pub issuer: String,
    /// When it expires.
    pub expires: String,
    /// The number of the change that put it in.
    pub version_number: u64,
}

/// A certificate and its key for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateUpload {
    /// The certificate, then those that lead to its authority, in PEM.
    pub certificate: String,
    /// Its private key, in PEM, without a password.
    pub key: PrivateKeyText,
}

/// A private key on its way in; never shown, never sent back.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Password)]
pub struct PrivateKeyText(pub String);

impl fmt::Debug for PrivateKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyText(hidden)")
    }
}

impl Drop for PrivateKeyText {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}
