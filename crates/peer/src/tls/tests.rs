//! The client port as an ordinary TLS client sees it, and who is refused there.

use super::*;
use crate::identity::CertificateRole;
use crate::key::PrivateKey;
use crate::kit::{Group, PATIENCE, StoppedClock, now, server_id};
use model::UnixMillis;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

type Met = (
    client::TlsStream<DuplexStream>,
    server::TlsStream<DuplexStream>,
);

/// What curl or a browser would have that was told to trust the group's authority.
fn ordinary_client(group: &Group, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(group.authority.certificate().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

async fn meet(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<Met, Error> {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = TlsConnector::from(Arc::clone(client)).connect(name, near);
    let accepting = TlsAcceptor::from(Arc::clone(server)).accept(far);
    let (near, far) = timeout(PATIENCE, async { tokio::join!(connecting, accepting) })
        .await
        .expect("neither accepted nor refused");
    let near = near.map_err(|error| error.downcast::<Error>().unwrap())?;
    Ok((near, far.unwrap()))
}

#[tokio::test]
async fn an_ordinary_client_takes_the_client_port() {
    let group = Group::new(1);
    let protocols: [&[u8]; 3] = [b"h2", b"http/1.1", b"stead-client/1"];
    let trust = group.trust(server_id(1));
    let port = ClientPortTls::new(&trust, &TlsBasis::default(), &protocols).unwrap();
    let config = port.config();
    for (offered, agreed) in [
        (&[&b"http/1.1"[..]][..], Some(&b"http/1.1"[..])),
        (&[b"http/1.1", b"h2"], Some(b"h2")),
        (&[b"stead-client/1"], Some(b"stead-client/1")),
        (&[], None),
    ] {
        let client = ordinary_client(&group, offered);
        let (mut near, mut far) = meet(&client, &config, "localhost").await.unwrap();
        assert_eq!(far.get_ref().1.alpn_protocol(), agreed);
        far.write_all(b"hello").await.unwrap();
        far.flush().await.unwrap();
        let mut read = [0; 5];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        // Whoever pins the fingerprint finds the authority behind the leaf.
        let chain = near.get_ref().1.peer_certificates().unwrap();
        assert_eq!(chain.last(), Some(group.authority.certificate()));
    }
    let client = ordinary_client(&group, &[b"imap"]);
    assert!(meet_refused(&client, &config).await);
    let client = ordinary_client(&group, &[]);
    let error = meet(&client, &config, "elsewhere.example.net")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
        ),
        "{error:?}"
    );
    let client = ordinary_client(&Group::new(2), &[]);
    let error = meet(&client, &config, "localhost").await.unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
}

async fn meet_refused(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> bool {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::clone(client)).connect(name, near);
    let accepting = TlsAcceptor::from(Arc::clone(server)).accept(far);
    let (near, far) = tokio::join!(connecting, accepting);
    near.is_err() && far.is_err()
}

#[tokio::test]
async fn the_client_ports_certificate_is_renewed_while_running_and_nothing_is_resumed() {
    let group = Group::new(1);
    let port =
        ClientPortTls::new(&group.trust(server_id(1)), &TlsBasis::default(), &[b"h2"]).unwrap();
    let config = port.config();
    let client = ordinary_client(&group, &[b"h2"]);
    let shown = async || {
        let (mut near, mut far) = meet(&client, &config, "localhost").await.unwrap();
        // A ticket would have come by now.
        far.write_all(b"x").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut [0]).await.unwrap();
        let tls = near.get_ref().1;
        assert_eq!(tls.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(tls.tls13_tickets_received(), 0);
        tls.peer_certificates().unwrap()[0].clone()
    };
    let first = shown().await;
    assert_eq!(shown().await, first);
    let renewed = group.trust(server_id(1));
    port.renew(&renewed).unwrap();
    assert_eq!(shown().await, renewed.client.certificate);
    // What cannot be used changes nothing.
    let mut broken = group.trust(server_id(1));
    broken.client.key = PrivateKey::make().unwrap();
    assert!(matches!(port.renew(&broken), Err(TlsError::Credential(_))));
    assert_eq!(shown().await, renewed.client.certificate);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let group = Group::new(1);
    let long_ago = UnixMillis(now().0 - 91 * 24 * 3_600_000);
    let mut trust = group.trust(server_id(1));
    trust.client = group.credential_at(server_id(1), CertificateRole::Client, long_ago);
    let basis = TlsBasis::default().with_clock(Arc::new(StoppedClock(long_ago)));
    let config = ClientPortTls::new(&trust, &basis, &[]).unwrap().config();
    let error = meet(&ordinary_client(&group, &[]), &config, "localhost")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::InvalidCertificate(CertificateError::ExpiredContext { .. })
        ),
        "{error:?}"
    );
}

