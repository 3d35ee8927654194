//! A group of four servers as a directory, for questions to be asked of.

use model::event::Reason;
use model::record::{Group, Record};
use model::server::Offline;
use model::trust::Sealed;
use model::{
    AppName, Application, Authority, Cause, Directory, EndReason, Formation, FormationId,
    FormationRef, GroupId, GroupName, IncarnationId, Mode, Pause, Server, ServerId, ServerName,
    Session, SessionId, SessionState, Standing, Token, UnixMillis, UserName,
};
use policy::{Explanation, Peer, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The head of the backup list. Ids are in another order than the list, on purpose.
pub(crate) const BOSTON: ServerId = ServerId::from_bytes([3; 16]);
pub(crate) const NEWYORK: ServerId = ServerId::from_bytes([1; 16]);
pub(crate) const DETROIT: ServerId = ServerId::from_bytes([4; 16]);
pub(crate) const SEATTLE: ServerId = ServerId::from_bytes([2; 16]);
/// Only in groups of five.
pub(crate) const DENVER: ServerId = ServerId::from_bytes([5; 16]);
pub(crate) const ALL: [ServerId; 4] = [BOSTON, NEWYORK, DETROIT, SEATTLE];

/// The calendar of the tests.
pub(crate) const AT: UnixMillis = UnixMillis(1_800_000_000_000);

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn name_of(id: ServerId) -> &'static str {
    match id {
        BOSTON => "boston",
        NEWYORK => "newyork",
        DETROIT => "detroit",
        SEATTLE => "seattle",
        DENVER => "denver",
        other => panic!("{other} is not of this group"),
    }
}

pub(crate) fn server(id: ServerId, standing: Standing) -> Server {
    let name = name_of(id);
    Server {
        id,
        name: ServerName::new(name).unwrap(),
        peer_address: format!("{name}:5427"),
        client_address: format!("{name}:5443"),
        standing,
        voting: standing.votes(),
        mode: Mode::Online,
        power: Server::POWER_DEFAULT,
        labels: BTreeMap::new(),
        external: Vec::new(),
        version: "1.0.0".to_owned(),
        feature_level: 1,
        incarnation: IncarnationId::from_bytes([1; 16]),
        certificate_expires: UnixMillis(AT.0 + 1_000_000),
        joined: UnixMillis(1),
        started: true,
        version_number: 1,
        peer_key: model::KeyMark::default(),
        revoked: Vec::new(),
    }
}

pub(crate) fn offline(by: &str, reason: Option<&str>) -> Mode {
    Mode::Offline(Offline {
        by: by.to_owned(),
        reason: reason.map(str::to_owned),
        since: AT,
        until: None,
        drain: None,
    })
}

/// A pause of automatic failover from [`AT`] on.
pub(crate) fn paused(by: &str, span: Duration) -> Pause {
    Pause {
        by: by.to_owned(),
        reason: "new switches".to_owned(),
        since: AT,
        until: AT.after(span),
    }
}

pub(crate) fn app(name: &str) -> Application {
    Application::named(AppName::new(name).unwrap())
}

pub(crate) fn session_id(number: u8) -> SessionId {
    let mut bytes = [0; SessionId::LEN];
    bytes[9] = number;
    SessionId::from_bytes(bytes)
}

pub(crate) fn session(number: u8, host: ServerId, state: SessionState) -> Session {
    let ended = (state == SessionState::Ended).then_some(AT);
    Session {
        id: session_id(number),
        token: Token::new(&format!("card.{number}")).unwrap(),
        user: UserName::new("ann").unwrap(),
        app: AppName::new("desktop").unwrap(),
        host,
        state,
        current: state != SessionState::Ended,
        created: UnixMillis(5),
        last_attached: None,
        client: (state == SessionState::Active).then(|| "10.0.0.9".into()),
        ended,
        reason: ended.map(|_| {
            Box::new(EndReason::ByHand {
                by: "admin".to_owned(),
            })
        }),
        heard_number: 5,
        version_number: 5,
    }
}

/// A directory in the making.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) group: Group,
    pub(crate) servers: Vec<Server>,
    pub(crate) apps: Vec<Application>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) settings: Vec<(&'static str, &'static str)>,
}

