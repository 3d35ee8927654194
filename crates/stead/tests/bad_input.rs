//! Bad input and bad disks: a clear error each, and no harm to anybody else.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::{
    Group, Machine, Process, eventually, eventually_some, has_control_group, seconds, text,
};
use wire::join::JoinCode;

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
    frames_larger_than_allowed_end_the_conversation(&group);
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

/// Behind TLS and the hello: a header that announces too much, and one that announces what is no request.
fn frames_larger_than_allowed_end_the_conversation(group: &Group) {
    let trust = client::Trust::new(group.ca().parse().expect("a fingerprint"));
    let address = group.server(0).client_address().to_string();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ends_after = |bytes: Vec<u8>| {
        runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let conversation = client::Conversation::dial(&address, &trust).await;
            let mut path = conversation.expect("a server that answers").into_path();
            path.write_all(&bytes).await.expect("sent");
            let mut said = Vec::new();
            let end = tokio::time::timeout(seconds(15), path.read_to_end(&mut said)).await;
            assert!(
                end.is_ok() && said.len() < 1024,
                "it goes on after {bytes:?}"
            );
        });
    };
    ends_after(vec![0xff; 4]);
    let too_long = u32::try_from(wire::frame::CLIENT_LIMIT + 1).expect("a small limit");
    ends_after(too_long.to_be_bytes().to_vec());
    ends_after([&8_u32.to_be_bytes()[..], &[0xff; 8]].concat());
}

/// Runs `stead join` for the group's second place, into a folder of its own.
fn join(group: &Group, code: &str, data: &str) -> Process {
    let place = group.server(1);
    let mut command = group.command(1);
    command.args(["join", code, "--name", "second", "--data"]);
    command.arg(group.folder().join(data));
    command.arg("--peer").arg(place.peer_address().to_string());
    command
        .arg("--client")
        .arg(place.client_address().to_string());
    Process::start("join", &mut command)
}

/// Waits for an end with this exit code, and returns what was said.
#[track_caller]
fn ends(mut process: Process, code: i32) -> String {
    let status = process.wait(seconds(60));
    assert_eq!(status.code(), Some(code), "{}", process.story());
    process.errors().join("\n")
}

#[test]
fn a_join_code_works_once_for_its_group_and_not_for_long() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(2)
        .start_first();
    let old = text(&group.json(0, &["group", "invite"]), "code");
    let code = text(&group.json(0, &["group", "invite"]), "code");
    for damaged in ["hello", "stead1-", &code[..code.len() - 2]] {
        ends(join(&group, damaged, "damaged"), 2);
    }
    ends(join(&group, &code, "first"), 0);
    let why = ends(join(&group, &code, "again"), 4);
    assert!(
        why.contains("used already") && why.contains("stead group invite"),
        "{why}"
    );
    let id = text(&group.json(0, &["server", "show", "second"]), "id");
    assert_eq!(id.len(), 32, "{id}");

    // A quarter of an hour later.
    group.stop(0);
    let mut later = group.command(0);
    // The loader puts the system's own folder in the place of $LIB.
    later.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1");
    later.env("FAKETIME", "+16m");
    later.arg("serve").arg("--data").arg(group.server(0).data());
    let server = Process::start("server, later", &mut later);
    group.wait_until_answering(0);
    let why = ends(join(&group, &old, "late"), 4);
    assert!(
        why.contains("expired") && why.contains("stead group invite"),
        "{why}\n{}",
        server.story()
    );
    assert!(!group.folder().join("late/identity.toml").exists());
}

