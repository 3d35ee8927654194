//! What comes in on the peer port: consensus, requests of members, and streams of sessions.

use crate::control;
use crate::node::Node;
use crate::peers::limits;
use crate::renewing;
use bytes::Bytes;
use model::ServerId;
use peer::credentials;
use peer::hello::{Acquaintance, Met};
use peer::listener::{Arrival, Reception};
use peer::serve::serve;
use peer::shown::Shown;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use wire::credentials::{CredentialsAnswer, CredentialsRefusal, CredentialsRequest};
use wire::hello::Purpose;

/// How long a server whose key is revoked has to get other certificates before its connections are closed: it does so at once, and
/// a primary that nobody hears for as long as that takes would fall.
const TO_RENEW: Duration = Duration::from_secs(2);

/// Takes connections of members.
#[derive(Debug, Clone)]
pub struct Doorman {
    pub(crate) node: Node,
}

impl Reception for Doorman {
    async fn arrived(&self, arrival: Arrival) {
        let Met {
            purpose,
            acquaintance,
            ref introduction,
            out_of_date,
            known_key,
            ..
        } = arrival.met;
        let (from, known) = (introduction.server, acquaintance == Acquaintance::Member);
        let shown = Shown::by(&arrival.stream);
        match purpose {
            Purpose::Consensus => {
                self.while_trusted(from, shown, self.serve_consensus(from, arrival))
                    .await;
            }
            Purpose::Control if known => {
                self.while_trusted(from, shown, self.serve_control(from, arrival))
                    .await;
            }
            Purpose::Stream if known => {
                let serving = async {
                    if let Err(error) = self.node.serve_stream(arrival.stream).await {
                        tracing::debug!(%from, %error, "a stream of another server ended");
                    }
                };
                self.until_removed(from, serving).await;
            }
            Purpose::Credentials if known => {
                let decide = async |request| match is_owed(&request, out_of_date, known_key) {
                    true => renewing::grant(&self.node, from, &request).await,
                    false => CredentialsAnswer::Refused(CredentialsRefusal::OutOfDate),
                };
                let answered = credentials::answer(arrival.stream, decide, renewing::LIMIT);
                if let Err(error) = answered.await {
                    tracing::debug!(%from, %error, "a request for credentials was not answered");
                }
            }
            Purpose::Control | Purpose::Stream | Purpose::Credentials => {
                tracing::warn!(%from, "a server that is not known here wants more than replication");
            }
        }
    }
}

/// Whether what a server has shown is good enough for what it asks: with what is out of date it may bring itself up to date, and a seal
/// key opens everything.
fn is_owed(request: &CredentialsRequest, out_of_date: bool, known_key: bool) -> bool {
    match request {
        CredentialsRequest::Certificates { .. }
        | CredentialsRequest::Secret
        | CredentialsRequest::Authorities => true,
        CredentialsRequest::ExternalKey { .. }
        | CredentialsRequest::Seal { .. }
        | CredentialsRequest::StoredSecret { .. }
        | CredentialsRequest::LoginSecret { .. } => !out_of_date,
        CredentialsRequest::SealKey { .. } => !out_of_date && known_key,
    }
}

impl Doorman {
    /// Serves a connection, and closes it when what opened it would not open it any more: the other server was removed, its key
    /// revoked, or its certificate's authority is not accepted.
    ///
    /// A server that is trusted has opened others with what it shows now by then; it is told why where it dials again with what
    /// it showed before.
    async fn while_trusted(
        &self,
        from: ServerId,
        shown: Option<Shown>,
        serving: impl Future<Output = ()>,
    ) {
        let Some(shown) = shown else {
            return;
        };
        tokio::select! {
            () = serving => {}
            () = self.refused(from, &shown) => {
                tracing::info!(%from, "a connection of a server that was removed, or of a key that was revoked, is closed");
            }
            () = self.not_accepted(&shown) => {
                tracing::info!(%from, "a connection that a certificate of a former authority opened is closed");
            }
        }
    }

