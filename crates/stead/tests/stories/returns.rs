//! Who is primary after a failure, and whether the original primary gets its office back: groups of three real processes,
//! seen through the command line.

use crate::STEAD;
use crate::splits::set;
use serde_json::{Value, json};
use testkit::{Group, Machine, eventually, seconds, stays_so_for, text};

fn three() -> Group {
    Group::of(STEAD).on_loopback(3).start()
}

fn names(group: &Group, index: usize) -> Vec<String> {
    let list = group.json(index, &["group", "backups", "list"]);
    let list = list.as_array().expect("an array");
    for (place, backup) in (1..).zip(list) {
        assert_eq!(backup["place"], json!(place), "{backup}");
        assert_eq!(backup["original"], json!(place == 1), "{backup}");
    }
    list.iter().map(|backup| text(backup, "name")).collect()
}

/// The events of a kind as one server has them, oldest first.
fn events(group: &Group, index: usize, kind: &str) -> Vec<Value> {
    let mut found = group.json(index, &["event", "list", "--kind", kind]);
    let found = found.as_array_mut().expect("an array");
    found.sort_by_key(|event| event["seq"].as_u64());
    std::mem::take(found)
}

fn wait_for_primary(group: &Group, primary: usize, seers: &[usize]) {
    eventually(seconds(30), "everybody to see the primary", || {
        let seen = |index: &usize| group.primary_seen_by(*index) == Some(primary);
        group.acting() == Some(primary) && seers.iter().all(seen)
    });
}

#[test]
fn the_original_primary_takes_over_again() {
    let _machine = Machine::shared();
    let mut group = three();
    assert_eq!(group.wait_for_acting(seconds(20)), 0);
    what_the_settings_lead_to_is_measured(&group);
    group.json(1, &["config", "set", "resilience.return-delay", "2s"]);
    group.kill(0);
    wait_for_primary(&group, 1, &[1, 2]);
    assert_eq!(names(&group, 2), ["s1", "s2", "s3"]);
    group.serve(0);
    eventually(seconds(20), "its return to be announced", || {
        let returning = &group.json(1, &["status"])["returning"];
        returning["name"] == "s1" && returning["in_ms"].as_u64().is_some_and(|ms| ms <= 2_000)
    });
    wait_for_primary(&group, 0, &[0, 1, 2]);
    let moved = events(&group, 2, "switchover");
    assert_eq!(moved.len(), 1, "{moved:#?}");
    assert_eq!(
        (
            text(&moved[0]["fields"], "from"),
            text(&moved[0]["fields"], "to")
        ),
        ("s2".to_owned(), "s1".to_owned())
    );
    assert_eq!(events(&group, 2, "failover").len(), 1);
    assert_eq!(group.json(0, &["status"])["returning"], Value::Null);
    an_office_that_is_lent_goes_back_and_one_that_is_given_stays(&group);
}

fn an_office_that_is_lent_goes_back_and_one_that_is_given_stays(group: &Group) {
    group.json(0, &["config", "set", "resilience.return-delay", "1s"]);
    let plan = group.json(0, &["group", "promote", "s3", "--temporary", "--dry-run"]);
    assert!(
        plan["steps"]
            .to_string()
            .contains("s1 stays the original primary"),
        "{plan:#}"
    );
    group.json(
        1,
        &[
            "group",
            "promote",
            "s3",
            "--temporary",
            "--reason",
            "a new fan",
        ],
    );
    assert_eq!(names(group, 1), ["s1", "s2", "s3"]);
    // By a hand-over, or by an election where a busy machine is too slow for one.
    wait_for_primary(group, 0, &[0, 1, 2]);
    let lent = events(group, 0, "switchover");
    assert_eq!(text(&lent[1]["fields"], "to"), "s3", "{lent:?}");
    let told = events(group, 0, "backups-changed");
    let reason = told.last().map(|event| text(&event["fields"], "reason"));
    assert_eq!(reason.as_deref(), Some("a new fan"));
    group.json(1, &["group", "promote", "s3"]);
    wait_for_primary(group, 2, &[0, 1, 2]);
    assert_eq!(names(group, 0), ["s3", "s1", "s2"]);
    // Several times the return delay.
    stays_so_for(seconds(3));
    assert_eq!(group.acting(), Some(2));
    // Too often is too often: the office stays where it was lent to.
    group.json(0, &["config", "set", "resilience.max-moves", "3 in 1h"]);
    group.json(0, &["group", "promote", "s2", "--temporary"]);
    eventually(seconds(20), "the return to be held back", || {
        let warned = group.json(1, &["status"])["warnings"].to_string();
        warned.contains("s3 does not take over again yet")
            && warned.contains("resilience.max-moves")
    });
    assert_eq!(group.acting(), Some(1));
}

