//! Where a token leads: chosen by hand, moved, picked on a terminal.

use crate::{assert_has, list};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use testkit::{Group, Process, read_until, seconds, text};

/// A server is chosen by hand for a token's next session, and a live one elsewhere ends only where that is said.
pub(super) fn sessions_are_selected(group: &Group) {
    let (second, third) = (group.server(1).name(), group.server(2).name());
    let chosen = [
        "select",
        "--token",
        "card.chosen",
        "--app",
        "shell",
        "--user",
        "ann",
        "--to",
    ];
    let to = |server: &str, more: &[&str]| {
        let words = [&chosen[..], &[server], more].concat();
        group.json(0, &words)
    };
    let first = to(third, &[]);
    assert_eq!(text(&first, "host"), third);
    assert_eq!(first["current"], true, "{first}");
    let told = group.fails(0, 4, &[&chosen[..], &[second]].concat());
    assert!(told.contains("--end"), "{told}");
    let next = to(second, &["--end"]);
    assert_eq!(text(&next, "host"), second);
    let shown = group.json(0, &["session", "show", &text(&first, "id")]);
    assert_eq!(text(&shown, "state"), "ended");
    let same = to(second, &["--end"]);
    assert_eq!(same["id"], next["id"], "it leads there already");
    // The client that comes next finds it.
    let connect = group.connect(None, "ann", "card.chosen", "shell");
    let ready = testkit::event(&connect, "ready", seconds(30));
    assert_eq!(text(&ready, "session"), text(&next, "id"));
    drop(connect);
    group.json(0, &["session", "end", &text(&next, "id")]);
    group.fails(0, 2, &["select", "--token", "card.unknown", "--to", second]);
}

/// Labels and external addresses are said of a server, and taken back; an application goes where the labels are.
pub(super) fn servers_are_described(group: &Group) {
    let third = group.server(2).name();
    let set = ["server", "set", third];
    let words = [
        "--power",
        "2.5",
        "--label",
        "rack=a",
        "--external",
        "10.0.0.7/8=ten:443",
    ];
    let server = group.json(0, &[&set[..], &words].concat());
    assert_eq!(server["power"], 2.5, "{server}");
    assert_eq!(server["labels"], json!({ "rack": "a" }));
    let external = json!([{ "network": "10.0.0.0/8", "address": "ten:443" }]);
    assert_eq!(server["external"], external);
    let app = ["--launch", "@pty /bin/cat", "--hosts", "rack=a"];
    group.json(0, &[&["app", "add", "racked"][..], &app].concat());
    let choose = [
        "select",
        "--token",
        "card.racked",
        "--app",
        "racked",
        "--user",
        "ann",
        "--to",
    ];
    let refused = group.fails(0, 4, &[&choose[..], &[group.server(1).name()]].concat());
    assert!(refused.contains("rack=a, which it lacks"), "{refused}");
    let session = group.json(0, &[&choose[..], &[third]].concat());
    group.json(0, &["session", "end", &text(&session, "id")]);
    let words = ["--power", "1", "--no-label", "rack", "--no-external"];
    let server = group.json(0, &[&set[..], &words].concat());
    let rest = (&server["power"], &server["labels"], &server["external"]);
    assert_eq!(rest, (&json!(1.0), &json!({}), &json!([])));
    group.fails(0, 2, &set);
    group.fails(0, 4, &[&set[..], &["--power", "0"]].concat());
    group.fails(0, 4, &[&set[..], &["--external", "ten=ten:443"]].concat());
}

