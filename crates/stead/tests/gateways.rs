//! Gateways, as ordinary clients meet them: whom they reach, what they are told, and what becomes of them when servers are lost.

#![expect(
    clippy::indexing_slicing,
    reason = "a field that is absent is null, and a test that indexes wrongly fails, as it should"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use testkit::{
    Group, Machine, Node, Process, Stage, event, eventually, millis, seconds, stays_so_for, text,
};

/// Says the name of its host, then sends back what it is sent, to the end.
const NAMED: &str = "127.0.0.1:7100";
/// Says what the header in front says of the client, then sends back what it is sent.
const TOLD: &str = "127.0.0.1:7101";
/// Speaks TLS, with a certificate that has the host's name.
const TLS: &str = "127.0.0.1:7102";

const RDP_PORT: u16 = 3390;
const SNI_PORT: u16 = 8443;
const PROXY_PORT: u16 = 9000;
const ADDRESS_PORT: u16 = 9001;
const BRIEF_PORT: u16 = 9003;

const SERVERS: [&str; 3] = ["boston", "newyork", "detroit"];

#[test]
fn ordinary_clients_reach_the_host_of_their_token() {
    let machine = Machine::alone();
    let mut stage = Stage::set(&machine, env!("CARGO_BIN_EXE_stead"), &SERVERS);
    let _tls = serve_backends(&stage);
    what_makes_no_sense_is_refused(&stage.group);
    a_cookie_leads_to_one_host_whichever_server_is_reached(&stage);
    whose_token_it_is_is_known_by_its_name(&stage);
    bytes_pass_to_their_end_in_both_directions(&stage);
    a_server_name_leads_to_a_host_and_tls_ends_there(&stage);
    who_the_client_is_is_told(&stage);
    an_address_is_a_token(&stage);
    a_session_that_ends_takes_its_client_along(&stage);
    a_session_through_which_nothing_passes_ends(&stage);
    a_port_that_is_taken_is_said_and_waited_for(&stage);
    a_host_that_is_lost_is_left(&mut stage);
    who_is_not_registered_is_sent_away(&stage);
    a_gateway_that_is_removed_accepts_nobody(&stage);
}

/// What is sent comes back, until its end.
fn echo(mut stream: TcpStream, mut first: Vec<u8>) {
    std::thread::spawn(move || {
        let mut back = stream.try_clone()?;
        back.write_all(&std::mem::take(&mut first))?;
        std::io::copy(&mut stream, &mut back)?;
        back.shutdown(Shutdown::Write)
    });
}

fn serve(
    node: &Node,
    at: &str,
    greet: impl Fn(&mut TcpStream) -> Option<Vec<u8>> + Send + 'static,
) {
    let listener = node.within(|| TcpListener::bind(at).expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if let Some(first) = greet(&mut stream) {
                echo(stream, first);
            }
        }
    });
}

/// The client's address in a header of version 2, for IPv4; none where a server only looks whether the backend accepts.
fn header(stream: &mut TcpStream) -> Option<SocketAddr> {
    let mut bytes = [0; 28];
    stream.read_exact(&mut bytes).ok()?;
    let header = wire::proxy::read(&bytes).ok()??;
    assert_eq!(header.length, bytes.len());
    header.client
}

fn serve_backends(stage: &Stage) -> Vec<Process> {
    let group = &stage.group;
    let start = |name: &&str| {
        let node = stage.network.node(name);
        let line = format!("{name}\n");
        serve(node, NAMED, move |_| Some(line.clone().into_bytes()));
        serve(node, TOLD, |stream| {
            header(stream).map(|client| format!("{client}\n").into_bytes())
        });
        tls_server(group.folder(), node, name)
    };
    let tls = SERVERS.iter().map(start).collect();
    let backend = |address: &str| format!("tcp:{address}");
    group.add_app(0, "rdp", &["--backend", &backend(NAMED)]);
    group.add_app(0, "tls", &["--backend", &backend(TLS)]);
    let told = ["--backend", &backend(TOLD), "--proxy-protocol", "v2"];
    group.add_app(0, "told", &told);
    add(group, "rdp", RDP_PORT, "rdp", "rdp-cookie");
    add(group, "web", SNI_PORT, "tls", "sni");
    add(group, "front", PROXY_PORT, "told", "proxy-protocol");
    add(group, "kiosks", ADDRESS_PORT, "rdp", "source-address");
    for index in 0..SERVERS.len() {
        eventually(seconds(20), "its gateways listen", || {
            let listed = group.json(index, &["gateway", "list"]);
            let listed = listed.as_array().expect("a list");
            listed.len() == 4 && listed.iter().all(|one| one["here"]["listening"] == true)
        });
    }
    tls
}

