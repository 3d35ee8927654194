//! Certificates that an operator brings for an external name: read and checked before they are kept, and made ready to be shown.
//!
//! Always true: what is accepted is a certificate that a browser can be shown for that name now, with the key that belongs to it.
//! Who signed it is for browsers to judge.

use crate::fingerprint::Fingerprint;
use crate::in_full::InFull;
use model::UnixMillis;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// The most bytes of a chain or of a key, in PEM.
pub const PEM_LIMIT: usize = 64 * 1024;
/// The most certificates of a chain.
const CHAIN_LIMIT: usize = 10;
/// What the key of a server's certificate may be used for, where the certificate says what.
const SCHEME: &str = "stead://";

/// Why a certificate cannot be an operator's for a name.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// More than [`PEM_LIMIT`] bytes.
    #[error("the {what} has {length} bytes, more than {PEM_LIMIT}")]
    TooLong {
        /// Certificate or key.
        what: &'static str,
        /// How many bytes were given.
        length: usize,
    },
    /// Not PEM.
    #[error("the {what} is not in PEM")]
    Pem {
        /// Certificate or key.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// No certificate at all.
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// More than make sense.
    #[error("there are more than {CHAIN_LIMIT} certificates in it")]
    TooMany,
    /// A certificate of the chain that is none.
    #[error("certificate {place} of the chain is no X.509 certificate")]
    Damaged {
        /// Which, from 1.
        place: usize,
    },
    /// A chain in another order.
    #[error(
        "certificate {place} of the chain was not signed by the next one: put the server's certificate first, then the one that signed it, and so on"
    )]
    Order {
        /// Which, from 1.
        place: usize,
    },
    /// A key that needs a password.
    #[error("the key is encrypted: give it without a password, in a file that only you can read")]
    Encrypted,
    /// The key does not belong to the certificate, or is of a kind that TLS 1.3 does not take.
    #[error("the key cannot be used with the certificate")]
    Key(#[source] rustls::Error),
    /// A name that is none.
    #[error("{name:?} is no DNS name")]
    Name {
        /// What was given.
        name: String,
    },
    /// The certificate is for other names.
    #[error("the certificate is not for {name}, but for {names}")]
    OtherName {
        /// The name that was asked for.
        name: String,
        /// Its own.
        names: String,
    },
    /// It has expired.
    #[error("the certificate expired at {expired}")]
    Expired {
        /// When.
        expired: UnixMillis,
    },
    /// It is for later.
    #[error("the certificate is not valid before {begins}")]
    Early {
        /// From when it is.
        begins: UnixMillis,
    },
    /// It is not for servers.
    #[error("the certificate is not for servers: its extended key usage says so")]
    Usage,
    /// A group's.
    #[error(
        "the certificate names a server of a group of Stead: those are issued and shown by the group itself"
    )]
    OfAGroup,
}

/// A certificate for an external name, checked.
pub struct OperatorCertificate {
    /// The certificate, then what leads to its authority, DER.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key as it was given, DER; wiped when dropped.
    pub key: Zeroizing<Vec<u8>>,
    /// Of the certificate.
    pub fingerprint: Fingerprint,
    /// Who it says signed it.
    pub issuer: String,
    /// When it expires.
    pub expires: UnixMillis,
}

impl fmt::Debug for OperatorCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorCertificate")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A certificate for an external name with its key, ready to be shown.
#[derive(Debug, Clone)]
pub struct Showable(pub(crate) Arc<CertifiedKey>);

impl OperatorCertificate {
    /// Reads a chain and a key in PEM, and checks that browsers can be shown them for `name` at `now`.
    ///
    /// # Errors
    /// What stands against it.
    pub fn read(
        chain: &[u8],
        key: &[u8],
        name: &str,
        now: UnixMillis,
    ) -> Result<Self, OperatorError> {
        for (what, length) in [("certificate", chain.len()), ("key", key.len())] {
            if length > PEM_LIMIT {
                return Err(OperatorError::TooLong { what, length });
            }
        }
        Self::checked(read_chain(chain)?, read_key(key)?, name, now)
    }

    /// Checks that browsers can be shown a chain with its key, both DER, for `name` at `now`.
    ///
    /// # Errors
    /// What stands against it.
    pub fn checked(
        chain: Vec<CertificateDer<'static>>,
        key: Zeroizing<Vec<u8>>,
        name: &str,
        now: UnixMillis,
    ) -> Result<Self, OperatorError> {
        check_order(&chain)?;
        let leaf = chain.first().ok_or(OperatorError::NoCertificate)?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|_| OperatorError::Damaged { place: 1 })?;
        check_use(&parsed)?;
        check_name(leaf, &parsed, name)?;
        let expires = check_times(&parsed, now)?;
        let read = Self {
            fingerprint: Fingerprint::of(leaf),
            issuer: parsed.issuer().to_string(),
            expires,
            key,
            chain: chain.clone(),
        };
        let ders = chain.iter().map(|der| der.to_vec()).collect();
        showable(ders, &read.key)?;
        Ok(read)
    }
}

