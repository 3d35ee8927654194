//! Sessions that run as the account of whoever logged in, where some servers have that account and others do not.

use std::io::Write;
use testkit::{Group, Machine, Network, Process, event, events, read_until, seconds, text};

const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];
/// The user id of ann's account.
const ANN: u32 = 4711;

#[test]
fn a_session_is_its_users_where_there_is_an_account() {
    let machine = Machine::alone();
    let network = Network::with_viewer(&machine, &SERVERS);
    for name in ["boston", "newyork"] {
        network.node(name).add_account("ann", ANN);
    }
    network.node("detroit").add_account("bob", ANN + 1);
    let plan = Group::of(env!("CARGO_BIN_EXE_stead"));
    let mut group = plan.in_network(&network, &SERVERS).start();
    group.wait_for_voters();
    group.add_user(0, "ann");
    group.add_user(0, "bob");
    let home = ["--launch", "@pty /bin/sh", "--run-as", "{user}"];
    group.add_app(0, "home", &[&home[..], &["--dir", "/tmp"]].concat());

    where_there_is_none_it_is_said_and_the_server_passed_over(&group, &network);
    it_stays_hers_when_its_server_is_killed(&mut group, &network);
}

fn connect(group: &Group, network: &Network, token: &str) -> Process {
    group.connect(Some(network.node("viewer")), "ann", token, "home")
}

/// What a shell at a local port answers.
fn ask(network: &Network, connect: &Process, question: &str, until: &str) -> String {
    let listen = testkit::listening(connect, seconds(30));
    let stream = network.node("viewer").connect(listen, seconds(5));
    let mut stream = stream.expect("the viewer connects");
    stream.write_all(question.as_bytes()).expect("written");
    read_until(&mut stream, until)
}

fn where_there_is_none_it_is_said_and_the_server_passed_over(group: &Group, network: &Network) {
    let chosen = [
        "select",
        "--token",
        "card.chosen",
        "--app",
        "home",
        "--user",
        "ann",
        "--to",
        "detroit",
    ];
    let session = text(&group.json(0, &chosen), "id");
    testkit::eventually(seconds(20), "the session ends", || {
        let shown = group.json(0, &["session", "show", &session]);
        text(&shown, "state") == "ended"
            && text(&shown, "reason").contains("no account \"ann\" on server detroit")
    });
    let explain = ["explain", "--placement", "--app", "home"];
    let passed_over = |user: &str| {
        let told = group.json(0, &[&explain[..], &["--user", user]].concat());
        told.to_string().contains("it failed to start one")
    };
    testkit::eventually(seconds(20), "the server is passed over", || {
        passed_over("ann")
    });
    // For her alone: bob has an account there, and there only.
    assert!(
        !passed_over("bob")
            && !group
                .json(0, &explain)
                .to_string()
                .contains("failed to start")
    );
    for number in 0..4 {
        let token = format!("card.{number}");
        let connect = connect(group, network, &token);
        let ready = event(&connect, "ready", seconds(30));
        assert_ne!(text(&ready, "host"), "detroit");
        let answer = ask(
            network,
            &connect,
            "echo $(id -u)-$USER-$HOME-$((1+1))\n",
            "-2",
        );
        assert!(answer.contains("4711-ann-/tmp-2"), "{answer}");
    }
}

fn it_stays_hers_when_its_server_is_killed(group: &mut Group, network: &Network) {
    let connect = connect(group, network, "card.kept");
    let host = text(&event(&connect, "ready", seconds(30)), "host");
    let host = group.index_of(&host).expect("a server");
    let first = ask(
        network,
        &connect,
        "word=kept; echo first-$((1+1))\n",
        "first-2",
    );
    assert!(first.contains("first-2"), "{first}");
    group.kill(host);
    event(&connect, "path-lost", seconds(10));
    group.serve(host);
    event(&connect, "resumed", seconds(30));
    let again = ask(
        network,
        &connect,
        "echo $(id -un)-$word-$((1+1))\n",
        "-kept-2",
    );
    assert!(again.contains("ann-kept-2"), "{again}");
    let lost = events(&connect, "session-lost");
    assert!(lost.is_empty(), "{}", connect.story());
}
