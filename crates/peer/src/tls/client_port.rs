//! Which certificate the client port shows to whom.
//!
//! Always true: whoever speaks a protocol of Stead's own is shown the group's, whatever name he asks for, because he has pinned
//! the group's authority. So is whoever asks for no name, as Stead's clients do. A browser that asks for a name that the operator
//! brought a certificate for is shown that.

use crate::operator::Showable;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Certificates that are exchanged while configurations with them are in use.
#[derive(Debug)]
pub(super) struct Certificates {
    own: RwLock<Arc<CertifiedKey>>,
    /// By name, in lower case.
    named: RwLock<BTreeMap<String, Showable>>,
}

impl Certificates {
    pub(super) fn new(own: Arc<CertifiedKey>) -> Self {
        Self {
            own: RwLock::new(own),
            named: RwLock::default(),
        }
    }

    pub(super) fn exchange(&self, own: Arc<CertifiedKey>) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    pub(super) fn set_named(&self, named: BTreeMap<String, Showable>) {
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
