//! Stored credentials from their keeping to their change: an application reads its own, on hosts that hold the seal key and on hosts that
//! do not, as an account of its own; and the value is nowhere else.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use testkit::{Group, Machine, event, eventually, read_until, seconds, text};

const VALUE: &str = "a-value-that-is-nowhere-1f0c9ab2";
/// The same as the API takes it.
const ENCODED: &str = "YS12YWx1ZS10aGF0LWlzLW5vd2hlcmUtMWYwYzlhYjI=";
/// `printf %s VALUE | rev`: what the test's command answers, so that the value itself is in no output.
const REVERSED: &str = "2ba9c0f1-erehwon-si-taht-eulav-a";
/// The voters, and a host that only replicates.
const VOTER: usize = 1;
const HOST: usize = 2;

#[test]
fn a_secret_is_an_applications_and_nobody_elses() {
    let _machine = Machine::shared();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(3)
        .start_first();
    group.join(VOTER);
    group.join_without_vote(HOST);
    group.wait_for_voters();
    group.add_user(0, "ann");
    let outside = tempfile::tempdir().expect("a folder");
    let file = outside.path().join("value");
    fs::write(&file, VALUE).expect("written");
    let file = file.to_str().expect("a plain path");

    it_is_kept_wherever_it_is_given(&group, file);
    let processes = it_is_read_on_every_host(&group);
    it_is_nowhere(&group, &processes);
    what_is_used_stays(&group);
    it_is_to_be_changed_when_a_server_leaves_that_could_read_it(&mut group, file);
}

fn it_is_kept_wherever_it_is_given(group: &Group, file: &str) {
    // The asked server cannot seal it itself.
    let words = ["--file", file, "--description", "of the mail server"];
    let kept = group.json(HOST, &[&["secret", "set", "mail"], &words[..]].concat());
    assert_eq!(text(&kept, "name"), "mail");
    assert_eq!(text(&kept, "description"), "of the mail server");
    assert!(!kept.to_string().contains("value\":\""), "{kept}");
    let launch = "@pty /bin/sh -c 'exec sh' x {secret:mail}";
    let app = ["app", "add", "mailer", "--launch", launch];
    let wrong = launch.replace("mail}", "mial}");
    let told = group.fails(0, 4, &["app", "add", "mailer", "--launch", &wrong]);
    assert!(told.contains("the nearest is mail"), "{told}");
    let rest = [
        "--run-as",
        "nobody",
        "--env",
        "MAIL={secret:mail}",
        "--dir",
        "/tmp",
    ];
    group.json(0, &[&app[..], &rest[..]].concat());
}

/// Has a session on each host read it; gives the clients, so that the sessions stay.
fn it_is_read_on_every_host(group: &Group) -> Vec<testkit::Process> {
    let mut clients = Vec::new();
    for host in [VOTER, HOST] {
        let (token, to) = (format!("card.{host}"), group.server(host).name());
        let select = [
            "select", "--token", &token, "--app", "mailer", "--user", "ann",
        ];
        group.json(0, &[&select[..], &["--to", to]].concat());
        let client = group.connect(None, "ann", &token, "mailer");
        let ready = event(&client, "ready", seconds(30));
        assert_eq!(text(&ready, "host"), to);
        let listen = testkit::listening(&client, seconds(30));
        let mut stream = TcpStream::connect(listen).expect("connected");
        let ask = "echo =$(id -un)-$(rev < $MAIL)-$(rev < $MAIL | wc -c)=\n";
        stream.write_all(ask.as_bytes()).expect("written");
        let length = VALUE.len();
        let answer = format!("=nobody-{REVERSED}-{length}=");
        let told = read_until(&mut stream, &answer);
        assert!(told.contains(&answer), "{told}");
        clients.push(client);
    }
    clients
}

/// The value is in no file of the group, no argument and environment of a process, no answer and no log.
fn it_is_nowhere(group: &Group, clients: &[testkit::Process]) {
    for answer in [
        group.json(0, &["secret", "get", "mail"]),
        group.json(HOST, &["secret", "list"]),
        group.json(0, &["app", "show", "mailer"]),
        group.json(0, &["event", "list"]),
        group.json(0, &["audit", "list"]),
        group.json(0, &["session", "list"]),
    ] {
        assert!(!holds(answer.to_string().as_bytes()), "{answer:#}");
    }
    let audited = group.json(0, &["audit", "list"]).to_string();
    assert!(
        audited.contains("secret:mail") && audited.contains(r#""value":"set""#),
        "{audited}"
    );
    for client in clients {
        assert!(!holds(client.story().as_bytes()), "{}", client.story());
    }
    let files = files_below(group.folder());
    assert!(
        files.iter().any(|path| path.ends_with("session.json")),
        "{files:?}"
    );
    for path in files {
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(!holds(&bytes), "{path} holds the value");
    }
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        for file in ["cmdline", "environ"] {
            // A process may have gone meanwhile.
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            assert!(!holds(&bytes), "{:?} shows it in {file}", entry.path());
        }
    }
}

fn holds(bytes: &[u8]) -> bool {
    [VALUE, ENCODED].iter().any(|text| {
        let mut pieces = bytes.windows(text.len());
        pieces.any(|piece| piece == text.as_bytes())
    })
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path().display().to_string()),
            _ => {}
        }
    }
    found
}

fn what_is_used_stays(group: &Group) {
    let told = group.fails(0, 4, &["secret", "remove", "mail"]);
    assert!(told.contains("is given to mailer"), "{told}");
    let told = group.fails(0, 4, &["secret", "get", "mial"]);
    assert!(told.contains("the nearest is mail"), "{told}");
    let shown = group.json(0, &["secret", "get", "mail"]);
    let apps = serde_json::json!(["mailer"]);
    assert_eq!(shown.get("apps"), Some(&apps));
}

fn it_is_to_be_changed_when_a_server_leaves_that_could_read_it(group: &mut Group, file: &str) {
    let why = |group: &Group| {
        let shown = group.json(0, &["secret", "get", "mail"]);
        shown.get("change_because").cloned().unwrap_or_default()
    };
    assert!(why(group).is_null());
    let name = group.server(VOTER).name().to_owned();
    group.json(0, &["group", "remove", &name]);
    eventually(seconds(30), "the secret is to be changed", || {
        why(group).as_str().is_some_and(|why| why.contains(&name))
    });
    let status = group.json(0, &["status"]);
    let attention = status.get("attention").map(ToString::to_string);
    let attention = attention.unwrap_or_default();
    assert!(attention.contains("stored secret mail"), "{attention}");
    group.json(0, &["secret", "set", "mail", "--file", file]);
    assert!(why(group).is_null());
}
