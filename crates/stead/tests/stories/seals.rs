//! The seal key changes: by hand with a server that is away, and by itself when somebody leaves who has it. Sessions, stored secrets
//! and clients go on.

use crate::trust::{WITNESS, at_a_terminal, bystander, four_with_a_witness, says};
use serde_json::Value;
use std::net::TcpStream;
use testkit::{Group, Machine, Process, events, eventually, listening, read_until, seconds, text};

fn seal(group: &Group) -> Value {
    group.json(0, &["trust", "show"])["seal"].clone()
}

/// The seal keys on a server's disk, the newest first.
fn keys(group: &Group, index: usize) -> Vec<String> {
    let file = group.server(index).data().join("trust/seal.key");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Keeps a secret, and an application that writes it to its terminal.
fn keep_a_secret(group: &Group) {
    let file = group.server(0).data().join("the-value");
    std::fs::write(&file, "open-sesame\n").expect("it is written");
    let file = file.to_str().expect("a name");
    group.json(0, &["secret", "set", "mail", "--file", file]);
    let launch = "@pty /bin/sh -c 'cat \"$1\"; exec sh' x {secret:mail}";
    group.add_app(0, "mailer", &["--launch", launch]);
}

/// A session of that application opens its secret.
fn opens(group: &Group, token: &str) {
    let connect = group.connect(None, "ann", token, "mailer");
    let port = listening(&connect, seconds(20));
    let mut viewer = TcpStream::connect(port).expect("stead connect listens");
    read_until(&mut viewer, "open-sesame");
}

/// Another viewer takes the terminal over, through a `stead connect` that logged in long ago: its ticket holds.
fn comes_again(connect: &Process) {
    let port = listening(connect, seconds(20));
    let mut viewer = TcpStream::connect(port).expect("stead connect listens");
    says(&mut viewer, "echo again-$((40 + 2))", "again-42");
}

fn tickets_of_before_are_over(group: &Group) {
    eventually(seconds(30), "tickets of before to be over", || {
        seal(group)["former_tickets_until"].is_null()
    });
}

#[test]
fn the_seal_key_changes_and_who_was_away_fetches_it() {
    let _machine = Machine::shared();
    let mut group = four_with_a_witness();
    group.json(0, &["config", "set", "trust.ticket-overlap", "5s"]);
    let (connect, mut viewer) = at_a_terminal(&group);
    keep_a_secret(&group);
    let away = bystander(&group, &connect);
    let name = group.server(away).name().to_owned();
    let (first, before) = (seal(&group), keys(&group, 0));
    assert_eq!(before.len(), 1);
    assert_eq!(keys(&group, WITNESS), Vec::<String>::new());

    // All are there.
    let done = group.json(0, &["trust", "rotate-seal", "--reason", "a disk was sold"]);
    assert!(done["seal"]["phase"].is_null(), "{done}");
    assert_ne!(done["seal"]["key"], first["key"]);
    assert_eq!(keys(&group, 0).last(), before.first(), "the one before");
    assert_eq!(keys(&group, 1), keys(&group, 0));
    assert_eq!(keys(&group, WITNESS), Vec::<String>::new());
    opens(&group, "card.11");

    // One is away, and nobody waits for it.
    group.kill(away);
    let begun = group.json(0, &["trust", "rotate-seal"]);
    assert_eq!(begun["seal"]["phase"], "introduced", "{begun}");
    assert_eq!(begun["seal"]["unconfirmed"], serde_json::json!([name]));
    let again = group.run(0, &["trust", "rotate-ca", "--dry-run"]);
    assert_eq!(again.code, Some(0), "another rotation is not in the way");
    let ended = group.json(0, &["trust", "rotate-seal", "--finish"]);
    assert!(ended["seal"]["phase"].is_null(), "{ended}");
    opens(&group, "card.12");
    group.serve(away);
    eventually(seconds(30), "it to have the key in force", || {
        keys(&group, away).first() == keys(&group, 0).first()
    });

    // It can do what the others can: it becomes primary, issues and opens.
    eventually(seconds(30), "it to be primary", || {
        group.run(away, &["group", "promote", &name]).code == Some(0)
    });
    group.json(away, &["trust", "rotate-secret"]);
    let rotated = group.json(away, &["trust", "rotate-ca"]);
    assert_eq!(rotated["rotation"]["phase"], "pinned", "{rotated}");
    opens(&group, "card.13");
    says(&mut viewer, "echo still-$((40 + 2))", "still-42");
    tickets_of_before_are_over(&group);
    comes_again(&connect);
    let lost = events(&connect, "session-lost");
    assert!(lost.is_empty(), "{}", connect.story());
}

#[test]
fn who_leaves_takes_keys_along_that_open_nothing() {
    let _machine = Machine::shared();
    let group = four_with_a_witness();
    group.json(0, &["config", "set", "trust.ticket-overlap", "5s"]);
    let (connect, mut viewer) = at_a_terminal(&group);
    keep_a_secret(&group);
    let (leaver, before) = (bystander(&group, &connect), seal(&group));
    let taken_along = keys(&group, leaver);
    let ca = text(&group.json(0, &["trust", "show"]), "ca_fingerprint");
    group.json(0, &["group", "remove", group.server(leaver).name()]);
    eventually(seconds(40), "other keys", || {
        let trust = group.json(0, &["trust", "show"]);
        let sealed = trust["seal"]["phase"].is_null() && trust["seal"]["key"] != before["key"];
        let issued = trust["rotation"]["phase"] == "pinned";
        let secret = trust["secret"]["rotating"] == false;
        sealed && issued && secret && trust["ca_fingerprint"] != ca.as_str()
    });
    // The authority was made after the key that seals it.
    let kinds = ["seal-key-rotated", "authority-changed"];
    let [sealed, issued] = kinds.map(|kind| {
        let events = group.json(0, &["event", "list", "--kind", kind]);
        let events = events.as_array().cloned().unwrap_or_default();
        let of = |phase: &str| {
            let found = events.iter().find(|it| it["fields"]["phase"] == phase);
            found.and_then(|event| event["seq"].as_u64())
        };
        of(if kind == kinds[0] {
            "sealing"
        } else {
            "introduced"
        })
        .expect("it is in the journal")
    });
    assert!(sealed < issued, "{sealed} {issued}");
    says(&mut viewer, "echo still-$((40 + 2))", "still-42");
    tickets_of_before_are_over(&group);
    comes_again(&connect);
    opens(&group, "card.21");
    let stays = if leaver == 1 { 2 } else { 1 };
    assert_ne!(keys(&group, stays).first(), taken_along.first());
    // It stands alone, with keys of its own.
    eventually(seconds(20), "it to be a group of its own", || {
        let listed = group.run(leaver, &["group", "list", "--json"]);
        listed.code == Some(0) && listed.json().as_array().map(Vec::len) == Some(1)
    });
    let own = keys(&group, leaver);
    let shared = own.iter().any(|key| {
        let theirs = keys(&group, stays);
        theirs.contains(key) || taken_along.contains(key)
    });
    assert!(!shared, "{own:?}");
}