fn tls_server(folder: &Path, node: &Node, name: &str) -> Process {
    let (key, cert) = (
        folder.join(format!("{name}.key")),
        folder.join(format!("{name}.crt")),
    );
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args([
            "-nodes",
            "-days",
            "1",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl").success());
    let (key, cert) = (key.display().to_string(), cert.display().to_string());
    let words = [
        "s_server", "-accept", TLS, "-key", &key, "-cert", &cert, "-www",
    ];
    node.start("openssl s_server", "openssl", &words)
}

fn add(group: &Group, name: &str, port: u16, app: &str, token_from: &str) {
    let listen = format!("0.0.0.0:{port}");
    let words = [
        "gateway",
        "add",
        name,
        "--listen",
        &listen,
        "--app",
        app,
        "--token-from",
        token_from,
    ];
    group.json(0, &words);
}

fn what_makes_no_sense_is_refused(group: &Group) {
    group.add_app(0, "shell", &["--launch", "@pty /bin/sh"]);
    let with = |app: &'static str, listen: &'static str, from: &'static str| {
        [
            "gateway",
            "add",
            "other",
            "--listen",
            listen,
            "--app",
            app,
            "--token-from",
            from,
        ]
    };
    let said = group.fails(0, 4, &with("shell", "0.0.0.0:1", "sni"));
    assert!(said.contains("have not logged in"), "{said}");
    let said = group.fails(0, 4, &with("nothing", "0.0.0.0:1", "sni"));
    assert!(said.contains("nothing"), "{said}");
    let said = group.fails(0, 4, &with("rdp", "0.0.0.0:3390", "sni"));
    assert!(
        said.contains("gateway rdp is at 0.0.0.0:3390 already"),
        "{said}"
    );
    for usage in [
        with("rdp", "here", "sni"),
        with("rdp", "0.0.0.0:1", "cookies"),
    ] {
        assert_eq!(group.run(0, &usage).code, Some(2));
    }
    let said = group.fails(0, 4, &["app", "remove", "rdp"]);
    assert!(said.contains("remove it first"), "{said}");
    let said = group.fails(0, 4, &["app", "set", "rdp", "--launch", "/bin/true"]);
    assert!(said.contains("remove it first"), "{said}");
}

/// The connection request of an RDP client.
fn connection_request(cookie: &str) -> Vec<u8> {
    let line = format!("Cookie: mstshash={cookie}\r\n");
    let length = u8::try_from(11 + line.len() + 8).expect("a short one");
    let mut bytes = vec![3, 0, 0, length, length - 5, 0xE0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(line.as_bytes());
    bytes.extend_from_slice(&[1, 0, 8, 0, 3, 0, 0, 0]);
    bytes
}

fn address(stage: &Stage, server: usize, port: u16) -> SocketAddr {
    (stage.network.node(SERVERS[server % 3]).address(), port).into()
}

fn connect(stage: &Stage, server: usize, port: u16) -> TcpStream {
    let address = address(stage, server, port);
    let stream = stage
        .viewer()
        .connect(address, seconds(5))
        .expect("accepted");
    stream.set_read_timeout(Some(seconds(20))).expect("set");
    stream
}

/// The first line that comes.
fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).expect("a line");
        line.extend(byte);
    }
    String::from_utf8(line).expect("text").trim_end().to_owned()
}

