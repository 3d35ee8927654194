//! What this crate's tests have in common: groups with real authorities, servers of them, and conditions to
//! wait for.

use crate::admit::Admission;
use crate::authority::{Authority, Validity};
use crate::hello::{Acquaintance, Endpoint, KeyStanding, Outlook};
use crate::identity::CertificateRole;
use crate::key::{PrivateKey, RequestedKey};
use crate::listener::{Arrival, Listener, ListenerLimits, Reception};
use crate::seal::{SealKey, SealKeys};
use crate::secret::{GroupSecrets, Secret};
use crate::tls::{PeerTls, TlsBasis};
use crate::trust_store::{Credential, Trust};
use crate::verify::{NoRevocations, Revocations};
use model::{
    FormationId, FormationRef, GroupId, IncarnationId, InvitationId, KeyMark, ServerId, UnixMillis,
};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire::hello::{Introduction, PROTOCOL};
use wire::join::{JoinGrant, JoinRefusal, JoinRequest, Member, Unreached};
use zeroize::Zeroizing;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    UnixMillis(since.as_millis() as u64)
}

pub(crate) fn server_id(number: u8) -> ServerId {
    ServerId::from_bytes([number; 16])
}

/// A group with its authority.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) authority: Authority,
    pub(crate) secret: Secret,
    pub(crate) seal: SealKey,
}

impl Group {
    pub(crate) fn new(number: u8) -> Self {
        let id = GroupId::from_bytes([number; 16]);
        Self {
            id,
            authority: Authority::make(id, now()).unwrap(),
            secret: Secret::make().unwrap(),
            seal: SealKey::make().unwrap(),
        }
    }

    pub(crate) fn credential(&self, server: ServerId, role: CertificateRole) -> Credential {
        self.credential_at(server, role, now())
    }

    pub(crate) fn credential_at(
        &self,
        server: ServerId,
        role: CertificateRole,
        at: UnixMillis,
    ) -> Credential {
        let key = PrivateKey::make().unwrap();
        let request = RequestedKey::from_request(&key.certificate_request().unwrap()).unwrap();
        let address = "127.0.0.1:1".parse::<crate::address::Address>().unwrap();
        let issued = match role {
            CertificateRole::Peer => self.authority.issue_peer(
                &request,
                self.id,
                server,
                &address,
                Validity::ordinary(at),
            ),
            CertificateRole::Client => self.authority.issue_client(
                &request,
                self.id,
                server,
                &[address.host],
                Validity::ordinary(at),
            ),
        };
        Credential {
            certificate: issued.unwrap().certificate,
            key,
        }
    }

    pub(crate) fn trust(&self, server: ServerId) -> Trust {
        Trust {
            authorities: vec![self.authority.certificate().clone()],
            former: Vec::new(),
            links: Vec::new(),
            peer: self.credential(server, CertificateRole::Peer),
            client: self.credential(server, CertificateRole::Client),
            secrets: GroupSecrets::only(self.secret.clone()),
            seals: SealKeys::only(self.seal.clone()),
        }
    }

    /// A server of this group that takes servers 1 to 9 for members.
    pub(crate) fn server(&self, number: u8) -> Server {
        let id = server_id(number);
        self.server_with(
            number,
            &self.trust(id),
            Arc::new(NoRevocations),
            TlsBasis::default(),
        )
    }

    pub(crate) fn server_with(
        &self,
        number: u8,
        trust: &Trust,
        revocations: Arc<dyn Revocations>,
        basis: TlsBasis,
    ) -> Server {
        let id = server_id(number);
        let known = (1..10)
            .map(|number| (server_id(number), Acquaintance::Member))
            .collect();
        let outlook = Arc::new(Known {
            introduction: Mutex::new(introduction(self.id, id)),
            acquaintances: Mutex::new(known),
            feature_level: Mutex::new(1),
            keys: Mutex::default(),
        });
        let tls = PeerTls::new(self.id, id, trust, revocations, basis).unwrap();
        let endpoint = Endpoint {
            tls: Arc::new(tls),
            outlook: Arc::clone(&outlook) as _,
        };
        Server {
            id,
            endpoint,
            outlook,
        }
    }
}

pub(crate) fn introduction(group: GroupId, server: ServerId) -> Introduction {
    let formation = FormationRef {
        id: FormationId::from_bytes([1; 16]),
        number: 1,
        fork_point: 0,
    };
    Introduction {
        protocol: PROTOCOL,
        group,
        server,
        incarnation: IncarnationId::from_bytes([5; 16]),
        formation: Some(formation),
        lineage: vec![formation],
        feature_level: 1,
        version: "0.1.0".to_owned(),
        clock: now(),
    }
}

