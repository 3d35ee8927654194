//! Nouns and verbs against a real server.

use crate::running::{Running, run, stead};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[test]
fn status_has_what_scripts_rely_on() {
    let server = Running::start();
    let status = server.json(&["status"]);
    for key in [
        "group",
        "formation",
        "primary",
        "role",
        "mode",
        "acting",
        "quorum",
        "can_lose",
        "servers",
        "addresses",
        "last_failover",
        "peer_address",
        "client_address",
        "nbd_address",
        "warnings",
        "attention",
    ] {
        assert!(status.get(key).is_some(), "no {key} in {status:#}");
    }
    assert_eq!(status["group"], "testers");
    assert_eq!(status["role"], "primary");
    assert_eq!(status["mode"], "availability");
    assert_eq!(
        status["quorum"],
        serde_json::json!({"voters": 1, "reachable": 1, "needed": 1})
    );
    assert_eq!(status["can_lose"], 0);
    assert_eq!(status["formation"]["original"], true);
    assert_eq!(status["primary"]["name"], "s1");
    let only = &status["servers"][0];
    for key in [
        "name",
        "id",
        "role",
        "voter",
        "reachable",
        "mode",
        "lag_changes",
        "sessions",
        "load",
        "version",
        "clock_offset_ms",
        "certificate_expires",
        "last_seen_ms",
    ] {
        assert!(only.get(key).is_some(), "no {key} in {only:#}");
    }
    assert!(!status["client_address"].as_str().unwrap().ends_with(":0"));
    let (code, out, _) = run(server.command(&["status"]));
    assert_eq!(code, 0);
    assert!(out.contains("s1 is primary"), "{out}");
    assert!(
        !out.contains('\u{1b}'),
        "no colour where there is no terminal"
    );

    let explained = server.json(&["explain"]);
    assert_eq!(keys(&explained), ["at", "candidates", "decision"]);
    assert!(server.json(&["explain", "--why-not", "s1"])["decision"].is_string());
    assert!(server.json(&["explain", "--placement"])["candidates"].is_array());
    let told = server.fails(4, &["explain", "--why-not", "s2"]);
    assert!(told.contains("nearest is s1"), "{told}");

    let trust = server.json(&["trust", "show"]);
    assert!(
        trust["ca_fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    let members = server.json(&["group", "list"]);
    assert_eq!(members[0]["name"], "s1");
    assert_eq!(members[0]["role"], "primary");
}

#[test]
fn users_from_beginning_to_end() {
    let server = Running::start();
    let password = server.path("password");
    let password = password.to_str().unwrap();
    let ann = server.json(&["user", "add", "ann", "--password-file", password]);
    assert_eq!(
        (ann["name"].as_str(), ann["role"].as_str()),
        (Some("ann"), Some("user"))
    );
    assert!(ann.get("password").is_none());
    let told = server.fails(4, &["user", "add", "ann", "--password-file", password]);
    assert!(told.contains("already a user"), "{told}");
    let names: Vec<Value> = server
        .json(&["user", "list"])
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["name"].clone())
        .collect();
    assert_eq!(names, ["admin", "ann"]);
    let ann = server.json(&[
        "user",
        "set",
        "ann",
        "--role",
        "viewer",
        "--group",
        "day",
        "--group",
        "night",
        "--disable",
    ]);
    assert_eq!(ann["groups"], serde_json::json!(["day", "night"]));
    assert_eq!(ann["disabled"], true);
    assert_eq!(
        server.json(&["user", "set", "ann", "--enable", "--no-groups"])["groups"],
        serde_json::json!([])
    );
    let short = server.path("short");
    write(&short, "abc\n");
    let told = server.fails(
        4,
        &[
            "user",
            "passwd",
            "ann",
            "--password-file",
            short.to_str().unwrap(),
        ],
    );
    assert!(told.contains("at least"), "{told}");
    let (code, _, err) = run(server
        .command(&["user", "passwd", "ann", "--password-file", "-"])
        .write_stdin("another good one\n"));
    assert_eq!(code, 0, "{err}");
    let told = server.fails(4, &["user", "remove", "admin"]);
    assert!(told.contains("last administrator"), "{told}");
    let told = server.fails(4, &["user", "show", "anna"]);
    assert!(told.contains("nearest is ann"), "{told}");
    server.json(&["user", "remove", "ann"]);
    server.fails(4, &["user", "remove", "ann"]);
    assert_eq!(server.json(&["user", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn applications_and_sessions() {
    let server = Running::start();
    let app = server.json(&[
        "app",
        "add",
        "desktop",
        "--launch",
        "Xvnc -rfbunixpath {socket}",
        "--backend",
        "unix:{socket}",
        "--max-per-user",
        "2",
    ]);
    assert_eq!(app["backends"], serde_json::json!(["unix:{socket}"]));
    assert_eq!(app["max_per_user"], 2);
    server.json(&["app", "add", "rdp", "--backend", "tcp:127.0.0.1:3389"]);
    let shared = ["tcp:127.0.0.1:3389,weight=3", "tcp:127.0.0.1:3390"];
    let words = [
        "app",
        "set",
        "rdp",
        "--backend",
        shared[0],
        "--backend",
        shared[1],
    ];
    let app = server.json(&words);
    assert_eq!(app["backends"], serde_json::json!(shared));
    assert_eq!(app["here"][0]["weight"], 3);
    let told = server.fails(
        4,
        &[
            "app",
            "set",
            "desktop",
            "--backend",
            "unix:{socket},weight=2",
        ],
    );
    assert!(told.contains("tried in order"), "{told}");
    let app = server.json(&[
        "app",
        "set",
        "desktop",
        "--max-per-user",
        "any",
        "--suspended-timeout",
        "8h",
        "--idle-timeout",
        "30m",
        "--on-drain",
        "keep",
        "--env",
        "LANG=C",
        "--run-as",
        "{user}",
    ]);
    assert_eq!(app["max_per_user"], Value::Null);
    assert_eq!(app["suspended_timeout_ms"], 8 * 3_600_000);
    assert_eq!(app["idle_timeout_ms"], 1_800_000);
    assert_eq!(app["on_drain"], "keep");
    assert_eq!(app["env"]["LANG"], "C");
    assert_eq!(app["run_as"], "{user}");
    let (_, shown, _) = run(server.command(&["app", "show", "desktop"]));
    assert!(shown.contains("{user}"), "{shown}");
    let app = server.json(&["app", "set", "desktop", "--run-as", "own"]);
    assert_eq!(app["run_as"], Value::Null);
    let told = server.fails(4, &["app", "set", "rdp", "--run-as", "nobody"]);
    assert!(told.contains("launches none"), "{told}");
    let (code, _, err) = run(server.command(&["app", "set", "desktop", "--run-as", "a b"]));
    assert!(code == 2 && err.contains("names no account"), "{err}");
    assert_eq!(app["launch"], "Xvnc -rfbunixpath {socket}");
    assert_eq!(server.json(&["app", "show", "desktop"]), app);
    assert_eq!(server.json(&["app", "list"]).as_array().unwrap().len(), 2);
    let told = server.fails(4, &["app", "add", "empty"]);
    assert!(told.contains("why: "), "{told}");
    assert_eq!(server.json(&["session", "list"]), serde_json::json!([]));
    let told = server.fails(4, &["session", "end", "00000000000000000000"]);
    assert!(told.contains("there is no session"), "{told}");
    server.json(&["app", "remove", "desktop"]);
    server.fails(4, &["app", "show", "desktop"]);
}

#[test]
fn settings_from_beginning_to_end() {
    let server = Running::start();
    let all = server.json(&["config", "list"]);
    assert!(
        all.as_array()
            .unwrap()
            .iter()
            .all(|setting| setting["help"].as_str().unwrap().ends_with('.'))
    );
    let (_, out, _) = run(server.command(&["config", "get", "resilience.monitor-attempts"]));
    assert_eq!(out, "5\n");
    let set = server.json(&["config", "set", "sessions.ticket-lifetime", "2h"]);
    assert_eq!(
        (set["value"].as_str(), set["source"].as_str()),
        (Some("2h"), Some("group"))
    );
    server.json(&["config", "set", "tunnel.retain", "5m", "--on", "s1"]);
    assert_eq!(
        server.json(&["config", "get", "tunnel.retain", "--on", "s1"])["source"],
        "server"
    );
    assert_eq!(
        server.json(&["config", "get", "tunnel.retain"])["overrides"][0]["server"],
        "s1"
    );
    assert_eq!(
        server.json(&["config", "unset", "tunnel.retain", "--on", "s1"])["source"],
        "default"
    );
    assert_eq!(
        server.json(&["config", "unset", "sessions.ticket-lifetime"])["source"],
        "default"
    );
    let told = server.fails(4, &["config", "set", "resilience.monitor-atempts", "7"]);
    assert!(told.contains("resilience.monitor-attempts"), "{told}");
    let told = server.fails(4, &["config", "set", "balance.method", "least-lod"]);
    assert!(told.contains("least-load"), "{told}");
    let told = server.fails(
        4,
        &[
            "config",
            "set",
            "resilience.monitor-attempts",
            "7",
            "--on",
            "s1",
        ],
    );
    assert!(told.contains("whole group"), "{told}");
    let (_, out, _) = run(server.command(&["config", "describe", "balance.method"]));
    assert!(out.contains("round-robin"), "{out}");
}

#[test]
fn servers_invitations_and_the_journal() {
    let server = Running::start();
    let off = server.json(&[
        "server",
        "offline",
        "s1",
        "--reason",
        "new disks",
        "--for",
        "4h",
    ]);
    assert_eq!(
        (off["name"].as_str(), off["mode"].as_str()),
        (Some("s1"), Some("offline"))
    );
    assert_eq!(off["offline"]["reason"], "new disks");
    let warnings = server.json(&["status"])["warnings"].to_string();
    assert!(warnings.contains("new disks"), "{warnings}");
    assert_eq!(server.json(&["server", "online", "s1"])["mode"], "online");
    assert_eq!(server.json(&["server", "list"])[0]["name"], "s1");
    let told = server.fails(4, &["server", "show", "s9"]);
    assert!(told.contains("nearest is s1"), "{told}");

    let invitation = server.json(&["group", "invite", "--non-voter"]);
    assert!(invitation["code"].as_str().unwrap().starts_with("stead1-"));
    assert_eq!(invitation["standing"], "non-voter");
    assert!(invitation["expires"].as_str().unwrap().ends_with('Z'));
    let trust = server.json(&["trust", "show"]).to_string();
    assert!(
        trust.contains("non-voter") && !trust.contains("stead1-"),
        "{trust}"
    );
    let plan = server.json(&["group", "remove", "s1", "--dry-run"]);
    assert_eq!(plan["allowed"], false, "{plan:#}");
    server.fails(4, &["group", "remove", "s1"]);

    let divergences = server.json(&["group", "divergence", "list"]);
    assert_eq!(divergences, serde_json::json!([]));
    for arguments in [
        &["group", "divergence", "show", "2"][..],
        &["group", "divergence", "apply", "2", "--all", "--dry-run"],
        &["group", "divergence", "discard", "abc", "--record", "pause"],
    ] {
        let told = server.fails(4, arguments);
        assert!(told.contains("group divergence list"), "{told}");
    }

    let events = server.json(&["event", "list", "--kind", "server-mode"]);
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(
        keys(&events[0]),
        [
            "at", "fields", "kind", "reasons", "seq", "server", "severity", "subject"
        ]
    );
    assert!(events[0]["seq"].as_u64() < events[1]["seq"].as_u64());
    assert_eq!(
        server
            .json(&["event", "list", "--last", "1"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let told = server.fails(4, &["event", "list", "--kind", "failovr"]);
    assert!(told.contains("failover"), "{told}");
    assert!(server.json(&["event", "kinds"]).as_array().unwrap().len() > 10);
}

#[test]
fn watching_goes_on_from_a_place_in_the_journal() {
    let server = Running::start();
    server.json(&["server", "offline", "s1"]);
    let mut watching = std::process::Command::new(env!("CARGO_BIN_EXE_stead"))
        .args([
            "event",
            "watch",
            "--since",
            "1",
            "--kind",
            "server-mode",
            "--json",
            "--data",
        ])
        .arg(server.data())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(watching.stdout.take().unwrap()));
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["kind"], "server-mode");
    server.json(&["server", "online", "s1"]);
    let second: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(second["seq"].as_u64() > first["seq"].as_u64());
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn from_elsewhere_with_a_login() {
    let server = Running::start();
    let address = server.json(&["status"])["client_address"]
        .as_str()
        .unwrap()
        .to_owned();
    let ca = server.json(&["trust", "show"])["ca_fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let remote = |arguments: &[&str]| {
        let mut command = stead();
        command
            .env("HOME", server.folder.path())
            .args(["--server", &address, "--ca", &ca])
            .args(arguments);
        run(&mut command)
    };
    let (code, _, err) = remote(&["status"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("stead login"), "{err}");
    let wrong = server.path("wrong");
    write(&wrong, "not the password\n");
    let (code, _, err) = remote(&["login", "admin", "--password-file", wrong.to_str().unwrap()]);
    assert_eq!(code, 4, "{err}");
    let password = server.path("password");
    let (code, out, err) = remote(&[
        "login",
        "admin",
        "--password-file",
        password.to_str().unwrap(),
        "--json",
    ]);
    assert_eq!(code, 0, "{err}");
    assert!(!out.contains("token"), "a token is kept, not shown");
    let (code, out, err) = remote(&["status", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["acting"], true);
    let (code, _, err) = remote(&[
        "user",
        "add",
        "vera",
        "--role",
        "viewer",
        "--password-file",
        password.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{err}");
    let (code, _, _) = remote(&[
        "login",
        "vera",
        "--password-file",
        password.to_str().unwrap(),
    ]);
    assert_eq!(code, 0);
    assert_eq!(remote(&["session", "list"]).0, 0, "a viewer reads");
    let (code, _, err) = remote(&["config", "set", "balance.method", "random-two"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("needs the role admin"), "{err}");
    let (code, _, err) = remote(&[
        "user",
        "passwd",
        "vera",
        "--password-file",
        wrong.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "one's own password: {err}");
    assert_eq!(
        remote(&["status"]).0,
        4,
        "logins from before the new password are over"
    );
    assert_eq!(remote(&["logout"]).0, 0);
    let other = format!("sha256:{}", "0".repeat(64));
    let (code, _, err) = run(stead()
        .env("HOME", server.folder.path())
        .args(["status", "--server", &address, "--ca", &other]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("--ca"), "{err}");
}
