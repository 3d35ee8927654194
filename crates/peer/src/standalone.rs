//! Speaking to the API of a server that is no member: whose it is, and then only with that one.
//!
//! Always true: nothing is said to a server whose authority was not named by its fingerprint; looking whose server answers ends in
//! the handshake.

use crate::dial::{DialError, PeerStream, dial_tls};
use crate::fingerprint::Fingerprint;
use crate::tls::TlsBasis;
use crate::verify::CertificateRefusal;
use std::time::Duration;
use tokio::time::Instant;

/// What the API is spoken in.
const ALPN_HTTP: &[u8] = b"http/1.1";

/// The fingerprint of the authority of the server that answers clients at `address` (`host:port`, resolved now). Nothing is said to it.
///
/// # Errors
/// No server of Stead answers clients there.
pub async fn authority_at(
    basis: &TlsBasis,
    address: &str,
    limit: Duration,
) -> Result<Fingerprint, DialError> {
    let config = basis.api_client(None, ALPN_HTTP)?;
    match dial_tls(config, ALPN_HTTP, address, Instant::now() + limit).await {
        Err(DialError::Certificate {
            refusal: CertificateRefusal::Seen { authority },
            ..
        }) => Ok(authority),
        Err(error) => Err(error),
        // Its verifier lets nobody through.
        Ok(_) => Err(DialError::OtherProtocol {
            address: address.to_owned(),
        }),
    }
}

/// A connection for the API to a server whose authority has this fingerprint.
///
/// # Errors
/// Nobody answers there, or somebody else.
pub async fn dial_api(
    basis: &TlsBasis,
    authority: Fingerprint,
    address: &str,
    limit: Duration,
) -> Result<PeerStream, DialError> {
    let config = basis.api_client(Some(authority), ALPN_HTTP)?;
    dial_tls(config, ALPN_HTTP, address, Instant::now() + limit).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{Group, PATIENCE, server_id};
    use crate::tls::ClientPortTls;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// A client port that counts what it is told.
    async fn client_port(group: &Group) -> (String, tokio::task::JoinHandle<usize>) {
        let trust = group.trust(server_id(1));
        let tls = ClientPortTls::new(&trust, &TlsBasis::default(), &[ALPN_HTTP]).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = port.local_addr().unwrap().to_string();
        let heard = tokio::spawn(async move {
            let (stream, _) = port.accept().await.unwrap();
            let mut bytes = Vec::new();
            let Ok(mut stream) = TlsAcceptor::from(tls.config()).accept(stream).await else {
                return 0;
            };
            let _ = stream.read_to_end(&mut bytes).await;
            bytes.len()
        });
        (address, heard)
    }

    #[tokio::test]
    async fn looking_tells_the_authority_and_says_nothing() {
        let group = Group::new(1);
        let (address, heard) = client_port(&group).await;
        let seen = authority_at(&TlsBasis::default(), &address, PATIENCE).await;
        assert_eq!(
            seen.unwrap(),
            Fingerprint::of(group.authority.certificate())
        );
        assert_eq!(heard.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nobody_but_the_one_that_was_named_is_spoken_to() {
        let (meant, other) = (Group::new(1), Group::new(2));
        let pin = Fingerprint::of(meant.authority.certificate());
        let basis = TlsBasis::default();
        let (address, heard) = client_port(&other).await;
        let refused = dial_api(&basis, pin, &address, PATIENCE).await.unwrap_err();
        assert!(refused.is_stranger(), "{refused}");
        assert_eq!(heard.await.unwrap(), 0);
        let (address, heard) = client_port(&meant).await;
        drop(dial_api(&basis, pin, &address, PATIENCE).await.unwrap());
        assert_eq!(heard.await.unwrap(), 0);
    }
}
