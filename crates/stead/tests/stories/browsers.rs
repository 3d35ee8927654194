//! Browsers that reach a group by a name for which the operator brought a certificate, on every server, also on one that cannot open
//! the key by itself; and Stead's own clients, which go on to be shown the group's.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use testkit::{Group, Machine, eventually, seconds, text};

pub(crate) const NAME: &str = "portal.example.org";
/// The server that holds no seal key.
const WITNESS: usize = 2;

/// A certificate that signed itself, and its key, as files.
pub(crate) struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    /// Between its first line and its last.
    pub(crate) text: String,
}

/// Makes one for these names with a key of that kind, for so many days.
pub(crate) fn pair(group: &Group, file: &str, kind: &[&str], names: &str, days: &str) -> Pair {
    let at = |end: &str| group.folder().join(format!("{file}.{end}"));
    let (certificate, key) = (at("pem"), at("key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-subj",
            "/CN=Example",
            "-days",
            days,
        ])
        .args(["-newkey"])
        .args(kind)
        .args(["-addext", &format!("subjectAltName={names}")])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    let text = std::fs::read_to_string(&certificate).expect("a certificate");
    Pair {
        certificate,
        key,
        text: body(&text).expect("it is in PEM"),
    }
}

fn body(text: &str) -> Option<String> {
    let begins = text.find("-----BEGIN CERTIFICATE-----")?;
    let ends = text.find("-----END CERTIFICATE-----")?;
    text.get(begins..ends).map(str::to_owned)
}

/// The certificate that a server shows to a browser that asks for this name, or for none.
pub(crate) fn shown(group: &Group, index: usize, name: Option<&str>, protocol: &str) -> String {
    let address = group.server(index).client_address().to_string();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &address, "-alpn", protocol]);
    match name {
        Some(name) => client.args(["-servername", name]),
        None => client.arg("-noservername"),
    };
    let asked = client.stdin(Stdio::null()).output();
    let said = asked.expect("openssl is installed").stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    body(&said).unwrap_or_else(|| panic!("no certificate is shown: {said}"))
}

pub(crate) fn set(group: &Group, pair: &Pair) -> Value {
    let (certificate, key) = (
        pair.certificate.to_string_lossy(),
        pair.key.to_string_lossy(),
    );
    let names = ["trust", "set-certificate", "--name", "Portal.Example.ORG"];
    let files = ["--cert", &*certificate, "--key", &*key];
    group.json(0, &[&names[..], &files].concat())
}

/// What stands against a certificate and a key for a name.
fn refused(group: &Group, name: &str, certificate: &Path, key: &Path) -> String {
    let (certificate, key) = (certificate.to_string_lossy(), key.to_string_lossy());
    let names = ["trust", "set-certificate", "--name", name];
    let files = ["--cert", &*certificate, "--key", &*key];
    group.fails(0, 4, &[&names[..], &files].concat())
}

fn show_it(group: &Group, pair: &Pair) {
    for index in group.running() {
        eventually(seconds(20), "browsers to be shown it", || {
            shown(group, index, Some(NAME), "h2") == pair.text
        });
    }
}

#[test]
fn browsers_are_shown_the_operators_certificate() {
    let _machine = Machine::shared();
    let mut group = Group::of(crate::STEAD).on_loopback(3).start_first();
    group.join(1);
    group.join_as_witness(WITNESS);
    group.wait_for_voters();
    let own: Vec<String> = (0..3)
        .map(|index| shown(&group, index, None, "h2"))
        .collect();
    let names = format!("DNS:{NAME}");
    let rsa = pair(&group, "rsa", &["rsa:2048"], &names, "200");
    what_browsers_cannot_be_shown_is_refused(&group, &rsa);
    let told = set(&group, &rsa);
    assert_eq!(text(&told, "name"), NAME);
    show_it(&group, &rsa);
    nobody_else_is_shown_it(&group, &own);

    // A shorter one, of another kind: near its end.
    let curve = ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    let short = pair(&group, "short", &curve, "DNS:*.example.org", "6");
    set(&group, &short);
    show_it(&group, &short);
    it_is_spoken_of(&group);
    // In memory only: it is asked for again.
    group.kill(WITNESS);
    group.serve(WITNESS);
    group.wait_until_answering(WITNESS);
    show_it(&group, &short);

    let remove = ["trust", "set-certificate", "--name", NAME, "--remove"];
    group.json(1, &remove);
    group.fails(1, 4, &remove);
    for (index, own) in own.iter().enumerate() {
        eventually(seconds(10), "the group's own to be shown again", || {
            shown(&group, index, Some(NAME), "h2") == *own
        });
    }
    who_did_it_is_known(&group);
}

