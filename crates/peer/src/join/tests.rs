//! Whole joins over loopback, and everything that must not pass for one.

use super::*;
use crate::admit::{Admission, probe};
use crate::authority::Validity;
use crate::dial::dial;
use crate::hello::Acquaintance;
use crate::identity::CertificateRole;
use crate::key::RequestedKey;
use crate::kit::{Group, NobodyJoins, PATIENCE, Port, Server, now, server_id};
use crate::listener::ListenerLimits;
use crate::tls::PeerTls;
use crate::verify::{CertificateRefusal, NoRevocations};
use model::{
    ChangeName, FormationId, FormationRef, GroupId, GroupName, InvitationId, ServerName, Standing,
};
use std::net::SocketAddr;
use std::sync::Mutex;
use wire::hello::Purpose;

const SECRET: [u8; 16] = [42; 16];
const INVITATION: InvitationId = InvitationId::from_bytes([8; 8]);

type Tamper = Box<dyn Fn(&mut JoinGrant) + Send + Sync>;

/// A member that admits whoever proves the secret and reaches everybody.
struct Gatekeeper {
    group: Arc<Group>,
    members: Mutex<Vec<Member>>,
    tamper: Tamper,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

impl Gatekeeper {
    fn of(group: &Arc<Group>) -> Self {
        Self {
            group: Arc::clone(group),
            members: Mutex::default(),
            tamper: Box::new(|_| {}),
            calls: Arc::default(),
        }
    }

    fn called(&self, what: &'static str) {
        self.calls.lock().unwrap().push(what);
    }

    fn grant(&self, request: &JoinRequest) -> JoinGrant {
        let key = |der: &[u8]| RequestedKey::from_request(der).unwrap();
        let (authority, group) = (&self.group.authority, self.group.id);
        let peer = request.peer_address.parse().unwrap();
        let client: crate::address::Address = request.client_address.parse().unwrap();
        let peer_key = key(&request.peer_request);
        let client_key = key(&request.client_request);
        let peer = authority.issue_peer(
            &peer_key,
            group,
            request.server,
            &peer,
            Validity::ordinary(now()),
        );
        let client = authority.issue_client(
            &client_key,
            group,
            request.server,
            &[client.host],
            Validity::ordinary(now()),
        );
        let formation = FormationRef {
            id: FormationId::default(),
            number: 1,
            fork_point: 0,
        };
        JoinGrant {
            proof: [0; 32],
            group,
            group_name: GroupName::new("office").unwrap(),
            authorities: vec![authority.certificate().to_vec()],
            peer_certificate: peer.unwrap().certificate.to_vec(),
            client_certificate: client.unwrap().certificate.to_vec(),
            group_secret: **self.group.secret.as_bytes(),
            seal_key: Some(**self.group.seal.as_bytes()),
            standing: Standing::Voter,
            members: self.members.lock().unwrap().clone(),
            formation,
            admitted: ChangeName {
                formation: formation.id,
                number: 7,
            },
        }
    }
}

impl Admission for Gatekeeper {
    async fn invitation(&self, id: InvitationId) -> Result<Zeroizing<[u8; 16]>, JoinRefusal> {
        self.called("invitation");
        if id == INVITATION {
            Ok(Zeroizing::new(SECRET))
        } else {
            Err(JoinRefusal::UnknownCode)
        }
    }

    async fn examine(
        &self,
        request: &JoinRequest,
        _from: SocketAddr,
    ) -> Result<Vec<Member>, JoinRefusal> {
        self.called("examine");
        let key = Fingerprint::from_bytes(request.probe_key);
        let address = &request.peer_address;
        probe(&TlsBasis::default(), address, key, PATIENCE)
            .await
            .map_err(|error| {
                let (member, address) = ("one".to_owned(), address.clone());
                JoinRefusal::Unreachable {
                    member,
                    address,
                    why: error.to_string(),
                }
            })?;
        Ok(self.members.lock().unwrap().clone())
    }

    async fn admit(
        &self,
        request: JoinRequest,
        unreached: Vec<Unreached>,
    ) -> Result<JoinGrant, JoinRefusal> {
        self.called("admit");
        if let Some(Unreached { server, why }) = unreached.into_iter().next() {
            let (member, address) = (server.to_string(), String::new());
            return Err(JoinRefusal::CannotReach {
                member,
                address,
                why,
            });
        }
        let mut grant = self.grant(&request);
        (self.tamper)(&mut grant);
        Ok(grant)
    }
}

/// A group of one with an open invitation, and a server that wants to join.
struct Scene {
    group: Arc<Group>,
    member: Server,
    port: Port,
    code: JoinCode,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

impl Scene {
    async fn new() -> Self {
        let group = Arc::new(Group::new(1));
        let gatekeeper = Gatekeeper::of(&group);
        Self::with(group, gatekeeper).await
    }

