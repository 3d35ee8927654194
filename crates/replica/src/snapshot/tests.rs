//! Snapshots: there and back, damaged in every place, cut short anywhere, on a full disk.

use super::*;
use crate::disk::{MemoryDisk, Weather, is_full, read_all};
use crate::types::LeaderId;
use model::{
    Author, Authority, Cause, Change, ChangeId, Command, Formation, FormationId, FormationRef,
    GroupId, GroupName, IncarnationId, Mode, Server, ServerId, ServerName, Standing, UnixMillis,
};
use openraft::vote::RaftLeaderId;
use std::collections::BTreeMap;

const FILE: &str = "/d/file.snapshot";

fn me() -> ServerId {
    ServerId::from_bytes([1; 16])
}

fn meta(index: u64) -> Meta {
    Meta {
        last: Some(LogId::new(LeaderId::new(3, me()), index)),
        membership: StoredMembership::default(),
    }
}

fn server() -> Server {
    Server {
        id: me(),
        name: ServerName::new("one").expect("a name"),
        peer_address: "192.0.2.1:4100".into(),
        client_address: "192.0.2.1:4101".into(),
        standing: Standing::Voter,
        voting: true,
        mode: Mode::Online,
        power: Server::POWER_DEFAULT,
        labels: BTreeMap::new(),
        external: Vec::new(),
        version: "0.1.0".into(),
        feature_level: 1,
        incarnation: IncarnationId::from_bytes([1; 16]),
        certificate_expires: UnixMillis(9),
        joined: UnixMillis(1),
        started: true,
        version_number: 0,
        peer_key: model::KeyMark::default(),
        revoked: Vec::new(),
    }
}

pub(crate) fn directory() -> Directory {
    let id = FormationId::from_bytes([7; 16]);
    let group = model::record::Group {
        id: GroupId::from_bytes([9; 16]),
        name: GroupName::new("tests").expect("a name"),
        formation: Formation {
            this: FormationRef {
                id,
                number: 1,
                fork_point: 0,
            },
            ancestors: Vec::new(),
            cause: Cause::Founded,
            original: id,
            original_members: vec![me()],
            made: UnixMillis(1),
        },
        backups: vec![me()],
        primary: Some(me()),
        primary_since: UnixMillis(1),
        last_failover: None,
        authority: Authority {
            certificate: vec![1],
            fingerprint: "sha256:00".into(),
            key: model::trust::Sealed(vec![1]),
            ticket_public: vec![2; 32],
            ticket_key: model::trust::Sealed(vec![1]),
            expires: UnixMillis(9),
        },
        clock: UnixMillis(1),
        number: 0,
        last_event: 0,
        feature_level: 1,
        pause: None,
        mode: model::ResilienceMode::Quorum,
        last_user_change: 0,
        secret: model::trust::GroupSecret::default(),
        succession: Default::default(),
        seal: Default::default(),
    };
    let admin = model::User {
        name: model::UserName::new("admin").expect("a name"),
        password: model::user::PasswordHash("hash".into()),
        role: model::Role::Admin,
        groups: Vec::new(),
        disabled: false,
        password_set: UnixMillis(0),
        version_number: 0,
        api_tokens: Vec::new(),
        lock: None,
        origin: model::Origin::Directory,
    };
    let mut directory = Directory::founded(group, server(), admin.clone());
    for number in 1..200u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        let name = model::UserName::new(&format!("user-{number}")).expect("a name");
        let user = model::User {
            name,
            ..admin.clone()
        };
        let change = Change {
            id: ChangeId::from_bytes(id),
            at: UnixMillis(number),
            author: Author::Server(me()),
            command: Command::PutUser {
                user: Box::new(user),
                expect: None,
            },
        };
        directory
            .apply(number, &change)
            .outcome
            .expect("not refused");
    }
    directory
}

fn written() -> (MemoryDisk, Directory) {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new("/d")).expect("made");
    let directory = directory();
    let length = write_snapshot(&disk, Path::new(FILE), &meta(5), &directory).expect("written");
    assert_eq!(
        disk.open(Path::new(FILE))
            .expect("opened")
            .length()
            .expect("known"),
        length
    );
    (disk, directory)
}

#[test]
fn there_and_back() {
    let (disk, directory) = written();
    let (found_meta, found) = read_snapshot(&disk, Path::new(FILE)).expect("read");
    assert_eq!(found_meta, meta(5));
    assert_eq!(found, directory);
}

#[test]
fn a_damaged_byte_anywhere_is_noticed() {
    let (disk, _) = written();
    let path = Path::new(FILE);
    let whole = read_all(&disk, path, 1 << 24).expect("read");
    for (offset, byte) in whole.iter().enumerate() {
        disk.damage(path, offset as u64, &[byte ^ 0x10])
            .expect("damaged");
        assert!(read_snapshot(&disk, path).is_err(), "offset {offset}");
        disk.damage(path, offset as u64, &[*byte])
            .expect("restored");
    }
    read_snapshot(&disk, path).expect("whole again");
}

#[test]
fn a_file_that_was_cut_short_is_refused() {
    let (disk, _) = written();
    let whole = read_all(&disk, Path::new(FILE), 1 << 24).expect("read");
    let short = Path::new("/d/short");
    for length in 0..whole.len() {
        let mut file = disk.create(short, 0).expect("made");
        file.write_at(0, whole.get(..length).unwrap_or_default())
            .expect("written");
        assert!(read_snapshot(&disk, short).is_err(), "{length} bytes");
    }
}

#[test]
fn a_full_disk_leaves_the_old_file_and_no_half_one() {
    let (disk, directory) = written();
    let used = disk
        .open(Path::new(FILE))
        .expect("opened")
        .length()
        .expect("known");
    disk.set_weather(Weather {
        capacity: Some(used + 100),
        broken: false,
        ..Weather::default()
    });
    let error = write_snapshot(&disk, Path::new(FILE), &meta(6), &directory).expect_err("full");
    assert!(is_full(&error), "{error}");
    assert_eq!(
        disk.list(Path::new("/d")).expect("listed"),
        ["file.snapshot"]
    );
    assert_eq!(
        read_snapshot(&disk, Path::new(FILE)).expect("read").0,
        meta(5)
    );
}

#[test]
fn a_crash_while_writing_leaves_the_old_file() {
    for seed in 0..20 {
        let (disk, directory) = written();
        disk.sync_dir(Path::new("/d")).expect("synced");
        write_file(
            &disk,
            &temporary_name(Path::new(FILE)),
            &meta(6),
            &directory,
        )
        .expect("written");
        let after = disk.crash(seed);
        let (found, _) = read_snapshot(&after, Path::new(FILE)).expect("the old one");
        assert_eq!(found, meta(5), "seed {seed}");
    }
}
