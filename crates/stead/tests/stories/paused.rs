//! A primary that dies while automatic failover is paused: nobody takes its place, and it is primary again when it is back;
//! after the pause it is as before. One group lives through both.

use crate::STEAD;
use testkit::{Group, Machine, eventually, seconds, stays_so_for};

/// Many grace periods, which are half a second.
const LONG_ENOUGH: std::time::Duration = seconds(8);

#[test]
fn nobody_takes_the_place_of_a_primary_during_a_pause() {
    let _machine = Machine::shared();
    let mut group = Group::of(STEAD).on_loopback(3).start();
    group.wait_for_voters();
    let primary = group.wait_for_acting(seconds(10));
    let others: Vec<usize> = (0..3).filter(|index| *index != primary).collect();
    let pause = |group: &Group, at: usize, span: &str| {
        let arguments = ["group", "pause", "--reason", "new switches", "--for", span];
        group.json(at, &arguments);
        let is_known = |index: usize| {
            let status = group.status(index);
            status.is_some_and(|status| !status["paused"].is_null())
        };
        eventually(seconds(10), "all to know of the pause", || {
            (0..3).all(is_known)
        });
    };

    // Asked at a server that is not primary; the primary dies and comes back.
    pause(&group, others[0], "2h");
    group.kill(primary);
    stays_so_for(LONG_ENOUGH);
    for index in &others {
        let status = group.status(*index).expect("an answer without a primary");
        assert!(status["primary"].is_null(), "{status:#}");
        assert!(status["last_failover"].is_null(), "{status:#}");
        let told = group.run(*index, &["explain"]).output;
        assert!(told.contains("automatic failover is paused by"), "{told}");
    }
    group.serve(primary);
    eventually(seconds(20), "the old primary to be primary again", || {
        group.acting() == Some(primary)
    });
    let resumed = group.json(others[1], &["group", "resume"]);
    assert_eq!(resumed["paused"], false);

    // The shortest pause there is, and a primary that stays away: the others judge its end by their own clocks.
    pause(&group, others[1], "1m");
    group.kill(primary);
    stays_so_for(LONG_ENOUGH);
    for index in &others {
        assert_eq!(group.primary_seen_by(*index), None, "during the pause");
    }
    eventually(
        seconds(90),
        "a backup to be primary after the pause",
        || group.acting().is_some(),
    );
    let next = group.wait_for_acting(seconds(10));
    let by_itself = || {
        let arguments = ["event", "list", "--kind", "group-resumed"];
        let events = group.json(next, &arguments);
        events.to_string().contains(r#""by_itself":"true""#)
    };
    eventually(seconds(10), "the new primary to record its end", by_itself);
    assert!(group.json(next, &["status"])["paused"].is_null());
}
