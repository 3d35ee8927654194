//! Groups that are split and come together again, in availability mode: real processes, cut links, seen from outside.

use serde_json::{Value, json};
use testkit::{Group, Machine, Network, eventually, seconds, text};

const STEAD: &str = env!("CARGO_BIN_EXE_stead");

/// Servers in a network, in availability mode, quick to go on alone and to go back.
fn group_of(network: &Network, names: &[&str], primary_return: &str) -> Group {
    let group = Group::of(STEAD).in_network(network, names).start();
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
        status["mode"] == "availability" && status["can_lose"] == json!(names.len() - 1)
    });
    group
}

fn split(network: &Network, one: &[&str], other: &[&str]) {
    for left in one {
        for right in other {
            network.cut(left, right);
        }
    }
}

fn heal(network: &Network, one: &[&str], other: &[&str]) {
    for left in one {
        for right in other {
            network.mend(left, right);
        }
    }
}

fn formation(group: &Group, index: usize) -> Option<u64> {
    group.status(index)?["formation"]["number"].as_u64()
}

fn acts(group: &Group, index: usize) -> bool {
    group
        .status(index)
        .is_some_and(|status| status["acting"] == true)
}

fn sees(group: &Group, index: usize, primary: usize) -> bool {
    group.primary_seen_by(index) == Some(primary)
}

/// Everybody is in one formation again, led by one.
fn settled(group: &Group, primary: usize, number: u64) {
    eventually(seconds(60), "one formation again", || {
        (0..group.servers().len())
            .all(|index| sees(group, index, primary) && formation(group, index) == Some(number))
            && acts(group, primary)
    });
}

fn divergences(group: &Group, index: usize) -> Vec<Value> {
    let list = group.json(index, &["group", "divergence", "list"]);
    list.as_array().expect("an array").clone()
}

fn has_user(group: &Group, index: usize, name: &str) -> bool {
    let users = group.json(index, &["user", "list"]);
    let users = users.as_array().expect("an array");
    users.iter().any(|user| text(user, "name") == name)
}

#[test]
fn a_primary_that_changed_nothing_comes_back_and_nothing_diverges() {
    let machine = Machine::alone();
    let network = Network::new(&machine, &["s1", "s2"]);
    let group = group_of(&network, &["s1", "s2"], "accept");
    network.cut("s1", "s2");
    eventually(seconds(20), "an island", || acts(&group, 1));
    assert!(acts(&group, 0), "the other side goes on");
    assert_eq!(
        (formation(&group, 0), formation(&group, 1)),
        (Some(1), Some(2))
    );
    group.add_user(1, "ann");
    network.mend("s1", "s2");
    settled(&group, 0, 2);
    assert!(has_user(&group, 0, "ann"));
    assert_eq!(divergences(&group, 0), Vec::<Value>::new());
}

#[test]
fn two_and_two() {
    let machine = Machine::alone();
    let names = ["s1", "s2", "s3", "s4"];
    let network = Network::new(&machine, &names);
    let group = group_of(&network, &names, "accept");
    split(&network, &["s1", "s2"], &["s3", "s4"]);
    eventually(seconds(20), "an island of two", || {
        acts(&group, 2) && sees(&group, 3, 2) && formation(&group, 3) == Some(2)
    });
    assert!(acts(&group, 0) && sees(&group, 1, 0));
    // Both sides go on, and change the same and other things.
    group.add_user(1, "ann");
    group.add_user(3, "bob");
    group.json(0, &["config", "set", "sessions.history", "100"]);
    group.json(2, &["config", "set", "sessions.history", "200"]);
    heal(&network, &["s1", "s2"], &["s3", "s4"]);
    settled(&group, 0, 1);
    eventually(seconds(20), "what the island changed to be kept", || {
        divergences(&group, 1)
            .first()
            .is_some_and(|kept| kept["complete"] == true)
    });
    let kept = divergences(&group, 3);
    assert_eq!(kept.len(), 1, "{kept:#?}");
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
fn the_new_primary_stays_where_it_is_to_stay() {
    let machine = Machine::alone();
    let network = Network::new(&machine, &["s1", "s2"]);
    let group = group_of(&network, &["s1", "s2"], "accept-secondary");
    network.cut("s1", "s2");
    eventually(seconds(20), "an island", || acts(&group, 1));
    group.add_user(0, "ann");
    group.add_user(1, "bob");
    network.mend("s1", "s2");
    settled(&group, 1, 2);
    eventually(seconds(20), "what the old side changed to be kept", || {
        divergences(&group, 0)
            .first()
            .is_some_and(|kept| kept["complete"] == true)
    });
    assert!(has_user(&group, 0, "bob") && !has_user(&group, 0, "ann"));
    let kept = group.json(0, &["group", "divergence", "show", "1"]);
    assert!(kept.to_string().contains("user:ann"), "{kept:#}");
}
