//! Users whose passwords are checked elsewhere: by a real LDAP server, and by PAM.

#![expect(clippy::indexing_slicing, reason = "a test may fail where it is wrong")]

use client::{Api, Call, Target};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use testkit::{Group, Machine, PASSWORD, Slapd, eventually, seconds, text};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

const HERS: &str = "what only ann knows";
const FIND: &str = "uid={user},ou=people,dc=example";

fn group() -> Group {
    Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first()
}

fn set(group: &Group, key: &str, value: &str) -> Value {
    group.json(0, &["config", "set", key, value])
}

/// Tries a password; the status, and what was said.
fn try_password(group: &Group, user: &str, password: &str) -> (u16, Value) {
    let api = Api::new(Target::Remote {
        servers: vec![group.server(0).client_address().to_string()],
        ca: group.ca().parse().expect("a fingerprint"),
        bearer: None,
    });
    let call = Call {
        method: "POST".parse().expect("a method"),
        path: "/v1/login",
        body: Some(json!({ "user": user, "password": password })),
        headers: Vec::new(),
    };
    let runtime = Runtime::new().expect("a runtime");
    let reply = runtime.block_on(api.call(call)).expect("an answer");
    (reply.status, reply.json().expect("JSON"))
}

#[track_caller]
fn comes_in(group: &Group, user: &str, password: &str) -> Value {
    let (status, said) = try_password(group, user, password);
    assert_eq!(status, 200, "{user}: {said}");
    said
}

#[track_caller]
fn is_refused(group: &Group, user: &str, password: &str, with: u16) {
    let (status, said) = try_password(group, user, password);
    assert_eq!(status, with, "{user}: {said}");
}

/// What needs somebody, in words.
fn attention(group: &Group) -> String {
    group.json(0, &["status"])["attention"].to_string()
}

#[test]
fn users_come_in_by_ldap_and_administrators_by_the_directory_too() {
    let _machine = Machine::alone();
    let mut slapd = Slapd::start(&[
        ("ann", HERS),
        ("admin", "another admin's"),
        ("bob", "bobs own"),
    ]);
    let group = group();
    let refused = group.run(
        0,
        &[
            "config",
            "set",
            "users.authenticate",
            "ldap:ldaps://localhost",
        ],
    );
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.errors.contains("users.ldap-user-dn"), "{refused:?}");
    set(&group, "users.ldap-user-dn", FIND);
    // A server that nobody believes is a warning, and not the end of it.
    let warned = set(
        &group,
        "users.authenticate",
        &format!("ldap:{}", slapd.ldaps()),
    );
    assert!(
        text(&warned, "warning").contains("users.ldap-ca"),
        "{warned}"
    );
    is_refused(&group, "ann", HERS, 503);
    eventually(seconds(20), "status says so", || {
        attention(&group).contains("users cannot log in here")
    });
    let well = set(&group, "users.ldap-ca", &slapd.ca().to_string_lossy());
    assert_eq!(well["warning"], Value::Null, "{well}");
    eventually(seconds(20), "it is over", || {
        !attention(&group).contains("users cannot log in here")
    });
    eventually(seconds(20), "the journal has both", || {
        let kind = ["event", "list", "--kind", "authentication-reachability"];
        let told = group.json(0, &kind);
        let told = told.as_array().expect("a list").iter();
        let states: Vec<&Value> = told.map(|one| &one["fields"]["state"]).collect();
        states == ["down", "up"]
    });

    // By the template, with TLS from the first byte on and by StartTLS.
    comes_in(&group, "ann", HERS);
    set(
        &group,
        "users.authenticate",
        &format!("ldap:{}", slapd.ldap()),
    );
    let login = comes_in(&group, "ann", HERS);
    assert_eq!(text(&login, "role"), "user");
    is_refused(&group, "ann", "not hers", 401);
    let ann = group.json(0, &["user", "show", "ann"]);
    assert_eq!(
        (text(&ann, "origin"), text(&ann, "authenticated_by")),
        ("ldap".to_owned(), "ldap".to_owned())
    );
    let made = group.json(0, &["audit", "list"]);
    assert!(made.to_string().contains("ann"), "{made}");

    // Her password is not this group's to change.
    let file = group.password_file().to_string_lossy().into_owned();
    let refused = group.run(0, &["user", "passwd", "ann", "--password-file", &file]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.errors.contains("change it there"), "{refused:?}");

    // An account of the same name elsewhere makes nobody an administrator.
    comes_in(&group, "admin", PASSWORD);
    is_refused(&group, "admin", "another admin's", 401);

    // Who is disabled here stays out; who is promoted here stays who he is there.
    group.json(0, &["user", "set", "ann", "--disable"]);
    is_refused(&group, "ann", HERS, 401);
    group.json(0, &["user", "set", "ann", "--enable", "--role", "viewer"]);
    assert_eq!(text(&comes_in(&group, "ann", HERS), "role"), "viewer");

    // What is broken elsewhere keeps no administrator out.
    slapd.server().kill();
    is_refused(&group, "bob", "bobs own", 503);
    comes_in(&group, "admin", PASSWORD);
    slapd.start_again();
    eventually(seconds(20), "bob comes in again", || {
        try_password(&group, "bob", "bobs own").0 == 200
    });
}

