//! Three servers at work while one of them is reached elsewhere: under a name, at another address that the name then stands for,
//! and at one that it learns of only when it comes back.

use crate::common::{SERVERS, Stage};
use crate::desk::Desk;
use serde_json::Value;
use testkit::{Group, GroupPlan, Machine, Process, eventually, seconds, text};

/// The server that moves; not the primary.
const MOVES: usize = 1;
const NAME: &str = "newyork.example";
const OLD: &str = "10.77.0.2";
const NEW: &str = "10.77.0.22";
const NOBODY: &str = "10.77.0.99";

/// Reads and changes that follow each other without a pause, each through another server, until one fails.
fn load(stage: &Stage) -> Process {
    let group = &stage.group;
    let folder = |index: usize| group.server(index).data().display().to_string();
    let stead = env!("CARGO_BIN_EXE_stead");
    let turns: Vec<String> = (0..3)
        .map(|index| {
            let data = folder(index);
            format!("{stead} --data {data} status >/dev/null && {stead} --data {data} config set audit.history $n >/dev/null")
        })
        .collect();
    let script = format!(
        "n=1000; while {}; do n=$((n+1)); done; echo failed at $n",
        turns.join(" && ")
    );
    let mut command = std::process::Command::new("sh");
    Process::start("load", command.args(["-c", &script]))
}

fn reachable(group: &Group) -> bool {
    let all = |index: usize| {
        let status = group.status(index);
        status.is_some_and(|status| status["quorum"]["reachable"] == 3)
    };
    (0..3).all(all)
}

/// What a server keeps of itself.
fn kept(group: &Group, index: usize) -> String {
    let file = group.server(index).data().join("identity.toml");
    std::fs::read_to_string(file).expect("an identity")
}

/// How often the server that moves got new certificates because of its addresses.
fn reissued(group: &Group) -> usize {
    let told = group.json(0, &["event", "list", "--kind", "certificate-renewed"]);
    let told = told.as_array().into_iter().flatten();
    told.filter(|event| event["fields"]["cause"] == "addresses")
        .filter(|event| event["subject"] == SERVERS[MOVES])
        .count()
}

fn listening_everywhere(plan: GroupPlan) -> Group {
    plan.environment("STEAD_LISTEN_PEER", "0.0.0.0:5427")
        .environment("STEAD_LISTEN_CLIENT", "0.0.0.0:5443")
        .hosts(&[(OLD, NAME)])
        .start()
}

#[test]
fn a_server_is_reached_elsewhere() {
    let mut stage = Stage::of(Machine::shared(), &SERVERS, listening_everywhere);
    stage.viewer().set_hosts(&[(OLD, NAME)]);
    let mut desks = Desk::on_each(&stage, 3);
    what_leads_elsewhere_is_refused(&stage.group);
    it_gets_a_name(&stage, &mut desks);
    the_name_stands_for_another_address(&mut stage, &mut desks);
    it_learns_of_it_when_it_comes_back(&mut stage);
    all_go_on(&stage, &mut desks);
}

/// Whoever works on another server notices nothing; whoever works on the one that was away goes on, there or elsewhere.
fn all_go_on(stage: &Stage, desks: &mut [Desk]) {
    for (host, desk) in desks.iter_mut().enumerate() {
        match host == MOVES {
            true => desk.carries(stage),
            false => desk.works(stage),
        }
    }
}

