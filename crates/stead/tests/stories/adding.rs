//! `stead group add`: a server that stands alone and runs becomes a member, at the word of one of its own administrators, and runs
//! on; what refuses it changes nothing on either side; and whoever is killed half-way, the server is one or the other.

use crate::STEAD;
use crate::reset::{keys, no_key_is_left};
use serde_json::{Value, json};
use testkit::{Group, Machine, Outcome, Process, eventually, eventually_some, seconds, text};

const LONE: &str = "lone";

/// Makes the server at a place of the plan one that stands alone, and gives the fingerprint of its authority.
fn stand_alone(group: &mut Group, index: usize, name: &str) -> String {
    let (peer, client) = (
        group.server(index).peer_address().to_string(),
        group.server(index).client_address().to_string(),
    );
    let password = group.password_file().to_string_lossy().into_owned();
    let addresses = ["--peer", &peer, "--client", &client];
    let made = ["init", "--name", name, "--group", LONE];
    let password = ["--admin-password-file", &password];
    group.json(index, &[&made[..], &addresses, &password].concat());
    group.serve(index);
    is_alone(group, index, name);
    text(&group.json(index, &["trust", "show"]), "ca_fingerprint")
}

fn is_alone(group: &Group, index: usize, name: &str) {
    eventually(seconds(30), "the server to stand alone", || {
        group.status(index).is_some_and(|status| {
            status["acting"] == true && status["group"] == LONE && status["primary"]["name"] == name
        })
    });
}

/// The words of `stead group add` for the server at a place.
fn words(group: &Group, index: usize, ca: &str, more: &[&str]) -> Vec<String> {
    let client = group.server(index).client_address().to_string();
    let password = group.password_file().to_string_lossy().into_owned();
    let mut words = vec!["group", "add", &client, "--fingerprint", ca];
    if !more.contains(&"--password-file") {
        words.extend(["--password-file", &password]);
    }
    words.extend(more);
    words.into_iter().map(str::to_owned).collect()
}

fn add(group: &Group, index: usize, ca: &str, more: &[&str]) -> Outcome {
    let words = words(group, index, ca, more);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    group.run(0, &[&words[..], &["--json"]].concat())
}

fn members(group: &Group, index: usize) -> Vec<String> {
    let listed = group.json(index, &["group", "list"]);
    let members = listed.as_array().expect("a list").iter();
    members.map(|member| text(member, "name")).collect()
}

fn open_invitations(group: &Group) -> Value {
    group.json(0, &["trust", "show"])["invitations"].clone()
}

#[test]
fn a_server_that_stands_alone_is_added_and_runs_on() {
    let _machine = Machine::shared();
    let mut group = Group::of(STEAD).on_loopback(3).start_first();
    // The name is taken, and people made something there.
    let ca = stand_alone(&mut group, 1, "s1");
    for (name, role) in [("vera", "viewer"), ("otto", "operator")] {
        let password = group.password_file().to_string_lossy().into_owned();
        let made = ["user", "add", name, "--role", role, "--password-file"];
        group.json(1, &[&made[..], &[&password]].concat());
    }
    group.add_app(1, "shell", &["--launch", "@pty /bin/sh"]);
    refused_for_whoever_may_not(&group, &ca);
    refused_while_there_is_something_to_lose(&mut group, &ca);

    let plan = add(&group, 1, &ca, &["--name", "s2", "--discard", "--dry-run"]).json();
    assert_eq!(plan["allowed"], true, "{plan:#}");
    let steps = plan["steps"].to_string();
    assert!(
        steps.contains("administrator: 2 users and 1 application"),
        "{steps}"
    );
    assert_eq!(members(&group, 0), ["s1"]);
    assert_eq!(open_invitations(&group), json!([]));

    let old_keys = keys(group.server(1).data());
    let added = add(&group, 1, &ca, &["--name", "s2", "--discard"]).json();
    assert_eq!(added["name"], "s2", "{added:#}");
    assert_eq!(added["started"], true, "{added:#}");
    assert!(group.process(1).is_running(), "in the same process");
    group.wait_for_voters();
    assert_eq!(members(&group, 1), ["s1", "s2"]);
    no_key_is_left(&group, 1, &old_keys);
    let trust = group.json(1, &["trust", "show"]);
    assert_eq!(text(&trust, "ca_fingerprint"), group.ca());
    let users = group.json(1, &["user", "list"]).to_string();
    assert!(!users.contains("vera"), "{users}");
    // It takes changes as a member, also after it was started again.
    group.add_user(1, "ann");
    group.stop(1);
    group.serve(1);
    group.wait_until_answering(1);
    assert_eq!(members(&group, 1), ["s1", "s2"]);
    told_on_both_sides(&group);
    let own = add(&group, 1, group.ca(), &[]).fails(4);
    assert!(own.contains("of this group already"), "{own}");
}

