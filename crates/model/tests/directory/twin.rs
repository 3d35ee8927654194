//! Random changes, given to the directory and to its plain twin: both must answer the same and hold the same.
//!
//! After every change the directory must agree with itself; a refused change must have left every table alone. At the end it
//! must survive being taken apart and put together, a second replica must be equal, and the difference of any two of its
//! states must be what the obvious comparison finds.

mod documents;
mod seals;

use crate::audit::assert_audited;
use crate::common::*;
use crate::plain::{Plain, word};
use documents::*;
use model::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use seals::seal_command;
use std::collections::BTreeMap;
use std::time::Duration;

/// A random change. Versions are not drawn but taken from the directory, else hardly one would fit.
#[derive(Debug, Clone)]
enum Step {
    Tell(Box<Command>),
    /// An account or application, for the version that is there (0), for none (1), or for a wrong one (2).
    Put(Box<Command>, u8),
    /// A registration that is complete up to so many changes ago.
    Register(ServerId, Vec<Registration>, Option<u64>),
    /// A change with the key of one before, so many changes back.
    Again(usize, Box<Command>),
}

const SERVERS: [ServerId; 5] = [
    BOSTON,
    NEWYORK,
    DETROIT,
    SEATTLE,
    ServerId::from_bytes([5; 16]),
];
const USERS: [&str; 4] = ["ann", "bob", "eve", "mallory"];
/// Who asks for sessions: mostly those that exist.
const CALLERS: [&str; 7] = ["ann", "bob", "bob", "bob", "eve", "eve", "mallory"];
/// Where sessions are wanted: mostly where some can be.
const HOSTS: [ServerId; 9] = [
    BOSTON,
    BOSTON,
    BOSTON,
    NEWYORK,
    NEWYORK,
    DETROIT,
    DETROIT,
    SEATTLE,
    ServerId::from_bytes([5; 16]),
];
const SECRETS: [&str; 2] = ["key", "pass.word"];
const APPS: [&str; 3] = ["shell", "desktop", "vnc"];
const TOKENS: [&str; 3] = ["card.1", "card.2", "pseudo.3"];
/// Names that clients present: tokens, and what may be an alias of one or a user's own.
const NAMES: [&str; 8] = [
    "card.1", "card.1", "card.2", "card.2", "pseudo.3", "badge.4", "badge.5", "user.bob",
];

fn any_host() -> impl Strategy<Value = ServerId> {
    select(&HOSTS[..])
}

fn any_server() -> impl Strategy<Value = ServerId> {
    select(&SERVERS[..])
}

fn any_session() -> impl Strategy<Value = u8> {
    1..24u8
}

/// Stamps around now, some ahead of it.
fn any_time() -> impl Strategy<Value = UnixMillis> {
    (0..200_000u64).prop_map(|ahead| UnixMillis(START.0 + ahead))
}

fn any_seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        3 => any_time().prop_map(attached),
        3 => Just(Seen::Suspended),
        1 => Just(Seen::Ended { reason: EndReason::Exited { code: Some(0), signal: None } }),
        1 => Just(Seen::Ended { reason: EndReason::FailedToStart { detail: "no such file".to_owned() } }),
    ]
}

fn any_registration() -> impl Strategy<Value = Registration> {
    let names = (select(&TOKENS[..]), select(&CALLERS[..]), select(&APPS[..]));
    (
        any_session(),
        names,
        any::<bool>(),
        proptest::option::of(any_time()),
    )
        .prop_map(
            |(session, (of, user, app), attached, last_attached)| Registration {
                client: attached.then(|| "10.1.1.1:4000".to_owned()),
                last_attached,
                ..registration(session, of, user, app)
            },
        )
}

fn any_user() -> impl Strategy<Value = User> {
    let role = select(&[Role::User, Role::Admin][..]);
    (
        select(&USERS[..]),
        role,
        any::<bool>(),
        any::<bool>(),
        0..2u8,
    )
        .prop_map(|(name, role, disabled, staff, password)| User {
            disabled: disabled && staff,
            groups: if staff {
                vec!["staff".to_owned()]
            } else {
                Vec::new()
            },
            password: user::PasswordHash(password.to_string()),
            ..user(name, role)
        })
}

