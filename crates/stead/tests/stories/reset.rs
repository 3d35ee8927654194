//! Servers that forget their group: first the primary of three with a session on it, then one that the others removed and
//! that nobody answers any more. Each stands alone with what it had; the others go on; neither has anything to do with
//! the other any more.

use crate::STEAD;
use crate::browsers::{self, Pair};
use serde_json::{Value, json};
use std::path::Path;
use testkit::{Group, Machine, Process, eventually, eventually_some, seconds, text};

#[test]
fn a_server_forgets_its_group_and_stands_alone() {
    let _machine = Machine::shared();
    let mut group = Group::of(STEAD).on_loopback(3).start();
    group.wait_for_voters();
    assert_eq!(group.wait_for_acting(seconds(10)), 0);
    group.add_user(0, "ann");
    group.add_app(0, "shell", &["--launch", "@pty /bin/sh"]);
    for other in ["s2", "s3"] {
        group.json(0, &["server", "offline", other]);
    }
    let old_ca = group.ca().to_owned();
    let mut shell = connect(&group, 0, &old_ca);
    shell.write(b"word=kept; echo [$word] $((50+5))\n");
    shell.line(seconds(20), "the shell", |line| line.contains("[kept] 55"));
    let invited = group.json(0, &["group", "invite"]);
    let session = the_session(&group, 0);
    assert_eq!(
        (&session["host"], &session["token"]),
        (&json!("s1"), &json!("card.1"))
    );

    let names = format!("DNS:{}", browsers::NAME);
    let portal = browsers::pair(&group, "portal", &["rsa:2048"], &names, "9");
    browsers::set(&group, &portal);
    only_planned(&group, &session);
    let old_keys = keys(group.server(0).data());
    let arguments = ["group", "reset", "--reason", "the site is given up"];
    let done = group.json(0, &arguments);
    assert_eq!(done["servers_forgotten"], json!(["s2", "s3"]));
    assert_eq!(done["sessions_kept"], 1);
    let new_ca = text(&done, "ca_fingerprint");
    assert_ne!(new_ca, old_ca);
    stands_alone(&group, 0);
    assert!(group.process(0).is_running(), "in the same process");
    no_key_is_left(&group, 0, &old_keys);
    browsers_are_shown_the_same(&group, 0, &portal);

    // What people made is there, the session too, and it remembers.
    let same = the_session(&group, 0);
    assert_eq!((&same["id"], &same["host"]), (&session["id"], &json!("s1")));
    let told = shell.wait(seconds(30));
    assert!(
        !told.success(),
        "its client cannot know the new group: {}",
        shell.story()
    );
    let mut shell = connect(&group, 0, &new_ca);
    shell.write(b"echo [$word] $((60+6))\n");
    shell.line(seconds(20), "what the shell remembers", |line| {
        line.contains("[kept] 66")
    });
    let told = group.json(0, &["event", "list", "--kind", "group-reset"]);
    let fields = &told[0]["fields"];
    assert_eq!(fields["reason"], "the site is given up", "{told:#}");
    assert_eq!(fields["by"], "root on s1", "{told:#}");
    assert_eq!(fields["servers_forgotten"], "s2, s3", "{told:#}");
    let open = &group.json(0, &["trust", "show"])["invitations"];
    assert_eq!(open, &json!([]), "{invited}");
    let again = group.fails(0, 4, &["group", "reset"]);
    assert!(
        again.contains("s1 is a group of its own already"),
        "{again}"
    );

    the_others_go_on(&group, &old_ca);
    removed_and_alone(&mut group);
}

/// The operator's certificate stays, and its key opens with the new group's seal key.
fn browsers_are_shown_the_same(group: &Group, index: usize, portal: &Pair) {
    eventually(seconds(20), "browsers to be shown it", || {
        browsers::shown(group, index, Some(browsers::NAME), "h2") == portal.text
    });
}

/// Nothing is done by a dry run, nor where it is not clear who would do it.
fn only_planned(group: &Group, session: &Value) {
    let whom = group.run_remote(None, &["group", "reset"]).fails(2);
    assert!(whom.contains("more than one server"), "{whom}");
    let plan = group.json(0, &["group", "reset", "--dry-run"]);
    assert_eq!(
        (&plan["allowed"], &plan["sessions_kept"]),
        (&json!(true), &json!(1))
    );
    let told = plan["warnings"].to_string();
    assert!(
        told.contains("s1 is the primary: the others lose it, and s2 takes its place"),
        "{plan:#}"
    );
    let plan = group.json(1, &["group", "reset", "--dry-run"]);
    assert_eq!(plan["lost"][0]["id"], session["id"], "{plan:#}");
    assert_eq!(group.status(2).expect("a status")["quorum"]["reachable"], 3);
}

