//! What a certificate of the group says: whose it is and what it is for.
//!
//! A certificate names exactly one server in exactly one role, in a URI of its alternative names:
//! `stead://<group>/server/<server>/<role>`. A certificate with none, or with two, names nobody.

use crate::address::Host;
use crate::authority::{BACKDATED, LEAST_BACKDATED};
use crate::fingerprint::Fingerprint;
use model::{AuthorityMark, GroupId, KeyMark, ServerId, UnixMillis};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate is for. One is refused in the other's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertificateRole {
    /// Servers among themselves.
    Peer,
    /// The port for clients and administrators.
    Client,
}

impl fmt::Display for CertificateRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "peer",
            Self::Client => "client",
        })
    }
}

/// Whose a certificate is: the group, the server and the role, as its URI says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateName {
    /// The group whose authority signed it.
    pub group: GroupId,
    /// The server that has its key.
    pub server: ServerId,
    /// What it is for.
    pub role: CertificateRole,
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stead://{}/server/{}/{}",
            self.group, self.server, self.role
        )
    }
}

/// Why a URI names no server of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form stead://GROUP/server/ID/ROLE")]
pub struct CertificateNameError;

impl FromStr for CertificateName {
    type Err = CertificateNameError;

    fn from_str(text: &str) -> Result<Self, CertificateNameError> {
        let rest = text.strip_prefix("stead://").ok_or(CertificateNameError)?;
        let mut parts = rest.split('/');
        let (Some(group), Some("server"), Some(server), Some(role), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(CertificateNameError);
        };
        let role = match role {
            "peer" => CertificateRole::Peer,
            "client" => CertificateRole::Client,
            _ => return Err(CertificateNameError),
        };
        Ok(Self {
            group: group.parse().map_err(|_| CertificateNameError)?,
            server: server.parse().map_err(|_| CertificateNameError)?,
            role,
        })
    }
}

/// A name in a certificate under which its server is reached, ordered so that equal wishes make equal certificates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alternative {
    /// A DNS name, in lower case.
    Name(String),
    /// An IP address.
    Ip(IpAddr),
}

impl From<&Host> for Alternative {
    fn from(host: &Host) -> Self {
        match host {
            Host::Ip(ip) => Self::Ip(*ip),
            Host::Name(name) => Self::Name(name.to_ascii_lowercase()),
        }
    }
}

impl Alternative {
    fn read(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Some(Self::Name(name.to_ascii_lowercase())),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                ip.ok().map(Self::Ip)
            }
            _ => None,
        }
    }
}

/// What a certificate of the group says. Reading it checks no signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whose it is.
    pub name: CertificateName,
    /// The names under which the server is reached.
    pub alternatives: BTreeSet<Alternative>,
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// From when it is valid.
    pub not_before: UnixMillis,
    /// Until when it is valid.
    pub not_after: UnixMillis,
    /// Its key.
    pub key: KeyMark,
    /// What its authority's key is known by, as it says.
    pub issuer: Option<Vec<u8>>,
}

/// Why a certificate cannot be one of a group's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFactsError {
    /// Not a certificate, or one with trailing bytes.
    #[error("not an X.509 certificate")]
    Damaged,
    /// No URI of the group's form among its names, or several.
    #[error("the certificate names no server of a group, or more than one")]
    Nobody,
    /// Times before 1970.
    #[error("the certificate's times are out of range")]
    Times,
}