/// A client that says who it is by the cookie, and the name of the host that it reaches.
fn by_cookie(stage: &Stage, server: usize, cookie: &str) -> (TcpStream, String) {
    let mut stream = connect(stage, server, RDP_PORT);
    let request = connection_request(cookie);
    stream.write_all(&request).expect("sent");
    let host = line(&mut stream);
    let mut back = vec![0; request.len()];
    stream
        .read_exact(&mut back)
        .expect("the request comes back");
    assert_eq!(back, request, "the backend got what the client sent");
    (stream, host)
}

fn session_of(group: &Group, token: &str) -> serde_json::Value {
    let found = group.json(0, &["session", "list", "--token", token]);
    let live = found.as_array().expect("a list").iter();
    let mut live = live.filter(|one| text(one, "state") != "ended");
    let session = live
        .next()
        .unwrap_or_else(|| panic!("{token} has no session: {found}"));
    assert!(live.next().is_none(), "{token} has one session: {found}");
    session.clone()
}

fn a_cookie_leads_to_one_host_whichever_server_is_reached(stage: &Stage) {
    let mut used = BTreeSet::new();
    for number in 0..12 {
        let cookie = format!("User{number}");
        let (first, host) = by_cookie(stage, number, &cookie);
        let session = session_of(&stage.group, &format!("user.user{number}"));
        assert_eq!(text(&session, "host"), host, "{session}");
        assert_eq!(text(&session, "user"), "nobody");
        for other in [1, 2] {
            let (_again, same) = by_cookie(stage, number + other, &cookie);
            assert_eq!(same, host, "{session}");
        }
        eventually(seconds(10), "it is in use", || {
            let session = session_of(&stage.group, &format!("user.user{number}"));
            let viewer = stage.viewer().address().to_string();
            text(&session, "state") == "active" && text(&session, "client") == viewer
        });
        drop(first);
        used.insert(host);
    }
    assert!(used.len() > 1, "a burst spreads: {used:?}");
    eventually(seconds(20), "nobody is there any more", || {
        let sessions = stage.group.json(0, &["session", "list", "--app", "rdp"]);
        let mut sessions = sessions.as_array().expect("a list").iter();
        sessions.all(|session| text(session, "state") == "suspended")
    });
}

fn whose_token_it_is_is_known_by_its_name(stage: &Stage) {
    let group = &stage.group;
    let (_client, _) = by_cookie(stage, 0, "DESK\\Ann");
    assert_eq!(text(&session_of(group, "user.ann"), "user"), "ann");
    // An alias, as a routing token.
    group.json(
        0,
        &[
            "token",
            "add",
            "card.7",
            "--user",
            "ann",
            "--alias",
            "desk.seven",
        ],
    );
    let mut client = connect(stage, 1, RDP_PORT);
    let token = b"desk.seven\r\n";
    let length = u8::try_from(11 + token.len()).expect("a short one");
    let head = [3, 0, 0, length, length - 5, 0xE0, 0, 0, 0, 0, 0];
    client
        .write_all(&[&head, &token[..]].concat())
        .expect("sent");
    let host = line(&mut client);
    let session = session_of(group, "card.7");
    assert_eq!(
        (text(&session, "user"), text(&session, "host")),
        ("ann".to_owned(), host)
    );
}

fn bytes_pass_to_their_end_in_both_directions(stage: &Stage) {
    let bytes: Vec<u8> = (0..24_000_000u32)
        .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    for server in 0..3 {
        let (mut client, _) = by_cookie(stage, server, "user1");
        let mut sender = client.try_clone().expect("cloned");
        let mut got = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sender.write_all(&bytes).expect("sent");
                // It has said all, and still hears.
                sender.shutdown(Shutdown::Write).expect("ended");
            });
            client
                .read_to_end(&mut got)
                .expect("what was sent, and an end");
        });
        assert!(
            got == bytes,
            "{} bytes of {} came back",
            got.len(),
            bytes.len()
        );
    }
}