/// They have another primary, accept changes, and the server is a stranger to them until it is removed, and after.
fn the_others_go_on(group: &Group, old_ca: &str) {
    eventually(seconds(20), "another primary", || {
        [1, 2].iter().all(|index| {
            group
                .primary_seen_by(*index)
                .is_some_and(|primary| primary != 0)
        })
    });
    group.add_user(1, "eve");
    let entry = |index: usize| {
        let servers = group.status(index)?["servers"].clone();
        servers
            .as_array()?
            .iter()
            .find(|one| one["name"] == "s1")
            .cloned()
    };
    eventually(seconds(20), "s1 to be listed as unreachable", || {
        [1, 2]
            .iter()
            .all(|index| entry(*index).is_some_and(|entry| entry["reachable"] == false))
    });
    let address = group.server(0).client_address().to_string();
    let mut command = group.command(0);
    command.args(["status", "--server", &address, "--ca", old_ca]);
    let mut distrusting = Process::start("status", &mut command);
    let code = distrusting.wait(seconds(30)).code();
    assert_eq!(code, Some(1), "{}", distrusting.story());
    let users = group.json(0, &["user", "list"]).to_string();
    assert!(users.contains("ann") && !users.contains("eve"), "{users}");
    let next = primary_of_the_others(group);
    // Two voters are left: they are to need each other.
    group.json(next, &["config", "set", "resilience.mode", "quorum"]);
    group.json(
        next,
        &["group", "remove", "s1", "--reason", "it stands alone"],
    );
    eventually(seconds(20), "s1 to be gone there", || entry(next).is_none());
    stands_alone(group, 0);
}

/// A server that was removed while it was away, and whose last word from the group was that: killed at once after its reset, too.
fn removed_and_alone(group: &mut Group) {
    let primary = primary_of_the_others(group);
    let other = 3 - primary;
    let name = group.server(other).name().to_owned();
    let mode = ["config", "set", "resilience.mode", "availability"];
    group.json(primary, &mode);
    group.kill(other);
    group.json(primary, &["group", "remove", &name]);
    group.serve(other);
    eventually(seconds(20), "it to say that it was removed", || {
        let status = group.status(other);
        status.is_some_and(|status| {
            status["attention"]
                .to_string()
                .contains("stead group reset")
        })
    });
    group.kill(primary);
    let plan = group.json(other, &["group", "reset", "--dry-run"]);
    assert!(
        plan["checks"]
            .to_string()
            .contains("was removed from the group"),
        "{plan:#}"
    );
    group.json(other, &["group", "reset"]);
    group.kill(other);
    group.serve(other);
    stands_alone(group, other);
    group.add_user(other, "bob");
}

fn primary_of_the_others(group: &Group) -> usize {
    eventually_some(seconds(20), "a primary of the others", || {
        [1, 2]
            .into_iter()
            .find(|index| group.primary_seen_by(*index) == Some(*index))
    })
}

fn stands_alone(group: &Group, index: usize) {
    let name = group.server(index).name();
    let status = eventually_some(seconds(20), &format!("{name} to stand alone"), || {
        let status = group.status(index)?;
        (status["acting"] == true && status["quorum"]["voters"] == 1).then_some(status)
    });
    let servers = status["servers"].as_array().expect("a list");
    assert_eq!(servers.len(), 1, "{status:#}");
    assert_eq!(
        (&status["primary"]["name"], &status["group"]),
        (&json!(name), &json!("testers"))
    );
    assert_eq!(status["formation"]["number"], 1, "{status:#}");
    assert_eq!(status["formation"]["original"], true, "{status:#}");
}

fn the_session(group: &Group, index: usize) -> Value {
    eventually_some(seconds(20), "the session", || {
        let listed = group.json(index, &["session", "list"]);
        listed.as_array()?.first().cloned()
    })
}

/// `stead connect --stdio` at one server.
fn connect(group: &Group, index: usize, ca: &str) -> Process {
    let mut command = group.command(index);
    let address = group.server(index).client_address().to_string();
    command
        .args(["connect", "--server", &address, "--ca", ca])
        .args(["--token", "card.1", "--app", "shell", "--user", "ann"])
        .arg("--password-file")
        .arg(group.password_file())
        .arg("--stdio");
    Process::start("connect --stdio", &mut command)
}

/// What a server holds to prove itself with.
pub(crate) fn keys(data: &Path) -> Vec<Vec<u8>> {
    let names = ["peer.key", "client.key", "secret", "seal.key"];
    names
        .map(|name| std::fs::read(data.join("trust").join(name)).expect("a key"))
        .to_vec()
}

/// Nothing on its disk proves that it was in the old group.
pub(crate) fn no_key_is_left(group: &Group, index: usize, keys: &[Vec<u8>]) {
    let mut folders = vec![group.server(index).data().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(content) = std::fs::read(&path) else {
                continue; // a socket
            };
            let has = |key: &Vec<u8>| content.windows(key.len()).any(|part| part == key);
            assert!(!keys.iter().any(has), "{}", path.display());
        }
    }
}