    async fn with(group: Arc<Group>, gatekeeper: Gatekeeper) -> Self {
        let member = group.server(1);
        let calls = Arc::clone(&gatekeeper.calls);
        let limits = ListenerLimits::default();
        let port = Port::open_at("127.0.0.1:0", &member, limits, gatekeeper).await;
        let code = JoinCode {
            addresses: vec![port.address.to_string()],
            authority: *group.authority.fingerprint().as_bytes(),
            invitation: INVITATION,
            secret: SECRET,
            standing: Standing::Voter,
            expires: now(),
        };
        Self {
            group,
            member,
            port,
            code,
            calls,
        }
    }

    async fn join(&self) -> Result<Joined, JoinError> {
        self.join_with(&self.code).await
    }

    async fn join_with(&self, code: &JoinCode) -> Result<Joined, JoinError> {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let applicant = applicant(2, &port);
        join(code, &applicant, &[port], &TlsBasis::default()).await
    }

    fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }
}

fn applicant(number: u8, port: &TcpListener) -> Applicant {
    Applicant {
        server: server_id(number),
        incarnation: IncarnationId::default(),
        name: ServerName::new("two").unwrap(),
        peer_address: port.local_addr().unwrap().to_string(),
        client_address: "127.0.0.1:5443".to_owned(),
        version: "0.1.0".to_owned(),
        feature_level: 1,
        clock: now(),
        standalone: true,
        live_sessions: 0,
    }
}

#[tokio::test]
async fn a_server_that_joined_is_a_member_among_members() {
    let mut scene = Scene::new().await;
    let Joined { grant, trust } = scene.join().await.unwrap();
    assert_eq!(scene.calls(), ["invitation", "examine", "admit"]);
    assert_eq!(
        (grant.group, grant.standing),
        (scene.group.id, Standing::Voter)
    );
    assert_eq!(
        trust.fingerprint(),
        Some(scene.group.authority.fingerprint())
    );
    assert_eq!(
        trust.seals.iter().next().unwrap().as_bytes(),
        scene.group.seal.as_bytes()
    );
    // What it got is enough to talk to the member as a peer.
    let data = tempfile::tempdir().unwrap();
    let store = crate::trust_store::TrustStore::of(data.path());
    store.replace(&trust).unwrap();
    let loaded = store.load().unwrap();
    let two = scene.group.server(2);
    let tls = PeerTls::new(
        grant.group,
        two.id,
        &loaded,
        Arc::new(NoRevocations),
        TlsBasis::default(),
    );
    let endpoint = crate::hello::Endpoint {
        tls: Arc::new(tls.unwrap()),
        ..two.endpoint
    };
    let address = scene.port.address.to_string();
    let dialled = dial(
        &endpoint,
        scene.member.id,
        &address,
        Purpose::Control,
        PATIENCE,
    );
    assert_eq!(dialled.await.unwrap().0.acquaintance, Acquaintance::Member);
    assert_eq!(scene.port.arrival().await.met.introduction.server, two.id);
}

#[tokio::test]
async fn a_member_with_another_authority_is_told_nothing() {
    let scene = Scene::new().await;
    let other = Group::new(2);
    let mut code = scene.code.clone();
    code.authority = *other.authority.fingerprint().as_bytes();
    let error = scene.join_with(&code).await.unwrap_err();
    let JoinError::Unreachable(error) = error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(
            *error,
            DialError::Certificate {
                refusal: CertificateRefusal::OtherAuthority { .. },
                ..
            }
        ),
        "{error:?}"
    );
    // Somebody who puts the pinned authority's certificate behind a leaf of its own authority.
    let mut trust = other.trust(server_id(1));
    trust
        .authorities
        .push(scene.group.authority.certificate().clone());
    let impostor = other.server_with(1, &trust, Arc::new(NoRevocations), TlsBasis::default());
    let port = Port::open(&impostor, ListenerLimits::default()).await;
    let code = JoinCode {
        addresses: vec![port.address.to_string()],
        ..scene.code.clone()
    };
    let error = scene.join_with(&code).await.unwrap_err();
    let JoinError::Unreachable(error) = error else {
        panic!("{error:?}")
    };
    assert!(matches!(*error, DialError::Tls { .. }), "{error:?}");
    assert!(scene.calls().is_empty());
}