/// On a terminal a token's sessions and the servers are offered by number.
pub(super) fn sessions_are_picked(group: &Group) {
    let token = [
        "select",
        "--token",
        "card.picked",
        "--app",
        "shell",
        "--user",
        "ann",
    ];
    let (second, third) = (group.server(1).name(), group.server(2).name());
    let servers = group.json(0, &["server", "list"]);
    let names: Vec<String> = list(&servers).iter().map(|one| text(one, "name")).collect();
    let place = |name: &str, sessions: usize| {
        let place = names.iter().position(|one| one == name).expect("a member");
        format!("{}\n", place + 1 + sessions)
    };
    let told = on_terminal(group, &token, &format!("9999\n{}", place(second, 0)));
    assert!(
        told.contains(&format!("the next session on {third}")),
        "{told}"
    );
    assert!(told.contains(&format!("on {second} now")), "{told}");
    let told = on_terminal(group, &token, "\n");
    assert!(
        told.contains("it leads here") && told.contains("Nothing was changed"),
        "{told}"
    );
    // Elsewhere it goes only as it is said.
    let there = place(third, 1);
    let told = on_terminal(group, &token, &format!("{there}\n"));
    assert!(told.contains("Nothing was changed"), "{told}");
    let told = on_terminal(group, &token, &format!("{there}m\n"));
    assert!(told.contains(&format!("on {third} now")), "{told}");
    let found = group.json(0, &["session", "list", "--token", "card.picked"]);
    let [session] = list(&found) else {
        panic!("one session: {found}");
    };
    assert_eq!(text(session, "host"), third);
    // Scripts move it by a word.
    let moved = group.json(0, &[&token[..], &["--to", second, "--move"]].concat());
    assert_eq!(text(&moved, "host"), second);
    group.json(0, &["session", "end", &text(&moved, "id")]);
    let told = group.fails(0, 2, &token);
    assert!(told.contains("--list"), "{told}");
}

/// Runs a command on a terminal of its own, with these keys typed.
fn on_terminal(group: &Group, arguments: &[&str], keys: &str) -> String {
    let mut plain = group.command(0);
    plain.arg("--data").arg(group.server(0).data());
    plain.args(arguments);
    let words = std::iter::once(plain.get_program()).chain(plain.get_args());
    let words: Vec<String> = words
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut command = Command::new("script");
    command.args(["-qec", &words.join(" "), "/dev/null"]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut process = Process::start(&arguments.join(" "), &mut command);
    process.write(keys.as_bytes());
    process.wait(seconds(30));
    process.output().join("\n")
}

/// A session goes on elsewhere, and with it whoever uses it.
pub(super) fn sessions_are_moved(group: &Group) {
    let (second, third) = (group.server(1).name(), group.server(2).name());
    let connect = group.connect(None, "ann", "card.mover", "shell");
    let ready = testkit::event(&connect, "ready", seconds(30));
    let (first, host) = (text(&ready, "session"), text(&ready, "host"));
    let other = if host == second { third } else { second };
    let moved = group.json(0, &["session", "move", &first, "--to", other]);
    assert_has(&moved, &["id", "token", "user", "app", "host", "state"]);
    assert_eq!(
        (text(&moved, "host"), &moved["current"]),
        (other.to_owned(), &json!(true))
    );
    let told = testkit::event(&connect, "moved", seconds(20));
    assert_eq!(
        (text(&told, "from"), text(&told, "to"), &told["session"]),
        (host.clone(), other.to_owned(), &moved["id"])
    );
    assert!(text(&told, "reason").contains("moved it"), "{told}");
    // A viewer that is connected is cut off, and finds the other one where it was.
    let listen = text(&ready, "listen");
    let mut viewer = TcpStream::connect(&listen).expect("connected");
    viewer.write_all(b"here\n").expect("written");
    read_until(&mut viewer, "here");
    let again = group.json(0, &["session", "move", &text(&moved, "id")]);
    assert_ne!(text(&again, "host"), other, "it cannot stay where it is");
    viewer.read_to_end(&mut Vec::new()).expect("it is closed");
    let id = text(&again, "id");
    connect.line(seconds(20), "the second move", |line| {
        line.contains("\"moved\"") && line.contains(&id)
    });
    let mut viewer = TcpStream::connect(&listen).expect("connected");
    viewer.write_all(b"there\n").expect("written");
    read_until(&mut viewer, "there");
    let said = connect.output().join("\n");
    assert!(!said.contains("session-lost"), "{said}");
    drop((viewer, connect));
    let shown = group.json(0, &["session", "show", &first]);
    assert_eq!(text(&shown, "state"), "ended");
    assert!(text(&shown, "reason").contains("moved it"), "{shown}");
    let there = text(&again, "host");
    group.fails(0, 4, &["session", "move", &id, "--to", &there]);
    group.fails(0, 4, &["session", "move", &first, "--to", &there]);
    group.fails(0, 4, &["session", "move", &id, "--to", "nowhere"]);
    group.json(0, &["session", "end", &id]);
}