/// What a server of a test knows; a test may change it.
pub(crate) struct Known {
    pub(crate) introduction: Mutex<Introduction>,
    pub(crate) acquaintances: Mutex<HashMap<ServerId, Acquaintance>>,
    pub(crate) feature_level: Mutex<u32>,
    pub(crate) keys: Mutex<HashMap<(ServerId, KeyMark), KeyStanding>>,
}

impl Known {
    pub(crate) fn knows_key(&self, server: ServerId, key: KeyMark, standing: KeyStanding) {
        self.keys.lock().unwrap().insert((server, key), standing);
    }

    pub(crate) fn knows(&self, number: u8, acquaintance: Acquaintance) {
        self.acquaintances
            .lock()
            .unwrap()
            .insert(server_id(number), acquaintance);
    }
}

impl Outlook for Known {
    fn introduction(&self) -> Introduction {
        self.introduction.lock().unwrap().clone()
    }

    fn acquaintance(&self, server: ServerId) -> Acquaintance {
        let acquaintances = self.acquaintances.lock().unwrap();
        acquaintances
            .get(&server)
            .copied()
            .unwrap_or(Acquaintance::Unknown)
    }

    fn feature_level(&self) -> u32 {
        *self.feature_level.lock().unwrap()
    }

    fn key(&self, server: ServerId, key: KeyMark) -> KeyStanding {
        let keys = self.keys.lock().unwrap();
        keys.get(&(server, key))
            .copied()
            .unwrap_or(KeyStanding::Unknown)
    }
}

pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) endpoint: Endpoint,
    pub(crate) outlook: Arc<Known>,
}

/// A peer port under test: arrivals come out of a queue.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    pub(crate) arrivals: mpsc::UnboundedReceiver<Arrival>,
    running: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Port {
    pub(crate) async fn open(server: &Server, limits: ListenerLimits) -> Self {
        Self::open_at("127.0.0.1:0", server, limits, NobodyJoins).await
    }

    pub(crate) async fn open_at<A: Admission>(
        address: &str,
        server: &Server,
        limits: ListenerLimits,
        admission: A,
    ) -> Self {
        let listener = Listener::bind(address, limits).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (queue, arrivals) = mpsc::unbounded_channel();
        let reception = Arc::new(Hall { queue, admission });
        let running = tokio::spawn(listener.run(server.endpoint.clone(), reception));
        Self {
            address,
            arrivals,
            running,
        }
    }

    pub(crate) async fn arrival(&mut self) -> Arrival {
        tokio::time::timeout(PATIENCE, self.arrivals.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// Closes the port and everything that it drives, and waits until that is done.
    pub(crate) async fn close(mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
    }
}

struct Hall<A> {
    queue: mpsc::UnboundedSender<Arrival>,
    admission: A,
}

impl<A: Admission> Reception for Hall<A> {
    async fn arrived(&self, arrival: Arrival) {
        let _ = self.queue.send(arrival);
    }
}

impl<A: Admission> Admission for Hall<A> {
    async fn invitation(&self, id: InvitationId) -> Result<Zeroizing<[u8; 16]>, JoinRefusal> {
        self.admission.invitation(id).await
    }

    async fn examine(
        &self,
        request: &JoinRequest,
        from: SocketAddr,
    ) -> Result<Vec<Member>, JoinRefusal> {
        self.admission.examine(request, from).await
    }

    async fn admit(
        &self,
        request: JoinRequest,
        unreached: Vec<Unreached>,
    ) -> Result<JoinGrant, JoinRefusal> {
        self.admission.admit(request, unreached).await
    }
}

/// Knows no invitation.
pub(crate) struct NobodyJoins;

impl Admission for NobodyJoins {
    async fn invitation(&self, _id: InvitationId) -> Result<Zeroizing<[u8; 16]>, JoinRefusal> {
        Err(JoinRefusal::UnknownCode)
    }

    async fn examine(
        &self,
        _request: &JoinRequest,
        _from: SocketAddr,
    ) -> Result<Vec<Member>, JoinRefusal> {
        Err(JoinRefusal::UnknownCode)
    }

    async fn admit(
        &self,
        _request: JoinRequest,
        _unreached: Vec<Unreached>,
    ) -> Result<JoinGrant, JoinRefusal> {
        Err(JoinRefusal::UnknownCode)
    }
}

/// A clock that stands still at a time that a test chose.
#[derive(Debug)]
pub(crate) struct StoppedClock(pub(crate) UnixMillis);

impl TimeProvider for StoppedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.0)))
    }
}
