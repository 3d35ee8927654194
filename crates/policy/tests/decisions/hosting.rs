//! A host and its keepers against a real directory: stories, and random failures after which both must agree.

use crate::fixture::{AT, BOSTON, Made, NEWYORK, made, ms, secs, session, session_id};
use model::session::Seen;
use model::user::PasswordHash;
use model::{
    AppName, Application, Author, Change, ChangeId, Command, Directory, EndReason, Session,
    SessionId, SessionState, Token, UnixMillis, UserName,
};
use model::{Role, User};
use policy::hosting::{Action, Event, Hosting, Keeper, Phase};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn keeper(number: u8, phase: Phase, client: Option<&str>) -> Keeper {
    Keeper {
        token: Token::new(&format!("card.{number}")).unwrap(),
        user: UserName::new("ann").unwrap(),
        app: AppName::new("desktop").unwrap(),
        created: UnixMillis(5),
        phase,
        client: client.map(str::to_owned),
        last_attached: client.map(|_| AT),
    }
}

/// Newyork as a host, and the world around it: what survives a crash of its server, and a primary that may be away.
struct World {
    directory: Directory,
    hosting: Hosting,
    /// How far the replica went when newyork last looked for keepers.
    view: Option<u64>,
    /// What newyork's replica shows; it may be behind.
    replica: Directory,
    keepers: BTreeMap<SessionId, Keeper>,
    primary: bool,
    changes: u64,
    now: Duration,
    story: Vec<String>,
    /// Ends that a keeper was told.
    ended: BTreeSet<SessionId>,
}

impl World {
    fn of(made: &Made) -> Self {
        let mut directory = made.directory();
        let user = User {
            name: UserName::new("ann").unwrap(),
            password: PasswordHash("x".to_owned()),
            role: Role::User,
            groups: Vec::new(),
            disabled: false,
            password_set: AT,
            version_number: 0,
            api_tokens: Vec::new(),
            lock: None,
            origin: model::Origin::Directory,
        };
        let mut app = Application::named(AppName::new("desktop").unwrap());
        app.launch = Some("desk".to_owned());
        app.backends = vec!["unix:{socket}".parse().unwrap()];
        let mut world = Self {
            replica: directory.clone(),
            directory: directory.clone(),
            hosting: Hosting::new(NEWYORK),
            view: None,
            keepers: BTreeMap::new(),
            primary: true,
            changes: directory.newest().number,
            now: ms(0),
            story: Vec::new(),
            ended: BTreeSet::new(),
        };
        world.change(Command::PutUser {
            user: Box::new(user),
            expect: None,
        });
        world.change(Command::PutApp {
            app: Box::new(app),
            expect: None,
        });
        directory = world.directory.clone();
        world.replica = directory;
        world
    }