/// Nobody has a server join who is not its administrator, and it is told to nobody but the one that is meant.
fn refused_for_whoever_may_not(group: &Group, ca: &str) {
    let client = group.server(1).client_address().to_string();
    let nobody_asked = group.fails(0, 2, &["group", "add", &client]);
    assert!(nobody_asked.contains("--fingerprint"), "{nobody_asked}");
    let other = format!("sha256:{}", "ab".repeat(32));
    let impostor = add(group, 1, &other, &[]).fails(4);
    assert!(impostor.contains(ca), "{impostor}");
    let wrong = group.folder().join("wrong");
    std::fs::write(&wrong, "not the password").expect("a file");
    let wrong = wrong.to_string_lossy();
    let wrong = add(group, 1, ca, &["--password-file", &wrong]).fails(4);
    assert!(wrong.contains("its own administrators"), "{wrong}");
    for (user, role) in [("vera", "viewer"), ("otto", "operator")] {
        let lesser = add(group, 1, ca, &["--user", user, "--discard"]).fails(4);
        assert!(lesser.contains(&format!("the role {role}")), "{lesser}");
    }
    assert_eq!(members(group, 0), ["s1"]);
    is_alone(group, 1, "s1");
}

/// What it has, whom it is with, and a name that is taken.
fn refused_while_there_is_something_to_lose(group: &mut Group, ca: &str) {
    let taken = add(group, 1, ca, &["--discard"]).fails(4);
    assert!(taken.contains("already a server named s1"), "{taken}");
    let lost = add(group, 1, ca, &["--name", "s2"]).fails(4);
    assert!(
        lost.contains("2 users and 1 application on s2 would be lost"),
        "{lost}"
    );
    assert!(lost.contains("--discard"), "{lost}");

    let mut command = group.command(1);
    let address = group.server(1).client_address().to_string();
    command
        .args(["connect", "--server", &address, "--ca", ca])
        .args(["--token", "card.1", "--app", "shell", "--user", "otto"])
        .arg("--password-file")
        .arg(group.password_file())
        .arg("--stdio");
    let mut shell = Process::start("connect --stdio", &mut command);
    shell.write(b"echo $((50+5))\n");
    shell.line(seconds(20), "the shell", |line| line.contains("55"));
    let live = add(group, 1, ca, &["--name", "s2", "--discard"]).fails(4);
    assert!(live.contains("1 live session"), "{live}");
    let listed = group.json(1, &["session", "list"]);
    group.json(1, &["session", "end", &text(&listed[0], "id")]);
    eventually(seconds(20), "the session to have ended", || {
        group
            .status(1)
            .is_some_and(|status| status["servers"][0]["sessions"] == 0)
    });

    let code = text(&group.json(1, &["group", "invite", "--non-voter"]), "code");
    let third = group.server(2);
    let (peer, client) = (
        third.peer_address().to_string(),
        third.client_address().to_string(),
    );
    let join = ["join", &code, "--name", "s3", "--peer", &peer];
    group.json(2, &[&join[..], &["--client", &client]].concat());
    group.serve(2);
    group.wait_until_answering(2);
    let with_another = add(group, 1, ca, &["--name", "s2", "--discard"]).fails(4);
    assert!(
        with_another.contains("in a group with s3"),
        "{with_another}"
    );
    group.kill(2);
    group.json(1, &["group", "remove", "s3"]);
    assert_eq!(members(group, 0), ["s1"]);
    assert_eq!(open_invitations(group), json!([]));
    is_alone(group, 1, "s1");
}