    /// Waits until the directory refuses a server or the key that it showed.
    async fn refused(&self, from: ServerId, shown: &Shown) {
        let mut changed = self.node.directory_changed();
        while self.node.directory().removed(from).is_none() {
            if shown.is_revoked(&self.node.0.shown.endpoint) {
                let _ = timeout(TO_RENEW, self.removed(from)).await;
                return;
            }
            next(&mut changed).await;
        }
    }

    async fn not_accepted(&self, shown: &Shown) {
        let mut changed = self.node.0.shown.changed.subscribe();
        while shown.is_accepted(&self.node.0.shown.endpoint) {
            next(&mut changed).await;
        }
    }

    /// Serves a connection, and closes it when the other server is removed: it is told why when it dials again.
    async fn until_removed(&self, from: ServerId, serving: impl Future<Output = ()>) {
        tokio::select! {
            () = serving => {}
            () = self.removed(from) => tracing::info!(%from, "a connection of a server that was removed is closed"),
        }
    }

    async fn removed(&self, server: ServerId) {
        let mut changed = self.node.directory_changed();
        while self.node.directory().removed(server).is_none() {
            next(&mut changed).await;
        }
    }

    /// Consensus has a runtime of its own: the connection moves there.
    async fn serve_consensus(&self, from: ServerId, mut arrival: Arrival) {
        let (replica, heard) = (self.node.replica().clone(), self.node.0.peers.heard(from));
        let serving = self.node.0.lines.spawn(async move {
            if let Err(error) = arrival.move_here() {
                tracing::debug!(%from, %error, "a consensus connection cannot be served");
                return;
            }
            // Called here and now for each: within a lane the order of arrival must be kept.
            let handler = move |request: Bytes| {
                let answering = replica.handle(&request);
                async move {
                    answering
                        .await
                        .unwrap_or_else(|error| unanswered(from, &error))
                }
            };
            let end = serve(arrival.stream, &handler, limits(), heard).await;
            tracing::debug!(%from, %end, "a consensus connection has ended");
        });
        // The listener ends what it drives: the task elsewhere must end with this one.
        let _guard = AbortOnDrop(serving.abort_handle());
        let _ = serving.await;
    }

    async fn serve_control(&self, from: ServerId, arrival: Arrival) {
        let node = self.node.clone();
        let heard = node.0.peers.heard(from);
        let handler = move |request: Bytes| {
            let node = node.clone();
            // In a task of its own: a request that waits for its place must not hold up the others.
            let answering =
                tokio::spawn(async move { control::answer(&node, from, &request).await });
            async move { answering.await.unwrap_or_default() }
        };
        let end = serve(arrival.stream, &handler, limits(), heard).await;
        tracing::debug!(%from, %end, "a control connection has ended");
    }
}

/// Waits for the next change; for ever, once there are no more.
async fn next<T>(changed: &mut watch::Receiver<T>) {
    if changed.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// An empty answer is no consensus message: the asker takes it for a failure.
fn unanswered(from: ServerId, error: &replica::MessageError) -> Bytes {
    tracing::debug!(%from, %error, "a consensus message is not answered");
    Bytes::new()
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::SealMark;

    #[test]
    fn what_is_out_of_date_opens_nothing_but_the_way_back() {
        let seal = CredentialsRequest::SealKey {
            mark: SealMark::default(),
        };
        let stored = CredentialsRequest::StoredSecret {
            session: model::SessionId::default(),
            name: "mail".parse().unwrap(),
        };
        let secret = CredentialsRequest::Secret;
        assert!(is_owed(&secret, true, false));
        assert!(is_owed(&stored, false, false) && !is_owed(&stored, true, true));
        assert!(is_owed(&seal, false, true) && !is_owed(&seal, true, true));
        assert!(
            !is_owed(&seal, false, false),
            "a certificate of nobody knows whom"
        );
    }
}
