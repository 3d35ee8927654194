//! Who is let in and who is not, over real TLS on loopback.

mod authorities;

use super::*;
use crate::dial::{DialError, PeerStream, dial};
use crate::identity::{CertificateFacts, CertificateRole};
use crate::kit::{Group, PATIENCE, Port, Server, StoppedClock, introduction, now, server_id};
use crate::listener::ListenerLimits;
use crate::socket::Socket;
use crate::tls::TlsBasis;
use crate::trust_store::Trust;
use crate::verify::{CertificateRefusal, NoRevocations, Revocations};
use model::{FormationId, FormationRef, UnixMillis};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wire::hello::HelloAnswer;

async fn dial_to(from: &Server, to: ServerId, port: &Port) -> Result<(Met, PeerStream), DialError> {
    dial_for(from, to, port, Purpose::Control).await
}

async fn dial_for(
    from: &Server,
    to: ServerId,
    port: &Port,
    purpose: Purpose,
) -> Result<(Met, PeerStream), DialError> {
    dial(
        &from.endpoint,
        to,
        &port.address.to_string(),
        purpose,
        PATIENCE,
    )
    .await
}

/// TLS without a hello, as somebody would open it who has a certificate and nothing else.
async fn tls_only(config: Arc<ClientConfig>, port: &Port) -> io::Result<PeerStream> {
    let socket = Socket::new(TcpStream::connect(port.address).await?)?;
    let name = rustls::pki_types::ServerName::from(port.address.ip());
    Ok(TlsConnector::from(config)
        .connect(name, socket)
        .await?
        .into())
}

/// Sends a hello as it is and gives the answer.
async fn say(stream: &mut PeerStream, hello: &Hello) -> HelloAnswer {
    send(stream, hello).await.unwrap();
    receive(stream, HELLO_LIMIT).await.unwrap()
}

#[tokio::test]
async fn members_meet_and_learn_of_each_other() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    for purpose in [Purpose::Consensus, Purpose::Control, Purpose::Stream] {
        let (met, mut near) = dial_for(&one, two.id, &port, purpose).await.unwrap();
        assert_eq!(met.introduction, two.outlook.introduction());
        assert_eq!((met.purpose, met.proved), (purpose, Proved::Current));
        let mut arrival = port.arrival().await;
        assert_eq!(arrival.met.introduction, one.outlook.introduction());
        assert_eq!(arrival.met.acquaintance, Acquaintance::Member);
        assert_eq!(arrival.met.purpose, purpose);
        near.write_all(b"bytes").await.unwrap();
        near.flush().await.unwrap();
        arrival.move_here().unwrap();
        let mut read = [0; 5];
        arrival.stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"bytes");
    }
}

#[tokio::test]
async fn a_server_of_another_group_is_refused_both_ways() {
    let (group, other) = (Group::new(1), Group::new(2));
    let (one, two) = (group.server(1), other.server(2));
    let port = Port::open(&two, ListenerLimits::default()).await;
    let error = dial_to(&one, two.id, &port).await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
    // One that trusts the other authority, but has only its own certificate.
    let mut trust = group.trust(one.id);
    trust.authorities = vec![other.authority.certificate().clone()];
    let spy = other.server_with(1, &trust, Arc::new(NoRevocations), TlsBasis::default());
    let error = dial_to(&spy, two.id, &port).await.unwrap_err();
    assert!(
        matches!(error, DialError::Tls { .. } | DialError::Hello { .. }),
        "{error:?}"
    );
    assert!(error.refusal().is_none(), "it was heard: {error:?}");
}