#[test]
fn users_are_looked_for_with_a_stored_secret() {
    let _machine = Machine::alone();
    let slapd = Slapd::start(&[("ann", HERS)]);
    let group = group();
    let missing = group.run(0, &["config", "set", "users.ldap-bind-secret", "reader"]);
    assert_ne!(missing.code, Some(0), "{missing:?}");
    let file = group.folder().join("reader");
    fs::write(&file, Slapd::READER).expect("a file");
    group.json(
        0,
        &["secret", "set", "reader", "--file", &file.to_string_lossy()],
    );
    set(&group, "users.ldap-ca", &slapd.ca().to_string_lossy());
    set(&group, "users.ldap-base", "ou=people,dc=example");
    set(
        &group,
        "users.ldap-filter",
        "(&(objectClass=inetOrgPerson)(uid={user}))",
    );
    // Nobody may look there.
    let warned = set(
        &group,
        "users.authenticate",
        &format!("ldap:{}", slapd.ldap()),
    );
    assert!(
        text(&warned, "warning").contains("users.ldap-base"),
        "{warned}"
    );
    set(&group, "users.ldap-bind-secret", "reader");
    let well = set(&group, "users.ldap-bind-dn", "cn=reader,dc=example");
    assert_eq!(well["warning"], Value::Null, "{well}");
    comes_in(&group, "ann", HERS);
    is_refused(&group, "ann", "not hers", 401);
    is_refused(&group, "nobody-of-that-name", HERS, 401);
    let kept = group.run(0, &["secret", "remove", "reader"]);
    assert_eq!(kept.code, Some(4), "{kept:?}");
    assert!(kept.errors.contains("users.ldap-bind-secret"), "{kept:?}");
    // Another value holds from the next login on.
    fs::write(&file, "not the reader's").expect("a file");
    group.json(
        0,
        &["secret", "set", "reader", "--file", &file.to_string_lossy()],
    );
    is_refused(&group, "ann", HERS, 503);
}

#[test]
fn a_frozen_ldap_server_is_in_nobodys_way_and_the_next_one_is_asked() {
    let _machine = Machine::alone();
    let mut slapd = Slapd::start(&[("ann", HERS)]);
    let other = Slapd::start(&[("ann", HERS)]);
    let group = group();
    set(&group, "users.ldap-user-dn", FIND);
    // Both authorities, in one file.
    let both = group.folder().join("authorities.pem");
    let pem = |one: &Slapd| fs::read_to_string(one.ca()).expect("a certificate");
    fs::write(&both, format!("{}{}", pem(&slapd), pem(&other))).expect("a file");
    set(&group, "users.ldap-ca", &both.to_string_lossy());
    set(
        &group,
        "users.authenticate",
        &format!("ldap:{},{}", slapd.ldap(), other.ldaps()),
    );
    slapd.server().pause();
    comes_in(&group, "ann", HERS);
    set(
        &group,
        "users.authenticate",
        &format!("ldap:{}", slapd.ldap()),
    );
    // Many wait for it; administrators and everything else do not.
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| try_password(&group, "ann", HERS).0))
            .collect();
        comes_in(&group, "admin", PASSWORD);
        group.json(0, &["status"]);
        for one in crowd {
            assert_eq!(one.join().expect("an answer"), 503);
        }
    });
    slapd.server().resume();
    eventually(seconds(30), "ann comes in again", || {
        try_password(&group, "ann", HERS).0 == 200
    });
    let ann = group.json(0, &["user", "show", "ann"]);
    assert_eq!(
        ann["locked_until"],
        Value::Null,
        "what could not be asked is no failed login"
    );
}

/// A service of PAM for one test, taken away with it.
struct Service {
    name: String,
    file: PathBuf,
}

