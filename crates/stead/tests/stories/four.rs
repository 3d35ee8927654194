//! Four servers with a session on each: their primary dies and comes back; they split in the middle, once for each
//! `resilience.primary-return`, and into three; and their primary's machine dies while the others work on. One group lives through
//! all of it.

use crate::common::Stage;
use crate::desk::Desk;
use crate::splits::{
    acts, all_wait, all_work, divergences, follow_closely, formation, has_user, heal, heal_three,
    kept, make_quick, sees, set, settled, split, split_in_three,
};
use serde_json::{Value, json};
use testkit::{Group, GroupPlan, Machine, eventually, eventually_some, seconds, text};

const SERVERS: [&str; 4] = ["s1", "s2", "s3", "s4"];
const SIDES: [&[&str]; 2] = [&["s1", "s2"], &["s3", "s4"]];

#[test]
fn four_servers_lose_their_primary_and_split() {
    let mut stage = Stage::of(Machine::shared(), &SERVERS, GroupPlan::start);
    let mut desks = Desk::on_each(&stage, 4);
    the_primary_is_down_and_back(&mut stage, &mut desks);
    make_quick(&stage.group, "accept");
    the_office_is_lent_and_goes_back(&stage.group);
    the_original_primary_stands(&stage, &mut desks);
    the_new_primary_stands(&stage, &mut desks);
    an_administrator_says_who_stands(&stage, &mut desks);
    of_three_sides_an_administrator_chooses(&stage, &mut desks);
    a_machine_dies_while_the_others_work_on(&mut stage, &mut desks);
}

fn the_primary_is_down_and_back(stage: &mut Stage, desks: &mut [Desk]) {
    assert_eq!(stage.group.wait_for_acting(seconds(20)), 0);
    set(&stage.group, "resilience.return-delay", "1s");
    set(&stage.group, "resilience.max-moves", "20 in 10m");
    stage.group.kill(0);
    eventually(seconds(20), "the first backup to be primary", || {
        acts(&stage.group, 1) && (2..4).all(|index| sees(&stage.group, index, 1))
    });
    stage.group.add_user(3, "amy");
    all_work(stage, desks.split_at_mut(1).1);
    stage.group.serve(0);
    settled(&stage.group, 0, 1);
    assert!(has_user(&stage.group, 0, "amy"));
    let count = |kind| {
        let told = stage.group.json(2, &["event", "list", "--kind", kind]);
        told.as_array().expect("an array").len()
    };
    assert_eq!((count("failover"), count("switchover")), (1, 1));
    let status = stage.group.json(3, &["status"]);
    assert_eq!(
        (&status["formation"]["original"], &status["returning"]),
        (&json!(true), &Value::Null)
    );
    // What was on the primary's machine was only waiting for it.
    all_work(stage, desks);
}

/// A planned change of primary: nothing is refused, and it goes back by itself.
fn the_office_is_lent_and_goes_back(group: &Group) {
    let lent = group.json(1, &["group", "promote", "s3", "--temporary"]);
    assert!(
        lent["outage_ms"].as_u64().is_some_and(|ms| ms < 1_000),
        "{lent:#}"
    );
    eventually(seconds(30), "the office to go back", || {
        acts(group, 0) && (1..4).all(|index| sees(group, index, 0))
    });
}

/// The two sides part, each with these two as primaries, and add these users.
fn part(stage: &Stage, desks: &mut [Desk], primaries: [usize; 2], users: [&str; 2]) {
    let group = &stage.group;
    split(&stage.network, SIDES[0], SIDES[1]);
    eventually(seconds(20), "both sides to go on", || {
        let [one, other] = primaries;
        (0..2).all(|index| sees(group, index, one))
            && (2..4).all(|index| sees(group, index, other))
            && acts(group, one)
            && acts(group, other)
    });
    group.add_user(1, users[0]);
    group.add_user(3, users[1]);
    all_work(stage, desks);
}

/// All have one user, and not the other, who is kept as a divergence; that is discarded.
fn one_is_kept(group: &Group, has: &str, diverged: &str) {
    kept(group, 1, 1);
    for index in 0..4 {
        eventually(seconds(10), "every server to have what stands", || {
            has_user(group, index, has) && !has_user(group, index, diverged)
        });
    }
    let id = text(&divergences(group, 3)[0], "id");
    let shown = group.json(3, &["group", "divergence", "show", &id]);
    let record = format!("user:{diverged}");
    assert!(shown.to_string().contains(&record), "{shown:#}");
    group.json(2, &["group", "divergence", "discard", &id, "--all"]);
}

fn the_original_primary_stands(stage: &Stage, desks: &mut [Desk]) {
    let group = &stage.group;
    follow_closely(group, 3);
    part(stage, desks, [0, 2], ["bob", "cid"]);
    group.json(0, &["config", "set", "sessions.history", "100"]);
    group.json(2, &["config", "set", "sessions.history", "200"]);
    heal(&stage.network, SIDES[0], SIDES[1]);
    settled(group, 0, 1);
    assert_eq!(group.json(3, &["status"])["formation"]["original"], true);
    kept(group, 1, 1);
    assert!(has_user(group, 3, "bob") && !has_user(group, 3, "cid"));
    // What is wanted after all is applied, on any server.
    let id = text(&divergences(group, 2)[0], "id");
    let apply = ["group", "divergence", "apply", &id, "--record", "user:cid"];
    group.json(2, &apply);
    assert!(has_user(group, 0, "cid"));
    group.json(2, &["group", "divergence", "discard", &id, "--all"]);
    assert_eq!(divergences(group, 0), Vec::<Value>::new());
    all_work(stage, desks);
}