#[tokio::test]
async fn one_authority_with_two_groups_keeps_them_apart() {
    let group = Group::new(1);
    let mut other = Group::new(2);
    other.authority = group.authority.clone();
    other.secret = group.secret.clone();
    let (one, two) = (group.server(1), other.server(2));
    let port = Port::open(&two, ListenerLimits::default()).await;
    let error = dial_to(&one, two.id, &port).await.unwrap_err();
    assert!(
        matches!(
            error,
            DialError::Certificate {
                refusal: CertificateRefusal::OtherGroup { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_leaked_certificate_without_the_secret_opens_nothing() {
    let group = Group::new(1);
    let two = group.server(2);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let mut leaked = group.trust(server_id(1));
    leaked.secrets = GroupSecrets::only(Secret::make().unwrap());
    let thief = group.server_with(1, &leaked, Arc::new(NoRevocations), TlsBasis::default());
    let error = dial_to(&thief, two.id, &port).await.unwrap_err();
    assert!(
        matches!(
            error,
            DialError::Hello {
                source: HelloError::RefusedThere(HelloRefusal::Proof),
                ..
            }
        ),
        "{error:?}"
    );
    // Nor does it fool a member that dials.
    let one = group.server(1);
    let mut leaked = group.trust(server_id(2));
    leaked.secrets = GroupSecrets::only(Secret::make().unwrap());
    let thief = group.server_with(2, &leaked, Arc::new(NoRevocations), TlsBasis::default());
    let port = Port::open(&thief, ListenerLimits::default()).await;
    let error = dial_to(&one, thief.id, &port).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Proof), "{error:?}");
}

#[tokio::test]
async fn an_expired_certificate_gives_another_one_and_nothing_else() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let group = Group::new(1);
    let two = group.server(2);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let expired_for = |days: u64| {
        let made = UnixMillis(now().0 - (90 + days) * DAY_MS);
        let mut trust = group.trust(server_id(1));
        trust.peer = group.credential_at(server_id(1), CertificateRole::Peer, made);
        group.server_with(1, &trust, Arc::new(NoRevocations), TlsBasis::default())
    };
    let asks = async |one: &Server, purpose| dial_for(one, two.id, &port, purpose).await;
    let one = expired_for(1);
    for purpose in [Purpose::Consensus, Purpose::Control, Purpose::Stream] {
        let error = asks(&one, purpose).await.unwrap_err();
        assert_eq!(error.refusal(), Some(&HelloRefusal::Expired), "{error:?}");
    }
    let (met, _) = asks(&one, Purpose::Credentials).await.unwrap();
    assert_eq!(met.introduction.server, two.id);
    // Without the secret it gives nothing, and after a year neither.
    let mut stolen = group.trust(server_id(1));
    stolen.peer = group.credential_at(
        server_id(1),
        CertificateRole::Peer,
        UnixMillis(now().0 - 91 * DAY_MS),
    );
    stolen.secrets = GroupSecrets::only(Secret::make().unwrap());
    let thief = group.server_with(1, &stolen, Arc::new(NoRevocations), TlsBasis::default());
    let error = asks(&thief, Purpose::Credentials).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Proof), "{error:?}");
    let error = asks(&expired_for(400), Purpose::Credentials)
        .await
        .unwrap_err();
    assert!(error.refusal().is_none(), "{error:?}");
    // A stranger to this member gets nothing either.
    two.outlook.knows(1, Acquaintance::Unknown);
    let error = asks(&one, Purpose::Credentials).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Unknown), "{error:?}");
}

#[tokio::test]
async fn what_is_out_of_date_is_known_where_it_is_shown() {
    let group = Group::new(1);
    let two = group.server(2);
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let mut trust = group.trust(server_id(1));
    let key = |trust: &Trust| CertificateFacts::read(&trust.peer.certificate).unwrap().key;
    let now_key = key(&trust);
    let mut shows = async |trust: &Trust, standing| {
        let one = group.server_with(1, trust, Arc::new(NoRevocations), TlsBasis::default());
        two.outlook.knows_key(one.id, key(trust), standing);
        let (_, stream) = dial_for(&one, two.id, &port, Purpose::Credentials)
            .await
            .unwrap();
        let met = port.arrival().await.met;
        drop(stream);
        (met.out_of_date, met.known_key)
    };
    assert_eq!(shows(&trust, KeyStanding::Newest).await, (false, true));
    assert_eq!(shows(&trust, KeyStanding::Unknown).await, (false, false));
    assert_eq!(shows(&trust, KeyStanding::Revoked).await, (true, false));
    let expired = UnixMillis(now().0 - 91 * 24 * 3_600_000);
    trust.peer = group.credential_at(server_id(1), CertificateRole::Peer, expired);
    assert_ne!(key(&trust), now_key);
    assert_eq!(shows(&trust, KeyStanding::Newest).await, (true, true));
}

