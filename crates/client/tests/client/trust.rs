//! Servers that must not be believed.

use std::sync::Arc;

use crate::fake::{Authority, Role, port_with};
use client::{Conversation, DialError, Fingerprint, Trust, TrustError};
use model::ServerId;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a client that pins `pin` says of a port.
async fn dial(port: Arc<ServerConfig>, pin: Fingerprint) -> DialError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        // Whether the client goes through with it is the question.
        let _ = TlsAcceptor::from(port).accept(tcp).await;
    });
    let dialed = Conversation::dial(&address, &Trust::new(pin)).await;
    serving.await.unwrap();
    dialed.map(|_| ()).unwrap_err()
}

fn server() -> ServerId {
    ServerId::from_bytes([1; 16])
}

#[tokio::test]
async fn another_authority_is_refused() {
    let (mine, other) = (Authority::new(), Authority::new());
    let error = dial(other.port(server(), Role::Client), mine.fingerprint()).await;
    match error {
        DialError::Distrusted {
            source: TrustError::OtherAuthority { pinned, presented },
            ..
        } => {
            assert_eq!(
                (pinned, presented),
                (mine.fingerprint(), other.fingerprint())
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_certificate_in_the_place_of_a_clients_is_refused() {
    let authority = Authority::new();
    let error = dial(
        authority.port(server(), Role::Peer),
        authority.fingerprint(),
    )
    .await;
    let role =
        |source: &TrustError| matches!(source, TrustError::OtherRole { role } if role == "peer");
    assert!(matches!(error, DialError::Distrusted { ref source, .. } if role(source)));
}

#[tokio::test]
async fn presenting_the_authority_without_its_signature_is_refused() {
    let (mine, other) = (Authority::new(), Authority::new());
    let (leaf, key) = other.issue(server(), Role::Client);
    let error = dial(port_with(vec![leaf, mine.der()], &key), mine.fingerprint()).await;
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_chain_without_the_authority_is_refused() {
    let authority = Authority::new();
    let (leaf, key) = authority.issue(server(), Role::Client);
    let error = dial(port_with(vec![leaf], &key), authority.fingerprint()).await;
    assert!(matches!(
        error,
        DialError::Distrusted {
            source: TrustError::OtherAuthority { .. },
            ..
        }
    ));
}