/// Who wanted it, who made the member, and nothing that is secret.
fn told_on_both_sides(group: &Group) {
    let audited = group.json(0, &["audit", "list"]).to_string();
    assert!(audited.contains("invited_by"), "{audited}");
    assert!(!audited.contains(testkit::PASSWORD), "{audited}");
    let joined = group.json(1, &["event", "list", "--kind", "server-joined"]);
    assert_eq!(joined[0]["subject"], "s2", "{joined:#}");
}

/// A member that does not answer keeps the others trying for a while: in the middle of it the server is killed, then the member.
#[test]
fn whoever_is_killed_half_way_leaves_the_server_one_or_the_other() {
    let _machine = Machine::shared();
    let mut group = Group::of(STEAD).on_loopback(3).start_first();
    group.join_without_vote(1);
    let ca = stand_alone(&mut group, 2, "s3");

    group.process(1).pause();
    let mut adding = in_the_middle(&group, &ca);
    group.kill(2);
    let told = adding.wait(seconds(60));
    assert_eq!(told.code(), Some(3), "{}", adding.story());
    eventually(seconds(30), "the invitation to be taken back", || {
        open_invitations(&group) == json!([])
    });
    assert_eq!(members(&group, 0), ["s1", "s2"]);
    let told = group.json(0, &["event", "list", "--kind", "invitation-withdrawn"]);
    assert_eq!(told[0]["fields"]["by"], "root on s1", "{told:#}");
    group.serve(2);
    is_alone(&group, 2, "s3");

    let mut adding = in_the_middle(&group, &ca);
    group.kill(0);
    adding.wait(seconds(60));
    group.process(1).resume();
    group.serve(0);
    group.wait_for_acting(seconds(30));
    is_alone(&group, 2, "s3");
    // Its word is good until it says whom it belongs to.
    let added = eventually_some(seconds(60), "the server to be added", || {
        let outcome = add(&group, 2, &ca, &[]);
        (outcome.code == Some(0)).then(|| outcome.json())
    });
    assert_eq!(added["name"], "s3");
    killed_while_it_stores(&mut group);
}

/// `stead group add` of the third server, begun and not at its end.
fn in_the_middle(group: &Group, ca: &str) -> Process {
    let mut command = group.command(0);
    command
        .args(words(group, 2, ca, &[]))
        .arg("--data")
        .arg(group.server(0).data());
    let mut adding = Process::start("group add", &mut command);
    eventually(seconds(20), "the join to be under way", || {
        assert!(adding.is_running(), "{}", adding.story());
        open_invitations(group) != json!([])
    });
    adding
}

/// Alone again, it is killed while it writes down that it is a member; the group and it agree on what became of it.
fn killed_while_it_stores(group: &mut Group) {
    group.wait_for_voters();
    group.json(0, &["group", "remove", "s3", "--mode", "availability"]);
    let ca = eventually_some(seconds(30), "s3 to stand alone", || {
        let trust = group.run(2, &["trust", "show", "--json"]);
        let ca = text(&serde_json::from_str(&trust.output).ok()?, "ca_fingerprint");
        (ca != group.ca()).then_some(ca)
    });
    let mut command = group.command(0);
    command
        .args(words(group, 2, &ca, &["--discard"]))
        .arg("--data")
        .arg(group.server(0).data());
    let (new, ready) = ("reset.new", "reset.ready");
    let data = group.server(2).data().to_owned();
    let mut adding = Process::start("group add", &mut command);
    // No longer than a few file operations: it is looked for without a pause.
    while adding.is_running() && !data.join(new).exists() && !data.join(ready).exists() {}
    group.kill(2);
    group.serve(2);
    let became = adding.wait(seconds(90)).success();
    group.wait_until_answering(2);
    eventually(seconds(60), "both to agree on what became of it", || {
        let there = members(group, 0).contains(&"s3".to_owned());
        let status = group.status(2);
        let its = status.is_some_and(|status| {
            let servers = status["servers"].as_array().map_or(0, Vec::len);
            (status["acting"] == true && servers == 1) != there
        });
        its && there == became
    });
}
