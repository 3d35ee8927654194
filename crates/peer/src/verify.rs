//! Who is trusted during the TLS handshake: full path validation by webpki, then what the group asks on top.
//!
//! The host name is not looked at: a server is known by its id, which outlives its addresses.

use crate::fingerprint::Fingerprint;
use crate::identity::{CertificateFacts, CertificateName, CertificateRole};
use model::{GroupId, ServerId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which certificates are revoked. Asked during handshakes: it must answer at once.
pub trait Revocations: Send + Sync + 'static {
    /// Whether this certificate, otherwise valid, is refused.
    fn revoked(&self, certificate: &CertificateFacts) -> bool;
}

/// Nothing is revoked.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRevocations;

impl Revocations for NoRevocations {
    fn revoked(&self, _certificate: &CertificateFacts) -> bool {
        false
    }
}

/// Why a certificate that verifies is refused nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// It belongs to another group that the same authority signed for.
    #[error("the certificate is of group {found}, not {expected}")]
    OtherGroup {
        /// This group.
        expected: GroupId,
        /// The certificate's.
        found: GroupId,
    },
    /// A client certificate in place of a peer certificate or the reverse.
    #[error("the certificate is a {found} certificate, not a {expected} certificate")]
    OtherRole {
        /// What was needed.
        expected: CertificateRole,
        /// What was shown.
        found: CertificateRole,
    },
    /// Another server answers there.
    #[error("server {found} answers there, not {expected}")]
    OtherServer {
        /// Who was dialled.
        expected: ServerId,
        /// Who answered.
        found: ServerId,
    },
    /// The authority in the chain is not the pinned one, or there is none.
    #[error("the server there does not belong to an authority with the fingerprint {pinned}")]
    OtherAuthority {
        /// The fingerprint that was expected.
        pinned: Fingerprint,
    },
    /// Another key than the one that was announced.
    #[error("another server answers there: its key is not the one that was announced")]
    OtherKey,
    /// Nobody is trusted yet: it was only looked whose server answers there.
    #[error("the server there belongs to an authority with the fingerprint {authority}")]
    Seen {
        /// The fingerprint of the authority that issued the certificate.
        authority: Fingerprint,
    },
}

fn refused(refusal: CertificateRefusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// What a rustls error says of a certificate that verified and was refused nevertheless.
pub fn refusal_in<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a CertificateRefusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref() {
            return Some(refusal);
        }
        if let Some(Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
            error.downcast_ref()
        {
            return inner.downcast_ref();
        }
        // An `io::Error` says what its inside's source is, not what its inside is.
        next = match error.downcast_ref::<std::io::Error>() {
            Some(outer) => outer.get_ref().map(|inner| inner as _),
            None => error.source(),
        };
    }
    None
}

/// What peer certificates are checked against.
#[derive(Clone)]
pub(crate) struct PeerChecks {
    pub(crate) group: GroupId,
    /// Authorities that are accepted.
    pub(crate) roots: Arc<RootCertStore>,
    /// These, and those that were before them. Whoever is dialled may show a certificate of one of before: he proves the secret in force.
    pub(crate) known: Arc<RootCertStore>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) revocations: Arc<dyn Revocations>,
}

impl fmt::Debug for PeerChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerChecks")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl PeerChecks {
    /// What is asked of a certificate whose path is already validated.
    fn check(
        &self,
        der: &CertificateDer<'_>,
        role: CertificateRole,
    ) -> Result<CertificateName, Error> {
        let facts = CertificateFacts::read(der)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if facts.name.role != role {
            let (expected, found) = (role, facts.name.role);
            return Err(refused(CertificateRefusal::OtherRole { expected, found }));
        }
        if facts.name.group != self.group {
            let (expected, found) = (self.group, facts.name.group);
            return Err(refused(CertificateRefusal::OtherGroup { expected, found }));
        }
        if self.revocations.revoked(&facts) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        Ok(facts.name)
    }
}

/// How long after its end a certificate of a member still serves to ask for another one.
pub const EXPIRED_LIMIT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Checks who dials: wraps webpki's verifier of client certificates.
#[derive(Debug)]
pub(crate) struct DiallerVerifier {
    pub(crate) inner: Arc<dyn ClientCertVerifier>,
    /// The same for authorities that are not accepted any more: it leads as far as the hello, which grants nothing but another certificate.
    pub(crate) former: Option<Arc<dyn ClientCertVerifier>>,
    pub(crate) checks: PeerChecks,
}