fn any_app() -> impl Strategy<Value = Application> {
    let limits = (proptest::option::of(1..3u32), proptest::option::of(1..4u32));
    let users = select(vec![
        Vec::new(),
        Vec::new(),
        Vec::new(),
        vec!["@staff".to_owned()],
        vec!["bob".to_owned(), "eve".to_owned()],
    ]);
    let hosts = select(vec![
        BTreeMap::new(),
        BTreeMap::new(),
        BTreeMap::from([("rack".to_owned(), "a".to_owned())]),
    ]);
    let launches = select(
        &[
            Some(""),
            Some(""),
            Some(" {secret:key}"),
            Some(" {secret:pass.word}{secret:key}"),
            None,
            None,
        ][..],
    );
    (select(&APPS[..]), limits, users, hosts, launches).prop_map(
        |(name, (max_per_user, max_per_server), users, hosts, launches)| {
            let kind = match launches {
                Some(given) => Application {
                    launch: Some(format!("@pty /bin/bash -l{given}")),
                    ..shell(name)
                },
                None => running(name),
            };
            Application {
                max_per_user,
                max_per_server,
                users,
                hosts,
                ..kind
            }
        },
    )
}

fn any_gateway() -> impl Strategy<Value = Gateway> {
    let port = select(&[0, 3389, 3389, 3390, 3391][..]);
    (select(&["g", "h"][..]), port, select(&APPS[..])).prop_map(|(name, port, app)| Gateway {
        name: GatewayName::new(name).unwrap(),
        listen: ([0, 0, 0, 0], port).into(),
        app: app_name(app),
        token_from: TokenFrom::Sni,
        version_number: 0,
    })
}

fn any_setting() -> impl Strategy<Value = Command> {
    let pair = select(vec![
        ("sessions.history", "0"),
        ("sessions.history", "2"),
        ("sessions.history", "-2"),
        ("tunnel.retain", "5s"),
        ("tunnel.retain", "1s"),
        ("tunnel.retain", "50"),
        ("tunnel.retains", "5s"),
        ("resilience.mode", "quorum"),
        ("resilience.mode", "availability"),
        ("resilience.mode", "auto"),
        ("resilience.mode", "both"),
        ("tokens.unregistered", "allow"),
        ("tokens.unregistered", "register"),
        ("tokens.unregistered", "refuse"),
        ("tokens.unregistered", "forget"),
    ]);
    (pair, proptest::option::of(any_server()), any::<bool>()).prop_map(
        |((key, value), on, unset)| {
            let key = key.to_owned();
            if unset {
                return Command::UnsetSetting { key, on };
            }
            Command::SetSetting {
                key,
                value: value.to_owned(),
                on,
            }
        },
    )
}

fn any_token() -> impl Strategy<Value = RegisteredToken> {
    let aliases = vec(select(&NAMES[..]), 0..3);
    let app = proptest::option::of(select(&APPS[..]));
    let enabled = select(&[true, true, true, false][..]);
    (
        select(&NAMES[..]),
        select(&CALLERS[..]),
        app,
        aliases,
        enabled,
    )
        .prop_map(|(name, user, app, aliases, enabled)| RegisteredToken {
            token: token(name),
            user: user_name(user),
            app: app.map(app_name),
            home: None,
            enabled,
            aliases: aliases.into_iter().map(token).collect(),
            created: UnixMillis(0),
            version_number: 0,
        })
}

fn session_command() -> impl Strategy<Value = Command> {
    let names = (select(&NAMES[..]), select(&CALLERS[..]), select(&APPS[..]));
    let observations = vec((any_session(), any_seen()), 1..4);
    prop_oneof![
        6 => (any_session(), names, any_host()).prop_map(|(id, (of, user, app), host)| create(id, of, user, app, host)),
        4 => (any_host(), observations).prop_map(|(host, seen)| Command::ObserveSessions {
            host,
            observations: seen
                .into_iter()
                .map(|(session, seen)| Observation { session: session_id(session), seen })
                .collect(),
        }),
        3 => (any_session(), select(&NAMES[..]), select(&APPS[..]), any_host()).prop_map(|(id, of, app, host)| Command::BindToken {
            session: session_id(id),
            token: token(of),
            app: app_name(app),
            host,
        }),
        2 => any_host().prop_map(|host| Command::OrphanSessions { host, reasons: Vec::new() }),
        1 => any_session().prop_map(|id| Command::SelectSession { session: session_id(id), by: "ann".to_owned() }),
        2 => (any_session(), any_session(), any_host()).prop_map(|(id, new, to)| Command::MoveSession {
            session: session_id(id),
            new: session_id(new),
            to,
            by: "ann".to_owned(),
        }),
        1 => any_session().prop_map(|id| Command::EndSession { session: session_id(id), by: "ann".to_owned() }),
    ]
}

