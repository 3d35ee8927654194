//! Servers that stand alone, and groups that would have them: without their administrators' word, by an impostor, or with a code
//! that is left over.

use crate::common::{Door, add_user, api_token};
use client::Call;
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpListener;
use testkit::{Group, Machine, PASSWORD, eventually, seconds, text};

const STEAD: &str = env!("CARGO_BIN_EXE_stead");

fn post(door: &Door, bearer: Option<&str>, path: &str, body: Value) -> (u16, Value) {
    let call = Call {
        method: "POST".parse().expect("a method"),
        path,
        body: Some(body),
        headers: Vec::new(),
    };
    let reply = door.call(bearer, call);
    (reply.status, reply.json().unwrap_or_default())
}

fn members(group: &Group) -> usize {
    let listed = group.json(0, &["group", "list"]);
    listed.as_array().map_or(0, Vec::len)
}

/// Two groups of one: the one that would have the other's server.
fn greedy_and_lone() -> (Group, Group) {
    let greedy = Group::of(STEAD).on_loopback(1).start_first();
    let lone = Group::of(STEAD).on_loopback(1).start_first();
    (greedy, lone)
}

#[test]
fn nobody_takes_a_server_without_its_administrator() {
    let _machine = Machine::shared();
    let (greedy, lone) = greedy_and_lone();
    let door = Door::of(&lone, 0);
    let code = text(&greedy.json(0, &["group", "invite"]), "code");
    let enter = json!({ "code": code, "name": "prey", "discard": true });
    let path = "/v1/group/join";
    assert_eq!(post(&door, None, path, enter.clone()).0, 401);
    for role in ["user", "viewer", "operator"] {
        add_user(&lone, role, role);
        let bearer = door.login(role);
        assert_eq!(
            post(&door, Some(&bearer), path, enter.clone()).0,
            403,
            "{role}"
        );
        let token = api_token(&lone, "admin", &format!("as-{role}"), role);
        assert_eq!(
            post(&door, Some(&token), path, enter.clone()).0,
            403,
            "{role}"
        );
    }
    // An administrator of the other group is nobody here.
    let theirs = Door::of(&greedy, 0).login("admin");
    assert_eq!(post(&door, Some(&theirs), path, enter).0, 401);
    assert_eq!((members(&greedy), members(&lone)), (1, 1));
    let status = lone.status(0).expect("a status");
    assert_eq!(status["acting"], true, "{status:#}");
}

#[test]
fn an_impostor_is_told_nothing() {
    let _machine = Machine::shared();
    let (greedy, lone) = greedy_and_lone();
    // Another server of Stead, and somebody who only listens.
    let password = greedy.password_file().to_string_lossy().into_owned();
    let add = |address: &str, code: i32| {
        let pinned = format!("sha256:{}", "cd".repeat(32));
        let words = ["group", "add", address, "--fingerprint", &pinned];
        greedy.fails(
            0,
            code,
            &[&words[..], &["--password-file", &password]].concat(),
        )
    };
    let there = lone.server(0).client_address().to_string();
    let told = add(&there, 4);
    assert!(told.contains(lone.ca()), "{told}");
    let admin = Door::of(&greedy, 0).login("admin");
    let nobodys = format!("sha256:{}", "00".repeat(32));
    let straight = json!({
        "address": there, "ca_fingerprint": nobodys,
        "user": "admin", "password": PASSWORD, "discard": true,
    });
    let (status, problem) = post(
        &Door::of(&greedy, 0),
        Some(&admin),
        "/v1/group/members",
        straight,
    );
    assert_eq!(status, 409, "{problem:#}");
    let events = lone.json(0, &["event", "list"]).to_string();
    assert!(!events.contains("join-refused"), "{events}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody who looks");
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    });
    add(&address, 3);
    let heard = heard.join().expect("a listener");
    let says = |secret: &str| {
        heard
            .windows(secret.len())
            .any(|part| part == secret.as_bytes())
    };
    assert!(!says(PASSWORD) && !says("stead1-"), "{} bytes", heard.len());
    assert_eq!(greedy.json(0, &["trust", "show"])["invitations"], json!([]));
}

/// Makes the second server of the plan one that stands alone, and that nobody reaches where it says that servers do.
fn lone_and_out_of_reach(group: &mut Group) -> String {
    let lone = group.server(1);
    let listens = lone.peer_address().to_string();
    let said = format!("{}:6000", lone.peer_address().ip());
    let client = lone.client_address().to_string();
    let password = group.password_file().to_string_lossy().into_owned();
    let made = ["init", "--name", "prey", "--group", "lone", "--peer", &said];
    let listening = ["--listen-peer", &listens, "--client", &client];
    let password = ["--admin-password-file", &password];
    group.json(1, &[&made[..], &listening, &password].concat());
    group.serve(1);
    eventually(seconds(20), "the other server to act", || {
        group
            .status(1)
            .is_some_and(|status| status["acting"] == true)
    });
    text(&group.json(1, &["trust", "show"]), "ca_fingerprint")
}

#[test]
fn a_code_that_nothing_came_of_is_worth_nothing() {
    let _machine = Machine::shared();
    let mut greedy = Group::of(STEAD).on_loopback(2).start_first();
    let ca = lone_and_out_of_reach(&mut greedy);
    let password = greedy.password_file().to_string_lossy().into_owned();
    let address = greedy.server(1).client_address().to_string();
    let words = ["group", "add", &address, "--fingerprint", &ca];
    let password = ["--password-file", &password];
    let refused = greedy.fails(0, 4, &[&words[..], &password].concat());
    assert!(refused.contains("cannot reach the new server"), "{refused}");
    assert_eq!(greedy.json(0, &["trust", "show"])["invitations"], json!([]));
    let kind = "invitation-withdrawn";
    let told = greedy.json(0, &["event", "list", "--kind", kind]);
    assert_eq!(told[0]["fields"]["by"], "root on s1", "{told:#}");
    let audited = greedy.json(0, &["audit", "list"]).to_string();
    assert!(audited.contains("removed"), "{audited}");
    // Both sides have it in the journal, and neither has changed.
    for (index, by) in [(0, "root on s1"), (1, "admin")] {
        eventually(seconds(20), "the refusal to be in the journal", || {
            let told = greedy.json(index, &["event", "list", "--kind", "join-refused"]);
            told[0]["fields"]["by"] == by
        });
    }
    assert_eq!(members(&greedy), 1);
    let status = greedy.status(1).expect("a status");
    assert_eq!(status["group"], "lone", "{status:#}");
}
