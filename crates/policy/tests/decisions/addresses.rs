//! Where a server is reached is changed: what the members met that tried it, and the plan.

use crate::fixture::{BOSTON, DETROIT, Made, NEWYORK, Seen, made};
use model::ServerId;
use policy::Plan;
use policy::addresses::{Met, Port, Tried, Wish, addresses};

fn three() -> Made {
    made().only(&[BOSTON, NEWYORK, DETROIT])
}

fn plan(wish: Wish<'_>, tried: &[Tried]) -> Plan {
    let made = three();
    addresses(&Seen::by(BOSTON, &made).view(), wish, tried)
}

fn newyork<'a>(peer: Option<&'a str>, client: Option<&'a str>) -> Wish<'a> {
    Wish {
        server: NEWYORK,
        peer,
        client,
        force: false,
    }
}

fn tried(port: Port, mets: &[(ServerId, Met)]) -> Vec<Tried> {
    let one = |(member, met): &(ServerId, Met)| Tried {
        member: *member,
        port,
        met: met.clone(),
    };
    mets.iter().map(one).collect()
}

fn refused() -> Met {
    Met::NotIt("connection refused".to_owned())
}

fn away() -> Met {
    Met::NotAsked("it is not connected".to_owned())
}

#[test]
fn all_members_that_can_say_must_reach_its_peer_port() {
    let wish = newyork(Some("ny:5427"), None);
    let cases = [
        (Met::It, Met::It, true),
        (Met::It, away(), true),
        (Met::It, refused(), false),
        (refused(), refused(), false),
        (away(), away(), false),
    ];
    for (boston, detroit, possible) in cases {
        let tried = tried(
            Port::Peer,
            &[(BOSTON, boston.clone()), (DETROIT, detroit.clone())],
        );
        let found = plan(wish, &tried);
        assert_eq!(found.is_possible(), possible, "{boston:?} {detroit:?}");
        let force = true;
        assert!(plan(Wish { force, ..wish }, &tried).is_possible());
    }
}

#[test]
fn one_member_is_enough_for_its_client_port() {
    let wish = newyork(None, Some("ny:5443"));
    let one = tried(Port::Client, &[(BOSTON, refused()), (DETROIT, Met::It)]);
    assert!(plan(wish, &one).is_possible());
    let none = tried(Port::Client, &[(BOSTON, refused()), (DETROIT, refused())]);
    assert!(!plan(wish, &none).is_possible());
}

#[test]
fn no_force_makes_two_servers_reached_at_one_address() {
    for wish in [
        newyork(Some("BOSTON:5427"), None),
        newyork(Some("detroit:5443"), None),
        newyork(None, Some("newyork:5427")),
        newyork(Some("ny:1"), Some("ny:1")),
    ] {
        let port = match wish.peer {
            Some(_) => Port::Peer,
            None => Port::Client,
        };
        let tried = tried(port, &[(BOSTON, Met::It)]);
        let force = true;
        let plan = plan(Wish { force, ..wish }, &tried);
        assert_eq!(plan.refusals.len(), 1, "{plan}");
    }
}

#[test]
fn as_it_is_printed() {
    let both = newyork(Some("ny.example.net:5427"), Some("ny.example.net:5443"));
    let mut all = tried(Port::Peer, &[(BOSTON, Met::It), (DETROIT, refused())]);
    let clients = tried(Port::Client, &[(BOSTON, Met::It), (DETROIT, away())]);
    all.extend(clients);
    let stranger = Wish {
        server: ServerId::from_bytes([9; 16]),
        ..both
    };
    let force = true;
    let told = [
        plan(both, &all),
        plan(Wish { force, ..both }, &all),
        plan(stranger, &[]),
    ];
    let checks = |plan: &Plan| -> String {
        let line = |check: &model::Reason| format!("\n  {} {}", check.rule, check.detail);
        plan.checks.iter().map(line).collect()
    };
    let told: Vec<String> = told
        .iter()
        .map(|plan| format!("{plan}{}", checks(plan)))
        .collect();
    insta::assert_snapshot!(told.join("\n\n"));
}