    /// A change that the primary accepts; its outcome must be no refusal.
    fn change(&mut self, command: Command) {
        self.changes += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.changes.to_be_bytes());
        let change = Change {
            id: ChangeId::from_bytes(id),
            at: UnixMillis(AT.0 + self.changes),
            author: Author::Server(BOSTON),
            command,
        };
        let applied = self.directory.apply(self.changes, &change);
        if let Err(refusal) = &applied.outcome {
            self.story.push(format!("refused: {refusal}"));
        }
        assert_eq!(self.directory.check(), Vec::<String>::new());
    }

    fn create(&mut self, number: u8) {
        self.change(Command::CreateSession {
            session: session_id(number),
            token: Token::new(&format!("card.{number}")).unwrap(),
            user: UserName::new("ann").unwrap(),
            app: AppName::new("desktop").unwrap(),
            host: NEWYORK,
        });
    }

    /// The server process dies; its keepers do not.
    fn restart(&mut self) {
        self.tell("the server restarts");
        self.hosting = Hosting::new(NEWYORK);
        self.view = None;
        self.found();
    }

    fn found(&mut self) {
        let view = self.replica.newest().number;
        let keepers = self.keepers.clone();
        self.hosting.handle(Event::Found { keepers, view });
        self.view = Some(view);
    }

    fn keeper(&mut self, number: u8, phase: Phase, client: Option<&str>) {
        let keeper = keeper(number, phase, client);
        self.keepers.insert(session_id(number), keeper.clone());
        self.hosting
            .handle(Event::Keeper(session_id(number), Box::new(keeper)));
    }

    fn tell(&mut self, what: &str) {
        self.story
            .push(format!("{:>6} ms  {what}", self.now.as_millis()));
    }

    /// The replica catches up, and the server looks at its sessions and does what is to be done. Whether anything was.
    fn look(&mut self) -> bool {
        if self.primary {
            self.replica = self.directory.clone();
            self.hosting.handle(Event::UpToDate);
        }
        let actions = self.reconcile();
        let busy = !actions.is_empty();
        for action in actions {
            let words = words(&action);
            self.tell(&words);
            self.execute(action);
        }
        if self.primary {
            self.replica = self.directory.clone();
        }
        busy
    }

    /// What is found by looking at what changed is what its twin finds by looking at everything.
    fn reconcile(&mut self) -> Vec<Action> {
        let mut twin = self.hosting.clone();
        if let Some(view) = self.view {
            // That nothing else was found makes it look at everything again.
            let keepers = BTreeMap::new();
            twin.handle(Event::Found { keepers, view });
        }
        let actions = self.hosting.reconcile(&self.replica, self.now);
        assert_eq!(
            twin.reconcile(&self.replica, self.now),
            actions,
            "{}",
            self.told()
        );
        actions
    }

    /// Looks as often as something happens by it.
    fn settle(&mut self) {
        let before = self.story.len();
        while self.look() {
            assert!(self.story.len() < before + 100, "no end: {}", self.told());
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::StartKeeper(session) => {
                assert!(
                    !self.keepers.contains_key(&session),
                    "{session} has a keeper already"
                );
                let number = session.as_bytes()[9];
                self.keeper(number, Phase::Running, None);
            }
            Action::EndKeeper { session, reason } => {
                self.ended.insert(session);
                let number = session.as_bytes()[9];
                self.keeper(number, Phase::Ended(reason), None);
            }
            Action::ForgetKeeper(session) => {
                let keeper = self.keepers.remove(&session);
                assert!(
                    keeper.is_none_or(|keeper| matches!(keeper.phase, Phase::Ended(_))),
                    "{session} was running"
                );
                self.hosting.handle(Event::Forgotten(session));
            }
            Action::Observe(observations) if self.primary => {
                self.change(Command::ObserveSessions {
                    host: NEWYORK,
                    observations,
                });
            }
            Action::Register {
                sessions,
                complete_to,
            } if self.primary => {
                self.change(Command::RegisterSessions {
                    host: NEWYORK,
                    sessions,
                    complete_to,
                });
                if complete_to.is_some() {
                    self.hosting.handle(Event::Registered);
                }
            }
            Action::Observe(_) | Action::Register { .. } => {}
        }
    }

    /// Looks again whenever it is to, for a while.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while let Some(wake) = self.hosting.poll_timeout().filter(|wake| *wake <= end) {
            assert!(wake > self.now, "it wakes up for nothing: {}", self.told());
            self.now = wake;
            self.settle();
        }
        self.now = end;
    }

    fn state(&self, number: u8) -> SessionState {
        self.directory.session(session_id(number)).unwrap().state
    }

    fn told(&self) -> String {
        self.story.join("\n")
    }
}