#[tokio::test]
async fn a_client_certificate_does_not_pass_for_a_members() {
    let scene = Scene::new().await;
    let mut trust = scene.group.trust(server_id(1));
    trust.peer = trust.client.clone();
    let group = &scene.group;
    let impostor = group.server_with(1, &trust, Arc::new(NoRevocations), TlsBasis::default());
    let port = Port::open(&impostor, ListenerLimits::default()).await;
    let code = JoinCode {
        addresses: vec![port.address.to_string()],
        ..scene.code.clone()
    };
    let error = scene.join_with(&code).await.unwrap_err();
    let JoinError::Unreachable(error) = error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(
            *error,
            DialError::Certificate {
                refusal: CertificateRefusal::OtherRole { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn only_whoever_proves_the_secret_is_examined() {
    let scene = Scene::new().await;
    let wrong = JoinCode {
        secret: [1; 16],
        ..scene.code.clone()
    };
    let error = scene.join_with(&wrong).await.unwrap_err();
    assert!(
        matches!(error, JoinError::Refused(JoinRefusal::Proof)),
        "{error:?}"
    );
    let unknown = JoinCode {
        invitation: InvitationId::default(),
        ..scene.code.clone()
    };
    let error = scene.join_with(&unknown).await.unwrap_err();
    assert!(
        matches!(error, JoinError::Refused(JoinRefusal::UnknownCode)),
        "{error:?}"
    );
    assert_eq!(scene.calls(), ["invitation", "invitation"]);
}

#[tokio::test]
async fn a_member_that_does_not_know_the_secret_is_not_believed() {
    // It has a certificate of the group, but does not know what the code's maker knows.
    let group = Arc::new(Group::new(1));
    let member = group.server(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scene = Scene::with(Arc::clone(&group), Gatekeeper::of(&group)).await;
    let address = listener.local_addr().unwrap().to_string();
    let code = JoinCode {
        addresses: vec![address],
        ..scene.code.clone()
    };
    for granting in [false, true] {
        let config = member.endpoint.tls.for_joining();
        let swindle = async {
            let socket = Socket::new(listener.accept().await.unwrap().0).unwrap();
            let mut stream = TlsAcceptor::from(config).accept(socket).await.unwrap();
            let request: JoinRequest = receive(&mut stream, 1 << 20).await.unwrap();
            // The new server's own proof is all that there is to offer.
            let proof = request.proof;
            let answer = if granting {
                let grant = Gatekeeper::of(&group).grant(&request);
                JoinAnswer::Granted(Box::new(JoinGrant { proof, ..grant }))
            } else {
                JoinAnswer::Reach {
                    proof,
                    members: Vec::new(),
                }
            };
            send(&mut stream, &answer).await.unwrap();
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
        };
        let (outcome, ()) = tokio::join!(scene.join_with(&code), swindle);
        assert!(matches!(outcome, Err(JoinError::Unproved)), "{outcome:?}");
    }
}

#[tokio::test]
async fn reachability_is_checked_both_ways() {
    // A member that is not there, one that is somebody else, and one that is fine.
    let group = Arc::new(Group::new(1));
    let fine = Port::open(&group.server(3), ListenerLimits::default()).await;
    let other = Port::open(&group.server(4), ListenerLimits::default()).await;
    let gone = Port::open(&group.server(5), ListenerLimits::default()).await;
    let gone_address = gone.address;
    gone.close().await;
    let member = |number, address: SocketAddr| Member {
        server: server_id(number),
        name: ServerName::new("x").unwrap(),
        peer_address: address.to_string(),
    };
    for (members, unreached) in [
        (vec![member(3, fine.address)], None),
        (
            vec![member(3, fine.address), member(5, gone_address)],
            Some(server_id(5)),
        ),
        (
            vec![member(9, other.address), member(3, fine.address)],
            Some(server_id(9)),
        ),
    ] {
        let gatekeeper = Gatekeeper::of(&group);
        *gatekeeper.members.lock().unwrap() = members;
        let scene = Scene::with(Arc::clone(&group), gatekeeper).await;
        match (scene.join().await, unreached) {
            (Ok(_), None) => {}
            (Err(JoinError::Refused(JoinRefusal::CannotReach { member, .. })), Some(server)) => {
                assert_eq!(member, server.to_string());
            }
            (outcome, _) => panic!("{outcome:?}"),
        }
    }
    // The other way: nobody answers at the address that the new server named.
    let scene = Scene::with(Arc::clone(&group), Gatekeeper::of(&group)).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lost = Applicant {
        peer_address: gone_address.to_string(),
        ..applicant(2, &port)
    };
    let error = join(
        &scene.code,
        &lost,
        std::slice::from_ref(&port),
        &TlsBasis::default(),
    )
    .await
    .unwrap_err();
    assert!(
        matches!(error, JoinError::Refused(JoinRefusal::Unreachable { .. })),
        "{error:?}"
    );
    // Or somebody else does.
    let lost = Applicant {
        peer_address: other.address.to_string(),
        ..applicant(2, &port)
    };
    let error = join(
        &scene.code,
        &lost,
        std::slice::from_ref(&port),
        &TlsBasis::default(),
    )
    .await
    .unwrap_err();
    let JoinError::Refused(JoinRefusal::Unreachable { why, .. }) = &error else {
        panic!("{error:?}")
    };
    assert!(why.contains("key"), "{why}");
}

#[tokio::test]
async fn what_is_granted_must_fit() {
    let other = Group::new(1);
    let foreign_authority = other.authority.certificate().to_vec();
    let foreign_peer = other
        .credential(server_id(2), CertificateRole::Peer)
        .certificate
        .to_vec();
    let own = Arc::new(Group::new(1));
    let anothers = own
        .credential(server_id(3), CertificateRole::Peer)
        .certificate
        .to_vec();
    let other_key = own
        .credential(server_id(2), CertificateRole::Peer)
        .certificate
        .to_vec();
    let cases: Vec<(&str, Tamper)> = vec![
        (
            "authority",
            Box::new(move |grant| grant.authorities = vec![foreign_authority.clone()]),
        ),
        (
            "does not verify",
            Box::new(move |it| it.peer_certificate.clone_from(&foreign_peer)),
        ),
        (
            "is not this server's",
            Box::new(move |it| it.peer_certificate.clone_from(&anothers)),
        ),
        (
            "is not this server's",
            Box::new(move |it| it.peer_certificate.clone_from(&other_key)),
        ),
        (
            "is not this server's",
            Box::new(|it| it.peer_certificate = it.client_certificate.clone()),
        ),
        (
            "is not this server's",
            Box::new(|it| it.client_certificate = it.peer_certificate.clone()),
        ),
        (
            "is not this server's",
            Box::new(|it| it.group = GroupId::default()),
        ),
        (
            "cannot be read",
            Box::new(|it| it.client_certificate.truncate(100)),
        ),
    ];
    for (expected, tamper) in cases {
        let gatekeeper = Gatekeeper {
            tamper,
            ..Gatekeeper::of(&own)
        };
        let scene = Scene::with(Arc::clone(&own), gatekeeper).await;
        let error = scene.join().await.unwrap_err();
        let JoinError::Grant(error) = error else {
            panic!("{error:?}")
        };
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let mut scene = Scene::new().await;
    let gone = Port::open(&scene.member, ListenerLimits::default()).await;
    let gone_address = gone.address.to_string();
    gone.close().await;
    scene.code.addresses.insert(0, gone_address);
    scene.code.addresses.insert(0, "no address".to_owned());
    scene.join().await.unwrap();
    let code = JoinCode {
        addresses: Vec::new(),
        ..scene.code.clone()
    };
    assert!(matches!(
        scene.join_with(&code).await,
        Err(JoinError::NoAddress)
    ));
}

#[tokio::test]
async fn joining_does_not_count_as_being_a_member() {
    // A port that lets nobody join answers with the reason.
    let group = Arc::new(Group::new(1));
    let scene = Scene::with(Arc::clone(&group), Gatekeeper::of(&group)).await;
    let limits = ListenerLimits::default();
    let closed = Port::open_at("127.0.0.1:0", &scene.member, limits, NobodyJoins).await;
    let code = JoinCode {
        addresses: vec![closed.address.to_string()],
        ..scene.code.clone()
    };
    let error = scene.join_with(&code).await.unwrap_err();
    assert!(
        matches!(error, JoinError::Refused(JoinRefusal::UnknownCode)),
        "{error:?}"
    );
}