/// Changes are a second apart: the shortest pauses run out on the way.
fn pause_command() -> impl Strategy<Value = Command> {
    let reason = select(&["new switches", "new disks", ""][..]);
    let span = select(&[59_999, 60_000, 60_000, 60_000, 604_800_000, 604_800_001][..]);
    prop_oneof![
        3 => (reason, span).prop_map(|(reason, span_ms)| PauseChange::Begin {
            reason: reason.to_owned(),
            span_ms,
        }),
        1 => Just(PauseChange::End { reason: None }),
        3 => Just(PauseChange::RunOut),
    ]
    .prop_map(|change| Command::ChangePause { change })
}

fn secret_command() -> impl Strategy<Value = Command> {
    let change = (1..4u8, any::<bool>()).prop_map(|(number, begin)| {
        let mark = SecretMark([number; 16]);
        match begin {
            true => SecretChange::Begin {
                mark,
                sealed: seals::sealed(number, 1),
                reason: None,
                hurried: number == 3,
            },
            false => SecretChange::Finish {
                mark,
                unconfirmed: Vec::new(),
            },
        }
    });
    change.prop_map(|change| Command::ChangeSecret { change })
}

fn authority_command() -> impl Strategy<Value = Command> {
    let other = |number: u8| format!("sha256:{number:02x}");
    let phase = select(
        &[
            RotationPhase::Introduced,
            RotationPhase::Issuing,
            RotationPhase::Withdrawn,
            RotationPhase::Pinned,
        ][..],
    );
    let begin =
        (1..4u8, any::<bool>(), 0..100_000u64).prop_map(move |(number, waits, clients_ms)| {
            AuthorityChange::Begin {
                next: trust::OtherAuthority {
                    certificate: other(number).into_bytes(),
                    fingerprint: other(number),
                    key: seals::sealed(number, 1),
                    expires: START,
                },
                bridge: vec![number],
                clients_ms,
                waits,
                reason: None,
            }
        });
    let advance = (1..5u8, phase).prop_map(move |(number, phase)| AuthorityChange::Advance {
        // The fifth stands for the one that the group was founded with.
        other: if number == 4 {
            FOUNDED_WITH.to_owned()
        } else {
            other(number)
        },
        phase,
        unconfirmed: Vec::new(),
    });
    prop_oneof![
        2 => begin,
        6 => advance,
        1 => Just(AuthorityChange::Withdraw { reason: None }),
    ]
    .prop_map(|change| Command::ChangeAuthority {
        change: Box::new(change),
    })
}

fn revocation() -> impl Strategy<Value = Command> {
    (any_server(), 0..4u8).prop_map(|(server, key)| Command::RevokeCertificates {
        server,
        key: KeyMark([key; 32]),
        reason: None,
    })
}

fn lock_command() -> impl Strategy<Value = Command> {
    let name = || select(&USERS[..]).prop_map(user_name);
    prop_oneof![
        2 => (name(), 10..20u32).prop_map(|(name, failures)| Command::LockUser { name, failures }),
        1 => name().prop_map(|name| Command::UnlockUser { name }),
    ]
}

fn addresses_command() -> impl Strategy<Value = Command> {
    let address = || {
        let odd = select(&["boston.example:1", "boston.example:0", "boston"][..]);
        let of_one = (any_server(), select(&[5427, 5443, 5427, 5443, 6000][..]));
        let of_one = of_one.prop_map(|(id, port)| format!("10.0.0.{}:{port}", id.as_bytes()[0]));
        proptest::option::of(prop_oneof![2 => of_one, 1 => odd.prop_map(str::to_owned)])
    };
    (any_server(), address(), address()).prop_map(|(server, peer_address, client_address)| {
        Command::SetAddresses {
            server,
            peer_address,
            client_address,
        }
    })
}