#[test]
fn servers_of_another_group_get_nowhere() {
    let _machine = Machine::alone();
    let binary = env!("CARGO_BIN_EXE_stead");
    let mut here = Group::of(binary).on_loopback(2).start_first();
    let mut there = Group::of(binary).on_loopback(2).start_first();
    let before = here.json(0, &["server", "list"]);

    // A code of one group at an address where the other answers.
    let code = text(&there.json(0, &["group", "invite"]), "code");
    let mut code: JoinCode = code.parse().expect("a join code");
    let right = std::mem::replace(
        &mut code.addresses,
        vec![here.server(0).peer_address().to_string()],
    );
    let why = ends(join(&there, &code.to_string(), "misled"), 3);
    assert!(why.contains("fingerprint"), "{why}");
    assert!(!there.folder().join("misled/identity.toml").exists());

    // A member of one group that takes a server of the other for one of its own.
    code.addresses = right;
    let data = there.server(1).data().file_name().expect("a name");
    let data = data.to_string_lossy().into_owned();
    ends(join(&there, &code.to_string(), &data), 0);
    let identity = there.server(1).data().join("identity.toml");
    let written = fs::read_to_string(&identity).expect("an identity");
    let (theirs, ours) = (
        there.server(0).peer_address().to_string(),
        here.server(0).peer_address().to_string(),
    );
    assert!(written.contains(&theirs), "{written}");
    fs::write(&identity, written.replace(&theirs, &ours)).expect("a writable identity");
    // Else its own group's server would call it.
    there.kill(0);
    there.serve(1);
    let says = |group: &mut Group, index: usize, words: &str| {
        let said = group.process(index).errors();
        said.iter().any(|line| line.contains(words))
    };
    eventually(seconds(20), "both sides to say so in their logs", || {
        says(&mut here, 0, "belongs to another group")
            && says(&mut there, 1, "somebody else answers at a member's address")
    });
    there.kill(1);
    assert_eq!(names(&before), names(&here.json(0, &["server", "list"])));
    here.add_user(0, "ann");
}

fn names(list: &serde_json::Value) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|server| text(server, "name")).collect()
}

