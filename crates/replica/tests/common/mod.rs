//! A group of replicas in one process: real threads, real time, links that can be cut.

use bytes::Bytes;
use model::{
    Author, Authority, Cause, Change, ChangeId, Command, Directory, Formation, FormationId,
    FormationRef, GroupId, GroupName, IncarnationId, Mode, Role as UserRole, Server, ServerId,
    ServerName, Standing, UnixMillis, User, UserName,
};
use replica::disk::{RealDisk, SharedDisk};
use replica::formation::Founder;
use replica::{
    Applied, Driver, Lane, LinkAnswer, LinkError, Links, LogOptions, LogOwner, Options,
    ProposeError, Replica, Role, SnapshotLimits, State, Timing, formation,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Small, so that logs roll and snapshots are written.
pub(crate) const SEGMENT: u64 = 256 << 10;

/// The formation of all these tests.
pub(crate) fn formation_id() -> FormationId {
    FormationId::from_bytes([7; 16])
}

pub(crate) fn server_id(number: u8) -> ServerId {
    ServerId::from_bytes([number; 16])
}

pub(crate) fn user_name(number: u64) -> UserName {
    UserName::new(&format!("user-{number}")).expect("a name")
}

fn user(name: UserName, role: UserRole) -> User {
    User {
        name,
        password: model::user::PasswordHash("hash".into()),
        role,
        groups: Vec::new(),
        disabled: false,
        password_set: UnixMillis(0),
        version_number: 0,
        api_tokens: Vec::new(),
        lock: None,
        origin: model::Origin::Directory,
    }
}

fn server(number: u8) -> Server {
    Server {
        id: server_id(number),
        name: ServerName::new(&format!("s{number}")).expect("a name"),
        peer_address: format!("192.0.2.{number}:4100"),
        client_address: format!("192.0.2.{number}:4101"),
        standing: Standing::Voter,
        voting: true,
        mode: Mode::Online,
        power: Server::POWER_DEFAULT,
        labels: BTreeMap::new(),
        external: Vec::new(),
        version: "0.1.0".into(),
        feature_level: model::FEATURE_LEVEL,
        incarnation: IncarnationId::from_bytes([number; 16]),
        certificate_expires: UnixMillis(u64::MAX),
        joined: UnixMillis(0),
        started: true,
        version_number: 0,
        peer_key: model::KeyMark::default(),
        revoked: Vec::new(),
    }
}

/// The directory of a group that server 1 founded.
pub(crate) fn directory() -> Directory {
    let sealed = || model::trust::Sealed(vec![1; 32]);
    let group = model::record::Group {
        id: GroupId::from_bytes([9; 16]),
        name: GroupName::new("tests").expect("a name"),
        formation: Formation {
            this: FormationRef {
                id: formation_id(),
                number: 1,
                fork_point: 0,
            },
            ancestors: Vec::new(),
            cause: Cause::Founded,
            original: formation_id(),
            original_members: vec![server_id(1)],
            made: UnixMillis(1),
        },
        backups: vec![server_id(1)],
        primary: Some(server_id(1)),
        primary_since: UnixMillis(1),
        last_failover: None,
        authority: Authority {
            certificate: vec![1],
            fingerprint: "sha256:00".into(),
            key: sealed(),
            ticket_public: vec![2; 32],
            ticket_key: sealed(),
            expires: UnixMillis(u64::MAX),
        },
        clock: UnixMillis(1),
        number: 0,
        last_event: 0,
        feature_level: model::FEATURE_LEVEL,
        pause: None,
        // So that a side may go on by itself; to the replica the modes are the same otherwise.
        mode: model::ResilienceMode::Availability,
        last_user_change: 0,
        secret: model::trust::GroupSecret::default(),
        succession: Default::default(),
        seal: Default::default(),
    };
    let admin = user(UserName::new("admin").expect("a name"), UserRole::Admin);
    Directory::founded(group, server(1), admin)
}

/// A change that adds the user of a number.
pub(crate) fn add_user(number: u64) -> Change {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Change {
        id: ChangeId::from_bytes(id),
        at: UnixMillis(number),
        author: Author::Server(server_id(1)),
        command: Command::PutUser {
            user: Box::new(user(user_name(number), UserRole::User)),
            expect: None,
        },
    }
}

/// The users of a replica, by number.
pub(crate) fn users(replica: &Replica) -> BTreeSet<u64> {
    let state = replica.state();
    let Some(directory) = &state.directory else {
        return BTreeSet::new();
    };
    let numbers = directory
        .users()
        .filter_map(|user| user.name.as_str().strip_prefix("user-")?.parse().ok());
    numbers.collect()
}

#[derive(Debug, Default)]
struct Wires {
    replicas: BTreeMap<ServerId, Replica>,
    cut: BTreeSet<(ServerId, ServerId)>,
}

/// All links of the group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wiring(Arc<Mutex<Wires>>);

impl Wiring {
    fn with<T>(&self, act: impl FnOnce(&mut Wires) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cuts the way from one server to another, and its answers back.
    pub(crate) fn cut(&self, from: u8, to: u8) {
        self.with(|wires| wires.cut.insert((server_id(from), server_id(to))));
    }

    /// Cuts a server off in both directions.
    pub(crate) fn isolate(&self, one: u8, others: &[u8]) {
        for other in others {
            self.cut(one, *other);
            self.cut(*other, one);
        }
    }

    /// Mends everything.
    pub(crate) fn mend(&self) {
        self.with(|wires| wires.cut.clear());
    }
}

/// The links of one server.
#[derive(Debug)]
struct Side {
    me: ServerId,
    wiring: Wiring,
}

impl Links for Side {
    fn call(&self, to: ServerId, _lane: Lane, request: Bytes, limit: Duration) -> LinkAnswer {
        let answer = self.wiring.with(|wires| {
            if wires.cut.contains(&(self.me, to)) {
                return Err(LinkError::TimedOut);
            }
            let replica = wires.replicas.get(&to).ok_or(LinkError::Unreachable)?;
            Ok(replica.handle(&request))
        });
        Box::pin(async move {
            match answer {
                Ok(answer) => match tokio::time::timeout(limit, answer).await {
                    Ok(Ok(bytes)) => Ok(bytes),
                    Ok(Err(_)) => Err(LinkError::Lost),
                    Err(_) => Err(LinkError::TimedOut),
                },
                Err(LinkError::TimedOut) => {
                    // tidy: polls: nothing; a cut wire is silent until its user gives up.
                    tokio::time::sleep(limit).await;
                    Err(LinkError::TimedOut)
                }
                Err(error) => Err(error),
            }
        })
    }
}

/// One server's place: its folder stays when the replica stops.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) disk: SharedDisk,
    pub(crate) data: PathBuf,
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) wiring: Wiring,
    pub(crate) timing: Timing,
    pub(crate) options: Options,
    pub(crate) places: BTreeMap<u8, Place>,
    folder: tempfile::TempDir,
    formation: FormationId,
    next_user: AtomicU64,
}