fn group_command() -> impl Strategy<Value = Command> {
    let standing = select(&[Standing::Voter, Standing::NonVoter, Standing::Witness][..]);
    let name = select(&["boston", "newyork", "detroit", "seattle", "denver"][..]);
    prop_oneof![
        (1..6u8, standing.clone(), 0..200_000u64).prop_map(|(code, standing, ahead)| {
            Command::Invite {
                invitation: Box::new(invitation(code, standing, UnixMillis(START.0 + ahead))),
            }
        }),
        (any_server(), name, standing, 1..6u8, any::<bool>()).prop_map(
            |(id, name, standing, code, label)| {
                let labels = if label {
                    [("rack".to_owned(), "a".to_owned())].into()
                } else {
                    BTreeMap::new()
                };
                Command::AdmitServer {
                    server: Box::new(Server {
                        labels,
                        ..server(id, name, standing)
                    }),
                    invitation: invitation_id(code),
                }
            }
        ),
        (1..6u8).prop_map(|code| Command::WithdrawInvitation {
            invitation: invitation_id(code),
            reason: "nobody came".to_owned(),
        }),
        (any_server(), any::<bool>())
            .prop_map(|(server, voting)| Command::SetVoting { server, voting }),
        any_server().prop_map(|server| Command::RemoveServer {
            server,
            reason: None
        }),
        (any_server(), 1..4u8).prop_map(|(server, life)| report(server, life)),
        addresses_command(),
        vec(any_server(), 0..4).prop_map(|backups| Command::SetBackups {
            backups,
            reason: None
        }),
        (any_server(), 0..5u32, 0..4u8).prop_map(|(server, place, kind)| Command::EditBackups {
            edit: match kind {
                0 => BackupEdit::Add {
                    server,
                    place: None
                },
                1 => BackupEdit::Add {
                    server,
                    place: Some(place)
                },
                2 => BackupEdit::Move { server, place },
                _ => BackupEdit::Remove { server },
            },
            reason: None,
        }),
        (any_server(), any::<bool>()).prop_map(|(server, planned)| Command::TakePrimary {
            server,
            planned,
            outage_ms: 1,
            steps: Vec::new(),
            reasons: Vec::new(),
        }),
    ]
}

fn any_setting_of_one() -> impl Strategy<Value = (Subject, Content)> {
    any_setting().prop_filter_map("a value", |command| match command {
        Command::SetSetting { key, value, on } => {
            Some((Subject::Setting(key, on), Content::Setting(value)))
        }
        _ => None,
    })
}

/// Something that people edit, as one side may have it.
fn any_content() -> impl Strategy<Value = (Subject, Content)> {
    let servers = (
        any_server(),
        select(&[50, 100, 1_000, 2_000][..]),
        any::<bool>(),
    );
    prop_oneof![
        3 => any_setting_of_one(),
        4 => any_user().prop_map(|user| (Subject::User(user.name.clone()), Content::User(user.into()))),
        4 => any_app().prop_map(|app| {
            (Subject::Application(app.name.clone()), Content::Application(app.into()))
        }),
        3 => any_token().prop_map(|token| (Subject::Token(token.token.clone()), Content::Token(token.into()))),
        2 => any_profile().prop_map(|one| (Subject::Profile(one.audience.clone()), Content::Profile(one.into()))),
        2 => any_preferences().prop_map(|one| (Subject::Preferences(one.user.clone()), Content::Preferences(one.into()))),
        2 => any_secret().prop_map(|one| (Subject::Secret(one.name.clone()), Content::Secret(one.into()))),
        2 => any_gateway().prop_map(|one| (Subject::Gateway(one.name.clone()), Content::Gateway(one.into()))),
        1 => any_certificate().prop_map(|one| (Subject::Certificate(one.name.clone()), Content::Certificate(one.into()))),
        2 => servers.prop_map(|(id, power, label)| {
            let mut server = divergence::EditedServer::from(&server(id, "boston", Standing::Voter));
            server.power = power;
            if label {
                server.labels = BTreeMap::from([("rack".to_owned(), "a".to_owned())]);
            }
            (Subject::Server(id), Content::Server(server))
        }),
        1 => any_server().prop_map(|id| (Subject::Removed(id), Content::Removed(START))),
        1 => vec(any_server(), 0..3).prop_map(|list| (Subject::Backups, Content::Backups(list))),
        1 => (any_time(), 0..5u8).prop_map(|(until, kind)| {
            let reason = if kind == 0 { "" } else { "new disks" };
            let days = if kind == 1 { 8 } else { 0 };
            let pause = Pause {
                by: "ann".to_owned(),
                reason: reason.to_owned(),
                since: START,
                until: until.after(Duration::from_hours(24 * days)),
            };
            (Subject::Pause, Content::Pause(pause))
        }),
    ]
}

fn any_formation() -> impl Strategy<Value = FormationId> {
    select(&[7, 7, 7, 8, 9][..]).prop_map(|number| FormationId::from_bytes([number; 16]))
}

