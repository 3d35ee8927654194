//! What the other end of a connection showed when it was opened, to be looked at again while the connection stands: a certificate that
//! is refused from now on must not go on by a connection that it opened before.

use crate::hello::{Endpoint, KeyStanding};
use crate::identity::CertificateFacts;
use rustls::pki_types::CertificateDer;

/// A certificate that opened a connection, and what leads from it to an authority.
#[derive(Debug, Clone)]
pub struct Shown {
    facts: CertificateFacts,
    chain: Vec<CertificateDer<'static>>,
}

impl Shown {
    /// What the other end of an established connection showed; none where that is no certificate of a server.
    pub fn by<S>(stream: &tokio_rustls::TlsStream<S>) -> Option<Self> {
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Self {
            facts: CertificateFacts::read(chain.first()?).ok()?,
            chain: chain.iter().map(|it| it.clone().into_owned()).collect(),
        })
    }

    /// Whether the key has been revoked. Cheap: it may be asked at every change.
    pub fn is_revoked(&self, endpoint: &Endpoint) -> bool {
        endpoint.outlook.key(self.facts.name.server, self.facts.key) == KeyStanding::Revoked
    }

    /// Whether an authority issued it that is accepted now. It may have expired meanwhile: that alone ends no connection.
    pub fn is_accepted(&self, endpoint: &Endpoint) -> bool {
        let (end_entity, intermediates) = match self.chain.split_first() {
            Some((first, rest)) => (first, rest),
            None => return false,
        };
        endpoint.tls.accepts(end_entity, intermediates, &self.facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::dial;
    use crate::kit::{Group, PATIENCE, Port};
    use crate::listener::ListenerLimits;
    use wire::hello::Purpose;

    #[tokio::test]
    async fn what_opened_a_connection_is_looked_at_again() {
        let group = Group::new(1);
        let (one, two) = (group.server(1), group.server(2));
        let mut port = Port::open(&two, ListenerLimits::default()).await;
        let address = port.address.to_string();
        let dialled = dial(&one.endpoint, two.id, &address, Purpose::Control, PATIENCE).await;
        let (_met, _stream) = dialled.unwrap();
        let shown = Shown::by(&port.arrival().await.stream).unwrap();
        assert!(shown.is_accepted(&two.endpoint) && !shown.is_revoked(&two.endpoint));

        two.outlook
            .knows_key(one.id, shown.facts.key, KeyStanding::Revoked);
        assert!(shown.is_revoked(&two.endpoint));
        assert!(shown.is_accepted(&two.endpoint));

        // Another authority beside the one that issued it, and then in its place.
        let next = Group {
            id: group.id,
            ..Group::new(2)
        };
        let mut trust = next.trust(two.id);
        let own = group.authority.certificate().clone();
        trust.authorities.push(own.clone());
        two.endpoint.tls.renew(&trust).unwrap();
        assert!(shown.is_accepted(&two.endpoint));
        trust.authorities.retain(|it| *it != own);
        for former in [vec![own], Vec::new()] {
            trust.former = former;
            two.endpoint.tls.renew(&trust).unwrap();
            assert!(!shown.is_accepted(&two.endpoint));
        }
    }
}
