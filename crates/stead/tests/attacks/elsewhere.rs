//! Passwords that an LDAP server checks: names that mean something there, no password at all, and servers in disguise.

use crate::common::Door;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use testkit::{Group, Machine, PASSWORD, Slapd, text};

const HERS: &str = "what only ann knows";

fn set(group: &Group, key: &str, value: &str) -> Value {
    group.json(0, &["config", "set", key, value])
}

/// A group whose users this server checks, as the template or the search finds them.
fn checked_by(slapd: &Slapd, find: &[(&str, &str)]) -> Group {
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    set(&group, "users.ldap-ca", &slapd.ca().to_string_lossy());
    for (key, value) in find {
        set(&group, key, value);
    }
    let well = set(
        &group,
        "users.authenticate",
        &format!("ldap:{}", slapd.ldap()),
    );
    assert_eq!(well["warning"], Value::Null, "{well}");
    group
}

fn template() -> [(&'static str, &'static str); 1] {
    [("users.ldap-user-dn", "uid={user},ou=people,dc=example")]
}

fn accounts(group: &Group) -> Vec<String> {
    let users = group.json(0, &["user", "list"]);
    let users = users.as_array().expect("a list").iter();
    users.map(|user| text(user, "name")).collect()
}

#[test]
fn a_name_that_means_something_to_ldap_is_nobody() {
    let _machine = Machine::alone();
    let slapd = Slapd::start(&[("ann", HERS)]);
    let group = checked_by(&slapd, &template());
    set(&group, "users.lockout-attempts", "100");
    let door = Door::of(&group, 0);
    assert_eq!(door.try_password("ann", HERS).status, 200);
    let names = [
        "*",
        "ann)(uid=*",
        "ann,ou=people,dc=example",
        "ann\\",
        "ann\0",
        " ann",
        "ann ",
        "#ann",
        "ann+cn=ann",
        // The same entry to the LDAP server, and another account here: each would be more guesses.
        "Ann",
        "ANN",
    ];
    for name in names {
        let refused = door.try_password(name, HERS);
        assert_eq!(refused.status, 401, "{name:?}: {refused:?}");
    }
    assert_eq!(accounts(&group), ["admin", "ann"]);
}

#[test]
fn an_empty_password_is_nobodys_where_the_ldap_server_takes_it_for_anybody() {
    let _machine = Machine::alone();
    let slapd = Slapd::start(&[("ann", HERS)]);
    let group = checked_by(&slapd, &template());
    let door = Door::of(&group, 0);
    for name in ["ann", "nobody-of-that-name", "admin"] {
        for password in ["", "\0", "\0ann"] {
            let refused = door.try_password(name, password);
            assert_eq!(refused.status, 401, "{name}: {refused:?}");
        }
    }
    assert_eq!(accounts(&group), ["admin"]);
}

#[test]
fn failures_elsewhere_count_and_lock_as_those_here() {
    let _machine = Machine::alone();
    let slapd = Slapd::start(&[("ann", HERS)]);
    let group = checked_by(&slapd, &template());
    set(&group, "users.lockout-attempts", "5");
    for name in ["ann", "nobody-of-that-name"] {
        let door = Door::of(&group, 0);
        let statuses: Vec<u16> = (0..8)
            .map(|count| door.try_password(name, &format!("guess {count}")).status)
            .collect();
        assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429], "{name}");
    }
    let refused = Door::of(&group, 0).try_password("ann", HERS);
    assert_eq!(refused.status, 429, "also with the right one");
    // Whoever guesses an administrator's is told as little.
    let wrong = Door::of(&group, 0).try_password("admin", "a guess");
    assert_eq!(wrong.status, 401, "{wrong:?}");
    Door::of(&group, 0).login("admin");
}

#[test]
fn no_password_goes_where_nothing_is_encrypted_or_nobody_is_known() {
    let _machine = Machine::alone();
    let slapd = Slapd::start(&[("ann", HERS)]);
    let other = Slapd::start(&[("ann", HERS)]);
    let group = checked_by(&slapd, &template());
    let door = Door::of(&group, 0);
    assert_eq!(door.try_password("ann", HERS).status, 200);
    // One with a certificate of another authority, and one whose certificate is for another name.
    for url in [
        other.ldap(),
        other.ldaps(),
        slapd.ldaps().replace("localhost", "127.0.0.1"),
    ] {
        let warned = set(&group, "users.authenticate", &format!("ldap:{url}"));
        assert!(text(&warned, "warning").contains("TLS 1.3"), "{warned}");
        let refused = door.try_password("ann", HERS);
        assert_eq!(refused.status, 503, "{url}: {refused:?}");
        assert!(
            !String::from_utf8_lossy(&refused.body).contains(&url),
            "strangers learn nothing"
        );
    }
    // One that will not encrypt, and says what the client wants to hear besides.
    let (port, said) = in_the_clear();
    let url = format!("ldap:ldap://localhost:{port}");
    set(&group, "users.authenticate", &url);
    assert_eq!(door.try_password("ann", HERS).status, 503);
    set(&group, "users.authenticate", "directory");
    let heard: Vec<u8> = said.try_iter().flatten().collect();
    let hears = |what: &str| {
        heard
            .windows(what.len())
            .any(|part| part == what.as_bytes())
    };
    assert!(hears("1.3.6.1.4.1.1466.20037"), "it is asked to encrypt");
    assert!(!hears(HERS) && !hears("ann"), "and told nothing else");
    Door::of(&group, 0).try_password("admin", PASSWORD);
}

/// A server that refuses to encrypt and, in the same breath, accepts the password that it hopes to be sent.
fn in_the_clear() -> (u16, mpsc::Receiver<Vec<u8>>) {
    // To StartTLS: unavailable (52). To the bind that would follow: success.
    const REFUSED: [u8; 14] = [0x30, 12, 2, 1, 1, 0x78, 7, 10, 1, 52, 4, 0, 4, 0];
    const ACCEPTED: [u8; 14] = [0x30, 12, 2, 1, 2, 0x61, 7, 10, 1, 0, 4, 0, 4, 0];
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let (sender, said) = mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else {
                return;
            };
            let mut bytes = [0; 4096];
            let _ = connection.set_read_timeout(Some(testkit::seconds(2)));
            while let Ok(count @ 1..) = connection.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
                let _ = connection.write_all(&[REFUSED, ACCEPTED].concat());
            }
        }
    });
    (port, said)
}
