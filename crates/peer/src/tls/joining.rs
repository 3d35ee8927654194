//! TLS before a server is a member: joining, trying whether it is reached, and speaking to the API of one that stands alone.

use super::{Always, TlsBasis, TlsError, certified_by};
use crate::fingerprint::Fingerprint;
use crate::identity::CertificateRole;
use crate::key::PrivateKey;
use crate::trust_store::Credential;
use crate::verify::AnswererVerifier;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use wire::hello::ALPN_JOIN;

impl TlsBasis {
    /// What a server that wants to join dials with: only a member of a group whose authority has this
    /// fingerprint may answer, with its peer certificate.
    ///
    /// # Errors
    /// When the library cannot be set up.
    pub fn joining_client(&self, authority: Fingerprint) -> Result<Arc<ClientConfig>, TlsError> {
        let role = CertificateRole::Peer;
        let verifier = AnswererVerifier::authority(authority, role, self.provider.clone());
        self.client(verifier, None, ALPN_JOIN)
    }

    /// What a member speaks to the API of a server with that is no member: only one whose authority has this fingerprint may
    /// answer, with its certificate for clients. Without a fingerprint nobody may: it is only looked whose server is there.
    ///
    /// # Errors
    /// When the library cannot be set up.
    pub(crate) fn api_client(
        &self,
        authority: Option<Fingerprint>,
        alpn: &[u8],
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let (role, provider) = (CertificateRole::Client, self.provider.clone());
        let verifier = match authority {
            Some(authority) => AnswererVerifier::authority(authority, role, provider),
            None => AnswererVerifier::nobody(role, provider),
        };
        let mut config = Arc::unwrap_or_clone(self.client(verifier, None, alpn)?);
        // Who asks for a name may be shown an operator's certificate for it.
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// What a member tries with whether it reaches a server that wants to join: only the holder of the key
    /// that the request named may answer.
    ///
    /// # Errors
    /// When the library cannot be set up.
    pub fn probing_client(&self, key: Fingerprint) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = AnswererVerifier::key(key, self.provider.clone());
        self.client(verifier, None, ALPN_JOIN)
    }

    /// What a server that wants to join answers probes with, on its peer address.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn probed_server(&self, key: &PrivateKey) -> Result<Arc<ServerConfig>, TlsError> {
        let certificate = rcgen::CertificateParams::default()
            .self_signed(key)
            .map_err(TlsError::Certificate)?;
        let credential = Credential {
            certificate: certificate.into(),
            key: key.clone(),
        };
        let own = certified_by(&credential, [], &self.provider)?;
        let nobody = WebPkiClientVerifier::no_client_auth();
        self.server(nobody, Arc::new(Always(own)), vec![ALPN_JOIN.to_vec()])
    }
}
