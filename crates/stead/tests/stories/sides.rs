//! Four servers in availability mode that fall into three sides, and what follows: each side goes on, nobody loses a session,
//! and when all hear each other again they are one group. One group lives through all of it.

use crate::common::Stage;
use crate::desk::Desk;
use crate::splits::{
    acts, divergences, follow_closely, formation, has_user, heal, heal_three, kept, make_quick,
    sees, settled, split, split_in_three,
};
use serde_json::{Value, json};
use std::path::Path;
use testkit::{GroupPlan, Machine, eventually, eventually_some, seconds, stays_so_for, text};

const SERVERS: [&str; 4] = ["s1", "s2", "s3", "s4"];
/// The index of the one that is never killed.
const STAYS: usize = 1;

#[test]
fn four_servers_fall_apart_and_come_together_while_people_work() {
    let mut stage = Stage::of(Machine::shared(), &SERVERS, GroupPlan::start);
    make_quick(&stage.group, "accept");
    // Four at least, and one on each of the first two servers: where each goes is for the balance to say.
    let mut desks: Vec<Desk> = Vec::new();
    let has = |desks: &[Desk], host| desks.iter().any(|desk| desk.host == host);
    while desks.len() < 4 || !has(&desks, 0) || !has(&desks, STAYS) {
        assert!(desks.len() < 32, "a server gets no session");
        desks.push(Desk::open(&stage, &format!("card.{}", desks.len() + 1)));
    }
    three_sides_go_on_and_become_one(&stage, &mut desks);
    let primary = nobody_goes_on_alone_without_the_fence(&stage, &mut desks);
    those_who_were_down_do_not_revive_the_past(&mut stage, primary);
    a_primary_that_comes_and_goes_does_not_drag_the_group_along(&mut stage);
    with_an_empty_list_everybody_goes_on_alone(&stage);
    // Whose host was down for too long has another session.
    for desk in &mut desks {
        match desk.host {
            STAYS => desk.works(&stage),
            _ => desk.carries(&stage),
        }
    }
}

/// The sessions of a token, as one server sees them.
fn sessions(stage: &Stage, index: usize, token: &str) -> Vec<Value> {
    let all = stage.group.json(index, &["session", "list"]);
    let all = all.as_array().expect("an array");
    let own = all.iter().filter(|session| text(session, "token") == token);
    own.cloned().collect()
}

/// What `stead select` offers for a token: each session, and whether the token leads there.
fn offered(stage: &Stage, index: usize, token: &str) -> Vec<(String, bool)> {
    let list = ["select", "--token", token, "--list"];
    let all = stage.group.json(index, &list);
    let all = all.as_array().expect("an array");
    let told = all
        .iter()
        .map(|one| (text(one, "id"), one["current"] == true));
    told.collect()
}

fn choose(stage: &Stage, token: &str, session: &str) {
    let chosen = ["select", "--token", token, "--session", session];
    let chosen = stage.group.json(2, &chosen);
    assert_eq!(chosen["current"], true, "{chosen:#}");
}

fn sees_current(stage: &Stage, token: &str, session: &str) -> bool {
    (0..4).all(|index| {
        let all = offered(stage, index, token);
        all.iter().any(|(id, current)| id == session && *current)
    })
}

