//! Servers that are being drained.

use crate::fixture::*;
use model::server::Offline;
use model::{
    Application, Directory, Drain, Mode, OnDrain, ServerId, Session, SessionState, UnixMillis,
};
use policy::draining::{AGAIN, Action, Draining, TOGETHER, Wish, drain};
use std::collections::BTreeSet;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn editor() -> Application {
    Application {
        on_drain: OnDrain::Keep,
        ..app("editor")
    }
}

fn of(app: &str, session: Session) -> Session {
    Session {
        app: app.parse().unwrap(),
        ..session
    }
}

/// Newyork is drained since [`AT`], for a minute; one session of each kind is there.
fn drained(sessions: Vec<Session>) -> Made {
    let mut made = made();
    made.apps = vec![app("desktop"), editor()];
    made.sessions = sessions;
    made.server(NEWYORK).mode = Mode::Offline(Offline {
        by: "ann".to_owned(),
        reason: None,
        since: AT,
        until: None,
        drain: Some(Drain {
            deadline: AT.after(MINUTE),
            finished: None,
        }),
    });
    made
}

fn moves(actions: &[Action]) -> Vec<u8> {
    let number = |action: &Action| match action {
        Action::Move { session, from } => {
            assert_eq!(*from, NEWYORK);
            Some(session.as_bytes()[9])
        }
        Action::Finish(_) => None,
    };
    let mut moves: Vec<u8> = actions.iter().filter_map(number).collect();
    moves.sort_unstable();
    moves
}

#[test]
fn suspended_sessions_go_at_once_and_those_in_use_at_the_deadline() {
    let later = Session {
        created: AT.after(ms(1)),
        ..session(6, NEWYORK, SessionState::Suspended)
    };
    let directory = drained(vec![
        session(1, NEWYORK, SessionState::Suspended),
        session(2, NEWYORK, SessionState::Active),
        session(3, NEWYORK, SessionState::Starting),
        session(4, NEWYORK, SessionState::Orphaned),
        of("editor", session(5, NEWYORK, SessionState::Suspended)),
        later,
        session(7, BOSTON, SessionState::Suspended),
    ])
    .directory();
    let mut draining = Draining::default();
    let mut at = |calendar: UnixMillis, now| moves(&draining.handle(&directory, calendar, now));
    assert_eq!(at(AT, secs(0)), [1]);
    assert_eq!(at(AT, secs(1)), [0; 0], "it is under way");
    assert_eq!(at(AT, AGAIN), [1], "it did not go");
    assert_eq!(at(AT.after(MINUTE), AGAIN + secs(1)), [2]);
}

#[test]
fn a_drain_is_finished_once_nothing_is_left_and_only_then() {
    let finishes = |sessions: Vec<Session>| {
        let directory: Directory = drained(sessions).directory();
        let mut draining = Draining::default();
        let first = draining.handle(&directory, AT, secs(0));
        assert_eq!(
            draining.handle(&directory, AT, secs(1)),
            [],
            "asked for twice"
        );
        first == [Action::Finish(NEWYORK)]
    };
    assert!(finishes(Vec::new()));
    assert!(finishes(vec![of(
        "editor",
        session(1, NEWYORK, SessionState::Active)
    )]));
    assert!(finishes(vec![session(1, NEWYORK, SessionState::Orphaned)]));
    assert!(!finishes(vec![session(1, NEWYORK, SessionState::Active)]));
    assert!(!finishes(vec![session(1, NEWYORK, SessionState::Starting)]));
    let mut done = drained(Vec::new());
    if let Mode::Offline(offline) = &mut done.server(NEWYORK).mode
        && let Some(drain) = &mut offline.drain
    {
        drain.finished = Some(AT);
    }
    let directory = done.directory();
    assert_eq!(Draining::default().handle(&directory, AT, secs(0)), []);
}

#[test]
fn other_servers_start_only_so_many_at_a_time() {
    let many = (0..200).map(|number| session(number, NEWYORK, SessionState::Suspended));
    let directory = drained(many.collect()).directory();
    let mut draining = Draining::default();
    let mut all = BTreeSet::new();
    for look in 0..4 {
        let now = ms(500 * look);
        let some = moves(&draining.handle(&directory, AT, now));
        assert!(some.len() <= TOGETHER);
        all.extend(some);
    }
    assert_eq!(all.len(), 200);
}

#[test]
fn a_plan_names_what_is_moved_and_says_what_stays() {
    let mut made = drained(vec![
        session(1, NEWYORK, SessionState::Suspended),
        session(2, NEWYORK, SessionState::Active),
        session(3, DETROIT, SessionState::Active),
        of("editor", session(4, NEWYORK, SessionState::Suspended)),
        of("game", session(5, NEWYORK, SessionState::Active)),
        session(6, NEWYORK, SessionState::Orphaned),
        session(7, BOSTON, SessionState::Active),
    ]);
    made.apps.push(app("game"));
    made.server(NEWYORK).mode = Mode::Online;
    let seen = Seen::by(BOSTON, &made);
    let elsewhere = |app: &Application| {
        let no = app.name.as_str() == "game";
        no.then(|| "boston: game asks for gpu=yes, which it lacks".to_owned())
    };
    let plan = |servers: &[ServerId], within| {
        let servers = servers.iter().copied().collect();
        let wish = Wish {
            servers: &servers,
            within,
        };
        drain(&seen.view(), wish, elsewhere)
    };
    let both = plan(&[NEWYORK, DETROIT], Some(5 * MINUTE));
    assert_eq!((both.impact.kept, both.impact.moved.count), (4, 3));
    let none = plan(&[NEWYORK], None);
    assert_eq!((none.impact.kept, none.impact.moved.count), (7, 0));
    insta::assert_snapshot!(format!("{both}\n{none}"));
}
