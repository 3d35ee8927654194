//! What programs log in with on a user's behalf.

use crate::running::{Running, run, stead};
use serde_json::{Value, json};

/// A command from elsewhere that shows this token; its exit code and what it says.
fn with_token(server: &Running, token: &str, arguments: &[&str]) -> (i32, String) {
    let status = server.json(&["status"]);
    let address = status["client_address"].as_str().unwrap();
    let trust = server.json(&["trust", "show"]);
    let mut command = stead();
    command.args([
        "--server",
        address,
        "--ca",
        trust["ca_fingerprint"].as_str().unwrap(),
    ]);
    command.args(arguments).env("STEAD_API_TOKEN", token);
    let (code, out, err) = run(command);
    (code, out + &err)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn a_program_does_what_its_token_allows() {
    let server = Running::start();
    let password = server.path("password").to_str().unwrap().to_owned();
    server.json(&[
        "user",
        "add",
        "carl",
        "--role",
        "operator",
        "--password-file",
        &password,
    ]);
    let made = server.json(&["user", "token", "add", "carl", "nightly", "--expires", "2h"]);
    assert_eq!(
        (&made["name"], &made["user"], &made["role"]),
        (&json!("nightly"), &json!("carl"), &json!("operator"))
    );
    let nightly = text(&made["token"]);
    let watching = server.json(&[
        "user", "token", "add", "carl", "watching", "--role", "viewer",
    ]);
    let watching = text(&watching["token"]);
    assert_ne!(nightly, watching);

    for token in [&nightly, &watching] {
        let (code, told) = with_token(&server, token, &["server", "list"]);
        assert_eq!(code, 0, "{told}");
    }
    let offline = ["server", "offline", "s1", "--reason", "nightly work"];
    let (code, told) = with_token(&server, &watching, &offline);
    assert_eq!(code, 4, "{told}");
    let (code, told) = with_token(&server, &nightly, &offline);
    assert_eq!(code, 0, "{told}");
    let audited = server.json(&["audit", "list", "--last", "1"]);
    let from = text(&audited[0]["from"]);
    assert_eq!(audited[0]["who"], "carl");
    assert!(from.ends_with(" with token nightly"), "{from}");

    // A token that allows less than its user may gets itself no more.
    let more: [&[&str]; 3] = [
        &["user", "token", "add", "carl", "another"],
        &["user", "token", "remove", "carl", "nightly"],
        &["user", "passwd", "carl", "--password-file", &password],
    ];
    for arguments in more {
        let (code, told) = with_token(&server, &watching, arguments);
        assert!(
            code == 4 && told.contains("allows less"),
            "{arguments:?}: {told}"
        );
    }
    let (code, told) = with_token(&server, &nightly, more[0]);
    assert_eq!(code, 0, "{told}");
    server.json(&["user", "token", "remove", "carl", "another"]);

    // What the user may no more, the token does not allow either.
    server.json(&["user", "set", "carl", "--role", "viewer"]);
    assert_eq!(
        with_token(&server, &nightly, &["server", "online", "s1"]).0,
        4
    );
    server.json(&["user", "set", "carl", "--disable"]);
    assert_eq!(with_token(&server, &watching, &["server", "list"]).0, 4);
    server.json(&["user", "set", "carl", "--enable"]);

    let listed = server.json(&["user", "token", "list", "carl"]);
    let names: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, [&json!("nightly"), &json!("watching")]);
    let everything = [
        listed,
        server.json(&["audit", "list"]),
        server.json(&["user", "show", "carl"]),
    ];
    for told in everything {
        let told = told.to_string();
        assert!(
            !told.contains(&nightly[6..40]) && !told.contains("hash"),
            "{told}"
        );
    }
    server.json(&["user", "token", "remove", "carl", "nightly"]);
    let (code, told) = with_token(&server, &nightly, &["server", "list"]);
    assert!(code == 4 && told.contains("revoked"), "{told}");
    assert_eq!(with_token(&server, &watching, &["server", "list"]).0, 0);
}

#[test]
fn tokens_that_cannot_be() {
    let server = Running::start();
    let add =
        |arguments: &[&str]| server.fails(4, &[&["user", "token", "add"], arguments].concat());
    server.json(&["user", "token", "add", "admin", "ci"]);
    assert!(add(&["admin", "ci"]).contains("already"));
    assert!(add(&["nobody-here", "ci"]).contains("there is no user"));
    assert!(add(&["admin", "soon", "--expires", "1m"]).contains("an hour"));
    let password = server.path("password").to_str().unwrap().to_owned();
    server.json(&["user", "add", "ann", "--password-file", &password]);
    assert!(add(&["ann", "ci", "--role", "admin"]).contains("needs a user who is one"));
    let remove = server.fails(4, &["user", "token", "remove", "admin", "cii"]);
    assert!(remove.contains("the nearest is ci"), "{remove}");
    for wrong in [
        "stead_",
        "stead_AAAA",
        "stead_!!",
        &format!("stead_{}", "A".repeat(300)),
    ] {
        let (code, told) = with_token(&server, wrong, &["server", "list"]);
        assert_eq!(code, 4, "{wrong}: {told}");
    }
}