fn a_server_name_leads_to_a_host_and_tls_ends_there(stage: &Stage) {
    let mut used = BTreeSet::new();
    for number in 0..8 {
        let name = format!("desk{number}.example.org");
        let hosts = [0, 1].map(|server| tls_host(stage, number + server, &name));
        assert_eq!(hosts[0], hosts[1]);
        assert_eq!(text(&session_of(&stage.group, &name), "host"), hosts[0]);
        used.insert(hosts[0].clone());
    }
    assert!(used.len() > 1, "{used:?}");
}

/// Whose certificate a TLS client is shown.
fn tls_host(stage: &Stage, server: usize, name: &str) -> String {
    let address = address(stage, server, SNI_PORT).to_string();
    let words = ["s_client", "-connect", &address, "-servername", name];
    let mut command = stage.viewer().command("openssl");
    let output = command
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = said
        .lines()
        .find_map(|line| line.strip_prefix("subject=CN"));
    let subject = subject.unwrap_or_else(|| panic!("no certificate: {said}"));
    subject.trim_start_matches([' ', '=']).to_owned()
}

fn who_the_client_is_is_told(stage: &Stage) {
    for server in 0..3 {
        let mut client = connect(stage, server, PROXY_PORT);
        let head = b"PROXY TCP4 192.0.2.77 192.0.2.1 4711 443\r\nhello\n";
        client.write_all(head).expect("sent");
        assert_eq!(line(&mut client), "192.0.2.77:4711");
        assert_eq!(line(&mut client), "hello");
    }
    session_of(&stage.group, "addr.192.0.2.77");
    // And through the tunnel, to the same kind of backend.
    let (connect, listen) = stage.connect("card.told", "told");
    let mut viewer = stage
        .viewer()
        .connect(listen, seconds(5))
        .expect("connected");
    let told = line(&mut viewer);
    assert!(
        told.starts_with(&format!("{}:", stage.viewer().address())),
        "{told}"
    );
    drop(connect);
}

fn an_address_is_a_token(stage: &Stage) {
    let group = &stage.group;
    let token = format!("addr.{}", stage.viewer().address());
    let mut client = connect(stage, 0, ADDRESS_PORT);
    let host = line(&mut client);
    let session = session_of(group, &token);
    assert_eq!(
        (text(&session, "host"), text(&session, "user")),
        (host, "nobody".to_owned())
    );
    // Who logs in is known from then on, in the same session.
    let connect = group.connect(Some(stage.viewer()), "ann", &token, "rdp");
    let ready = event(&connect, "ready", seconds(20));
    assert_eq!(text(&ready, "session"), text(&session, "id"));
    assert_eq!(text(&session_of(group, &token), "user"), "ann");
}

