//! Hosts that stay away: a table of cases, and a dumb twin.

use crate::fixture::{BOSTON, DETROIT, NEWYORK, details, made, ms, name_of, secs, session};
use model::{ServerId, SessionState};
use policy::liveness::{Allowance, Condition, Event, GiveUp, Liveness, has_reachable_sessions};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ALLOWANCE: Allowance = Allowance {
    grace: Duration::from_millis(500),
    dead_after: Duration::from_secs(1),
};

fn names(hosts: &[ServerId]) -> Event {
    Event::Hosts(
        hosts
            .iter()
            .map(|id| (*id, name_of(*id).to_owned()))
            .collect(),
    )
}

/// A primary since 0 that has just heard newyork and detroit.
fn watching() -> Liveness {
    let mut liveness = Liveness::new(ALLOWANCE);
    told(&mut liveness, names(&[NEWYORK, DETROIT]), ms(0));
    told(&mut liveness, Event::Acting(true), ms(0));
    hear(&mut liveness, NEWYORK, ms(0));
    hear(&mut liveness, DETROIT, ms(0));
    liveness
}

/// Takes in one thing and judges at once.
fn told(liveness: &mut Liveness, event: Event, now: Duration) -> Vec<GiveUp> {
    liveness.handle(event, now);
    liveness.handle_timeout(now)
}

fn hear(liveness: &mut Liveness, host: ServerId, at: Duration) {
    assert!(
        told(liveness, Event::Heard { host, at }, at)
            .iter()
            .all(|gone| gone.host != host)
    );
}

fn nothing(_: &mut Liveness, _: Duration) -> Vec<GiveUp> {
    Vec::new()
}

fn refuse(liveness: &mut Liveness, now: Duration) -> Vec<GiveUp> {
    told(
        liveness,
        Event::Refused {
            host: NEWYORK,
            at: now,
        },
        now,
    )
}

/// Lets time pass in steps of 10 ms, with detroit well; when newyork was given up, and why.
fn given_up(
    liveness: &mut Liveness,
    from: Duration,
    until: Duration,
    mut each: impl FnMut(&mut Liveness, Duration) -> Vec<GiveUp>,
) -> Vec<(u128, String)> {
    let mut gone = Vec::new();
    let mut now = from;
    while now < until {
        now += ms(10);
        let mut found = each(liveness, now);
        found.extend(told(
            liveness,
            Event::Heard {
                host: DETROIT,
                at: now,
            },
            now,
        ));
        found.extend(liveness.handle_timeout(now));
        gone.extend(found.into_iter().map(|one| {
            assert_eq!(one.host, NEWYORK);
            (now.as_millis(), details(&one.reasons))
        }));
    }
    gone
}

#[test]
fn a_silent_host_is_given_up_after_grace_and_dead_after_and_again_every_second() {
    let mut liveness = watching();
    let gone = given_up(&mut liveness, ms(0), ms(3_600), nothing);
    let times: Vec<_> = gone.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [1_500, 2_500, 3_500]);
    insta::assert_snapshot!(gone[0].1, @"newyork has been silent for 1.5 s, it may be for 1.5 s (500 ms + 1.0 s); this server has been primary and listening for 1.5 s");
    hear(&mut liveness, NEWYORK, ms(3_600));
    assert_eq!(given_up(&mut liveness, ms(3_600), ms(5_000), nothing), []);
}

#[test]
fn a_restarting_host_has_ten_seconds() {
    let mut liveness = watching();
    let refuse_often = |liveness: &mut Liveness, now: Duration| match now.as_millis() % 200 {
        0 => refuse(liveness, now),
        _ => Vec::new(),
    };
    let gone = given_up(&mut liveness, ms(0), ms(10_300), refuse_often);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].0, 10_200, "the first refusal came at 200 ms");
    insta::assert_snapshot!(gone[0].1, @"newyork has refused connections for 10.0 s, it may for 10.0 s; this server has been primary and listening for 10.2 s");
    // It comes back just in time, once.
    let mut liveness = watching();
    assert_eq!(given_up(&mut liveness, ms(0), ms(10_000), refuse_often), []);
    hear(&mut liveness, NEWYORK, ms(10_000));
    assert_eq!(
        given_up(&mut liveness, ms(10_000), ms(15_000), refuse_often),
        []
    );
}

