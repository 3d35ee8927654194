//! Which servers a client believes: those whose certificate the pinned authority signed for the client port.
//!
//! A client is given one thing out of band, the fingerprint of the group's authority. A server presents its certificate and the
//! authority's behind it; the one with the pinned fingerprint is the only root. Names and addresses do not count, since they
//! change; instead the certificate must name a server of the group in the role `client`, so that a peer certificate is refused.
//!
//! Always true: TLS 1.3 only, and no way to switch the check off.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use model::{AuthorityMark, GroupId, ServerId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-256 of the authority's certificate (DER), written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Why a text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fingerprint is written sha256: and 64 hexadecimal digits, as `stead trust show` prints it"
)]
pub struct FingerprintError;

impl Fingerprint {
    /// The fingerprint of this certificate (DER).
    pub fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self(bytes)
    }

    /// The digest without `sha256:`, in hexadecimal; fit for a file name.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the authority is known by among servers.
    pub fn mark(&self) -> AuthorityMark {
        let mut mark = AuthorityMark::default();
        for (to, from) in mark.0.iter_mut().zip(self.0) {
            *to = from;
        }
        mark
    }

    fn fits(&self, der: &[u8]) -> bool {
        verify_slices_are_equal(&Self::of(der).0, &self.0).is_ok()
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.strip_prefix("sha256:").ok_or(FingerprintError)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(FingerprintError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| FingerprintError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| FingerprintError)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a server is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The pinned authority is not in what the server presented.
    #[error(
        "the server's authority is not the one with the fingerprint {pinned}; it is {presented}"
    )]
    OtherAuthority {
        /// What was asked for.
        pinned: Fingerprint,
        /// The last certificate that the server presented.
        presented: Fingerprint,
    },
    /// The certificate names no server of a group, or more than one.
    #[error("the server's certificate names no server of a group")]
    Nobody,
    /// The certificate is for another purpose.
    #[error(
        "the server presented a certificate for another purpose than the client port ({role:?})"
    )]
    OtherRole {
        /// What it is for.
        role: String,
    },
}

/// Which server of which group a certificate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The group.
    pub group: GroupId,
    /// The server.
    pub server: ServerId,
}

impl ServerIdentity {
    /// Reads the one URI `stead://GROUP/server/ID/client` among the names of a certificate (DER). Checks no signature.
    ///
    /// # Errors
    /// When there is none, or several, or one for another role.
    pub fn read(der: &[u8]) -> Result<Self, TrustError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| TrustError::Nobody)?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.ok_or(TrustError::Nobody)?;
        let mut uris = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(TrustError::Nobody);
        };
        let mut parts = uri
            .strip_prefix("stead://")
            .ok_or(TrustError::Nobody)?
            .split('/');
        let (Some(group), Some("server"), Some(server), Some(role), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(TrustError::Nobody);
        };
        if role != "client" {
            return Err(TrustError::OtherRole {
                role: role.chars().take(40).collect(),
            });
        }
        Ok(Self {
            group: group.parse().map_err(|_| TrustError::Nobody)?,
            server: server.parse().map_err(|_| TrustError::Nobody)?,
        })
    }
}

/// TLS configurations that believe the pinned authority. A cheap clone.
#[derive(Debug, Clone)]
pub struct Trust {
    pin: Fingerprint,
    sessions: Arc<ClientConfig>,
    api: Arc<ClientConfig>,
}

impl Trust {
    /// Believes the authority with this fingerprint and no other.
    pub fn new(pin: Fingerprint) -> Self {
        let config = |alpn: &[u8]| {
            let provider = Arc::new(provider::default_provider());
            let verifier = Arc::new(PinnedAuthority {
                pin,
                provider: provider.clone(),
            });
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("invariant: the provider's suites include those of TLS 1.3")
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            config.alpn_protocols = vec![alpn.to_vec()];
            // A session ticket could not be used after a restart, which is when clients come back.
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        };
        Self {
            pin,
            sessions: config(wire::client::ALPN),
            api: config(b"http/1.1"),
        }
    }

    /// What is pinned.
    pub fn pin(&self) -> Fingerprint {
        self.pin
    }

    /// For conversations and streams.
    pub fn for_sessions(&self) -> Arc<ClientConfig> {
        self.sessions.clone()
    }

    /// For the HTTP API.
    pub fn for_api(&self) -> Arc<ClientConfig> {
        self.api.clone()
    }
}

/// The reason inside an error of a TLS connection, when the server was not believed.
pub fn distrust(error: &std::io::Error) -> Option<TrustError> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
            reason.downcast_ref::<TrustError>().cloned()
        }
        _ => None,
    }
}

#[derive(Debug)]
struct PinnedAuthority {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

fn refuse(reason: TrustError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = intermediates.iter().find(|der| self.pin.fits(der)) else {
            let presented = Fingerprint::of(intermediates.last().unwrap_or(end_entity));
            return Err(refuse(TrustError::OtherAuthority {
                pinned: self.pin,
                presented,
            }));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms)?;
        ServerIdentity::read(end_entity).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
