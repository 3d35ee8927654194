//! Certificates as the group makes them.

use std::sync::Arc;

use client::Fingerprint;
use model::{GroupId, ServerId};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// What a certificate says that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Peer,
}

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    group: GroupId,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            issuer,
            group: GroupId::from_bytes([3; 16]),
        }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.issuer.der())
    }

    /// A certificate for a server, and its key.
    pub(crate) fn issue(&self, server: ServerId, role: Role) -> (CertificateDer<'static>, KeyPair) {
        let role = match role {
            Role::Client => "client",
            Role::Peer => "peer",
        };
        let mut params = CertificateParams::default();
        let uri = format!("stead://{}/server/{server}/{role}", self.group);
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key)
    }

    /// What a server's client port is configured with.
    pub(crate) fn port(&self, server: ServerId, role: Role) -> Arc<ServerConfig> {
        let (leaf, key) = self.issue(server, role);
        port_with(vec![leaf, self.der()], &key)
    }
}

/// A port that presents this chain.
pub(crate) fn port_with(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .unwrap();
    config.alpn_protocols = vec![wire::client::ALPN.to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
