//! The ports as scanners see them, which know nothing of Stead: `openssl s_client` and nmap's `ssl-enum-ciphers`. TLS 1.3 only, the
//! cipher suites that are set, and nobody without a certificate where servers are among themselves.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that meets what it did not expect is to fail there"
)]

use serde_json::Value;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use testkit::{Group, Machine, eventually, seconds};

const STEAD: &str = env!("CARGO_BIN_EXE_stead");
const SUITES: [&str; 3] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
];
const KEY: &str = "trust.cipher-suites";

/// What `openssl s_client` says, both streams together, and whether it came to a handshake.
fn openssl(address: SocketAddr, arguments: &[&str]) -> String {
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let parts = [client.stdout, client.stderr].concat();
    String::from_utf8_lossy(&parts).into_owned()
}

/// Whether the port accepts a handshake with nothing but these.
fn accepts(address: SocketAddr, arguments: &[&str]) -> bool {
    let said = openssl(address, arguments);
    let agreed = said.contains("Cipher is TLS_") || said.contains("Cipher is ECDHE");
    assert!(
        agreed || said.contains("Cipher is (NONE)") || said.contains("errno"),
        "{arguments:?}: {said}"
    );
    agreed
}

/// The versions of TLS and the cipher suites that nmap finds.
fn enumerated(address: SocketAddr) -> String {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let scan = Command::new("nmap")
        .args(["-n", "-Pn", "-sT", "--script", "ssl-enum-ciphers"])
        .args(["--script-args", "tls.servername=stead", "-p", &port, &host])
        .output()
        .expect("nmap is installed");
    let said = String::from_utf8_lossy(&scan.stdout).into_owned();
    assert!(
        said.contains("ssl-enum-ciphers"),
        "nothing was found: {said}"
    );
    said
}

/// The ports of a server: for others and for clients.
fn ports(group: &Group, index: usize) -> [SocketAddr; 2] {
    let server = group.server(index);
    [server.peer_address(), server.client_address()]
}

/// Which suites the ports of all servers take.
fn spoken(group: &Group) -> Vec<Vec<&'static str>> {
    let all = (0..3).flat_map(|index| ports(group, index));
    let taken = |port: SocketAddr| {
        let taken = SUITES
            .into_iter()
            .filter(|suite| accepts(port, &["-tls1_3", "-ciphersuites", suite]));
        taken.collect()
    };
    all.map(taken).collect()
}

#[test]
fn scanners_find_what_is_set_and_nothing_else() {
    let _machine = Machine::shared();
    let mut group = Group::of(STEAD).on_loopback(3).start();
    for port in ports(&group, 0) {
        is_tls13_alone(port);
        let found = enumerated(port);
        for old in ["SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2"] {
            assert!(!found.contains(old), "{port}: {found}");
        }
        let strong = found.matches(" - A").count() >= SUITES.len();
        assert!(found.contains("TLSv1.3") && strong, "{port}: {found}");
    }
    servers_are_among_themselves(ports(&group, 0)[0]);
    fewer_suites(&mut group);
}

fn is_tls13_alone(port: SocketAddr) {
    for version in ["-tls1_2", "-tls1_1", "-tls1"] {
        // The library at hand would refuse the oldest ones itself.
        assert!(!accepts(port, &[version, "-cipher", "ALL:@SECLEVEL=0"]));
    }
    let said = openssl(port, &["-tls1_3"]);
    for part in [
        "New, TLSv1.3",
        "Compression: NONE",
        "Secure Renegotiation IS NOT supported",
        "Early data was not sent",
    ] {
        assert!(said.contains(part), "{port}: no {part}: {said}");
    }
    assert!(!said.contains("New Session Ticket"), "{port}: {said}");
}

/// Without a certificate of the group nothing is had at the peer port; whoever wants to join has to prove a secret next.
fn servers_are_among_themselves(port: SocketAddr) {
    for protocol in ["stead-peer/1", "h2"] {
        let said = openssl(port, &["-tls1_3", "-ign_eof", "-alpn", protocol]);
        let refused = ["certificate required", "no application protocol"];
        assert!(refused.iter().any(|alert| said.contains(alert)), "{said}");
    }
    let said = openssl(port, &["-tls1_3", "-ign_eof"]);
    assert!(said.contains("certificate required"), "{said}");
}

/// The setting is followed by every port of every server without a restart, and by what servers dial.
fn fewer_suites(group: &mut Group) {
    let set = |value: &'static str| ["config", "set", KEY, value];
    assert!(spoken(group).iter().all(|found| found.len() == 3));
    let slip = group.fails(0, 4, &set("TLS_AES_128_GCM_SHA265"));
    assert!(slip.contains("use TLS_AES_128_GCM_SHA256"), "{slip}");
    group.fails(0, 4, &set(""));
    group.json(
        1,
        &set("TLS_CHACHA20_POLY1305_SHA256,TLS_AES_128_GCM_SHA256"),
    );
    follows(group, &SUITES[1..]);
    let found = enumerated(ports(group, 2)[1]);
    assert!(!found.contains("AKE_WITH_AES_256"), "{found}");
    assert!(found.contains("AES_128"), "{found}");
    // They meet anew with what is left.
    group.stop(2);
    eventually(seconds(10), "it not to be heard any more", || {
        let status = group.status(0).unwrap_or(Value::Null);
        status["quorum"]["reachable"] == 2
    });
    let why = group.fails(0, 4, &set("TLS_AES_128_GCM_SHA256"));
    assert!(why.contains("is not heard now"), "{why}");
    group.serve(2);
    all_meet(group);
    let why = group.fails(0, 4, &set("TLS_AES_256_GCM_SHA384"));
    assert!(why.contains("none of the present suites"), "{why}");
    eventually(seconds(10), "one suite alone to be taken", || {
        group.run(0, &set("TLS_AES_128_GCM_SHA256")).code == Some(0)
    });
    follows(group, &SUITES[1..2]);
    for index in 0..3 {
        group.kill(index);
        group.serve(index);
        all_meet(group);
    }
    follows(group, &SUITES[1..2]);
    group.kill(1);
    group.json(0, &["config", "unset", KEY]);
    group.serve(1);
    all_meet(group);
    follows(group, &SUITES);
}

fn all_meet(group: &Group) {
    eventually(seconds(30), "all servers to reach each other", || {
        (0..3).all(|index| {
            let status = group.status(index).unwrap_or(Value::Null);
            status["quorum"]["reachable"] == 3 && status["primary"].is_object()
        })
    });
}

fn follows(group: &Group, suites: &[&str]) {
    eventually(seconds(10), "every port to take these alone", || {
        spoken(group).iter().all(|found| found == suites)
    });
}