fn divergence_command() -> impl Strategy<Value = Command> {
    let record = (any_content(), any::<(bool, bool)>(), any_content(), 1..4u64);
    let within = select(&[9, 9, 9, 8][..]).prop_map(|number| FormationId::from_bytes([number; 16]));
    let report = (any_formation(), 1..4u64, vec(record, 0..6), any::<bool>());
    let keep = (within, report).prop_map(|(within, (formation, number, records, last))| {
        let records = records.into_iter().map(
            |((subject, loser), (has_fork, gone), (other, fork), number)| Diverged {
                formation,
                fork: (has_fork && other == subject).then_some(fork),
                subject,
                loser: (!gone).then_some(loser),
                number,
            },
        );
        let this = FormationRef {
            id: formation,
            number: 2,
            fork_point: 1,
        };
        let divergence = Divergence {
            formation: this,
            number,
            ..Divergence::of(&founded(), 1, true)
        };
        Command::KeepDivergence {
            within,
            divergence: Box::new(divergence),
            records: records.collect(),
            last,
        }
    });
    let subjects = vec(any_content().prop_map(|(subject, _)| subject), 0..3);
    let decide = (any_formation(), subjects, any::<bool>());
    let decide = decide.prop_map(|(formation, subjects, apply)| {
        let reason = None;
        match apply {
            true => Command::ApplyDiverged {
                formation,
                subjects,
                reason,
            },
            false => Command::DiscardDiverged {
                formation,
                subjects,
                reason,
            },
        }
    });
    prop_oneof![keep, decide]
}

fn any_step() -> impl Strategy<Value = Step> {
    let people = prop_oneof![
        any_user().prop_map(|user| put_user(user, None)),
        any_app().prop_map(|app| put_app(app, None)),
        any_token().prop_map(|token| Command::PutToken {
            token: Box::new(token),
            expect: None,
        }),
        any_gateway().prop_map(|gateway| Command::PutGateway {
            gateway: Box::new(gateway),
            expect: None,
        }),
        any_secret().prop_map(|secret| put_secret(secret, None)),
        any_profile().prop_map(|profile| put_profile(profile, None)),
        any_preferences().prop_map(|preferences| prefer(preferences, None)),
    ];
    let removal = prop_oneof![
        select(&USERS[..]).prop_map(|name| Command::RemoveUser {
            name: user_name(name)
        }),
        select(&APPS[..]).prop_map(|name| Command::RemoveApp {
            name: app_name(name)
        }),
        select(&NAMES[..]).prop_map(|name| Command::RemoveToken { token: token(name) }),
        any_gateway().prop_map(|gateway| Command::RemoveGateway { name: gateway.name }),
        any_profile().prop_map(|profile| Command::ChangeProfile {
            change: ProfileChange::Remove {
                audience: profile.audience
            },
        }),
        any_preferences().prop_map(|preferences| Command::ChangeProfile {
            change: ProfileChange::Forget {
                user: preferences.user
            },
        }),
        any_secret().prop_map(|secret| Command::ChangeStoredSecret {
            change: StoredSecretChange::Remove { name: secret.name },
        }),
    ];
    let complete = proptest::option::of(0..6u64);
    prop_oneof![
        20 => session_command().prop_map(|command| Step::Tell(Box::new(command))),
        4 => (any_host(), vec(any_registration(), 0..5), complete)
            .prop_map(|(host, found, complete)| Step::Register(host, found, complete)),
        6 => (people, select(&[0, 0, 0, 1, 2][..])).prop_map(|(command, version)| Step::Put(Box::new(command), version)),
        1 => removal.prop_map(|command| Step::Tell(Box::new(command))),
        2 => any_setting().prop_map(|command| Step::Tell(Box::new(command))),
        2 => pause_command().prop_map(|command| Step::Tell(Box::new(command))),
        1 => secret_command().prop_map(|command| Step::Tell(Box::new(command))),
        1 => seal_command().prop_map(|command| Step::Tell(Box::new(command))),
        2 => authority_command().prop_map(|command| Step::Tell(Box::new(command))),
        1 => revocation().prop_map(|command| Step::Tell(Box::new(command))),
        1 => lock_command().prop_map(|command| Step::Tell(Box::new(command))),
        1 => certificate_command().prop_map(|command| Step::Tell(Box::new(command))),
        4 => group_command().prop_map(|command| Step::Tell(Box::new(command))),
        4 => divergence_command().prop_map(|command| Step::Tell(Box::new(command))),
        2 => (1..20usize, session_command()).prop_map(|(back, command)| Step::Again(back, Box::new(command))),
    ]
}