fn the_new_primary_stands(stage: &Stage, desks: &mut [Desk]) {
    let group = &stage.group;
    follow_closely(group, 3);
    set(group, "resilience.primary-return", "accept-secondary");
    part(stage, desks, [0, 2], ["dan", "eve"]);
    heal(&stage.network, SIDES[0], SIDES[1]);
    settled(group, 2, 2);
    assert_eq!(group.json(0, &["status"])["formation"]["original"], false);
    one_is_kept(group, "eve", "dan");
    all_work(stage, desks);
}

fn an_administrator_says_who_stands(stage: &Stage, desks: &mut [Desk]) {
    let group = &stage.group;
    follow_closely(group, 3);
    set(group, "resilience.primary-return", "ignore");
    part(stage, desks, [0, 2], ["fay", "gus"]);
    heal(&stage.network, SIDES[0], SIDES[1]);
    all_wait(group);
    assert!(acts(group, 0) && acts(group, 2), "nobody has given way");
    all_work(stage, desks);
    let choice = ["group", "recover", "--formation", "3", "--reason", "ours"];
    group.json(1, &choice);
    settled(group, 0, 3);
    one_is_kept(group, "fay", "gus");
    all_work(stage, desks);
}

/// Two that stay with the new primary are not more than one each that do not: nobody knows what is right.
fn of_three_sides_an_administrator_chooses(stage: &Stage, desks: &mut [Desk]) {
    let (group, network) = (&stage.group, &stage.network);
    follow_closely(group, 3);
    set(group, "resilience.primary-return", "accept-secondary");
    split_in_three(stage);
    for (index, user) in [(0, "hal"), (2, "ida"), (3, "jon")] {
        group.add_user(index, user);
    }
    all_work(stage, desks);
    heal_three(network);
    all_wait(group);
    let told = || {
        let held = group.json(1, &["event", "list", "--kind", "formation-held"]);
        held.to_string()
            .contains("there are more than two formations")
    };
    eventually(seconds(20), "an event to say so", told);
    assert!([0, 1, 3].iter().all(|index| acts(group, *index)));
    all_work(stage, desks);
    let wanted = text(&group.json(2, &["status"])["formation"], "id");
    let number = formation(group, 2).expect("a formation");
    let plan = group.json(0, &["group", "recover", "--dry-run"]);
    assert_eq!(plan["allowed"], false, "{plan:#}");
    let choice = ["group", "recover", "--formation", &wanted];
    group.json(0, &[&choice[..], &["--reason", "two are more"]].concat());
    settled(group, 1, number);
    kept(group, 3, 2);
    assert!((0..4).all(|index| has_user(group, index, "ida")));
    for one in divergences(group, 0) {
        let id = text(&one, "id");
        group.json(0, &["group", "divergence", "discard", &id, "--all"]);
    }
    all_work(stage, desks);
}

/// It had changed nothing that the others do not have: nothing diverges, however much they changed.
fn a_machine_dies_while_the_others_work_on(stage: &mut Stage, desks: &mut [Desk]) {
    follow_closely(&stage.group, 3);
    set(&stage.group, "resilience.primary-return", "accept");
    eventually(seconds(30), "the original primary to be primary", || {
        acts(&stage.group, 0)
    });
    follow_closely(&stage.group, 3);
    let before = formation(&stage.group, 0).expect("a formation");
    stage.network.node(SERVERS[0]).unplug();
    stage.group.kill_host(0);
    let island = eventually_some(seconds(30), "the others to go on", || {
        let island = formation(&stage.group, 3)?;
        (acts(&stage.group, 1) && sees(&stage.group, 3, 1) && island > before).then_some(island)
    });
    for (index, user) in [(1, "kim"), (2, "leo"), (3, "mia")] {
        stage.group.add_user(index, user);
    }
    // The session that ran there is lost with it, and its user works on elsewhere; nobody else noticed.
    for desk in desks.iter_mut() {
        match desk.host {
            0 => desk.has_another(stage),
            _ => desk.works(stage),
        }
    }
    stage.network.node(SERVERS[0]).plug();
    stage.group.serve(0);
    settled(&stage.group, 0, island);
    assert!(
        ["kim", "leo", "mia"]
            .iter()
            .all(|user| has_user(&stage.group, 0, user))
    );
    assert_eq!(divergences(&stage.group, 0), Vec::<Value>::new());
    let entered = ["event", "list", "--kind", "formation-entered"];
    let entered = stage.group.json(2, &entered);
    assert!(
        entered.to_string().contains("nothing was changed in"),
        "{entered:#}"
    );
    for desk in desks {
        desk.carries(stage);
    }
}
