//! A member's certificate and key in the wrong hands, without the group's secret.

use std::fs;
use std::path::Path;
use std::process::Command;
use testkit::{Group, Machine, eventually, seconds, text};

/// The file without the secret that it holds, with another one in its place.
fn forget_secret(data: &Path) {
    let path = data.join("trust/secret");
    let text = fs::read_to_string(&path).expect("the group secret");
    let other: String = text
        .lines()
        .map(|line| {
            let (word, hex) = line.split_once(' ').expect("a word and digits");
            format!("{word} {}\n", hex.chars().rev().collect::<String>())
        })
        .collect();
    assert_ne!(text, other);
    fs::write(path, other).expect("a writable file");
}

#[test]
fn a_stolen_certificate_without_the_secret_is_nobody() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(2)
        .start_first();
    group.join(1);
    group.stop(1);
    let real = group.server(1).data().to_owned();
    let kept = group.folder().join("kept");
    let status = Command::new("cp").arg("-a").arg(&real).arg(&kept).status();
    assert!(status.expect("cp").success());
    forget_secret(&real);
    // All else is there: certificate, keys, the directory as it was.
    group.serve(1);
    eventually(seconds(30), "the thief to be refused", || {
        let said = group.process(1).errors().join("\n");
        said.contains("secret")
    });
    group.add_user(0, "made-meanwhile");
    // The real one was there a moment ago.
    eventually(seconds(10), "nobody to be taken for that server", || {
        let seen = group.json(0, &["server", "list"]);
        let mut servers = seen.as_array().into_iter().flatten();
        let of_thief = servers.find(|server| text(server, "name") == group.server(1).name());
        of_thief.expect("a member")["reachable"] == false
    });
    // Nothing of what happened meanwhile has come to it.
    let status = group.status(1);
    let users = group.run(1, &["user", "list", "--json"]);
    assert!(
        !users.output.contains("made-meanwhile"),
        "{users:?} {status:?}"
    );
    group.kill(1);

    // With the secret it is the server that it was.
    fs::remove_dir_all(&real).expect("the thief's folder");
    fs::rename(&kept, &real).expect("the real one");
    group.serve(1);
    eventually(seconds(30), "the real one to catch up", || {
        let users = group.run(1, &["user", "list", "--json"]);
        users.output.contains("made-meanwhile")
    });
}
