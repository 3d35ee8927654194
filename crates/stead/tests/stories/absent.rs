//! Three servers in quorum mode with a session on each, when the primary is lost and nobody is to take its place, or not for long:
//! failover is off, the backup list is empty, the primary flaps. In the end one loses its whole disk. One group lives through all
//! of it.

use crate::common::{SERVERS, Stage};
use crate::desk::Desk;
use crate::splits::{acts, all_work, has_user, sees, set};
use serde_json::{Value, json};
use std::net::TcpStream;
use testkit::{GroupPlan, Machine, eventually, seconds, text};

const EMPTIED: usize = 2;

#[test]
fn three_servers_wait_for_their_primary_or_do_not() {
    let mut stage = Stage::of(Machine::shared(), &SERVERS, GroupPlan::start);
    assert_eq!(stage.group.wait_for_acting(seconds(20)), 0);
    let mut desks = Desk::on_each(&stage, 3);
    set(&stage.group, "resilience.return-delay", "1s");
    set(&stage.group, "resilience.failover", "false");
    the_others_are_read_only_until_it_is_back(&mut stage, &mut desks, "resilience.failover is off");
    set(&stage.group, "resilience.failover", "true");
    for name in SERVERS {
        stage.group.json(1, &["group", "backups", "remove", name]);
    }
    the_others_are_read_only_until_it_is_back(&mut stage, &mut desks, "the backup list is empty");
    for name in SERVERS {
        stage.group.json(1, &["group", "backups", "add", name]);
    }
    a_primary_that_flaps_takes_over_once(&mut stage, &mut desks);
    a_server_that_lost_its_disk_is_invited_again(&mut stage, &mut desks);
}

fn the_others_are_read_only_until_it_is_back(stage: &mut Stage, desks: &mut [Desk], why: &str) {
    let failovers = events(stage, "failover");
    stage.group.kill(0);
    // Many grace periods later.
    let change = ["config", "set", "events.history", "5000"];
    let refused = stage.group.fails(2, 3, &change);
    assert!(!refused.is_empty());
    let (group, (its, others)) = (&stage.group, desks.split_at_mut(1));
    for index in 1..3 {
        let status = group.status(index).expect("an answer without a primary");
        assert!(status["primary"].is_null(), "{status:#}");
        assert_eq!(status["quorum"]["reachable"], 2, "{status:#}");
        let waits = format!("changes wait for boston, the last primary: {why}");
        assert_eq!(text(&status, "can_lose_words"), waits);
    }
    // Who is at work works on, and comes back from another desk to the same session; what is there can be looked up.
    all_work(stage, others);
    let again = &mut others[0];
    let other = Desk::open(stage, &again.token);
    assert_eq!(other.session, again.session);
    *again = other;
    all_work(stage, others);
    assert!(has_user(group, 1, "ann"));
    stage.group.serve(0);
    eventually(seconds(20), "it to be primary again", || {
        acts(&stage.group, 0) && (1..3).all(|index| sees(&stage.group, index, 0))
    });
    assert_eq!(events(stage, "failover"), failovers, "nobody else was");
    all_work(stage, others);
    all_work(stage, its);
}

/// How many events of a kind there are.
fn events(stage: &Stage, kind: &str) -> usize {
    let told = stage.group.json(1, &["event", "list", "--kind", kind]);
    told.as_array().expect("an array").len()
}

/// Each time it is back it would have to be well for a while, and the office may move once.
fn a_primary_that_flaps_takes_over_once(stage: &mut Stage, desks: &mut [Desk]) {
    set(&stage.group, "resilience.return-delay", "4s");
    set(&stage.group, "resilience.max-moves", "1 in 1h");
    let before = events(stage, "switchover");
    for _ in 0..2 {
        if stage.group.running().any(|index| index == 0) {
            stage.group.kill(0);
        }
        eventually(seconds(20), "the first backup to be primary", || {
            acts(&stage.group, 1)
        });
        stage.group.serve(0);
        eventually(seconds(20), "its return to be announced", || {
            stage.group.json(1, &["status"])["returning"]["name"] == SERVERS[0]
        });
        let (_, others) = desks.split_at_mut(1);
        all_work(stage, others);
        assert!(acts(&stage.group, 1), "it stays");
    }
    eventually(seconds(30), "the original primary to take over", || {
        acts(&stage.group, 0)
    });
    assert_eq!(events(stage, "switchover"), before + 1);
    stage.group.kill(0);
    eventually(seconds(20), "the first backup to be primary", || {
        acts(&stage.group, 1)
    });
    stage.group.serve(0);
    eventually(seconds(30), "its return to be held back", || {
        let warned = stage.group.json(1, &["status"])["warnings"].to_string();
        warned.contains("boston does not take over again yet")
            && warned.contains("resilience.max-moves")
    });
    assert!(acts(&stage.group, 1));
    all_work(stage, desks);
    // An administrator is not bound by that.
    stage.group.json(1, &["group", "promote", SERVERS[0]]);
    eventually(seconds(20), "it to be primary", || acts(&stage.group, 0));
}

/// It is a stranger to the group then: what it was is removed, and it joins again by its name.
fn a_server_that_lost_its_disk_is_invited_again(stage: &mut Stage, desks: &mut [Desk]) {
    let name = SERVERS[EMPTIED];
    stage.network.node(name).unplug();
    stage.group.kill_host(EMPTIED);
    std::fs::remove_dir_all(stage.group.server(EMPTIED).data()).expect("emptied");
    stage.group.add_user(1, "bob");
    for desk in desks.iter_mut() {
        match desk.host {
            EMPTIED => desk.has_another(stage),
            _ => desk.works(stage),
        }
    }
    let node = stage.network.node(name);
    node.plug();
    // What was looked for in vain while the cable was out is not looked for again at once.
    let first = stage.group.server(0).peer_address();
    eventually(seconds(20), "the cable to carry something", || {
        node.within(|| TcpStream::connect_timeout(&first, seconds(1)).is_ok())
    });
    stage
        .group
        .json(0, &["group", "remove", name, "--mode", "quorum"]);
    stage.group.join(EMPTIED);
    stage.group.wait_for_voters();
    let status = stage.group.json(EMPTIED, &["status"]);
    assert_eq!(
        (&status["can_lose"], &status["primary"]["name"]),
        (&json!(1), &json!(SERVERS[0]))
    );
    assert!(has_user(&stage.group, EMPTIED, "bob"));
    let sessions = stage.group.json(EMPTIED, &["session", "list"]);
    let sessions = sessions.as_array().expect("an array");
    for desk in desks.iter_mut() {
        let known = |session: &&Value| text(session, "id") == desk.session;
        let session = sessions.iter().find(known).expect("everybody's session");
        assert_ne!(text(session, "host"), name, "nothing is left there");
        desk.carries(stage);
    }
}
