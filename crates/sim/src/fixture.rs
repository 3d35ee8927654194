//! A directory to begin with, and changes that can be told apart.

use crate::cast::Cast;
use model::application::Backend;
use model::trust::Invitation;
use model::{
    AppName, Application, Author, Authority, Cause, Change, ChangeId, Command, Directory,
    Formation, FormationId, FormationRef, GroupId, GroupName, IncarnationId, InvitationId, Mode,
    OnDrain, Record, Role, Server, ServerId, ServerName, Standing, UnixMillis, User, UserName,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The formation of all simulated groups.
pub(crate) fn formation_id() -> FormationId {
    FormationId::from_bytes([7; 16])
}

/// The machine that breaks ties; no server runs there.
pub(crate) fn tie_breaker() -> ServerId {
    server_id(0)
}

/// The server of a number.
pub(crate) fn server_id(number: u8) -> ServerId {
    ServerId::from_bytes([number; 16])
}

fn user(name: UserName, role: Role) -> User {
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

/// The record of the server of a number.
pub(crate) fn server(number: u8, standing: Standing) -> Server {
    Server {
        id: server_id(number),
        name: ServerName::new(&format!("s{number}")).expect("invariant: a valid name"),
        peer_address: format!("192.0.2.{number}:4100"),
        client_address: format!("192.0.2.{number}:4101"),
        standing,
        voting: standing.votes(),
        mode: Mode::Online,
        power: Server::POWER_DEFAULT,
        labels: BTreeMap::new(),
        external: Vec::new(),
        version: "0.1.0".into(),
        feature_level: model::FEATURE_LEVEL,
        incarnation: incarnation(number, 0),
        certificate_expires: UnixMillis(u64::MAX),
        joined: UnixMillis(0),
        started: true,
        version_number: 0,
        peer_key: model::KeyMark::default(),
        revoked: Vec::new(),
    }
}

/// The life of a server's log, counted from 0.
pub(crate) fn incarnation(number: u8, life: u8) -> IncarnationId {
    let mut bytes = [number; 16];
    bytes[15] = life;
    IncarnationId::from_bytes(bytes)
}

fn group(members: &[(u8, Standing)]) -> model::record::Group {
    let sealed = || model::trust::Sealed(vec![1; 32]);
    let this = FormationRef {
        id: formation_id(),
        number: 1,
        fork_point: 0,
    };
    let leads = |(_, standing): &&(u8, Standing)| standing.may_lead();
    model::record::Group {
        id: GroupId::from_bytes([9; 16]),
        name: GroupName::new("simulated").expect("invariant: a valid name"),
        formation: Formation {
            this,
            ancestors: Vec::new(),
            cause: Cause::Founded,
            original: formation_id(),
            original_members: members.iter().map(|(it, _)| server_id(*it)).collect(),
            made: UnixMillis(1),
        },
        backups: members
            .iter()
            .filter(leads)
            .map(|(it, _)| server_id(*it))
            .collect(),
        primary: members.first().map(|(it, _)| server_id(*it)),
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
        mode: model::ResilienceMode::Quorum,
        last_user_change: 0,
        secret: model::trust::GroupSecret::default(),
        succession: Default::default(),
        seal: Default::default(),
    }
}

/// What stands for the directory before it has come: nobody is known.
pub(crate) fn nobody() -> Directory {
    let mut group = group(&[]);
    group.formation.this = FormationRef {
        id: FormationId::default(),
        number: 0,
        fork_point: 0,
    };
    Directory::from_records([Record::Group(Arc::new(group))])
        .expect("invariant: a group alone is a directory")
}

/// The application of all sessions.
pub(crate) fn app() -> AppName {
    AppName::new("app").expect("invariant: a valid name")
}

/// An application whose sessions stay when their server is drained.
pub(crate) fn kept_app() -> AppName {
    AppName::new("kept").expect("invariant: a valid name")
}

fn application(name: AppName, cast: &Cast) -> Application {
    let mut app = Application::named(name);
    app.backends.push(Backend::Unix("/run/app".into()));
    // Without a command a session is only a binding to a server that runs.
    app.launch = cast.hosts.then(|| "app".to_owned());
    app
}

/// Whose sessions they are.
pub(crate) fn admin() -> UserName {
    UserName::new("admin").expect("invariant: a valid name")
}

/// The directory of a group to begin with.
pub(crate) fn directory(cast: &Cast) -> Directory {
    let members = &cast.members;
    let mut group = group(members);
    group.mode = cast.mode;
    let mut records = vec![
        Record::Group(Arc::new(group)),
        Record::User(Arc::new(user(admin(), Role::Admin))),
        Record::Application(Arc::new(application(app(), cast))),
    ];
    if cast.hosts {
        let mut kept = application(kept_app(), cast);
        kept.on_drain = OnDrain::Keep;
        records.push(Record::Application(Arc::new(kept)));
    }
    let servers = members
        .iter()
        .map(|(number, standing)| server(*number, *standing));
    records.extend(servers.map(|server| Record::Server(Arc::new(server))));
    let mode = ("resilience.mode", cast.mode.as_str().to_owned());
    let mode = cast.chosen.then_some(mode);
    let settings = cast.settings.iter().cloned().chain(mode);
    records.extend(settings.map(|(key, value)| Record::Setting(key.into(), None, value)));
    Directory::from_records(records).expect("invariant: a directory without contradictions")
}

/// An invitation to join.
pub(crate) fn invitation(number: u8, standing: Standing) -> Invitation {
    Invitation {
        id: InvitationId::from_bytes([number; 8]),
        secret: model::trust::Sealed(vec![1; 32]),
        standing,
        made: UnixMillis(0),
        expires: UnixMillis(u64::MAX),
        by: "admin".into(),
        used_by: None,
    }
}

/// The user of a number.
pub(crate) fn change_user(number: u64) -> UserName {
    UserName::new(&format!("user-{number}")).expect("invariant: a valid name")
}

/// The change of a number: it adds a user of that number.
pub(crate) fn change(number: u64) -> Change {
    let mut id = [0; 16];
    let bytes = number.to_le_bytes();
    id.iter_mut()
        .zip(bytes)
        .for_each(|(place, byte)| *place = byte);
    let name = change_user(number);
    Change {
        id: ChangeId::from_bytes(id),
        at: UnixMillis(number),
        author: Author::User {
            name: admin(),
            from: "192.0.2.200".into(),
        },
        command: Command::PutUser {
            user: Box::new(user(name, Role::User)),
            expect: None,
        },
    }
}

/// The number of a server.
pub(crate) fn number_of(server: ServerId) -> u8 {
    server.as_bytes().first().copied().unwrap_or(0)
}

/// The numbers of the changes that a directory has.
pub(crate) fn numbers(directory: &Directory) -> BTreeSet<u64> {
    let users = directory.users();
    users
        .filter_map(|user| user.name.as_str().strip_prefix("user-")?.parse().ok())
        .collect()
}