impl Group {
    /// Server 1 founds the group and leads it.
    pub(crate) async fn found() -> Self {
        Self::found_with(Arc::new(RealDisk), SnapshotLimits::default()).await
    }

    /// The same, with a disk for server 1 and limits for snapshots.
    pub(crate) async fn found_with(disk: SharedDisk, snapshots: SnapshotLimits) -> Self {
        let log = LogOptions {
            segment_size: SEGMENT,
            driver: Driver::Threads,
        };
        let mut group = Self {
            wiring: Wiring::default(),
            timing: Timing::default(),
            options: Options {
                log,
                snapshots,
                silent: false,
            },
            places: BTreeMap::new(),
            folder: tempfile::tempdir().expect("a folder"),
            formation: formation_id(),
            next_user: AtomicU64::new(1),
        };
        let place = group.place(1, disk);
        let id = formation::found(&place.disk, &place.data, founder(1), &directory(), SEGMENT)
            .expect("founded");
        formation::select(&place.disk, &place.data, id).expect("selected");
        group.places.insert(1, place);
        group.start(1).await.campaign().await.expect("a campaign");
        group.primary().await;
        group
    }

    fn place(&self, number: u8, disk: SharedDisk) -> Place {
        let data = self.folder.path().join(format!("s{number}"));
        Place { disk, data }
    }

    /// A server's folder.
    pub(crate) fn data(&self, number: u8) -> &Path {
        &self.places.get(&number).expect("it has a folder").data
    }

    /// Makes an empty folder for a server that joins.
    pub(crate) fn prepare(&mut self, number: u8, disk: SharedDisk, incarnation: u8) {
        let place = self.place(number, disk);
        let owner = LogOwner {
            formation: self.formation,
            incarnation: IncarnationId::from_bytes([incarnation; 16]),
        };
        formation::join(&place.disk, &place.data, owner, SEGMENT, None).expect("joined");
        formation::select(&place.disk, &place.data, self.formation).expect("selected");
        self.places.insert(number, place);
    }

    /// A stopped server goes on in a formation of its own.
    pub(crate) async fn fork(&mut self, number: u8, state: &State) -> Replica {
        let place = self.places.get(&number).expect("it has a folder");
        let id = make_fork(place, number, state);
        formation::select(&place.disk, &place.data, id).expect("selected");
        self.formation = id;
        self.start(number).await
    }

    /// Adds servers as learners and then as voters.
    pub(crate) async fn grow(&mut self, numbers: &[u8]) {
        for number in numbers {
            self.prepare(*number, Arc::new(RealDisk), *number);
            self.start(*number).await;
            let primary = self.primary().await;
            primary
                .add_learner(server_id(*number), PATIENCE)
                .await
                .expect("a learner");
            let mut voters = primary.status().voters;
            voters.insert(server_id(*number));
            primary.set_voters(voters, PATIENCE).await.expect("a voter");
        }
    }