fn a_session_that_ends_takes_its_client_along(stage: &Stage) {
    for server in 0..3 {
        let (mut client, _) = by_cookie(stage, server, "user2");
        let session = session_of(&stage.group, "user.user2");
        stage
            .group
            .json(0, &["session", "end", &text(&session, "id")]);
        let error = client.read(&mut [0]).expect_err("it is reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

/// Bytes put the end off, on whichever server they are relayed; somebody who is there and says nothing does not.
fn a_session_through_which_nothing_passes_ends(stage: &Stage) {
    let group = &stage.group;
    let backend = format!("tcp:{NAMED}");
    group.add_app(0, "brief", &["--backend", &backend, "--idle-timeout", "2s"]);
    add(group, "brief", BRIEF_PORT, "brief", "source-address");
    for server in 0..3 {
        eventually(seconds(10), "its gateway listens", || {
            let listed = group.json(server, &["gateway", "list"]);
            let mut listed = listed.as_array().expect("a list").iter();
            listed.any(|one| text(one, "name") == "brief" && one["here"]["listening"] == true)
        });
        let mut client = connect(stage, server, BRIEF_PORT);
        let host = line(&mut client);
        let sessions = group.json(server, &["session", "list", "--app", "brief"]);
        let session = text(&sessions[0], "id");
        let start = Instant::now();
        while start.elapsed() < seconds(5) {
            client.write_all(b"x").expect("written");
            client.read_exact(&mut [0]).expect("it comes back");
            stays_so_for(millis(200));
        }
        client.read(&mut [0]).expect_err("it is reset");
        eventually(seconds(10), "the session is over", || {
            let shown = group.json(server, &["session", "show", &session]);
            text(&shown, "state") == "ended" && text(&shown, "host") == host
        });
        let shown = group.json(server, &["session", "show", &session]);
        assert!(text(&shown, "reason").contains("nothing passed"), "{shown}");
    }
    group.json(0, &["gateway", "remove", "brief"]);
}

fn a_port_that_is_taken_is_said_and_waited_for(stage: &Stage) {
    let group = &stage.group;
    let taken = stage
        .network
        .node(SERVERS[1])
        .within(|| TcpListener::bind("0.0.0.0:9002").expect("bound"));
    add(group, "late", 9002, "rdp", "source-address");
    let here = || {
        let listed = group.json(1, &["gateway", "list"]);
        let mut listed = listed.as_array().expect("a list").iter();
        listed
            .find(|one| text(one, "name") == "late")
            .map(|one| one["here"].clone())
    };
    eventually(seconds(10), "it is said", || {
        here().is_some_and(|here| {
            here["listening"] == false && text(&here, "error").contains("in use")
        })
    });
    eventually(seconds(10), "another server says it too", || {
        let status = group.status(0).expect("an answer");
        let attention = status["attention"].to_string();
        attention.contains("gateway late cannot listen at 0.0.0.0:9002")
    });
    let mut elsewhere = connect(stage, 2, 9002);
    line(&mut elsewhere);
    drop(taken);
    eventually(seconds(10), "it listens", || {
        here().is_some_and(|here| here["listening"] == true)
    });
    let mut client = connect(stage, 1, 9002);
    line(&mut client);
}

fn a_host_that_is_lost_is_left(stage: &mut Stage) {
    let (mut client, host) = by_cookie(stage, 0, "user3");
    let lost = stage.group.index_of(&host).expect("a server");
    let reached = (lost + 1) % 3;
    let (mut through, _) = by_cookie(stage, reached, "user3");
    stage.network.node(SERVERS[lost]).unplug();
    stage.group.kill_host(lost);
    // Before anybody has noticed: it waits, and is served.
    let (mut next, after) = by_cookie(stage, reached, "user3");
    assert_ne!(after, host);
    let error = through.read(&mut [0]).expect_err("it is reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    next.write_all(b"still here\n").expect("sent");
    assert_eq!(line(&mut next), "still here");
    if lost != 0 {
        client.read(&mut [0]).expect_err("it is reset, too");
    }
    stage.network.node(SERVERS[lost]).plug();
    stage.group.serve(lost);
    stage.group.wait_for_voters();
}

fn who_is_not_registered_is_sent_away(stage: &Stage) {
    let group = &stage.group;
    group.json(0, &["config", "set", "tokens.unregistered", "refuse"]);
    eventually(seconds(10), "every server knows it", || {
        (0..3).all(|index| {
            let shown = group.json(index, &["config", "get", "tokens.unregistered"]);
            text(&shown, "value") == "refuse"
        })
    });
    let mut client = connect(stage, 0, RDP_PORT);
    client
        .write_all(&connection_request("mallory"))
        .expect("sent");
    client.read(&mut [0]).expect_err("it is reset");
    let (_client, _) = by_cookie(stage, 0, "ann");
    group.json(0, &["config", "unset", "tokens.unregistered"]);
}

fn a_gateway_that_is_removed_accepts_nobody(stage: &Stage) {
    let group = &stage.group;
    let (mut client, _) = by_cookie(stage, 0, "ann");
    group.json(0, &["gateway", "remove", "rdp"]);
    eventually(seconds(10), "nobody is accepted", || {
        let address = address(stage, 0, RDP_PORT);
        stage.viewer().connect(address, seconds(5)).is_err()
    });
    client.write_all(b"still here\n").expect("sent");
    assert_eq!(line(&mut client), "still here");
    let said = group.fails(0, 4, &["gateway", "remove", "rdp"]);
    assert!(said.contains("no gateway"), "{said}");
}
