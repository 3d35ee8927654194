//! Trying whether a member is reached at an address, before others are told that it is.
//!
//! Always true: that server itself answers there, by its id and with its certificate for that port; of another member's peer
//! port both ends have also proved the group secret.

use crate::dial::{DialError, dial, dial_tls};
use crate::hello::Endpoint;
use crate::identity::CertificateRole;
use model::ServerId;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};
use wire::hello::{ALPN_JOIN, Purpose};

/// Tries whether `server`, which may be this one, answers for its port of `role` at `address` (`host:port`, resolved now).
///
/// # Errors
/// What was met instead.
pub async fn reaches(
    endpoint: &Endpoint,
    server: ServerId,
    role: CertificateRole,
    address: &str,
    limit: Duration,
) -> Result<(), DialError> {
    let deadline = Instant::now() + limit;
    let mut stream = match role {
        CertificateRole::Peer if server != endpoint.tls.server() => {
            // Whoever asks for credentials and says nothing is closed without a trace.
            let purpose = Purpose::Credentials;
            let (_, stream) = dial(endpoint, server, address, purpose, limit).await?;
            stream
        }
        // Nobody says hello to himself.
        CertificateRole::Peer => {
            let config = endpoint.tls.trying(server, role)?;
            dial_tls(config, ALPN_JOIN, address, deadline).await?
        }
        CertificateRole::Client => {
            let config = endpoint.tls.trying(server, role)?;
            dial_tls(config, wire::client::ALPN, address, deadline).await?
        }
    };
    // It has shown the right certificate; how the connection ends does not matter.
    let _ = timeout(limit, stream.shutdown()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{Group, PATIENCE, Port};
    use crate::listener::ListenerLimits;
    use crate::verify::CertificateRefusal;

    async fn tried(by: &crate::kit::Server, whom: ServerId, port: &Port) -> Result<(), DialError> {
        let address = port.address.to_string();
        let role = CertificateRole::Peer;
        reaches(&by.endpoint, whom, role, &address, PATIENCE).await
    }

    #[tokio::test]
    async fn only_the_server_that_is_meant_is_reached() {
        let group = Group::new(1);
        let (one, two) = (group.server(1), group.server(2));
        let port = Port::open(&two, ListenerLimits::default()).await;
        tried(&one, two.id, &port).await.unwrap();
        // Itself, and not another one in its place.
        tried(&two, two.id, &port).await.unwrap();
        for by in [&one, &two] {
            let wrong = tried(by, crate::kit::server_id(3), &port).await;
            let Err(DialError::Certificate { refusal, .. }) = wrong else {
                panic!("{wrong:?}");
            };
            assert!(matches!(refusal, CertificateRefusal::OtherServer { .. }));
        }
        let stranger = Group::new(2).server(1);
        assert!(tried(&stranger, two.id, &port).await.is_err());
        let role = CertificateRole::Client;
        let address = port.address.to_string();
        let other_port = reaches(&one.endpoint, two.id, role, &address, PATIENCE).await;
        assert!(other_port.is_err(), "the peer port is not the client port");
    }

    #[tokio::test]
    async fn nobody_is_reached_where_nobody_listens() {
        let group = Group::new(1);
        let one = group.server(1);
        let port = Port::open(&one, ListenerLimits::default()).await;
        let address = port.address.to_string();
        port.close().await;
        let role = CertificateRole::Peer;
        let two = crate::kit::server_id(2);
        let nobody = reaches(&one.endpoint, two, role, &address, PATIENCE).await;
        assert!(
            matches!(nobody, Err(DialError::Connect { .. })),
            "{nobody:?}"
        );
    }
}
