//! What this server shows and trusts, changed while it runs: on disk first, then for the next connections.

use crate::client_port::PROTOCOLS;
use crate::identity::Identity;
use crate::node::Node;
use crate::peers::Sight;
use arc_swap::ArcSwap;
use model::SealMark;
use peer::files::WriteError;
use peer::granted::Granted;
use peer::hello::Endpoint;
use peer::identity::CertificateRole;
use peer::seal::SealKey;
use peer::secret::Secret;
use peer::tls::{ClientPortTls, PeerTls, TlsBasis, TlsError, supported_suites};
use peer::trust_store::{Trust, TrustStore};
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Why something new is not in use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakingError {
    /// It cannot be kept.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// TLS does not take it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What this server shows to whom.
pub(crate) struct Shown {
    /// To other servers.
    pub(crate) endpoint: Endpoint,
    /// On the client port.
    pub(crate) client: ClientPortTls,
    /// Held while trust changes: what is read, changed and written must be one step.
    changing: Mutex<()>,
    /// The cipher suites that connections have which are opened now.
    suites: ArcSwap<Vec<String>>,
    /// Told when this server trusts others than before.
    pub(crate) changed: watch::Sender<()>,
}

impl Shown {
    /// # Errors
    /// When a certificate or key cannot be used.
    pub(crate) fn new(
        identity: &Identity,
        trust: &Trust,
        sight: &Arc<Sight>,
    ) -> Result<Self, TlsError> {
        let (group, server) = (identity.group, identity.server);
        let basis = TlsBasis::default();
        let tls = PeerTls::new(group, server, trust, sight.clone(), basis.clone())?;
        let endpoint = Endpoint {
            tls: Arc::new(tls),
            outlook: sight.clone(),
        };
        Ok(Self {
            endpoint,
            client: ClientPortTls::new(trust, &basis, &PROTOCOLS)?,
            changing: Mutex::default(),
            suites: ArcSwap::from_pointee(supported_suites()),
            changed: watch::Sender::new(()),
        })
    }
}

impl Node {
    /// Takes certificates and their keys into use; the connections to other servers are opened anew with them.
    pub(crate) async fn take_certificates(&self, granted: Granted) -> Result<(), TakingError> {
        self.change_trust(move |store, trust| {
            store.save_credential(CertificateRole::Peer, &granted.peer)?;
            store.save_credential(CertificateRole::Client, &granted.client)?;
            trust.peer = granted.peer;
            trust.client = granted.client;
            Ok(())
        })
        .await?;
        self.0.peers.pool().open_anew();
        Ok(())
    }

    /// Takes authorities into use: those that are accepted, the one in force first, those of before, and what leads from these to that.
    pub(crate) async fn take_authorities(
        &self,
        accepted: Vec<CertificateDer<'static>>,
        former: Vec<CertificateDer<'static>>,
        links: Vec<CertificateDer<'static>>,
    ) -> Result<(), TakingError> {
        self.change_trust(move |store, trust| {
            trust.authorities = accepted;
            trust.former = former;
            trust.links = links;
            store.save_authorities(trust)
        })
        .await
    }

    /// Takes a group secret into use; the one that was in force is still accepted.
    pub(crate) async fn take_secret(&self, secret: Secret) -> Result<(), TakingError> {
        self.change_trust(move |store, trust| {
            trust.secrets.adopt(secret);
            store.save_secrets(&trust.secrets)
        })
        .await
    }

    /// Has another seal key; of those that are not needed any more, a few are kept.
    pub(crate) async fn take_seal_key(
        &self,
        key: SealKey,
        needed: Vec<SealMark>,
    ) -> Result<(), TakingError> {
        self.change_trust(move |store, trust| {
            trust.seals.add(key, &needed);
            store.save_seal_keys(&trust.seals)
        })
        .await
    }

    /// From now on the group secret before this one is accepted only to fetch this one.
    pub(crate) async fn settle_secret(&self) -> Result<(), TakingError> {
        self.change_trust(move |store, trust| match trust.secrets.settle() {
            true => store.save_secrets(&trust.secrets),
            false => Ok(()),
        })
        .await
    }

    /// Speaks these cipher suites and no others on the connections that are opened from now on.
    pub(crate) fn take_suites(&self, suites: &[String]) -> Result<(), TlsError> {
        let shown = &self.0.shown;
        let changing = shown.changing.lock();
        let _one = changing.unwrap_or_else(PoisonError::into_inner);
        let basis = shown.endpoint.tls.basis().with_suites(suites)?;
        shown.endpoint.tls.renew_on(&self.trust(), basis.clone())?;
        shown.client.set_basis(&basis)?;
        shown.suites.store(Arc::new(suites.to_vec()));
        Ok(())
    }

    /// The cipher suites that connections have which are opened now.
    pub(crate) fn suites(&self) -> Arc<Vec<String>> {
        self.0.shown.suites.load_full()
    }

    /// Changes what this server trusts and shows; `change` writes it to the disk first.
    async fn change_trust(
        &self,
        change: impl FnOnce(&TrustStore, &mut Trust) -> Result<(), WriteError> + Send + 'static,
    ) -> Result<(), TakingError> {
        let node = self.clone();
        let changing = tokio::task::spawn_blocking(move || {
            let shown = &node.0.shown;
            let _one = shown
                .changing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut trust = Trust::clone(&node.trust());
            change(&TrustStore::of(node.data()), &mut trust)?;
            shown.endpoint.tls.renew(&trust)?;
            shown.client.renew(&trust)?;
            node.0.trust.store(Arc::new(trust));
            shown.changed.send_replace(());
            Ok(())
        });
        changing
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}
