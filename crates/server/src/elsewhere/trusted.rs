//! Which authorities are believed when LDAP servers show their certificates: those of a file, or those that the system trusts.
//!
//! They are read again after a while, so that what is exchanged on disk needs no restart.

use crate::clock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long they are known.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// Why nobody is believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error("{path} (users.ldap-ca) cannot be read on this server: {why}")]
    File { path: PathBuf, why: String },
    #[error("{path} (users.ldap-ca) has no certificate of an authority, as PEM, that can be used")]
    Empty { path: PathBuf },
    #[error(
        "the system names no authority that it trusts: set users.ldap-ca, or install ca-certificates"
    )]
    NoneKnown,
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the authorities could not be read")]
    Interrupted,
}

/// What was read, and when.
type Read = (Duration, Arc<ClientConfig>);

/// Those that were read lately, by the file.
#[derive(Debug, Default)]
pub(super) struct Trusted(Mutex<BTreeMap<Option<String>, Read>>);

impl Trusted {
    /// What a connection needs to believe a server by.
    pub(super) async fn config(&self, file: Option<&str>) -> Result<Arc<ClientConfig>, TrustError> {
        let (now, file) = (clock::steady(), file.map(str::to_owned));
        let known = self.known(&file, now);
        if let Some(config) = known {
            return Ok(config);
        }
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || read(path)).await;
        let config = Arc::new(read.map_err(|_| TrustError::Interrupted)??);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| now.saturating_sub(*at) < KNOWN_FOR);
        known.insert(file, (now, Arc::clone(&config)));
        Ok(config)
    }

    fn known(&self, file: &Option<String>, now: Duration) -> Option<Arc<ClientConfig>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, config) = known.get(file)?;
        (now.saturating_sub(*at) < KNOWN_FOR).then(|| Arc::clone(config))
    }
}

fn read(file: Option<String>) -> Result<ClientConfig, TrustError> {
    let mut authorities = RootCertStore::empty();
    match file {
        None => {
            // What is damaged among them is passed over.
            let found = rustls_native_certs::load_native_certs();
            authorities.add_parsable_certificates(found.certs);
            if authorities.is_empty() {
                return Err(TrustError::NoneKnown);
            }
        }
        Some(path) => {
            let path = PathBuf::from(path);
            let unread = |why: String| TrustError::File {
                path: path.clone(),
                why,
            };
            let bytes = std::fs::read(&path).map_err(|error| unread(error.to_string()))?;
            let certificates: Result<Vec<CertificateDer<'static>>, _> =
                CertificateDer::pem_slice_iter(&bytes).collect();
            let certificates = certificates.map_err(|error| unread(error.to_string()))?;
            authorities.add_parsable_certificates(certificates);
            if authorities.is_empty() {
                return Err(TrustError::Empty { path });
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_believed_by_what_is_no_authority() {
        let folder = tempfile::tempdir().unwrap();
        let trusted = Trusted::default();
        let missing = folder.path().join("missing.pem");
        let refused = trusted.config(missing.to_str()).await.unwrap_err();
        assert!(matches!(refused, TrustError::File { .. }), "{refused}");
        let path = folder.path().join("ca.pem");
        for text in [
            "",
            "no PEM at all",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let refused = trusted.config(path.to_str()).await.unwrap_err();
            assert!(refused.to_string().contains("users.ldap-ca"), "{refused}");
        }
    }
}
