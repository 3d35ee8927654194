//! TLS of the client port, and which certificate it shows to whom.
//!
//! Always true: whoever speaks a protocol of Stead's own is shown the group's, whatever name he asks for, because he has pinned
//! the group's authority. So is whoever asks for no name, as Stead's clients do. A browser that asks for a name that the operator
//! brought a certificate for is shown that.

use super::{TlsBasis, TlsError, certified};
use crate::operator::Showable;
use crate::trust_store::Trust;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// TLS of the client port: shows the client certificate, asks clients for none.
pub struct ClientPortTls {
    shown: Arc<Certificates>,
    protocols: Vec<Vec<u8>>,
    config: RwLock<Arc<ServerConfig>>,
}

impl fmt::Debug for ClientPortTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientPortTls")
    }
}

impl ClientPortTls {
    /// Builds what a client port needs that speaks these protocols (ALPN), best first.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub fn new(trust: &Trust, basis: &TlsBasis, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let own = certified(&trust.client, trust, &basis.provider)?;
        let shown = Arc::new(Certificates::new(own));
        let protocols: Vec<_> = protocols.iter().map(|it| it.to_vec()).collect();
        let config = Self::build(&shown, &protocols, basis)?;
        Ok(Self {
            shown,
            protocols,
            config: RwLock::new(config),
        })
    }

    fn build(
        shown: &Arc<Certificates>,
        protocols: &[Vec<u8>],
        basis: &TlsBasis,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let nobody = WebPkiClientVerifier::no_client_auth();
        basis.server(nobody, Arc::clone(shown) as _, protocols.to_vec())
    }

    /// Takes a renewed certificate into use, in every configuration that [`Self::config`] gave, from the next
    /// connection on.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used; what was in force before then stays so.
    pub fn renew(&self, trust: &Trust) -> Result<(), TlsError> {
        let provider = aws_lc_rs::default_provider();
        let own = certified(&trust.client, trust, &provider)?;
        self.shown.exchange(own);
        Ok(())
    }

    /// Shows these to whoever asks for their names and does not speak a protocol of Stead's own; from the next connection on.
    pub fn show_for_names(&self, named: BTreeMap<String, Showable>) {
        self.shown.set_named(named);
    }

    /// Takes another basis into use, with other cipher suites, for what [`Self::config`] gives from now on.
    ///
    /// # Errors
    /// When the library cannot be set up; what was in force before then stays so.
    pub fn set_basis(&self, basis: &TlsBasis) -> Result<(), TlsError> {
        let config = Self::build(&self.shown, &self.protocols, basis)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Certificates that are exchanged while configurations with them are in use.
#[derive(Debug)]
struct Certificates {
    own: RwLock<Arc<CertifiedKey>>,
    /// By name, in lower case.
    named: RwLock<BTreeMap<String, Showable>>,
}

impl Certificates {
    fn new(own: Arc<CertifiedKey>) -> Self {
        Self {
            own: RwLock::new(own),
            named: RwLock::default(),
        }
    }

    fn exchange(&self, own: Arc<CertifiedKey>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    fn set_named(&self, named: BTreeMap<String, Showable>) {
        *self.named.write().unwrap_or_else(PoisonError::into_inner) = named;
    }

    fn for_name(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        let mut offered = hello.alpn().into_iter().flatten();
        if offered.any(|protocol| protocol == wire::client::ALPN) {
            return None;
        }
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        named.get(&name).map(|found| Arc::clone(&found.0))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let own = || Arc::clone(&self.own.read().unwrap_or_else(PoisonError::into_inner));
        Some(self.for_name(&hello).unwrap_or_else(own))
    }
}