/// The version that a step asks for.
fn expected(found: Option<u64>, which: u8) -> Option<u64> {
    match which {
        0 => found,
        1 => None,
        _ => Some(found.unwrap_or(0) + 1),
    }
}

fn command_of(step: &Step, directory: &Directory) -> Command {
    match step {
        Step::Tell(command) | Step::Again(_, command) => (**command).clone(),
        Step::Put(command, which) => match (**command).clone() {
            Command::PutUser { user, .. } => {
                let found = directory.user(&user.name).map(|user| user.version_number);
                Command::PutUser {
                    user,
                    expect: expected(found, *which),
                }
            }
            Command::PutApp { app, .. } => {
                let found = directory.app(&app.name).map(|app| app.version_number);
                Command::PutApp {
                    app,
                    expect: expected(found, *which),
                }
            }
            Command::PutToken { token, .. } => {
                let known = directory.tokens().find(|known| known.token == token.token);
                let found = known.map(|known| known.version_number);
                Command::PutToken {
                    token,
                    expect: expected(found, *which),
                }
            }
            Command::PutGateway { gateway, .. } => {
                let found = directory
                    .gateway(&gateway.name)
                    .map(|one| one.version_number);
                Command::PutGateway {
                    gateway,
                    expect: expected(found, *which),
                }
            }
            Command::ChangeStoredSecret {
                change: StoredSecretChange::Put { secret, .. },
            } => {
                let found = directory.secret(&secret.name);
                let found = found.map(|one| one.version_number);
                put_secret(*secret, expected(found, *which))
            }
            Command::ChangeProfile {
                change: ProfileChange::Put { profile, .. },
            } => {
                let found = directory.profile(&profile.audience);
                let found = found.map(|one| one.version_number);
                put_profile(*profile, expected(found, *which))
            }
            Command::ChangeProfile {
                change: ProfileChange::Prefer { preferences, .. },
            } => {
                let found = directory.preferences(&preferences.user);
                let found = found.map(|one| one.version_number);
                prefer(*preferences, expected(found, *which))
            }
            other => other,
        },
        Step::Register(host, found, ago) => Command::RegisterSessions {
            host: *host,
            sessions: found.clone(),
            complete_to: ago.map(|ago| directory.group().number.saturating_sub(ago)),
        },
    }
}

fn sorted<T: Clone, K: Ord>(list: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
    let mut list = list.to_vec();
    list.sort_by_key(|one| key(one));
    list
}

fn assert_same(directory: &Directory, plain: &Plain) -> Result<(), TestCaseError> {
    fn owned<'a, T: Clone + 'a>(list: impl Iterator<Item = &'a std::sync::Arc<T>>) -> Vec<T> {
        list.map(|one| (**one).clone()).collect()
    }
    prop_assert_eq!(
        owned(directory.sessions()),
        sorted(&plain.sessions, |s| s.id)
    );
    prop_assert_eq!(
        owned(directory.users()),
        sorted(&plain.users, |user| user.name.clone())
    );
    prop_assert_eq!(
        owned(directory.apps()),
        sorted(&plain.apps, |app| app.name.clone())
    );
    prop_assert_eq!(
        owned(directory.gateways()),
        sorted(&plain.gateways, |gateway| gateway.name.clone())
    );
    prop_assert_eq!(
        owned(directory.certificates()),
        sorted(&plain.certificates, |one| one.name.clone())
    );
    prop_assert_eq!(
        owned(directory.profiles()),
        sorted(&plain.profiles, |profile| profile.audience.clone())
    );
    prop_assert_eq!(
        owned(directory.all_preferences()),
        sorted(&plain.preferences, |one| one.user.clone())
    );
    prop_assert_eq!(
        owned(directory.secrets()),
        sorted(&plain.secrets, |secret| secret.name.clone())
    );
    prop_assert_eq!(
        owned(directory.tokens()),
        sorted(&plain.tokens, |token| token.token.clone())
    );
    for name in NAMES.map(token) {
        let (found, entry) = (directory.registered(&name), plain.entry(&name));
        prop_assert_eq!(found.map(|found| &**found), entry);
    }
    prop_assert_eq!(
        owned(directory.servers()),
        sorted(&plain.servers, |server| server.id)
    );
    prop_assert_eq!(
        owned(directory.invitations()),
        sorted(&plain.invitations, |one| one.id)
    );
    prop_assert_eq!(&directory.group().backups, &plain.backups);
    prop_assert_eq!(directory.group().primary, plain.primary);
    prop_assert_eq!(&directory.group().pause, &plain.pause);
    let secret = &directory.group().secret;
    prop_assert_eq!((secret.mark, secret.rotating), plain.secret);
    let authorities = crate::plain::Authorities::of(directory);
    prop_assert_eq!(&authorities, &plain.authorities);
    let seals = crate::plain::Seals::of(directory);
    prop_assert_eq!(&seals, &plain.seals);
    prop_assert_eq!(directory.group().mode, plain.mode);
    prop_assert_eq!(directory.group().last_user_change, plain.last_user_change);
    assert_same_divergences(directory, plain)?;
    let settings: BTreeMap<_, _> = directory
        .settings()
        .entries()
        .map(|(key, on, value)| ((key.to_owned(), on), value))
        .collect();
    prop_assert_eq!(&settings, &plain.settings);
    assert_same_queries(directory, plain)?;
    prop_assert_eq!(directory.check(), Vec::<String>::new());
    Ok(())
}

