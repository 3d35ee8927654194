//! A group to tell stories about, and short ways to say what happens to it.

use model::change::Author;
use model::user::PasswordHash;
use model::*;
use std::collections::BTreeMap;

/// The founder and first primary.
pub(crate) const BOSTON: ServerId = ServerId::from_bytes([1; 16]);
/// A second server.
pub(crate) const NEWYORK: ServerId = ServerId::from_bytes([2; 16]);
/// A third server.
pub(crate) const DETROIT: ServerId = ServerId::from_bytes([3; 16]);
/// A fourth server.
pub(crate) const SEATTLE: ServerId = ServerId::from_bytes([4; 16]);
/// When the group was founded.
pub(crate) const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// The fingerprint of the authority that the group was founded with.
pub(crate) const FOUNDED_WITH: &str = "sha256:00";

pub(crate) fn user_name(text: &str) -> UserName {
    text.parse().unwrap()
}

pub(crate) fn app_name(text: &str) -> AppName {
    text.parse().unwrap()
}

pub(crate) fn token(text: &str) -> Token {
    text.parse().unwrap()
}

/// A session id that is easy to tell apart.
pub(crate) fn session_id(number: u8) -> SessionId {
    SessionId::from_bytes([number; SessionId::LEN])
}

pub(crate) fn invitation_id(number: u8) -> InvitationId {
    InvitationId::from_bytes([number; InvitationId::LEN])
}

/// A server that is about to join, with addresses made from its id.
pub(crate) fn server(id: ServerId, name: &str, standing: Standing) -> Server {
    let place = id.as_bytes()[0];
    Server {
        id,
        name: name.parse().unwrap(),
        peer_address: format!("10.0.0.{place}:5427"),
        client_address: format!("10.0.0.{place}:5443"),
        standing,
        voting: false,
        mode: Mode::Online,
        power: Server::POWER_DEFAULT,
        labels: BTreeMap::new(),
        external: Vec::new(),
        version: "0.1.0".to_owned(),
        feature_level: 1,
        incarnation: IncarnationId::from_bytes([place; 16]),
        certificate_expires: START,
        joined: START,
        started: false,
        version_number: 0,
        peer_key: KeyMark::default(),
        revoked: Vec::new(),
    }
}

pub(crate) fn user(name: &str, role: Role) -> User {
    User {
        name: user_name(name),
        password: PasswordHash(format!("hash of {name}")),
        role,
        groups: Vec::new(),
        disabled: false,
        password_set: START,
        version_number: 0,
        api_tokens: Vec::new(),
        lock: None,
        origin: Origin::Directory,
    }
}

/// An application that runs a shell on a terminal.
pub(crate) fn shell(name: &str) -> Application {
    Application {
        launch: Some("@pty /bin/bash -l".to_owned()),
        ..Application::named(app_name(name))
    }
}

/// An application that launches nothing.
pub(crate) fn running(name: &str) -> Application {
    Application {
        backends: vec![Backend::Tcp("127.0.0.1:3389".to_owned())],
        ..Application::named(app_name(name))
    }
}

pub(crate) fn invitation(number: u8, standing: Standing, expires: UnixMillis) -> Invitation {
    Invitation {
        id: invitation_id(number),
        secret: trust::Sealed(vec![number; 32]),
        standing,
        made: START,
        expires,
        by: "ann".to_owned(),
        used_by: None,
    }
}

/// What a founded group starts from: boston alone, administrator `ann`.
pub(crate) fn founded() -> Directory {
    let this = FormationRef {
        id: FormationId::from_bytes([9; 16]),
        number: 1,
        fork_point: 0,
    };
    let group = Group {
        id: GroupId::from_bytes([8; 16]),
        name: "coast".parse().unwrap(),
        formation: Formation {
            this,
            ancestors: Vec::new(),
            cause: Cause::Founded,
            original: this.id,
            original_members: vec![BOSTON],
            made: START,
        },
        backups: Vec::new(),
        primary: None,
        primary_since: START,
        last_failover: None,
        authority: Authority {
            certificate: FOUNDED_WITH.into(),
            fingerprint: FOUNDED_WITH.to_owned(),
            key: trust::Sealed(vec![4]),
            ticket_public: vec![5],
            ticket_key: trust::Sealed(vec![6]),
            expires: START,
        },
        clock: START,
        number: 0,
        last_event: 0,
        feature_level: 0,
        pause: None,
        mode: ResilienceMode::Availability,
        last_user_change: 0,
        secret: GroupSecret::default(),
        succession: Default::default(),
        seal: Default::default(),
    };
    Directory::founded(
        group,
        server(BOSTON, "boston", Standing::Voter),
        user("ann", Role::Admin),
    )
}

/// A directory, and the changes that made it, one second apart.
pub(crate) struct Told {
    /// As it is now.
    pub(crate) directory: Directory,
    /// Every change so far.
    pub(crate) changes: Vec<Change>,
    number: u64,
    at: UnixMillis,
}

impl Told {
    /// From the founding on.
    pub(crate) fn founded() -> Self {
        Self {
            directory: founded(),
            changes: Vec::new(),
            number: 0,
            at: START,
        }
    }

    /// The stamp of the newest change.
    pub(crate) fn now(&self) -> UnixMillis {
        self.at
    }

