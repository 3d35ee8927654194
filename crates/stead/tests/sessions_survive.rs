//! Sessions through failures, with real servers and a real network: what a client's viewer feels when servers are
//! killed, cables pulled and paths cut. One group lives through all of it, as a group in use does.

mod common;

use common::{SERVERS, Stage, Transfer};
use testkit::{GroupPlan, Machine, event, events, eventually, number, seconds, stays_so_for, text};

/// Bytes each way while something fails; fewer where the servers are built for finding faults, which carry them slowly.
const TOTAL: u64 = if cfg!(debug_assertions) {
    64 << 20
} else {
    256 << 20
};
/// A second's: so that the failure comes in the middle.
const PACE: u64 = TOTAL / 8;

#[test]
fn bytes_flow_on_through_kills_and_cuts() {
    let mut stage = Stage::of(Machine::alone(), &SERVERS, GroupPlan::start);

    // A server that is neither host nor primary is killed: nobody notices.
    let (connect, port) = stage.connect("card.bystander", "bulk");
    let primary = stage.group.wait_for_acting(seconds(5));
    let host = stage.host_of(&connect);
    let bystander = (0..3)
        .find(|index| ![host, primary].contains(index))
        .expect("a third server");
    let transfer = Transfer::start(stage.viewer(), port, 1, TOTAL / 4, Some(PACE)).flows();
    stage.group.kill(bystander);
    transfer.finish(seconds(60));
    assert!(
        events(&connect, "path-lost").is_empty(),
        "{}",
        connect.story()
    );
    stage.group.serve(bystander);
    stage.group.wait_until_answering(bystander);
    drop(connect);

    // The host's server process is killed and comes back 3 s later.
    let (connect, port) = stage.connect("card.host", "bulk");
    let host = stage.host_of(&connect);
    let transfer = Transfer::start(stage.viewer(), port, 2, TOTAL, Some(PACE)).flows();
    stage.group.kill(host);
    event(&connect, "path-lost", seconds(5));
    stays_so_for(seconds(3));
    stage.group.serve(host);
    event(&connect, "resumed", seconds(20));
    transfer.finish(seconds(120));
    assert!(
        events(&connect, "session-lost").is_empty(),
        "{}",
        connect.story()
    );
    drop(connect);

    // The same with the primary.
    let (connect, port) = stage.connect("card.primary", "bulk");
    let primary = stage.group.wait_for_acting(seconds(5));
    let transfer = Transfer::start(stage.viewer(), port, 3, TOTAL, Some(PACE)).flows();
    stage.group.kill(primary);
    stays_so_for(seconds(3));
    stage.group.serve(primary);
    transfer.finish(seconds(120));
    assert!(
        events(&connect, "session-lost").is_empty(),
        "{}",
        connect.story()
    );
    drop(connect);

    // The client's own network is away for 5 s.
    let (connect, port) = stage.connect("card.client", "bulk");
    let transfer = Transfer::start(stage.viewer(), port, 4, TOTAL, Some(PACE)).flows();
    stage.viewer().unplug();
    stays_so_for(seconds(5));
    stage.viewer().plug();
    let resumed = event(&connect, "resumed", seconds(20));
    assert!(number(&resumed, "outage_ms") >= 4_000, "{resumed}");
    transfer.finish(seconds(120));
    drop(connect);

    // Only the path between client and host is cut: the session goes on through another server.
    let (connect, port) = stage.connect("card.path", "bulk");
    let host = SERVERS[stage.host_of(&connect)];
    let transfer = Transfer::start(stage.viewer(), port, 5, TOTAL / 2, Some(PACE)).flows();
    stage.network.cut("viewer", host);
    let resumed = event(&connect, "resumed", seconds(10));
    assert_ne!(text(&resumed, "via"), host);
    transfer.finish(seconds(120));
    stage.network.mend("viewer", host);
    assert!(
        events(&connect, "session-lost").is_empty(),
        "{}",
        connect.story()
    );
}

