//! Profiles, which administrators write, and preferences, which users do: what `stead connect` makes of them.

use crate::running::{Running, run, stead};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use testkit::{Process, event, listening, read_until, seconds};

/// Where the server is, and its authority.
fn place(server: &Running) -> [String; 4] {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let address = text(&server.json(&["status"])["client_address"]);
    let ca = text(&server.json(&["trust", "show"])["ca_fingerprint"]);
    ["--server".to_owned(), address, "--ca".to_owned(), ca]
}

/// A command from elsewhere of whoever has this token; its exit code and what it says.
fn as_user(server: &Running, token: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = stead();
    command.args(place(server)).args(arguments);
    let (code, out, err) = run(command.env("STEAD_API_TOKEN", token));
    (code, out + &err)
}

fn prepared() -> (Running, String) {
    let server = Running::start();
    let password = server.path("password").to_str().unwrap().to_owned();
    server.json(&["user", "add", "ann", "--password-file", &password]);
    for app in ["home", "mail"] {
        server.json(&["app", "add", app, "--launch", "@pty /bin/sh"]);
    }
    let made = server.json(&["user", "token", "add", "ann", "hers"]);
    let token = made["token"].as_str().unwrap().to_owned();
    (server, token)
}

#[test]
fn users_say_what_profiles_leave_open() {
    let (server, token) = prepared();
    let told = server.fails(4, &["profile", "set", "lisen", "127.0.0.1:1"]);
    assert!(told.contains("the nearest is listen"), "{told}");
    let told = server.fails(4, &["profile", "set", "listen", "0.0.0.0:1"]);
    assert!(told.contains("does not fit listen"), "{told}");
    let told = server.fails(4, &["profile", "set", "app", "home", "--user", "nobody"]);
    assert!(told.contains("there is no user"), "{told}");
    server.json(&["profile", "set", "env.GREETING", "hello"]);
    server.json(&["profile", "set", "app", "mail", "--user", "ann"]);
    server.json(&["profile", "set", "listen", "127.0.0.1:0", "--lock"]);

    let (code, told) = as_user(&server, &token, &["preference", "set", "app", "home"]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = as_user(&server, &token, &["preference", "get", "--json"]);
    assert_eq!(code, 0, "{told}");
    let own: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&own["name"], &own["values"]),
        (&json!("ann"), &json!({"app": "home"}))
    );
    let refused: [(&[&str], &str); 4] = [
        (&["preference", "set", "notice", "x"], "profiles only"),
        (
            &["preference", "set", "app", "home", "--user", "admin"],
            "somebody else's",
        ),
        (&["preference", "get", "--user", "admin"], "somebody else's"),
        (&["profile", "set", "app", "home"], "needs"),
    ];
    for (arguments, why) in refused {
        let (code, told) = as_user(&server, &token, arguments);
        assert!(code == 4 && told.contains(why), "{arguments:?}: {told}");
    }
    let told = server.fails(4, &["preference", "set", "app", "home"]);
    assert!(told.contains("say whose preferences"), "{told}");
    for (key, value) in [
        ("listen", "127.0.0.1:1"),
        ("env.GREETING", "hi"),
        ("env.PATH", "/x"),
    ] {
        server.json(&["preference", "set", key, value, "--user", "ann"]);
    }

    let holds = server.json(&["profile", "get", "--user", "ann", "--effective"]);
    let holds: Vec<(&str, &str, &str)> = (holds.as_array().unwrap().iter())
        .map(|one| {
            let text = |field: &str| one[field].as_str().unwrap();
            (text("name"), text("value"), text("from"))
        })
        .collect();
    assert_eq!(
        holds,
        [
            ("app", "home", "preferences"),
            ("env.GREETING", "hi", "preferences"),
            ("listen", "127.0.0.1:0", "group"),
        ]
    );
    let audited = server.json(&["audit", "list"]).to_string();
    for subject in ["profile:group", "profile:user:ann", "preferences:ann"] {
        assert!(audited.contains(subject), "{audited}");
    }
    server.json(&["profile", "remove", "listen"]);
    server.json(&["profile", "remove", "--user", "ann"]);
    let left = server.json(&["profile", "list"]);
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    let (code, told) = as_user(&server, &token, &["preference", "remove", "app"]);
    assert_eq!(code, 0, "{told}");
}

#[test]
fn a_client_gets_what_they_say() {
    let (server, _) = prepared();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap().to_string();
    drop(free);
    server.json(&["profile", "set", "listen", &listen]);
    server.json(&["profile", "set", "notice", "Back-up at noon."]);
    server.json(&[
        "profile",
        "set",
        "env.GREETING",
        "hello you",
        "--app",
        "home",
    ]);
    server.json(&["preference", "set", "app", "home", "--user", "ann"]);

    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stead"));
    command
        .arg("connect")
        .args(place(&server))
        .args(["--user", "ann", "--json", "--password-file"])
        .arg(server.path("password"))
        .env("HOME", server.folder.path());
    let client = Process::start("connect", &mut command);
    let ready = event(&client, "ready", seconds(30));
    assert_eq!(ready["listen"], listen);
    let notice = event(&client, "notice", seconds(10));
    assert_eq!(notice["text"], "Back-up at noon.");
    let session = server.json(&["session", "list"]);
    assert_eq!(session[0]["app"], "home");
    let mut stream = TcpStream::connect(listening(&client, seconds(10))).unwrap();
    stream.write_all(b"echo =$GREETING=\n").unwrap();
    let told = read_until(&mut stream, "=hello you=");
    assert!(told.contains("=hello you="), "{told}");
}