#[test]
fn trust_that_cannot_be_used_is_refused() {
    let group = Group::new(1);
    let build = |trust: &Trust| {
        let revocations = Arc::new(crate::verify::NoRevocations);
        PeerTls::new(
            group.id,
            server_id(1),
            trust,
            revocations,
            TlsBasis::default(),
        )
    };
    let good = group.trust(server_id(1));
    build(&good).unwrap();
    let mut nobody = good.clone();
    nobody.authorities.clear();
    assert!(matches!(build(&nobody), Err(TlsError::Verifier(_))));
    let mut mixed = good.clone();
    mixed.peer.key = PrivateKey::make().unwrap();
    assert!(matches!(build(&mixed), Err(TlsError::Credential(_))));
    let mut damaged = good;
    damaged.authorities = vec![CertificateDer::from(vec![0x30; 10])];
    assert!(matches!(build(&damaged), Err(TlsError::Authority(_))));
}

fn suite_of(met: &Met) -> String {
    let suite = met.0.get_ref().1.negotiated_cipher_suite();
    suite_name(suite.expect("a handshake that is over"))
}

#[tokio::test]
async fn the_suites_that_are_wanted_are_spoken_and_no_others() {
    let group = Group::new(1);
    let trust = group.trust(server_id(1));
    let basis = TlsBasis::default();
    let port = ClientPortTls::new(&trust, &basis, &[b"h2"]).unwrap();
    let client = ordinary_client(&group, &[]);
    let supported = supported_suites();
    assert_eq!(supported.len(), 3);
    for suite in &supported {
        let narrow = basis.clone().with_suites(std::slice::from_ref(suite));
        port.set_basis(&narrow.unwrap()).unwrap();
        let met = meet(&client, &port.config(), "localhost").await.unwrap();
        assert_eq!(suite_of(&met), *suite);
    }
    let unknown = vec!["TLS_RSA_WITH_RC4_128_MD5".to_owned()];
    let refused = basis.clone().with_suites(&unknown);
    assert!(matches!(refused, Err(TlsError::Suites { .. })));
    // What is wanted and not known is left out where something else is.
    let mixed = [unknown, supported].concat();
    assert!(basis.with_suites(&mixed).is_ok());
}

#[tokio::test]
async fn servers_with_no_suite_in_common_do_not_meet() {
    let group = Group::new(1);
    let (one, other) = (group.server(1), group.server(2));
    let narrow = |server: &crate::kit::Server, number: u8, suite: &str| {
        let tls = &server.endpoint.tls;
        let basis = tls.basis().with_suites(&[suite.to_owned()]).unwrap();
        tls.renew_on(&group.trust(server_id(number)), basis)
            .unwrap();
    };
    let aes = "TLS_AES_128_GCM_SHA256";
    narrow(&one, 1, aes);
    let met = |one: &crate::kit::Server, other: &crate::kit::Server| {
        let client = one.endpoint.tls.towards(server_id(2)).unwrap();
        let server = other.endpoint.tls.for_members();
        async move { meet(&client, &server, "localhost").await }
    };
    assert_eq!(suite_of(&met(&one, &other).await.unwrap()), aes);
    narrow(&other, 2, "TLS_CHACHA20_POLY1305_SHA256");
    assert!(met(&one, &other).await.is_err());
    narrow(&one, 1, "TLS_CHACHA20_POLY1305_SHA256");
    assert!(met(&one, &other).await.is_ok());
}