fn assert_same_divergences(directory: &Directory, plain: &Plain) -> Result<(), TestCaseError> {
    let mut found = Vec::new();
    for divergence in directory.divergences() {
        let known = plain
            .divergences
            .iter()
            .find(|one| one.formation == divergence.formation);
        let records: Vec<_> = directory.diverged(divergence.formation.id).collect();
        let counted = Divergence {
            records: u32::try_from(records.len()).unwrap(),
            ..known.unwrap().clone()
        };
        prop_assert_eq!(&**divergence, &counted);
        found.extend(records.into_iter().map(|record| (**record).clone()));
    }
    let all = sorted(&plain.diverged, |one| (one.formation, one.subject.clone()));
    prop_assert_eq!(found, all);
    Ok(())
}

/// What is looked up by an index is what looking through the list finds.
fn assert_same_queries(directory: &Directory, plain: &Plain) -> Result<(), TestCaseError> {
    let live: Vec<&Session> = plain.sessions.iter().filter(|s| s.is_live()).collect();
    let count = |fits: &dyn Fn(&Session) -> bool| live.iter().filter(|s| fits(s)).count();
    for (of, app) in TOKENS
        .iter()
        .flat_map(|of| APPS.map(|app| (token(of), app_name(app))))
    {
        let current = live
            .iter()
            .find(|s| s.current && s.token == of && s.app == app);
        let found = directory.current_session(&of, &app);
        prop_assert_eq!(found.map(|s| s.id), current.map(|s| s.id));
    }
    for host in SERVERS {
        prop_assert_eq!(
            directory.sessions_on(host).count(),
            count(&|s| s.host == host)
        );
    }
    for of in NAMES.map(token) {
        prop_assert_eq!(directory.sessions_of(&of).len(), count(&|s| s.token == of));
    }
    for user in USERS.map(user_name) {
        prop_assert_eq!(
            directory.sessions_of_user(&user).count(),
            count(&|s| s.user == user)
        );
    }
    for app in APPS.map(app_name) {
        prop_assert_eq!(
            directory.count_of_app(&app),
            count(&|s| s.app == app) as u64
        );
    }
    prop_assert_eq!(directory.live_sessions(), live.len());
    Ok(())
}

/// The obvious comparison of two directories.
fn obvious_difference(before: &Directory, after: &Directory) -> Vec<Difference> {
    let table = |of: &Directory| -> BTreeMap<Key, Record> {
        of.records().map(|record| (record.key(), record)).collect()
    };
    let (old, new) = (table(before), table(after));
    let keys: std::collections::BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
    let differ = keys
        .into_iter()
        .filter(|key| old.get(*key) != new.get(*key));
    let differences = differ.map(|key| match (old.get(key).cloned(), new.get(key).cloned()) {
        (Some(before), Some(after)) => Difference::Changed {
            before: Box::new(before),
            after: Box::new(after),
        },
        (Some(before), None) => Difference::Removed(before),
        (None, after) => Difference::Added(after.unwrap()),
    });
    differences.collect()
}

fn obviously_changed_sessions(before: &Directory, after: &Directory) -> Vec<SessionId> {
    let all: std::collections::BTreeSet<SessionId> = before
        .sessions()
        .chain(after.sessions())
        .map(|session| session.id)
        .collect();
    let differ = |id: &SessionId| before.session(*id) != after.session(*id);
    all.into_iter().filter(differ).collect()
}

fn key_of(difference: &Difference) -> Key {
    match difference {
        Difference::Added(record) | Difference::Removed(record) => record.key(),
        Difference::Changed { before, .. } => before.key(),
    }
}