#[test]
fn a_lost_host_leads_to_a_new_session_elsewhere() {
    let mut stage = Stage::of(Machine::alone(), &SERVERS, GroupPlan::start);
    let (connect, port) = stage.connect("card.1", "bulk");
    let host = stage.host_of(&connect);
    Transfer::start(stage.viewer(), port, 1, 1 << 20, None).finish(seconds(30));
    let node = SERVERS[host];
    // A viewer is at work when its host vanishes.
    let _viewer = Transfer::start(stage.viewer(), port, 9, TOTAL, Some(1 << 20)).flows();
    stage.network.node(node).unplug();
    let lost = event(&connect, "session-lost", seconds(20));
    assert_eq!(text(&lost, "host"), node);
    let moved = event(&connect, "moved", seconds(20));
    assert_eq!(text(&moved, "from"), node);
    assert_ne!(text(&moved, "to"), node);
    // dead-after 1 s, grace period 500 ms, and 1 s; and room for a machine that does other things too.
    assert!(number(&moved, "outage_ms") < 10_000, "{moved}");
    Transfer::start(stage.viewer(), port, 2, 1 << 20, None).finish(seconds(30));

    // The host comes back: the old session is still there, but no longer the current one.
    stage.network.node(node).plug();
    let asked = (host + 1) % 3;
    eventually(
        seconds(30),
        "the old session to be registered again",
        || {
            let sessions = stage.group.json(asked, &["session", "list"]);
            let old = sessions.as_array().and_then(|all| {
                all.iter()
                    .find(|session| text(session, "id") == text(&lost, "session"))
                    .cloned()
            });
            old.is_some_and(|old| text(&old, "state") == "suspended" && old["current"] == false)
        },
    );
    stage.group.stop(host);
}

#[test]
fn a_lost_primary_acts_no_more_before_the_next_does() {
    let mut stage = Stage::of(Machine::alone(), &SERVERS, GroupPlan::start);
    let first = stage.group.wait_for_acting(seconds(5));
    let asked = (first + 1) % 3;
    for number in 0..20 {
        let (connect, _) = stage.connect(&format!("card.{number}"), "bulk");
        drop(connect);
    }
    let before = stage.group.json(first, &["session", "list"]);
    stage.network.node(SERVERS[first]).unplug();
    eventually(seconds(10), "another primary", || {
        let second = stage.group.acting();
        // Whenever the second acts, the first no longer does: it is asked on its own machine.
        let both = second.is_some_and(|second| second != first)
            && stage
                .group
                .status(first)
                .is_some_and(|status| status["acting"] == true);
        assert!(!both, "two servers act as primary");
        second.is_some_and(|second| second != first)
    });
    let added = stage.group.run(
        asked,
        &["app", "add", "after", "--backend", "tcp:127.0.0.1:9"],
    );
    assert_eq!(added.code, Some(0), "{added:?}");
    let after = stage.group.json(asked, &["session", "list"]);
    for session in before.as_array().expect("a list") {
        let id = text(session, "id");
        let kept = after
            .as_array()
            .expect("a list")
            .iter()
            .any(|other| text(other, "id") == id);
        assert!(kept, "session {id} was acknowledged and is not there");
    }
    let refused = stage.group.run(
        first,
        &["app", "add", "alone", "--backend", "tcp:127.0.0.1:9"],
    );
    assert_eq!(refused.code, Some(3), "{refused:?}");

    // Everything is killed and started again: the directory is complete, and sessions are found through their keepers.
    stage.network.node(SERVERS[first]).plug();
    stage.group.wait_for_acting(seconds(20));
    stage
        .group
        .add_app(asked, "shell", &["--launch", "@pty /bin/sh"]);
    let (shell, _port) = stage.connect("card.shell", "shell");
    let runs = |stage: &Stage| {
        let sessions = stage.group.json(asked, &["session", "list"]);
        let shell = sessions
            .as_array()
            .expect("a list")
            .iter()
            .find(|session| text(session, "token") == "card.shell");
        let shell = shell.map(|session| text(session, "state"));
        shell.is_some_and(|state| ["active", "suspended"].contains(&state.as_str()))
    };
    eventually(seconds(20), "the shell to run", || runs(&stage));
    for server in 0..3 {
        stage.group.kill(server);
    }
    for server in 0..3 {
        stage.group.serve(server);
    }
    stage.group.wait_for_acting(seconds(20));
    let apps = stage.group.json(asked, &["app", "list"]);
    assert_eq!(apps.as_array().map(Vec::len), Some(3), "{apps}");
    eventually(seconds(20), "the shell to be found again", || runs(&stage));
    drop(shell);
}