#[tokio::test]
async fn a_proof_is_worth_nothing_on_another_connection_or_in_another_role() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let port = Port::open(&two, ListenerLimits::default()).await;
    let config = one.endpoint.tls.towards(two.id).unwrap();
    let hello_over = |stream: &PeerStream, role| {
        let binding = Binding::of(stream, &one.endpoint.tls).unwrap();
        let statement = Statement {
            binding: &binding,
            dialler: one.id,
            answerer: two.id,
            group: group.id,
        };
        let proof = statement.prove(&group.secret, role);
        let from = one.outlook.introduction();
        Hello {
            from,
            to: two.id,
            purpose: Purpose::Control,
            proof,
        }
    };
    let mut first = tls_only(config.clone(), &port).await.unwrap();
    let hello = hello_over(&first, Role::Dialler);
    assert!(matches!(
        say(&mut first, &hello).await,
        HelloAnswer::Welcome { .. }
    ));
    let mut second = tls_only(config.clone(), &port).await.unwrap();
    let refused = HelloAnswer::Refused(HelloRefusal::Proof);
    assert_eq!(say(&mut second, &hello).await, refused);
    let mut third = tls_only(config, &port).await.unwrap();
    let reflected = hello_over(&third, Role::Answerer);
    assert_eq!(say(&mut third, &reflected).await, refused);
}

#[tokio::test]
async fn a_reflected_hello_convinces_nobody() {
    // Somebody with a leaked certificate answers a member with the member's own proof.
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = two.endpoint.tls.for_members();
    let mirror = async {
        let socket = Socket::new(listener.accept().await.unwrap().0).unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(config)
            .accept(socket)
            .await
            .unwrap();
        let hello: Hello = receive(&mut stream, HELLO_LIMIT).await.unwrap();
        let from = introduction(group.id, two.id);
        send(
            &mut stream,
            &HelloAnswer::Welcome {
                from,
                proof: hello.proof,
            },
        )
        .await
        .unwrap();
        let _ = stream.read(&mut [0]).await;
    };
    let dialled = dial(&one.endpoint, two.id, &address, Purpose::Control, PATIENCE);
    let (outcome, ()) = tokio::join!(dialled, mirror);
    assert_eq!(outcome.unwrap_err().refusal(), Some(&HelloRefusal::Proof));
}

#[tokio::test]
async fn peer_and_client_certificates_are_refused_in_each_others_place() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let with_client = |number: u8| {
        let mut trust = group.trust(server_id(number));
        trust.peer = trust.client.clone();
        group.server_with(number, &trust, Arc::new(NoRevocations), TlsBasis::default())
    };
    let impostor = with_client(2);
    let port = Port::open(&impostor, ListenerLimits::default()).await;
    let error = dial_to(&one, impostor.id, &port).await.unwrap_err();
    let expected = CertificateRefusal::OtherRole {
        expected: CertificateRole::Peer,
        found: CertificateRole::Client,
    };
    assert!(
        matches!(&error, DialError::Certificate { refusal, .. } if *refusal == expected),
        "{error:?}"
    );
    let impostor = with_client(1);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let error = dial_to(&impostor, two.id, &port).await.unwrap_err();
    assert!(error.refusal().is_none(), "it was heard: {error:?}");
}

#[tokio::test]
async fn expired_certificates_are_refused_both_ways() {
    let group = Group::new(1);
    let long_ago = UnixMillis(now().0 - 91 * 24 * 3_600_000);
    let late = TlsBasis::default().with_clock(Arc::new(StoppedClock(long_ago)));
    let expired = |number: u8| {
        let id = server_id(number);
        let mut trust: Trust = group.trust(id);
        trust.peer = group.credential_at(id, CertificateRole::Peer, long_ago);
        group.server_with(number, &trust, Arc::new(NoRevocations), late.clone())
    };
    let (one, two) = (group.server(1), group.server(2));
    let port = Port::open(&expired(2), ListenerLimits::default()).await;
    let error = dial_to(&one, two.id, &port).await.unwrap_err();
    let DialError::Tls { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(source.to_string().contains("expired"), "{source}");
    let port = Port::open(&two, ListenerLimits::default()).await;
    // The dialler's clock is as old as its certificate: the authority is not valid yet there, so let it
    // have a clock of now and an old certificate.
    let id = server_id(1);
    let mut trust = group.trust(id);
    trust.peer = group.credential_at(id, CertificateRole::Peer, long_ago);
    let old = group.server_with(1, &trust, Arc::new(NoRevocations), TlsBasis::default());
    let error = dial_to(&old, two.id, &port).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Expired), "{error:?}");
}