#[test]
fn what_does_not_exist_or_cannot_start_says_why() {
    let _machine = Machine::alone();
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    let said = group.run(0, &["sessoin", "list"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.errors.contains("session"), "{said:?}");

    group.add_user(0, "ann");
    let add = |name: &str, options: &[&str]| group.add_app(0, name, options);
    add(
        "missing",
        &["--launch", "/no/such/command", "--backend", "unix:{socket}"],
    );
    let deaf = "/bin/sh -c 'echo the last words; exec sleep 600'";
    add(
        "deaf",
        &[
            "--launch",
            deaf,
            "--backend",
            "unix:{socket}",
            "--ready-timeout",
            "1s",
        ],
    );
    let brief = "/bin/sh -c 'echo no such luck >&2; exit 9'";
    add(
        "brief",
        &["--launch", brief, "--backend", "tcp:127.0.0.1:{port}"],
    );
    let unknown = ends(group.connect(None, "ann", "card.1", "nowhere"), 4);
    assert!(
        unknown.contains("there is no application \"nowhere\""),
        "{unknown}"
    );
    for (app, reasons) in [
        ("missing", &["/no/such/command"][..]),
        ("deaf", &["the last words"]),
        ("brief", &["9", "no such luck"]),
    ] {
        let mut connect = group.connect(None, "ann", &format!("card.{app}"), app);
        // It may be known before the viewer comes, or with the viewer.
        let ended = eventually_some(seconds(20), &format!("the end of {app}"), || {
            let port = testkit::events(&connect, "ready").pop();
            let port = port.and_then(|ready| text(&ready, "listen").parse::<SocketAddr>().ok());
            let _viewer = port.and_then(|port| TcpStream::connect(port).ok());
            connect
                .try_wait()
                .map(|_| connect.output().join("\n") + &connect.errors().join("\n"))
        });
        for reason in reasons {
            assert!(
                ended.contains(reason),
                "no {reason:?} in {ended}\n{}",
                connect.story()
            );
        }
        let sessions = group.json(0, &["session", "list", "--all"]);
        let failed = sessions
            .as_array()
            .expect("a list")
            .iter()
            .find(|session| text(session, "app") == app)
            .unwrap_or_else(|| panic!("no session of {app} in {sessions}"));
        assert_eq!(text(failed, "state"), "ended", "{failed}");
        assert!(text(failed, "reason").contains(reasons[0]), "{failed}");
        let id = text(failed, "id");
        eventually(seconds(20), "its control group to go", || {
            !has_control_group(&id)
        });
    }
}

/// The log's newest segment, and where the bytes that are used end in it: it is made whole, with zeros.
fn newest_segment(data: &Path) -> (PathBuf, usize) {
    let current = fs::read_to_string(data.join("formations/current")).expect("a formation");
    let folder = data.join("formations").join(current.trim());
    let files = fs::read_dir(folder)
        .expect("a formation's folder")
        .flatten();
    let segments = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let segment = segments.max().expect("a segment of the log");
    let bytes = fs::read(&segment).expect("a readable segment");
    let last = bytes.iter().rposition(|byte| *byte != 0);
    (segment, last.expect("a segment in use") + 1)
}

#[test]
fn a_damaged_log_is_cut_or_refused_never_guessed() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    let backend = ["--backend", "tcp:127.0.0.1:9"];
    for number in 0..20 {
        group.add_app(0, &format!("app{number:02}"), &backend);
    }
    group.kill(0);
    let (segment, used) = newest_segment(group.server(0).data());
    let whole = fs::read(&segment).expect("a readable segment");
    let name = segment
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();

    // Damage in the middle, which whole batches follow, a segment that was cut, and one that is none: the server stops
    // before it promises anything, says where and what to do, and leaves all as it was.
    let mut damaged = whole.clone();
    damaged[used / 2] ^= 0x55;
    for (bytes, place) in [
        (damaged, "is damaged at offset"),
        (whole[..used / 2].to_vec(), "was cut"),
        (Vec::new(), "is not a log segment"),
    ] {
        fs::write(&segment, &bytes).expect("a writable segment");
        group.serve(0);
        let status = group.process(0).wait(seconds(20));
        let said = group.process(0).errors().join("\n");
        assert_eq!(status.code(), Some(1), "{said}");
        for part in [
            name.as_str(),
            place,
            "let it join the group again",
            "restore a backup",
        ] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        assert!(
            fs::read(&segment).is_ok_and(|now| now == bytes),
            "the damaged file was changed"
        );
    }

    // The last batch was torn, as when the power fails: the server starts with a warning and has all but that.
    let mut torn = whole;
    torn[used - 3..used].fill(0);
    fs::write(&segment, &torn).expect("a writable segment");
    group.serve(0);
    group.wait_for_acting(seconds(20));
    let apps = group.json(0, &["app", "list"]);
    assert!(
        apps.as_array().is_some_and(|apps| apps.len() >= 19),
        "{apps}"
    );
    let said = group.process(0).errors().join("\n");
    assert!(
        said.contains("WARN") && said.contains("is cut off"),
        "{said}"
    );
    group.add_app(0, "after", &backend);
}

/// A small file system of its own, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("a folder");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=64m", "stead-test"])
            .arg(&path);
        let mounted = mount.status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "no small disk at {}",
            path.display()
        );
        Self(path)
    }

    /// Leaves no room.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        let block = vec![1; 1 << 16];
        while file.write_all(&block).is_ok() {}
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_changes_and_recovers() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    group.stop(0);
    // The server moves to a small disk.
    let data = group.server(0).data().to_owned();
    let before = data.with_extension("before");
    fs::rename(&data, &before).expect("its folder moves");
    let disk = SmallDisk::at(data);
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(before.join(".")).arg(&disk.0);
    assert!(
        copy.status().is_ok_and(|status| status.success()),
        "{copy:?}"
    );
    // The segment that is kept ready for later would last for a while.
    let reserve = newest_segment(&disk.0).0.with_file_name("reserve");
    fs::remove_file(reserve).expect("the next segment was ready");
    let filler = disk.fill();
    group.serve(0);
    group.wait_until_answering(0);
    let add = |name: &str| group.run(0, &["app", "add", name, "--backend", "tcp:127.0.0.1:9"]);
    let said = add("first").fails(1);
    assert!(
        said.contains("disk is full") && said.contains("make room"),
        "{said}"
    );
    // It is read all the same.
    group.json(0, &["app", "list"]);
    fs::remove_file(filler).expect("the filler goes");
    eventually(seconds(20), "changes to be accepted again", || {
        add("second").code == Some(0)
    });
}