fn three_sides_go_on_and_become_one(stage: &Stage, desks: &mut Vec<Desk>) {
    let (group, network) = (&stage.group, &stage.network);
    let working: Vec<_> = desks.iter().map(|desk| desk.work_on(stage)).collect();
    split_in_three(stage);
    assert_eq!(formation(group, 0), Some(1));
    assert_ne!(
        group.json(1, &["status"])["formation"]["id"],
        group.json(3, &["status"])["formation"]["id"]
    );
    assert_eq!(group.json(2, &["status"])["formation"]["original"], false);
    for (index, user) in [(0, "bob"), (2, "cid"), (3, "dan")] {
        group.add_user(index, user);
    }
    // Somebody whose session is on the first side goes to a desk on the third, which cannot reach it.
    let place = desks.iter().position(|desk| desk.host == 0);
    let place = place.expect("there is one");
    let token = format!("card.{}", place + 1);
    let left = desks.remove(place).session;
    let asked = group.server(3).client_address().to_string();
    eventually(seconds(20), "the third side to give the session up", || {
        let known = sessions(stage, 3, &token);
        known.iter().all(|session| session["state"] == "orphaned")
    });
    let mut moved = Desk::open_by(stage, &token, &asked);
    assert_eq!(moved.host, 3);
    moved.works(stage);
    for desk in desks.iter_mut() {
        desk.works(stage);
    }

    heal_three(network);
    settled(group, 0, 1);
    kept(group, 2, 2);
    assert!(has_user(group, 3, "bob") && !has_user(group, 0, "cid") && !has_user(group, 1, "dan"));
    for (index, user) in [(1, "cid"), (3, "dan")] {
        let shown = divergences(group, index);
        let all: Vec<Value> = shown
            .iter()
            .map(|one| group.json(index, &["group", "divergence", "show", &text(one, "id")]))
            .collect();
        let record = format!("user:{user}");
        assert!(json!(all).to_string().contains(&record), "{all:#?}");
    }
    // The token has two sessions now: the one used last is current, the other is kept and offered.
    eventually(seconds(20), "both sessions to be registered", || {
        let own = offered(stage, 1, &token);
        own == [(moved.session.clone(), true), (left.clone(), false)]
    });
    let other = sessions(stage, 2, &token);
    let other = other.iter().find(|session| session["current"] == false);
    assert_eq!(
        other.map(|other| text(other, "state")),
        Some("suspended".to_owned())
    );
    choose(stage, &token, &left);
    eventually(seconds(20), "the token to lead to the first one", || {
        sees_current(stage, &token, &left)
    });
    let mut again = Desk::open(stage, &token);
    assert_eq!((&again.session, again.host), (&left, 0));
    again.works(stage);
    drop(again);
    choose(stage, &token, &moved.session);
    for one in divergences(group, 0) {
        let id = text(&one, "id");
        group.json(0, &["group", "divergence", "discard", &id, "--all"]);
    }
    // Nobody who worked meanwhile noticed anything; the one who left had the viewer there closed.
    for (number, work) in working.into_iter().enumerate() {
        if number != place {
            work.finish(seconds(60));
        }
    }
    desks.insert(place, moved);
}

/// Returns the new primary.
fn nobody_goes_on_alone_without_the_fence(stage: &Stage, desks: &mut [Desk]) -> usize {
    let (group, network) = (&stage.group, &stage.network);
    follow_closely(group, 3);
    let refuses = group.folder().join("refuses");
    std::fs::write(&refuses, "").expect("a file");
    fence(stage, &refuses);
    let set = |key, value| group.json(0, &["config", "set", key, value]);
    set("resilience.primary-return", "accept-secondary");
    eventually(seconds(20), "all to know", || {
        (1..4).all(|index| {
            let known = group.json(index, &["config", "get", "resilience.primary-return"]);
            known["value"] == "accept-secondary"
        })
    });
    let (one, other) = (&["s1", "s2"][..], &["s3", "s4"][..]);
    split(network, one, other);
    eventually(seconds(30), "the fence to hold the side back", || {
        let told = group.json(2, &["status"])["attention"].to_string();
        told.contains("may not go on without its primary: the fence command")
    });
    assert!(!acts(group, 2) && !acts(group, 3) && acts(group, 0));
    let refused = group.fails(3, 3, &["config", "set", "events.history", "5000"]);
    assert!(!refused.is_empty());
    for desk in desks.iter_mut() {
        desk.works(stage);
    }
    std::fs::remove_file(&refuses).expect("removed");
    // Each of the two asks the fence by and by; whoever is allowed first leads both.
    let primary = eventually_some(seconds(30), "an island of two", || {
        let primary = (2..4).find(|index| acts(group, *index))?;
        (sees(group, 2, primary) && sees(group, 3, primary)).then_some(primary)
    });
    assert!(acts(group, 0));
    group.add_user(3, "eve");
    heal(network, one, other);
    // The first side changed nothing: it catches up, and the new primary stays.
    settled(group, primary, 2);
    assert!(has_user(group, 0, "eve"));
    let held = group.json(1, &["event", "list", "--kind", "formation-held"]);
    assert!(held.to_string().contains("fence"), "{held:#}");
    assert_eq!(divergences(group, 1), Vec::<Value>::new());
    primary
}

