//! What may be an operator's certificate, and who is shown it.

use super::*;
use crate::identity::CertificateRole;
use crate::kit::{Group, now, server_id};
use crate::tls::{ClientPortTls, TlsBasis};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::UnixTime;
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::collections::BTreeMap;

const NAME: &str = "portal.example.org";

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).unwrap()
}

/// A certificate that its own key signed, and the key.
fn made(params: &CertificateParams, key: &KeyPair) -> (String, String) {
    let certificate = params.self_signed(key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn read(chain: &str, key: &str) -> Result<OperatorCertificate, OperatorError> {
    OperatorCertificate::read(chain.as_bytes(), key.as_bytes(), NAME, now())
}

fn of(params: CertificateParams) -> Result<OperatorCertificate, OperatorError> {
    let (chain, key) = made(&params, &KeyPair::generate().unwrap());
    read(&chain, &key)
}

#[test]
fn what_browsers_can_be_shown_is_taken() {
    let wild = of(params(&["*.example.org"])).unwrap();
    let own = of(params(&["other.example.org", NAME])).unwrap();
    assert_ne!(wild.fingerprint, own.fingerprint);
    assert!(own.expires > now());
    for kind in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
        let (chain, key) = made(&params(&[NAME]), &KeyPair::generate_for(kind).unwrap());
        let taken = read(&chain, &key).unwrap();
        let ders = taken.chain.iter().map(|der| der.to_vec()).collect();
        assert!(showable(ders, &taken.key).is_ok());
        assert!(!format!("{taken:?}").contains(&format!("{:?}", &taken.key[..4])));
    }
}

#[test]
fn a_chain_has_the_certificate_first() {
    let mut authority = params(&[]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = params(&[NAME]);
    leaf.distinguished_name
        .push(rcgen::DnType::CommonName, "portal");
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let (leaf, signer, key) = (leaf.pem(), authority.pem(), key.serialize_pem());
    assert_eq!(
        read(&(leaf.clone() + &signer), &key).unwrap().chain.len(),
        2
    );
    let turned = read(&(signer + &leaf), &key);
    assert!(
        matches!(turned, Err(OperatorError::Order { place: 1 })),
        "{turned:?}"
    );
    let many = leaf.repeat(11);
    assert!(matches!(read(&many, &key), Err(OperatorError::TooMany)));
}

#[test]
fn names_times_and_uses_must_fit() {
    let other = of(params(&["portal.example.com"]));
    let Err(OperatorError::OtherName { names, .. }) = other else {
        panic!("{other:?}");
    };
    assert_eq!(names, "portal.example.com");
    assert!(matches!(
        of(params(&["10.0.0.1"])),
        Err(OperatorError::OtherName { .. })
    ));
    let mut expired = params(&[NAME]);
    expired.not_after = rcgen::date_time_ymd(2024, 1, 1);
    assert!(matches!(of(expired), Err(OperatorError::Expired { .. })));
    let mut early = params(&[NAME]);
    early.not_before = rcgen::date_time_ymd(4000, 1, 1);
    assert!(matches!(of(early), Err(OperatorError::Early { .. })));
    let mut clients = params(&[NAME]);
    clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert!(matches!(of(clients.clone()), Err(OperatorError::Usage)));
    clients
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ServerAuth);
    assert!(of(clients).is_ok());
    let (chain, key) = made(&params(&[NAME]), &KeyPair::generate().unwrap());
    for name in ["10.0.0.1", "a b", ""] {
        let read = OperatorCertificate::read(chain.as_bytes(), key.as_bytes(), name, now());
        assert!(matches!(read, Err(OperatorError::Name { .. })), "{name:?}");
    }
}

#[test]
fn the_key_must_belong_to_it_and_be_open() {
    let (chain, key) = made(&params(&[NAME]), &KeyPair::generate().unwrap());
    let (_, other) = made(&params(&[NAME]), &KeyPair::generate().unwrap());
    assert!(matches!(read(&chain, &other), Err(OperatorError::Key(_))));
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(matches!(
        read(&chain, &encrypted),
        Err(OperatorError::Encrypted)
    ));
    assert!(matches!(
        read(&chain, &chain),
        Err(OperatorError::Pem { what: "key", .. })
    ));
    assert!(matches!(
        read(&key, &key),
        Err(OperatorError::NoCertificate)
    ));
    assert!(matches!(read("", ""), Err(OperatorError::NoCertificate)));
    let long = "x".repeat(PEM_LIMIT + 1);
    assert!(matches!(
        read(&long, &key),
        Err(OperatorError::TooLong { .. })
    ));
    let damaged = chain.replace('A', "B");
    assert!(read(&damaged, &key).is_err());
}

#[test]
fn certificates_of_a_group_stay_in_their_place() {
    let group = Group::new(1);
    for role in [CertificateRole::Client, CertificateRole::Peer] {
        let credential = group.credential(server_id(1), role);
        let pem = |label: &str, der: &[u8]| {
            let text = data_encoding::BASE64.encode(der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        let chain = pem("CERTIFICATE", &credential.certificate);
        let key = pem("PRIVATE KEY", credential.key.pkcs8());
        let refused = read(&chain, &key);
        assert!(
            matches!(refused, Err(OperatorError::OfAGroup)),
            "{refused:?}"
        );
    }
}

/// Takes whoever answers: it is looked at afterwards what he showed.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Which certificate a client is shown that asks for a name and speaks these protocols.
async fn shown_to(port: &ClientPortTls, name: &str, alpn: &[&[u8]]) -> Vec<u8> {
    let config = port.config();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    client.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let both = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    let client = both.0.unwrap();
    let chain = client.get_ref().1.peer_certificates().unwrap();
    chain.first().unwrap().to_vec()
}

#[tokio::test]
async fn browsers_that_ask_for_the_name_are_shown_it_and_nobody_else() {
    let group = Group::new(1);
    let trust = group.trust(server_id(1));
    let port =
        ClientPortTls::new(&trust, &TlsBasis::default(), &[wire::client::ALPN, b"h2"]).unwrap();
    let own = trust.client.certificate.to_vec();
    let taken = of(params(&[NAME])).unwrap();
    let its = taken.chain.first().unwrap().to_vec();
    let ready = showable(vec![its.clone()], &taken.key).unwrap();
    port.show_for_names([(NAME.to_owned(), ready)].into());
    for (name, alpn, expected) in [
        (NAME, &[&b"h2"[..]][..], &its),
        ("PORTAL.example.org", &[], &its),
        ("other.example.org", &[b"h2"], &own),
        ("127.0.0.1", &[b"h2"], &own),
        (NAME, &[wire::client::ALPN], &own),
        (NAME, &[b"h2", wire::client::ALPN], &own),
    ] {
        assert_eq!(
            &shown_to(&port, name, alpn).await,
            expected,
            "{name} {alpn:?}"
        );
    }
    port.show_for_names(BTreeMap::new());
    assert_eq!(shown_to(&port, NAME, &[b"h2"]).await, own);
}