/// Puts a chain and its key, both DER, together; for what was checked before it was kept.
///
/// # Errors
/// When the key does not belong to the certificate, or cannot be used.
pub fn showable(chain: Vec<Vec<u8>>, key: &[u8]) -> Result<Showable, OperatorError> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let bad = |_| OperatorError::Key(rustls::Error::General("it is no private key".to_owned()));
    let key = PrivateKeyDer::try_from(key).map_err(bad)?.clone_key();
    let ready = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    ready
        .map(|ready| Showable(Arc::new(ready)))
        .map_err(OperatorError::Key)
}

fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, OperatorError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
        .take(CHAIN_LIMIT + 1)
        .collect::<Result<_, _>>()
        .map_err(|source| OperatorError::Pem {
            what: "certificate",
            source,
        })?;
    match chain.is_empty() {
        true => Err(OperatorError::NoCertificate),
        false => Ok(chain),
    }
}

fn check_order(chain: &[CertificateDer<'static>]) -> Result<(), OperatorError> {
    if chain.len() > CHAIN_LIMIT {
        return Err(OperatorError::TooMany);
    }
    let mut signer: Option<Vec<u8>> = None;
    for (place, der) in chain.iter().enumerate() {
        let read = X509Certificate::from_der(der);
        let (_, parsed) = read
            .ok()
            .filter(|(rest, _)| rest.is_empty())
            .ok_or(OperatorError::Damaged { place: place + 1 })?;
        if signer.is_some_and(|signer| signer != parsed.subject().as_raw()) {
            return Err(OperatorError::Order { place });
        }
        signer = Some(parsed.issuer().as_raw().to_vec());
    }
    Ok(())
}

fn read_key(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, OperatorError> {
    let encrypted = b"ENCRYPTED";
    if text.windows(encrypted.len()).any(|part| part == encrypted) {
        return Err(OperatorError::Encrypted);
    }
    let key = PrivateKeyDer::from_pem_slice(text);
    key.map(|key| Zeroizing::new(key.secret_der().to_vec()))
        .map_err(|source| OperatorError::Pem {
            what: "key",
            source,
        })
}

/// It is for servers, and not one of a group's own.
fn check_use(certificate: &X509Certificate<'_>) -> Result<(), OperatorError> {
    let of_a_group = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => uri.starts_with(SCHEME),
        _ => false,
    };
    if general_names(certificate).iter().any(of_a_group) {
        return Err(OperatorError::OfAGroup);
    }
    let usage = certificate.extended_key_usage().ok().flatten();
    match usage {
        Some(usage) if !usage.value.server_auth && !usage.value.any => Err(OperatorError::Usage),
        _ => Ok(()),
    }
}

fn general_names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<GeneralName<'a>> {
    let names = certificate.subject_alternative_name().ok().flatten();
    names.map_or_else(Vec::new, |names| names.value.general_names.clone())
}

fn check_name(
    leaf: &CertificateDer<'_>,
    certificate: &X509Certificate<'_>,
    name: &str,
) -> Result<(), OperatorError> {
    let wanted = ServerName::try_from(name);
    let Ok(wanted @ ServerName::DnsName(_)) = wanted else {
        let name = name.to_owned();
        return Err(OperatorError::Name { name });
    };
    let parsed =
        ParsedCertificate::try_from(leaf).map_err(|_| OperatorError::Damaged { place: 1 })?;
    verify_server_name(&parsed, &wanted).map_err(|_| {
        let own: Vec<String> = general_names(certificate)
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect();
        OperatorError::OtherName {
            name: name.to_owned(),
            names: match own.is_empty() {
                true => "no DNS name at all (the common name does not count)".to_owned(),
                false => own.join(", "),
            },
        }
    })
}

/// It is valid now; gives its end.
fn check_times(
    certificate: &X509Certificate<'_>,
    now: UnixMillis,
) -> Result<UnixMillis, OperatorError> {
    let millis =
        |seconds: i64| UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    let validity = certificate.validity();
    let begins = millis(validity.not_before.timestamp());
    let expires = millis(validity.not_after.timestamp());
    if expires <= now {
        return Err(OperatorError::Expired { expired: expires });
    }
    if begins > now {
        return Err(OperatorError::Early { begins });
    }
    Ok(expires)
}

impl OperatorError {
    /// All that is known of it, in one line.
    pub fn in_full(&self) -> String {
        InFull(self).to_string()
    }
}

#[cfg(test)]
mod tests;
