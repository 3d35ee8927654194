//! TLS 1.3 configurations, built from what [`crate::trust_store`] holds and exchanged while running.
//!
//! What must always be true: no session is resumed and no early data taken, so that every connection checks
//! certificates anew; a renewal takes effect for the next connection and disturbs none that is open.

use crate::identity::{CertificateFacts, CertificateRole};
use crate::secret::GroupSecrets;
use crate::trust_store::{Credential, Trust};
use crate::verify::{AnswererVerifier, DiallerVerifier, PeerChecks, Revocations};
use model::{GroupId, ServerId, UnixMillis};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
    VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use wire::hello::{ALPN_JOIN, ALPN_PEER};

mod client_port;
mod joining;
pub use client_port::ClientPortTls;

/// Why a TLS configuration cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority's certificate is not one.
    #[error("the authority's certificate cannot be used")]
    Authority(#[source] rustls::Error),
    /// There is no authority.
    #[error("there is no authority to trust")]
    Verifier(#[from] VerifierBuilderError),
    /// A certificate and its key.
    #[error("the certificate or its key cannot be used")]
    Credential(#[source] rustls::Error),
    /// The library does not offer TLS 1.3 with this clock and these suites.
    #[error("TLS 1.3 cannot be set up")]
    Library(#[source] rustls::Error),
    /// None of the suites that are wanted is one that the library speaks.
    #[error("none of the cipher suites {wanted} is supported")]
    Suites {
        /// Those that are wanted.
        wanted: String,
    },
    /// A certificate that is needed could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[source] rcgen::Error),
}

/// What all TLS configurations of a server have in common.
#[derive(Debug, Clone)]
pub struct TlsBasis {
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
}

impl Default for TlsBasis {
    fn default() -> Self {
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            clock: Arc::new(DefaultTimeProvider),
        }
    }
}

/// The cipher suites of TLS 1.3 that this program supports, called as IANA does.
pub fn supported_suites() -> Vec<String> {
    let all = aws_lc_rs::default_provider().cipher_suites.into_iter();
    let of_tls13 = all.filter(|suite| suite.tls13().is_some());
    of_tls13.map(suite_name).collect()
}

fn suite_name(suite: SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.replacen("TLS13_", "TLS_", 1)
}

impl TlsBasis {
    /// The same with another clock, which certificates' lifetimes are checked against.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn TimeProvider>) -> Self {
        self.clock = clock;
        self
    }

    /// The same with no other cipher suites than these, called as IANA does.
    ///
    /// # Errors
    /// When it speaks none of them.
    pub fn with_suites(mut self, wanted: &[String]) -> Result<Self, TlsError> {
        let mut provider = aws_lc_rs::default_provider();
        let all = &mut provider.cipher_suites;
        all.retain(|suite| wanted.contains(&suite_name(*suite)));
        if provider.cipher_suites.is_empty() {
            let wanted = wanted.join(", ");
            return Err(TlsError::Suites { wanted });
        }
        self.provider = Arc::new(provider);
        Ok(self)
    }

    /// Now, as certificates are checked; the beginning of time when the clock fails, so that nothing is taken for expired.
    pub(crate) fn now(&self) -> UnixMillis {
        let now = self.clock.current_time();
        UnixMillis::default().after(Duration::from_secs(now.map_or(0, |now| now.as_secs())))
    }

    /// Checks that one of the authorities signed `certificate`, and that it is valid now.
    pub(crate) fn verify_issued(
        &self,
        certificate: &CertificateDer<'_>,
        authorities: &[CertificateDer<'static>],
    ) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.clone())?;
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &roots,
            &[],
            self.clock
                .current_time()
                .ok_or(rustls::Error::FailedToGetCurrentTime)?,
            self.provider.signature_verification_algorithms.all,
        )
    }

    fn server(
        &self,
        verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
        resolver: Arc<dyn ResolvesServerCert>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config =
            ServerConfig::builder_with_details(self.provider.clone(), self.clock.clone())
                .with_protocol_versions(&[&TLS13])
                .map_err(TlsError::Library)?
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(resolver);
        config.alpn_protocols = alpn;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    fn client(
        &self,
        verifier: AnswererVerifier,
        own: Option<Arc<CertifiedKey>>,
        alpn: &[u8],
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let builder = ClientConfig::builder_with_details(self.provider.clone(), self.clock.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match own {
            Some(own) => builder.with_client_cert_resolver(Arc::new(Always(own))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }
}

/// TLS between servers, as the trust now in force has it.
pub struct PeerTls {
    group: GroupId,
    server: ServerId,
    revocations: Arc<dyn Revocations>,
    material: RwLock<Arc<Material>>,
}

struct Material {
    basis: TlsBasis,
    checks: PeerChecks,
    own: Arc<CertifiedKey>,
    members: Arc<ServerConfig>,
    joining: Arc<ServerConfig>,
    secrets: GroupSecrets,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls")
            .field("group", &self.group)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl PeerTls {
    /// Builds what server `server` of group `group` needs to talk to the other members.
    ///
    /// # Errors
    /// When a certificate or key cannot be used.
    pub fn new(
        group: GroupId,
        server: ServerId,
        trust: &Trust,
        revocations: Arc<dyn Revocations>,
        basis: TlsBasis,
    ) -> Result<Self, TlsError> {
        let material = Material::build(group, trust, &revocations, basis)?;
        let material = RwLock::new(Arc::new(material));
        Ok(Self {
            group,
            server,
            revocations,
            material,
        })
    }

    /// Takes renewed certificates, another authority or another secret into use, from the next connection on.
    ///
    /// # Errors
    /// When a certificate or key cannot be used; what was in force before then stays so.
    pub fn renew(&self, trust: &Trust) -> Result<(), TlsError> {
        self.renew_on(trust, self.basis())
    }

    /// The same on another basis: with other cipher suites.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub fn renew_on(&self, trust: &Trust, basis: TlsBasis) -> Result<(), TlsError> {
        let material = Material::build(self.group, trust, &self.revocations, basis)?;
        *self
            .material
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        Ok(())
    }

    /// What its configurations have in common, in force now.
    pub fn basis(&self) -> TlsBasis {
        self.material().basis.clone()
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// This server.
    pub fn server(&self) -> ServerId {
        self.server
    }

    /// For connections of members: their peer certificate is required.
    pub(crate) fn for_members(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.material().members)
    }

    /// For connections of servers that want to join, which have no certificate yet.
    pub(crate) fn for_joining(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.material().joining)
    }

    /// For dialling a member.
    pub(crate) fn towards(&self, server: ServerId) -> Result<Arc<ClientConfig>, TlsError> {
        let material = self.material();
        let role = CertificateRole::Peer;
        let verifier = AnswererVerifier::member(material.checks.clone(), server, role);
        let own = Arc::clone(&material.own);
        material.basis.client(verifier, Some(own), ALPN_PEER)
    }

    /// For trying whether a member, or this server itself, answers somewhere with its certificate for that port. Nobody shows
    /// who tries.
    pub(crate) fn trying(
        &self,
        server: ServerId,
        role: CertificateRole,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let material = self.material();
        let verifier = AnswererVerifier::member(material.checks.clone(), server, role);
        let alpn = match role {
            CertificateRole::Peer => ALPN_JOIN,
            CertificateRole::Client => wire::client::ALPN,
        };
        material.basis.client(verifier, None, alpn)
    }

    /// Whether a certificate is not valid any more.
    pub(crate) fn has_expired(&self, certificate: &CertificateFacts) -> bool {
        certificate.not_after < self.material().basis.now()
    }

    /// Whether what the other end showed was issued by an authority that is not accepted any more.
    ///
    /// What it says of its issuer is no proof: whoever has the former authority's key can have it say anything.
    pub(crate) fn is_former(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        facts: &CertificateFacts,
    ) -> bool {
        let checks = &self.material().checks;
        checks.known.len() != checks.roots.len() && !self.accepts(end_entity, intermediates, facts)
    }

    /// Whether an authority that is accepted issued what the other end showed, however long ago that expired.
    pub(crate) fn accepts(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        facts: &CertificateFacts,
    ) -> bool {
        let material = self.material();
        let at = material.basis.now().0.min(facts.not_after.0);
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at));
        let verified = ParsedCertificate::try_from(end_entity).and_then(|parsed| {
            let (roots, algorithms) = (
                &material.checks.roots,
                material
                    .basis
                    .provider
                    .signature_verification_algorithms
                    .all,
            );
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, at, algorithms)
        });
        verified.is_ok()
    }

    /// What is proved on top of the certificates.
    pub(crate) fn secrets(&self) -> GroupSecrets {
        self.material().secrets.clone()
    }

    fn material(&self) -> Arc<Material> {
        Arc::clone(&self.material.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Material {
    fn build(
        group: GroupId,
        trust: &Trust,
        revocations: &Arc<dyn Revocations>,
        basis: TlsBasis,
    ) -> Result<Self, TlsError> {
        let provider = Arc::clone(&basis.provider);
        let roots = roots(&trust.authorities)?;
        let verifier =
            |roots| WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
        let former = match trust.former.is_empty() {
            true => None,
            false => Some(verifier(self::roots(&trust.former)?)?),
        };
        let known: Vec<_> = trust
            .authorities
            .iter()
            .chain(&trust.former)
            .cloned()
            .collect();
        let inner = verifier(Arc::clone(&roots))?;
        let checks = PeerChecks {
            group,
            roots,
            known: self::roots(&known)?,
            provider: Arc::clone(&basis.provider),
            revocations: Arc::clone(revocations),
        };
        let own = certified(&trust.peer, trust, &basis.provider)?;
        let always = || Arc::new(Always(Arc::clone(&own)));
        let dialler = Arc::new(DiallerVerifier {
            inner,
            former,
            checks: checks.clone(),
        });
        let nobody = WebPkiClientVerifier::no_client_auth();
        Ok(Self {
            members: basis.server(dialler, always(), vec![ALPN_PEER.to_vec()])?,
            joining: basis.server(nobody, always(), vec![ALPN_JOIN.to_vec()])?,
            checks,
            own,
            secrets: trust.secrets.clone(),
            basis,
        })
    }
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(TlsError::Authority)?;
    }
    Ok(Arc::new(roots))
}

/// The same certificate for every connection.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl rustls::client::ResolvesClientCert for Always {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A certificate with the authorities behind it, so that whoever pins a fingerprint finds it in the chain.
fn certified(
    credential: &Credential,
    trust: &Trust,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let authorities = trust.authorities.iter().chain(&trust.links).cloned();
    certified_by(credential, authorities, provider)
}

fn certified_by(
    credential: &Credential,
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let mut chain = vec![credential.certificate.clone()];
    chain.extend(authorities);
    let own = CertifiedKey::from_der(chain, credential.key.for_rustls(), provider)
        .map_err(TlsError::Credential)?;
    Ok(Arc::new(own))
}

#[cfg(test)]
mod tests;