#[test]
fn a_machine_that_refused_and_fell_silent_is_given_up_as_a_silent_one() {
    let mut liveness = watching();
    let refuse_at_first = |liveness: &mut Liveness, now: Duration| match now {
        now if now <= ms(2_000) => refuse(liveness, now),
        _ => Vec::new(),
    };
    let gone = given_up(&mut liveness, ms(0), ms(3_600), refuse_at_first);
    assert_eq!(gone[0].0, 3_500);
    assert!(
        gone[0].1.starts_with("newyork has been silent for 1.5 s"),
        "{}",
        gone[0].1
    );
}

#[test]
fn a_new_primary_listens_for_a_whole_span_first() {
    let mut liveness = Liveness::new(ALLOWANCE);
    told(&mut liveness, names(&[NEWYORK, DETROIT]), ms(0));
    assert_eq!(given_up(&mut liveness, ms(0), ms(20_000), nothing), []);
    assert_eq!(liveness.poll_timeout(), None);
    told(&mut liveness, Event::Acting(true), ms(20_000));
    let gone = given_up(&mut liveness, ms(20_000), ms(22_000), nothing);
    assert_eq!(gone[0].0, 21_500);
    insta::assert_snapshot!(gone[0].1, @"newyork was not heard since this server became primary 1.5 s ago, it may be for 1.5 s (500 ms + 1.0 s); this server has been primary and listening for 1.5 s");
    told(&mut liveness, Event::Acting(false), ms(22_000));
    assert_eq!(given_up(&mut liveness, ms(22_000), ms(30_000), nothing), []);
    // What refused while another was primary is known: only the span of its own is waited for.
    for now in (22_000..33_000).step_by(100) {
        told(
            &mut liveness,
            Event::Refused {
                host: NEWYORK,
                at: ms(now),
            },
            ms(now),
        );
    }
    told(&mut liveness, Event::Acting(true), ms(33_000));
    assert_eq!(
        given_up(&mut liveness, ms(33_000), ms(35_000), refuse)[0].0,
        34_500
    );
}

#[test]
fn a_host_that_another_server_hears_is_not_given_up() {
    let mut liveness = watching();
    let report = |hears: &[ServerId]| Event::Report {
        from: DETROIT,
        hears: hears.iter().copied().collect(),
    };
    let each = |liveness: &mut Liveness, now: Duration| match now.as_millis() % 1_000 {
        0 => told(liveness, report(&[NEWYORK, BOSTON]), now),
        _ => Vec::new(),
    };
    assert_eq!(given_up(&mut liveness, ms(0), ms(60_000), each), []);
    // Its next report does not name newyork any more: at once.
    let gone = told(&mut liveness, report(&[BOSTON]), ms(60_500));
    assert_eq!(
        gone.iter().map(|one| one.host).collect::<Vec<_>>(),
        [NEWYORK]
    );
    // A host does not vouch for itself, nor does a stranger.
    let mut liveness = watching();
    told(
        &mut liveness,
        Event::Report {
            from: NEWYORK,
            hears: BTreeSet::from([NEWYORK]),
        },
        ms(1_400),
    );
    told(
        &mut liveness,
        Event::Report {
            from: BOSTON,
            hears: BTreeSet::from([NEWYORK]),
        },
        ms(1_400),
    );
    assert_eq!(
        given_up(&mut liveness, ms(1_400), ms(1_600), nothing)[0].0,
        1_500
    );
}

#[test]
fn conditions_in_words_for_status() {
    let mut liveness = watching();
    assert_eq!(liveness.condition(NEWYORK, ms(499)), Some(Condition::Heard));
    assert_eq!(
        liveness.condition(NEWYORK, ms(500)),
        Some(Condition::Silent(Some(ms(500))))
    );
    told(
        &mut liveness,
        Event::Refused {
            host: NEWYORK,
            at: ms(600),
        },
        ms(600),
    );
    assert_eq!(
        liveness.condition(NEWYORK, ms(700)),
        Some(Condition::Refusing(ms(100)))
    );
    assert_eq!(liveness.condition(BOSTON, ms(700)), None);
    told(&mut liveness, names(&[BOSTON]), ms(700));
    assert_eq!(liveness.condition(NEWYORK, ms(700)), None);
    assert_eq!(
        liveness.condition(BOSTON, ms(700)),
        Some(Condition::Silent(None))
    );
}