#[test]
fn backup_primaries_are_ordered_and_only_they_take_over() {
    let _machine = Machine::shared();
    let mut group = three();
    assert_eq!(group.wait_for_acting(seconds(20)), 0);
    assert_eq!(names(&group, 1), ["s1", "s2", "s3"]);
    let plan = group.json(1, &["group", "backups", "remove", "s2", "--dry-run"]);
    assert_eq!(plan["allowed"], true, "{plan:#}");
    assert_eq!(
        names(&group, 1),
        ["s1", "s2", "s3"],
        "a dry run changed something"
    );
    let left = group.json(1, &["group", "backups", "remove", "s2", "--reason", "slow"]);
    assert_eq!(left.as_array().map(Vec::len), Some(2), "{left:#}");
    for arguments in [
        &["remove", "s2"][..],
        &["move", "s2", "1"],
        &["add", "s3"],
        &["add", "nobody"],
    ] {
        let arguments = [&["group", "backups"][..], arguments].concat();
        let refused = group.fails(1, 4, &arguments);
        assert!(!refused.is_empty(), "{arguments:?}");
    }
    let usage = group.run(1, &["group", "backups", "move", "s3", "0"]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    // S2 is not on the list: s3 takes over.
    group.kill(0);
    wait_for_primary(&group, 2, &[1, 2]);
    group.json(1, &["group", "backups", "add", "s2", "--place", "1"]);
    group.json(1, &["group", "backups", "move", "s2", "9"]);
    assert_eq!(names(&group, 2), ["s1", "s3", "s2"]);
    with_failover_off_only_an_administrator_promotes(&mut group);
}

fn with_failover_off_only_an_administrator_promotes(group: &mut Group) {
    group.serve(0);
    eventually(seconds(20), "the first to be back", || {
        group.primary_seen_by(0) == Some(2)
            && group.json(2, &["status"])["quorum"]["reachable"] == 3
    });
    set(group, "resilience.failover", "false");
    group.kill(2);
    stays_so_for(seconds(2));
    assert_eq!(group.acting(), None);
    // Asked at a server that is neither, while nobody is primary.
    let done = group.json(0, &["group", "promote", "s2", "--reason", "s3 burnt"]);
    assert_eq!(text(&done, "to"), "s2");
    wait_for_primary(group, 1, &[0, 1]);
    assert_eq!(names(group, 0), ["s2", "s1", "s3"]);
    let at_itself = group.json(1, &["group", "backups", "move", "s1", "3"]);
    assert_eq!(at_itself.as_array().map(Vec::len), Some(3));
}

fn what_the_settings_lead_to_is_measured(group: &Group) {
    let advice = || group.json(1, &["config", "advise", "resilience"]);
    eventually(seconds(30), "every pair to be measured both ways", || {
        advice()["round_trips"]
            .as_array()
            .is_some_and(|trips| trips.len() == 6)
    });
    let told = advice();
    for trip in told["round_trips"].as_array().expect("an array") {
        let (median, worst) = (trip["median_ms"].as_f64(), trip["worst_ms"].as_f64());
        assert!(median > Some(0.0) && median <= worst, "{trip:#}");
    }
    let in_force = &told["in_force"];
    assert_eq!(in_force["grace_period_ms"], 500);
    let expected = in_force["expected_outage_ms"].as_u64();
    assert!(
        expected.is_some_and(|ms| (500..1_000).contains(&ms)),
        "{told:#}"
    );
    assert!(expected <= in_force["worst_outage_ms"].as_u64(), "{told:#}");
    assert_eq!(told["alternatives"].as_array().map(Vec::len), Some(3));
    set(group, "resilience.failover", "false");
    eventually(seconds(20), "nobody to take over", || {
        advice()["in_force"]["expected_outage_ms"].is_null()
    });
    set(group, "resilience.failover", "true");
}
