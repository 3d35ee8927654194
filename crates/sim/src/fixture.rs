//! A directory to begin with, and changes that can be told apart.

use model::{
    Author, Authority, Cause, Change, ChangeId, Command, Directory, Formation, FormationId,
    FormationRef, GroupId, GroupName, IncarnationId, Mode, Role, Server, ServerId, ServerName,
    Standing, UnixMillis, User, UserName,
};
use std::collections::{BTreeMap, BTreeSet};

/// The formation of all simulated groups.
pub(crate) fn formation_id() -> FormationId {
    FormationId::from_bytes([7; 16])
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
    }
}

fn server(number: u8) -> Server {
    Server {
        id: server_id(number),
        name: ServerName::new(&format!("s{number}")).expect("invariant: a valid name"),
        peer_address: format!("192.0.2.{number}:4100"),
        client_address: format!("192.0.2.{number}:4101"),
        standing: Standing::Voter,
        voting: true,
        mode: Mode::Online,
        power: Server::POWER_DEFAULT,
        labels: BTreeMap::new(),
        version: "0.1.0".into(),
        feature_level: model::FEATURE_LEVEL,
        incarnation: IncarnationId::from_bytes([number; 16]),
        certificate_expires: UnixMillis(u64::MAX),
        joined: UnixMillis(0),
        started: true,
        version_number: 0,
    }
}

/// The directory of a group that server 1 founded.
pub(crate) fn directory() -> Directory {
    let sealed = || model::trust::Sealed(vec![1; 32]);
    let this = FormationRef {
        id: formation_id(),
        number: 1,
        fork_point: 0,
    };
    let group = model::record::Group {
        id: GroupId::from_bytes([9; 16]),
        name: GroupName::new("simulated").expect("invariant: a valid name"),
        formation: Formation {
            this,
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
        mode: model::ResilienceMode::Quorum,
        last_user_change: 0,
    };
    let name = UserName::new("admin").expect("invariant: a valid name");
    Directory::founded(group, server(1), user(name, Role::Admin))
}

/// The change of a number: it adds a user of that number.
pub(crate) fn change(number: u64) -> Change {
    let mut id = [0; 16];
    let bytes = number.to_le_bytes();
    id.iter_mut()
        .zip(bytes)
        .for_each(|(place, byte)| *place = byte);
    let name = UserName::new(&format!("user-{number}")).expect("invariant: a valid name");
    Change {
        id: ChangeId::from_bytes(id),
        at: UnixMillis(number),
        author: Author::Server(server_id(1)),
        command: Command::PutUser {
            user: Box::new(user(name, Role::User)),
            expect: None,
        },
    }
}

/// The numbers of the changes that a directory has.
pub(crate) fn numbers(directory: &Directory) -> BTreeSet<u64> {
    let users = directory.users();
    users
        .filter_map(|user| user.name.as_str().strip_prefix("user-")?.parse().ok())
        .collect()
}
