//! Groups that are split and come together again, in availability mode: real processes, cut links, seen from outside.

use crate::STEAD;
use serde_json::{Value, json};
use testkit::{Group, Machine, Network, eventually, seconds, text};

/// Servers in a network, in availability mode, quick to go on alone and to go back.
fn group_of(network: &Network, names: &[&str], primary_return: &str) -> Group {
    let group = Group::of(STEAD).in_network(network, names).start();
    make_quick(&group, primary_return);
    group
}

/// The first server is primary; from now on in availability mode, quick to go on alone and to go back.
pub(crate) fn make_quick(group: &Group, primary_return: &str) {
    assert_eq!(group.wait_for_acting(seconds(20)), 0);
    for (key, value) in [
        ("resilience.mode", "availability"),
        ("resilience.island-after", "2s"),
        ("resilience.return-delay", "1s"),
        ("resilience.primary-return", primary_return),
    ] {
        group.json(0, &["config", "set", key, value]);
    }
    eventually(seconds(20), "everybody to follow closely", || {
        let Some(status) = group.status(0) else {
            return false;
        };
        status["mode"] == "availability" && status["can_lose"] == json!(group.servers().len() - 1)
    });
}

pub(crate) fn split(network: &Network, one: &[&str], other: &[&str]) {
    for left in one {
        for right in other {
            network.cut(left, right);
        }
    }
}

pub(crate) fn heal(network: &Network, one: &[&str], other: &[&str]) {
    for left in one {
        for right in other {
            network.mend(left, right);
        }
    }
}

pub(crate) fn formation(group: &Group, index: usize) -> Option<u64> {
    group.status(index)?["formation"]["number"].as_u64()
}

pub(crate) fn acts(group: &Group, index: usize) -> bool {
    group
        .status(index)
        .is_some_and(|status| status["acting"] == true)
}

pub(crate) fn sees(group: &Group, index: usize, primary: usize) -> bool {
    group.primary_seen_by(index) == Some(primary)
}

/// Everybody is in one formation again, led by one.
pub(crate) fn settled(group: &Group, primary: usize, number: u64) {
    eventually(seconds(60), "one formation again", || {
        (0..group.servers().len())
            .all(|index| sees(group, index, primary) && formation(group, index) == Some(number))
            && acts(group, primary)
    });
}

pub(crate) fn divergences(group: &Group, index: usize) -> Vec<Value> {
    let list = group.json(index, &["group", "divergence", "list"]);
    list.as_array().expect("an array").clone()
}

/// What gave way is kept as a whole: so many divergences.
pub(crate) fn kept(group: &Group, index: usize, count: usize) {
    eventually(seconds(20), "what gave way to be kept", || {
        let kept = divergences(group, index);
        kept.len() == count && kept.iter().all(|one| one["complete"] == true)
    });
}

/// The other servers are in sync with the primary and could take its place.
pub(crate) fn follow_closely(group: &Group, others: usize) {
    eventually(seconds(40), "everybody to follow closely", || {
        let primary = group.acting().and_then(|primary| group.status(primary));
        primary.is_some_and(|status| status["can_lose"] == json!(others))
    });
}

pub(crate) fn has_user(group: &Group, index: usize, name: &str) -> bool {
    let users = group.json(index, &["user", "list"]);
    let users = users.as_array().expect("an array");
    users.iter().any(|user| text(user, "name") == name)
}

/// Two servers live through what two servers live through, one thing after the other.
#[test]
fn two_servers_part_and_meet() {
    let machine = Machine::shared();
    let network = Network::new(&machine, &["s1", "s2", "gate"]);
    let group = group_of(&network, &["s1", "s2"], "accept");
    nothing_diverges_where_one_side_changed_nothing(&network, &group);
    the_new_primary_stays_where_it_is_to_stay(&network, &group);
    an_administrator_decides_where_nothing_else_is_to(&network, &group);
    only_the_side_that_reaches_the_tie_breaker_acts(&network, &group);
}