impl Service {
    fn new(lines: &str) -> Self {
        let name = format!("stead-test-{}", std::process::id());
        let file = Path::new("/etc/pam.d").join(&name);
        fs::write(&file, lines).expect("a file in /etc/pam.d: tests run as root");
        Self { name, file }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// A program that accepts this password, as pam_exec hands it over.
fn accepting(folder: &Path, password: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = folder.join("accept");
    let lines = format!(
        "#!/bin/sh\ngiven=$(tr -d '\\0')\necho accepted\n[ \"$given\" = '{password}' ] && [ -n \"$PAM_RHOST\" ]\n"
    );
    fs::write(&script, lines).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
    script
}

#[test]
fn users_come_in_by_pam() {
    let _machine = Machine::alone();
    let group = group();
    let warned = set(&group, "users.authenticate", "pam");
    let missing = group.run(0, &["config", "set", "users.pam-service", "../passwd"]);
    assert_eq!(missing.code, Some(4), "{missing:?}");
    assert!(text(&warned, "warning").contains("/etc/pam.d"), "{warned}");
    let script = accepting(group.folder(), HERS);
    let service = Service::new(&format!(
        "auth required pam_exec.so expose_authtok quiet {}\naccount required pam_permit.so\n",
        script.display()
    ));
    let well = set(&group, "users.pam-service", &service.name);
    assert_eq!(well["warning"], Value::Null, "{well}");
    comes_in(&group, "ann", HERS);
    is_refused(&group, "ann", "not hers", 401);
    is_refused(&group, "ann", "", 401);
    comes_in(&group, "admin", PASSWORD);
    is_refused(&group, "admin", HERS, 401);
    let ann = group.json(0, &["user", "show", "ann"]);
    assert_eq!(
        (text(&ann, "origin"), text(&ann, "role")),
        ("pam".to_owned(), "user".to_owned())
    );
}

/// Asks PAM itself, with the services of a folder.
fn ask(folder: &Path, lines: &str, password: &str) -> Result<bool, String> {
    fs::write(folder.join("service"), lines).expect("a service");
    let question = host::pam::Question {
        service: "service".to_owned(),
        folder: Some(folder.to_owned()),
        user: "ann".to_owned(),
        password: Zeroizing::new(password.to_owned()),
        from: "10.0.0.1".to_owned(),
    };
    let program = Path::new(env!("CARGO_BIN_EXE_stead"));
    let runtime = Runtime::new().expect("a runtime");
    let asked = runtime.block_on(host::pam::ask(program, &question));
    asked.map_err(|error| error.to_string())
}

#[test]
fn pam_has_the_last_word_on_password_and_account() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let (permit, deny) = ("required pam_permit.so", "required pam_deny.so");
    let both = |auth: &str, account: &str| format!("auth {auth}\naccount {account}\n");
    assert_eq!(ask(folder, &both(permit, permit), "x"), Ok(true));
    assert_eq!(ask(folder, &both(deny, permit), "x"), Ok(false));
    // The password fits, and the account is locked or has expired.
    assert_eq!(ask(folder, &both(permit, deny), "x"), Ok(false));
    assert_eq!(
        ask(folder, &both(permit, permit), "with a \0 in it"),
        Ok(false)
    );
    let script = accepting(folder, HERS);
    let exec = format!(
        "required pam_exec.so expose_authtok quiet {}",
        script.display()
    );
    assert_eq!(ask(folder, &both(&exec, permit), HERS), Ok(true));
    assert_eq!(ask(folder, &both(&exec, permit), "not hers"), Ok(false));
    let broken = ask(folder, &both("required no_such_module.so", permit), "x");
    assert!(matches!(broken, Ok(false) | Err(_)), "{broken:?}");
    fs::remove_file(folder.join("service")).expect("it is there");
}

#[test]
fn a_module_of_pam_that_hangs_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let started = folder.join("started");
    let script = accepting(folder, HERS);
    let lines = format!(
        "#!/bin/sh\necho $$ > {}\nexec sleep 600\n",
        started.display()
    );
    fs::write(&script, lines).expect("a script");
    let auth = format!("auth required pam_exec.so quiet {}\n", script.display());
    let late = ask(
        folder,
        &format!("{auth}account required pam_permit.so\n"),
        "x",
    )
    .unwrap_err();
    assert!(late.contains("did not answer"), "{late}");
    let id = fs::read_to_string(&started).expect("the module's program ran");
    let process = format!("/proc/{}/cmdline", id.trim());
    eventually(seconds(10), "it is gone", || {
        fs::read(&process).map_or(true, |line| line.is_empty())
    });
}