struct Revoked(ServerId);

impl Revocations for Revoked {
    fn revoked(&self, certificate: &CertificateFacts) -> bool {
        certificate.name.server == self.0
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_owner_learns_why() {
    let group = Group::new(1);
    let (one, gone) = (group.server(1), group.server(2));
    let revoked = Arc::new(Revoked(gone.id));
    let watchful = group.server_with(1, &group.trust(one.id), revoked, TlsBasis::default());
    let port = Port::open(&watchful, ListenerLimits::default()).await;
    let error = dial_to(&gone, one.id, &port).await.unwrap_err();
    assert!(error.revoked(), "{error:?}");
    let port = Port::open(&gone, ListenerLimits::default()).await;
    let error = dial_to(&watchful, gone.id, &port).await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_removed_server_is_refused_even_with_the_old_secret() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    two.outlook.knows(1, Acquaintance::Removed);
    let mut renewed = group.trust(two.id);
    renewed.secrets.current = Secret::make().unwrap();
    two.endpoint.tls.renew(&renewed).unwrap();
    let port = Port::open(&two, ListenerLimits::default()).await;
    let error = dial_for(&one, two.id, &port, Purpose::Consensus)
        .await
        .unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Removed), "{error:?}");
}

#[tokio::test]
async fn an_unknown_server_may_bring_replication_only() {
    let group = Group::new(1);
    let (two, stranger) = (group.server(2), group.server(77));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    for purpose in [Purpose::Control, Purpose::Stream] {
        let error = dial_for(&stranger, two.id, &port, purpose)
            .await
            .unwrap_err();
        assert_eq!(error.refusal(), Some(&HelloRefusal::Unknown), "{error:?}");
    }
    dial_for(&stranger, two.id, &port, Purpose::Consensus)
        .await
        .unwrap();
    assert_eq!(port.arrival().await.met.acquaintance, Acquaintance::Unknown);
}

#[tokio::test]
async fn a_server_whose_removal_is_in_doubt_is_not_let_in_and_not_told_that_it_was_removed() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    two.outlook.knows(1, Acquaintance::Doubtful);
    let port = Port::open(&two, ListenerLimits::default()).await;
    for purpose in [Purpose::Consensus, Purpose::Control, Purpose::Stream] {
        let error = dial_for(&one, two.id, &port, purpose).await.unwrap_err();
        assert_eq!(error.refusal(), Some(&HelloRefusal::Unknown), "{error:?}");
        assert!(!error.revoked(), "{error:?}");
    }
}

#[tokio::test]
async fn the_wrong_server_at_an_address_is_noticed() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let port = Port::open(&two, ListenerLimits::default()).await;
    let error = dial_to(&one, server_id(3), &port).await.unwrap_err();
    let expected = CertificateRefusal::OtherServer {
        expected: server_id(3),
        found: two.id,
    };
    assert!(
        matches!(&error, DialError::Certificate { refusal, .. } if *refusal == expected),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_hello_that_does_not_fit_is_refused_with_the_reason() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let port = Port::open(&two, ListenerLimits::default()).await;
    let formation = FormationRef {
        id: FormationId::default(),
        number: 1,
        fork_point: 0,
    };
    let own = one.outlook.introduction();
    *two.outlook.feature_level.lock().unwrap() = 2;
    for (changed, refusal) in [
        (
            Introduction {
                protocol: 0,
                ..own.clone()
            },
            HelloRefusal::Protocol {
                offered: 0,
                spoken: PROTOCOL,
            },
        ),
        (
            Introduction {
                group: GroupId::default(),
                ..own.clone()
            },
            HelloRefusal::OtherGroup,
        ),
        (
            Introduction {
                server: server_id(3),
                ..own.clone()
            },
            HelloRefusal::Certificate,
        ),
        (
            Introduction {
                lineage: vec![formation; 65],
                ..own.clone()
            },
            HelloRefusal::Malformed,
        ),
        (
            own.clone(),
            HelloRefusal::FeatureLevel {
                offered: 1,
                needed: 2,
            },
        ),
    ] {
        *one.outlook.introduction.lock().unwrap() = changed;
        let error = dial_to(&one, two.id, &port).await.unwrap_err();
        assert_eq!(error.refusal(), Some(&refusal), "{error:?}");
    }
    let newer = Introduction {
        protocol: 2,
        feature_level: 2,
        lineage: vec![formation; 64],
        ..own
    };
    *one.outlook.introduction.lock().unwrap() = newer;
    *one.outlook.feature_level.lock().unwrap() = 1;
    assert_eq!(dial_to(&one, two.id, &port).await.unwrap().0.protocol, 1);
}