fn nothing_diverges_where_one_side_changed_nothing(network: &Network, group: &Group) {
    split(network, &["s1"], &["s2"]);
    eventually(seconds(20), "an island", || acts(group, 1));
    assert!(acts(group, 0), "the other side goes on");
    assert_eq!(
        (formation(group, 0), formation(group, 1)),
        (Some(1), Some(2))
    );
    group.add_user(1, "ann");
    heal(network, &["s1"], &["s2"]);
    // It catches up, and the original primary takes over again.
    settled(group, 0, 2);
    assert!(has_user(group, 0, "ann"));
    assert_eq!(divergences(group, 0), Vec::<Value>::new());
}

fn the_new_primary_stays_where_it_is_to_stay(network: &Network, group: &Group) {
    follow_closely(group, 1);
    group.json(
        0,
        &[
            "config",
            "set",
            "resilience.primary-return",
            "accept-secondary",
        ],
    );
    split(network, &["s1"], &["s2"]);
    eventually(seconds(20), "another island", || acts(group, 1));
    group.add_user(0, "bob");
    group.add_user(1, "cid");
    heal(network, &["s1"], &["s2"]);
    settled(group, 1, 3);
    kept(group, 0, 1);
    assert!(has_user(group, 0, "cid") && !has_user(group, 0, "bob"));
    let shown = group.json(0, &["group", "divergence", "show", "2"]);
    assert!(shown.to_string().contains("user:bob"), "{shown:#}");
    group.json(0, &["group", "divergence", "discard", "2", "--all"]);
}

fn an_administrator_decides_where_nothing_else_is_to(network: &Network, group: &Group) {
    follow_closely(group, 1);
    group.json(0, &["config", "set", "resilience.primary-return", "ignore"]);
    split(network, &["s1"], &["s2"]);
    eventually(seconds(20), "a third island", || {
        acts(group, 0) && acts(group, 1)
    });
    group.add_user(0, "dan");
    group.add_user(1, "eve");
    heal(network, &["s1"], &["s2"]);
    eventually(seconds(20), "both to wait for an administrator", || {
        (0..2).all(|index| {
            let told = group.json(index, &["status"])["attention"].to_string();
            told.contains("an administrator decides which one stands")
        })
    });
    let refused = group.json(0, &["group", "recover", "--dry-run"]);
    assert_eq!(
        refused["allowed"], false,
        "it does not say which: {refused:#}"
    );
    let choice = ["group", "recover", "--formation", "4"];
    let plan = group.json(0, &[&choice[..], &["--dry-run"]].concat());
    assert_eq!(plan["allowed"], true, "{plan:#}");
    group.json(0, &[&choice[..], &["--reason", "it was decided"]].concat());
    settled(group, 0, 4);
    kept(group, 1, 1);
    assert!(has_user(group, 1, "dan") && !has_user(group, 1, "eve"));
}

fn only_the_side_that_reaches_the_tie_breaker_acts(network: &Network, group: &Group) {
    follow_closely(group, 1);
    group.json(0, &["config", "set", "resilience.primary-return", "accept"]);
    let gate = network.node("gate").address().to_string();
    group.json(0, &["config", "set", "resilience.tie-breakers", &gate]);
    eventually(seconds(10), "the setting to be known", || {
        let known = group.json(1, &["config", "get", "resilience.tie-breakers"]);
        known.to_string().contains(&gate)
    });
    split(network, &["s1"], &["s2", "gate"]);
    eventually(seconds(20), "the side at the gate to go on alone", || {
        acts(group, 1) && !acts(group, 0)
    });
    group.add_user(1, "fay");
    heal(network, &["s1"], &["s2", "gate"]);
    settled(group, 0, 5);
    let told = group.json(0, &["event", "list", "--kind", "formation-made"]);
    assert!(told.to_string().contains(&gate), "{told:#}");
}

