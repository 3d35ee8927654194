//! Bad input: a clear error each, and no harm to anybody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use testkit::{Group, Machine, seconds};

/// A field of an object as text.
#[track_caller]
fn text(object: &serde_json::Value, field: &str) -> String {
    let found = object.get(field).and_then(serde_json::Value::as_str);
    found
        .unwrap_or_else(|| panic!("no {field} in {object}"))
        .to_owned()
}

/// Connections that never say anything, more than a port lets in unproved.
const HALF_OPEN: usize = 200;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn throw(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect_timeout(&address, seconds(5)).expect("the port accepts");
    // The server may close as soon as it has seen enough.
    let _ = stream.write_all(bytes);
    stream
        .set_read_timeout(Some(seconds(15)))
        .expect("a time limit");
    let _ = stream.read(&mut [0; 64]);
}

#[test]
fn strangers_do_no_harm() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(2)
        .start_first();
    let (peer, client) = (
        group.server(0).peer_address(),
        group.server(0).client_address(),
    );
    for port in [peer, client] {
        for seed in 1..20 {
            throw(port, &noise(seed, 4096));
        }
        // The start of a TLS record that announces more than it may, and a frame of 4 GiB.
        throw(port, &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff]);
        throw(port, &[0xff; 64]);
    }
    let waiting: Vec<TcpStream> = [peer, client]
        .iter()
        .flat_map(|port| (0..HALF_OPEN).map(move |_| TcpStream::connect_timeout(port, seconds(5))))
        .filter_map(Result::ok)
        .collect();
    // Members, administrators and joining servers get in all the same.
    group.add_user(0, "ann");
    group.join(1);
    let listed = group.json(0, &["server", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    drop(waiting);
}

#[test]
fn a_join_code_works_once_and_for_its_group_only() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(2)
        .start_first();
    let code = text(&group.json(0, &["group", "invite"]), "code");
    let join = |group: &Group, code: &str, data: &str| {
        let folder = group.folder().join(data);
        let place = group.server(1);
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
        command
            .args(["join", code, "--name", "second", "--data"])
            .arg(&folder);
        command.args([
            "--peer",
            &place.peer_address().to_string(),
            "--client",
            &place.client_address().to_string(),
        ]);
        command.output().expect("stead runs")
    };
    for damaged in ["hello", "stead1-", &code[..code.len() - 2]] {
        let refused = join(&group, damaged, "damaged");
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    let joined = join(&group, &code, "first");
    assert_eq!(joined.status.code(), Some(0), "{joined:?}");
    let again = join(&group, &code, "again");
    assert_eq!(again.status.code(), Some(4), "{again:?}");
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        why.contains("used already") && why.contains("stead group invite"),
        "{why}"
    );
    let id = text(&group.json(0, &["server", "show", "second"]), "id");
    assert_eq!(id.len(), 32, "{id}");
    group.stop(0);
}
