//! Certificates for a peer that is to protect its traffic as Stead always does: an authority made for the run, and one
//! certificate for all members.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore};

/// An authority and what it signed.
#[derive(Clone)]
pub(crate) struct Certificates {
    /// The authority's certificate.
    pub(crate) authority: PathBuf,
    /// The members' certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// What clients believe: that authority, over HTTP/2.
    pub(crate) client: Arc<ClientConfig>,
}

impl Certificates {
    /// Makes them in a folder, for members at these addresses. Keys are of the kind that Stead's are of.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub(crate) fn make(folder: &Path, addresses: &[Ipv4Addr]) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Nobody believes a certificate whose issuer has its own name.
        let named = &mut params.distinguished_name;
        named.push(DnType::CommonName, "the run's authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let names: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
        let member_key = KeyPair::generate()?;
        let member = CertificateParams::new(names)?.signed_by(&member_key, &issuer)?;

        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone())?;
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];

        let made = Self {
            authority: folder.join("authority.pem"),
            certificate: folder.join("member.pem"),
            key: folder.join("member.key"),
            client: Arc::new(client),
        };
        std::fs::write(&made.authority, issuer.pem())?;
        std::fs::write(&made.certificate, member.pem())?;
        std::fs::write(&made.key, member_key.serialize_pem())?;
        Ok(made)
    }
}