impl DiallerVerifier {
    /// A certificate that has expired leads as far as the hello, which grants nothing but another certificate: it must have
    /// been good until its end, and that not longer ago than [`EXPIRED_LIMIT`].
    fn verify_expired(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        inner: &dyn ClientCertVerifier,
        error: Error,
    ) -> Result<ClientCertVerified, Error> {
        let expired = matches!(
            error,
            Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. }
            )
        );
        let facts = CertificateFacts::read(end_entity).ok().filter(|_| expired);
        let end = facts.map(|facts| Duration::from_secs(facts.not_after.0 / 1000));
        match end {
            Some(end) if now.as_secs().saturating_sub(end.as_secs()) <= EXPIRED_LIMIT.as_secs() => {
                let at = UnixTime::since_unix_epoch(end);
                inner.verify_client_cert(end_entity, intermediates, at)
            }
            _ => Err(error),
        }
    }

    fn verify_with(
        &self,
        inner: &dyn ClientCertVerifier,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        inner
            .verify_client_cert(end_entity, intermediates, now)
            .or_else(|error| self.verify_expired(end_entity, intermediates, now, inner, error))
    }
}

impl ClientCertVerifier for DiallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .verify_with(&*self.inner, end_entity, intermediates, now)
            .or_else(|error| match &self.former {
                Some(former) => self
                    .verify_with(&**former, end_entity, intermediates, now)
                    .map_err(|_| error),
                None => Err(error),
            })?;
        self.checks.check(end_entity, CertificateRole::Peer)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS13_ONLY)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

const TLS13_ONLY: Error = Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled);

/// Whom a dialling server expects to answer.
#[derive(Debug)]
enum Expected {
    /// This member of the group, with its certificate for this port.
    Member(PeerChecks, ServerId, CertificateRole),
    /// Any member of a group whose authority has this fingerprint, with its certificate for this port.
    Authority(Fingerprint, CertificateRole),
    /// Nobody: whoever answers for this port is refused, with the fingerprint of its authority.
    Nobody(CertificateRole),
    /// Whoever has the key with this fingerprint, in a certificate that it made itself.
    Key(Fingerprint),
}

/// Checks who answers.
#[derive(Debug)]
pub(crate) struct AnswererVerifier {
    expected: Expected,
    provider: Arc<CryptoProvider>,
}

impl AnswererVerifier {
    pub(crate) fn member(checks: PeerChecks, server: ServerId, role: CertificateRole) -> Self {
        let provider = Arc::clone(&checks.provider);
        Self {
            expected: Expected::Member(checks, server, role),
            provider,
        }
    }

    pub(crate) fn authority(
        fingerprint: Fingerprint,
        role: CertificateRole,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            expected: Expected::Authority(fingerprint, role),
            provider,
        }
    }

    pub(crate) fn nobody(role: CertificateRole, provider: Arc<CryptoProvider>) -> Self {
        Self {
            expected: Expected::Nobody(role),
            provider,
        }
    }

    pub(crate) fn key(fingerprint: Fingerprint, provider: Arc<CryptoProvider>) -> Self {
        Self {
            expected: Expected::Key(fingerprint),
            provider,
        }
    }

    fn verify_path(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        roots: &RootCertStore,
        now: UnixTime,
    ) -> Result<(), Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )
    }

    fn verify_pinned(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        (pinned, role): (Fingerprint, CertificateRole),
        now: UnixTime,
    ) -> Result<(), Error> {
        let other = || refused(CertificateRefusal::OtherAuthority { pinned });
        let authority = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == pinned)
            .ok_or_else(other)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone())?;
        self.verify_path(end_entity, intermediates, &roots, now)?;
        let facts = CertificateFacts::read(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let (expected, found) = (role, facts.name.role);
        match found == expected {
            true => Ok(()),
            false => Err(refused(CertificateRefusal::OtherRole { expected, found })),
        }
    }
}

impl ServerCertVerifier for AnswererVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.expected {
            Expected::Member(checks, expected, role) => {
                self.verify_path(end_entity, intermediates, &checks.known, now)?;
                let found = checks.check(end_entity, *role)?.server;
                if found != *expected {
                    let expected = *expected;
                    return Err(refused(CertificateRefusal::OtherServer { expected, found }));
                }
            }
            Expected::Authority(pinned, role) => {
                self.verify_pinned(end_entity, intermediates, (*pinned, *role), now)?;
            }
            Expected::Nobody(role) => {
                let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
                let shown = intermediates.first().ok_or(unknown)?;
                let authority = Fingerprint::of(shown);
                self.verify_pinned(end_entity, intermediates, (authority, *role), now)?;
                return Err(refused(CertificateRefusal::Seen { authority }));
            }
            Expected::Key(announced) => {
                let (_, certificate) = X509Certificate::from_der(end_entity)
                    .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
                if Fingerprint::of(certificate.public_key().raw) != *announced {
                    return Err(refused(CertificateRefusal::OtherKey));
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS13_ONLY)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