fn fence(stage: &Stage, refuses: &Path) {
    let command = format!("sh -c 'test ! -e {}'", refuses.display());
    let key = "resilience.fence-command";
    stage.group.json(0, &["config", "set", key, &command]);
}

fn those_who_were_down_do_not_revive_the_past(stage: &mut Stage, primary: usize) {
    follow_closely(&stage.group, 3);
    let first = if primary == 2 { 3 } else { 2 };
    stage.group.kill(first);
    follow_closely(&stage.group, 2);
    stage.group.kill(primary);
    eventually(seconds(30), "the others to go on", || {
        acts(&stage.group, 0) && sees(&stage.group, 1, 0)
    });
    let number = formation(&stage.group, 0).expect("a formation");
    stage.group.add_user(1, "fay");
    // The one that was down all the time comes first, then the primary that was lost.
    for index in [first, primary] {
        stage.group.serve(index);
    }
    settled(&stage.group, 0, number);
    assert!((2..4).all(|index| has_user(&stage.group, index, "fay")));
    assert_eq!(divergences(&stage.group, 2), Vec::<Value>::new());
}

fn a_primary_that_comes_and_goes_does_not_drag_the_group_along(stage: &mut Stage) {
    follow_closely(&stage.group, 3);
    for (key, value) in [
        ("resilience.primary-return", "accept"),
        ("resilience.return-delay", "5s"),
    ] {
        stage.group.json(0, &["config", "set", key, value]);
    }
    let before = switchovers(stage);
    stage.group.kill(0);
    eventually(seconds(30), "the next to be primary", || {
        acts(&stage.group, 1)
    });
    for _ in 0..2 {
        stage.group.serve(0);
        eventually(seconds(30), "its return to be announced", || {
            stage.group.json(1, &["status"])["returning"]["name"] == "s1"
        });
        stage.group.kill(0);
        stays_so_for(seconds(1));
        assert!(acts(&stage.group, 1));
    }
    assert_eq!(switchovers(stage), before, "nothing moved meanwhile");
    stage.group.serve(0);
    eventually(
        seconds(60),
        "the original primary to take over again",
        || acts(&stage.group, 0) && (1..4).all(|index| sees(&stage.group, index, 0)),
    );
    assert_eq!(switchovers(stage), before + 1);
    assert_eq!(
        stage.group.json(3, &["status"])["formation"]["original"],
        true
    );
    assert_eq!(divergences(&stage.group, 2), Vec::<Value>::new());
}

fn switchovers(stage: &Stage) -> usize {
    let told = stage
        .group
        .json(1, &["event", "list", "--kind", "switchover"]);
    told.as_array().expect("an array").len()
}

fn with_an_empty_list_everybody_goes_on_alone(stage: &Stage) {
    let (group, network) = (&stage.group, &stage.network);
    follow_closely(group, 3);
    for name in SERVERS {
        group.json(1, &["group", "backups", "remove", name]);
    }
    eventually(seconds(20), "all to know", || {
        (0..4).all(|index| group.json(index, &["group", "backups", "list"]) == json!([]))
    });
    let (one, other) = (&["s1", "s2"][..], &["s3", "s4"][..]);
    split(network, one, other);
    eventually(
        seconds(30),
        "those without a primary to go on alone",
        || acts(group, 0) && sees(group, 1, 0) && acts(group, 2) && acts(group, 3),
    );
    heal(network, one, other);
    let number = formation(group, 0).expect("a formation");
    settled(group, 0, number);
}