fn what_browsers_cannot_be_shown_is_refused(group: &Group, good: &Pair) {
    let other = pair(group, "other", &["ed25519"], "DNS:www.example.com", "9");
    let why = refused(group, NAME, &other.certificate, &other.key);
    assert!(why.contains("but for www.example.com"), "{why}");
    let why = refused(group, NAME, &good.certificate, &other.key);
    assert!(why.contains("the key cannot be used"), "{why}");
    let trust = group.server(0).data().join("trust");
    let (client, key) = (trust.join("client.pem"), trust.join("client.key"));
    let why = refused(group, NAME, &client, &key);
    assert!(why.contains("of a group of Stead"), "{why}");
    let why = refused(group, NAME, &good.key, &good.key);
    assert!(why.contains("no certificate in it"), "{why}");
    // A server that cannot seal says so.
    let (certificate, key) = (
        good.certificate.to_string_lossy(),
        good.key.to_string_lossy(),
    );
    let names = ["trust", "set-certificate", "--name", NAME];
    let files = ["--cert", &*certificate, "--key", &*key];
    let why = group.fails(WITNESS, 4, &[&names[..], &files].concat());
    assert!(why.contains("seal key"), "{why}");
    assert_eq!(
        shown(group, 0, Some(NAME), "h2"),
        shown(group, 0, None, "h2")
    );
}

fn nobody_else_is_shown_it(group: &Group, own: &[String]) {
    for (index, own) in own.iter().enumerate() {
        assert_eq!(&shown(group, index, None, "h2"), own);
        assert_eq!(&shown(group, index, Some("www.example.org"), "h2"), own);
        assert_eq!(&shown(group, index, Some(NAME), "stead-client/1"), own);
    }
    group.add_user(0, "ann");
    let remote = group.run_remote(None, &["status", "--json"]);
    let errors = remote.errors;
    assert!(
        !errors.contains("authority"),
        "it is the pinned one: {errors}"
    );
}

fn it_is_spoken_of(group: &Group) {
    eventually(seconds(20), "the journal to say so", || {
        let kind = ["event", "list", "--kind", "certificate-expiring"];
        let told = group.json(0, &kind);
        let mut told = told.as_array().into_iter().flatten();
        told.any(|event| event["subject"] == NAME && event["fields"]["days"] == "7")
    });
    let attention = group.json(1, &["status"])["attention"].to_string();
    let near = format!("the certificate for {NAME} expires at");
    assert!(attention.contains(&near), "{attention}");
    let shown = group.json(WITNESS, &["trust", "show"]);
    let external = shown["external_certificates"].clone();
    assert_eq!(external[0]["name"], NAME, "{shown:#}");
    assert!(text(&external[0], "issuer").contains("Example"));
}

fn who_did_it_is_known(group: &Group) {
    let subject = format!("certificate:{NAME}");
    let audited = group.json(0, &["audit", "list", "--subject", &subject]);
    let all = audited.as_array().cloned().unwrap_or_default();
    let actions: Vec<String> = all.iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(actions, ["added", "changed", "removed"]);
    assert!(!audited.to_string().contains("\"key\""), "{audited:#}");
}
