//! Certificates that an operator brings for a name under which clients reach the group, such as browsers, which know nothing of
//! the group's own authority.
//!
//! Always true: the private key is sealed, and belongs to the first certificate of the chain. Whoever puts one in has checked it.

use crate::directory::Directory;
use crate::name::ExternalName;
use crate::time::UnixMillis;
use crate::trust::Sealed;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An operator's certificate for an external name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalCertificate {
    /// The name that clients ask for, in lower case.
    pub name: ExternalName,
    /// The certificate and those that lead to its authority, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its private key, sealed.
    pub key: Sealed,
    /// `sha256:HEX` of the certificate.
    pub fingerprint: String,
    /// Who it says signed it.
    pub issuer: String,
    /// When it expires.
    pub expires: UnixMillis,
    /// The number of the change that put it in.
    pub version_number: u64,
}

impl ExternalCertificate {
    /// Whether both are the same certificate for the same name: its key is then the same too, however it is sealed.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.chain == other.chain
    }
}

impl Directory {
    /// The operator's certificate for a name.
    pub fn certificate(&self, name: &ExternalName) -> Option<&Arc<ExternalCertificate>> {
        self.certificates.get(name)
    }

    /// The operator's certificates, by name.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<ExternalCertificate>> + '_ {
        self.certificates.values()
    }

    /// Whether both have the same ones; costs next to nothing where neither changed since they parted.
    pub fn has_certificates_of(&self, other: &Self) -> bool {
        self.certificates.ptr_eq(&other.certificates) || self.certificates == other.certificates
    }
}
