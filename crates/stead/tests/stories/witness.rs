//! Two servers and a witness, in quorum mode, with sessions open: either server may be lost, and what only the witness still
//! has is not.

use crate::common::{SERVERS, Stage};
use crate::desk::Desk;
use crate::splits::{acts, has_user, sees};
use testkit::{Machine, eventually, seconds, text};

const WITNESS: usize = 2;

#[test]
fn two_servers_and_a_witness() {
    let stage = Stage::of(Machine::shared(), &SERVERS, |plan| {
        let mut group = plan.start_first();
        group.join(1);
        group.join_as_witness(WITNESS);
        group
    });
    let group = &stage.group;
    assert_eq!(group.wait_for_acting(seconds(20)), 0);
    let status = group.json(1, &["status"]);
    assert_eq!(
        (&status["mode"], &status["can_lose"]),
        (&"quorum".into(), &1.into())
    );
    group.json(0, &["config", "set", "resilience.return-delay", "1s"]);
    let mut desks: Vec<Desk> = (0..8)
        .map(|card| Desk::open(&stage, &format!("card.{card}")))
        .filter(|desk| desk.host == 1)
        .collect();
    assert!(
        !desks.is_empty(),
        "a witness hosts nothing, and two share the rest"
    );
    a_server_is_lost_and_comes_back(&stage, &mut desks);
    what_only_the_witness_has_is_not_lost(&stage);
    for desk in &mut desks {
        desk.works(&stage);
    }
}

/// The original primary is primary again, and everybody counts.
fn is_whole(stage: &Stage) {
    eventually(seconds(60), "all to be as it was", || {
        let all = (0..3).all(|index| sees(&stage.group, index, 0));
        all && stage.group.json(0, &["status"])["can_lose"] == 1
    });
}

fn a_server_is_lost_and_comes_back(stage: &Stage, desks: &mut [Desk]) {
    let group = &stage.group;
    stage.network.node(SERVERS[0]).unplug();
    eventually(seconds(20), "the other server to be primary", || {
        acts(group, 1)
    });
    assert!(!acts(group, 0), "nobody acts without a quorum");
    group.add_user(1, "bob");
    for desk in desks {
        desk.works(stage);
    }
    stage.network.node(SERVERS[0]).plug();
    is_whole(stage);
    assert!(has_user(group, 0, "bob"));
}

fn what_only_the_witness_has_is_not_lost(stage: &Stage) {
    let (group, network) = (&stage.group, &stage.network);
    network.cut(SERVERS[0], SERVERS[1]);
    eventually(seconds(20), "the other server not to be reached", || {
        let status = group.json(0, &["status"]);
        let servers = status["servers"].as_array().expect("an array").clone();
        servers
            .iter()
            .any(|server| text(server, "name") == SERVERS[1] && server["reachable"] == false)
    });
    group.add_user(0, "cid");
    assert!(acts(group, 0) && !acts(group, 1));
    network.node(SERVERS[0]).unplug();
    // The witness leads until the other has caught up, and hands over.
    eventually(seconds(30), "the other server to be primary", || {
        acts(group, 1)
    });
    assert!(has_user(group, 1, "cid"));
    let told = group.json(1, &["explain"]).to_string();
    assert!(told.contains("handed the role over"), "{told}");
    network.node(SERVERS[0]).plug();
    network.mend(SERVERS[0], SERVERS[1]);
    is_whole(stage);
}