/// Boston, newyork and detroit are voters in this order, boston is primary; seattle is a witness.
pub(crate) fn made() -> Made {
    let this = FormationRef {
        id: FormationId::from_bytes([9; 16]),
        number: 1,
        fork_point: 0,
    };
    Made {
        group: Group {
            id: GroupId::from_bytes([8; 16]),
            name: GroupName::new("east").unwrap(),
            formation: Formation {
                this,
                ancestors: Vec::new(),
                cause: Cause::Founded,
                original: this.id,
                original_members: ALL.to_vec(),
                made: UnixMillis(1),
            },
            backups: vec![BOSTON, NEWYORK, DETROIT],
            primary: Some(BOSTON),
            primary_since: UnixMillis(1),
            last_failover: None,
            authority: Authority {
                certificate: Vec::new(),
                fingerprint: String::new(),
                key: Sealed(Vec::new()),
                ticket_public: Vec::new(),
                ticket_key: Sealed(Vec::new()),
                expires: AT,
            },
            clock: AT,
            number: 100,
            last_event: 0,
            feature_level: 1,
            pause: None,
            mode: model::ResilienceMode::Quorum,
            last_user_change: 0,
            secret: model::trust::GroupSecret::default(),
            succession: Default::default(),
            seal: Default::default(),
        },
        servers: vec![
            server(BOSTON, Standing::Voter),
            server(NEWYORK, Standing::Voter),
            server(DETROIT, Standing::Voter),
            server(SEATTLE, Standing::Witness),
        ],
        apps: Vec::new(),
        sessions: Vec::new(),
        settings: Vec::new(),
    }
}

impl Made {
    /// Only these servers, all of them recorded as they are made.
    pub(crate) fn only(mut self, servers: &[ServerId]) -> Self {
        self.servers.retain(|server| servers.contains(&server.id));
        self.group.backups.retain(|backup| servers.contains(backup));
        self
    }

    pub(crate) fn server(&mut self, id: ServerId) -> &mut Server {
        self.servers
            .iter_mut()
            .find(|server| server.id == id)
            .unwrap()
    }

    pub(crate) fn directory(&self) -> Directory {
        let mut records = vec![Record::Group(Arc::new(self.group.clone()))];
        records.extend(
            self.servers
                .iter()
                .map(|server| Record::Server(Arc::new(server.clone()))),
        );
        let apps = self.apps.iter().cloned();
        records.extend(apps.map(|app| Record::Application(Arc::new(app))));
        records.extend(
            self.sessions
                .iter()
                .map(|session| Record::Session(Arc::new(session.clone()))),
        );
        let settings = self.settings.iter();
        records.extend(
            settings
                .map(|(key, value)| Record::Setting((*key).to_owned(), None, (*value).to_owned())),
        );
        let directory = Directory::from_records(records).unwrap();
        assert_eq!(
            directory.check(),
            Vec::<String>::new(),
            "the directory of the test contradicts itself"
        );
        directory
    }

    pub(crate) fn voters(&self) -> BTreeSet<ServerId> {
        self.servers
            .iter()
            .filter(|server| server.voting)
            .map(|server| server.id)
            .collect()
    }
}

/// What one server sees of a made group: everybody well, unless said otherwise.
pub(crate) struct Seen {
    pub(crate) directory: Directory,
    pub(crate) me: ServerId,
    pub(crate) calendar: UnixMillis,
    pub(crate) leader: Option<ServerId>,
    pub(crate) voters: BTreeSet<ServerId>,
    pub(crate) joint: Vec<BTreeSet<ServerId>>,
    pub(crate) peers: BTreeMap<ServerId, Peer>,
}

impl Seen {
    pub(crate) fn by(me: ServerId, made: &Made) -> Self {
        let well = Peer {
            reachable: true,
            silent_for: Some(ms(40)),
            lag: Some(0),
            clock_offset_ms: Some(3),
            elsewhere: false,
        };
        Self {
            directory: made.directory(),
            me,
            calendar: AT,
            leader: Some(BOSTON),
            voters: made.voters(),
            joint: Vec::new(),
            peers: made
                .servers
                .iter()
                .map(|server| (server.id, well))
                .collect(),
        }
    }

    pub(crate) fn peer(&mut self, id: ServerId) -> &mut Peer {
        self.peers.entry(id).or_default()
    }

    pub(crate) fn lost(mut self, id: ServerId, silent: Duration) -> Self {
        *self.peer(id) = Peer {
            reachable: false,
            silent_for: Some(silent),
            ..Peer::default()
        };
        self
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            directory: &self.directory,
            me: self.me,
            calendar: self.calendar,
            leader: self.leader,
            acting: self.leader == Some(self.me),
            voters: &self.voters,
            joint: &self.joint,
            peers: &self.peers,
        }
    }
}

/// The rules that speak against a candidate.
pub(crate) fn objections(explanation: &Explanation, server: ServerId) -> Vec<&str> {
    let candidate = explanation.of(server).unwrap();
    candidate
        .objections()
        .map(|reason| reason.rule.as_str())
        .collect()
}

pub(crate) fn details(reasons: &[Reason]) -> String {
    let details: Vec<_> = reasons
        .iter()
        .map(|reason| reason.detail.as_str())
        .collect();
    details.join("; ")
}
