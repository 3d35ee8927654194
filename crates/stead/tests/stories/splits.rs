//! Two servers that part and meet again in availability mode, with cut links and sessions open throughout; a quorum that is lost for
//! good; and what all stories of splits are told with.

use crate::STEAD;
use crate::browsers;
use crate::common::Stage;
use crate::desk::Desk;
use serde_json::{Value, json};
use testkit::{Group, GroupPlan, Machine, Network, eventually, seconds, text};

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

/// Four servers in three sides.
const THREE: [&[&str]; 3] = [&["s1"], &["s2", "s3"], &["s4"]];
const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

/// Four servers fall into three sides, each of which goes on with a primary: s1, s2 and s4.
pub(crate) fn split_in_three(stage: &Stage) {
    let group = &stage.group;
    for (one, other) in PAIRS {
        split(&stage.network, THREE[one], THREE[other]);
    }
    eventually(seconds(30), "three sides, each with a primary", || {
        acts(group, 0) && acts(group, 1) && sees(group, 2, 1) && acts(group, 3)
    });
}

/// The three sides meet again.
pub(crate) fn heal_three(network: &Network) {
    for (one, other) in PAIRS {
        heal(network, THREE[one], THREE[other]);
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

/// Sets a setting at the primary, and waits until every server knows it.
pub(crate) fn set(group: &Group, key: &str, value: &str) {
    let primary = group.wait_for_acting(seconds(20));
    group.json(primary, &["config", "set", key, value]);
    eventually(
        seconds(20),
        &format!("all to know that {key} is {value}"),
        || {
            group.running().all(|index| {
                let known = group.run(index, &["config", "get", key, "--json"]);
                known.code == Some(0) && known.json()["value"] == value
            })
        },
    );
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
    let stage = Stage::beside(machine, &["s1", "s2"], &["gate"], GroupPlan::start);
    make_quick(&stage.group, "accept");
    let mut desks = Desk::on_each(&stage, 2);
    nothing_diverges_where_one_side_changed_nothing(&stage, &mut desks);
    the_new_primary_stays_where_it_is_to_stay(&stage, &mut desks);
    an_administrator_decides_where_nothing_else_is_to(&stage, &mut desks);
    only_the_side_that_reaches_the_tie_breaker_acts(&stage.network, &stage.group);
    all_work(&stage, &mut desks);
}

/// Nobody who has a session noticed anything.
pub(crate) fn all_work(stage: &Stage, desks: &mut [Desk]) {
    for desk in desks {
        desk.works(stage);
    }
}

fn nothing_diverges_where_one_side_changed_nothing(stage: &Stage, desks: &mut [Desk]) {
    let (group, network) = (&stage.group, &stage.network);
    split(network, &["s1"], &["s2"]);
    eventually(seconds(20), "an island", || acts(group, 1));
    assert!(acts(group, 0), "the other side goes on");
    assert_eq!(
        (formation(group, 0), formation(group, 1)),
        (Some(1), Some(2))
    );
    group.add_user(1, "amy");
    all_work(stage, desks);
    heal(network, &["s1"], &["s2"]);
    // It catches up, and the original primary takes over again.
    settled(group, 0, 2);
    assert!(has_user(group, 0, "amy"));
    assert_eq!(divergences(group, 0), Vec::<Value>::new());
    all_work(stage, desks);
}

fn the_new_primary_stays_where_it_is_to_stay(stage: &Stage, desks: &mut [Desk]) {
    let (group, network) = (&stage.group, &stage.network);
    follow_closely(group, 1);
    set(group, "resilience.primary-return", "accept-secondary");
    set(group, SUITES, ONE);
    split(network, &["s1"], &["s2"]);
    eventually(seconds(20), "another island", || acts(group, 1));
    group.add_user(0, "bob");
    group.add_user(1, "cid");
    bring_certificate(group);
    group.json(0, &["config", "set", SUITES, TWO]);
    all_work(stage, desks);
    heal(network, &["s1"], &["s2"]);
    settled(group, 1, 3);
    kept(group, 0, 1);
    assert!(has_user(group, 0, "cid") && !has_user(group, 0, "bob"));
    let shown = group.json(0, &["group", "divergence", "show", "2"]);
    assert!(shown.to_string().contains("user:bob"), "{shown:#}");
    what_would_be_refused_today_is_refused(group);
    group.json(0, &["group", "divergence", "discard", "2", "--all"]);
    all_work(stage, desks);
}

const SUITES: &str = "trust.cipher-suites";
const ONE: &str = "TLS_AES_256_GCM_SHA384";
const TWO: &str = "TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256";
const OTHER: &str = "TLS_CHACHA20_POLY1305_SHA256";

/// Puts in an operator's certificate at the first server.
fn bring_certificate(group: &Group) {
    let names = format!("DNS:{}", browsers::NAME);
    let portal = browsers::pair(group, "portal", &["rsa:2048"], &names, "9");
    browsers::set(group, &portal);
}

/// A certificate is put in place; suites of which a member has none now are not.
fn what_would_be_refused_today_is_refused(group: &Group) {
    let apply = ["group", "divergence", "apply", "2", "--record"];
    let record = |record| [&apply[..], &[record]].concat();
    let both = format!("{ONE},{OTHER}");
    for next in [&both, OTHER] {
        eventually(seconds(20), "the suites to change", || {
            let set = group.run(1, &["config", "set", SUITES, next]);
            set.code == Some(0)
        });
    }
    let suites = format!("setting:{SUITES}");
    let why = group.fails(0, 4, &record(&suites));
    assert!(why.contains("none of the present suites"), "{why}");
    let certificate = format!("certificate:{}", browsers::NAME);
    let done = group.json(0, &record(&certificate));
    assert_eq!(done["done"], 1, "{done:#}");
    let trust = group.json(1, &["trust", "show"]);
    let kept = &trust["external_certificates"];
    assert_eq!(kept[0]["name"], browsers::NAME, "{trust:#}");
    eventually(seconds(20), "all suites to be back", || {
        let set = group.run(1, &["config", "unset", SUITES]);
        set.code == Some(0)
    });
}

/// All say that they wait for an administrator.
pub(crate) fn all_wait(group: &Group) {
    for index in group.running() {
        let what = format!("server {index} to wait for an administrator");
        eventually(seconds(20), &what, || {
            let Some(status) = group.status(index) else {
                return false;
            };
            // Nor does it count on those who are in another formation.
            let told = status["attention"].to_string();
            told.contains("an administrator decides which one stands")
                && status["can_lose"].as_u64() < Some(group.servers().len() as u64 - 1)
        });
    }
}

fn an_administrator_decides_where_nothing_else_is_to(stage: &Stage, desks: &mut [Desk]) {
    let (group, network) = (&stage.group, &stage.network);
    follow_closely(group, 1);
    set(group, "resilience.primary-return", "ignore");
    split(network, &["s1"], &["s2"]);
    eventually(seconds(20), "a third island", || {
        acts(group, 0) && acts(group, 1)
    });
    group.add_user(0, "dan");
    group.add_user(1, "eve");
    heal(network, &["s1"], &["s2"]);
    all_wait(group);
    all_work(stage, desks);
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
    all_work(stage, desks);
}

fn only_the_side_that_reaches_the_tie_breaker_acts(network: &Network, group: &Group) {
    follow_closely(group, 1);
    let gate = network.node("gate").address().to_string();
    set(group, "resilience.primary-return", "accept");
    set(group, "resilience.tie-breakers", &gate);
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