fn words(action: &Action) -> String {
    let short = |id: &SessionId| id.as_bytes()[9].to_string();
    match action {
        Action::StartKeeper(id) => format!("start {}", short(id)),
        Action::EndKeeper { session, reason } => format!("end {}: {reason}", short(session)),
        Action::ForgetKeeper(id) => format!("forget {}", short(id)),
        Action::Observe(seen) => {
            let one = |one: &model::session::Observation| match &one.seen {
                Seen::Active { client, .. } => {
                    format!("{} is active from {client}", short(&one.session))
                }
                Seen::Suspended => format!("{} is suspended", short(&one.session)),
                Seen::Ended { reason } => format!("{} ended: {reason}", short(&one.session)),
            };
            format!(
                "observe: {}",
                seen.iter().map(one).collect::<Vec<_>>().join(", ")
            )
        }
        Action::Register {
            sessions,
            complete_to,
        } => {
            let ids: Vec<_> = sessions.iter().map(|one| short(&one.session)).collect();
            let all = if complete_to.is_some() {
                ", and that is all"
            } else {
                ""
            };
            format!("register [{}]{all}", ids.join(", "))
        }
    }
}

#[test]
fn the_life_of_a_session() {
    let mut world = World::of(&made());
    world.found();
    world.run(secs(1));
    world.create(1);
    world.run(secs(1));
    assert_eq!(world.state(1), SessionState::Suspended);
    world.tell("ann attaches");
    world.keeper(1, Phase::Running, Some("10.0.0.7"));
    world.run(secs(3));
    assert_eq!(world.state(1), SessionState::Active);
    world.tell("the primary goes away, and ann too");
    world.primary = false;
    world.keeper(1, Phase::Running, None);
    world.run(secs(2));
    assert_eq!(world.state(1), SessionState::Active);
    world.tell("there is a primary again");
    world.primary = true;
    world.hosting.handle(Event::NewPrimary);
    world.run(secs(2));
    assert_eq!(world.state(1), SessionState::Suspended);
    world.tell("an administrator ends it");
    world.change(Command::EndSession {
        session: session_id(1),
        by: "admin".to_owned(),
    });
    world.run(secs(7));
    assert!(world.keepers.is_empty());
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_session_that_was_moved_ends_where_it_was() {
    let mut world = World::of(&made());
    world.found();
    world.run(secs(1));
    world.create(1);
    world.run(secs(2));
    assert!(!world.keepers.is_empty());
    world.change(Command::MoveSession {
        session: session_id(1),
        new: session_id(2),
        to: BOSTON,
        by: "ann".to_owned(),
    });
    world.run(secs(7));
    assert!(world.keepers.is_empty(), "and nothing starts here");
    assert_eq!(world.state(2), SessionState::Starting);
}

#[test]
fn a_server_finds_its_sessions_again_and_the_rest_is_recorded() {
    let mut made = made();
    for (number, state) in [
        (1, SessionState::Active),
        (2, SessionState::Suspended),
        (3, SessionState::Orphaned),
        (4, SessionState::Active),
        (5, SessionState::Starting),
        (7, SessionState::Ended),
    ] {
        made.sessions.push(session(number, NEWYORK, state));
    }
    let mut world = World::of(&made);
    for (number, phase, client) in [
        (1, Phase::Running, Some("10.0.0.7")),
        (3, Phase::Running, None),
        (
            4,
            Phase::Ended(EndReason::Exited {
                code: Some(0),
                signal: None,
            }),
            None,
        ),
        (6, Phase::Running, None),
        (7, Phase::Running, None),
    ] {
        world
            .keepers
            .insert(session_id(number), keeper(number, phase, client));
    }
    world.primary = false;
    world.restart();
    world.run(secs(2));
    world.tell("there is a primary");
    world.primary = true;
    world.run(secs(10));
    let states: Vec<_> = (1..=7)
        .map(|number| format!("{number} {}", world.state(number).as_str()))
        .collect();
    assert_eq!(
        world
            .directory
            .session(session_id(4))
            .unwrap()
            .reason
            .as_deref(),
        Some(&EndReason::Exited {
            code: Some(0),
            signal: None
        })
    );
    assert_eq!(
        world
            .directory
            .session(session_id(2))
            .unwrap()
            .reason
            .as_deref(),
        Some(&EndReason::LostWithHost)
    );
    insta::assert_snapshot!(format!("{}\n{}", world.told(), states.join(", ")));
}

#[test]
fn a_host_that_was_cut_off_registers_what_was_orphaned() {
    let mut world = World::of(&made());
    world.found();
    world.create(1);
    world.create(2);
    world.run(secs(1));
    world.tell("the host is cut off, and its sessions are given up; 2 is superseded on boston");
    world.primary = false;
    world.change(Command::OrphanSessions {
        host: NEWYORK,
        reasons: Vec::new(),
    });
    world.change(Command::CreateSession {
        session: session_id(9),
        token: Token::new("card.2").unwrap(),
        user: UserName::new("ann").unwrap(),
        app: AppName::new("desktop").unwrap(),
        host: BOSTON,
    });
    world.run(secs(5));
    world.tell("it is back");
    world.primary = true;
    world.run(secs(5));
    assert!(world.directory.session(session_id(1)).unwrap().current);
    assert!(!world.directory.session(session_id(2)).unwrap().current);
    assert_eq!(world.state(2), SessionState::Suspended);
    insta::assert_snapshot!(world.told());
}

#[test]
fn a_start_that_fails_is_said_with_what_was_printed() {
    let mut world = World::of(&made());
    world.found();
    world.run(ms(10));
    world.create(1);
    world.replica = world.directory.clone();
    let actions = world.hosting.reconcile(&world.replica, world.now);
    assert_eq!(actions, [Action::StartKeeper(session_id(1))]);
    assert_eq!(
        world.hosting.reconcile(&world.replica, world.now),
        [],
        "once"
    );
    world.hosting.handle(Event::NotStarted {
        session: session_id(1),
        detail: "no such command: desk".to_owned(),
    });
    world.run(secs(1));
    let over = world.directory.session(session_id(1)).unwrap();
    assert_eq!(
        over.reason.as_deref(),
        Some(&EndReason::FailedToStart {
            detail: "no such command: desk".to_owned()
        })
    );
    assert!(world.told().ends_with("forget 1"), "{}", world.told());
    // A keeper that vanishes later.
    world.create(2);
    world.run(secs(1));
    world.keepers.remove(&session_id(2));
    let reason = EndReason::Exited {
        code: None,
        signal: Some(9),
    };
    world.hosting.handle(Event::Lost {
        session: session_id(2),
        reason: reason.clone(),
    });
    world.run(secs(1));
    assert_eq!(
        world
            .directory
            .session(session_id(2))
            .unwrap()
            .reason
            .as_deref(),
        Some(&reason)
    );
}

#[test]
fn nothing_is_done_before_the_host_has_looked_and_nothing_started_from_the_past() {
    let mut made = made();
    made.sessions
        .push(session(1, NEWYORK, SessionState::Starting));
    let directory = made.directory();
    let mut hosting = Hosting::new(NEWYORK);
    hosting.handle(Event::UpToDate);
    assert_eq!(hosting.reconcile(&directory, ms(0)), []);
    let mut hosting = Hosting::new(NEWYORK);
    hosting.handle(Event::Found {
        keepers: BTreeMap::new(),
        view: 100,
    });
    assert_eq!(hosting.reconcile(&directory, ms(0)), []);
    assert!(!hosting.is_registered());
    hosting.handle(Event::UpToDate);
    let expected = [
        Action::Register {
            sessions: Vec::new(),
            complete_to: Some(100),
        },
        Action::StartKeeper(session_id(1)),
    ];
    assert_eq!(hosting.reconcile(&directory, ms(0)), expected);
}

#[test]
fn large_hosts_register_in_parts_and_long_names_settle() {
    let mut hosting = Hosting::new(NEWYORK);
    let id = |number: u32| {
        let mut bytes = [7; SessionId::LEN];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        SessionId::from_bytes(bytes)
    };
    let all: BTreeMap<_, _> = (0..12_000)
        .map(|number| (id(number), keeper(1, Phase::Running, None)))
        .collect();
    hosting.handle(Event::Found {
        keepers: all,
        view: 7,
    });
    hosting.handle(Event::UpToDate);
    let parts: Vec<_> = hosting
        .reconcile(&made().directory(), ms(0))
        .into_iter()
        .map(|action| match action {
            Action::Register {
                sessions,
                complete_to,
            } => (sessions.len(), complete_to),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(parts, [(5_000, None), (5_000, None), (2_000, Some(7))]);
    // An address longer than what is kept is not said over and over.
    let mut world = World::of(&made());
    world.found();
    world.create(1);
    world.run(ms(10));
    world.keeper(1, Phase::Running, Some(&"é".repeat(200)));
    world.run(ms(10));
    assert_eq!(world.state(1), SessionState::Active);
    assert_eq!(world.hosting.reconcile(&world.directory, secs(100)), []);
    assert_eq!(Session::CLIENT_LIMIT, 256);
}

#[derive(Debug, Clone, Copy)]
enum Happens {
    Create(u8),
    Attach(u8, u8),
    Detach(u8),
    Exit(u8),
    Vanish(u8),
    EndByHand(u8),
    Orphan,
    Supersede(u8),
    Restart,
    Primary(bool),
    Look,
    Wait(u16),
}

fn happens() -> impl Strategy<Value = Happens> {
    let one = || 1..6u8;
    prop_oneof![
        3 => one().prop_map(Happens::Create),
        3 => (one(), 0..3u8).prop_map(|(session, client)| Happens::Attach(session, client)),
        2 => one().prop_map(Happens::Detach),
        1 => one().prop_map(Happens::Exit),
        1 => one().prop_map(Happens::Vanish),
        1 => one().prop_map(Happens::EndByHand),
        1 => Just(Happens::Orphan),
        1 => one().prop_map(Happens::Supersede),
        1 => Just(Happens::Restart),
        2 => any::<bool>().prop_map(Happens::Primary),
        4 => Just(Happens::Look),
        4 => (1..4_000u16).prop_map(Happens::Wait),
    ]
}

impl World {
    fn happen(&mut self, event: Happens) {
        let running = |world: &Self, number: u8| {
            let keeper = world.keepers.get(&session_id(number));
            keeper.is_some_and(|keeper| !matches!(keeper.phase, Phase::Ended(_)))
        };
        self.tell(&format!("{event:?}"));
        match event {
            Happens::Create(number) => self.create(number),
            Happens::Attach(number, client) if running(self, number) => {
                self.keeper(number, Phase::Running, Some(&format!("10.0.0.{client}")));
            }
            Happens::Detach(number) if running(self, number) => {
                self.keeper(number, Phase::Running, None)
            }
            Happens::Exit(number) if running(self, number) => {
                self.keeper(
                    number,
                    Phase::Ended(EndReason::Exited {
                        code: Some(0),
                        signal: None,
                    }),
                    None,
                );
            }
            Happens::Vanish(number) if running(self, number) => {
                self.keepers.remove(&session_id(number));
                let reason = EndReason::Exited {
                    code: None,
                    signal: None,
                };
                self.hosting.handle(Event::Lost {
                    session: session_id(number),
                    reason,
                });
            }
            Happens::EndByHand(number) if self.directory.session(session_id(number)).is_some() => {
                self.change(Command::EndSession {
                    session: session_id(number),
                    by: "admin".to_owned(),
                });
            }
            Happens::Orphan => self.change(Command::OrphanSessions {
                host: NEWYORK,
                reasons: Vec::new(),
            }),
            Happens::Supersede(number) => {
                self.change(Command::CreateSession {
                    session: session_id(number + 100),
                    token: Token::new(&format!("card.{number}")).unwrap(),
                    user: UserName::new("ann").unwrap(),
                    app: AppName::new("desktop").unwrap(),
                    host: BOSTON,
                });
            }
            Happens::Restart => self.restart(),
            Happens::Primary(there) => self.primary = there,
            Happens::Look => {
                self.look();
            }
            Happens::Wait(span) => self.run(ms(u64::from(span))),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happened: with a primary and a little time, every keeper's session is live here and shown as it is, every
    /// session that the directory has here has a keeper, and no session that runs was told to end unless the group ended it.
    #[test]
    fn host_and_directory_come_to_agree(events in prop::collection::vec(happens(), 1..60)) {
        let mut world = World::of(&made());
        world.found();
        for event in events {
            world.happen(event);
        }
        world.primary = true;
        world.tell("all is well");
        world.run(secs(20));
        for session in world.directory.sessions_on(NEWYORK) {
            let keeper = world.keepers.get(&session.id);
            prop_assert!(keeper.is_some(), "{} has no keeper:\n{}", session.id, world.told());
        }
        for (id, keeper) in &world.keepers {
            let session = world.directory.session(*id);
            prop_assert!(session.is_some_and(|session| session.host == NEWYORK && session.is_live()), "{}:\n{}", id, world.told());
            let expected = if keeper.client.is_some() { SessionState::Active } else { SessionState::Suspended };
            prop_assert_eq!(session.map(|session| session.state), Some(expected), "{}:\n{}", id, world.told());
        }
        for id in &world.ended {
            let session = world.directory.session(*id);
            prop_assert!(session.is_none_or(|session| !session.is_live()), "{} was ended:\n{}", id, world.told());
        }
        prop_assert_eq!(world.hosting.reconcile(&world.directory, world.now + secs(100)), vec![], "{}", world.told());
    }
}

/// Sessions of an application that launches nothing, and of somebody whom nobody knows.
fn bound() -> (World, SessionId, Keeper) {
    let mut world = World::of(&made());
    let mut app = Application::named(AppName::new("rdp").unwrap());
    app.backends = vec!["tcp:127.0.0.1:3389".parse().unwrap()];
    world.change(Command::PutApp {
        app: Box::new(app),
        expect: None,
    });
    world.change(Command::BindToken {
        session: session_id(1),
        token: Token::new("addr.10.0.0.5").unwrap(),
        app: AppName::new("rdp").unwrap(),
        host: NEWYORK,
    });
    let keeper = Keeper {
        token: Token::new("addr.10.0.0.5").unwrap(),
        user: UserName::nobody(),
        app: AppName::new("rdp").unwrap(),
        ..keeper(1, Phase::Running, None)
    };
    (world, session_id(1), keeper)
}

/// A host that is up to date and has registered what it had.
fn settled(directory: &Directory) -> Hosting {
    let mut hosting = Hosting::new(NEWYORK);
    hosting.handle(Event::Found {
        keepers: BTreeMap::new(),
        view: directory.newest().number,
    });
    hosting.handle(Event::UpToDate);
    hosting.handle(Event::Registered);
    hosting
}

fn visited(session: SessionId, client: &str, now: Duration) -> Event {
    Event::Visited {
        session,
        client: client.to_owned(),
        at: AT,
        now,
    }
}

fn left(session: SessionId, now: Duration) -> Event {
    Event::Left {
        session,
        at: AT,
        now,
    }
}

fn seen(actions: &[Action]) -> Vec<Seen> {
    let observed = actions.iter().filter_map(|action| match action {
        Action::Observe(list) => Some(list.iter().map(|one| one.seen.clone())),
        _ => None,
    });
    observed.flatten().collect()
}

#[test]
fn visitors_that_come_and_go_are_told_of_once() {
    let (mut world, session, keeper) = bound();
    let mut hosting = settled(&world.directory);
    hosting.handle(Event::Bound {
        session,
        keeper: Box::new(keeper),
        since: ms(0),
    });
    assert_eq!(seen(&hosting.reconcile(&world.directory, ms(0))), []);
    hosting.handle(visited(session, "10.0.0.5", ms(10)));
    let active = seen(&hosting.reconcile(&world.directory, ms(20)));
    let [Seen::Active { client, .. }] = &active[..] else {
        panic!("{active:?}");
    };
    assert_eq!(client, "10.0.0.5");
    world.change(Command::ObserveSessions {
        host: NEWYORK,
        observations: vec![model::Observation {
            session,
            seen: active[0].clone(),
        }],
    });
    // A hundred short visits in four seconds change nothing.
    for visit in 1..100 {
        hosting.handle(left(session, ms(visit * 40)));
        assert_eq!(
            seen(&hosting.reconcile(&world.directory, ms(visit * 40))),
            []
        );
        hosting.handle(visited(session, "10.0.0.5", ms(visit * 40 + 20)));
        assert_eq!(
            seen(&hosting.reconcile(&world.directory, ms(visit * 40 + 20))),
            []
        );
    }
    hosting.handle(left(session, secs(6)));
    assert_eq!(seen(&hosting.reconcile(&world.directory, secs(6))), []);
    let lingers = secs(6) + policy::hosting::LINGER;
    assert_eq!(hosting.poll_timeout(), Some(lingers));
    assert_eq!(
        seen(&hosting.reconcile(&world.directory, lingers)),
        [Seen::Suspended]
    );
}

#[test]
fn who_did_not_stay_is_not_remembered_for_long() {
    for (stay, kept) in [
        (secs(1), policy::hosting::FLEETING),
        (policy::hosting::STAY, secs(8 * 3600)),
    ] {
        let (world, session, keeper) = bound();
        let mut hosting = settled(&world.directory);
        hosting.handle(Event::Bound {
            session,
            keeper: Box::new(keeper),
            since: ms(0),
        });
        hosting.handle(visited(session, "10.0.0.5", secs(1)));
        let gone = secs(1) + stay;
        hosting.handle(left(session, gone));
        let end = gone + kept;
        let told = hosting.reconcile(&world.directory, end - ms(1));
        assert!(
            !told
                .iter()
                .any(|one| matches!(one, Action::EndKeeper { .. }))
        );
        let told = hosting.reconcile(&world.directory, end);
        let reason = EndReason::TimedOut;
        assert!(
            told.contains(&Action::EndKeeper { session, reason }),
            "{told:?}"
        );
    }
}

/// What passes puts the end off, somebody being there does not; nor does it matter that nobody ever came.
#[test]
fn a_session_through_which_no_visitor_says_anything_ends() {
    let (mut world, session, keeper) = bound();
    let mut app = (**world.directory.app(&keeper.app).expect("it was added")).clone();
    app.idle_timeout_ms = Some(10_000);
    let expect = Some(app.version_number);
    let app = Box::new(app);
    world.change(Command::PutApp { app, expect });
    let bind = || {
        let mut hosting = settled(&world.directory);
        let keeper = Box::new(keeper.clone());
        let since = ms(0);
        hosting.handle(Event::Bound {
            session,
            keeper,
            since,
        });
        hosting
    };
    let reason = EndReason::Idle;
    let end = Action::EndKeeper { session, reason };
    // Alone from the beginning.
    let mut hosting = bind();
    let told = hosting.reconcile(&world.directory, ms(9_999));
    assert!(!told.contains(&end), "{told:?}");
    assert_eq!(hosting.poll_timeout(), Some(secs(10)));
    let told = hosting.reconcile(&world.directory, secs(10));
    assert!(told.contains(&end), "{told:?}");
    // With a visitor who is there all the time.
    let mut hosting = bind();
    hosting.handle(visited(session, "10.0.0.5", secs(5)));
    for passed in [7, 16, 25] {
        let told = hosting.reconcile(&world.directory, secs(passed));
        assert!(!told.contains(&end), "{passed}: {told:?}");
        let at = secs(passed);
        hosting.handle(Event::Passed { session, at });
    }
    // Older news do not bring it forward.
    let at = secs(20);
    hosting.handle(Event::Passed { session, at });
    let told = hosting.reconcile(&world.directory, secs(35) - ms(1));
    assert!(!told.contains(&end), "{told:?}");
    assert_eq!(hosting.poll_timeout(), Some(secs(35)));
    let told = hosting.reconcile(&world.directory, secs(35));
    assert!(told.contains(&end), "{told:?}");
}