impl CertificateFacts {
    /// Reads a certificate (DER).
    ///
    /// # Errors
    /// When it is damaged or does not name exactly one server in one role.
    pub fn read(der: &[u8]) -> Result<Self, CertificateFactsError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| CertificateFactsError::Damaged)?;
        if !rest.is_empty() {
            return Err(CertificateFactsError::Damaged);
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| CertificateFactsError::Damaged)?
            .ok_or(CertificateFactsError::Nobody)?;
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(CertificateFactsError::Nobody);
        };
        let (not_before, not_after) = times(&certificate).ok_or(CertificateFactsError::Times)?;
        Ok(Self {
            name: uri.parse().map_err(|_| CertificateFactsError::Nobody)?,
            alternatives: (names.value.general_names.iter())
                .filter_map(Alternative::read)
                .collect(),
            serial: certificate.raw_serial().to_vec(),
            not_before,
            not_after,
            key: key_mark(certificate.public_key().raw),
            issuer: certificate.extensions().iter().find_map(|extension| {
                match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(it) => {
                        Some(it.key_identifier.as_ref()?.0.to_vec())
                    }
                    _ => None,
                }
            }),
        })
    }

    /// Whether it says that this authority (DER) issued it. That is no proof.
    pub fn names_issuer(&self, authority: &[u8]) -> bool {
        let Ok((_, authority)) = X509Certificate::from_der(authority) else {
            return false;
        };
        let own = authority.extensions().iter().find_map(|extension| {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(it) => Some(it.0.to_vec()),
                _ => None,
            }
        });
        own.is_some() && own == self.issuer
    }

    /// Whether it is time to renew: two thirds of the certificate's life are over.
    pub fn renewal_due(&self, now: UnixMillis) -> bool {
        now >= self.renew_at()
    }

    /// When two thirds of the certificate's life are over, counted from when it was made.
    pub fn renew_at(&self) -> UnixMillis {
        self.not_before
            .after(self.backdated() + self.lifetime() / 3 * 2)
    }

    /// How long it is valid after it was made.
    pub fn lifetime(&self) -> Duration {
        let whole = self.not_after.since(self.not_before);
        whole.saturating_sub(self.backdated())
    }

    /// How long before its making its validity begins: [`crate::authority::Validity`].
    fn backdated(&self) -> Duration {
        let half = self.not_after.since(self.not_before) / 2;
        half.clamp(LEAST_BACKDATED, BACKDATED)
    }
}

/// What a public key (SubjectPublicKeyInfo, DER) is known by.
pub fn key_mark(public_key: &[u8]) -> KeyMark {
    KeyMark(*Fingerprint::of(public_key).as_bytes())
}

/// What an authority (the DER of its certificate) is known by.
pub fn authority_mark(der: &[u8]) -> AuthorityMark {
    mark_of(&Fingerprint::of(der))
}

/// What an authority with this fingerprint is known by.
pub fn mark_of(fingerprint: &Fingerprint) -> AuthorityMark {
    let mut mark = AuthorityMark::default();
    for (to, from) in mark.0.iter_mut().zip(fingerprint.as_bytes()) {
        *to = *from;
    }
    mark
}

/// From when and until when a certificate (DER) is valid.
///
/// # Errors
/// When it is damaged or its times are out of range.
pub fn validity(der: &[u8]) -> Result<(UnixMillis, UnixMillis), CertificateFactsError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| CertificateFactsError::Damaged)?;
    times(&certificate).ok_or(CertificateFactsError::Times)
}

fn times(certificate: &X509Certificate<'_>) -> Option<(UnixMillis, UnixMillis)> {
    let millis = |seconds: i64| {
        u64::try_from(seconds)
            .ok()?
            .checked_mul(1000)
            .map(UnixMillis)
    };
    let validity = certificate.validity();
    Some((
        millis(validity.not_before.timestamp())?,
        millis(validity.not_after.timestamp())?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written_and_nothing_else_is() {
        let name = CertificateName {
            group: GroupId::from_bytes([1; 16]),
            server: ServerId::from_bytes([2; 16]),
            role: CertificateRole::Peer,
        };
        let text = name.to_string();
        assert_eq!(text.parse(), Ok(name));
        for wrong in [
            "",
            "stead://",
            "http://example.net/",
            &text[..text.len() - 1],
            &format!("{text}/"),
            &format!("{text}/x"),
            &text.replace("peer", "admin"),
            &text.replace("server", "user"),
            &text.replace("01", "0g"),
        ] {
            assert_eq!(
                wrong.parse::<CertificateName>(),
                Err(CertificateNameError),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn damaged_certificates_are_no_certificates() {
        for bytes in [&b""[..], b"\x30", b"\x30\x82\xff\xff", &[0xff; 64]] {
            assert_eq!(
                CertificateFacts::read(bytes),
                Err(CertificateFactsError::Damaged)
            );
        }
    }
}
