//! Bad input and bad disks: a clear error each, and no harm to anybody else.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::{Group, Machine, Process, event, eventually, eventually_some, seconds};

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

#[test]
fn applications_that_cannot_start_say_why() {
    let _machine = Machine::alone();
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    group.add_user(0, "ann");
    group.add_app(
        0,
        "missing",
        &[
            "--launch",
            "/no/such/command --port {port}",
            "--backend",
            "tcp:127.0.0.1:{port}",
        ],
    );
    group.add_app(
        0,
        "deaf",
        &[
            "--launch",
            "/bin/sh -c 'echo the last words; exec sleep 600'",
            "--backend",
            "unix:{socket}",
            "--ready-timeout",
            "1s",
        ],
    );
    let unknown = group.connect(None, "ann", "card.1", "nowhere");
    assert_ends(unknown, 4, "there is no application \"nowhere\"");
    for (app, reason) in [("missing", "/no/such/command"), ("deaf", "the last words")] {
        let connect = group.connect(None, "ann", &format!("card.{app}"), app);
        let port = testkit::listening(&connect, seconds(20));
        let _viewer = TcpStream::connect(port).expect("the local port");
        let ended = event(&connect, "ended", seconds(20));
        assert!(text(&ended, "reason").contains(reason), "{ended}");
        let sessions = group.json(0, &["session", "list", "--all"]);
        let failed = sessions
            .as_array()
            .expect("a list")
            .iter()
            .find(|session| text(session, "app") == app);
        assert_eq!(
            failed.map(|session| text(session, "state")),
            Some("ended".to_owned()),
            "{sessions}"
        );
    }
}

#[track_caller]
fn assert_ends(mut process: Process, code: i32, said: &str) {
    let status = process.wait(seconds(20));
    assert_eq!(status.code(), Some(code), "{}", process.story());
    assert!(
        process.errors().join("\n").contains(said),
        "{}",
        process.story()
    );
}

fn newest_segment(data: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![data.join("formations")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "segment" || extension == "log")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
        .into_iter()
        .find(|path| used(path) > 0)
        .expect("a segment of the log")
}

/// Where the bytes of a zero-filled file end.
fn used(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("a readable segment");
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}

#[test]
fn a_damaged_log_is_cut_or_refused_never_guessed() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    for number in 0..20 {
        group.add_app(
            0,
            &format!("app{number}"),
            &["--backend", "tcp:127.0.0.1:9"],
        );
    }
    group.kill(0);
    let segment = newest_segment(group.server(0).data());
    let whole = fs::read(&segment).expect("a readable segment");
    let end = used(&segment);

    // The last batch was torn: the server starts, with a warning, and has all but what was torn.
    let mut file = OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("a writable segment");
    file.seek(SeekFrom::Start(end - 3))
        .and_then(|_| file.write_all(&[0; 3]))
        .expect("a torn end");
    group.serve(0);
    group.wait_until_answering(0);
    group.wait_for_acting(seconds(10));
    let apps = group.json(0, &["app", "list"]);
    assert!(
        apps.as_array().is_some_and(|apps| apps.len() >= 19),
        "{apps}"
    );
    group.kill(0);

    // Damage in the middle, which whole batches follow: the server stops and says where and what to do.
    let mut damaged = whole.clone();
    let middle = usize::try_from(end / 2).expect("a small segment");
    damaged[middle] ^= 0x55;
    fs::write(&segment, &damaged).expect("a writable segment");
    let refused = group
        .command(0)
        .args(["serve", "--data"])
        .arg(group.server(0).data())
        .output()
        .expect("stead runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let name = segment
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(said.contains(&name), "{said}");
    assert_eq!(
        fs::read(&segment).expect("a readable segment"),
        damaged,
        "the damaged file was changed"
    );
}

/// A small file system of its own, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96m", "stead-test"])
            .arg(&path)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "no small disk at {}",
            path.display()
        );
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_changes_and_recovers() {
    let machine = Machine::alone();
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::at(folder.path().join("disk"));
    let password = folder.path().join("password");
    fs::write(&password, "correct horse battery").expect("a password file");
    let data = disk.0.join("data");
    let stead = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stead"));
        command.args(arguments).arg("--data").arg(&data);
        command
    };
    let place = ["--peer", "127.0.0.1:0", "--client", "127.0.0.1:0"];
    let made = stead(&["init", "--name", "boston", "--group", "east"])
        .args(place)
        .arg("--admin-password-file")
        .arg(&password)
        .output()
        .expect("stead runs");
    assert!(made.status.success(), "{made:?}");
    let full = disk.0.join("filler");
    fill(&full);
    let server = Process::start("server", &mut stead(&["serve"]));
    let add = |name: &str| {
        stead(&["app", "add", name, "--backend", "tcp:127.0.0.1:9"])
            .output()
            .expect("stead runs")
    };
    let refused = eventually_some(seconds(20), "an answer", || {
        let tried = add("first");
        (tried.status.code() != Some(3)).then_some(tried)
    });
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}\n{}", server.story());
    assert!(said.contains("disk is full"), "{said}");
    fs::remove_file(&full).expect("the filler goes");
    eventually(seconds(20), "changes to be accepted again", || {
        add("second").status.success()
    });
    drop(server);
    drop(disk);
    drop(machine);
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file");
    let block = vec![1; 1 << 16];
    while file.write_all(&block).is_ok() {}
    let _ = file.sync_all();
}