/// What happens before the random changes, so that most of them meet something: servers, users and applications.
fn opening() -> Vec<Step> {
    let expires = UnixMillis(START.0 + 1_000_000);
    let servers = [
        (NEWYORK, "newyork", Standing::Voter),
        (DETROIT, "detroit", Standing::NonVoter),
        (SEATTLE, "seattle", Standing::Witness),
    ];
    let joining = servers
        .into_iter()
        .zip(11..)
        .flat_map(|((id, name, standing), code)| {
            [
                Command::Invite {
                    invitation: Box::new(invitation(code, standing, expires)),
                },
                Command::AdmitServer {
                    server: Box::new(server(id, name, standing)),
                    invitation: invitation_id(code),
                },
                report(id, 1),
            ]
        });
    let people = ["bob", "eve"].map(|name| put_user(user(name, Role::User), None));
    let apps = APPS.map(|name| put_app(shell(name), None));
    joining
        .chain(people)
        .chain(apps)
        .map(|command| Step::Tell(Box::new(command)))
        .collect()
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut told = Told::founded();
    let mut plain = Plain::of(&told.directory);
    let mut states = vec![told.directory.clone()];
    let mut number = 0;
    for step in steps {
        number += 1;
        let command = command_of(step, &told.directory);
        let before = told.directory.clone();
        let again = match step {
            Step::Again(back, _) => told
                .changes
                .len()
                .checked_sub(*back)
                .map(|place| told.changes[place].id),
            _ => None,
        };
        let applied = match again {
            Some(id) => told.tell_as(id, command),
            None => told.tell(command),
        };
        let change = told.changes.last().unwrap();
        let answer = plain.apply(number, change);
        let mut given = applied.outcome.as_ref().map_err(word).cloned();
        if let Ok(Outcome::Divergence { refused, .. }) = &mut given {
            let words: Vec<_> = refused
                .drain(..)
                .map(|(subject, refusal)| (subject, word(&refusal)))
                .collect();
            prop_assert!(again.is_some() || words == plain.refused, "{:?}", words);
        }
        prop_assert_eq!(given, answer, "{:?}", change);
        assert_same(&told.directory, &plain)?;
        let made = applied.outcome.is_ok() && again.is_none();
        assert_audited(&before, &told.directory, made.then_some(change))?;
        if applied.outcome.is_err() || again.is_some() {
            prop_assert_eq!(&applied.events, &Vec::new());
            let touched: Vec<_> = difference(&before, &told.directory)
                .map(|one| key_of(&one))
                .collect();
            let quiet = touched
                .iter()
                .all(|key| matches!(key, Key::Group | Key::Answered(_)));
            prop_assert!(quiet, "{:?} touched {:?}", change, touched);
        }
        states.push(told.directory.clone());
    }
    assert_replicas(&told, &states)
}

fn assert_replicas(told: &Told, states: &[Directory]) -> Result<(), TestCaseError> {
    let loaded = Directory::from_records(told.directory.records()).unwrap();
    prop_assert_eq!(&loaded, &told.directory);
    let mut backwards: Vec<_> = told.directory.records().collect();
    backwards.reverse();
    prop_assert_eq!(
        &Directory::from_records(backwards).unwrap(),
        &told.directory
    );
    // A replica that starts from a snapshot half-way comes to the same.
    let half = told.changes.len() / 2;
    let mut replica = Directory::from_records(states[half].records()).unwrap();
    for (number, change) in (1..).zip(&told.changes).skip(half) {
        let bytes = postcard::to_stdvec(change).unwrap();
        replica.apply(number, &postcard::from_bytes(&bytes).unwrap());
    }
    prop_assert_eq!(&replica, &told.directory);
    for state in [&states[0], &states[half]] {
        let mut found: Vec<_> = difference(state, &told.directory).collect();
        found.sort_by_key(key_of);
        prop_assert_eq!(found, obvious_difference(state, &told.directory));
        let mut found: Vec<_> = difference(&told.directory, state).collect();
        found.sort_by_key(key_of);
        prop_assert_eq!(found, obvious_difference(&told.directory, state));
        let changed = told.directory.sessions_changed_since(state);
        prop_assert_eq!(
            changed.map(|session| session.id).collect::<Vec<_>>(),
            obviously_changed_sessions(state, &told.directory)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_are_answered_like_the_twin_answers_them(steps in vec(any_step(), 1..120)) {
        run(&[opening(), steps].concat())?;
    }
}
