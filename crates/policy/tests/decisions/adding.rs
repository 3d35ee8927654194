//! A server that stands alone and is to be a member: as it is printed, every reason against it, and what it sees itself.

use crate::fixture::{AT, BOSTON, DETROIT, Made, NEWYORK, Seen, app, made, session};
use model::{Record, ServerId, SessionState, Standing, UnixMillis};
use policy::Plan;
use policy::adding::{Candidate, Held, addition, holds, in_words, objections};

fn candidate() -> Candidate {
    Candidate {
        server: ServerId::from_bytes([77; 16]),
        name: "denver".parse().unwrap(),
        peer_address: "denver:5427".to_owned(),
        client_address: "denver:5443".to_owned(),
        feature_level: 1,
        clock: UnixMillis(AT.0 + 1_500),
        group: "west".to_owned(),
        others: Vec::new(),
        live_sessions: 0,
        holds: Vec::new(),
    }
}

fn held(kind: &str, count: u64) -> Held {
    Held {
        kind: kind.to_owned(),
        count,
    }
}

fn two() -> Made {
    made().only(&[BOSTON, NEWYORK])
}

fn refused(plan: &Plan) -> Vec<&str> {
    let failed = plan.checks.iter().filter(|check| !check.pass);
    failed.map(|check| check.rule.as_str()).collect()
}

#[test]
fn a_third_voter_and_a_witness() {
    let two = two();
    let seen = Seen::by(BOSTON, &two);
    let full = Candidate {
        holds: vec![held("user", 3), held("user's preferences", 1)],
        ..candidate()
    };
    let told = [
        addition(&seen.view(), &candidate(), Standing::Voter, false),
        addition(&seen.view(), &full, Standing::Witness, true),
    ]
    .map(|plan| plan.to_string());
    insta::assert_snapshot!(told.join("\n\n"));
    let bare = addition(&seen.view(), &candidate(), Standing::NonVoter, false);
    assert_eq!(bare.losses_after.voters, 2);
}

#[test]
fn every_refusal() {
    type Change = fn(&mut Candidate, &mut Made, &mut Seen);
    let cases: [(Change, &[&str]); 12] = [
        (|_, _, _| {}, &[]),
        (|it, _, _| it.others = vec!["a".into()], &["standalone"]),
        (|it, _, _| it.live_sessions = 2, &["no-live-sessions"]),
        (
            |it, _, _| it.holds = vec![held("user", 1)],
            &["nothing-lost"],
        ),
        (|it, _, _| it.clock = UnixMillis(AT.0 - 60_001), &["clock"]),
        (|it, _, _| it.clock = UnixMillis(AT.0 + 60_000), &[]),
        (|it, _, _| it.feature_level = 0, &["version"]),
        (|it, _, _| it.server = NEWYORK, &["id"]),
        (|it, _, _| it.name = "NewYork".parse().unwrap(), &["name"]),
        (
            |it, _, _| it.client_address = "boston:5427".to_owned(),
            &["address"],
        ),
        (
            |_, made, _| made.server(NEWYORK).started = false,
            &["settled"],
        ),
        (|_, _, seen| seen.leader = None, &["primary-there"]),
    ];
    for (place, (change, expected)) in cases.into_iter().enumerate() {
        let (mut it, mut made) = (candidate(), two());
        let mut unused = Seen::by(BOSTON, &made);
        change(&mut it, &mut made, &mut unused);
        let mut seen = Seen::by(BOSTON, &made);
        change(&mut it, &mut made, &mut seen);
        let plan = addition(&seen.view(), &it, Standing::Voter, false);
        assert_eq!(refused(&plan), expected, "case {place}: {plan}");
        assert_eq!(plan.is_possible(), expected.is_empty());
    }
}

#[test]
fn what_people_made_is_counted_and_one_administrator_is_not() {
    let mut alone = made().only(&[BOSTON]);
    assert_eq!(holds(&alone.directory()), []);
    alone.apps = vec![app("shell"), app("desktop")];
    alone.settings = vec![("resilience.rank-delay", "2s")];
    let directory = alone.directory();
    let held = holds(&directory);
    assert_eq!(in_words(&held), "2 applications and 1 setting");
    let told = objections(&directory, BOSTON, true, false);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("2 applications and 1 setting on boston would be lost"));
    assert_eq!(
        objections(&directory, BOSTON, true, true),
        Vec::<String>::new()
    );
    let records = directory
        .records()
        .filter(|record| !matches!(record, Record::Application(_)));
    let fewer = model::Directory::from_records(records).unwrap();
    assert_eq!(in_words(&holds(&fewer)), "1 setting");
}

#[test]
fn a_server_sees_itself_what_speaks_against_it() {
    let mut with_others = made().only(&[BOSTON, DETROIT]);
    with_others.sessions = vec![session(1, BOSTON, SessionState::Active)];
    let told = objections(&with_others.directory(), BOSTON, true, false).join("\n");
    assert!(told.contains("in a group with detroit"), "{told}");
    assert!(told.contains("1 live session"), "{told}");
    let alone = made().only(&[BOSTON]).directory();
    assert_eq!(
        objections(&alone, BOSTON, true, false),
        Vec::<String>::new()
    );
    let told = objections(&alone, BOSTON, false, false).join("\n");
    assert!(told.contains("does not accept changes now"), "{told}");
}
