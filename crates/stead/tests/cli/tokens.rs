//! The register of tokens, from beginning to end, and what clients get by it.

use crate::running::{Running, run};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;
use testkit::eventually;

/// A backend that greets whoever comes, and an application of that name for it.
fn greeter(server: &Running, app: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = format!("tcp:{}", listener.local_addr().unwrap());
    server.json(&["app", "add", app, "--backend", &backend]);
    let greeting = format!("this is {app}\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever has gone again needs no greeting.
            drop(stream.and_then(|mut stream| stream.write_all(greeting.as_bytes())));
        }
    });
}

/// What a client with these arguments is shown, and its exit code.
fn connect(server: &Running, arguments: &[&str]) -> (i32, String) {
    let password = server.path("password");
    let mut command = server.command(&["connect", "--stdio"]);
    command.arg("--password-file").arg(password).args(arguments);
    let (code, out, err) = run(command);
    (code, if code == 0 { out } else { err })
}

fn served(app: &str) -> (i32, String) {
    (0, format!("this is {app}\n"))
}

fn refused(server: &Running, arguments: &[&str], why: &str) {
    let (code, told) = connect(server, arguments);
    assert!(code == 4 && told.contains(why), "{code}: {told}");
}

fn with_people() -> Running {
    let server = Running::start();
    let password = server.path("password");
    for name in ["ann", "bob"] {
        let file = password.to_str().unwrap();
        server.json(&["user", "add", name, "--password-file", file]);
    }
    server
}

fn names(list: &Value) -> Vec<&str> {
    let names = list.as_array().unwrap().iter();
    names.map(|one| one["name"].as_str().unwrap()).collect()
}

#[test]
fn tokens_from_beginning_to_end() {
    let server = with_people();
    greeter(&server, "desktop");
    let card = server.json(&[
        "token",
        "add",
        "card.1",
        "--user",
        "ann",
        "--alias",
        "badge.7/a=b",
    ]);
    for (field, value) in [
        ("name", json!("card.1")),
        ("type", json!("card")),
        ("user", json!("ann")),
        ("app", json!(null)),
        ("home", json!(null)),
        ("enabled", json!(true)),
        ("aliases", json!(["badge.7/a=b"])),
    ] {
        assert_eq!(card[field], value, "{field}");
    }
    assert!(card["created"].as_str().unwrap().ends_with('Z'));
    server.json(&[
        "token",
        "add",
        "card.2",
        "--user",
        "bob",
        "--home",
        "east",
        "--disabled",
    ]);
    server.json(&["token", "add", "badge.9", "--user", "bob"]);
    assert_eq!(
        names(&server.json(&["token", "list"])),
        ["badge.9", "card.1", "card.2"]
    );
    let cards = server.json(&["token", "list", "--type", "card", "--user", "bob"]);
    assert_eq!(names(&cards), ["card.2"]);
    assert_eq!(
        server.json(&["token", "show", "badge.7/a=b"])["name"],
        "card.1"
    );
    let changed = server.json(&["token", "set", "card.1", "--app", "desktop", "--no-aliases"]);
    assert_eq!(
        (&changed["app"], &changed["aliases"]),
        (&json!("desktop"), &json!([]))
    );
    let changed = server.json(&["token", "set", "card.2", "--no-home", "--enable"]);
    assert_eq!(
        (&changed["home"], &changed["enabled"]),
        (&json!(null), &json!(true))
    );
    for (code, arguments, why) in [
        (
            4,
            &["add", "card.1", "--user", "ann"][..],
            "already a token",
        ),
        (4, &["add", "card.9", "--user", "eve"], "no user"),
        (
            4,
            &["add", "card.9", "--user", "ann", "--app", "deskto"],
            "no application",
        ),
        (
            4,
            &["add", "card.9", "--user", "ann", "--alias", "card.2"],
            "already a token",
        ),
        (4, &["add", "user.bob", "--user", "ann"], "by its name"),
        (4, &["show", "card.11"], "no token"),
        (4, &["remove", "card.11"], "no token"),
        (2, &["set", "card.1"], "nothing was said"),
    ] {
        let arguments = [&["token"], arguments].concat();
        let told = server.fails(code, &arguments);
        assert!(told.contains(why), "{arguments:?}: {told}");
    }
    server.json(&["token", "remove", "badge.9"]);
    // Tokens go with their user.
    server.json(&["user", "remove", "bob"]);
    assert_eq!(names(&server.json(&["token", "list"])), ["card.1"]);
    let events = server.json(&["event", "list", "--kind", "token-changed"]);
    let changes: Vec<&Value> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["fields"]["change"])
        .collect();
    assert_eq!(changes.len(), 6, "{events}");
}