#[tokio::test]
async fn a_secret_rotates_without_a_refusal() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let with = |server: &Server, current: &Secret, previous: Option<&Secret>| {
        let mut trust = group.trust(server.id);
        trust.secrets = GroupSecrets {
            current: current.clone(),
            previous: previous.cloned(),
            old: Vec::new(),
        };
        server.endpoint.tls.renew(&trust).unwrap();
    };
    let (old, new) = (group.secret.clone(), Secret::make().unwrap());
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    // The listener is ahead.
    with(&two, &new, Some(&old));
    assert_eq!(
        dial_to(&one, two.id, &port).await.unwrap().0.proved,
        Proved::Current
    );
    assert_eq!(port.arrival().await.met.proved, Proved::Previous);
    // Both are.
    with(&one, &new, Some(&old));
    assert_eq!(
        dial_to(&one, two.id, &port).await.unwrap().0.proved,
        Proved::Current
    );
    assert_eq!(port.arrival().await.met.proved, Proved::Current);
    // The dialler is.
    with(&two, &old, None);
    assert_eq!(
        dial_to(&one, two.id, &port).await.unwrap().0.proved,
        Proved::Previous
    );
    assert_eq!(port.arrival().await.met.proved, Proved::Current);
    // The overlap is over.
    with(&one, &new, None);
    let error = dial_to(&one, two.id, &port).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Proof));
}

#[tokio::test]
async fn certificates_and_the_authority_are_renewed_while_running() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let mut port = Port::open(&two, ListenerLimits::default()).await;
    let shown = async |port: &Port| {
        let (_, stream) = dial_to(&one, two.id, port).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        (stream.get_ref().1.handshake_kind(), chain[0].clone())
    };
    let (_, first) = shown(&port).await;
    let mut open = port.arrival().await.stream;
    let trust = group.trust(two.id);
    two.endpoint.tls.renew(&trust).unwrap();
    let (kind, second) = shown(&port).await;
    assert_ne!(first, second);
    assert_eq!(second, trust.peer.certificate);
    assert_eq!(kind, Some(rustls::HandshakeKind::Full));
    // What was open stays open: its end comes from the dialler, which dropped it.
    assert_eq!(open.read(&mut [0]).await.unwrap_or(0), 0);
    // Another authority: both accept both, then one shows a certificate of the new one.
    let mut next = Group::new(1);
    next.secret = group.secret.clone();
    let both = vec![
        next.authority.certificate().clone(),
        group.authority.certificate().clone(),
    ];
    for server in [&one, &two] {
        let trust = Trust {
            authorities: both.clone(),
            ..group.trust(server.id)
        };
        server.endpoint.tls.renew(&trust).unwrap();
    }
    shown(&port).await;
    let trust = Trust {
        authorities: both,
        ..next.trust(two.id)
    };
    two.endpoint.tls.renew(&trust).unwrap();
    assert_eq!(shown(&port).await.1, trust.peer.certificate);
}

#[tokio::test]
async fn hostile_first_messages_end_the_connection() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let port = Port::open(&two, ListenerLimits::default()).await;
    let too_long = u32::try_from(HELLO_LIMIT + 1).unwrap().to_be_bytes();
    let mut random = vec![0; 1000];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let framed = [&1000_u32.to_be_bytes()[..], &random].concat();
    for bytes in [&too_long[..], &[0xff; 64], &[0, 0, 0, 0], &framed] {
        let config = one.endpoint.tls.towards(two.id).unwrap();
        let mut stream = tls_only(config, &port).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(answer.is_empty(), "{bytes:?} was answered with {answer:?}");
    }
}