#[test]
fn only_sessions_that_are_not_orphaned_yet_are_worth_a_change() {
    let mut made = made();
    let none = made.directory();
    assert!(!has_reachable_sessions(&none, NEWYORK));
    made.sessions = vec![
        session(1, NEWYORK, SessionState::Orphaned),
        session(2, NEWYORK, SessionState::Ended),
        session(3, BOSTON, SessionState::Active),
    ];
    assert!(!has_reachable_sessions(&made.directory(), NEWYORK));
    made.sessions
        .push(session(4, NEWYORK, SessionState::Suspended));
    assert!(has_reachable_sessions(&made.directory(), NEWYORK));
}

#[derive(Debug, Clone)]
enum Happens {
    Heard,
    Refused,
    Acting(bool),
    Wait(u16),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The twin keeps the whole history of one host and thinks anew at each step of 10 ms.
    #[test]
    fn gives_up_when_the_twin_does(events in prop::collection::vec(
        prop_oneof![
            2 => Just(Happens::Heard),
            3 => Just(Happens::Refused),
            1 => any::<bool>().prop_map(Happens::Acting),
            5 => (1..400u16).prop_map(Happens::Wait),
        ],
        1..60,
    )) {
        let mut liveness = Liveness::new(ALLOWANCE);
        told(&mut liveness, Event::Hosts(BTreeMap::from([(NEWYORK, "newyork".to_owned())])), ms(0));
        let (mut heard, mut refused, mut acting, mut proposed) = (Vec::new(), Vec::new(), None, None);
        let mut now = ms(0);
        for event in events {
            let mut steps = 0;
            let mut gone = match event {
                Happens::Heard => {
                    heard.push(now);
                    refused.clear();
                    proposed = None;
                    told(&mut liveness, Event::Heard { host: NEWYORK, at: now }, now)
                }
                Happens::Refused => {
                    if heard.last() != Some(&now) {
                        refused.push(now);
                    }
                    told(&mut liveness, Event::Refused { host: NEWYORK, at: now }, now)
                }
                Happens::Acting(true) => {
                    acting = acting.or(Some(now));
                    told(&mut liveness, Event::Acting(true), now)
                }
                Happens::Acting(false) => {
                    acting = None;
                    proposed = None;
                    told(&mut liveness, Event::Acting(false), now)
                }
                Happens::Wait(span) => {
                    steps = span;
                    Vec::new()
                }
            };
            loop {
                let away = acting.is_some_and(|since| {
                    let silent = heard.iter().chain(&refused).all(|at| *at + ms(1_500) <= now);
                    let refusing = refused.first().is_some_and(|first| *first + secs(10) <= now);
                    since + ms(1_500) <= now && (silent || refusing)
                });
                let expected = proposed.map_or(away, |last| last + secs(1) <= now);
                prop_assert_eq!(!gone.is_empty(), expected, "at {:?}", now);
                if expected {
                    proposed = Some(now);
                }
                if steps == 0 {
                    break;
                }
                steps -= 1;
                now += ms(10);
                let due = liveness.poll_timeout().is_some_and(|due| due <= now);
                gone = liveness.handle_timeout(now);
                prop_assert_eq!(due, !gone.is_empty());
            }
        }
    }
}

#[test]
fn what_is_known_together_is_judged_together() {
    let mut liveness = watching();
    refuse(&mut liveness, ms(100));
    // The look after a pause comes when the last refusal is too old, and brings that it still refuses.
    let late = ms(1_700);
    liveness.handle(names(&[NEWYORK, DETROIT]), late);
    let detroit = Event::Heard {
        host: DETROIT,
        at: late,
    };
    liveness.handle(detroit, late);
    liveness.handle(
        Event::Refused {
            host: NEWYORK,
            at: late,
        },
        late,
    );
    assert_eq!(liveness.handle_timeout(late), Vec::new());
}