fn set(more: &[&'static str]) -> Vec<&'static str> {
    [&["server", "set", SERVERS[MOVES]], more].concat()
}

fn what_leads_elsewhere_is_refused(group: &Group) {
    let before = kept(group, MOVES);
    let nobody = ["--peer", "10.77.0.2:9", "--client", "10.77.0.99:5443"];
    let plan = group.json(2, &set(&[&nobody[..], &["--dry-run"]].concat()));
    assert_eq!(plan["allowed"], false, "{plan:#}");
    assert_eq!(plan["refusals"].as_array().map(Vec::len), Some(2));
    let why = group.fails(2, 4, &set(&nobody));
    for part in [
        "no member reaches it",
        "boston does not",
        "detroit does not",
    ] {
        assert!(why.contains(part), "{why}");
    }
    // The other port of that server, and the port of another one.
    group.fails(0, 4, &set(&["--peer", "10.77.0.2:5443", "--force"]));
    group.fails(0, 4, &set(&["--client", "10.77.0.2:5427"]));
    group.fails(0, 4, &set(&["--peer", "10.77.0.3:5427"]));
    group.fails(0, 4, &set(&["--peer", "10.77.0.3:5427", "--force"]));
    assert_eq!(kept(group, MOVES), before);
}

/// Nobody who is connected notices, and nobody who works is refused.
fn it_gets_a_name(stage: &Stage, desks: &mut [Desk]) {
    let group = &stage.group;
    let mut load = load(stage);
    let working: Vec<_> = desks.iter().map(|desk| desk.work_on(stage)).collect();
    let plan = group.json(0, &set(&["--peer", NAME, "--client", NAME, "--dry-run"]));
    assert_eq!(plan["allowed"], true, "{plan:#}");
    let changed = group.json(2, &set(&["--peer", NAME, "--client", NAME]));
    assert_eq!(text(&changed, "peer_address"), format!("{NAME}:5427"));
    eventually(seconds(20), "certificates that say so", || {
        reissued(group) == 1
    });
    let advertised = [format!("\"{NAME}:5427\""), format!("\"{NAME}:5443\"")];
    eventually(seconds(5), "it to keep that", || {
        let kept = kept(group, MOVES);
        advertised.iter().all(|address| kept.contains(address))
    });
    let own = group.json(MOVES, &["status"]);
    assert_eq!(text(&own, "client_address"), format!("{NAME}:5443"));
    for work in working {
        work.finish(seconds(60));
    }
    assert!(load.is_running(), "{}", load.story());
    assert!(reachable(group));
    // Clients look the name up too.
    Desk::open_by(stage, "card.90", &format!("{NAME}:5443")).works(stage);
    for desk in desks {
        let lost = testkit::events(&desk.connect, "path-lost");
        assert!(lost.is_empty(), "{}", desk.connect.story());
    }
    let audited = group.json(0, &["audit", "list", "--subject", "server:newyork"]);
    let newest = audited.as_array().into_iter().flatten().next_back();
    let newest = newest.cloned().unwrap_or(Value::Null);
    assert_eq!(
        newest["before"]["peer_address"], "10.77.0.2:5427",
        "{audited:#}"
    );
    assert_eq!(
        text(&newest["after"], "peer_address"),
        format!("{NAME}:5427")
    );
    load.kill();
}

/// The machine gets another address, and loses the one that it had; its name leads to somebody else's first.
fn the_name_stands_for_another_address(stage: &mut Stage, desks: &mut [Desk]) {
    let node = stage.network.node(SERVERS[MOVES]);
    let ip = |arguments: &[&str]| {
        let done = node.command("ip").args(arguments).status();
        assert!(done.is_ok_and(|status| status.success()), "{arguments:?}");
    };
    for node in stage.network.nodes() {
        node.set_hosts(&[(NOBODY, NAME), (NEW, NAME)]);
    }
    ip(&["address", "del", "10.77.0.2/24", "dev", "eth0"]);
    ip(&["address", "add", "10.77.0.22/24", "dev", "eth0"]);
    eventually(seconds(40), "it to be reached where its name leads", || {
        reachable(&stage.group)
    });
    all_go_on(stage, desks);
}

/// It is changed while it is away, which somebody has to insist on: nobody can try.
fn it_learns_of_it_when_it_comes_back(stage: &mut Stage) {
    let group = &mut stage.group;
    group.stop(MOVES);
    let at = ["--peer", "10.77.0.22:5427", "--client", "10.77.0.22:5443"];
    let why = group.fails(0, 4, &set(&at));
    assert!(why.contains("--force"), "{why}");
    group.json(0, &set(&[&at[..], &["--force"]].concat()));
    assert!(kept(group, MOVES).contains(NAME));
    group.serve(MOVES);
    eventually(seconds(30), "it to be reached there", || reachable(group));
    eventually(seconds(10), "it to have learnt where it is reached", || {
        let kept = kept(group, MOVES);
        !kept.contains(NAME) && kept.contains("\"10.77.0.22:5443\"")
    });
    let shown = group.json(0, &["server", "show", SERVERS[MOVES]]);
    assert_eq!(text(&shown, "peer_address"), "10.77.0.22:5427");
    let own = group.json(MOVES, &["status"]);
    assert_eq!(text(&own, "peer_address"), "10.77.0.22:5427");
}