#[test]
fn a_registered_token_says_who_comes_and_what_is_wanted() {
    let server = with_people();
    greeter(&server, "desktop");
    greeter(&server, "shell");
    server.json(&[
        "token", "add", "card.1", "--user", "ann", "--app", "desktop", "--alias", "badge.1",
    ]);
    assert_eq!(connect(&server, &["--token", "card.1"]), served("desktop"));
    assert_eq!(
        connect(&server, &["--token", "badge.1", "--app", "shell"]),
        served("shell")
    );
    // Both names lead to the same sessions.
    for name in ["card.1", "badge.1"] {
        let found = server.json(&["session", "list", "--token", name]);
        let apps: Vec<&Value> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["app"])
            .collect();
        assert_eq!(apps, ["desktop", "shell"], "{found}");
        assert_eq!(found[0]["token"], "card.1");
    }
    refused(
        &server,
        &["--token", "card.1", "--user", "bob"],
        "belongs to another user",
    );
    refused(
        &server,
        &["--token", "user.ann", "--user", "bob", "--app", "shell"],
        "belongs to another user",
    );
    refused(&server, &["--token", "card.2"], "--user");
    refused(
        &server,
        &["--token", "card.2", "--user", "bob"],
        "say which application: desktop, shell",
    );
    server.json(&["token", "set", "card.1", "--disable"]);
    refused(&server, &["--token", "badge.1"], "is disabled");
    // What is bound to a backend that was used at once ends as any other.
    let desktop = server.json(&["session", "list", "--token", "card.1", "--app", "desktop"]);
    let id = desktop[0]["id"].as_str().unwrap();
    server.json(&["session", "end", id]);
    let folder = server.data().join("sessions").join(id);
    eventually(Duration::from_secs(20), "its keeper to go", || {
        !folder.exists()
    });
    // An alias would hide what a token of that name has.
    assert_eq!(
        connect(&server, &["--user", "bob", "--app", "shell"]),
        served("shell")
    );
    let told = server.fails(
        4,
        &[
            "token", "set", "card.1", "--user", "bob", "--alias", "user.bob",
        ],
    );
    assert!(told.contains("sessions of its own"), "{told}");
}

#[test]
fn tokens_that_are_not_registered_get_what_the_setting_says() {
    let server = with_people();
    greeter(&server, "shell");
    let of = |token: &'static str, user: &'static str| ["--token", token, "--user", user];
    assert_eq!(connect(&server, &of("card.1", "ann")), served("shell"));
    assert_eq!(server.json(&["token", "list"]), json!([]));
    server.json(&["config", "set", "tokens.unregistered", "register"]);
    assert_eq!(connect(&server, &of("card.2", "ann")), served("shell"));
    let card = server.json(&["token", "show", "card.2"]);
    assert_eq!(
        (&card["user"], &card["enabled"]),
        (&json!("ann"), &json!(true))
    );
    refused(&server, &of("card.2", "bob"), "belongs to another user");
    server.json(&["config", "set", "tokens.unregistered", "refuse"]);
    refused(&server, &of("card.3", "ann"), "not registered");
    refused(&server, &of("card.1", "ann"), "not registered");
    assert_eq!(connect(&server, &of("card.2", "ann")), served("shell"));
    assert_eq!(
        connect(&server, &["--user", "ann"]),
        served("shell"),
        "one's own"
    );
}
