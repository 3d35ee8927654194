//! What must appear nowhere: passwords, tokens, keys and the group secret are searched for in all that a group says and writes;
//! and the memory that holds them must not reach the disk.

use crate::common::{Door, add_user, api_token};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use testkit::{Group, Machine, PASSWORD, seconds};

/// A password of its own, so that finding it means something.
const ANNS: &str = "tr0ub4dor-and-three-more";
const WRONG: &str = "anns-guess-of-tr0ub4dor";
/// The value of a stored secret, and what a backup is sealed with.
const STORED: &str = "a-stored-value-of-some-length";
const PASSPHRASE: &str = "correct-horse-battery-staple";

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Something that must not be found, and where alone it may be.
struct Secret {
    what: String,
    bytes: Vec<u8>,
    home: Option<PathBuf>,
}

impl Secret {
    fn new(what: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            what: what.to_owned(),
            bytes: bytes.into(),
            home: None,
        }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        text.windows(self.bytes.len())
            .any(|part| part == self.bytes)
    }
}

/// What the server's own folder holds: the group secret, seal key and private keys, as written there and as bytes.
fn of_folder(data: &Path) -> Vec<Secret> {
    let mut files = Vec::new();
    files_below(&data.join("trust"), &mut files);
    let mut secrets = Vec::new();
    for file in files {
        let mode = fs::metadata(&file).expect("metadata").permissions().mode();
        let text = fs::read_to_string(&file).expect("text");
        let is_private = text.contains("PRIVATE KEY") || !text.contains("CERTIFICATE");
        if !is_private {
            continue;
        }
        assert_eq!(mode & 0o077, 0, "{} is for others too", file.display());
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        for line in lines.flat_map(|line| line.split(' ')) {
            if line.len() < 32 {
                continue;
            }
            let what = file.display().to_string();
            let home = Some(file.clone());
            if let Ok(bytes) = data_encoding::HEXLOWER.decode(line.as_bytes()) {
                let home = home.clone();
                let what = format!("{what}, as bytes");
                secrets.push(Secret { what, bytes, home });
            }
            let bytes = line.as_bytes().to_vec();
            secrets.push(Secret { what, bytes, home });
        }
    }
    assert!(secrets.len() >= 3, "{}", secrets.len());
    secrets
}

#[test]
fn secrets_are_in_no_answer_log_journal_or_file() {
    let _machine = Machine::shared();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    let anns = group.folder().join("anns-password");
    fs::write(&anns, ANNS).expect("a file");
    let file = anns.to_string_lossy().into_owned();
    group.json(0, &["user", "add", "ann", "--password-file", &file]);
    group.json(0, &["user", "passwd", "ann", "--password-file", &file]);
    add_user(&group, "carl", "operator");
    let backup = keep_and_back_up(&group);
    let door = Door::of(&group, 0);
    let token = api_token(&group, "carl", "watch", "viewer");
    let ticket = door.login("admin");
    assert_eq!(door.try_password("ann", ANNS).status, 200);
    assert_eq!(door.try_password("ann", WRONG).status, 401);
    // In the wrong places too: as a name, as a token, in an address.
    assert_eq!(door.try_password(WRONG, WRONG).status, 401);
    assert_eq!(door.get(Some(WRONG), "/v1/users").status, 401);
    group.json(0, &["trust", "rotate-secret"]);

    let mut secrets = of_folder(group.server(0).data());
    secrets.extend([
        Secret::new("the administrator's password", PASSWORD),
        Secret::new("ann's password", ANNS),
        Secret::new("a wrong password", WRONG),
        Secret::new("a stored value", STORED),
        Secret::new("the passphrase of a backup", PASSPHRASE),
        Secret::new("a token for programs", token.clone()),
        Secret::new("a ticket", ticket.clone()),
        Secret::new(
            "a ticket's signature",
            ticket.rsplit('.').next().unwrap_or_default(),
        ),
    ]);
    let mut said = answers(&door, &ticket);
    for arguments in [
        &["event", "list"][..],
        &["audit", "list"],
        &["user", "show", "ann"],
        &["trust", "show"],
        &["secret", "get", "mail"],
        &["status"],
    ] {
        let shown = group.run(0, &[arguments, &["--json"]].concat());
        said.push((arguments.join(" "), shown.output.into_bytes()));
    }
    for (what, text) in &said {
        for secret in &secrets {
            assert!(!secret.is_in(text), "{} is in {what}", secret.what);
        }
        // Hashes of passwords are for servers only.
        assert!(
            !Secret::new("", "$argon2").is_in(text),
            "a hash is in {what}"
        );
    }
    let process = group.process(0);
    let log = [process.errors(), process.output()].concat().join("\n");
    assert!(log.contains("serving"), "{log}");
    group.stop(0);
    for secret in &secrets {
        assert!(
            !secret.is_in(log.as_bytes()),
            "{} is in the log",
            secret.what
        );
    }
    let mut files = Vec::new();
    files_below(group.server(0).data(), &mut files);
    files.push(backup);
    for file in files {
        let bytes = fs::read(&file).expect("a readable file");
        for secret in &secrets {
            let is_home = secret.home.as_ref() == Some(&file);
            assert!(
                is_home || !secret.is_in(&bytes),
                "{} is in {}",
                secret.what,
                file.display()
            );
        }
    }
}

/// Keeps a secret, has it sealed under another key, and makes a backup of all; gives its file.
fn keep_and_back_up(group: &Group) -> PathBuf {
    let file = |name: &str, text: &str| {
        let path = group.folder().join(name);
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let (value, passphrase) = (file("value", STORED), file("passphrase", PASSPHRASE));
    let backup = group.folder().join("group.backup");
    let to = backup.to_string_lossy().into_owned();
    group.json(0, &["secret", "set", "mail", "--file", &value]);
    let sealed = group.json(0, &["trust", "rotate-seal"]);
    assert!(sealed["seal"]["phase"].is_null(), "{sealed}");
    group.json(0, &["backup", &to, "--passphrase-file", &passphrase]);
    assert!(fs::metadata(&backup).expect("a backup").len() > 1000);
    backup
}

/// What every operation that reads answers an administrator.
fn answers(door: &Door, ticket: &str) -> Vec<(String, Vec<u8>)> {
    let document = door.get(None, "/v1/openapi.json").json().expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let reading = paths
        .iter()
        .filter(|(_, methods)| !methods["get"].is_null());
    let answers = reading.map(|(path, _)| {
        let path = match path.as_str() {
            "/v1/users/{name}" | "/v1/users/{name}/api-tokens" => path.replace("{name}", "carl"),
            "/v1/servers/{name}" => path.replace("{name}", "one"),
            "/v1/settings/{key}" => path.replace("{key}", "users.lockout-time"),
            other => other.to_owned(),
        };
        let reply = door.get(Some(ticket), &path);
        (path, reply.body.to_vec())
    });
    answers.collect()
}

#[test]
fn a_crash_leaves_no_memory_behind() {
    let _machine = Machine::shared();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    let pid = group.process(0).id();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let cores = limits
        .lines()
        .find(|line| line.starts_with("Max core file"));
    let soft = cores.and_then(|line| line.split_whitespace().nth(4));
    assert_eq!(soft, Some("0"), "{limits}");
    // Somebody lifts the limit: it still leaves none.
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process");
    let lifted = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(Some(pid), Resource::Core, lifted).expect("tests run as root");
    kill_process(pid, Signal::ABORT).expect("it runs");
    let status = group.process(0).wait(seconds(20));
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "{status}");
}