    /// Lets time go by.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.at.0 += millis;
    }

    /// One change, by the administrator.
    pub(crate) fn tell(&mut self, command: Command) -> Applied {
        let number = self.number + 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        self.tell_as(ChangeId::from_bytes(id), command)
    }

    /// One change with a given key.
    pub(crate) fn tell_as(&mut self, id: ChangeId, command: Command) -> Applied {
        self.number += 1;
        self.at.0 += 1_000;
        let author = author(&command);
        let change = Change {
            id,
            at: self.at,
            author,
            command,
        };
        let applied = self.directory.apply(self.number, &change);
        self.changes.push(change);
        applied
    }

    /// Changes that must be accepted.
    pub(crate) fn all(&mut self, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            let applied = self.tell(command);
            assert!(
                applied.outcome.is_ok(),
                "{:?} was refused: {:?}",
                self.changes.last(),
                applied.outcome
            );
        }
    }

    /// newyork, detroit and seattle join as voters and count; users bob and eve; applications shell and desktop.
    pub(crate) fn four_servers() -> Self {
        let mut told = Self::founded();
        let joining = [
            (NEWYORK, "newyork"),
            (DETROIT, "detroit"),
            (SEATTLE, "seattle"),
        ];
        for (id, name) in joining {
            let number = id.as_bytes()[0];
            let expires = told.now().after(std::time::Duration::from_secs(900));
            told.all([
                Command::Invite {
                    invitation: Box::new(invitation(number, Standing::Voter, expires)),
                },
                Command::AdmitServer {
                    server: Box::new(server(id, name, Standing::Voter)),
                    invitation: invitation_id(number),
                },
                report(id, number),
                Command::SetVoting {
                    server: id,
                    voting: true,
                },
            ]);
        }
        told.all([
            put_user(user("bob", Role::User), None),
            put_user(user("eve", Role::User), None),
            put_app(shell("shell"), None),
            put_app(shell("desktop"), None),
        ]);
        told
    }
}

/// Servers speak for themselves; all else is the administrator's doing.
fn author(command: &Command) -> Author {
    match command {
        Command::SetVoting { .. }
        | Command::KeepDivergence { .. }
        | Command::OrphanSessions { .. }
        | Command::LockUser { .. }
        | Command::ChangePause {
            change: PauseChange::RunOut,
        } => Author::Server(BOSTON),
        Command::ReportServer { server, .. }
        | Command::TakePrimary { server, .. }
        | Command::RecordEvents { server, .. } => Author::Server(*server),
        Command::ObserveSessions { host, .. }
        | Command::RegisterSessions { host, .. }
        | Command::CreateSession { host, .. } => Author::Server(*host),
        _ => Author::User {
            name: user_name("ann"),
            from: "10.9.9.9:1".to_owned(),
        },
    }
}

/// A server says what it is, with the life `incarnation`.
pub(crate) fn report(id: ServerId, incarnation: u8) -> Command {
    let place = id.as_bytes()[0];
    Command::ReportServer {
        server: id,
        version: "0.1.0".to_owned(),
        feature_level: 1,
        incarnation: IncarnationId::from_bytes([incarnation; 16]),
        certificate_expires: START,
        peer_address: format!("10.0.0.{place}:5427"),
        client_address: format!("10.0.0.{place}:5443"),
        peer_key: KeyMark([incarnation; 32]),
    }
}

pub(crate) fn put_user(user: User, expect: Option<u64>) -> Command {
    Command::PutUser {
        user: Box::new(user),
        expect,
    }
}

pub(crate) fn put_profile(profile: Profile, expect: Option<u64>) -> Command {
    let profile = Box::new(profile);
    Command::ChangeProfile {
        change: ProfileChange::Put { profile, expect },
    }
}

pub(crate) fn prefer(preferences: Preferences, expect: Option<u64>) -> Command {
    let preferences = Box::new(preferences);
    Command::ChangeProfile {
        change: ProfileChange::Prefer {
            preferences,
            expect,
        },
    }
}

pub(crate) fn put_secret(secret: StoredSecret, expect: Option<u64>) -> Command {
    Command::ChangeStoredSecret {
        change: StoredSecretChange::Put {
            secret: Box::new(secret),
            expect,
        },
    }
}

pub(crate) fn put_app(app: Application, expect: Option<u64>) -> Command {
    Command::PutApp {
        app: Box::new(app),
        expect,
    }
}

pub(crate) fn create(session: u8, of: &str, user: &str, app: &str, host: ServerId) -> Command {
    Command::CreateSession {
        session: session_id(session),
        token: token(of),
        user: user_name(user),
        app: app_name(app),
        host,
    }
}

pub(crate) fn observe(host: ServerId, session: u8, seen: Seen) -> Command {
    Command::ObserveSessions {
        host,
        observations: vec![Observation {
            session: session_id(session),
            seen,
        }],
    }
}

pub(crate) fn attached(at: UnixMillis) -> Seen {
    Seen::Active {
        client: "10.1.1.1:4000".to_owned(),
        at,
    }
}

pub(crate) fn registration(session: u8, of: &str, user: &str, app: &str) -> Registration {
    Registration {
        session: session_id(session),
        token: token(of),
        user: user_name(user),
        app: app_name(app),
        created: START,
        client: None,
        last_attached: None,
    }
}

/// An operator's certificate whose sealed key begins with this byte.
pub(crate) fn certificate(name: ExternalName, key: u8) -> ExternalCertificate {
    ExternalCertificate {
        name,
        chain: vec![vec![1]],
        key: trust::Sealed(vec![key; 60]),
        fingerprint: "sha256:00".to_owned(),
        issuer: "CN=Example".to_owned(),
        expires: START,
        version_number: 0,
    }
}