    /// Opens a replica on what its folder holds.
    pub(crate) async fn try_start(&self, number: u8) -> Result<Replica, replica::OpenError> {
        let place = self.places.get(&number).expect("it has a folder");
        let links = Arc::new(Side {
            me: server_id(number),
            wiring: self.wiring.clone(),
        });
        let replica = Replica::open(
            place.disk.clone(),
            &place.data,
            server_id(number),
            links,
            self.timing,
            self.options,
        )
        .await?;
        self.wiring
            .with(|wires| wires.replicas.insert(server_id(number), replica.clone()));
        Ok(replica)
    }

    /// The same, and it must work.
    pub(crate) async fn start(&self, number: u8) -> Replica {
        self.try_start(number).await.expect("opened")
    }

    /// Takes a server off the links and stops it.
    pub(crate) async fn stop(&self, number: u8) {
        let replica = self
            .wiring
            .with(|wires| wires.replicas.remove(&server_id(number)));
        if let Some(replica) = replica {
            replica.shutdown().await;
        }
    }

    pub(crate) fn replica(&self, number: u8) -> Replica {
        self.wiring
            .with(|wires| wires.replicas.get(&server_id(number)).cloned())
            .expect("it runs")
    }

    pub(crate) fn replicas(&self) -> Vec<Replica> {
        self.wiring
            .with(|wires| wires.replicas.values().cloned().collect())
    }

    /// Waits until one server acts as primary and returns it. Others campaign by rank, as a floor above would have them do.
    pub(crate) async fn primary(&self) -> Replica {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let replicas = self.replicas();
            let acting: Vec<_> = replicas.iter().filter(|r| r.acting().is_yes()).collect();
            assert!(acting.len() < 2, "two primaries: {acting:?}");
            if let [one] = acting.as_slice() {
                return (*one).clone();
            }
            for replica in &replicas {
                let status = replica.status();
                let silent = status
                    .lease_until
                    .is_none_or(|until| until < replica::Moment::now());
                if status.role == Role::Follower && silent && replica.campaign().await.is_ok() {
                    break;
                }
            }
            assert!(Instant::now() < deadline, "no primary: {:?}", self.states());
            // tidy: polls: whether one of several replicas acts.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What each server says of itself, for messages of tests that fail.
    pub(crate) fn states(&self) -> Vec<replica::Status> {
        self.replicas().iter().map(Replica::status).collect()
    }

    /// Adds a user through whoever is primary, asking again while there is none or the outcome is unknown.
    pub(crate) async fn add(&self) -> u64 {
        let number = self.next_user.fetch_add(1, Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let primary = self.primary().await;
            match primary
                .propose(&add_user(number), Duration::from_secs(2))
                .await
            {
                Ok(Applied { outcome, .. }) => {
                    outcome.expect("not refused");
                    return number;
                }
                Err(
                    error @ (ProposeError::NotPrimary { .. }
                    | ProposeError::OutcomeUnknown
                    | ProposeError::NoQuorum { .. }
                    | ProposeError::NotRunning),
                ) => assert!(Instant::now() < deadline, "{error}: {:?}", self.states()),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until a replica has exactly these users.
    pub(crate) async fn wait_for_users(&self, replica: &Replica, expected: &BTreeSet<u64>) {
        wait_until(
            || (users(replica) == *expected).then_some(()),
            || {
                let found = users(replica);
                let missing: Vec<_> = expected.difference(&found).take(9).collect();
                let (found, status) = (found.len(), replica.status());
                format!(
                    "{found} users of {}, without {missing:?}: {status:?}",
                    expected.len()
                )
            },
        )
        .await;
    }
}

/// Waits until a condition holds; fails with what was seen.
pub(crate) async fn wait_until<T>(
    mut condition: impl FnMut() -> Option<T>,
    seen: impl Fn() -> String,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "it did not happen: {}", seen());
        // tidy: polls: the condition; replicas run on threads of their own.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server, in its first life.
pub(crate) fn founder(number: u8) -> Founder {
    Founder {
        server: server_id(number),
        incarnation: IncarnationId::from_bytes([number; 16]),
    }
}

/// Makes, without selecting it, a formation of one server that goes on from a state.
pub(crate) fn make_fork(place: &Place, number: u8, state: &State) -> FormationId {
    let parent = state
        .directory
        .as_ref()
        .expect("a directory")
        .group()
        .formation
        .clone();
    let this = FormationRef {
        id: FormationId::from_bytes([8; 16]),
        number: parent.this.number + 1,
        fork_point: state.applied,
    };
    let island = Formation {
        this,
        ancestors: vec![parent.this],
        cause: Cause::Island,
        ..parent
    };
    let voters = BTreeSet::from([server_id(number)]);
    let (disk, data) = (&place.disk, &place.data);
    formation::fork(
        disk,
        data,
        founder(number),
        state,
        &island,
        &voters,
        SEGMENT,
    )
    .expect("made")
}

/// Where a formation of a server is.
pub(crate) fn formation_folder(data: &Path) -> PathBuf {
    formation::folder(data, formation_id())
}