#[test]
fn four_servers_split_in_the_middle() {
    let machine = Machine::shared();
    let names = ["s1", "s2", "s3", "s4"];
    let network = Network::new(&machine, &names);
    let group = group_of(&network, &names, "accept");
    let (one, other) = (&["s1", "s2"][..], &["s3", "s4"][..]);

    // A planned change of primary: nothing is refused, and it goes back by itself.
    let lent = group.json(1, &["group", "promote", "s3", "--temporary"]);
    assert!(
        lent["outage_ms"].as_u64().is_some_and(|ms| ms < 1_000),
        "{lent:#}"
    );
    eventually(seconds(30), "the office to go back", || {
        acts(&group, 0) && sees(&group, 2, 0)
    });

    split(&network, one, other);
    eventually(seconds(20), "an island of two", || {
        acts(&group, 2) && sees(&group, 3, 2) && formation(&group, 3) == Some(2)
    });
    assert!(acts(&group, 0) && sees(&group, 1, 0));
    // Both sides go on, and change the same and other things.
    group.add_user(1, "ann");
    group.add_user(3, "bob");
    group.json(0, &["config", "set", "sessions.history", "100"]);
    group.json(2, &["config", "set", "sessions.history", "200"]);
    heal(&network, one, other);
    settled(&group, 0, 1);
    assert_eq!(group.json(3, &["status"])["formation"]["original"], true);
    kept(&group, 1, 1);
    assert!(has_user(&group, 3, "ann") && !has_user(&group, 3, "bob"));
    group.json(
        2,
        &["group", "divergence", "apply", "2", "--record", "user:bob"],
    );
    assert!(has_user(&group, 0, "bob"));
    group.json(2, &["group", "divergence", "discard", "2", "--all"]);
    assert_eq!(divergences(&group, 0), Vec::<Value>::new());
}

#[test]
fn a_quorum_that_is_lost_for_good_is_made_again_by_hand() {
    let _machine = Machine::shared();
    let mut group = Group::of(STEAD).on_loopback(3).start();
    assert_eq!(group.wait_for_acting(seconds(20)), 0);
    let refused = group.fails(1, 4, &["group", "recover"]);
    assert!(refused.contains("acts as primary"), "{refused}");
    group.add_user(0, "ann");
    group.kill(0);
    group.kill(1);
    eventually(seconds(20), "the quorum to be missed", || {
        group.json(2, &["status"])["primary"] == Value::Null
    });
    let plan = group.json(2, &["group", "recover", "--dry-run"]);
    assert!(
        plan["steps"].to_string().contains("s3 makes formation 2"),
        "{plan:#}"
    );
    let done = group.json(2, &["group", "recover", "--reason", "two of three burnt"]);
    assert_eq!(
        (&done["number"], &done["primary"]),
        (&json!(2), &json!("s3"))
    );
    group.add_user(2, "bob");
    // Those that were down find their way, and do not revive the past.
    group.serve(0);
    group.serve(1);
    eventually(seconds(60), "all to be in the new formation", || {
        let there = |index| formation(&group, index) == Some(2) && has_user(&group, index, "bob");
        (0..3).all(there) && group.acting().is_some()
    });
    eventually(seconds(60), "all to count again", || {
        group.json(2, &["status"])["quorum"]["voters"] == 3
    });
    assert!(has_user(&group, 0, "ann"));
    assert_eq!(divergences(&group, 1), Vec::<Value>::new());
    // One that lost its log begins anew, and does not count before it has caught up.
    let voter = |group: &Group| {
        let shown = group.run(2, &["server", "show", "s2", "--json"]);
        shown.code == Some(0) && shown.json()["voter"] == true
    };
    group.kill(1);
    std::fs::remove_dir_all(group.server(1).data().join("formations")).expect("emptied");
    group.serve(1);
    eventually(seconds(20), "it to count no more", || !voter(&group));
    eventually(seconds(60), "it to count again", || {
        voter(&group) && has_user(&group, 1, "bob")
    });
}
